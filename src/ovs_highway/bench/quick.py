# SPDX-License-Identifier: Apache-2.0
"""`highway bench quick`: bypass and normal channel beside their peers, 64-byte packets."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import sample, stats, testbed
from ovs_highway.bench.alternatives import ALTERNATIVES
from ovs_highway.bench.hops import (
    BURST,
    CIRCLE_BURSTS,
    CIRCLE_RING,
    ONE_WAY_RING,
    Hops,
)
from ovs_highway.bench.schedule import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ovs_highway.bench.machine import Machine, Placement
    from ovs_highway.bench.sample import Sample
    from ovs_highway.bench.schedule import Results, Turn

PACKET: Final = 64
NAMES: Final = ("bypass", "memif", "normal", "vhostuser")
TRIES: Final = 4
"""A round that tells nothing is repeated: at most so many rounds for one that is asked for."""


def report(
    results: Results[Sample],
    *,
    facts: Machine,
    placement: Placement,
    versions: Mapping[str, str],
    seconds: float,
) -> dict[str, Any]:
    """Return the results as the JSON file has them; rates are in million packets per second."""
    found = {
        name: {
            "what": ALTERNATIVES[name].what,
            **sample.describe(taken, results.flaws[name]),
        }
        for name, taken in results.kept.items()
    }
    middle = {name: each["mpps"]["median"] for name, each in found.items()}
    result: dict[str, Any] = {f"{name}_mpps": median for name, median in middle.items()}
    result["ratio_bypass_memif"] = stats.ratio(middle["bypass"], middle["memif"])
    result["ratio_normal_vhostuser"] = stats.ratio(middle["normal"], middle["vhostuser"])
    result |= {
        "benchmark": "quick",
        "rounds": min(len(taken) for taken in results.kept.values()),
        "seconds": seconds,
        "packet_bytes": PACKET,
        "burst": BURST,
    }
    result["alternatives"] = found
    result["set_aside"] = [
        {
            "round": aside.turn.round,
            "alternative": aside.turn.name,
            "mpps": aside.result.mpps,
            "reason": aside.reason,
        }
        for aside in results.set_aside
    ]
    result["notes"] = [*notes(placement), *sample.notes(results)]
    result["cores"] = asdict(placement)
    result["versions"] = dict(versions)
    result["machine"] = facts.json()
    return result


def notes(placement: Placement) -> list[str]:
    """Return what a reader of the figures has to know of how they were taken."""
    return [
        f"bypass, memif: the switch runs beside, {testbed.sleeping(placement)};"
        f" rings of {ONE_WAY_RING} descriptors",
        f"normal, vhostuser: {2 * CIRCLE_BURSTS * BURST} packets go round through rings of"
        f" {CIRCLE_RING} descriptors; the switch polls all the time; bypass off with"
        " 'highway off --all'",
    ]


def run(*, rounds: int, seconds: float, tell: Callable[[Turn, Sample], None]) -> dict[str, Any]:
    """Measure, and return the results as the JSON file has them.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: a program does not do what it should.
    """
    facts, placement = testbed.begin()
    with Hops(placement, sample.Sampler(seconds=seconds)) as hops:
        versions = hops.versions()
        results = measure(
            {name: partial(ALTERNATIVES[name].measure, hops, PACKET) for name in NAMES},
            rounds,
            flaw=sample.flaw,
            most=rounds * TRIES,
            tell=tell,
        )
    return report(
        results,
        facts=facts,
        placement=placement,
        versions=versions,
        seconds=seconds,
    )
