# SPDX-License-Identifier: Apache-2.0
"""Chains of VNFs as the benchmarks wire them, for a moment each; nothing is asserted on speed."""

from __future__ import annotations

import pytest

from ovs_highway.bench import chain, latency, machine, nic, sample
from ovs_highway.bench.machine import Placement, place
from ovs_highway.bench.wiring import WAYS, Wiring

SECONDS = 0.5
LENGTH = 3


def cores() -> Placement:
    found = place(machine.gather().cores)
    assert found is not None
    return found


def sampler() -> sample.Sampler:
    return sample.Sampler(seconds=SECONDS, warm_up=0.5, probes=1)


LONG_WAYS = [pytest.param(way, marks=[] if way == "highway" else pytest.mark.long) for way in WAYS]
"""What is long is measured by 'make bench' anyway."""


@pytest.mark.parametrize("way", LONG_WAYS)
def test_a_chain_carries_frames_in_every_way(way: str) -> None:
    """Verify: frames of the right length arrive at both ends; the command lines are told."""
    taken = chain.measure(cores(), way=way, length=LENGTH, sampler=sampler())
    assert taken.packets > 0
    assert taken.octets == chain.SIZE * taken.packets
    assert len(taken.command_lines) == LENGTH
    assert all(("net_virtio_user" in line) == (way == "vhostuser") for line in taken.command_lines)


@pytest.mark.parametrize("way", LONG_WAYS)
def test_frames_leave_through_the_ports_that_stand_in_for_cards(way: str) -> None:
    """Verify: frames come through VNF 1 in both directions."""
    taken = nic.measure(cores(), way=way, length=1, sampler=sampler())
    assert taken.packets > 0
    assert taken.octets == nic.SIZE * taken.packets


@pytest.mark.parametrize("way", LONG_WAYS)
def test_each_frame_of_a_low_rate_has_one_time(way: str) -> None:
    """Steps: 1,000 frames per second through a VNF in the middle, one way and back.

    Verify: all that were due were sent and arrived, their times are in order, and the way back
    makes them longer.
    """
    vnfs, hops = latency.wire(LENGTH, cores().first)
    with (
        Wiring(cores(), way=way, sampler=sampler()) as bed,
        bed.running(vnfs, hops) as running,
    ):
        running.begin()
        running.probe.run(rate=1000, seconds=1.0)
        strayed = running.strayed()
        one_way, back = (
            running.probe.run(rate=1000, seconds=1.0, echo=echo) for echo in (False, True)
        )
        assert running.strayed() == strayed
    for times in (one_way, back):
        assert times.received == times.sent == sum(count for _, count in times.bins)
        assert times.sent + times.refused + times.missed == pytest.approx(1000, abs=2)
        assert (times.refused, times.missed, times.foreign) == (0, 0, 0)
        assert [least for least, _ in times.bins] == sorted({least for least, _ in times.bins})
    middle, longer = one_way.percentile(50), back.percentile(50)
    assert middle is not None
    assert longer is not None
    assert 0 < middle < longer
