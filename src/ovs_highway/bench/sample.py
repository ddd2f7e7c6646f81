# SPDX-License-Identifier: Apache-2.0
"""One measurement of a rate: how it is taken, and what may be wrong with it."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import probe, stats, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ovs_highway.bench.schedule import Results

NICENESS: Final = -15
WARM_UP: Final = 1.0
DISTURBED: Final = 0.1
FAR: Final = 1.5
PROBES: Final = 12
_PROBE_PAUSE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement: packets, and their bytes, that came in `seconds`, and how clean it was.

    `disturbance` is the largest share of the time for which a polling thread waited for its core,
    `round_trip_ns` how long a cache line took between the cores, the slower of before and after.
    """

    packets: int
    seconds: float
    disturbance: float
    octets: int = 0
    round_trip_ns: float | None = None
    switch_drops: int = 0
    command_lines: tuple[str, ...] = field(default=(), repr=False)

    @property
    def mpps(self) -> float:
        """Million packets per second."""
        return self.packets / self.seconds / 1e6


class Sampler:
    """Takes measurements of `seconds` each, `warm_up` seconds after the packets have begun.

    Before each it looks up to `probes` times whether the cores are near each other.
    """

    def __init__(self, *, seconds: float, warm_up: float = WARM_UP, probes: int = PROBES) -> None:
        self.seconds = seconds
        self._warm_up = warm_up
        self._probes = probes
        self._near = math.inf

    def take(
        self,
        count: Callable[[], tuple[int, int]],
        *,
        pids: Sequence[int],
        cores: tuple[int, int] | None,
    ) -> Sample:
        """Measure once; `count` reads how many packets and bytes there have been so far."""

        def counted() -> tuple[int, int, float]:
            began, (packets, octets) = _timed(count)
            time.sleep(self.seconds)
            ended, (packets_after, octets_after) = _timed(count)
            return packets_after - packets, octets_after - octets, ended - began

        time.sleep(self._warm_up)
        return self.watch(counted, pids=pids, cores=cores)

    def watch(
        self,
        measure: Callable[[], tuple[int, int, float]],
        *,
        pids: Sequence[int],
        cores: tuple[int, int] | None,
    ) -> Sample:
        """Watch over one measurement.

        Args:
            measure: returns packets, their bytes, and in how many seconds.
            pids: the processes whose polling threads must not be disturbed.
            cores: the two that have to be near each other; None where there is only one.
        """
        trips = [self._await_near(*cores)] if cores else []
        waited_before = threads.waited(pids)
        packets, octets, seconds = measure()
        waited_after = threads.waited(pids)
        if cores:
            trips.append(probe.round_trip(*cores))
        return Sample(
            packets=packets,
            octets=octets,
            seconds=seconds,
            round_trip_ns=max((trip for trip in trips if trip is not None), default=None),
            disturbance=threads.disturbance(waited_before, waited_after, seconds),
        )

    def _await_near(self, first: int, second: int) -> float | None:
        """Wait for a while until two cores are near each other; return their round trip in ns."""
        for left in reversed(range(self._probes)):
            trip = probe.round_trip(first, second)
            if trip is None:
                return None
            self._near = min(trip, self._near)
            if trip <= FAR * self._near or not left:
                break
            time.sleep(_PROBE_PAUSE)
        return trip


def _timed(count: Callable[[], tuple[int, int]]) -> tuple[float, tuple[int, int]]:
    """Read a count, and when that was: in the middle of the reading."""
    began = time.monotonic()
    read = count()
    return (began + time.monotonic()) / 2, read


def held_up(sample: Sample) -> str:
    """Return how long a polling thread waited for its core, if that was too long; else ''."""
    if sample.disturbance > DISTURBED:
        return f"a polling thread was kept waiting for {sample.disturbance:.0%} of the time"
    return ""


def flaw(sample: Sample, others: Iterable[Sample]) -> str:
    """Return why a sample tells nothing of what it measured, whatever its rate; '' if it does.

    The cores are near each other when a cache line goes between them nearly as fast as in the
    fastest of `others`.
    """
    if reason := held_up(sample):
        return reason
    near = min((other.round_trip_ns for other in others if other.round_trip_ns), default=None)
    if near and sample.round_trip_ns and sample.round_trip_ns > FAR * near:
        return f"the cores were far apart: {sample.round_trip_ns:.0f} ns instead of {near:.0f}"
    return ""


def describe(samples: Sequence[Sample], flaws: Sequence[str]) -> dict[str, Any]:
    """Return the samples of one alternative as JSON files have them; rates are in Mpps."""
    middle = stats.summarize([sample.mpps for sample in samples])
    return {
        "mpps": {**asdict(middle), "spread": middle.spread},
        "packets": [sample.packets for sample in samples],
        "seconds": [sample.seconds for sample in samples],
        "disturbance": [sample.disturbance for sample in samples],
        "round_trip_ns": [sample.round_trip_ns for sample in samples],
        "flawed": list(flaws),
        "switch_drops": [sample.switch_drops for sample in samples],
        "command_lines": list(samples[-1].command_lines),
    }


def notes(results: Results[Any]) -> list[str]:
    """Return what a reader has to know of results that were set aside, or count though flawed."""
    found = [f"all polling threads run at niceness {NICENESS}"]
    if results.set_aside:
        found.append(
            f"{len(results.set_aside)} measurements were set aside and repeated: other programs"
            f" held up a polling thread for more than {DISTURBED:.0%} of the time, or the host had"
            " moved the cores apart"
        )
    flawed = sum(reason != "" for reasons in results.flaws.values() for reason in reasons)
    if flawed:
        found.append(
            f"{flawed} measurements count though they were disturbed so: there were no better ones"
        )
    return found
