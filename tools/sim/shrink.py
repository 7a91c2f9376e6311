"""Makes a failing seed small: fewer faults, fewer machines, plainer knobs, the same failure.

Delta debugging (Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002,
ddmin) over the numbers of the faults, and one knob after the other, until nothing can be left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from corfu.client.settings import ClientSettings
from corfu.sequencer.settings import SequencerSettings
from corfu.storage_units.settings import UnitSettings
from corfu.tools.sim.disk_worker import DiskLatency
from corfu.tools.sim.options import CALM, Options
from corfu.tools.sim.run import Report, simulate

Run = Callable[[int, Options], Report]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest options found that still fail in the same way, and the report of their run."""

    options: Options
    report: Report
    runs: int


def shrink(
    seed: int,
    options: Options,
    *,
    runs_max: int = 300,
    run: Run = simulate,
    progress: Callable[[int, int], None] = lambda runs, faults: None,
) -> Shrunk | None:
    """Return the smallest run like a failing one; None if it does not fail.

    Args:
        seed: The seed.
        options: Its options.
        runs_max: After so many runs the smallest so far is returned.
        run: Runs a seed with options.
        progress: Told after each run how many there were, and how many faults are left.
    """
    shrinker = _Shrinker(seed, options, runs_max, run, progress)
    return shrinker.shrunk()


class _Shrinker:
    def __init__(
        self,
        seed: int,
        options: Options,
        runs_max: int,
        run: Run,
        progress: Callable[[int, int], None],
    ) -> None:
        self._seed = seed
        self._best = options
        self._report: Report | None = None
        self._runs = 0
        self._runs_max = runs_max
        self._run = run
        self._progress = progress

    def shrunk(self) -> Shrunk | None:
        if not self._try(self._best):
            return None
        while True:
            before = self._best
            self._leave_out_faults()
            for simpler in _simpler(self._best):
                if self._is_over():
                    break
                changed = simpler(self._best)
                if changed != self._best:
                    self._try(changed)
            if self._best == before or self._is_over():
                break
        assert self._report is not None
        return Shrunk(self._best, self._report, self._runs)

    def _leave_out_faults(self) -> None:
        """Leave out as many faults as can be: halves, quarters, and so on down to single ones."""
        faults = self._faults()
        parts = 2
        while faults and not self._is_over():
            size = max(1, len(faults) // parts)
            for first in range(0, len(faults), size):
                kept = faults[:first] + faults[first + size :]
                if self._try(replace(self._best, only_faults=frozenset(kept))):
                    faults = self._faults()
                    parts = max(2, parts - 1)
                    break
                if self._is_over():
                    return
            else:
                if size == 1:
                    return
                parts = min(len(faults), parts * 2)

    def _faults(self) -> list[int]:
        assert self._report is not None
        return [fault.number for fault in self._report.injected]

    def _try(self, options: Options) -> bool:
        """Run; keep the options if they fail as the first ones did."""
        self._runs += 1
        report = self._run(self._seed, options)
        same = report.problem is not None and (
            self._report is None or _kind(report) == _kind(self._report)
        )
        if same:
            self._best, self._report = options, report
        self._progress(self._runs, 0 if self._report is None else len(self._report.injected))
        return same

    def _is_over(self) -> bool:
        return self._runs >= self._runs_max


def _kind(report: Report) -> str:
    """Return what a failure says, without the numbers and names that differ between runs."""
    assert report.problem is not None
    words = re.sub(r"[0-9.]+", "#", report.problem).split()
    return " ".join(words[:6])


def _simpler(options: Options) -> Iterator[Callable[[Options], Options]]:
    """Yield ways to make options simpler, those that save most first."""
    plain: dict[str, tuple[object, ...]] = {
        "goals": ((),),
        "minority_stops": (False,),
        "visits": (False,),
        "cancel_share": (0.0,),
        "network": (CALM,),
        "clients": (1,),
        "appenders": (1,),
        "chains": (1,),
        "spares": (0, 1),
        "replicas": (1, 3),
        "units_per_chain": (1, 2),
        "trim_clients": (0.0,),
        "large_share": (0.0,),
        "latency": (DiskLatency(stall_probability=0.0),),
        "client": (ClientSettings(),),
        "unit": (UnitSettings(),),
        "sequencer": (SequencerSettings(),),
        "parallel_persist": (False,),
        "seconds": (options.seconds / 2, options.seconds * 0.8),
    }
    for name, values in plain.items():
        for value in values:
            yield lambda best, name=name, value=value: _set(best, name, value)  # type: ignore[misc]


def _set(options: Options, name: str, value: object) -> Options:
    old = getattr(options, name)
    if isinstance(old, int | float) and isinstance(value, int | float) and value >= old:
        return options
    return replace(options, **{name: value})  # type: ignore[arg-type]
