# SPDX-License-Identifier: Apache-2.0
"""`highway bench latency`: how long frames are under way, over the highway and as without it.

*Pinned*: one VNF that has a core to itself sends from one of its ports to the other, at shares of
what each way can carry and at one rate for all. *Shared*: the same VNF is the first and the last of
a chain of 2 to 8 on one core, so that what is measured is above all how long each waits for its
turn. The pinned case of chains is modelled from the pinned hop.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import machine, sample, testbed, threads
from ovs_highway.bench.lengths import DIRECT, TRADITIONAL
from ovs_highway.bench.wiring import LATENCY, SIZE, WAYS, Vnf, Wiring
from ovs_highway.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ovs_highway.bench.machine import Machine, Placement
    from ovs_highway.bench.wiring import Running
    from ovs_highway.lab.latency import Times

LENGTHS: Final = tuple(range(2, 9))
LOADS: Final = (10, 50, 90)
"""Percent of what a way can carry."""
COMMON_RATE: Final = 100_000
SHARED_RATE: Final = 1_000
"""Frames per second; so few that also VNFs which keep their core when idle can carry them."""
PERCENTILES: Final = (50, 99, 99.9)
PATHS: Final = {"one_way": False, "round_trip": True}
_WARM_UP: Final = 1.0
_TRIES: Final = 5


def wire(length: int, core: int) -> tuple[list[Vnf], list[tuple[str, str]]]:
    """Return the VNFs of a chain whose first and last are one program, and its hops.

    Raises:
        ValueError: a chain has two ends at least.
    """
    if length < 2:
        raise ValueError(f"a chain of {length} has no two ends")
    vnfs = [Vnf(name="ends", ports=("v1r", f"v{length}l"), core=core, forward=LATENCY)]
    vnfs += [Vnf(name=f"vnf{n}", ports=(f"v{n}l", f"v{n}r"), core=core) for n in range(2, length)]
    return vnfs, [(f"v{n}r", f"v{n + 1}l") for n in range(1, length)]


def point(times: Times) -> dict[str, Any]:
    """Return one measurement as JSON has it; times in ns, the rate in frames per second."""
    found = {f"p{percent:g}_ns": times.percentile(percent) for percent in PERCENTILES}
    lost = times.sent - times.received
    return found | {
        "rate": times.rate,
        "sent": times.sent,
        "lost": lost,
        "refused": times.refused,
        "missed": times.missed,
    }


class Bench:
    """Measurements on one machine."""

    def __init__(self, placement: Placement, seconds: float) -> None:
        self._cores, self._seconds = placement, seconds
        self._sampler = sample.Sampler(seconds=seconds)

    def pinned(self, way: str) -> dict[str, Any]:
        """Measure one hop of a VNF that has its core to itself, at all loads and on both paths.

        Raises:
            SandboxError: something does not do what it should.
        """
        vnfs, hops = wire(2, self._cores.first)
        with (
            Wiring(self._cores, way=way, sampler=self._sampler, devargs="") as bed,
            bed.running(vnfs, hops, size=SIZE) as chain,
        ):
            self._begin(chain, direct=bed.way.offload)
            found: dict[str, Any] = {}
            for path, echo in PATHS.items():
                most = chain.probe.run(rate=0, seconds=self._seconds, size=SIZE, echo=echo).rate
                rates = {f"{load} %": most * load / 100 for load in LOADS}
                rates["common"] = COMMON_RATE
                found[path] = {"most": most} | {
                    name: point(
                        chain.probe.run(rate=rate, seconds=self._seconds, size=SIZE, echo=echo)
                    )
                    for name, rate in rates.items()
                }
            return found | {"command_lines": list(chain.command_lines)}

    def shared(self, way: str, length: int) -> dict[str, Any]:
        """Measure a chain on one core, on both paths, and how often its threads were switched.

        Raises:
            SandboxError: something does not do what it should.
        """
        vnfs, hops = wire(length, self._cores.first)
        with (
            Wiring(self._cores, way=way, sampler=self._sampler) as bed,
            bed.running(vnfs, hops, size=SIZE) as chain,
        ):
            self._begin(chain, direct=bed.way.offload)
            found: dict[str, Any] = {}
            for path, echo in PATHS.items():
                began, before = time.monotonic(), threads.switches(chain.pids)
                times = chain.probe.run(
                    rate=SHARED_RATE, seconds=self._seconds, size=SIZE, echo=echo
                )
                after, took = threads.switches(chain.pids), time.monotonic() - began
                found[path] = point(times) | {
                    "switches_per_s": sum(after.values()) / took - sum(before.values()) / took
                }
            return found | {"command_lines": list(chain.command_lines)}

    def _begin(self, chain: Running, *, direct: bool) -> None:
        """Let the chain run, until all that arrives has come the way that it is to come."""
        chain.begin()
        for _ in range(_TRIES):
            before = chain.strayed()
            warm = chain.probe.run(rate=SHARED_RATE, seconds=_WARM_UP, size=SIZE, echo=True)
            if warm.received and not (direct and chain.strayed() > before):
                return
        raise SandboxError(f"frames do not take the bypass: {chain.links()}")


def merge(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the medians of one point that was measured several times, with all values."""
    keys = [key for key in points[0] if key.endswith("_ns") or key in ("rate", "switches_per_s")]
    found: dict[str, Any] = {}
    for key in keys:
        values = [one[key] for one in points if one[key] is not None]
        found[key] = statistics.median(values) if values else None
        found[f"{key}_values"] = values
    return found | {
        key: [one[key] for one in points] for key in ("sent", "lost", "refused", "missed")
    }


