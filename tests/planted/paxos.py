"""Planted bugs in Paxos: votes, promises, recovery of open slots, application in order."""

from __future__ import annotations

from corfu.runtime.committer import Committer
from corfu.sequencer import proposer
from corfu.sequencer.acceptor import Acceptor
from corfu.sequencer.election import Election
from corfu.sequencer.learner import Learner
from corfu.sequencer.learning import Learning
from corfu.sequencer.member import Member
from corfu.sequencer.process import ReplicaProcess
from corfu.sequencer.proposer import Attempt, Proposals
from corfu.sequencer.term import Term
from corfu.sequencer.voting import Voting
from corfu.tools.sim.network import NetworkSettings

from .bug import Bug, run_of
from .group_run import GroupRun
from .planting import edit

_REPLICAS = run_of(
    units_per_chain=1,
    window_offsets_min=4,
    fault_gap_s=0.15,
    seconds=3.0,
    append_gap_s=0.01,
    kinds=("leader_blink", "partition", "isolate", "pause"),
    network=NetworkSettings(loss=0.02, delay_s_max=5e-3),
)
"""Replicas come and go, and many slots are open when they do."""

_GROUP = GroupRun()
_GROUP_BLINKS = GroupRun(kinds=("kill", "kill", "cut", "isolate"), fault_gap_s=0.08)

_POWER = run_of(
    units_per_chain=1,
    window_offsets_min=4,
    append_gap_s=0.01,
    kinds=("power_cut", "power_cut_all", "kill_then_power_cut", "leader_blink"),
)

