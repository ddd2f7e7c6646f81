# SPDX-License-Identifier: Apache-2.0
"""`highway bench peers`: one hop over the highway, its peers and the machine's own limit.

Alternatives and frame sizes take turns, all in one run. An alternative that cannot carry a size
has no result there, and the reason instead.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import machine, sample, stats, testbed
from ovs_highway.bench.alternatives import ALTERNATIVES
from ovs_highway.bench.hops import (
    BURST,
    CIRCLE_BURSTS,
    CIRCLE_RING,
    ONE_WAY_RING,
    Hops,
)
from ovs_highway.bench.sample import Sample
from ovs_highway.bench.schedule import Results, SetAside, measure
from ovs_highway.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ovs_highway.bench.machine import Machine, Placement
    from ovs_highway.bench.schedule import Turn

SIZES: Final = (64, 256, 1500, 9000)
SECONDS: Final = 1.0
MORE_ROUNDS: Final = 3
"""So many rounds more at most, in which what lacks sound measurements takes part."""
_WARM_UP: Final = 0.5
_PROBES: Final = 4
_GIVE_UP: Final = 2
"""What has failed so often, and never succeeded, is not tried again."""

MEMIF: Final = ("memif", "memif_zc_tx", "memif_zc_rx")
RATIOS: Final = {
    "memif_default": ("bypass", ("memif",)),
    "memif_best": ("bypass", MEMIF),
    "external_memif_best": ("bypass_external", MEMIF),
    "external": ("bypass_external", ("bypass",)),
    "checked": ("bypass_checked", ("bypass",)),
    "limit": ("bypass", ("limit_mbufs",)),
    "limit_bare": ("bypass", ("limit_bare",)),
    "normal_vhost": ("normal", ("vhostuser",)),
    "normal_vhost_best": ("normal", ("vhostuser", "vhostuser_packed")),
    "normal_ovs_memif": ("normal", ("ovs_memif",)),
}
"""What is divided by the best of what; JSON has them as `ratio_<name>_<size>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A measurement that could not be made, and why."""

    reason: str


class Attempts:
    """Makes measurements of one kind; gives up when they never succeed."""

    def __init__(self, take: Callable[[], Sample]) -> None:
        self._take = take
        self._failures: list[str] = []
        self._succeeded = False

    def __call__(self) -> Sample | Failure:
        """Measure once, if there is hope."""
        if not self._succeeded and len(self._failures) >= _GIVE_UP:
            return Failure(reason=self._failures[-1])
        try:
            taken = self._take()
        except SandboxError as error:
            self._failures.append(str(error))
            return Failure(reason=str(error))
        self._succeeded = True
        return taken


def flaw(outcome: Sample | Failure, others: Collection[Sample | Failure]) -> str:
    """Return why an outcome tells nothing, '' if it does."""
    if isinstance(outcome, Failure):
        return outcome.reason
    return sample.flaw(outcome, [other for other in others if isinstance(other, Sample)])


def label(name: str, size: int) -> str:
    """Return what an alternative at one size is called among the turns."""
    return f"{name} {size}"


def report(
    results: Results[Sample | Failure],
    *,
    names: Sequence[str],
    sizes: Sequence[int],
    facts: Machine,
    placement: Placement,
    versions: Mapping[str, str],
    seconds: float,
) -> dict[str, Any]:
    """Return the results as the JSON file has them; rates are in million packets per second."""
    made, failures = divide(results)
    found: dict[str, dict[str, Any]] = {
        name: {
            "what": ALTERNATIVES[name].what,
            "sizes": {str(size): _described(made, failures, label(name, size)) for size in sizes},
        }
        for name in names
    }
    medians = {
        (name, size): each["sizes"][str(size)]["mpps"]["median"]
        for name, each in found.items()
        for size in sizes
        if each["sizes"][str(size)]["mpps"] is not None
    }
    between = distances(made, placement, facts)
    ratios = [
        {**each, **between["circle" if ALTERNATIVES[each["second"]].circle else "one_way"]}
        for size in sizes
        for each in ratios_at(size, medians, names)
    ]
    result: dict[str, Any] = {f"ratio_{r['name']}_{r['bytes']}": r["value"] for r in ratios}
    result |= headlines(result)
    result |= {
        "benchmark": "peers",
        "rounds": min((len(kept) for kept in made.kept.values() if kept), default=0),
        "seconds": seconds,
        "sizes": list(sizes),
        "burst": BURST,
        "ratios": ratios,
        "alternatives": found,
        "set_aside": [
            {
                "round": aside.turn.round,
                "alternative": aside.turn.name,
                "mpps": aside.result.mpps,
                "reason": aside.reason,
            }
            for aside in made.set_aside
        ],
        "notes": [*notes(placement), *sample.notes(made)],
        "cores": asdict(placement),
        "between": between,
        "versions": dict(versions),
        "machine": facts.json(),
    }
    return result


def divide(
    results: Results[Sample | Failure],
) -> tuple[Results[Sample], dict[str, list[str]]]:
    """Return the measurements that were made, and why the others were not, by label."""
    kept: dict[str, list[Sample]] = {}
    flaws: dict[str, list[str]] = {}
    failures: dict[str, list[str]] = {}
    for name, outcomes in results.kept.items():
        pairs = list(zip(outcomes, results.flaws[name], strict=True))
        kept[name] = [each for each in outcomes if isinstance(each, Sample)]
        flaws[name] = [reason for each, reason in pairs if isinstance(each, Sample)]
        failures[name] = [each.reason for each in outcomes if isinstance(each, Failure)]
    aside = []
    for each in results.set_aside:
        if isinstance(each.result, Sample):
            aside.append(SetAside(turn=each.turn, result=each.result, reason=each.reason))
        else:
            failures[each.turn.name].append(each.reason)
    return Results(kept=kept, flaws=flaws, set_aside=tuple(aside)), failures


def _described(
    made: Results[Sample], failures: Mapping[str, Sequence[str]], name: str
) -> dict[str, Any]:
    if not made.kept[name]:
        return {"mpps": None, "reason": failures[name][-1]}
    described = sample.describe(made.kept[name], made.flaws[name])
    return described | ({"failures": list(failures[name])} if failures[name] else {})


def ratios_at(
    size: int, medians: Mapping[tuple[str, int], float], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the ratios at a frame size: of what was measured, and to the best of all candidates.

    Args:
        medians: rates by alternative and frame size.
        names: the alternatives that were tried. Without one of a ratio's there is no such ratio;
            one that was tried and does not carry the size is not the best.
    """
    found = []
    for name, (first, candidates) in RATIOS.items():
        measured = [other for other in candidates if (other, size) in medians]
        if (first, size) in medians and measured and set(candidates) <= set(names):
            second = max(measured, key=lambda other: medians[other, size])
            value = stats.ratio(medians[first, size], medians[second, size])
            found.append(
                {"name": name, "bytes": size, "first": first, "second": second, "value": value}
            )
    return found


def headlines(ratios: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ratios to net_memif by their short names; see `notes`."""
    short = {"ratio_memif_64": "ratio_memif_default_64"}
    short |= {
        key.replace("_best", ""): key
        for key in ratios
        if key.startswith("ratio_memif_best_") and key != "ratio_memif_best_64"
    }
    return {key: ratios[full] for key, full in short.items() if full in ratios}


def distances(
    made: Results[Sample], placement: Placement, facts: Machine
) -> dict[str, dict[str, Any]]:
    """Return where the two cores of each kind of hop are, and the median round trip between."""
    found = {}
    for kind, second in (("one_way", placement.second), ("circle", placement.switch)):
        trips = [
            each.round_trip_ns
            for name, kept in made.kept.items()
            for each in kept
            if each.round_trip_ns and ALTERNATIVES[name.split()[0]].circle == (kind == "circle")
        ]
        found[kind] = {
            "cores": [placement.first, second],
            "topology": machine.topology(facts.cores, placement.first, second),
            "round_trip_ns": statistics.median(trips) if trips else None,
        }
    return found


def notes(placement: Placement) -> list[str]:
    """Return what a reader of the figures has to know of how they were taken."""
    circles = ", ".join(name for name, each in ALTERNATIVES.items() if each.circle)
    return [
        "sizes are of frames, in bytes without the frame check sequence; each is one segment",
        f"in all that do not pass the switch, it runs beside, {testbed.sleeping(placement)};"
        f" rings of {ONE_WAY_RING} descriptors",
        f"{circles}: at first {2 * CIRCLE_BURSTS * BURST} packets go round"
        f" through rings of {CIRCLE_RING} descriptors, fewer if they do not fit; the switch polls"
        " all the time; bypass off with 'highway off --all'",
        "ratio_memif_64 is to net_memif as it is by default; ratio_memif_<other size> and"
        " ratio_memif_best_<size> are to the best of its modes: default, zero-copy at the sender,"
        " zero-copy at the receiver",
        "ratio_normal_vhost_<size> is to virtqueues as net_virtio_user has them by default (split),"
        " ratio_normal_vhost_best_<size> to the faster of split and packed ones",
    ]


def run(
    *,
    names: Sequence[str],
    sizes: Sequence[int],
    rounds: int,
    seconds: float,
    tell: Callable[[Turn, Sample | Failure], None],
) -> dict[str, Any]:
    """Measure, and return the results as the JSON file has them.

    Args:
        names: of `ALTERNATIVES`.
        sizes: of frames, in bytes.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: the switch does not do what it should.
    """
    facts, placement = testbed.begin()
    sampler = sample.Sampler(seconds=seconds, warm_up=_WARM_UP, probes=_PROBES)
    with Hops(placement, sampler) as hops:
        versions = hops.versions()
        results = measure(
            {
                label(name, size): Attempts(partial(ALTERNATIVES[name].measure, hops, size))
                for size in sizes
                for name in names
            },
            rounds,
            flaw=flaw,
            most=rounds + MORE_ROUNDS,
            only_lacking=True,
            tell=tell,
        )
    return report(
        results,
        names=names,
        sizes=sizes,
        facts=facts,
        placement=placement,
        versions=versions,
        seconds=seconds,
    )
