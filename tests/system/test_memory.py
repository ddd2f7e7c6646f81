# SPDX-License-Identifier: Apache-2.0
"""How much memory regions and highwayd take."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import BRIDGE, becomes, eventually

from ovs_highway import paths, shm, unixctl
from ovs_highway import region as regions
from ovs_highway.lab import TestPmd

if TYPE_CHECKING:
    from tests.system.scene import Scene

MIB: Final = 1 << 20
IN_SWITCH: Final = 30  # Debian's DPDK has no more than 32 ports in one process
IN_OTHERS: Final = 34
FREE: Final = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")


def test_default_regions_are_at_most_16_mib(scene: Scene) -> None:
    """A port and a link as they are made without any option.

    Steps: two ports and a bypass between them.
    Verify: no region is larger than 16 MiB; their sizes are powers of two, on huge pages.
    """
    scene.ports(2)
    _, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(sender)
    files = scene.region_files()
    assert len(files) == 3
    for file in files:
        size = file.stat().st_size
        assert size <= 16 * MIB
        assert shm.power_of_two(size)
        assert file.parent == regions.region_dirs()[0]


@pytest.mark.timeout(300)
def test_highwayd_with_64_ports_takes_at_most_100_mib(scene: Scene) -> None:
    """Many ports in one run directory.

    Steps: add 30 ports to OVS; have two other programs make 34 more (role switch, as OVS's are);
    use a bypass between two; then end the programs and delete all ports.
    Verify: highwayd knows 64 ports and has at most 100 MiB resident; the bypass works; afterwards
    no region of OVS's ports is left.
    """
    pages = IN_SWITCH + IN_OTHERS + 400
    if int(FREE.read_text()) < pages:
        pytest.skip(f"fewer than {pages} free huge pages of 2 MiB; raise vm.nr_hugepages")
    scene.ports(IN_SWITCH, **{"ring-size": 64, "rules": 64})
    others = [f"net_highway_q{number},role=switch" for number in range(IN_OTHERS)]
    half = IN_OTHERS // 2
    with other_switch(scene, others[:half]), other_switch(scene, others[half:]):
        total = IN_SWITCH + IN_OTHERS
        becomes(lambda: len(scene.highway_json("show")["ports"]), total, "ports shown")
        becomes(lambda: ports_of_highwayd(scene), total, "ports that highwayd knows")
        receiver, sender = scene.vnf(2), scene.vnf(1)
        scene.add_flow("in_port=1,actions=2")
        scene.bypass_on(sender)
        becomes(receiver.received, sender.sent(), "the receiver")
        status = Path(f"/proc/{scene.sandbox.daemon('highwayd').pid}/status").read_text()
        (rss,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        assert int(rss) * 1024 <= 100 * MIB, status
    for number in range(1, IN_SWITCH + 1):
        scene.sandbox.del_port(BRIDGE, f"p{number}")
    eventually(lambda: scene.region_files("port-p") == [], "regions of deleted ports are removed")


def other_switch(scene: Scene, devices: list[str]) -> TestPmd:
    """Return a program that makes port regions as ovs-vswitchd does."""
    return TestPmd(
        f"switch-{devices[0].split(',')[0]}",
        vdevs=[f"{device},ring-size=64,rules=64" for device in devices],
        env=scene.sandbox.env,
    )


def ports_of_highwayd(scene: Scene) -> int:
    """Return the number of ports that highwayd itself tells of."""
    answer = unixctl.call(paths.control_socket(scene.sandbox.rundir), "highway/show", timeout=10)
    return len(json.loads(answer)["ports"])
