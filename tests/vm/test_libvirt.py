# SPDX-License-Identifier: Apache-2.0
"""A libvirt domain has ports and links: everything goes through libvirt, which owns the monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.system.scene import becomes, eventually
from tests.vm.domain import Domain, start_daemons, virsh

from ovs_highway import vms
from ovs_highway.lab.process import end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vm.world import VmWorld


@pytest.fixture(scope="module", autouse=True)
def libvirt() -> Iterator[None]:
    """The daemons, for the tests of this module."""
    started = start_daemons()
    yield
    for child in reversed(started):
        end(child)


def test_a_domain_gets_a_link_and_loses_it(world: VmWorld) -> None:
    """Its port by the XML that `highway vm args --libvirt` prints, the link while it runs.

    Steps: a domain at p1, which lies in /dev/shm; a process at p2; send both ways; forbid the link;
    detach the domain, and attach it again.
    Verify: counters are exact; libvirt shows the link's device while it is there, and no device of
    ours when the domain is detached; it gets a link again.
    """
    world.ports(1, memory="shm")
    world.ports(1, first=2)
    xml = world.highway("vm", "args", "--libvirt", "--name", "dom1", "p1")
    try:
        vm = world.use(Domain("dom1", xml))
        guest, process = world.guest(vm), world.vnf(2)
        world.add_flow("cookie=1,in_port=1,actions=2")
        world.add_flow("cookie=2,in_port=2,actions=1")
        world.bypass_on(guest, process)
        assert virsh("dumpxml", "dom1").count("<shmem ") == 2
        guest.send(20)
        becomes(process.received, guest.sent(), "what the domain has sent")
        world.flow_becomes(1, guest.sent())
        world.trust(2, "nobody")
        world.is_unplugged(vm)
        world.no_regions()
        world.trust(2, "sandbox")
        world.bypass_on(guest, process)

        world.highway("vm", "detach", "dom1")
        assert "<shmem " not in virsh("dumpxml", "dom1")
        becomes(vm.ports, [], "devices in the guest")
        world.highway("vm", "attach", "dom1")
        guest.wait_link_up()
        world.bypass_on(guest, process)

        guest.kill()
        eventually(lambda: not world.vms()["dom1"]["program"], "libvirt tells that it has gone")
        world.is_unplugged(vm)
    finally:
        vms.forget("dom1", world.sandbox.rundir)
