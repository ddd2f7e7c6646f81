# SPDX-License-Identifier: Apache-2.0
"""`highway bench detector`: how fast the p-2-p detector is, on a real OVS with large tables.

The detector runs alone in a process of its own, with highwayd's client. OVS and the program that
sends flowmods have the other core.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Self

from ovs_highway.bench import machine
from ovs_highway.bench.flowmods import ADD, DELETE_STRICT, Controller, Rule
from ovs_highway.bench.stats import percentile
from ovs_highway.errors import SandboxError
from ovs_highway.lab import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BRIDGE: Final = "br0"
FLOWS: Final = 100_000
PORTS: Final = 8
RATE: Final = 1000
_RATES: Final = (5_000, 10_000, 15_000, 20_000, 30_000, 40_000)
_SUSTAINED_S: Final = 4
_SLICES_PER_S: Final = 500
_CONTROLLERS: Final = 10
_LEFT_S: Final = 0.5
_BATCH: Final = 500
_FIRST_ADDRESS: Final = 0x0A000000
_DECIDED: Final = 3000
_BASE: Final = 200
_OTHERS: Final = 1000


def table(flows: int) -> list[Rule]:
    """Return so many flows: each port's own one, addresses for all, and other ports' own."""
    own = [Rule(in_port=n, priority=1000, outputs=(n % PORTS + 1,)) for n in range(1, PORTS + 1)]
    half = (flows - len(own)) // 2
    routes = [
        Rule(ipv4_dst=_FIRST_ADDRESS + n, priority=50, outputs=(n % PORTS + 1,))
        for n in range(half)
    ]
    rest = flows - len(own) - len(routes)
    others = [
        Rule(
            in_port=100 + n % _OTHERS,
            ipv4_dst=_FIRST_ADDRESS + n // _OTHERS,
            priority=60,
            outputs=(n % PORTS + 1,),
        )
        for n in range(rest)
    ]
    return [*own, *routes, *others]


class Probe:
    """The detector's process, as a context manager."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._command = [
            *(sys.executable, "-m", "ovs_highway.bench.detector_probe"),
            *(f"unix:{sandbox.rundir / BRIDGE}.mgmt", str(PORTS)),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, word: str) -> dict[str, Any]:
        """Send a word and return the answer.

        Raises:
            SandboxError: the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SandboxError("the detector's process has ended; see above")
        found: dict[str, Any] = json.loads(line)
        return found


def run(*, flows: int, runs: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what is written as JSON.

    Raises:
        SandboxError: something does not do what it should.
    """
    facts = machine.gather()
    syncs: list[dict[str, Any]] = []
    with Sandbox(highwayd=False, other_config={"pmd-maxsleep": "500"}) as sandbox:
        sandbox.add_bridge(BRIDGE)
        for number in range(1, PORTS + 1):
            sandbox.add_port(BRIDGE, f"p{number}", number, queues=1, ring_size=512)
        with Controller(sandbox.rundir, BRIDGE) as controller:
            with Probe(sandbox) as probe:
                empty = probe.ask("sync")["mib"]
            rules = table(flows)
            for start in range(0, len(rules), _BATCH):
                controller.send(*rules[start : start + _BATCH])
                controller.barrier()
            for number in range(runs):
                with Probe(sandbox) as probe:
                    syncs.append(probe.ask("sync"))
                    _check(probe, syncs[-1]["flows"], flows)
                tell(f"sync {number + 1}: {syncs[-1]['sync_s']:.2f} s, {syncs[-1]['mib']:.0f} MiB")
            with Probe(sandbox) as probe:
                probe.ask("sync")
                paced = _pace(probe, controller)
                _check(probe, flows, flows)
                with contextlib.ExitStack() as stack:
                    more = [
                        stack.enter_context(Controller(sandbox.rundir, BRIDGE))
                        for _ in range(_CONTROLLERS)
                    ]
                    rate = _sustain(probe, more, tell)
    found = [one["sync_s"] for one in syncs]
    return {
        "machine": facts.json(),
        "flows": flows,
        "ports": PORTS,
        "sync_100k_s": round(sorted(found)[len(found) // 2], 3),
        "sync_100k_mib": round(max(one["mib"] for one in syncs), 1),
        "empty_mib": round(empty, 1),
        "sync_s": [round(one, 3) for one in found],
        **rate,
        **paced,
    }


def _check(probe: Probe, there: int, flows: int) -> None:
    if there != flows:
        raise SandboxError(f"the detector follows {there} flows, not {flows}")
    for number in range(1, PORTS + 1):
        peer = probe.ask(f"verdict p{number}")["peer"]
        if peer != f"p{number % PORTS + 1}":
            raise SandboxError(f"p{number} is not proven to be p-2-p: {peer}")


def _toggles(count: int) -> list[Rule]:
    """Return flows that each take one port's proof away while they are there."""
    return [
        Rule(in_port=n % PORTS + 1, udp_dst=n // PORTS % 65536, priority=2000) for n in range(count)
    ]


def _sustain(
    probe: Probe, controllers: Sequence[Controller], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Send flowmods at rising rates, until they come faster than they are followed.

    OVS takes 50 messages of a controller at a time, so there are several of them. A rate is
    sustained if OVS never had to pause the monitor, for the detector did not read fast enough, and
    nothing was left to be read soon after the last.
    """
    samples: list[dict[str, Any]] = []
    for rate in _RATES:
        rules, piece = _toggles(rate * _SUSTAINED_S // 2), rate // _SLICES_PER_S
        before, start = probe.ask("count"), time.monotonic()
        for command in (ADD, DELETE_STRICT):
            for number, first in enumerate(range(0, len(rules), piece)):
                done = first + (len(rules) if command else 0)
                time.sleep(max(0.0, start + done / rate - time.monotonic()))
                turn = controllers[number % len(controllers)]
                turn.send(*rules[first : first + piece], command=command)
            for controller in controllers:
                controller.barrier()
        took = time.monotonic() - start
        time.sleep(_LEFT_S)
        after = probe.ask("count")
        events = after["events"] - before["events"]
        sample = {
            "asked_per_s": rate,
            "offered_per_s": round(2 * len(rules) / took),
            "detector_core_share": round((after["cpu_s"] - before["cpu_s"]) / (took + _LEFT_S), 3),
            "sustained": events == 2 * len(rules) and after["pauses"] == before["pauses"],
        }
        samples.append(sample)
        tell(f"flowmods: {sample}")
        if not sample["sustained"]:
            break
    good = [one["offered_per_s"] for one in samples if one["sustained"]]
    return {"flowmods_per_s": max(good, default=0), "flowmods": samples}


def _pace(probe: Probe, controller: Controller) -> dict[str, Any]:
    """Send flowmods at a rate, each with the time of its sending as its cookie."""
    probe.ask("decisions")
    start = time.monotonic() + 0.2
    for number in range(_DECIDED):
        time.sleep(max(0.0, start + number / RATE - time.monotonic()))
        port, odd = number % PORTS + 1, number // PORTS % 2
        rule = Rule(
            in_port=port,
            udp_dst=_BASE + port,
            priority=2000,
            cookie=time.monotonic_ns(),
            outputs=(port % PORTS + 1,) if odd else (),
        )
        controller.send(rule)
    controller.barrier()
    took = time.monotonic() - start
    time.sleep(0.5)
    found = probe.ask("decisions")
    if len(found["decide_ms"]) != _DECIDED:
        raise SandboxError(f"{len(found['decide_ms'])} of {_DECIDED} flowmods were seen")
    for number in range(PORTS):
        port = number + 1
        controller.send(
            Rule(in_port=port, udp_dst=_BASE + port, priority=2000), command=DELETE_STRICT
        )
    controller.barrier()
    time.sleep(0.2)
    return {
        "decision_p50_ms": round(percentile(found["decide_ms"], 50), 4),
        "decision_p99_ms": round(percentile(found["decide_ms"], 99), 4),
        "flowmod_to_decision_p50_ms": round(percentile(found["flowmod_ms"], 50), 3),
        "flowmod_to_decision_p99_ms": round(percentile(found["flowmod_ms"], 99), 3),
        "rate_per_s": round(_DECIDED / took),
    }
