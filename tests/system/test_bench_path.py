# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of the hot path measure what they say; how fast it is does not matter here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ovs_highway.bench import links, rules
from ovs_highway.bench.machine import Placement
from ovs_highway.bench.path import RECEIVER, SENDER, Path
from ovs_highway.bench.rules import Case
from ovs_highway.errors import SandboxError
from ovs_highway.lab import Gauge
from ovs_highway.lab.gauge import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 0.1


@pytest.fixture
def bench() -> Iterator[Path]:
    """A bench of its own on the first and the last core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("this needs two cores")
    placement = Placement(first=cores[0], second=cores[-1], switch=cores[-1])
    with Path(placement, seconds=SECONDS, patience=1.0) as bench:
        yield bench


def test_what_is_sent_arrives_and_is_counted(bench: Path) -> None:
    """The gauge sends as told, and both sides are counted.

    Steps: two queues between two ports; sizes of 64 and 1500; then a port where nobody receives.
    Verify: all packets take the bypass and arrive (`take` fails else), each side has calls and
    cycles; nothing is received where nobody does; words that cannot be are refused.
    """
    bench.add_ports(SENDER, RECEIVER, queues=2)
    bench.set_flows("in_port=1,actions=output:2")
    with bench.gauge(queues=2) as gauge:
        bench.await_bypass(gauge, queues=2)
        for size in (64, 1500):
            found = bench.take(gauge, size=size, queues=2).measured
            assert found.sent > 0
            assert found.tx.whole.cycles > 0
            assert found.rx.found.cycles > 0
            assert 1 <= found.rx.found.burst <= 32
            assert found.round_trip_ns > 0
        bench.set_flows("in_port=1,actions=drop")
        nobody = gauge.run(to=NOWHERE, seconds=SECONDS)
        assert nobody.received == 0
        assert nobody.mpps == 0
        for words in ("size=32", "size=1515", "port=2", "queues=3", "pace=1", "to"):
            with pytest.raises(SandboxError, match="refuses"):
                gauge.command(f"run {words}")


def test_the_bare_ring_loses_nothing(bench: Path) -> None:
    """The limit is measured without any port."""
    cores = bench.cores
    with Gauge("bare", cores=(cores.second, cores.first), env=bench.sandbox.env) as gauge:
        for mbufs in (False, True):
            for size in (64, 65, 1500, 9000):
                found = gauge.limit(seconds=SECONDS, size=size, mbufs=mbufs)
                assert found.received == found.sent > 0
        assert gauge.limit(seconds=SECONDS, isa="base").isa == "base"
        with pytest.raises(SandboxError, match="isa"):
            gauge.limit(isa="abacus")


def test_rules_have_as_many_masks_as_asked_for(bench: Path) -> None:
    """Each case has its rules and masks in force, also when it comes after one with others."""
    bench.add_ports(SENDER, RECEIVER, rules=rules.ROOM)
    for case in (Case(rules=10, masks=8), Case(rules=1), Case(rules=100), Case(rules=0)):
        facts = rules._once(bench, case).facts
        masks = case.masks if case.rules else 0
        assert (facts["rules"], facts["masks"]) == (case.rules, masks), case.name


def test_a_receiver_has_64_links(bench: Path) -> None:
    """With 31 ports of the switch and stand-ins beyond, and again with fewer."""
    stand_ins = links.prepare(bench)
    try:
        for count in (64, 1):
            facts = links._once(bench, stand_ins, count).facts
            assert facts["links"] == count
            assert facts["stand_ins"] == max(0, count - links.REAL_LINKS)
    finally:
        stand_ins.close()
