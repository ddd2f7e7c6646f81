# SPDX-License-Identifier: Apache-2.0
"""`highway bench vm`: how long a link between two VMs takes, and what it carries.

Two guests of `make guest-image`, one port each. For the times, p1 sends numbered packets at a low
rate, and the link is forbidden and allowed by turns. For the rates, an unmodified testpmd sends
64-byte packets as fast as it can, over the bypass and through the switch by turns.
"""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import paths
from ovs_highway.bench import machine
from ovs_highway.bench.command import highway
from ovs_highway.bench.stats import percentile, ratio, summarize
from ovs_highway.errors import SandboxError
from ovs_highway.lab import Sandbox
from ovs_highway.lab.process import wait_until
from ovs_highway.lab.vm import GuestTestPmd, GuestTraffic, Vm, accelerator, vm_options
from ovs_highway.region import open_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BRIDGE: Final = "br0"
RATE: Final = 200
IDLE: Final = "idle=sleep"
PATIENCE: Final = 30.0
MIN_LINKS: Final = 30
_SEEN: Final = re.compile(r"seen after (\d+) us, mapped in (\d+) us")
_POLL: Final = 0.001
_SETTLE: Final = 0.3


class Bench:
    """Two VMs on one switch."""

    def __init__(self, sandbox: Sandbox, vms: list[Vm], tell: Callable[[str], None]) -> None:
        self._sandbox, self._vms, self._tell = sandbox, vms, tell

    def _events(self) -> list[dict[str, Any]]:
        text = highway(self._sandbox, "events", "--format", "json")
        return [json.loads(line) for line in text.splitlines()]

    def _trust(self, label: str) -> None:
        setting = f"external_ids:highway-trust={label}"
        # What is proven to be point-to-point needs no label.
        detector = ("--", "set", "Open_vSwitch", ".", "external_ids:highway-detector=off")
        self._sandbox.vsctl("--no-wait", "set", "Interface", "p1", setting, *detector)

    def _devices(self) -> int:
        found = json.loads(highway(self._sandbox, "vm", "list", "--format", "json"))
        return sum(dev["kind"] == "link" for one in found for dev in one["devices"])

    @contextlib.contextmanager
    def _received(self) -> Iterator[Callable[[], tuple[int, int]]]:
        """Give a function that reads what p2 has received: over the bypass, and in all."""
        regions, _ = open_ports(paths.region_tag(self._sandbox.rundir))
        with contextlib.ExitStack() as stack:
            for region in regions.values():
                stack.enter_context(region)
            stats = regions["p2"].raw.queue_stats[0]

            def read() -> tuple[int, int]:
                bypass = int(stats.rx_bypass_packets)
                return bypass, bypass + int(stats.rx_normal_packets)

            yield read

    def set_up(self, links: int) -> list[dict[str, float]]:
        """Make a link so many times; return the parts of each set-up, in ms."""
        env = self._sandbox.env
        with (
            GuestTraffic(self._vms[0], devargs=IDLE, env=env) as source,
            GuestTraffic(self._vms[1], devargs=IDLE, env=env) as sink,
        ):
            for program in (source, sink):
                program.define("udp=1000")
                program.wait_link_up(timeout=PATIENCE)
            source.send(0, classes=[0], rate=RATE)
            with self._received() as received:
                self._await(lambda: received()[0] > 0, "the first link")
                found = []
                for number in range(links):
                    found.append(self._once(received))
                    self._tell(f"link {number + 1}: {found[-1]['total_ms']:.1f} ms")
            source.stop(0)
        return found

    def _once(self, received: Callable[[], tuple[int, int]]) -> dict[str, float]:
        self._trust("nobody")
        self._await(lambda: self._devices() == 0, "the link is unplugged")
        time.sleep(_SETTLE)
        before, seen = received()[0], len(self._events())
        self._trust("sandbox")
        if not wait_until(lambda: received()[0] > before, PATIENCE, interval=_POLL):
            raise SandboxError("the link is not used again; see the logs")
        first = time.time()
        return parts(self._events()[seen:], first)

    def rates(self, seconds: float, rounds: int) -> dict[str, list[float]]:
        """Return Mpps at the receiver over the bypass and through the switch, by turns."""
        env = self._sandbox.env
        found: dict[str, list[float]] = {"bypass": [], "switch": []}
        with (
            GuestTestPmd(self._vms[1], devargs="idle=yield", forward="rxonly", env=env) as sink,
            GuestTestPmd(self._vms[0], devargs="idle=yield", forward="txonly", env=env) as source,
            self._received() as received,
        ):
            for vnf in (sink, source):
                vnf.wait_link_up(timeout=PATIENCE)
                vnf.start()
            for number in range(rounds):
                for name, command in (("bypass", "on"), ("switch", "off")):
                    highway(self._sandbox, command, "p1")
                    self._await_path(received, bypass=name == "bypass")
                    began, count = time.monotonic(), received()[1]
                    time.sleep(seconds)
                    rate = (received()[1] - count) / (time.monotonic() - began) / 1e6
                    found[name].append(rate)
                    self._tell(f"round {number + 1}: {name} {rate:.3f} Mpps")
            highway(self._sandbox, "on", "p1")
            source.stop()
        return found

    def _await_path(self, received: Callable[[], tuple[int, int]], *, bypass: bool) -> None:
        def right() -> bool:
            before = received()
            time.sleep(0.2)
            after = received()
            grown = after[0] > before[0]
            return grown == bypass and after[1] > before[1]

        self._await(right, "traffic takes the wanted path")

    @staticmethod
    def _await(check: Callable[[], bool], what: str) -> None:
        if not wait_until(check, PATIENCE, interval=0.05):
            raise SandboxError(f"not within {PATIENCE:.0f} s: {what}; see the logs")