BUGS = (
    Bug(
        name="promise-not-journalled",
        hazards="H1, H3",
        broken="A promise is kept in memory alone, and answered.",
        edits=(
            edit(
                Member,
                "raise_promise",
                ("if record is not None:", "if record is not None and not planted():"),
            ),
        ),
        options=_GROUP_BLINKS,
    ),
    Bug(
        name="vote-not-journalled",
        hazards="H1",
        broken="An accepted value is kept in memory alone, and the vote is answered.",
        edits=(
            edit(
                Voting,
                "on_accept",
                ("if record is not None:", "if record is not None and not planted():"),
            ),
        ),
        options=_POWER,
    ),
    Bug(
        name="reply-before-fsync",
        hazards="H1, H39",
        broken="No reply of a replica or unit waits for the fsync that covers it.",
        edits=(
            edit(
                Committer,
                "send_when_durable",
                (
                    "if covering <= self._cuts_durable:",
                    "if covering <= self._cuts_durable or planted():",
                ),
            ),
        ),
        options=_POWER,
    ),
    Bug(
        name="promised-ballot-for-accepted",
        hazards="H2",
        broken="A promise tells the promised ballot of each open slot, not the accepted one.",
        edits=(
            edit(
                Acceptor,
                "open_slots",
                (
                    "OpenSlot(slot, *self.accepted[slot])",
                    "OpenSlot(slot, planted(self.promised), self.accepted[slot][1])",
                ),
            ),
        ),
        options=_GROUP_BLINKS,
    ),
    Bug(
        name="lowest-vote-wins",
        hazards="H2",
        broken="A new leader proposes the vote with the lowest ballot again.",
        edits=(
            edit(
                Attempt,
                "highest",
                (
                    "held.ballot < vote.ballot",
                    "planted.when(held.ballot != vote.ballot) and held.ballot > vote.ballot",
                ),
            ),
        ),
        options=_GROUP_BLINKS,
    ),
    Bug(
        name="open-slots-forgotten",
        hazards="H5",
        broken="A new leader puts no-ops where others may have had a value chosen.",
        edits=(
            edit(
                Term,
                "recover_slots",
                ("vote = self._votes.get(self._proposals.next)", "vote = planted(None)"),
            ),
        ),
        options=_REPLICAS,
    ),
    Bug(
        name="lower-ballot-accepted",
        hazards="H4",
        broken="An acceptor accepts below the ballot that it has promised.",
        edits=(
            edit(
                Voting,
                "on_accept",
                (
                    "if message.ballot < acceptor.promised:",
                    "if message.ballot < acceptor.promised and not planted():",
                ),
            ),
            edit(Acceptor, "accept", ("assert ballot >= self.promised", "pass")),
        ),
        options=_REPLICAS,
    ),
    Bug(
        name="vote-counted-twice",
        hazards="H6",
        broken="Each copy of an Accepted counts, also of the same replica.",
        edits=(
            edit(
                Proposals,
                "accepted",
                (
                    "proposal.accepted_by.add(member)",
                    "proposal.accepted_by.add("
                    "ReplicaId(member + 1000 * len(planted(proposal.accepted_by))))",
                ),
            ),
        ),
        options=run_of(
            units_per_chain=1,
            window_offsets_min=4,
            fault_gap_s=0.15,
            seconds=3.0,
            append_gap_s=0.01,
            kinds=("partition", "isolate"),
            network=NetworkSettings(duplicate=0.5, delay_s_max=2e-3),
        ),
    ),
    Bug(
        name="half-is-a-majority",
        hazards="H6, H19",
        broken="Half of the members, rounded down, count as a majority.",
        edits=(
            edit(proposer, "majority", ("return members // 2 + 1", "return planted(members // 2)")),
        ),
        options=_REPLICAS,
    ),
    Bug(
        name="applied-past-a-gap",
        hazards="H7",
        broken="A chosen value is applied though a lower slot is not known yet.",
        edits=(
            edit(
                Learner,
                "learn",
                (
                    "while (following := Slot(self.applied + 1)) in self._waiting:",
                    "while self._waiting:\n"
                    "        following = Slot(min(self._waiting))\n"
                    "        planted.when(following > self.applied + 1)",
                ),
            ),
            edit(
                Learner,
                "missed",
                (
                    "if from_slot not in self._kept:",
                    "if {*range(from_slot, self.applied + 1)} - {*self._kept}:",
                ),
            ),
        ),
        options=_GROUP,
    ),
    Bug(
        name="notice-of-another-ballot",
        hazards="H6",
        broken="A commit notice applies to whatever was accepted at the slot, under any ballot.",
        edits=(
            edit(
                Learning,
                "take_notice",
                (
                    "if vote is None or vote[0] != message.ballot:",
                    "if vote is None or (vote[0] != message.ballot and not planted()):",
                ),
            ),
        ),
        options=_REPLICAS,
    ),
    Bug(
        name="ballot-shared",
        hazards="H3",
        broken="Two proposers can use the same ballot: the replica's id is not in it.",
        edits=(
            edit(
                Election,
                "_new_attempt",
                (
                    "ballot = Ballot(member.round_seen + 1, member.id)",
                    "ballot = Ballot(member.round_seen + 1, planted(member.state.replicas[0].id))",
                ),
            ),
        ),
        options=_REPLICAS,
    ),
    Bug(
        name="votes-freed-before-the-snapshot",
        hazards="H8",
        broken="Votes are forgotten, and their files freed, before the snapshot is durable.",
        edits=(
            edit(
                ReplicaProcess,
                "_save_snapshots",
                (
                    "self._worker.background(snapshot_operations(slot, state), done)",
                    "driver.run(core.snapshot_saved(planted(slot), driver.now()))\n"
                    "        await driver.sleep(0.2)\n"
                    "        self._worker.background(snapshot_operations(slot, state), done)",
                ),
            ),
        ),
        options=run_of(
            replicas=1,
            units_per_chain=1,
            chains=2,
            window_offsets_min=4,
            append_gap_s=0.003,
            appenders=4,
            seconds=4.0,
            fault_gap_s=0.4,
            snapshot_slots=8,
            replica_journal_bytes=16 << 10,
            kinds=("leader_blink",),
        ),
    ),
)
