# SPDX-License-Identifier: Apache-2.0
"""The process in which `highway bench detector` runs the detector, alone, as highwayd does.

It reads words from its standard input and answers each with a line of JSON: `sync` (when all is
known), `count` (events and pauses so far), `decisions` (times since the last such word), `verdict
PORT`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

from ovs_highway.detector.switch import BridgeSettings, PortSettings
from ovs_highway.detector.verdicts import Detector
from ovs_highway.openflow.client import Client
from ovs_highway.openflow.model import FlowGone, FlowSet, Restart, Synced

if TYPE_CHECKING:
    from ovs_highway.openflow.model import Event

BRIDGE = "br0"


class Probe:
    """The detector of one bridge, with a clock."""

    def __init__(self, target: str, ports: int) -> None:
        self.detector = Detector()
        settings = {n: PortSettings(highway=f"p{n}") for n in range(1, ports + 1)}
        self.detector.configure({BRIDGE: BridgeSettings(ports=settings)})
        self.client = Client(target, self._deliver)
        self.synced = asyncio.Event()
        self.began = time.monotonic()
        self.sync_s = 0.0
        self.events = self.pauses = 0
        self.worked = 0.0
        self.decisions: list[float] = []
        self.latencies: list[float] = []

    def _deliver(self, events: list[Event]) -> None:
        began = time.perf_counter()
        self.detector.take(BRIDGE, events)
        self.detector.decide()
        ended = time.perf_counter()
        self.worked += ended - began
        now = time.monotonic_ns()
        for event in events:
            if isinstance(event, FlowSet | FlowGone):
                self.events += 1
            # A cookie that is a time tells when the flowmod was sent.
            if isinstance(event, FlowSet) and event.flow.cookie > 1 << 40:
                self.decisions.append((ended - began) * 1000)
                self.latencies.append((now - event.flow.cookie) / 1e6)
            self.pauses += isinstance(event, Restart) and event.missed
            if isinstance(event, Synced) and not self.synced.is_set():
                self.sync_s = time.monotonic() - self.began
                gc.collect()
                gc.freeze()
                self.synced.set()

    async def answer(self, word: str) -> dict[str, Any]:
        """Do what a word asks for."""
        if word == "sync":
            await self.synced.wait()
            flows = len(self.detector.bridges[BRIDGE])
            return {"sync_s": self.sync_s, "flows": flows, "mib": _memory()}
        if word == "count":
            cpu = time.process_time()
            return {"events": self.events, "pauses": self.pauses, "cpu_s": cpu}
        if word == "decisions":
            found = {"decide_ms": self.decisions, "flowmod_ms": self.latencies}
            self.decisions, self.latencies = [], []
            return found
        port = word.partition(" ")[2]
        return {"peer": self.detector.verdicts[port].peer}


def _memory() -> float:
    """Return the largest resident size so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def main(target: str, ports: int) -> None:
    """Follow a bridge and answer until the standard input ends."""
    probe = Probe(target, ports)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    task = asyncio.create_task(probe.client.run())
    while line := await reader.readline():
        print(json.dumps(await probe.answer(line.decode().strip())), flush=True)
    task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
