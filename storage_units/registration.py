"""How a unit finds out from the sequencer where it stands: asked now and then, one replica a turn.

A unit that serves asks so that an operator hears of a wrong address, and to find out that it was
left out. One that may not serve asks until its incarnation has left: then it can begin anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from corfu.layout import Unit
from corfu.messages import Register, Registered, Rejected
from corfu.ports import UnansweredError
from corfu.runtime.driver import Driver
from corfu.types import Address, Epoch, Offset

from .settings import UnitSettings


def unclaimed(members: Mapping[Address, bool], replicas: int) -> bool:
    """Tell whether a majority of the replicas say that the layout does not list a unit.

    Args:
        members: What each replica that answered said: whether the layout lists it.
        replicas: How many replicas there are.
    """
    # One that says "listed" may know a newer layout than all others.
    return not any(members.values()) and len(members) > replicas // 2


class Registrar:
    """Registers one incarnation of a unit. Decides nothing: tells what became of it."""

    def __init__(
        self,
        driver: Driver,
        settings: UnitSettings,
        own: Unit,
        *,
        replicas: Callable[[], tuple[Address, ...]],
        log: Callable[[str], None],
    ) -> None:
        """Make a registrar.

        Args:
            driver: Asks for it.
            settings: Intervals.
            own: Who and where the unit is.
            replicas: Returns the replicas as they are known now.
            log: Takes a line for an operator.
        """
        self._driver = driver
        self._settings = settings
        self._own = own
        self._replicas = replicas
        self._log = log
        self._turn = 0
        self._members: tuple[Address, ...] = ()
        self._members_as_of = Epoch(0)
        self._told: Registered | Rejected | None = None

    async def until_left(self, probed_at: Callable[[], float | None]) -> Offset | None:
        """Register a unit that serves, now and then, until a replica says that it left.

        Args:
            probed_at: Returns when a replica last probed the unit; None: never.

        Returns:
            The offset below which what it wrote counts; None: nothing does.
        """
        while True:
            answer = await self._ask()
            if answer is None:
                continue
            _, reply = answer
            if isinstance(reply, Registered) and reply.left:
                return reply.bound
            self._tell(reply)
            if isinstance(reply, Registered):
                await self._believe(probed_at, member=reply.member)
            else:
                await self._driver.sleep(self._settings.register_s)

    async def until_dropped(self) -> Offset | None:
        """Register a unit that answers nobody, until its incarnation can do no more harm.

        Returns:
            The offset below which what it wrote counts; None: nothing does.
        """
        driver, settings = self._driver, self._settings
        since = driver.now()
        members: dict[Address, bool] = {}
        told = False
        while True:
            answer = await self._ask()
            if answer is None:
                continue
            replica, reply = answer
            if isinstance(reply, Registered):
                if reply.left:
                    return reply.bound
                members[replica] = reply.member
                # A spare leaves no layout, so nobody will ever say that it left. No entry depends
                # on it; and a majority that lags behind the layout that took it in costs only
                # what the folder holds: this incarnation is served by nobody, whatever they say.
                said = {at: listed for at, listed in members.items() if at in self._members}
                if unclaimed(said, len(self._members)):
                    return Offset(0)
                if reply.member and not told and driver.now() - since >= settings.undropped_s:
                    told = True
                    self._log(
                        f"ALARM: the cluster does not drop unit {self._own.id}: a chain of it has "
                        "no other unit that serves. Start the others; if all of them may have "
                        "lost entries, the chain must be abandoned (corfu chain abandon)"
                    )
            else:
                self._tell(reply)
            await driver.sleep(settings.register_s)

    async def _ask(self) -> tuple[Address, Registered | Rejected] | None:
        """Ask the next replica; None, a moment later, if it gives no answer."""
        driver, settings = self._driver, self._settings
        replicas = self._candidates()
        if not replicas:
            await driver.sleep(settings.register_s)
            return None
        to = replicas[self._turn % len(replicas)]
        self._turn += 1
        try:
            message = Register(driver.new_request(), self._own)
            reply = await driver.ask(to, message, settings.register_s)
        except UnansweredError:
            # The next one may answer; nothing depends on it yet.
            await driver.sleep(settings.register_s / 4)
            return None
        if isinstance(reply, Registered) and reply.epoch >= self._members_as_of:
            self._members, self._members_as_of = reply.replicas, reply.epoch
        if isinstance(reply, Registered | Rejected):
            return to, reply
        await driver.sleep(settings.register_s)
        return None

    def _candidates(self) -> tuple[Address, ...]:
        """Return whom to ask: the members as last told, then those known otherwise.

        Each of those may have been replaced since this unit last stood in a layout; one that is
        left tells of the others.
        """
        return tuple(dict.fromkeys((*self._members, *self._replicas())))

    async def _believe(self, probed_at: Callable[[], float | None], *, member: bool) -> None:
        """Wait until it is time to register again: at once when no replica knows this unit."""
        settings, driver = self._settings, self._driver
        since = driver.now()
        if probed_at() is None and not member:
            # A follower may have answered, and only the leader makes a new unit known.
            await driver.sleep(settings.register_s / 4)
            return
        while driver.now() - since < settings.register_again_s:
            await driver.sleep(settings.register_s)
            probed = probed_at()
            if driver.now() - (since if probed is None else max(since, probed)) >= (
                settings.unprobed_s
            ):
                return

    def _tell(self, reply: Registered | Rejected) -> None:
        """Log what a registration brought up, once for each change."""
        before, self._told = self._told, reply
        if isinstance(reply, Rejected):
            if not isinstance(before, Rejected) or before.detail != reply.detail:
                self._log(f"the sequencer rejects this unit: {reply.detail}")
            return
        known = (reply.member, reply.address_differs)
        if isinstance(before, Registered) and known == (before.member, before.address_differs):
            return
        if reply.address_differs:
            self._log(
                f"this unit listens at {self._own.address}, but the layout has it elsewhere: "
                "start it at the address it was formatted with"
            )
        elif not reply.member and reply.epoch > 0:
            self._log("this unit stands in no chain of the active layout: it is a spare")
