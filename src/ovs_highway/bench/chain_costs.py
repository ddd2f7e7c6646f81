# SPDX-License-Identifier: Apache-2.0
"""What one VNF and one hop cost in cycles, each measured across two cores, beside a chain.

An *end* is testpmd's flowgen, a *middle* its io mode. Over the highway two of a kind, a core each,
have a link with each other and are equally busy. In the traditional ways one is on one core and the
switch on the other; whoever waits is left out of its own cycles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ovs_highway.bench.chain_model import Costs
from ovs_highway.bench.wiring import WAYS, Vnf, Wiring

if TYPE_CHECKING:
    from ovs_highway.bench.machine import Placement
    from ovs_highway.bench.sample import Sampler

CIRCLE_BURSTS: Final = 8


def measure(placement: Placement, *, way: str, sampler: Sampler) -> Costs:
    """Measure a way's costs once.

    Raises:
        SandboxError: something does not do what it should.
    """
    direct = WAYS[way].offload
    with Wiring(placement, way=way, sampler=sampler, sleeping=direct) as bed:
        if direct:
            return _direct(bed, placement.first, placement.second)
        return _switched(bed, placement.first, placement.switch)


def _direct(bed: Wiring, one: int, two: int) -> Costs:
    ends = [
        Vnf(name="one", ports=("a",), core=one, forward="flowgen"),
        Vnf(name="two", ports=("b",), core=two, forward="flowgen"),
    ]
    with bed.running(ends, [("a", "b")]) as pair:
        pair.begin()
        packets = pair.sample([("one", 0), ("two", 0)], cores=(one, two)).mpps * 1e6
    middles = [
        Vnf(name="one", ports=("a", "b"), core=one),
        Vnf(name="two", ports=("c", "d"), core=two),
    ]
    with bed.running(middles, [("a", "c"), ("b", "d")]) as circle:
        circle.begin(tx_first={"one": CIRCLE_BURSTS})
        circle.sample([("one", 0), ("one", 1)], cores=(one, two))
        middle = circle.busy("one")
    # Both make and take half of all packets.
    return Costs(end=2 * middle.hz / packets, middle=middle.cycles, hz=middle.hz)


def _switched(bed: Wiring, one: int, switch: int) -> Costs:
    end = Vnf(name="one", ports=("a",), core=one, forward="flowgen")
    with bed.running([end], [("a", "a")]) as loop:
        loop.begin()
        loop.sample([("one", 0)], cores=(one, switch))
        end_cycles = loop.busy("one").cycles
    middle = Vnf(name="one", ports=("a", "b"), core=one)
    with bed.running([middle], [("a", "b")]) as circle:
        circle.begin(tx_first={"one": CIRCLE_BURSTS})
        circle.clear_switch()
        circle.sample([("one", 0), ("one", 1)], cores=(one, switch))
        busy = circle.busy("one")
        return Costs(end=end_cycles, middle=busy.cycles, switch=circle.switch_cycles(), hz=busy.hz)
