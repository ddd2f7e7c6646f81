# SPDX-License-Identifier: Apache-2.0
"""A VNF has its region as a file descriptor, and with it may cut the file short."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from tests.system.scene import Scene


def test_a_vnf_that_cuts_its_region_short_does_not_end_the_switch(scene: Scene) -> None:
    """ftruncate on the descriptor that highwayd hands over.

    Steps: a bypass p1 → p2; truncate p1's region as its VNF could, while the VNF sends.
    Verify: ovs-vswitchd lives, and so does a bypass between other ports.
    """
    scene.ports(4)
    _, sender = scene.vnf(2), scene.vnf(1)
    _, other = scene.vnf(4), scene.vnf(3)
    scene.add_flow("in_port=1,actions=2")
    scene.add_flow("in_port=3,actions=4")
    scene.bypass_on(sender, other)
    os.truncate(scene.region_files("port-p1")[0], 0)
    switch = scene.sandbox.daemon("ovs-vswitchd")
    assert not wait_until(lambda: not switch.alive, 2), "ovs-vswitchd has died"
    scene.bypass_on(other)


def test_a_link_that_is_cut_short_ends_no_vnf(scene: Scene) -> None:
    """ftruncate on a link's descriptor by one of its ends.

    Steps: a bypass p1 → p2 under traffic; truncate the link's region.
    Verify: both VNFs and the switch live, and the bypass comes back over a new link.
    """
    scene.ports(2)
    _, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(sender)
    os.truncate(scene.region_files("link")[0], 0)
    assert wait_until(lambda: not scene.region_files("link"), 20), "the damaged link stays"
    assert wait_until(lambda: bool(scene.region_files("link")), 30), "no new link"
    scene.bypass_on(sender)
    assert scene.sandbox.daemon("ovs-vswitchd").alive
