# SPDX-License-Identifier: Apache-2.0
"""As many rules as a port can have, all of them in use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap
from tests.system.scene import Vnf, becomes, eventually

from ovs_highway import shm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.scene import Scene

FIRST_PORT: Final = 1000
LENGTHS: Final = range(60, 60 + 61)
"""Of the frames of rule 0, 1, ... in turn."""


def length_of(rule: int) -> int:
    return LENGTHS[rule % len(LENGTHS)]


def flow_counts(scene: Scene) -> list[tuple[int, int]]:
    """Return packets and bytes of each rule, by its cookie."""
    found = re.findall(r"cookie=(\w+),.* n_packets=(\d+), n_bytes=(\d+)", scene.ofctl("dump-flows"))
    counts = {int(cookie, 16): (int(packets), int(octets)) for cookie, packets, octets in found}
    return [counts[rule + 1] for rule in range(shm.MAX_RULES)]


def test_4096_rules_bypass_and_count_each_for_itself(scene: Scene, tmp_path: Path) -> None:
    """The most rules that a port can have are all in force.

    Steps: p1 with rules=4096 and an OpenFlow rule per UDP port; its VNF replays a frame for each,
    whose length tells which rule it is, again and again; until nothing takes the normal channel.
    Verify: 4,096 rules are in force and none is inert; then all packets bypass, and each rule has
    counted the bytes of its own packets, all rules together what was sent.
    """
    count = shm.MAX_RULES
    scene.ports(1, rules=count)
    scene.ports(1, first=2)
    flows = tmp_path / "flows"
    flows.write_text(
        "".join(
            f"cookie={rule + 1},in_port=1,udp,tp_dst={FIRST_PORT + rule},actions=2\n"
            for rule in range(count)
        ),
        encoding="utf-8",
    )
    scene.ofctl("add-flows", "--bundle", str(flows), version="OpenFlow15")
    frames = tmp_path / "frames.pcap"
    headers = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(dst="198.18.0.2")
    wrpcap(
        str(frames),
        [
            headers / UDP(dport=FIRST_PORT + rule) / bytes(length_of(rule) - 42)
            for rule in range(count)
        ],
    )
    scene.vnf(2)
    vdevs = ["net_highway0,port=p1,idle=yield", f"net_pcap0,rx_pcap={frames},infinite_rx=1"]
    with Vnf("p1", vdevs=vdevs, env=scene.sandbox.env) as sender:
        sender.wait_link_up()
        region = scene.region(1)
        sender.start()
        eventually(lambda: region.switch().rules_live == count, "all rules are in force")
        assert region.switch().rules_inert == 0

        def all_bypass() -> bool:
            normal, bypassed = sender.normal(), sender.bypassed()
            eventually(lambda: sender.bypassed() > bypassed + 2 * count, "it goes on")
            return sender.normal() == normal

        eventually(all_bypass, "nothing takes the normal channel")
        sender.command("stop")
        sent = sender.sent()
        becomes(
            lambda: tuple(map(sum, zip(*flow_counts(scene), strict=True))),
            (sent.packets, sent.bytes),
            "all rules together",
        )
        for rule, (packets, octets) in enumerate(flow_counts(scene)):
            assert packets > 2
            assert octets == packets * length_of(rule), f"rule {rule}"
