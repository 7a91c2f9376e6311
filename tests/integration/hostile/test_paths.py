"""A path that delays, reorders, doubles, damages and loses datagrams, between all processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.bad_cases.clients import Clients, judge
from tests.integration.bad_cases.network import OwnNetwork
from tests.integration.hostile.chaos import chaos
from tests.integration.hostile.figures import Figures
from tests.integration.hostile.proxy import Chaos
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(400)]

APPENDS = 500
APPENDS_S_MAX = 240.0

PATHS = {
    "jitter and reordering": Chaos(seed=1, delay_s=(0.0, 0.02)),
    "seconds late and twice": Chaos(
        seed=2, delay_s=(0.0, 0.003), late=0.05, late_s=3.0, doubled=0.1
    ),
    "damaged and cut short": Chaos(seed=3, delay_s=(0.0, 0.003), damaged=0.05, cut_short=0.03),
    "all at once": Chaos(
        seed=4,
        delay_s=(0.0, 0.01),
        late=0.02,
        late_s=2.0,
        lost=0.03,
        doubled=0.03,
        damaged=0.02,
        cut_short=0.01,
    ),
}


@pytest.mark.parametrize("name", PATHS)
async def test_hostile_path_between_all_processes_does_no_harm(
    tmp_path: Path, network: OwnNetwork, figures: Figures, name: str
) -> None:
    options = PATHS[name]
    with chaos(network, options) as path:
        async with local_cluster(tmp_path / "log") as cluster:
            async with Clients(cluster) as clients:
                await clients.more(APPENDS, APPENDS_S_MAX)
                for _ in range(5):
                    await clients.append(DEADLINE_S, length=100_000)
            await judge(cluster, clients.history)
    did = path.did
    assert did["overtaken"] > 100
    wanted = {
        "lost": options.lost,
        "doubled": options.doubled,
        "damaged": options.damaged,
        "cut short": options.cut_short,
        "late": options.late,
    }
    assert {what for what, share in wanted.items() if share} <= did.keys()
    figures.add(clients.history, **{f"datagrams_{what}": many for what, many in did.items()})
