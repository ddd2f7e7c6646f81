# SPDX-License-Identifier: Apache-2.0
"""sFlow and IPFIX: who samples traffic sees it, since sampled traffic stays with the switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.system.features import telemetry
from tests.system.features.collector import Collector
from tests.system.scene import BRIDGE, becomes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.features.trio import Trio


@pytest.fixture
def collector(trio: Trio) -> Iterator[Collector]:
    """A UDP socket beside OVS that keeps what it receives."""
    with Collector(trio.scene.sandbox) as collector:
        yield collector


def test_sflow_sees_every_packet_of_a_flow_that_was_bypassed(
    trio: Trio, collector: Collector
) -> None:
    """sFlow that samples each packet, switched on and off under a bypass.

    Steps: bypass; create the sFlow; send; clear it; send.
    Verify: while it is there nothing is bypassed, and the collector has a sample of each packet;
    then the bypass is on again.
    """
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    trio.mark()
    trio.scene.sandbox.vsctl(
        *("--id=@s", "create", "sFlow", "agent=lo", f'targets="{collector.address}"'),
        *("sampling=1", "polling=0", "header=64", "--", "set", "Bridge", BRIDGE, "sflow=@s"),
    )
    trio.scene.revalidate()
    start = trio.one.sent().packets
    first = len(collector.datagrams())
    passed = trio.normal()
    assert passed.two == passed.sent
    sent = trio.one.sent().packets - start
    becomes(
        lambda: sum(map(telemetry.sflow_packets, collector.datagrams()[first:])), sent, "samples"
    )

    trio.scene.sandbox.vsctl("clear", "Bridge", BRIDGE, "sflow")
    trio.bypass()


def test_ipfix_of_a_bridge_sees_every_packet(trio: Trio, collector: Collector) -> None:
    """IPFIX of the whole bridge, switched on and off under a bypass.

    Steps: bypass; create the IPFIX exporter with sampling 1 and no cache; send; clear it; send.
    Verify: while it is there nothing is bypassed, and the records count each packet that came in;
    then the bypass is on again.
    """
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    trio.mark()
    trio.scene.sandbox.vsctl(
        *("--id=@i", "create", "IPFIX", f'targets="{collector.address}"', "sampling=1"),
        *("cache_max_flows=0", "--", "set", "Bridge", BRIDGE, "ipfix=@i"),
    )
    trio.scene.revalidate()
    start = trio.one.sent().packets
    passed = trio.normal()
    assert passed.two == passed.sent
    sent = trio.one.sent().packets - start
    becomes(lambda: telemetry.ipfix_packets(collector.datagrams()), sent, "packets in records")

    trio.scene.sandbox.vsctl("clear", "Bridge", BRIDGE, "ipfix")
    trio.bypass()


def test_ipfix_of_a_flow_sees_every_packet(trio: Trio, collector: Collector) -> None:
    """A flow with a `sample` action and a flow-sample collector set.

    Steps: bypass; modify the flow so that it samples each packet; send; modify it back; send.
    Verify: while it samples nothing is bypassed, and the records count each packet.
    """
    trio.scene.sandbox.vsctl(
        *("--id=@b", "get", "Bridge", BRIDGE),
        *("--", "--id=@i", "create", "IPFIX", f'targets="{collector.address}"'),
        *("cache_max_flows=0", "--", "create", "Flow_Sample_Collector_Set", "id=1"),
        *("bridge=@b", "ipfix=@i"),
    )
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    trio.mark()
    sample = "sample(probability=65535,collector_set_id=1,obs_domain_id=5,obs_point_id=6)"
    trio.scene.ofctl("mod-flows", f"in_port=1,actions={sample},2")
    trio.scene.revalidate()
    start = trio.one.sent().packets
    passed = trio.normal()
    assert passed.two == passed.sent
    sent = trio.one.sent().packets - start
    becomes(lambda: telemetry.ipfix_packets(collector.datagrams()), sent, "packets in records")

    trio.scene.ofctl("mod-flows", "in_port=1,actions=2")
    trio.bypass()
