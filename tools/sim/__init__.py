"""A whole cluster in one thread and virtual time, from one seed."""
