# SPDX-License-Identifier: Apache-2.0
"""Chains of several lengths in every way: how they take turns, and how results are told."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import sample
from ovs_highway.bench.schedule import interleave
from ovs_highway.bench.stats import ratio
from ovs_highway.bench.wiring import WAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ovs_highway.bench.sample import Sample

TRADITIONAL: Final = tuple(name for name, way in WAYS.items() if not way.offload)
DIRECT: Final = "highway"

Samples = dict[str, dict[int, list["Sample"]]]
"""By way and length, in the order of rounds."""


def turns(lengths: Sequence[int], rounds: int) -> Iterator[tuple[int, str, int]]:
    """Yield round, way and length: all ways at one length, then at the next."""
    order = {f"{way} {n}": (way, n) for n in lengths for way in WAYS}
    for turn in interleave(list(order), rounds):
        way, length = order[turn.name]
        yield turn.round, way, length


def take(
    lengths: Sequence[int],
    rounds: int,
    measure: Callable[[str, int], Sample],
    tell: Callable[[str], None],
) -> Samples:
    """Measure each way at each length, a turn each per round."""
    found: Samples = {way: {n: [] for n in lengths} for way in WAYS}
    for number, way, length in turns(lengths, rounds):
        one = measure(way, length)
        found[way][length].append(one)
        tell(f"round {number}: {way}, length {length}: {one.mpps:.3f} Mpps")
    return found


def medians(samples: Mapping[str, Mapping[int, Sequence[Sample]]]) -> dict[str, dict[int, float]]:
    """Return the median rates in Mpps, by way and length."""
    return {
        way: {n: statistics.median(each.mpps for each in kept) for n, kept in by_length.items()}
        for way, by_length in samples.items()
    }


def describe(samples: Mapping[str, Mapping[int, Sequence[Sample]]]) -> dict[str, dict[str, Any]]:
    """Return the samples of each way as JSON files have them."""
    return {
        way: {
            "what": WAYS[way].what,
            "label": "measured",
            "lengths": {
                str(n): sample.describe(kept, [sample.held_up(each) for each in kept])
                for n, kept in by_length.items()
            },
        }
        for way, by_length in samples.items()
    }


def gain(mpps: Mapping[str, Mapping[int, float]], length: int) -> float | None:
    """Return the direct way's rate by that of the best traditional one."""
    return ratio(mpps[DIRECT][length], max(mpps[way][length] for way in TRADITIONAL))


def ratios(mpps: Mapping[str, Mapping[int, float]]) -> dict[str, float | None]:
    """Return `ratio_<n>` to the best traditional way at each length, and to each of them."""
    found = {f"ratio_{n}": gain(mpps, n) for n in mpps[DIRECT]}
    for way in TRADITIONAL:
        for n in mpps[DIRECT]:
            found[f"ratio_{way}_{n}"] = ratio(mpps[DIRECT][n], mpps[way][n])
    return found
