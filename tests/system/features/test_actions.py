# SPDX-License-Identifier: Apache-2.0
"""Actions that only the switch can carry out: each is carried out, on each packet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.system.scene import Count, becomes, eventually

if TYPE_CHECKING:
    from tests.system.features.trio import Trio


def test_a_meter_drops_what_is_above_its_rate(trio: Trio) -> None:
    """A flow with a meter, under a bypass.

    Steps: bypass; modify the flow so that it has a meter of 10 packets per second; send 640
    packets at once; modify it back.
    Verify: while it is metered nothing is bypassed, less than half arrives, and the meter counts
    all that was sent and, as dropped, all that did not arrive; then the bypass is on again.
    """
    trio.scene.ofctl("add-meter", "meter=1,pktps,burst,stats,band=type=drop,rate=10,burst_size=10")
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    trio.mark()
    trio.scene.ofctl("mod-flows", "in_port=1,actions=meter:1,2")
    trio.scene.revalidate()
    trio.normal()

    before = meter(trio)
    passed = trio.pass_on(20)
    came, dropped = (now - was for now, was in zip(meter(trio), before, strict=True))
    assert came == passed.sent.packets
    assert passed.two.packets == passed.sent.packets - dropped
    assert passed.two.packets < passed.sent.packets / 2

    trio.scene.ofctl("mod-flows", "in_port=1,actions=2")
    assert trio.bypass().two.packets > 0


def meter(trio: Trio) -> tuple[int, int]:
    """Return the packets that came to meter 1, and those that it dropped."""
    text = trio.scene.ofctl("meter-stats", "meter=1")
    found = re.search(r"packet_in_count:(\d+).*?bands:\s*0: packet_count:(\d+)", text, re.DOTALL)
    assert found is not None, text
    return int(found[1]), int(found[2])


def test_connections_are_tracked(trio: Trio) -> None:
    """A flow with `ct`, under a bypass.

    Steps: bypass; send UDP through a table that commits connections; then take that away.
    Verify: while they are tracked nothing is bypassed, all arrives, and the connection is in the
    tracker; then the bypass is on again.
    """
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    trio.mark()
    trio.scene.add_flow("cookie=3,table=1,ct_state=+trk,ip,actions=ct(commit),2")
    trio.scene.add_flow("cookie=2,priority=40000,in_port=1,ip,actions=ct(table=1)")
    trio.scene.revalidate()
    passed = trio.normal(cookie=3)
    assert passed.two == passed.sent
    assert trio.scene.flow(2) == trio.scene.flow(3)
    assert re.search(
        r"udp,orig=\(src=198\.18\.0\.1,", trio.scene.sandbox.appctl("dpctl/dump-conntrack")
    )

    trio.scene.ofctl("del-flows", "cookie=2/-1")
    trio.bypass()


def test_the_controller_gets_its_copy_of_every_packet(trio: Trio) -> None:
    """A flow with output to the controller, under a bypass.

    Steps: bypass; modify the flow so that it sends to the controller too; send; modify it back.
    Verify: meanwhile nothing is bypassed, all arrives, and each packet is in a packet-in.
    """
    monitor = trio.scene.monitor()
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    trio.mark()
    trio.scene.ofctl("mod-flows", "in_port=1,actions=controller(max_len=64),2")
    trio.scene.revalidate()
    # One burst each time: OVS keeps no more than 100 packet-ins for a slow controller.
    trio.normal(cookie=None)

    def packet_ins() -> int:
        return monitor.log.read_text().count("PACKET_IN")

    before = trio.one.sent().packets, packet_ins()
    for burst in range(1, 6):
        passed = trio.pass_on(1)
        assert (passed.two, passed.bypassed) == (passed.sent, 0)
        becomes(packet_ins, before[1] + burst * passed.sent.packets, "packet-ins")
    monitor.stop()

    trio.scene.ofctl("mod-flows", "in_port=1,actions=2")
    trio.bypass(cookie=None)


def test_a_port_gets_back_what_it_sends_to_itself(trio: Trio) -> None:
    """`in_port` as an output.

    Steps: bypass; modify the flow so that it outputs to its own port; send; modify it back.
    Verify: meanwhile nothing is bypassed, and the sender gets back all it sends.
    """
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    trio.scene.ofctl("mod-flows", "in_port=1,actions=in_port")
    trio.scene.revalidate()
    passed = trio.normal()
    assert (passed.one, passed.two, passed.three) == (passed.sent, Count(), Count())

    trio.scene.ofctl("mod-flows", "in_port=1,actions=2")
    passed = trio.bypass()
    assert (passed.one, passed.two) == (Count(), passed.sent)


def test_a_learned_flow_lives_as_long_as_bypassed_traffic_refreshes_it(trio: Trio) -> None:
    """`learn` is carried out by the first packet, and again while packets come.

    Steps: a flow that learns a flow for the way back, with a hard timeout of 2 s that each packet
    starts anew, and outputs to p2; send for longer, all of it over the bypass; stop.
    Verify: the learned flow is there all the time, though it is itself not used; then it goes.
    """
    trio.scene.add_flow(
        "cookie=1,in_port=1,actions="
        "learn(table=1,hard_timeout=2,cookie=0x5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),2"
    )
    trio.bypass()
    lives = [trio.scene.ofctl("dump-flows", "table=1")]
    normal = trio.one.normal()
    for _ in range(15):
        trio.scene.bypass_on(trio.one)
        trio.scene.revalidate()
        lives.append(trio.scene.ofctl("dump-flows", "table=1"))
    assert trio.one.normal() == normal
    assert all("cookie=0x5" in text for text in lives)
    assert duration(lives[-1]) > duration(lives[0]) + 2
    eventually(lambda: "cookie=0x5" not in trio.scene.ofctl("dump-flows", "table=1"), "it goes")


def duration(text: str) -> float:
    """Return how long the one flow of a dump has existed, in seconds."""
    found = re.search(r"duration=([\d.]+)s", text)
    assert found is not None, text
    return float(found[1])
