"""One seed from start to verdict, and what a report says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace

from corfu.client.log import LogClient
from corfu.errors import UnavailableError
from corfu.goals import GoalStatus
from corfu.sequencer.process import ReplicaProcess
from corfu.sequencer.state import State as ReplicaState
from corfu.storage_units.process import UnitProcess
from corfu.tools.check import check
from corfu.tools.check_options import CheckOptions
from corfu.tools.final_read import FinalLogError, compare_units, read_whole
from corfu.tools.operations import Append, FinalLog, Operation, Outcome, Trim
from corfu.tools.recording import Recorder
from corfu.tools.sim.faults import Fault, Nemesis
from corfu.tools.sim.host import Host, RuleBroken
from corfu.tools.sim.loop import SimulationError
from corfu.tools.sim.operator import Operator
from corfu.tools.sim.options import Options, draw
from corfu.tools.sim.rot import Rotten
from corfu.tools.sim.world import World
from corfu.tools.workload import Workload
from corfu.types import Incarnation, Offset, UnitId

GO_ON_S = 10.0
"""So long clients may take to go on, in virtual seconds, once a minority has stopped."""

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
    injected: tuple[Fault, ...] = ()
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

    recorder = Recorder(lambda: world.loop.now, keep)
    nemesis = Nemesis(world)
    problem: str | None = None
    try:
        world.loop.run(_run(world, nemesis, recorder, history))
    except (RuleBroken, FinalLogError, SimulationError) as error:
        problem = f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - the boundary: whatever escapes is the finding
        problem = f"{type(error).__name__}: {error}"
        world.note("escaped", repr(error))
    report = Report(
        seed=seed,
        problem=problem,
        virtual_s=world.loop.now,
        events=world.loop.events,
        operations=len(history),
        appended=sum(
            sum(place is not None for place in getattr(operation, "places", ()))
            for operation in history
        ),
        trace_hash=world.loop.trace_hash(),
        faults=world.faults,
        injected=tuple(nemesis.injected),
        event_list=tuple(world.events),
    )
    world.loop.close()
    return report


async def _run(
    world: World, nemesis: Nemesis, recorder: Recorder, history: list[Operation]
) -> None:
    loop, options = asyncio.get_running_loop(), world.options
    world.start()
    await asyncio.sleep(world.rng.uniform(0, 2))
    workloads: list[tuple[Workload, asyncio.Task[None]]] = []
    for number in range(1, options.clients + 1):
        ordered = world.rng.random() < options.ordered_share
        name = f"c{number}"
        opening = _opening(world, ordered=ordered)
        workload = Workload(name, opening, recorder, options.workload, world.seed, ordered=ordered)
        group = world.loop.group(name)
        workloads.append((workload, group.run(_start, workload.run(), name)))
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
            if options.minority_stops:
                await _go_on_without_minority(world, recorder, history)
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


async def _go_on_without_minority(
    world: World, recorder: Recorder, history: list[Operation]
) -> None:
    """Stop a minority of a sound cluster for good: all that clients ask for must come to its end.

    One unit, if its chain has others, and as many replicas as a majority can do without: stopped,
    dead or out of reach. What clients were doing then ends within `GO_ON_S`, and so does a new
    append of each of them. Then they come back, and all is redundant once more.
    """
    loop = asyncio.get_running_loop()
    options = replace(world.options.workload, trim_clients=0.0, visits=False)
    workloads = [
        Workload(
            f"m{number}",
            _opening(world, ordered=ordered),
            recorder,
            options,
            world.seed,
            ordered=ordered,
        )
        for number, ordered in ((1, False), (2, True))
    ]
    tasks = [loop.create_task(workload.run(), name="minority") for workload in workloads]
    await asyncio.sleep(world.rng.uniform(0.2, 1))
    stopped = _minority(world)
    how = world.rng.choice(("pause", "kill", "isolate"))
    world.count("minority stops")
    for host in stopped:
        match how:
            case "pause":
                host.pause()
            case "kill":
                host.kill()
            case _:
                world.network.isolate(host.address)
    began = loop.time()
    try:
        async with asyncio.timeout(GO_ON_S):
            while not all(_went_on(history, name, began) for name in ("m1", "m2")):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            for workload in workloads:
                workload.end()
            await asyncio.gather(*tasks)
    except TimeoutError:
        names = ", ".join(host.name for host in stopped)
        raise RuleBroken(
            f"liveness: clients did not go on in {GO_ON_S} s without {names}"
        ) from None
    world.network.heal()
    for host in stopped:
        host.resume()
        host.start()
    await _redundancy(world)


def _minority(world: World) -> list[Host]:
    """Draw what a cluster can do without."""
    replicas = list(world.replicas)
    stopped = world.rng.sample(replicas, (len(replicas) - 1) // 2)
    if world.options.units_per_chain > 1:
        layout = _newest(world).active
        chain = world.rng.choice(layout.open_segment.chains)
        # As many as it takes units to be in a chain have to stay, or another one, with the spares.
        if len(chain) > layout.min_replicas:
            stopped.append(world.units[world.rng.choice(chain) - 1])
    return stopped


def _went_on(history: list[Operation], client: str, began: float) -> bool:
    return any(
        isinstance(each, Append)
        and each.client == client
        and each.invoked > began
        and each.outcome is Outcome.APPENDED
        for each in history
    )


def _opening(world: World, *, ordered: bool) -> Callable[[], Awaitable[LogClient]]:
    async def opened() -> LogClient:
        log, _driver, _group = world.client(ordered=ordered)
        try:
            return await log.open(timeout=5)
        except UnavailableError:
            await log.close()
            raise

    return opened


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
    # One whose disk was wiped is another one; the leader takes a while to see that it is gone.
    if gone := sorted({(u.id, u.incarnation) for u in layout.units} - _serving(world)):
        return f"units {[id_ for id_, _ in gone]} are not there"
    for segment in layout.segments:
        for chain in segment.chains:
            # What was abandoned is nobody's any more: the checker is told of it.
            if len(chain) < width and (chain or not world.options.goals):
                return f"chain {chain} of the segment at {segment.start}"
    return None


def _serving(world: World) -> set[tuple[UnitId, Incarnation]]:
    """Return the units whose processes serve."""
    identities = [
        host.process.identity
        for host in world.units
        if isinstance(host.process, UnitProcess) and host.process.serves
    ]
    return {(identity.unit, identity.incarnation) for identity in identities}


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
