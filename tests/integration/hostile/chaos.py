"""The hostile path of `proxy` around whatever runs in a network of its own."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Iterator

from corfu.tools.processes import dying_with_us
from tests.integration.bad_cases.network import OwnNetwork
from tests.integration.hostile.proxy import MARK, Chaos, as_json
from tests.integration.running import DEADLINE_S, ROOT


class Chaotic:
    """What the path did, once it has ended."""

    def __init__(self) -> None:
        self.did: dict[str, int] = {}


@contextlib.contextmanager
def chaos(network: OwnNetwork, options: Chaos) -> Iterator[Chaotic]:
    """Send every datagram of the network through the hostile path."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.hostile.proxy", as_json(options)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=dying_with_us(),
    )
    assert process.stdout is not None
    told = Chaotic()
    try:
        assert select.select((process.stdout,), (), (), DEADLINE_S)[0], "the proxy said nothing"
        assert process.stdout.readline() == b"ready\n"
        network.let_through_only(MARK)
        yield told
        assert process.poll() is None, "the proxy ended by itself"
        process.terminate()
        told.did = json.loads(process.communicate(timeout=DEADLINE_S)[0])
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
