"""The commands that look into a cluster, and those that change what it consists of."""
