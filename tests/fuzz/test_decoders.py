"""Each decoder on mutants of what is sound; and, for long, under a coverage-guided fuzzer."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corfu.tools.history import HistoryFormatError, decode_history

from .decoders import DECODERS, seeds_of

_NUMBERS = (b"\xff" * 8, b"\0" * 8, b"\x1b" + b"\xff" * 8, b"1e999", b"[" * 3000, b"NaN", b"-1")


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_given_mutants_of_sound_bytes_keeps_its_word(name: str) -> None:
    rng = random.Random(name)
    seeds, check = seeds_of(name), DECODERS[name]
    for seed in seeds:
        check(seed)
    for _ in range(1500):
        mutant = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(mutant) + 1)
            match rng.randrange(5):
                case 0 if mutant:
                    mutant[at % len(mutant)] ^= 1 << rng.randrange(8)
                case 1:
                    del mutant[at : at + rng.randrange(20)]
                case 2:
                    mutant[at:at] = rng.choice(_NUMBERS)
                case 3:
                    part = rng.choice(_NUMBERS)
                    mutant[at : at + len(part)] = part
                case _:
                    mutant[at:at] = rng.choice(seeds)[: rng.randrange(64)]
        check(bytes(mutant))


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_given_any_bytes_keeps_its_word(name: str) -> None:
    check = DECODERS[name]

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(max_size=400))
    def any_bytes(data: bytes) -> None:
        check(data)

    any_bytes()


@pytest.mark.parametrize("number", ["Infinity", "1e999", "[" * 5000, "NaN"])
def test_history_line_with_a_wild_number_is_named(number: str) -> None:
    line = '{"op":"tail","invoked":0,"completed":1,"client":"a","offset":%s,"confirmed":true}'
    with pytest.raises(HistoryFormatError, match="line 1"):
        decode_history([line % number])


@pytest.mark.long
@pytest.mark.parametrize("name", DECODERS)
def test_decoder_under_atheris_keeps_its_word(name: str) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: pip install -e '.[all]'")
    command = [sys.executable, "-m", "tests.fuzz.atheris_targets", name, "--"]
    done = subprocess.run(
        [*command, "-max_total_time=5", "-seed=1"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "DONE" in done.stderr or "Done" in done.stderr
