"""One client process of `corfu bench compare`.

    python -m corfu.tools.bench.peers.worker JOB

JOB and the answer on stdout are JSON: see `Job` and `Measured`. Exit status 1 and one line on
stderr if the peer fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from importlib import import_module

from corfu.runtime.serving import new_loop

from .base import READ_RECORDS, Client, Filling, Job, Measured, Meter, PeerError, Records
from .contenders import CONTENDERS


async def work(job: Job) -> Measured:
    """Do the job and return what was seen."""
    contender = CONTENDERS[job.peer]
    connect = getattr(import_module(contender.module, __package__), contender.client)
    records = Records(os.urandom(Records.COUNT * job.size), job.size)
    async with connect(job.target, job.inflight) as client:
        if job.work != "read":
            # What is only opened at the first append is not to be measured.
            await client.append(records.one())
        return await _measure(client, records, job)


async def _measure(client: Client, records: Records, job: Job) -> Measured:
    cpu_s = time.process_time()
    meter = Meter(job.warm_s, job.seconds)
    match job.work:
        case "producer":
            await client.produce(records, meter)
        case "serial":
            while not meter.over():
                called = meter.now()
                await client.append(records.one())
                meter.saw(1, called)
        case "read":
            await client.read(meter)
        case "fill":
            meter = Filling(records, READ_RECORDS)
            await client.produce(records, meter)
    cpu_s = time.process_time() - cpu_s
    return Measured(
        records=meter.records,
        seconds=job.seconds,
        latency=meter.latency(),
        total=meter.total,
        cpu_s=cpu_s,
    )


def main() -> None:
    """Do the job given in the command line."""
    job = Job(**json.loads(sys.argv[1]))
    try:
        # The fastest loop that there is, for every peer.
        with asyncio.Runner(loop_factory=new_loop) as runner:
            measured = runner.run(work(job))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as raised:  # noqa: BLE001 - libraries of peers raise what they like
        error: BaseException = raised
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        text = str(error) if isinstance(error, PeerError) else f"{type(error).__name__}: {error}"
        sys.exit(" ".join(text.split()))
    json.dump(measured.as_json(), sys.stdout)


if __name__ == "__main__":
    main()
