"""Every message between processes: one frozen value each, and the table of their numbers.

Requests are imperatives, replies participles or nouns. Every message begins with the id of the
request it is or answers; a reply's id equals its request's. `data` holds what clients and units
exchange per entry (fixed binary form), `units` what the sequencer tells units, `sequencer` what
clients and tools ask the sequencer, `paxos` what replicas tell each other (all strict CBOR).
"""

from __future__ import annotations

from corfu.messages.data import (
    AlreadyWritten,
    Copy,
    Durable,
    Entries,
    Entry,
    Fill,
    Filled,
    FillList,
    Forward,
    HeldOffset,
    NotWritten,
    Read,
    Reason,
    Refused,
    Write,
    Written,
    WrongEpoch,
)
from corfu.messages.paxos import (
    Accept,
    Accepted,
    Catchup,
    Chosen,
    ChosenValue,
    Expelled,
    Heartbeat,
    HeartbeatAck,
    Nack,
    OpenSlot,
    Prepare,
    PreVote,
    PreVoted,
    Promise,
    TakeOver,
    UnitView,
)
from corfu.messages.sequencer import (
    GetHistory,
    GetHoles,
    GetLayout,
    GetState,
    GetStatus,
    GetTail,
    GetToken,
    GoalIs,
    Grant,
    HistoryIs,
    HolesAre,
    LayoutIs,
    NotLeader,
    RebuildStatus,
    Register,
    Registered,
    Rejected,
    Rejection,
    ReplicaRole,
    ReplicaStatus,
    SetGoal,
    StateIs,
    StatusIs,
    TailIs,
    TailSample,
    Transfer,
    Transferring,
    Trim,
    TrimReached,
    UnitStatus,
)
from corfu.messages.units import (
    Block,
    Inspect,
    Inspected,
    InspectedOffset,
    Install,
    Installed,
    Ping,
    Pong,
    Probe,
    Probed,
    Rebuild,
    RebuildDone,
    RebuildItem,
    Resolution,
    Resolve,
    Resolved,
    Scrub,
    ScrubIs,
    Seal,
    Sealed,
    SilentUnit,
    Trimmed,
    TrimTo,
)

DataMessage = (
    Write
    | Forward
    | Written
    | AlreadyWritten
    | Fill
    | FillList
    | Filled
    | NotWritten
    | Read
    | Copy
    | Entries
    | WrongEpoch
    | Refused
    | Durable
)
UnitMessage = (
    Seal
    | Sealed
    | Install
    | Installed
    | TrimTo
    | Trimmed
    | Probe
    | Probed
    | Inspect
    | Inspected
    | Resolve
    | Resolved
    | Rebuild
    | RebuildDone
    | Scrub
    | ScrubIs
    | Ping
    | Pong
)
SequencerMessage = (
    GetToken
    | Grant
    | GetTail
    | TailIs
    | GetLayout
    | LayoutIs
    | NotLeader
    | Rejected
    | Register
    | Registered
    | Trim
    | TrimReached
    | GetStatus
    | StatusIs
    | GetHoles
    | HolesAre
    | GetHistory
    | HistoryIs
    | SetGoal
    | GoalIs
    | Transfer
    | Transferring
    | GetState
    | StateIs
)
PaxosMessage = (
    PreVote
    | PreVoted
    | Prepare
    | Promise
    | Accept
    | Accepted
    | Nack
    | Heartbeat
    | HeartbeatAck
    | Catchup
    | Chosen
    | TakeOver
    | Expelled
)
Message = DataMessage | UnitMessage | SequencerMessage | PaxosMessage

