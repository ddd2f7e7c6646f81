# SPDX-License-Identifier: Apache-2.0
"""`highway bench chain`: chains of 2 to 8 VNFs, memory only, both directions at once.

The first and the last VNF make packets and take what arrives; those between forward. All VNFs share
one core, each yields it when it has nothing to do; the switch has another. Beside the measured
ratio of the ways stands what the cycles of their parts would allow, and a model of the case in
which every VNF has a core of its own.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import chain_costs, chain_model, machine, sample, testbed
from ovs_highway.bench.chain_model import Costs
from ovs_highway.bench.lengths import DIRECT, describe, gain, medians, ratios, take
from ovs_highway.bench.wiring import BURST, RING, SIZE, WAYS, Vnf, Wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ovs_highway.bench.lengths import Samples
    from ovs_highway.bench.machine import Machine, Placement
    from ovs_highway.bench.sample import Sample, Sampler

LENGTHS: Final = tuple(range(2, 9))
SWITCH_CORES: Final = (1, 2, 3, 4)
CHECKED: Final = (2, 3)
"""Lengths at which the model has to predict what was measured."""


def wire(length: int, cores: Sequence[int]) -> tuple[list[Vnf], list[tuple[str, str]]]:
    """Return the VNFs of a chain, first to last, which take cores in turn, and its hops.

    Raises:
        ValueError: a chain has two ends at least.
    """
    if length < 2:
        raise ValueError(f"a chain of {length} has no two ends")

    def vnf(number: int) -> Vnf:
        left, right = f"v{number}l", f"v{number}r"
        core = cores[(number - 1) % len(cores)]
        if 1 < number < length:
            return Vnf(name=f"vnf{number}", ports=(left, right), core=core)
        port = right if number == 1 else left
        return Vnf(name=f"vnf{number}", ports=(port,), core=core, forward="flowgen")

    vnfs = [vnf(number) for number in range(1, length + 1)]
    return vnfs, [(f"v{n}r", f"v{n + 1}l") for n in range(1, length)]


def measure(placement: Placement, *, way: str, length: int, sampler: Sampler) -> Sample:
    """Measure the packets that arrive at both ends of a chain.

    Raises:
        SandboxError: something does not do what it should.
    """
    vnfs, hops = wire(length, placement.chain)
    with (
        Wiring(placement, way=way, sampler=sampler) as bed,
        bed.running(vnfs, hops, size=SIZE) as chain,
    ):
        chain.begin()
        ends = [(vnfs[0].name, 0), (vnfs[-1].name, 0)]
        return chain.sample(ends, cores=(placement.first, placement.switch))


def predictions(
    costs: Mapping[str, Costs], lengths: Sequence[int], placement: Placement
) -> dict[str, dict[int, float]]:
    """Return what each way's costs allow on the cores that were used, in Mpps by length."""

    def predict(each: Costs, length: int) -> float:
        if placement.vnfs:
            return chain_model.pinned(each, length, switch_cores=len(placement.switches))
        return chain_model.shared(each, length)

    return {way: {n: predict(each, n) / 1e6 for n in lengths} for way, each in costs.items()}


def modelled(
    costs: Mapping[str, Costs],
    measured: Mapping[str, Mapping[int, float]],
    predicted: Mapping[str, Mapping[int, float]],
) -> dict[str, dict[str, Any]]:
    """Return the model of one core per VNF for those ways in which the model is near the truth.

    Args:
        measured, predicted: Mpps by way and length.
    """
    found: dict[str, dict[str, Any]] = {}
    for way, each in costs.items():
        checks = [n for n in CHECKED if n in measured[way]]
        errors = {str(n): predicted[way][n] / measured[way][n] - 1 for n in checks}
        holds = bool(checks) and all(
            chain_model.close(predicted[way][n], measured[way][n]) for n in checks
        )
        found[way] = {"label": "modelled", "holds": holds, "errors": errors}
        if holds:
            found[way]["mpps"] = {
                str(cores): {
                    str(n): chain_model.pinned(each, n, switch_cores=cores) / 1e6
                    for n in predicted[way]
                }
                for cores in SWITCH_CORES
            }
    return found


def report(
    *,
    samples: Samples,
    costs: Mapping[str, Sequence[Costs]],
    facts: Machine,
    placement: Placement,
    seconds: float,
) -> dict[str, Any]:
    """Return the results as the JSON file has them; rates are in million packets per second."""
    lengths = sorted(samples[DIRECT])
    middle = medians(samples)
    typical = {way: median_costs(each) for way, each in costs.items()}
    predicted = predictions(typical, lengths, placement)
    ways = describe(samples)
    for way, described in ways.items():
        described["costs"] = [asdict(each) for each in costs[way]]
        described["predicted"] = {str(n): value for n, value in predicted[way].items()}
    return {
        **ratios(middle),
        **{f"bound_{n}": gain(predicted, n) for n in lengths},
        "benchmark": "chain",
        "vnf": "process",
        "rounds": len(costs[DIRECT]),
        "seconds": seconds,
        "size": SIZE,
        "burst": BURST,
        "ring": RING,
        "ways": ways,
        "model": modelled(typical, middle, predicted),
        "notes": notes(placement),
        "cores": asdict(placement),
        "topology": machine.topology(facts.cores, placement.first, placement.switch),
        "machine": facts.json(),
    }


def median_costs(costs: Sequence[Costs]) -> Costs:
    """Return the medians of costs that were measured several times."""
    return Costs(
        **{
            name: statistics.median(getattr(each, name) for each in costs)
            for name in ("end", "middle", "switch", "hz")
        }
    )


def notes(placement: Placement) -> list[str]:
    """Return what a reader of the figures has to know of how they were taken."""
    return [
        "rates are of both directions together: what the two ends receive",
        f"frames of {SIZE} bytes, 64 with the frame check sequence; the ends run testpmd's flowgen,"
        " the others its io mode, one forwarding thread each",
        f"{placement.described}, polling all the time; idle=yield at our ports, which"
        " net_virtio_user has nothing like: there a VNF keeps a shared core for its slice also when"
        " it has no packets",
        "ratio_<n> is to the faster of the traditional ways at that length, bound_<n> what the"
        " cycles of the parts, measured across two cores, would allow for the same ratio",
        f"a model is given for a way whose model is within {chain_model.CLOSE:.0%} of what was"
        f" measured at {' and '.join(map(str, CHECKED))} VNFs",
        f"all polling threads run at niceness {sample.NICENESS}",
    ]


def run(
    *,
    lengths: Sequence[int],
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
    large: bool = False,
) -> dict[str, Any]:
    """Measure; return what is written as JSON. The ways take turns at each length.

    Args:
        large: each VNF has a core of its own.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: something does not do what it should.
    """
    facts, placement = testbed.begin_large() if large else testbed.begin()
    sampler = sample.Sampler(seconds=seconds)
    costs: dict[str, list[Costs]] = {way: [] for way in WAYS}

    def measure_one(way: str, length: int) -> Sample:
        if length == lengths[0]:
            costs[way].append(chain_costs.measure(placement, way=way, sampler=sampler))
            tell(f"{way}: cycles per packet: {costs[way][-1]}")
        return measure(placement, way=way, length=length, sampler=sampler)

    samples = take(lengths, rounds, measure_one, tell)
    return report(samples=samples, costs=costs, facts=facts, placement=placement, seconds=seconds)
