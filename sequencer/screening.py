"""What a member's message must not contain, whatever its checksum says.

Pure. Dropping a message is always safe: no vote is given, no promise counted, nothing learnt.
"""

from __future__ import annotations

from corfu.errors import WireError
from corfu.messages import Accept, Chosen, PaxosMessage, Promise

from .commands import decode

ROUNDS_AHEAD_MAX = 1 << 56
"""How far above all rounds known here another member's ballot may lie.

A change of members skips 2^24 rounds for each slot (`election.ROUNDS_PER_SLOT`), so this leaves
room for one who is 2^32 slots ahead. Rounds are u64: without a bound one bad number would use up
all there are, and nobody could lead ever again.
"""


SLOTS_AHEAD_MAX = 1 << 16
"""How far above what its voter has applied a vote may stand; a leader has far fewer slots open.

The next leader fills every gap below the highest vote, so one bad slot would keep it busy for ever.
A replica that is further behind fetches what is chosen before it votes.
"""


def objection(message: PaxosMessage, round_known: int, applied: int) -> str | None:
    """Return why a message is to be dropped; None if it is not.

    Args:
        message: What a member sent.
        round_known: The highest round that can have been used, as far as is known here.
        applied: Up to which slot all is applied here.
    """
    for name in ("ballot", "promised"):
        ballot = getattr(message, name, None)
        if ballot is not None and ballot.round > round_known + ROUNDS_AHEAD_MAX:
            return f"a ballot of round {ballot.round}, where {round_known} is the highest known"
    if isinstance(message, Accept) and message.slot > applied + SLOTS_AHEAD_MAX:
        return f"a vote for slot {message.slot}, where {applied} are applied"
    if isinstance(message, Promise):
        above = max(message.chosen_until, message.snapshot) + SLOTS_AHEAD_MAX
        if any(vote.slot > above for vote in message.accepted):
            return f"votes above slot {above}"
    # A vote for what is no command must not be given or passed on: once chosen it stands in the
    # log, and stops every replica that comes to apply it, for ever.
    try:
        for value in _values(message):
            decode(value)
    except WireError as error:
        return f"an unknown command: {error}"
    return None


def _values(message: PaxosMessage) -> list[bytes]:
    match message:
        case Accept():
            return [message.value]
        case Promise():
            return [vote.value for vote in message.accepted]
        case Chosen():
            return [chosen.value for chosen in message.values]
        case _:
            return []
