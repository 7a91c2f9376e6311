"""Whole clusters under faults whose clients compress: the same promises, by the same rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from corfu import compression
from corfu.compression import CodecName, Compression
from corfu.tools.sim.options import draw
from corfu.tools.sim.run import simulate


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_simulate_seeds_with_compression_break_no_rule(
    seed: int, codec: CodecName, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: Counter[bool] = Counter()
    encode = compression._Packer.encode

    def counting(packer: compression._Packer, records: Sequence[bytes], timestamp_us: int) -> bytes:
        data = encode(packer, records, timestamp_us)
        packed[data[1] != 0] += 1
        return data

    monkeypatch.setattr(compression._Packer, "encode", counting)
    options = draw(seed)
    client = replace(options.client, compression=Compression(codec, bytes_min=0))
    assert simulate(seed, replace(options, client=client)).problem is None
    assert packed[True] > 10
