# SPDX-License-Identifier: Apache-2.0
"""`highway bench nic`: chains of 1 to 8 VNFs between two ports that stand in for 10 GbE.

A port of net_null gives as many frames as it is asked for, and takes any; the switch's ingress
policing holds it to 10 Gbit/s. All VNFs share one core, the switch has another. Hops from and to
such a port pass the switch in every way, so with one VNF the ways carry the same.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import machine, sample, testbed
from ovs_highway.bench.lengths import describe, medians, ratios, take
from ovs_highway.bench.testbed import BRIDGE
from ovs_highway.bench.wiring import BURST, RING, SIZE, WAYS, Foreign, Vnf, Wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ovs_highway.bench.lengths import Samples
    from ovs_highway.bench.machine import Machine, Placement
    from ovs_highway.bench.sample import Sample, Sampler

LENGTHS: Final = tuple(range(1, 9))
LINE_RATE: Final = 14_880_952
"""Frames per second of 10GBASE at that size: 84 bytes each with preamble and gap."""
_ETHERNET: Final = 14  # what OVS's policer does not count (netdev-dpdk.c)
STAND_INS: Final = ("nic0", "nic1")


def stand_in(name: str) -> Foreign:
    """Return a port that stands in for one of 10 GbE."""
    kbps = LINE_RATE * (SIZE - _ETHERNET) * 8 // 1000
    return Foreign(
        name=name,
        columns=(
            f'options:dpdk-devargs="net_null_{name},size={SIZE},copy=1"',
            f"ingress_policing_rate={kbps}",
            f"ingress_policing_burst={kbps // 1000}",
        ),
    )


def wire(
    length: int, cores: Sequence[int], nics: Sequence[str] = STAND_INS
) -> tuple[list[Vnf], list[tuple[str, str]]]:
    """Return the VNFs between two ports, first to last, which take cores in turn, and the hops.

    Raises:
        ValueError: there is no VNF.
    """
    if length < 1:
        raise ValueError("a chain between two ports has one VNF at least")
    vnfs = [
        Vnf(name=f"vnf{n}", ports=(f"v{n}l", f"v{n}r"), core=cores[(n - 1) % len(cores)])
        for n in range(1, length + 1)
    ]
    ends = [nics[0], *(port for vnf in vnfs for port in vnf.ports), nics[1]]
    return vnfs, list(zip(ends[::2], ends[1::2], strict=True))


def left(dump_ports: str, numbers: Sequence[int]) -> tuple[int, int]:
    """Return the packets and bytes that ports have sent, as `ovs-ofctl dump-ports` prints it."""
    packets = octets = 0
    for number in numbers:
        found = re.search(rf"port +{number}: rx .*\n +tx pkts=(\d+), bytes=(\d+)", dump_ports)
        if found is not None:
            packets, octets = packets + int(found[1]), octets + int(found[2])
    return packets, octets


def card(name: str, address: str) -> Foreign:
    """Return the port of a network card, by its PCI address."""
    return Foreign(name=name, columns=(f"options:dpdk-devargs={address}",))


def measure(
    placement: Placement, *, way: str, length: int, sampler: Sampler, cards: Sequence[str] = ()
) -> Sample:
    """Measure the packets that leave through both ports.

    Args:
        cards: PCI addresses of two network cards; without them ports stand in.

    Raises:
        SandboxError: something does not do what it should.
    """
    vnfs, hops = wire(length, placement.chain)
    numbers = [2 * length + 1, 2 * length + 2]  # behind those of the VNFs
    with (
        Wiring(placement, way=way, sampler=sampler, pci=cards) as bed,
        bed.running(vnfs, hops, size=SIZE, foreign=ends(cards)) as chain,
    ):
        chain.begin()
        return chain.sample_count(
            lambda: left(bed.sandbox.ofctl("dump-ports", BRIDGE), numbers),
            cores=(placement.first, placement.switch),
            # What comes from a port of another driver has no other way.
            normal=[("vnf1", 0), (vnfs[-1].name, 1)],
        )


def ends(cards: Sequence[str]) -> list[Foreign]:
    """Return the ports at both ends: of two network cards, or what stands in for them."""
    if cards:
        return [card(*each) for each in zip(STAND_INS, cards, strict=True)]
    return [stand_in(name) for name in STAND_INS]


def report(
    *,
    samples: Samples,
    facts: Machine,
    placement: Placement,
    seconds: float,
    rounds: int,
    cards: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the results as the JSON file has them; rates are in million packets per second."""
    middle = medians(samples)
    return {
        **ratios(middle),
        "coincide": coincide(samples),
        "benchmark": "nic",
        "rounds": rounds,
        "seconds": seconds,
        "size": SIZE,
        "burst": BURST,
        "ring": RING,
        "line_rate_mpps": LINE_RATE / 1e6,
        "cards": list(cards),
        "ways": describe(samples),
        "notes": notes(placement, cards),
        "cores": asdict(placement),
        "topology": machine.topology(facts.cores, placement.first, placement.switch),
        "machine": facts.json(),
    }


def coincide(samples: Samples) -> bool | None:
    """Tell whether, with one VNF, our ports carry the same with and without offload.

    That is so if the ranges of what was measured meet. None: that was not measured.
    """
    found = [
        [each.mpps for each in samples[way].get(1, [])]
        for way, each_way in WAYS.items()
        if not each_way.vhost
    ]
    if not all(found):
        return None
    return max(min(one) for one in found) <= min(max(one) for one in found)


def notes(placement: Placement, cards: Sequence[str] = ()) -> list[str]:
    """Return what a reader of the figures has to know of how they were taken."""
    source = (
        "frames come from outside, through two network cards"
        if cards
        else "no network card took part: ports of net_null stand in for 10 GbE, policed by OVS to"
        f" {LINE_RATE / 1e6:.2f} million frames per second each; what a card's driver would cost"
        " the switch is not in the figures"
    )
    return [
        source,
        "rates are of both directions together: what leaves through the two ports",
        f"frames of {SIZE} bytes, 64 with the frame check sequence; testpmd's io mode, one"
        " forwarding thread per VNF",
        f"{placement.described}; idle=yield at our ports",
        f"all polling threads run at niceness {sample.NICENESS}",
    ]


def run(
    *,
    lengths: Sequence[int],
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
    large: bool = False,
    cards: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure; return what is written as JSON. The ways take turns at each length.

    Args:
        large: each VNF has a core of its own.
        cards: PCI addresses of two network cards, which somebody else sends to.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: something does not do what it should.
    """
    facts, placement = testbed.begin_large() if large else testbed.begin()
    sampler = sample.Sampler(seconds=seconds)

    def measure_one(way: str, length: int) -> Sample:
        return measure(placement, way=way, length=length, sampler=sampler, cards=cards)

    samples = take(lengths, rounds, measure_one, tell)
    return report(
        samples=samples,
        facts=facts,
        placement=placement,
        seconds=seconds,
        rounds=rounds,
        cards=cards,
    )
