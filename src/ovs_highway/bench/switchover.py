# SPDX-License-Identifier: Apache-2.0
"""`highway bench switchover`: classes of traffic change channel under full load, over and over.

Two ports send to each other, in four classes on two queues each, and now and then to a third one,
all of them in one `traffic` program on one core. Meanwhile flows are added, removed, modified and
redirected, and gates opened and closed. Every packet is numbered and checked. No more packets are
under way than a ring holds, so Open vSwitch has no reason to drop any, and what is missing is lost.

The same is then done with `unordered=1`, an option of the driver that leaves the marks out which
keep the order: there the test has to find packets that were overtaken.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import paths
from ovs_highway.bench import machine
from ovs_highway.errors import SandboxError, SetupError
from ovs_highway.lab import Sandbox, Traffic, judge
from ovs_highway.lab.churn import Churn, Route
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovs_highway.lab.traffic import TrafficStats, Verdict

BRIDGE: Final = "br0"
PORTS: Final = ("p1", "p2", "p3")
CLASSES: Final = ("udp=1000", "udp=1001", "tcp=80", "vlan=5+udp=1000")
ROUTES: Final = (Route(source=1, target=2, detour=3), Route(source=2, target=1, detour=3))
QUEUES: Final = 2
RING: Final = 2048
WINDOW: Final = 512
"""Packets of one queue that may be under way at once."""
SIZES: Final = "64,64,64,64-1514"
FLOWS: Final = 0.1
"""The share of changes that are made by flows; the others are made by gates."""
PAUSE: Final = 0.02
SLOWEST: Final = 100_000
"""Packets per second; a run that takes longer is given up."""
STALLED: Final = 20.0
PATIENCE: Final = 5.0
COVERAGE_LATE: Final = 2.5
"""Seconds after which OVS's coverage counters hold what a thread has counted."""
NAIVE_SHARE: Final = 10
"""The naive run is so many times shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """How many packets, and how many changes of channel of each kind, a run has at least."""

    packets: int
    switchovers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run: the verdict on all packets, and how often queues have changed channel."""

    verdict: Verdict
    to_bypass: int
    to_normal: int
    bypass_packets: int
    links_closed: int
    abandoned: int
    switch_drops: int
    seconds: float
    changes: dict[str, int]
    notes: tuple[str, ...]
    command_line: str

    def json(self) -> dict[str, Any]:
        """Return the run as the JSON file has it; what the switch has dropped is not in `lost`."""
        v = self.verdict
        return {
            "switchovers": self.to_bypass + self.to_normal,
            "to_bypass": self.to_bypass,
            "to_normal": self.to_normal,
            "packets": v.packets,
            "lost": v.lost - self.switch_drops,
            "doubled": v.doubled,
            "reordered": v.reordered,
            "refused": v.refused,
            "longest_gap_us": v.longest_gap_us,
            "misdirected": v.misdirected,
            "corrupt": v.corrupt + v.foreign + v.bad_mbuf,
            "links_closed": self.links_closed,
            "abandoned": self.abandoned,
            "switch_drops": self.switch_drops,
            "bypass_packets": self.bypass_packets,
            "normal_packets": v.packets - self.bypass_packets,
            "seconds": self.seconds,
            "changes": self.changes,
            "notes": list(self.notes),
            "command_line": self.command_line,
        }


def switch_drops(sandbox: Sandbox, bridge: str = BRIDGE) -> int:
    """Return how many packets the switch has dropped and counted, at its ports and elsewhere."""
    ports = sandbox.ofctl("dump-ports", bridge)
    coverage = sandbox.appctl("coverage/show")
    counts = re.findall(r"drop=(\d+)", ports)
    counts += re.findall(r"^datapath_drop_\w+ .*total: (\d+)", coverage, re.MULTILINE)
    return sum(map(int, counts))


def drops_since(sandbox: Sandbox, before: int, lost: int, bridge: str = BRIDGE) -> int:
    """Return what the switch has dropped since, and counted: up to as many as were lost.

    A thread of OVS adds its coverage counters to the total once a second only.
    """
    dropped = [0]

    def accounted_for() -> bool:
        dropped[0] = switch_drops(sandbox, bridge) - before
        return dropped[0] >= lost

    wait_until(accounted_for, COVERAGE_LATE, interval=0.1)
    return dropped[0]


def await_switch(sandbox: Sandbox, *ports: str) -> None:
    """Wait until the switch, too, sees that there are VNFs at its ports.

    Raises:
        SandboxError: it does not.
    """
    for port in ports:
        sandbox.vsctl("wait-until", "Interface", port, "link_state=up")


def settled(*programs: Traffic) -> tuple[TrafficStats, ...]:
    """Stop all senders, and return the programs' statistics once nothing more arrives."""
    for program in programs:
        for port in range(program.n_ports):
            program.stop(port)
    seen: list[tuple[TrafficStats, ...]] = []

    def quiet() -> bool:
        seen.append(tuple(program.stats() for program in programs))
        if judge(seen[-1]).lost == 0:
            return True
        time.sleep(0.1)
        arrived = [judge(stats).received for stats in seen[-5:]]
        return len(arrived) == 5 and len(set(arrived)) == 1

    wait_until(quiet, PATIENCE)
    return seen[-1]


