# SPDX-License-Identifier: Apache-2.0
"""Eight VMs in a row, each with two ports, as in the paper's measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import becomes, eventually

if TYPE_CHECKING:
    from tests.vm.world import VmWorld

VMS: Final = 8


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_chain_of_eight_vms_has_seven_direct_links_and_exact_counters(world: VmWorld) -> None:
    """VM 1 sends, VMs 2 to 7 forward between their two ports, VM 8 receives.

    Steps: send bursts until all seven hops use the bypass; then 100 bursts.
    Verify: there are seven links, each plugged into two VMs; the sink has all; the rule of each hop
    has counted all that was ever sent; no port of OVS has sent or received any of the 100 bursts
    itself.
    """
    world.ports(2 * VMS)
    vms = [world.vm(2 * n - 1, 2 * n) for n in range(1, VMS + 1)]
    guests = [world.guest(vm, ports=2) for vm in vms]
    for guest in guests[1:-1]:
        guest.command("stop")
        guest.set_fwd("io")
        guest.start()
    source, sink = guests[0], guests[-1]
    for n in range(1, VMS):
        world.add_flow(f"cookie={n},in_port={2 * n},actions={2 * n + 1}")

    def all_bypassed() -> bool:
        before = [guest.bypassed("rx", 0) for guest in guests[1:]]
        source.send()
        return all(
            guest.bypassed("rx", 0) > count for guest, count in zip(guests[1:], before, strict=True)
        )

    eventually(all_bypassed, "every hop uses the bypass", patience=120)
    assert len(world.links()) == VMS - 1
    assert [len(world.devices(vm)) for vm in vms] == [1, *[2] * (VMS - 2), 1]
    sent = source.sent(1)
    becomes(lambda: sink.received(0), sent, "the sink has all")
    normal = [guest.normal("rx", 0) for guest in guests]
    source.send(100)
    sent = source.sent(1)
    becomes(lambda: sink.received(0), sent, "the sink has all")
    assert [guest.normal("rx", 0) for guest in guests] == normal
    for n in range(1, VMS):
        world.flow_becomes(n, sent)
        becomes(lambda n=n: world.port(2 * n).rx, sent, f"port {2 * n}")  # type: ignore[misc]
        becomes(lambda n=n: world.port(2 * n + 1).tx, sent, f"port {2 * n + 1}")  # type: ignore[misc]
