# SPDX-License-Identifier: Apache-2.0
"""`highway bench setup`: how long after a flowmod the bypass is used, and is left, under traffic.

p1 sends numbered packets all the time; one flow from p1 drops them or outputs them to p2, by turns.
Before each set-up the link is removed, so that its memory is made and handed over as for the first
time. With and without the detector by turns.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import paths
from ovs_highway.bench import machine
from ovs_highway.bench.flowmods import Controller, Rule
from ovs_highway.bench.stats import percentile
from ovs_highway.errors import SandboxError
from ovs_highway.lab import Sandbox, Traffic
from ovs_highway.lab.process import wait_until
from ovs_highway.region import LinkRegion, open_links

if TYPE_CHECKING:
    from collections.abc import Callable

BRIDGE: Final = "br0"
RATE: Final = 5000
MIN_TRIES: Final = 50
_BLOCK: Final = 5
_POLL: Final = 0.0002
_QUIET: Final = 0.3
_RUN: Final = 0.3
_PATIENCE: Final = 30.0
_DROP: Final = Rule(in_port=1)
_FORWARD: Final = Rule(in_port=1, outputs=(2,))


@dataclass(slots=True)
class Times:
    """Milliseconds from a flowmod to the first packet from the bypass, and to the last."""

    setup: list[float] = field(default_factory=list)
    withdraw: list[float] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """Return percentiles and values."""
        return {
            f"{name}_p{percent}_ms": round(percentile(values, percent), 2)
            for name, values in (("setup", self.setup), ("withdraw", self.withdraw))
            for percent in (50, 99)
        } | {
            "setup_ms": [round(value, 2) for value in self.setup],
            "withdraw_ms": [round(value, 2) for value in self.withdraw],
        }


class Bench:
    """p1 and p2 on one switch, with traffic and a controller."""

    def __init__(self, sandbox: Sandbox, controller: Controller) -> None:
        self._sandbox, self._controller = sandbox, controller
        self._bypass = Bypass(sandbox)
        self._random = random.Random(1)

    def use_detector(self, *, on: bool) -> None:
        """Turn the detector on or off."""
        if on:
            self._sandbox.vsctl("remove", "Open_vSwitch", ".", "external_ids", "highway-detector")
        else:
            self._sandbox.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-detector=off")
        time.sleep(1.0)

    def once(self, times: Times) -> None:
        """Set a bypass up from nothing, and withdraw it."""
        self._no_link()
        time.sleep(self._random.uniform(0.1, 0.2))
        sent = time.monotonic()
        self._controller.send(_FORWARD)
        if not wait_until(lambda: self._bypass.packets() > 0, _PATIENCE, interval=_POLL):
            raise SandboxError("the bypass is not used; see the logs")
        times.setup.append((time.monotonic() - sent) * 1000)
        time.sleep(_RUN + self._random.uniform(0, 0.1))
        times.withdraw.append(self._withdraw())

    def _withdraw(self) -> float:
        """Return the milliseconds to the last packet from the bypass."""
        count, sent = self._bypass.packets(), time.monotonic()
        self._controller.send(_DROP)
        last = sent
        while (now := time.monotonic()) - last < _QUIET:
            if (there := self._bypass.packets()) != count:
                count, last = there, now
            if now - sent > _PATIENCE:
                raise SandboxError("the bypass is not left; see the logs")
            time.sleep(_POLL)
        return (last - sent) * 1000

    def _no_link(self) -> None:
        """Have the link removed, which would otherwise be kept for a while."""
        self._controller.send(_DROP)
        self._controller.barrier()
        self._trust("nobody")
        gone = wait_until(lambda: not self._links(), _PATIENCE, interval=0.01)
        if not gone:
            raise SandboxError("the link is not removed; see the logs")
        self._bypass.forget()
        self._trust("sandbox")

    def _trust(self, label: str) -> None:
        self._sandbox.vsctl("set", "Interface", "p1", f"external_ids:highway-trust={label}")

    def _links(self) -> bool:
        return any("-link-" in path.name for path in paths.region_files(self._sandbox.rundir))


class Bypass:
    """What p2 has taken from the bypass ring that p1 fills, of whichever link there is."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._tag = paths.region_tag(sandbox.rundir)
        self._link: LinkRegion | None = None

    def forget(self) -> None:
        """The link is removed."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def packets(self) -> int:
        """Return the packets so far; a first mark in front of them is not counted."""
        if self._link is None:
            links, _ = open_links(self._tag)
            if not links:
                return 0
            self._link = links[0]
        end = self._link.names.index("p1")
        return max(0, self._link.consumed(end) - 1)


def run(*, tries: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what is written as JSON.

    Raises:
        SandboxError: something does not do what it should.
    """
    facts = machine.gather()
    found = {"with": Times(), "without": Times()}
    with Sandbox(other_config={"pmd-maxsleep": "200"}) as sandbox:
        sandbox.add_bridge(BRIDGE)
        for number in (1, 2):
            sandbox.add_port(BRIDGE, f"p{number}", number)
        with (
            Controller(sandbox.rundir, BRIDGE) as controller,
            Traffic("traffic", ["p1", "p2"], devargs="idle=yield", env=sandbox.env) as traffic,
        ):
            controller.send(_DROP)
            traffic.define("udp=1000")
            traffic.wait_link_up()
            traffic.send(0, classes=[0], rate=RATE)
            bench = Bench(sandbox, controller)
            while len(found["without"].setup) < tries:
                for name, times in found.items():
                    bench.use_detector(on=name == "with")
                    for _ in range(_BLOCK):
                        bench.once(times)
                    tell(
                        f"{name} the detector, {len(times.setup)}: set-up"
                        f" {times.setup[-1]:.1f} ms, withdrawal {times.withdraw[-1]:.1f} ms"
                    )
            traffic.stop(0)
    return {
        "machine": facts.json(),
        "tries": len(found["with"].setup),
        "rate_pps": RATE,
        **found["with"].json(),
        "without_detector": found["without"].json(),
    }
