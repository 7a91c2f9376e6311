"""The client of a cluster: async procedures over the ports `Network` and `Clock`, no I/O.

`cluster` knows the layout and the leader, `packing` makes entries of records, `tokens` gets them
offsets, `settle` and `append` bring them into the log, `read` and `follow` get them out, `log` is
what users hold, `connecting` the one module that opens a socket.
"""
