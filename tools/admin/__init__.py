"""Administration: the commands that look at a running cluster and change it."""
