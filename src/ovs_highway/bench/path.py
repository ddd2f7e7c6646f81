# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of the hot path share: ports of a switch, `gauge` at them, and the report.

One core sends, another receives, both in one `gauge` and each with a pool of mbufs of its own.
What counts are cycles per packet in the driver's burst calls: at the sender those of calls that
took all packets, at the receiver those of calls that found some. To wait for the other side is the
cost of no packet.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import machine, sample, stats, threads
from ovs_highway.bench.sample import FAR, NICENESS, Sample
from ovs_highway.bench.schedule import measure
from ovs_highway.bench.testbed import BRIDGE, Testbed, sleeping
from ovs_highway.errors import SandboxError
from ovs_highway.lab import Gauge
from ovs_highway.lab.gauge import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ovs_highway.bench.machine import Machine, Placement
    from ovs_highway.bench.schedule import Results, Turn
    from ovs_highway.lab.gauge import Measured

SENDER: Final = "tx"
RECEIVER: Final = "rx"
RING: Final = 2048
PACKET: Final = 64
MORE_ROUNDS: Final = 2
"""Rounds in which samples that tell nothing are taken again, as a multiple of those asked for."""
_SETTLE: Final = 0.1
_PAUSE: Final = 0.1
PATIENCE: Final = 40.0
_MAX_IDLE_MS: Final = 600_000
"""Else OVS forgets flows while a bench waits for its cores."""
_PROBE_PAUSE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSample(Sample):
    """One measurement by `gauge`.

    `strays` are packets that did not take the channel that was to be measured, `facts` is what else
    is to be known, in numbers.
    """

    measured: Measured
    strays: int = 0
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def tx(self) -> float:
        """Cycles per packet of the sender's driver."""
        return self.measured.tx.whole.per_packet

    @property
    def rx(self) -> float:
        """Cycles per packet of the receiver's driver; 0 if nobody received."""
        return self.measured.rx.found.per_packet