def run_once(
    sandbox: Sandbox, goal: Goal, *, ordered: bool, seed: int, tell: Callable[[str], None]
) -> Outcome:
    """Change channels until a goal is reached.

    Raises:
        SandboxError: it is not reached, or a program does not do what it should.
    """
    devargs = "idle=yield" if ordered else "idle=yield,unordered=1"
    name = "ordered" if ordered else "naive"
    with Traffic(
        name, PORTS, queues=[(QUEUES, QUEUES)], devargs=devargs, env=sandbox.env
    ) as traffic:
        traffic.define(*CLASSES)
        traffic.wait_link_up()
        await_switch(sandbox, *PORTS)
        dropped = switch_drops(sandbox)
        with Churn(
            sandbox, BRIDGE, routes=ROUTES, classes=CLASSES, ports=PORTS[:2], seed=seed
        ) as churn:
            began = time.monotonic()
            for port in range(len(ROUTES)):
                traffic.send(port, classes=range(len(CLASSES)), sizes=SIZES, window=WINDOW)
            _churn(traffic, churn, goal, deadline=began + 60 + goal.packets / SLOWEST, tell=tell)
            seconds = time.monotonic() - began
            churn.settle()
            (stats,) = settled(traffic)
            changes = dict(sorted(churn.changes.items()))
        found, verdict = counts(traffic), judge([stats])
        return Outcome(
            verdict=verdict,
            to_bypass=found["bypass_enters"],
            to_normal=found["bypass_leaves"],
            bypass_packets=found["tx_bypass_packets"],
            links_closed=found["links_closed_errors"],
            abandoned=found["bypass_abandoned_packets"],
            switch_drops=drops_since(sandbox, dropped, verdict.lost),
            seconds=seconds,
            changes=changes,
            notes=stats.notes,
            command_line=" ".join(traffic.command_line).replace(f"{paths.checkout()}/", ""),
        )


def _churn(
    traffic: Traffic, churn: Churn, goal: Goal, *, deadline: float, tell: Callable[[str], None]
) -> None:
    began = told = time.monotonic()
    while True:
        if churn.random.random() < FLOWS:
            churn.flip_flow()
        else:
            churn.flip_gate()
        time.sleep(churn.random.uniform(0, PAUSE))
        now = time.monotonic()
        if now < told:
            continue
        told = now + 2
        found, verdict = counts(traffic), judge([traffic.stats()])
        enters, leaves = found["bypass_enters"], found["bypass_leaves"]
        tell(f"{verdict.received:,} packets, {enters} changes to the bypass and {leaves} from it")
        if verdict.packets >= goal.packets and min(enters, leaves) >= goal.switchovers:
            return
        if now > deadline or (min(enters, leaves) == 0 and now > began + STALLED):
            raise SandboxError(
                f"only {verdict.received} packets and {enters} + {leaves} changes so far; ask for"
                f" less, or see {traffic.log}"
            )


def counts(traffic: Traffic) -> Counter[str]:
    """Return the sums of the driver's extended statistics over all ports of a program."""
    total: Counter[str] = Counter()
    for port in range(traffic.n_ports):
        total.update(traffic.xstats(port))
    return total


def run(
    *,
    packets: int,
    switchovers: int,
    seed: int,
    naive: bool = True,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Run the test as it is and, with `naive`, without order; return what the JSON file has.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: a program does not do what it should.
    """
    facts = machine.gather()
    placement = machine.place(facts.cores)
    if placement is None:
        raise SetupError("this benchmark needs two cores; run it where there are that many")
    goals = {"ordered": Goal(packets=packets, switchovers=switchovers)}
    if naive:
        goals["naive"] = Goal(
            packets=packets // NAIVE_SHARE, switchovers=max(1, switchovers // NAIVE_SHARE)
        )
    found: dict[str, dict[str, Any]] = {}
    with Sandbox(pmd_cpu_mask=f"{1 << placement.second:x}") as sandbox:
        for name, goal in goals.items():
            sandbox.add_bridge(BRIDGE)
            sandbox.ofctl("del-flows", BRIDGE)
            for number, port in enumerate(PORTS, 1):
                sandbox.add_port(BRIDGE, port, number, queues=QUEUES, ring_size=RING)
            outcome = run_once(
                sandbox,
                goal,
                ordered=name == "ordered",
                seed=seed,
                tell=lambda text, name=name: tell(f"{name}: {text}"),  # type: ignore[misc]
            )
            found[name] = outcome.json()
            sandbox.vsctl("del-br", BRIDGE)
    return {
        **found["ordered"],
        "naive": found.get("naive"),
        "benchmark": "switchover",
        "seed": seed,
        "classes": list(CLASSES),
        "queues": QUEUES,
        "ring_size": RING,
        "window": WINDOW,
        "packet_bytes": SIZES,
        "cores": {"traffic": placement.first, "switch": placement.second},
        "machine": facts.json(),
    }


def faults(result: dict[str, Any]) -> list[str]:
    """Return what a result shows that must not be; empty if all is well."""
    found = [
        f"{result[key]} packets {key}"
        for key in ("lost", "doubled", "reordered", "misdirected", "corrupt", "abandoned")
        if result[key] != 0
    ]
    if result["links_closed"]:
        found.append(f"{result['links_closed']} links closed")
    naive = result["naive"]
    if naive is not None and naive["reordered"] == 0:
        found.append("without marks no packet was reordered: the test sees nothing")
    return found
