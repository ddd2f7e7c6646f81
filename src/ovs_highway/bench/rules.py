# SPDX-License-Identifier: Apache-2.0
"""`highway bench rules`: what it costs to tell apart packets of many rules, of 1 to 8 masks.

The same 1,000 frames are sent in turn in every case, so that nothing but the rules differs. With
n rules each is hit by 1,000 / n of the frames. A rule comes from an OpenFlow rule, and flows of
several masks from OpenFlow rules that match more and more fields, which are the same in all frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import paths
from ovs_highway.bench import path, stats, testbed
from ovs_highway.bench.path import PATIENCE, RECEIVER, SENDER, Path, PathSample
from ovs_highway.errors import SandboxError
from ovs_highway.lab.gauge import NOWHERE
from ovs_highway.lab.process import wait_until
from ovs_highway.region import open_ports
from ovs_highway.shm import ffi

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovs_highway.bench.schedule import Results, Turn

FRAMES: Final = 1000
ROOM: Final = 1024
"""The port option `rules`."""
MOST_MASKS: Final = 8
_FIRST_PORT: Final = 1000
_MORE_FIELDS: Final = (
    "nw_dst=198.18.0.2",
    "nw_src=198.18.0.1",
    "nw_ttl=64",
    "nw_tos=0",
    "dl_dst=02:00:00:00:00:02",
    "dl_src=02:00:00:00:00:01",
)
"""One more for each mask up to the seventh; the eighth has bits of the other UDP port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """So many rules of so many masks."""

    rules: int
    masks: int = 1

    @property
    def name(self) -> str:
        """What it is called in results."""
        masks = f", {self.masks} masks" if self.masks > 1 else ""
        return f"{self.rules} rule{'s' if self.rules != 1 else ''}{masks}"


CASES: Final = (
    Case(rules=0),
    Case(rules=1),
    Case(rules=10),
    Case(rules=10, masks=8),
    Case(rules=100),
    Case(rules=100, masks=8),
    Case(rules=1000),
    Case(rules=1000, masks=2),
    Case(rules=1000, masks=4),
    Case(rules=1000, masks=8),
)
NOTES: Final = (
    "0 rules: OVS drops all; over the normal channel, and what is measured is the sender",
    "0 rules: the sender is on the receiver's core, since the switch polls on the other one",
)


def flows(case: Case) -> list[str]:
    """Return OpenFlow rules that match each of the frames of `gauge` (frames.c) once."""
    if case.rules == 0:
        return ["in_port=1,actions=drop"]
    if case.rules == 1:
        return ["in_port=1,actions=output:2"]
    found = []
    for number in range(case.rules):
        mask = number % case.masks
        fields = ["in_port=1", "udp", *_MORE_FIELDS[:mask]]
        if case.rules == FRAMES:
            fields.append(f"tp_dst={_FIRST_PORT + number}")
            other = "tp_src=0/0x80f0"
        elif case.rules == 100:
            fields.append(f"tp_src={number + 1 << 8:#x}/0xff00")
            other = "tp_dst=0/0xf800"
        else:
            fields.append(f"tp_src={number + 1:#x}/0xff")
            other = "tp_dst=0/0xf800"
        if mask == MOST_MASKS - 1:
            fields.append(other)
        # From high to low: on its way to a rule OVS meets only rules that match fewer fields.
        found.append(f"priority={100 - mask},{','.join(fields)},actions=output:2")
    return found


def figures(results: Results[PathSample]) -> dict[str, float | None]:
    """Return cycles per packet, and those with 1,000 rules as a multiple of those with one."""
    found: dict[str, float | None] = {}
    for case in CASES:
        key = f"{case.rules}" if case.masks == 1 else f"{case.rules}_masks_{case.masks}"
        found[f"tx_{key}"] = path.median(results, case.name, lambda each: each.tx)
    one = path.median(results, Case(rules=1).name, _both)
    for case in CASES:
        if case.rules == FRAMES:
            many = path.median(results, case.name, _both)
            key = "" if case.masks == 1 else f"_masks_{case.masks}"
            found[f"ratio_{case.rules}{key}"] = stats.ratio(many, one)
    return found


def _both(each: PathSample) -> float:
    return each.tx + each.rx


def _in_force(bench: Path) -> tuple[int, int]:
    """Return how many rules the sender has in force, and of how many masks."""
    ports, _ = open_ports(paths.region_tag(bench.sandbox.rundir))
    try:
        live = [rule for rule in ports[SENDER].rules() if rule.live]
        return len(live), len({bytes(ffi.buffer(rule.mask)) for rule in live})
    finally:
        for port in ports.values():
            port.close()


def _once(bench: Path, case: Case) -> PathSample:
    bench.set_flows()
    # Datapath flows would be kept if they are narrower than they have to be.
    bench.sandbox.appctl("revalidator/purge")
    if not wait_until(lambda: _in_force(bench)[0] == 0, PATIENCE, interval=0.05):
        raise SandboxError("OVS keeps the flows of the case before; see its log")
    bench.set_flows(*flows(case))
    with bench.gauge(swap=case.rules == 0) as gauge:
        if case.rules == 0:
            gauge.run(to=NOWHERE, seconds=0.1, classes=FRAMES)
            return bench.take(gauge, to=NOWHERE, classes=FRAMES, facts={"rules": 0, "masks": 0})
        bench.await_bypass(gauge, classes=FRAMES)
        rules, masks = _in_force(bench)
        if rules != case.rules:
            raise SandboxError(f"{rules} rules are in force instead of {case.rules}")
        return bench.take(gauge, classes=FRAMES, facts={"rules": rules, "masks": masks})


def run(*, rounds: int, seconds: float, tell: Callable[[Turn, PathSample], None]) -> dict[str, Any]:
    """Measure, and return the results as the JSON file has them.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: a program does not do what it should.
    """
    facts, placement = testbed.begin()
    with Path(placement, seconds=seconds) as bench:
        bench.add_ports(SENDER, RECEIVER, rules=ROOM)
        return path.compare(
            "rules",
            bench,
            {case.name: partial(_once, bench, case) for case in CASES},
            figures,
            facts=facts,
            rounds=rounds,
            tell=tell,
            notes=NOTES,
        )
