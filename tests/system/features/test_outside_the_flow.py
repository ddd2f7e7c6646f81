# SPDX-License-Identifier: Apache-2.0
"""What OVS does outside of a datapath flow: highwayd keeps such ports off the bypass."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tests.system.features import telemetry
from tests.system.features.collector import Collector
from tests.system.scene import BRIDGE, becomes, eventually

if TYPE_CHECKING:
    from tests.system.features.trio import Trio

LOAD: Final = 20  # bursts


def wait_off(trio: Trio, reason: str) -> None:
    """Wait until the link p1 → p2 is off for a reason."""
    link = trio.scene.link
    eventually(lambda: reason in link(1, 2).get("reason", ""), f"the link is off: {reason}")


def rx_dropped(trio: Trio) -> int:
    """Return what OVS has received from p1 and dropped at once."""
    found = re.search(r"rx pkts=\d+, bytes=\d+, drop=(\d+)", trio.scene.ofctl("dump-ports", "1"))
    assert found is not None
    return int(found[1])


def test_ingress_policing_limits_what_a_port_sends(trio: Trio) -> None:
    """`ingress_policing_rate`, set under a bypass, and taken back.

    Steps: bypass; police p1 to 64 kbit/s with a burst of 16 kbit; send 640 packets at once; take
    it back.
    Verify: nothing is bypassed meanwhile; less than half arrives, and the port counts the rest as
    dropped; then the bypass is on again.
    """
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    police = ["ingress_policing_rate=64", "ingress_policing_burst=16"]
    trio.scene.sandbox.vsctl("set", "Interface", "p1", *police)
    wait_off(trio, "ingress policing")
    dropped = rx_dropped(trio)
    passed = trio.pass_on(LOAD)
    assert passed.bypassed == 0
    assert passed.two.packets < passed.sent.packets / 2
    becomes(lambda: rx_dropped(trio) - dropped, (passed.sent - passed.two).packets, "policed")

    trio.scene.sandbox.vsctl("set", "Interface", "p1", "ingress_policing_rate=0")
    trio.bypass()


def test_egress_policing_limits_what_a_port_gets(trio: Trio) -> None:
    """QoS of type `egress-policer`, set under a bypass, and taken back.

    Steps: bypass; police what goes to p2 to 8,000 byte/s with a burst of 2,048 bytes; send 640
    packets at once; take it back.
    Verify: nothing is bypassed meanwhile; less than half arrives, and the port counts the rest as
    dropped; then the bypass is on again.
    """
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    trio.scene.sandbox.vsctl(
        *("--id=@q", "create", "QoS", "type=egress-policer", "other_config:cir=8000"),
        *("other_config:cbs=2048", "--", "set", "Port", "p2", "qos=@q"),
    )
    wait_off(trio, "QoS on port p2")
    dropped = trio.scene.port(2).tx_dropped
    passed = trio.pass_on(LOAD)
    assert passed.bypassed == 0
    assert passed.two.packets < passed.sent.packets / 2
    lost = (passed.sent - passed.two).packets
    becomes(lambda: trio.scene.port(2).tx_dropped - dropped, lost, "policed")

    trio.scene.sandbox.vsctl("clear", "Port", "p2", "qos")
    trio.bypass()


def test_netflow_counts_every_packet(trio: Trio) -> None:
    """NetFlow, switched on and off under a bypass.

    Steps: bypass; create the NetFlow exporter; send; clear it.
    Verify: nothing is bypassed meanwhile, all arrives, and the records count each packet; then
    the bypass is on again.
    """
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    with Collector(trio.scene.sandbox) as collector:
        trio.scene.sandbox.vsctl(
            *("--id=@n", "create", "NetFlow", f'targets="{collector.address}"'),
            *("active_timeout=1", "--", "set", "Bridge", BRIDGE, "netflow=@n"),
        )
        wait_off(trio, f"NetFlow on bridge {BRIDGE}")
        trio.scene.revalidate()
        passed = trio.pass_on(LOAD)
        assert passed.bypassed == 0
        assert passed.two == passed.sent
        becomes(
            lambda: telemetry.netflow_packets(collector.datagrams()),
            passed.sent.packets,
            "packets in records",
        )
        trio.scene.sandbox.vsctl("clear", "Bridge", BRIDGE, "netflow")
        trio.bypass()
