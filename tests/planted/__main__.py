"""`python -m tests.planted`: see `cli`."""

from .cli import main

main(prog_name="python -m tests.planted")
