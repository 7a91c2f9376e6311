"""What the tests of hostile networks and disks have counted, for the end of a run of pytest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corfu.tools.operations import Append, Operation, Outcome


class Figures:
    """The figures of one test."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        """Make them; `record` takes a name and a value, as `record_property` of pytest."""
        self._record = record

    def add(self, history: Sequence[Operation], **counted: int) -> None:
        """Note how much the clients did, and what was done to them meanwhile."""
        appends = [each for each in history if isinstance(each, Append)]
        acknowledged = sum(len(each.places) for each in appends if each.outcome is Outcome.APPENDED)
        self.note(operations=len(history), acknowledged=acknowledged, **counted)

    def note(self, **counted: int) -> None:
        """Note figures by name."""
        text = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in counted.items())
        self._record("figures", text)
