"""deploy/: the service files agree with each other and with the servers."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from corfu.runtime.udp import BUFFER_BYTES
from corfu.sequencer import arguments as sequencer
from corfu.storage_units import server as storage

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _placed(role: str, listed: str) -> dict[str, str]:
    pairs = (each.split("=") for each in SERVICES["bootstrap"]["environment"][listed].split())
    return {f"{role}-{id_}": address for id_, address in pairs}


PLACED = {**_placed("sequencer", "REPLICAS"), **_placed("storage", "UNITS")}
REPLICAS = ",".join(_placed("sequencer", "REPLICAS").values())


def test_compose_has_three_replicas_two_chains_of_three_and_two_spares() -> None:
    chains = [chain.split(",") for chain in SERVICES["bootstrap"]["environment"]["CHAINS"].split()]
    assert [len(chain) for chain in chains] == [3, 3]
    assert len(_placed("sequencer", "REPLICAS")) == 3
    assert len(_placed("storage", "UNITS")) == 6 + 2
    assert set(SERVICES) == {*PLACED, "bootstrap", "client"}


@pytest.mark.parametrize("name", sorted(PLACED))
def test_compose_service_listens_where_the_bootstrap_says(name: str) -> None:
    service = SERVICES[name]
    command, address = service["command"], PLACED[name]
    host = service["networks"]["log"]["ipv4_address"]
    (subnet,) = COMPOSE["networks"]["log"]["ipam"]["config"]
    assert ipaddress.ip_address(host) in ipaddress.ip_network(subnet["subnet"])
    assert command[command.index("--listen") + 1] == address
    assert address.startswith(f"{host}:")
    assert service["volumes"] == [f"{name}:/data"]
    assert f"{name}:/data/{name}" in SERVICES["bootstrap"]["volumes"]
    assert name in COMPOSE["volumes"]
    if name.startswith("storage"):
        assert command[command.index("--sequencers") + 1] == REPLICAS
    else:
        assert service["environment"]["CORFU_CLUSTER"] == REPLICAS
        assert service["healthcheck"]["test"] == ["CMD", "corfu", "status"]
    assert service["stop_signal"] == "SIGTERM"
    bootstrapped = service["depends_on"]["bootstrap"]["condition"]
    assert bootstrapped == "service_completed_successfully"


def _unit_file(name: str) -> dict[str, str]:
    text = (DEPLOY / "systemd" / f"{name}@.service").read_text()
    return dict(re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE))


def test_systemd_restarts_only_where_a_restart_helps() -> None:
    of_replica = {
        sequencer.STATUS_USAGE,
        sequencer.STATUS_FOLDER,
        sequencer.STATUS_REPLACED,
    }
    of_unit = {storage.STATUS_USAGE, storage.STATUS_FOLDER, storage.STATUS_LEFT}
    for name, never in (("corfu-sequencer", of_replica), ("corfu-storage", of_unit)):
        settings = _unit_file(name)
        assert settings["Restart"] == "on-failure"
        assert {int(each) for each in settings["RestartPreventExitStatus"].split()} == never
        assert settings["KillSignal"] == "SIGTERM"
        assert settings["ExecStart"].split() == [
            f"/opt/corfu/bin/{name}", "start", "/var/lib/corfu/%i", "$CORFU_OPTIONS",
        ]  # fmt: skip


@pytest.mark.parametrize("role", ["sequencer", "storage"])
def test_systemd_example_options_are_ones_that_the_server_takes(role: str) -> None:
    text = (DEPLOY / "systemd" / f"corfu-{role}.env").read_text()
    (options,) = re.findall(r"^CORFU_OPTIONS=(.*)$", text, re.MULTILINE)
    parser = sequencer.parser() if role == "sequencer" else storage._parser()
    parsed = parser.parse_args(["start", "/var/lib/corfu/x", *options.split()])
    assert parsed.listen is not None


def test_sysctls_allow_the_buffers_that_are_asked_for() -> None:
    found = dict(
        re.findall(
            r"^(net\.\S+) = (\d+)$",
            (DEPLOY / "sysctl.d" / "60-corfu.conf").read_text(),
            re.MULTILINE,
        )
    )
    assert set(found) == {"net.core.rmem_max", "net.core.wmem_max"}
    assert all(int(value) >= BUFFER_BYTES for value in found.values())
