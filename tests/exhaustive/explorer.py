"""Breadth-first search over the product of all nodes, the network and the budgets of faults.

A state is (state of each node, what is left of each budget, what was ever told, messages in flight
as a multiset). All parts are small numbers, given in the order of discovery, which the search
fixes: so two runs give the same fingerprints. A message may arrive at any time after any other, or
never; losing one uses up a budget only so that the search can tell the states where nothing is
under way any more.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence

import xxhash

from .machine import Envelope, Event, Machine, Outcome, Own
from .model import DISK_DONE, Ghost, Model, Opening, Report, Violation

_OWN = 1 << 24
"""Event numbers: below it messages, from it on what nodes do by themselves."""

_DELIVER, _LOSE, _DUPLICATE = 0, 1, 2

STATES_MAX = 1 << 26

State = tuple[int, ...]
Step = tuple[int, tuple[int, ...], tuple[int, ...], str]
"""State of the node after it, messages sent, things told, what is wrong."""


class Explorer:
    """Explores one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.machines = [Machine(name, make) for name, make in model.nodes.items()]
        self._place = {machine.name: at for at, machine in enumerate(self.machines)}
        self._budgets = list(model.budgets)
        self._budget_at = {name: len(self.machines) + at for at, name in enumerate(self._budgets)}
        self._ghost_at = len(self.machines) + len(self._budgets)
        self._head = self._ghost_at + 1
        self._messages: dict[Envelope, int] = {}
        self._envelopes: list[Envelope] = []
        self._ends: list[tuple[int, int]] = []
        self._owns: dict[tuple[int, Own], int] = {}
        self._owned: list[tuple[int, Own]] = []
        self._tells: dict[Hashable, int] = {}
        self._told: list[Hashable] = []
        self._ghosts: dict[Ghost, int] = {model.ghost: 0}
        self._ghost_list: list[Ghost] = [model.ghost]
        self._observed: dict[tuple[int, int], int | str] = {}
        self._steps: list[dict[int, Step]] = [{} for _ in self.machines]
        self._own_ids: list[list[tuple[tuple[int, int], ...] | None]] = [[] for _ in self.machines]
        self._facts: list[dict[Hashable, int]] = [{} for _ in self.machines]
        self._fact_of: list[array[int]] = [array("l") for _ in self.machines]
        self._right: dict[tuple[int, ...], str] = {}
        self._right_at_rest: dict[tuple[int, ...], str] = {}
        self._right_message: dict[int, str] = {}

    # The search.

    def run(
        self, states_max: int = STATES_MAX, progress: Callable[[Report], None] | None = None
    ) -> Report:
        """Search until all states, or so many, were seen, or a rule is broken."""
        began = time.process_time()
        report = Report(self.model.name)
        root, wrong = self.begin()
        parents, moves = array("l", [-1]), array("l", [-1])
        report.digest = _fingerprint(root)
        seen = {report.digest}
        queue = deque([root])
        depth_ends, at = 0, -1
        wrong = wrong or self._check(root, report)
        report.states = 1
        found = (0, wrong) if wrong else None
        while queue and found is None and len(parents) < states_max:
            state = queue.popleft()
            at += 1
            if at > depth_ends:
                report.depth += 1
                depth_ends = len(parents) - 1
                if progress is not None:
                    report.states = len(parents)
                    report.cpu_s = time.process_time() - began
                    progress(report)
            for move, after, wrong in self.successors(state):
                report.moves += 1
                if not wrong:
                    fingerprint = _fingerprint(after)
                    if fingerprint in seen:
                        continue
                    seen.add(fingerprint)
                    report.digest ^= fingerprint
                    wrong = self._check(after, report)
                parents.append(at)
                moves.append(move)
                if wrong:
                    found = (len(parents) - 1, wrong)
                    break
                queue.append(after)
                if len(parents) >= states_max:
                    break
        report.states = len(parents)
        report.depth += bool(queue)
        report.exhausted = not queue and found is None
        report.node_states = {machine.name: len(machine) for machine in self.machines}
        report.cores_run = sum(machine.steps_run for machine in self.machines)
        report.cpu_s = time.process_time() - began
        if found is not None:
            state_at, wrong = found
            report.violation = Violation(wrong, self._way(state_at, parents, moves))
        return report

    def _way(self, at: int, parents: array[int], moves: array[int]) -> list[str]:
        way: list[str] = []
        while parents[at] >= 0:
            way.append(self.show(moves[at]))
            at = parents[at]
        return way[::-1]

    def show(self, move: int) -> str:
        """Return a move as a line of text."""
        number, kind = divmod(move, 3)
        if number >= _OWN:
            place, own = self._owned[number - _OWN]
            return f"{self.machines[place].name}: {own.name}"
        word = ("", "LOST ", "TWICE ")[kind]
        return f"{word}{self._envelopes[number]}"

    def event_of(self, move: int) -> tuple[int, Event] | None:
        """Return which node takes which event by a move; None if a message is lost."""
        number, kind = divmod(move, 3)
        if number >= _OWN:
            return self._owned[number - _OWN]
        return None if kind == _LOSE else (self._ends[number][1], self._envelopes[number])

    def without_ghost(self, state: State) -> State:
        """Return a state without what only the invariants know."""
        return (*state[: self._ghost_at], *state[self._head :])

    def follow(self, moves: Sequence[str]) -> str:
        """Go the moves that a violation printed, from the start; returns what is then wrong.

        Raises:
            LookupError: A move is not possible there.
        """
        state, wrong = self.begin()
        report = Report(self.model.name)
        wrong = wrong or self._check(state, report)
        for line in moves:
            for move, after, step_wrong in self.successors(state):
                if self.show(move) == line:
                    state = after
                    wrong = step_wrong or self._check(state, report)
                    break
            else:
                raise LookupError(f"not possible here: {line}")
        return wrong

    # States.

    def begin(self) -> tuple[State, str]:
        """Return the first state: after the prologue, all of its messages delivered in order."""
        machines = self.machines
        budgets = [self.model.budgets[name] for name in self._budgets]
        state: State = (*(machine.first for machine in machines), *budgets, 0)
        for opening in self.model.prologue:
            state, wrong = self._open(state, opening)
            if wrong:
                return state, wrong
        return state, ""

    def _open(self, state: State, opening: Opening) -> tuple[State, str]:
        head = self._head
        place = self._place[opening.node]
        number = _OWN + self._own_id(place, opening.own)
        state, wrong = self._take(state, place, number, state[head:])
        while not wrong:
            disk = self._next_disk(state)
            if disk is not None:
                state, wrong = self._take(state, *disk, state[head:])
            elif len(state) > head:
                message, rest = state[head], state[head + 1 :]
                if self._envelopes[message].to in opening.hears:
                    state, wrong = self._take(state, self._ends[message][1], message, rest)
                else:
                    state = state[:head] + rest
            else:
                break
        return state, wrong

    def _next_disk(self, state: State) -> tuple[int, int] | None:
        for place in range(len(self.machines)):
            for number, budget in self._own_of(place, state[place]):
                if budget < 0 and self._owned[number - _OWN][1].name == DISK_DONE:
                    return place, number
        return None

    def successors(self, state: State) -> Iterator[tuple[int, State, str]]:
        """Yield each move, the state after it and what it breaks."""
        head = self._head
        loss = self._budget_at.get("loss", -1)
        duplicate = self._budget_at.get("duplicate", -1)
        in_flight = state[head:]
        before = -1
        for at, message in enumerate(in_flight):
            if message == before:
                continue
            before = message
            place = self._ends[message][1]
            rest = in_flight[:at] + in_flight[at + 1 :]
            after, wrong = self._take(state, place, message, rest)
            yield 3 * message, after, wrong
            if loss >= 0 and state[loss]:
                yield 3 * message + _LOSE, _less(state, loss)[:head] + rest, ""
            if duplicate >= 0 and state[duplicate]:
                after, wrong = self._take(_less(state, duplicate), place, message, in_flight)
                yield 3 * message + _DUPLICATE, after, wrong
        for place in range(len(self.machines)):
            for number, budget in self._own_of(place, state[place]):
                if budget < 0:
                    after, wrong = self._take(state, place, number, in_flight)
                elif state[budget]:
                    after, wrong = self._take(_less(state, budget), place, number, in_flight)
                else:
                    continue
                yield 3 * number, after, wrong

    def _take(
        self, state: State, place: int, event: int, in_flight: tuple[int, ...]
    ) -> tuple[State, str]:
        local = state[place]
        step = self._steps[place].get(local * (2 * _OWN) + event)
        if step is None:
            step = self._run(place, local, event)
        after, sends, tells, wrong = step
        ghost = state[self._ghost_at]
        for tell in tells:
            seen = self._observed.get((ghost, tell))
            if seen is None:
                seen = self._observe(ghost, tell)
            if isinstance(seen, str):
                wrong = wrong or seen
            else:
                ghost = seen
        if sends:
            in_flight = tuple(sorted(in_flight + sends))
        parts = (*state[:place], after, *state[place + 1 : self._ghost_at], ghost, *in_flight)
        return parts, wrong

    def _run(self, place: int, local: int, event: int) -> Step:
        what: Event = self._owned[event - _OWN][1] if event >= _OWN else self._envelopes[event]
        after, outcome = self.machines[place].step(local, what)
        step = (after, self._numbers(outcome), tuple(map(self._tell, outcome.told)), outcome.wrong)
        self._steps[place][local * (2 * _OWN) + event] = step
        return step

    def _numbers(self, outcome: Outcome) -> tuple[int, ...]:
        return tuple(self._number(envelope) for envelope in outcome.sends)

    def _number(self, envelope: Envelope) -> int:
        number = self._messages.get(envelope)
        if number is None:
            number = self._messages[envelope] = len(self._envelopes)
            self._envelopes.append(envelope)
            self._ends.append((self._place[envelope.source], self._place[envelope.to]))
        return number

    def _tell(self, told: Hashable) -> int:
        number = self._tells.get(told)
        if number is None:
            number = self._tells[told] = len(self._told)
            self._told.append(told)
        return number

    def _observe(self, ghost: int, tell: int) -> int | str:
        after = self.model.observe(self._ghost_list[ghost], self._told[tell])
        result: int | str
        if isinstance(after, str):
            result = after
        else:
            result = self._ghosts.setdefault(after, len(self._ghosts))
            if result == len(self._ghost_list):
                self._ghost_list.append(after)
        self._observed[ghost, tell] = result
        return result

    def _own_id(self, place: int, own: Own) -> int:
        number = self._owns.get((place, own))
        if number is None:
            number = self._owns[place, own] = len(self._owned)
            self._owned.append((place, own))
        return number

    def _own_of(self, place: int, local: int) -> tuple[tuple[int, int], ...]:
        """Return (event, place of its budget or -1) for all that a node could do by itself."""
        known = self._own_ids[place]
        while len(known) <= local:
            known.append(None)
        found = known[local]
        if found is None:
            found = known[local] = tuple(
                (_OWN + self._own_id(place, own), self._budget_at[own.budget] if own.budget else -1)
                for own in self.machines[place].own[local]
                if not own.budget or own.budget in self._budget_at
            )
        return found

    # Invariants.

    def _check(self, state: State, report: Report) -> str:
        """Return what is wrong in a state. Each rule looks at few things, and is remembered."""
        facts = tuple(self._fact(place, state[place]) for place in range(len(self.machines)))
        key = (*facts, state[self._ghost_at])
        wrong = self._right.get(key)
        if wrong is None:
            wrong = self._right[key] = self.model.wrong(self._all_facts(state), self._ghost(state))
        report.checks += 1
        if wrong:
            return wrong
        in_flight = state[self._head :]
        for message in in_flight:
            place = self._ends[message][0]
            pair = message * _OWN + facts[place]
            wrong = self._right_message.get(pair)
            if wrong is None:
                wrong = self._right_message[pair] = self.model.wrong_message(
                    self.machines[place].facts[state[place]], self._envelopes[message]
                )
            report.checks += 1
            if wrong:
                return wrong
        if not in_flight and all(
            machine.calm[state[place]] for place, machine in enumerate(self.machines)
        ):
            report.at_rest += 1
            report.checks += 1
            wrong = self._right_at_rest.get(key)
            if wrong is None:
                wrong = self._right_at_rest[key] = self.model.wrong_at_rest(
                    self._all_facts(state), self._ghost(state)
                )
        return wrong

    def _fact(self, place: int, local: int) -> int:
        known = self._fact_of[place]
        while len(known) <= local:
            facts = self._facts[place]
            fact = self.machines[place].facts[len(known)]
            known.append(facts.setdefault(fact, len(facts)))
        return known[local]

    def _all_facts(self, state: State) -> tuple[Hashable, ...]:
        return tuple(machine.facts[state[at]] for at, machine in enumerate(self.machines))

    def _ghost(self, state: State) -> Ghost:
        return self._ghost_list[state[self._ghost_at]]


def _less(state: State, at: int) -> State:
    return (*state[:at], state[at] - 1, *state[at + 1 :])


def _fingerprint(state: State) -> int:
    return xxhash.xxh3_64_intdigest(array("l", state).tobytes())