class Path(Testbed):
    """A switch with a bridge: `with Path(placement, seconds=1) as path: …`.

    For `patience` seconds a sample is taken again that tells nothing.
    """

    def __init__(self, placement: Placement, *, seconds: float, patience: float = 15.0) -> None:
        super().__init__(placement, **{"max-idle": str(_MAX_IDLE_MS)})
        self._patience = patience
        self.seconds = seconds
        self._trips: list[float] = []

    @property
    def _switch_pid(self) -> int:
        return self.sandbox.daemon("ovs-vswitchd").pid

    def add_ports(self, *names: str, **devargs: str | int) -> None:
        """Add ports with the OpenFlow numbers 1, 2 and so on."""
        for number, name in enumerate(names, 1):
            self.sandbox.add_port(BRIDGE, name, number, ring_size=RING, **devargs)

    def set_flows(self, *flows: str) -> None:
        """Have these flows and no others."""
        file = self.sandbox.rundir / "flows"
        file.write_text("".join(f"{flow}\n" for flow in flows), encoding="utf-8")
        self.sandbox.ofctl("-O", "OpenFlow15", "replace-flows", "--bundle", BRIDGE, str(file))

    @contextlib.contextmanager
    def gauge(
        self,
        ports: Sequence[str] = (SENDER, RECEIVER),
        *,
        queues: int = 1,
        swap: bool = False,
        devargs: str = "",
    ) -> Iterator[Gauge]:
        """Start a gauge at some ports; `swap`: it sends on the first core, not on the second."""
        cores = self.cores.second, self.cores.first
        with Gauge(
            "gauge",
            ports,
            cores=cores[::-1] if swap else cores,
            main_core=self.cores.first,
            queues=queues,
            devargs=devargs,
            env=self.sandbox.env,
        ) as gauge:
            gauge.wait_link_up()
            # Until it measures, others need the cores, to make flows and links.
            threads.prioritize([gauge.pid, self._switch_pid], 0)
            yield gauge

    def await_bypass(self, gauge: Gauge, *, classes: int = 1, queues: int = 1) -> None:
        """Send until nothing takes the normal channel any more.

        Raises:
            SandboxError: something does for long.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            before = gauge.xstats()["tx_normal_packets"]
            gauge.run(seconds=_SETTLE, classes=classes, queues=queues)
            if gauge.xstats()["tx_normal_packets"] == before:
                return
            time.sleep(_PAUSE)
            if time.monotonic() > deadline:
                raise SandboxError(f"not all packets take the bypass; see {gauge.log}")

    def take(
        self,
        gauge: Gauge,
        *,
        to: int = 1,
        size: int = PACKET,
        classes: int = 1,
        queues: int = 1,
        facts: Mapping[str, float] | None = None,
    ) -> PathSample:
        """Measure over the bypass, or from port 0 to `NOWHERE` over the normal channel.

        Again, for a while, if the cores were far apart or somebody else had them, or if OVS or
        highwayd had packets change the channel; `facts` of the sample says how often that was so,
        as `retaken`.

        Raises:
            SandboxError: packets were lost, or still take the other channel.
        """
        threads.prioritize([gauge.pid, self._switch_pid], NICENESS)
        deadline, retaken = time.monotonic() + self._patience, 0
        while True:
            self._await_near(gauge, deadline)
            found = self._once(gauge, to=to, size=size, classes=classes, queues=queues)
            if not found.strays and (self._sound(found) or time.monotonic() > deadline):
                return replace(found, facts={**(facts or {}), "retaken": retaken})
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{found.strays} of {found.measured.sent} packets took the other channel;"
                    f" see {gauge.log}"
                )
            retaken += 1

    def _once(self, gauge: Gauge, *, to: int, size: int, classes: int, queues: int) -> PathSample:
        before, waited = gauge.xstats(), threads.waited([gauge.pid])
        began = time.monotonic()
        measured = gauge.run(to=to, seconds=self.seconds, size=size, classes=classes, queues=queues)
        seconds = time.monotonic() - began
        disturbance = threads.disturbance(waited, threads.waited([gauge.pid]), seconds)
        after = gauge.xstats()
        channel = "normal" if to == NOWHERE else "bypass"
        took = after[f"tx_{channel}_packets"] - before[f"tx_{channel}_packets"]
        if to != NOWHERE and measured.received != measured.sent:
            raise SandboxError(f"{measured.sent} packets were sent, {measured.received} arrived")
        counted = measured.tx.whole.packets if to == NOWHERE else measured.rx.packets
        return PathSample(
            packets=counted,
            octets=counted * size,
            seconds=(measured.tx if to == NOWHERE else measured.rx).seconds,
            disturbance=disturbance,
            round_trip_ns=measured.round_trip_ns,
            command_lines=(" ".join(gauge.command_line),),
            measured=measured,
            strays=measured.sent - took,
        )

    def _sound(self, found: PathSample) -> bool:
        self._trips.append(found.measured.round_trip_ns)
        return not flaw(found, ()) and usual(self._trips, found.measured.round_trip_ns)

    def _await_near(self, gauge: Gauge, deadline: float) -> None:
        """Wait for a while until the two cores are as near each other as they can be for long."""
        while not usual(self._trips, gauge.round_trip()) and time.monotonic() < deadline:
            time.sleep(_PROBE_PAUSE)


def nearest(trips: Sequence[float]) -> float | None:
    """Return the shortest round trip that is not a rare one: a tenth of all are about as long.

    The cores of a virtual machine are now and then even threads of one core, for a moment.
    """
    ordered = sorted(trips)
    for trip in ordered:
        if 10 * sum(trip <= other <= FAR * trip for other in ordered) >= len(ordered):
            return trip
    return None


def usual(trips: Sequence[float], trip: float) -> bool:
    """Tell whether a round trip is about as long as the nearest of all; so if there are none."""
    near = nearest(trips)
    return near is None or near / FAR <= trip <= FAR * near


def flaw(found: PathSample, others: Collection[PathSample]) -> str:
    """Return why a sample tells nothing of what it measured, whatever it says; '' if it does."""
    if reason := sample.held_up(found):
        return reason
    trip = found.measured.round_trip_ns
    trips = [other.measured.round_trip_ns for other in others]
    if not usual(trips, trip):
        return f"the cores were {trip:.0f} ns from each other instead of {nearest(trips):.0f}"
    return ""


def compare(
    benchmark: str,
    bench: Path,
    alternatives: Mapping[str, Callable[[], PathSample]],
    figures: Callable[[Results[PathSample]], Mapping[str, Any]],
    *,
    facts: Machine,
    rounds: int,
    tell: Callable[[Turn, PathSample], None],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure alternatives by turns, and return the results as the JSON file has them."""
    results = measure(
        alternatives,
        rounds,
        flaw=flaw,
        most=rounds * MORE_ROUNDS,
        only_lacking=True,
        tell=tell,
    )
    return report(
        benchmark,
        results,
        figures(results),
        facts=facts,
        placement=bench.cores,
        versions=bench.versions(),
        seconds=bench.seconds,
        notes=notes,
    )


