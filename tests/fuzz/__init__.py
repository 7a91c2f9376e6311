"""Mutated datagrams through the real receive path, and the targets of a coverage-guided fuzzer."""