def model(pinned: Mapping[str, Mapping[str, Any]], lengths: Sequence[int]) -> dict[str, Any]:
    """Return the one-way times of chains in which each VNF has its core, from one hop's.

    The hop is that at 10 % of what its way can carry.
    """
    hops = {way: found["one_way"]["10 %"]["p50_ns"] for way, found in pinned.items()}
    return {
        "label": "modelled",
        "p50_ns": {way: {str(n): (n - 1) * hop for n in lengths} for way, hop in hops.items()},
        "less": {way: 1 - hops[DIRECT] / hops[way] for way in TRADITIONAL if hops[way]},
    }


def report(
    *,
    pinned: Mapping[str, Sequence[Mapping[str, Any]]],
    shared: Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]],
    facts: Machine,
    placement: Placement,
    seconds: float,
) -> dict[str, Any]:
    """Return the results as the JSON file has them."""
    ways: dict[str, dict[str, Any]] = {}
    for way, rounds in pinned.items():
        by_path = {
            path: {"most": statistics.median(one[path]["most"] for one in rounds)}
            | {
                load: merge([one[path][load] for one in rounds])
                for load in rounds[0][path]
                if load != "most"
            }
            for path in PATHS
        }
        ways[way] = {
            "what": WAYS[way].what,
            "label": "measured",
            "pinned": by_path | {"command_lines": rounds[-1]["command_lines"]},
            "shared": {
                str(n): {path: merge([one[path] for one in kept]) for path in PATHS}
                | {"command_lines": kept[-1]["command_lines"]}
                for n, kept in shared[way].items()
            },
        }
    found = model({way: each["pinned"] for way, each in ways.items()}, LENGTHS)
    less = min(found["less"].values())
    return {
        "less_8": less,
        "benchmark": "latency",
        "rounds": len(pinned[DIRECT]),
        "seconds": seconds,
        "size": SIZE,
        "common_rate": COMMON_RATE,
        "shared_rate": SHARED_RATE,
        "ways": ways,
        "model": found,
        "notes": notes(placement),
        "cores": asdict(placement),
        "topology": machine.topology(facts.cores, placement.first, placement.switch),
        "machine": facts.json(),
    }


def notes(placement: Placement) -> list[str]:
    """Return what a reader of the figures has to know of how they were taken."""
    return [
        "a frame's time begins when it was due, so a sender that is held up hides nothing; it ends"
        " when the receiving burst returns; the first and the last VNF are one program and thread,"
        " so that one clock sees both ends",
        f"pinned: that program alone on core {placement.first}, the switch's polling thread alone"
        f" on core {placement.switch}; over the highway frames stay on the one core, and no cache"
        " line goes between cores: with VNFs on cores of their own each hop would cost that",
        f"shared: all VNFs on core {placement.first}, {SHARED_RATE} frames per second; idle=yield"
        " at our ports, which net_virtio_user has nothing like",
        f"times are the least of their bin, which is at most a 64th wide; {SIZE}-byte frames",
        "the model of pinned chains is so many times the pinned hop at 10 % load; it leaves out"
        " what VNFs between would take themselves",
        f"all polling threads run at niceness {sample.NICENESS}",
    ]


def run(
    *, lengths: Sequence[int], rounds: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measure; return what is written as JSON. The ways take turns at each length.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: something does not do what it should.
    """
    facts, placement = testbed.begin()
    bench = Bench(placement, seconds)
    pinned: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    shared: dict[str, dict[int, list[dict[str, Any]]]] = {
        way: {n: [] for n in lengths} for way in WAYS
    }
    for number in range(1, rounds + 1):
        for way in WAYS:
            pinned[way].append(bench.pinned(way))
            hop = pinned[way][-1]["one_way"]
            tell(
                f"round {number}: {way}, pinned: {hop['most'] / 1e6:.2f} Mpps at most, p50"
                f" {hop['10 %']['p50_ns']} ns at 10 %, {hop['90 %']['p50_ns']} ns at 90 %"
            )
        for n in lengths:
            for way in WAYS:
                shared[way][n].append(bench.shared(way, n))
                one = shared[way][n][-1]["one_way"]
                tell(f"round {number}: {way}, length {n}, shared: p50 {one['p50_ns']} ns")
    return report(pinned=pinned, shared=shared, facts=facts, placement=placement, seconds=seconds)