# The report -----------------------------------------------------------------------------------


def median(results: Results[PathSample], name: str, read: Callable[[PathSample], float]) -> float:
    """Return the median of a figure of one alternative."""
    return stats.summarize([read(each) for each in results.kept[name]]).median


def describe(samples: Sequence[PathSample], flaws: Sequence[str]) -> dict[str, Any]:
    """Return the samples of one alternative as JSON files have them."""
    return {
        **sample.describe(samples, flaws),
        "cycles_per_packet": {
            "tx": _spread([each.tx for each in samples]),
            "rx": _spread([each.rx for each in samples]),
            "rx_tx": _spread([each.tx + each.rx for each in samples]),
        },
        "cycles_per_empty_poll": _spread([each.measured.rx.empty.per_call for each in samples]),
        "packets_per_rx_call": _spread([each.measured.rx.found.burst for each in samples]),
        "facts": [dict(each.facts) for each in samples],
        "gauge": [asdict(each.measured) for each in samples],
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    summary = stats.summarize(values)
    return {**asdict(summary), "spread": summary.spread}


def report(
    benchmark: str,
    results: Results[PathSample],
    figures: Mapping[str, Any],
    *,
    facts: Machine,
    placement: Placement,
    versions: Mapping[str, str],
    seconds: float,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the results as the JSON file has them.

    Args:
        figures: medians and ratios, by their short names; where the cores are is put beside them.
    """
    trips = [each.round_trip_ns for kept in results.kept.values() for each in kept]
    known = [trip for trip in trips if trip is not None]
    return {
        benchmark: {
            **figures,
            "topology": machine.topology(facts.cores, placement.second, placement.first),
            "round_trip_ns": stats.summarize(known).median if known else None,
        },
        "benchmark": benchmark,
        "rounds": min(len(taken) for taken in results.kept.values()),
        "seconds": seconds,
        "alternatives": {
            name: describe(taken, results.flaws[name]) for name, taken in results.kept.items()
        },
        "set_aside": [
            {
                "round": aside.turn.round,
                "alternative": aside.turn.name,
                "tx": aside.result.tx,
                "rx": aside.result.rx,
                "reason": aside.reason,
            }
            for aside in results.set_aside
        ],
        "notes": [*notes, *_notes(placement), *sample.notes(results)],
        "cores": {
            "sender": placement.second,
            "receiver": placement.first,
            "switch": placement.switch,
        },
        "versions": dict(versions),
        "machine": facts.json(),
    }


def _notes(placement: Placement) -> list[str]:
    return [
        "cycles are those of the time-stamp counter, in burst calls of up to 32 packets, without"
        " those of reading it; it waits for no store, so what a call leaves in the store buffer"
        " is paid by what the program does next: Mpps has that too",
        "tx: calls that took all they were offered; rx: calls that found packets; neither has"
        " calls of ten times the usual length, which somebody has interrupted",
        f"the switch runs beside, {sleeping(placement)}; rings of {RING} descriptors",
    ]
