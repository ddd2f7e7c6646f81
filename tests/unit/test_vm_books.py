# SPDX-License-Identifier: Apache-2.0
"""What is plugged into a VM, and when it may be taken out."""

from __future__ import annotations

import pytest

from ovs_highway.agent.vm.books import BAR_SPACE, UNPLUG_AGAIN, Books, Device, State
from ovs_highway.errors import VmError
from ovs_highway.hypervisor import Bus, DeviceId, Kind

MIB = 1 << 20
LINK = 0xAB


def books(*buses: Bus) -> Books:
    """Return books of a VM with some buses and nothing plugged."""
    found = Books("vm1")
    found.start(buses or (Bus(name="pci.0", free=4),), [])
    return found


def plug(found: Books, kind: Kind, key: str, *users: str, region_id: int = 7) -> Device:
    """Plug a device that some ports may have mapped."""
    device = found.book(DeviceId.fresh(kind, key), 2 * MIB, region_id=region_id)
    device.state = State.PLUGGED
    device.users = set(users)
    return device


def link(found: Books, link_id: int, *users: str) -> Device:
    """Plug a link's device."""
    return plug(found, Kind.LINK, f"{link_id:016x}", *users)


def test_ids_are_read_back_and_never_the_same() -> None:
    """Also of ports with dashes in their names; other devices are not ours."""
    for kind, key in ((Kind.LINK, f"{LINK:016x}"), (Kind.PORT, "a-b-c.d_e")):
        one = DeviceId.fresh(kind, key)
        assert DeviceId.parse(str(one)) == one
    assert len({str(DeviceId.fresh(Kind.PORT, "p")) for _ in range(50)}) > 45
    for other in ("hw-serial", "hw-port", "virtio0", "hw-link-12", "xhw-port-p-0000"):
        assert DeviceId.parse(other) is None


def test_a_link_is_unplugged_when_nobody_can_have_it_mapped() -> None:
    """Both ports of the VM have it: the first one's release is not enough."""
    found = books()
    device = link(found, LINK, "p1", "p2")
    assert found.to_unplug({}, 0.0) == []
    found.released("p1", link_id=LINK)
    assert found.to_unplug({}, 0.0) == []
    found.released("p2", link_id=LINK + 1)
    assert found.to_unplug({}, 0.0) == []
    found.released("p2", link_id=LINK)
    assert found.to_unplug({}, 0.0) == [device]


def test_a_device_that_is_being_plugged_is_not_unplugged() -> None:
    """QEMU does not have it yet."""
    found = books()
    device = found.book(DeviceId.fresh(Kind.LINK, f"{LINK:016x}"), MIB, region_id=LINK)
    assert found.to_unplug({}, 0.0) == []
    device.state = State.PLUGGED
    assert found.to_unplug({}, 0.0) == [device]


def test_a_guest_that_does_not_let_go_is_asked_again_after_a_while() -> None:
    """And the device stays in the books meanwhile."""
    found = books()
    device = link(found, LINK)
    assert found.to_unplug({}, 10.0) == [device]
    assert found.to_unplug({}, 10.0 + UNPLUG_AGAIN / 2) == []
    assert found.to_unplug({}, 10.0 + UNPLUG_AGAIN) == [device]
    assert found.gone(device.ident) is device
    assert list(found) == []


def test_no_program_means_that_nothing_is_mapped() -> None:
    """All links go; ports stay, for the next program."""
    found = books()
    device, _ = link(found, LINK, "p1"), plug(found, Kind.PORT, "p1", "p1")
    found.no_program()
    assert found.to_unplug({"p1": 7}, 0.0) == [device]


def test_a_port_goes_when_it_is_not_wanted_or_its_region_is_another() -> None:
    """But not while its program has it mapped."""
    found = books()
    device = plug(found, Kind.PORT, "p1", "p1", region_id=7)
    assert found.to_unplug({"p1": 8}, 0.0) == []
    found.released("p1")
    assert found.to_unplug({"p1": 7}, 0.0) == []
    assert found.to_unplug({"p1": 8}, 0.0) == [device]
    device.state = State.PLUGGED
    assert found.to_unplug({}, 0.0) == [device]


def test_links_of_an_earlier_life_are_asked_for_once_per_session() -> None:
    """Those that highwayd knows are not."""
    found = books()
    link(found, LINK, "p1", "p2")
    link(found, LINK + 1, "p1")
    assert found.to_ask({LINK + 1}, {"p1": 1}) == [("p1", LINK)]
    assert found.to_ask({LINK + 1}, {"p1": 1}) == []
    again = found.to_ask({LINK + 1}, {"p1": 2, "p2": 5})
    assert sorted(again) == [("p1", LINK), ("p2", LINK)]
    assert found.to_ask({LINK + 1}, {"p1": 2, "p2": 5}) == []


def test_slots_and_addresses_are_booked_until_they_are_used_up() -> None:
    """First the root bus, then the bridge; a device that goes gives its slot back."""
    found = books(Bus(name="pci.0", free=1), Bus(name="br1", free=1))
    first, second = link(found, 1), link(found, 2)
    assert (first.bus, second.bus) == ("pci.0", "br1")
    with pytest.raises(VmError, match="no free PCI slot"):
        link(found, 3)
    assert "no free PCI slot" in (found.why_full(MIB) or "")
    found.gone(first.ident)
    assert link(found, 3).bus == "pci.0"

    found = books(Bus(name="pci.0", free=9))
    found.book(DeviceId.fresh(Kind.LINK, "1" * 16), BAR_SPACE - MIB, region_id=1)
    assert found.why_full(MIB) is None
    assert "no addresses for 2 MiB more" in (found.why_full(2 * MIB) or "")


def test_a_hypervisor_that_chooses_by_itself_is_never_full() -> None:
    """libvirt keeps its own books."""
    found = Books("vm1")
    found.start((), [])
    assert found.why_full(BAR_SPACE * 2) is None
    assert link(found, 1).bus is None
