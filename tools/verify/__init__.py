"""`corfu check` and `corfu verify`: histories from files, and from a live cluster, judged."""
