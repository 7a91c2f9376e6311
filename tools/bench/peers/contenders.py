"""Who takes part: where each peer's servers and client are, and which work it can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import get_args

from .base import Servers, Setup, Work

OURS = ("corfu", "corfu-many")
PEERS = ("nats", "redis", "kafka")


@dataclass(frozen=True, slots=True)
class Contender:
    """One that takes part, by the names of its module and of what is in it."""

    name: str
    module: str
    servers: str
    client: str
    call: str
    """The call of its client that the producer makes."""

    works: tuple[Work, ...] = get_args(Work)

    def missing(self) -> str | None:
        """Return what it lacks on this machine; None: it can run."""
        reason: str | None = import_module(self.module, __package__).missing()
        return reason

    def make(self, setup: Setup) -> Servers:
        """Return its servers, not yet started."""
        factory: Callable[[Setup], Servers] = getattr(
            import_module(self.module, __package__), self.servers
        )
        return factory(setup)


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("corfu", ".corfu", "CorfuServers", "client", "submit"),
        Contender(
            "corfu-many", ".corfu", "CorfuServers", "many_client", "append_many", ("producer",)
        ),
        Contender("nats", ".nats", "NatsServers", "client", "publish_async"),
        Contender("redis", ".redis", "RedisServers", "client", "pipelined XADD"),
        Contender("kafka", ".kafka", "KafkaServers", "client", "produce"),
    )
}
