"""What the caller of the history checker knows about a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LostChain:
    """Every offset in `[start, end)` that leaves `chain` when divided by `chains`.

    `since`: when its last disk was gone, on the history's scale.
    """

    start: int
    end: int
    chains: int
    chain: int
    since: float

    def holds(self, offset: int) -> bool:
        """Tell whether an offset is of the chain."""
        return self.start <= offset < self.end and offset % self.chains == self.chain


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What the caller knows about a run.

    Attributes:
        allow_lost: Offsets may have been lost (so many disks were damaged on purpose).
        allow_lost_unshown: Offsets may have been lost of which no value was ever acknowledged or
            shown (a power cut tore the only copies of what was being written).
        lost_chains: What was given up with chains that were abandoned, in this run, may be lost.
        appends_complete: The history holds every append to the log. Otherwise a record that it
            does not append may be there, also several times.
        own_prefix: Records whose keys begin so were appended by the history, if by anybody; ""
            says nothing. Needed only where `appends_complete` is false.
        trims_complete: The history holds every trim of the log.
        holes_closed: The final scan closed every hole below the tail.
        each_max: At most so many violations are returned for each rule.
    """

    allow_lost: bool = False
    allow_lost_unshown: bool = False
    lost_chains: tuple[LostChain, ...] = ()
    appends_complete: bool = True
    own_prefix: str = ""
    trims_complete: bool = True
    holes_closed: bool = True
    each_max: int = 20


DEFAULT_OPTIONS = CheckOptions()
