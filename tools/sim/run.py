"""One seed from start to verdict, and what a report says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from corfu.client.log import LogClient
from corfu.goals import GoalStatus
from corfu.sequencer.process import ReplicaProcess
from corfu.sequencer.state import State as ReplicaState
from corfu.storage_units.process import UnitProcess
from corfu.tools.check import CheckOptions, check
from corfu.tools.final_read import FinalLogError, compare_units, read_whole
from corfu.tools.history import FinalLog, Operation, Trim
from corfu.tools.sim.faults import Nemesis
from corfu.tools.sim.loop import SimulationError
from corfu.tools.sim.operator import Operator
from corfu.tools.sim.options import Options, draw
from corfu.tools.sim.rot import Rotten
from corfu.tools.sim.world import RuleBroken, World
from corfu.tools.workload import Recorder, Workload
from corfu.types import Offset

EVENTS_MAX = 5_000_000
"""A run that takes more callbacks than this goes round in circles."""


@dataclass(frozen=True, slots=True)
class Report:
    """How the run of one seed ended; `problem` is None if every rule held."""

    seed: int
    problem: str | None
    virtual_s: float
    events: int
    operations: int
    appended: int
    trace_hash: int
    faults: dict[str, int] = field(default_factory=dict)
    event_list: tuple[str, ...] = ()


def simulate(seed: int, options: Options | None = None) -> Report:
    """Run one seed; the same seed and options give the same report in any process."""
    options = draw(seed) if options is None else options
    world = World(seed, options)
    world.loop.events_max = EVENTS_MAX
    history: list[Operation] = []

    def keep(operation: Operation) -> None:
        history.append(operation)
        if isinstance(operation, Trim) and operation.reached is not None:
            world.trimmed(Offset(operation.reached))

    recorder = Recorder(world.loop.time, keep)
    problem: str | None = None
    try:
        world.loop.run(_run(world, options, recorder, history))
    except (RuleBroken, FinalLogError, SimulationError) as error:
        problem = f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - the boundary: whatever escapes is the finding
        problem = f"{type(error).__name__}: {error}"
        world.note("escaped", repr(error))
    report = Report(
        seed=seed,
        problem=problem,
        virtual_s=world.loop.time(),
        events=world.loop.events,
        operations=len(history),
        appended=sum(
            sum(place is not None for place in getattr(operation, "places", ()))
            for operation in history
        ),
        trace_hash=world.loop.trace_hash(),
        faults=world.faults,
        event_list=tuple(world.events),
    )
    world.loop.close()
    return report


async def _run(
    world: World, options: Options, recorder: Recorder, history: list[Operation]
) -> None:
    loop = asyncio.get_running_loop()
    world.start()
    await asyncio.sleep(world.rng.uniform(0, 2))
    workloads: list[tuple[Workload, asyncio.Task[None]]] = []
    for number in range(1, options.clients + 1):
        ordered = world.rng.random() < options.ordered_share
        log, _driver, group = world.client(ordered=ordered)
        workload = Workload(
            f"c{number}", _opening(log), recorder, options.workload, world.seed, ordered=ordered
        )
        workloads.append((workload, group.run(_start, workload.run(), f"c{number}")))
    nemesis = Nemesis(world)
    nemesis.begin()
    operator = Operator(world) if options.goals else None
    if operator is not None:
        operator.begin()
    ends = loop.time() + options.seconds
    while loop.time() < ends:
        await asyncio.sleep(0.25)
        world.check()
    await nemesis.heal()
    try:
        async with asyncio.timeout(options.settle_s):
            finishing = None if operator is None else loop.create_task(operator.finish())
            if finishing is not None:
                # Epochs of goals under load, too; but not all of them, or a run takes too long.
                await asyncio.wait({finishing}, timeout=options.goal_load_s)
            for workload, _task in workloads:
                workload.end()
            await asyncio.gather(*(task for _, task in workloads))
            if finishing is not None:
                await finishing
            await _redundancy(world)
            await _healed(nemesis.rotten)
            final = await _final_log(world)
    except TimeoutError:
        # What a process died of says more than who waits for it in vain.
        world.check()
        lacking = _lacking(world) or "all redundant"
        pending = ", ".join([*world.loop.pending(), lacking, *nemesis.rotten.left()])
        raise RuleBroken(f"liveness: not settled in {options.settle_s} s: {pending}") from None
    _compare_replicas(world)
    gone = () if operator is None else operator.lost_chains()
    known = CheckOptions(allow_lost_unshown=True, lost_chains=gone)
    violations = check(history, final, options=known)
    if violations:
        raise RuleBroken("; ".join(str(violation) for violation in violations[:5]))


def _opening(log: LogClient) -> Callable[[], Awaitable[LogClient]]:
    return lambda: log.open(timeout=5)


def _start(work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work, name=name)


def _newest(world: World) -> ReplicaState:
    """Return the applied state with the newest layout."""
    states = world.states()
    if not states:
        world.check()
        raise RuleBroken("liveness: no replica runs")
    return max(states, key=lambda state: state.active.epoch)


async def _redundancy(world: World) -> None:
    """Wait until every chain of every segment has its full width again."""
    while (lacking := _lacking(world)) is not None:
        await asyncio.sleep(0.25)
        world.check()
        world.loop.note("lacking", lacking)


async def _healed(rotten: Rotten) -> None:
    """Scrub, until no unit holds anything damaged."""
    await rotten.scrub()
    while rotten.left():
        await asyncio.sleep(0.5)
        await rotten.scrub()


def _lacking(world: World) -> str | None:
    state = _newest(world)
    width, layout = world.options.units_per_chain, state.active
    if state.intent is not None:
        return "an intent is pending"
    if any(record.status is GoalStatus.ACTIVE for record in state.goals):
        return "a goal is not reached"
    if drained := [unit.id for unit in layout.units if unit.id in state.drained]:
        return f"units {drained} are drained"
    if len(layout.open_segment.chains) < state.wanted_chains:
        return f"{len(layout.open_segment.chains)} open chains"
    if silent := _not_voting(world, state):
        return f"replicas {silent} do not vote"
    for host in world.units:
        if isinstance(host.process, UnitProcess) and not host.process.serves:
            return f"{host.name} waits to be dropped"
    for segment in layout.segments:
        for chain in segment.chains:
            # What was abandoned is nobody's any more: the checker is told of it.
            if len(chain) < width and (chain or not world.options.goals):
                return f"chain {chain} of the segment at {segment.start}"
    return None


def _not_voting(world: World, state: ReplicaState) -> list[int]:
    """Return the members that are not there, do not vote, or have not heard of the epoch."""
    there = {
        (host.process.core.identity.replica, host.process.core.identity.incarnation)
        for host in world.replicas
        if isinstance(host.process, ReplicaProcess)
        and host.process.core.group.votes
        and host.process.core.state.active.epoch == state.active.epoch
    }
    return [each.id for each in state.replicas if (each.id, each.incarnation) not in there]


async def _final_log(world: World) -> FinalLog:
    """Read the log whole with a fresh client, and compare it with what every unit holds."""
    log, driver, _group = world.client()
    await log.open()
    final = await read_whole(log)
    world.check()
    await compare_units(driver, _newest(world).active, final)
    await log.close()
    return final


def _compare_replicas(world: World) -> None:
    """Replicas that applied equally many commands are in equal states."""
    seen: dict[int, tuple[int, str]] = {}
    for host in world.replicas:
        process = host.process
        assert isinstance(process, ReplicaProcess)
        applied, digest = process.core.group.applied, process.core.state.digest()
        if applied in seen and seen[applied][0] != digest:
            raise RuleBroken(f"{host.name} and {seen[applied][1]} differ at slot {applied}")
        seen[applied] = (digest, host.name)
