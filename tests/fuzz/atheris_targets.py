"""Coverage-guided fuzzing of one decoder: `python -m tests.fuzz.atheris_targets NAME -- OPTIONS`.

Needs the extra `fuzz` (atheris). What stands behind `--` goes to libFuzzer, as it is: a folder for
the corpus, `-max_total_time=60`, `-runs=100000`, a file to repeat a crash.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click


@click.command(
    epilog="""\
\b
Examples:
  python -m tests.fuzz.atheris_targets --list
  python -m tests.fuzz.atheris_targets units -- -max_total_time=60
  python -m tests.fuzz.atheris_targets layout -- crash-0123...      repeat a crash
"""
)
@click.argument("name", required=False)
@click.argument("options", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="Print the names of all decoders.")
def main(name: str | None, options: tuple[str, ...], listed: bool) -> None:
    """Fuzz the decoder NAME for as long as libFuzzer is told to (default: for ever)."""
    try:
        import atheris
    except ImportError:
        raise click.ClickException("atheris is missing: pip install -e '.[all]'") from None
    with atheris.instrument_imports(include=["corfu"]):
        from tests.fuzz.decoders import DECODERS, seeds_of
    if listed or name not in DECODERS:
        click.echo("\n".join(DECODERS))
        sys.exit(0 if listed else 2)
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds_of(name)):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        repeats = any(not option.startswith("-") for option in options)
        corpus = [] if repeats else [folder]
        atheris.Setup([sys.argv[0], *options, *corpus], DECODERS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
