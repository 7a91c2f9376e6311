"""One storage unit: a write-once store and its place in a chain."""