def label(accel: str) -> str:
    """Say what rates and times of guests with this accelerator are worth."""
    return "functional: TCG guests, speed means nothing" if accel == "tcg" else "measured"


def parts(events: list[dict[str, Any]], first: float) -> dict[str, float]:
    """Return the parts of one link's set-up, in ms.

    Args:
        events: those of the set-up, in their order.
        first: when the first packet was seen to have come over the bypass, seconds since the epoch.
    """
    made = next(e["time"] for e in events if e.get("phase") == "region made")
    active = next(e["time"] for e in events if e.get("phase") == "active")
    plugs = [e for e in events if e["kind"] == "vm" and e.get("what") == "plugged"]
    plugged = max(e["time"] for e in plugs)
    seen, mapped = 0.0, 0.0
    for event in events:
        if (match := _SEEN.search(event["text"])) is not None:
            seen = max(seen, int(match[1]) / 1000)
            mapped = max(mapped, int(match[2]) / 1000)
    total = (active - made) * 1000
    qmp = (plugged - made) * 1000
    return {
        "total_ms": total,
        "qmp_ms": qmp,
        "guest_pci_ms": seen,
        "map_ms": mapped,
        "handshake_ms": max(0.0, total - qmp - seen - mapped),
        "first_packet_ms": (first - made) * 1000,
    }


def run(*, links: int, seconds: float, rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what is written as JSON.

    Raises:
        SandboxError: something does not do what it should.
    """
    facts = machine.gather()
    accel = accelerator()
    config = {"pmd-maxsleep": "500"}
    with Sandbox(other_config=config) as sandbox, contextlib.ExitStack() as stack:
        sandbox.add_bridge(BRIDGE)
        for number in (1, 2):
            sandbox.add_port(BRIDGE, f"p{number}", number)
        # A link is to come and go with p1's trust label, not with the proof.
        sandbox.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-detector=off")
        sandbox.ofctl("add-flow", BRIDGE, "in_port=1,actions=2")
        vms = [
            stack.enter_context(
                Vm(
                    f"vm{number}",
                    options=vm_options(sandbox, f"vm{number}", f"p{number}"),
                    directory=sandbox.rundir,
                    accel=accel,
                    env=sandbox.env,
                )
            )
            for number in (1, 2)
        ]
        bench = Bench(sandbox, vms, tell)
        samples = bench.set_up(links)
        rates = bench.rates(seconds, rounds)
    names = samples[0].keys()
    columns = {name: [sample[name] for sample in samples] for name in names}
    bypass, switch = (summarize(rates[name]) for name in ("bypass", "switch"))
    return {
        "machine": facts.json(),
        "accelerator": accel,
        "label": label(accel),
        "machine_type": "pc",
        "links": len(samples),
        "set_up": {
            name: {
                "p50": round(statistics.median(values), 2),
                "p99": round(percentile(values, 99), 2),
                "values": [round(value, 2) for value in values],
            }
            for name, values in columns.items()
        },
        "mpps": {"bypass": asdict(bypass), "switch": asdict(switch)},
        "ratio_bypass_switch": ratio(bypass.median, switch.median),
    }
