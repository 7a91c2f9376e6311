"""The journal: append-only files of checksummed records, planned without I/O."""
