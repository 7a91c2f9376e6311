"""Every schedule of a small cluster: breadth-first search over the real cores.

`machine` runs one node's core, `explorer` searches the product of all nodes and the network, and
each model (`paxos`, `chain`) says which nodes there are and what must hold in every state.
"""
