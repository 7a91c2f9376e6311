"""One seed from start to verdict, and what a report says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field

from corfu.client.log import LogClient
from corfu.errors import LostError, TrimmedError
from corfu.goals import GoalStatus
from corfu.messages import Inspect, Inspected, InspectedOffset
from corfu.runtime.driver import Driver
from corfu.sequencer.process import ReplicaProcess
from corfu.sequencer.state import State as ReplicaState
from corfu.tools.check import CheckOptions, check
from corfu.tools.history import FinalLog
from corfu.tools.sim.faults import Nemesis
from corfu.tools.sim.loop import SimulationError
from corfu.tools.sim.operator import Operator
from corfu.tools.sim.options import Options, draw
from corfu.tools.sim.records import key_of
from corfu.tools.sim.workload import Recorder, Workload
from corfu.tools.sim.world import RuleBroken, World
from corfu.types import Address, Offset, State

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
    recorder = Recorder()
    problem: str | None = None
    try:
        world.loop.run(_run(world, options, recorder))
    except (RuleBroken, SimulationError) as error:
        problem = f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - the boundary: whatever escapes is the finding
        problem = f"{type(error).__name__}: {error}"
        world.note("escaped", repr(error))
    history = recorder.history
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


async def _run(world: World, options: Options, recorder: Recorder) -> None:
    loop = asyncio.get_running_loop()
    world.start()
    await asyncio.sleep(world.rng.uniform(0, 2))
    workloads: list[tuple[Workload, asyncio.Task[None]]] = []
    for number in range(1, options.clients + 1):
        ordered = world.rng.random() < options.ordered_share
        log, _driver, group = world.client(ordered=ordered)
        workload = Workload(f"c{number}", log, recorder, options, world.seed, ordered=ordered)
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
            final = await _read_whole(world)
            world.check()
            await _compare_units(world, final)
    except TimeoutError:
        pending = ", ".join([*world.loop.pending(), _lacking(world) or "all redundant"])
        raise RuleBroken(f"liveness: not settled in {options.settle_s} s: {pending}") from None
    _compare_replicas(world)
    gone = () if operator is None else operator.lost_chains()
    known = CheckOptions(allow_lost_unshown=True, lost_chains=gone)
    violations = check(recorder.history, final, options=known)
    if violations:
        raise RuleBroken("; ".join(str(violation) for violation in violations[:5]))


def _start(work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work, name=name)


async def _read_whole(world: World) -> FinalLog:
    """Scan all of the log with a fresh client: every operation has ended by now."""
    log, _driver, _group = world.client()
    await log.open()
    tail = await log.tail()
    trim_mark = Offset(0)
    while True:
        entries: dict[int, list[str]] = {}
        lost: list[tuple[int, int]] = []
        at = trim_mark
        try:
            at = await _scan(log, at, tail, entries, lost)
        except TrimmedError as error:
            if error.trim_mark <= trim_mark:
                raise RuleBroken(f"trimmed at {error.offset}, below no mark") from error
            trim_mark = error.trim_mark
            continue
        break
    await log.close()
    gone = {offset for start, end in lost for offset in range(start, end)}
    junk = frozenset(
        offset for offset in range(trim_mark, tail) if offset not in entries and offset not in gone
    )
    return FinalLog(
        entries={offset: tuple(keys) for offset, keys in entries.items()},
        tail=tail,
        junk=junk,
        trimmed_below=trim_mark,
        lost=tuple(lost),
    )


async def _scan(
    log: LogClient,
    start: Offset,
    tail: Offset,
    entries: dict[int, list[str]],
    lost: list[tuple[int, int]],
) -> Offset:
    """Read `[start, tail)`, noting what is lost on the way; returns `tail`."""
    while start < tail:
        try:
            async for record in log.scan(start, tail):
                entries.setdefault(record.position.offset, []).append(key_of(record.data))
        except LostError as error:
            lost.append((error.offset, error.offset + 1))
            start = Offset(error.offset + 1)
            continue
        return tail
    return tail


def _newest(world: World) -> ReplicaState:
    """Return the applied state with the newest layout."""
    return max(world.states(), key=lambda state: state.active.epoch)


async def _redundancy(world: World) -> None:
    """Wait until every chain of every segment has its full width again."""
    while (lacking := _lacking(world)) is not None:
        await asyncio.sleep(0.25)
        world.check()
        world.loop.note("lacking", lacking)


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
    for segment in layout.segments:
        for chain in segment.chains:
            # What was abandoned is nobody's any more: the checker is told of it.
            if len(chain) < width and (chain or not world.options.goals):
                return f"chain {chain} of the segment at {segment.start}"
    return None


async def _compare_units(world: World, final: FinalLog) -> None:
    """Every unit of a chain holds, durably, exactly what the log showed."""
    lost = {offset for start, end in final.lost for offset in range(start, end)}
    _log, driver, _group = world.client()
    driver.link.cluster = world.cluster
    layout = _newest(world).active
    for unit in layout.units:
        held = await _inspect(driver, unit.address, final)
        for segment in layout.segments:
            end = final.tail if segment.end is None else min(segment.end, final.tail)
            for offset in range(max(segment.start, final.trimmed_below), end):
                if offset in lost or unit.id not in segment.chain_of(Offset(offset)):
                    continue
                state = held[offset].state if offset in held else State.EMPTY
                wanted = State.JUNK if offset in final.junk else State.DATA
                if state is not wanted:
                    raise RuleBroken(
                        f"unit {unit.id} has {state.name} at {offset}, not {wanted.name}"
                    )


async def _inspect(driver: Driver, address: Address, final: FinalLog) -> dict[int, InspectedOffset]:
    held: dict[int, InspectedOffset] = {}
    at = final.trimmed_below
    while at < final.tail:
        request = Inspect(driver.new_request(), Offset(at), Offset(min(at + 1024, final.tail)))
        reply = await driver.ask(address, request, 5.0)
        assert isinstance(reply, Inspected)
        held |= {each.offset: each for each in reply.offsets}
        at = reply.end
    return held


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
