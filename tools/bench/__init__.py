"""`corfu bench`: how fast a cluster is, and what that costs."""
