# SPDX-License-Identifier: Apache-2.0
"""Chains of VNFs as the benchmarks wire them, for a moment each; nothing is asserted on speed."""

from __future__ import annotations

import pytest

from ovs_highway.bench import chain, latency, machine, nic, sample
from ovs_highway.bench.machine import Placement, place
from ovs_highway.bench.wiring import SIZE, WAYS

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
    assert taken.octets == SIZE * taken.packets
    assert len(taken.command_lines) == LENGTH
    assert all(("net_virtio_user" in line) == (way == "vhostuser") for line in taken.command_lines)


@pytest.mark.parametrize("way", LONG_WAYS)
def test_frames_leave_through_the_ports_that_stand_in_for_cards(way: str) -> None:
    """Verify: frames come through VNF 1 in both directions."""
    taken = nic.measure(cores(), way=way, length=1, sampler=sampler())
    assert taken.packets > 0


@pytest.mark.parametrize("way", LONG_WAYS)
def test_frames_of_a_low_rate_have_their_times(way: str) -> None:
    """Steps: 1,000 frames per second through a VNF in the middle, one way and back.

    Verify: of all that were due none was lost or refused; percentiles are in order, and threads of
    a shared core were switched.
    """
    found = latency.Bench(cores(), SECONDS).shared(way, LENGTH)
    for path in latency.PATHS:
        point = found[path]
        assert (point["lost"], point["refused"]) == (0, 0)
        due = latency.SHARED_RATE * SECONDS
        assert point["sent"] + point["missed"] == pytest.approx(due, abs=2)
        assert 0 < point["p50_ns"] <= point["p99_ns"] <= point["p99.9_ns"]
        assert point["switches_per_s"] > 0
    assert sum("testpmd" in line for line in found["command_lines"]) == LENGTH - 2
