"""One sequencer replica: Multi-Paxos, the replicated configuration, tokens."""