KINDS: dict[int, type[Message]] = {
    # Numbers are for ever: a message that goes leaves its number unused.
    1: Write,
    2: Forward,
    3: Written,
    4: AlreadyWritten,
    5: Fill,
    6: FillList,
    7: Filled,
    8: NotWritten,
    9: Read,
    10: Copy,
    11: Entries,
    12: WrongEpoch,
    13: Refused,
    14: Durable,
    32: Seal,
    33: Sealed,
    34: Install,
    35: Installed,
    36: TrimTo,
    37: Trimmed,
    38: Probe,
    39: Probed,
    40: Inspect,
    41: Inspected,
    42: Resolve,
    43: Resolved,
    44: Ping,
    45: Pong,
    46: Rebuild,
    47: RebuildDone,
    48: Scrub,
    49: ScrubIs,
    64: GetToken,
    65: Grant,
    66: GetTail,
    67: TailIs,
    68: GetLayout,
    69: LayoutIs,
    70: NotLeader,
    71: Rejected,
    72: Register,
    73: Registered,
    74: Trim,
    75: TrimReached,
    76: GetStatus,
    77: StatusIs,
    78: GetHoles,
    79: HolesAre,
    80: SetGoal,
    81: GoalIs,
    82: Transfer,
    83: Transferring,
    84: GetHistory,
    85: HistoryIs,
    86: GetState,
    87: StateIs,
    96: PreVote,
    97: PreVoted,
    98: Prepare,
    99: Promise,
    100: Accept,
    101: Accepted,
    102: Nack,
    103: Heartbeat,
    104: HeartbeatAck,
    105: Catchup,
    106: Chosen,
    107: TakeOver,
    108: Expelled,
}
KIND_OF: dict[type[Message], int] = {message: number for number, message in KINDS.items()}

REPLIES: frozenset[type[Message]] = frozenset(
    {
        *(Written, AlreadyWritten, Filled, NotWritten, Entries, WrongEpoch, Refused),
        *(Sealed, Installed, Trimmed, Probed, Inspected, Resolved, RebuildDone, ScrubIs, Pong),
        *(Grant, TailIs, LayoutIs, NotLeader, Rejected, Registered, TrimReached, StatusIs),
        *(HolesAre, HistoryIs),
        GoalIs,
        *(Transferring, StateIs),
    }
)
"""Messages that answer a request: they complete the ask with the same request id.

Paxos messages are not asked but sent; their roles match answers by ballot and slot.
"""

__all__ = [
    "KINDS",
    "KIND_OF",
    "REPLIES",
    "Accept",
    "Accepted",
    "AlreadyWritten",
    "Block",
    "Catchup",
    "Chosen",
    "ChosenValue",
    "Copy",
    "DataMessage",
    "Durable",
    "Entries",
    "Entry",
    "Expelled",
    "Fill",
    "FillList",
    "Filled",
    "Forward",
    "GetHistory",
    "GetHoles",
    "GetLayout",
    "GetState",
    "GetStatus",
    "GetTail",
    "GetToken",
    "GoalIs",
    "Grant",
    "Heartbeat",
    "HeartbeatAck",
    "HeldOffset",
    "HistoryIs",
    "HolesAre",
    "Inspect",
    "Inspected",
    "InspectedOffset",
    "Install",
    "Installed",
    "LayoutIs",
    "Message",
    "Nack",
    "NotLeader",
    "NotWritten",
    "OpenSlot",
    "PaxosMessage",
    "Ping",
    "Pong",
    "PreVote",
    "PreVoted",
    "Prepare",
    "Probe",
    "Probed",
    "Promise",
    "Read",
    "Reason",
    "Rebuild",
    "RebuildDone",
    "RebuildItem",
    "RebuildStatus",
    "Refused",
    "Register",
    "Registered",
    "Rejected",
    "Rejection",
    "ReplicaRole",
    "ReplicaStatus",
    "Resolution",
    "Resolve",
    "Resolved",
    "Scrub",
    "ScrubIs",
    "Seal",
    "Sealed",
    "SequencerMessage",
    "SetGoal",
    "SilentUnit",
    "StateIs",
    "StatusIs",
    "TailIs",
    "TailSample",
    "TakeOver",
    "Transfer",
    "Transferring",
    "Trim",
    "TrimReached",
    "TrimTo",
    "Trimmed",
    "UnitMessage",
    "UnitStatus",
    "UnitView",
    "Write",
    "Written",
    "WrongEpoch",
]
