"""How soon a client finds the next leader, when the one that it knows is gone."""

import pytest

from corfu.client.log import LogClient
from corfu.messages import GetToken, Message, NotLeader
from corfu.types import Address, Epoch
from tests.unit.corfu.client_world import DROP, REPLICAS, Drop, FakeCluster, run

OLD, NEW, OTHER = REPLICAS


def search_s(elected_s: float, leader: Address, *, hint: Address | None) -> float:
    """Return how long an append takes whose leader, OLD, falls silent as it begins.

    Args:
        elected_s: When somebody leads again.
        leader: Who leads then.
        hint: Whom the others take for the leader until then.
    """

    async def test(cluster: FakeCluster, log: LogClient) -> float:
        await log.append(b"found OLD")
        began = cluster.now()

        async def gone(to: Address, message: Message) -> Message | Drop | None:
            if not isinstance(message, GetToken):
                return None
            elected = cluster.now() - began >= elected_s
            if elected and to == leader:
                return None
            if to == OLD:
                return DROP
            return NotLeader(message.request, Epoch(1), leader if elected else hint)

        cluster.script = gone
        await log.append(b"x", timeout=20.0)
        return cluster.now() - began

    return run(test)


@pytest.mark.parametrize("elected_s", [0.2, 0.35, 0.45, 0.55, 0.65])
@pytest.mark.parametrize("leader", [NEW, OTHER])
@pytest.mark.parametrize("hint", [None, OLD])
def test_new_leader_is_found_soon_though_others_still_name_the_silent_one(
    elected_s: float, leader: Address, hint: Address | None
) -> None:
    # 0.4 s go by before the old one counts as silent; from then on waits only double.
    assert search_s(elected_s, leader, hint=hint) <= 1.5 * max(elected_s, 0.4)


def test_leader_that_was_silent_for_a_while_is_asked_again() -> None:
    assert search_s(0.5, OLD, hint=OLD) <= 1.0
    assert search_s(3.0, OLD, hint=OLD) <= 4.5
