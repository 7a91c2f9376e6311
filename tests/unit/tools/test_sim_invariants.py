from __future__ import annotations

import pytest

from corfu.tools.sim.host import RuleBroken
from corfu.tools.sim.invariants import tells_of_broken_rule
from corfu.tools.sim.options import Options
from corfu.tools.sim.world import World

CONFLICT = "ALARM: CONFLICT at unit 2: 7 holds junk, forwarded was 00ff"
LOST = "ALARM: unit 1 was sealed for epoch 3 and now says 1: it has lost state"


@pytest.mark.parametrize(
    ("text", "disks_stay", "broken"),
    [
        (CONFLICT, True, True),
        (CONFLICT, False, True),
        (LOST, True, True),
        (LOST, False, False),
        ("ALARM: unit 2 refuses to be sealed: LOST_STATE", True, False),
    ],
)
def test_tells_of_broken_rule_when_a_disk_was_wiped_allows_lost_state(
    text: str, *, disks_stay: bool, broken: bool
) -> None:
    assert tells_of_broken_rule(text, disks_stay=disks_stay) is broken


def test_world_when_a_process_says_that_a_rule_was_broken_fails() -> None:
    world = World(1, Options())
    world.check()
    world.units[0].say(CONFLICT)
    with pytest.raises(RuleBroken, match="alarm: unit1: ALARM: CONFLICT"):
        world.check()
    world.loop.close()


def test_world_after_a_wipe_bears_a_unit_that_has_lost_state() -> None:
    world = World(1, Options())
    world.count("wipe")
    world.units[0].say(LOST)
    world.check()
    world.loop.close()
