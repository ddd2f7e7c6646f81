# SPDX-License-Identifier: Apache-2.0
"""Whoever dies, stops or falls silent while a VM has a link."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.faults.stages import is_stopped
from tests.system.scene import becomes, eventually

from ovs_highway.agent.breakpoint import POINTS, VM_POINTS
from ovs_highway.lab import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.scene import Vnf
    from tests.vm.world import GuestVnf, VmWorld

    from ovs_highway.lab.vm import Vm

BREAK_UNPLUG: Final = ("draining", "withdrawn", "unplug", "deleted")
QUICK: Final = ("memory", "both", "deleted")


@pytest.fixture(scope="module")
def stop_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where highwayd is told to stop itself."""
    return tmp_path_factory.mktemp("vm") / "stop"


@pytest.fixture(scope="module")
def sandbox(stop_file: Path) -> Iterator[Sandbox]:
    """A switch whose highwayd can be stopped at a point of a link's life.

    Without the detector, so that links come with the first packet, and go with a label.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGHWAY_STOP_FILE", str(stop_file))
        with Sandbox() as switch:
            switch.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-detector=off")
            yield switch


def mixed(world: VmWorld) -> tuple[Vm, GuestVnf, Vnf]:
    """A VM at p1 and a process at p2 that send to each other."""
    world.ports(2)
    vm = world.vm(1)
    guest, process = world.guest(vm), world.vnf(2)
    world.add_flow("cookie=1,in_port=1,actions=2")
    world.add_flow("cookie=2,in_port=2,actions=1")
    return vm, guest, process


def arrives(guest: GuestVnf, process: Vnf) -> None:
    """What one sends the other gets, both ways."""
    for sender, receiver in ((guest, process), (process, guest)):
        before = receiver.received_all()
        sent = sender.send(3)
        becomes(
            lambda receiver=receiver, before=before: receiver.received() - before,  # type: ignore[misc]
            sent,
            f"{receiver.name} has what {sender.name} sent",
        )


def test_a_guest_program_that_was_killed_finds_its_port_and_links_again(world: VmWorld) -> None:
    """SIGKILL for testpmd in a guest, under a link.

    Steps: kill it; start it again.
    Verify: highwayd hears of the end from QEMU, and the link's device is unplugged; the new program
    finds its port, and gets a link with another region.
    """
    vm, guest, process = mixed(world)
    world.bypass_on(guest, process)
    (before,) = world.devices(vm)
    guest.kill()
    world.is_unplugged(vm)
    guest.launch()
    guest.wait_link_up()
    guest.start()
    world.bypass_on(guest, process)
    assert world.devices(vm) != [before]
    arrives(guest, process)


def test_a_vm_is_rebooted_and_switched_off_while_linked(world: VmWorld) -> None:
    """A reboot keeps QEMU and what is plugged; power-off ends it.

    Steps: reboot the guest under a link, start its program again; switch it off; start QEMU anew.
    Verify: each time the link goes and comes again; the process at the other end goes on.
    """
    vm, guest, process = mixed(world)
    world.bypass_on(guest, process)
    vm.reboot()
    guest.abandon()
    vm.wait_booted()
    world.is_unplugged(vm)
    guest.launch()
    guest.wait_link_up()
    guest.start()
    world.bypass_on(guest, process)
    vm.poweroff()
    guest.abandon()
    world.no_regions()
    assert not world.vms()["vm1"]["running"]
    assert process.send(1).packets > 0
    vm.start()
    guest.launch()
    guest.wait_link_up()
    guest.start()
    world.bypass_on(guest, process)
    arrives(guest, process)


@pytest.mark.parametrize(
    "point",
    [
        point if point in QUICK else pytest.param(point, marks=pytest.mark.long)
        for point in (*POINTS[:5], *VM_POINTS[:2], *BREAK_UNPLUG)
    ],
)
def test_highwayd_is_killed_at_each_step_of_a_plug_and_an_unplug(
    world: VmWorld, stop_file: Path, point: str
) -> None:
    """SIGKILL for highwayd at a point of a link's life, and a new one.

    Steps: have highwayd stop itself at the point; kill it; start another; send.
    Verify: both VNFs go on; in the end there is one link with one device, or, after an unplug,
    none; nothing else stays plugged, and QEMU has not aborted.
    """
    vm, guest, process = mixed(world)
    where = "vm1" if point in VM_POINTS else "p1-p2"
    highwayd = world.sandbox.daemon("highwayd")
    if point in BREAK_UNPLUG:
        world.bypass_on(guest, process)
        stop_file.write_text(f"{point} {where}\n")
        world.trust(1, "nobody")
    else:
        stop_file.write_text(f"{point} {where}\n")
        guest.send()
    eventually(lambda: is_stopped(highwayd.pid), f"highwayd stops at {point}")
    world.sandbox.kill_highwayd()
    world.sandbox.start_highwayd()
    guest.wait_link_up()
    arrives(guest, process)
    if point in BREAK_UNPLUG:
        world.is_unplugged(vm)
        world.no_regions()
        world.trust(1, "sandbox")
    world.bypass_on(guest, process)
    becomes(lambda: len(world.devices(vm)), 1, "one device")
    becomes(lambda: len(vm.ports()), 2, "devices in the guest")
    arrives(guest, process)


def test_without_its_monitor_a_vm_keeps_the_normal_channel(world: VmWorld) -> None:
    """QEMU's QMP socket is gone when highwayd comes.

    Steps: remove the socket's file; restart highwayd; send; put the file back.
    Verify: `highway vm list` and `highway links` name the reason; traffic goes through the switch;
    with the file back there is a link.
    """
    vm, guest, process = mixed(world)
    socket = world.sandbox.rundir / "vms/vm1/qmp"
    world.sandbox.stop_highwayd()
    away = socket.rename(socket.with_name("away"))
    world.sandbox.start_highwayd()
    eventually(lambda: guest.link_status(0), "the port is up")
    guest.send()
    eventually(lambda: "no QEMU answers" in world.link_reason(1, 2), "the reason is shown")
    assert "no QEMU answers" in world.vms()["vm1"]["problem"]
    arrives(guest, process)
    assert guest.bypassed() == 0
    away.rename(socket)
    world.bypass_on(guest, process)
    assert vm.alive


def test_a_guest_that_never_answers_keeps_its_memory_to_itself(world: VmWorld) -> None:
    """The guest's program is stopped while a link is being taken down, and goes on later.

    Steps: stop it under a link; forbid the link; wait until highwayd has given up; let two other
    ports of the VM's peer have links meanwhile; let the program go on.
    Verify: the link's device stays plugged as long as the program may have it mapped, though the
    link is gone; when the program goes on it lets go, and only then the device is unplugged.
    """
    vm, guest, process = mixed(world)
    world.bypass_on(guest, process)
    (device,) = world.devices(vm)
    vm.shell("killall -STOP dpdk-testpmd")
    world.trust(1, "nobody")
    world.no_regions()
    assert world.devices(vm) == [device]
    assert len(vm.ports()) == 2
    vm.shell("killall -CONT dpdk-testpmd")
    world.is_unplugged(vm)
    world.trust(1, "sandbox")
    world.bypass_on(guest, process)
    assert world.devices(vm) != [device]
    arrives(guest, process)


def test_a_vm_that_stands_still_delays_only_its_own_links(world: VmWorld) -> None:
    """QEMU of one VM is stopped; its neighbour gets a link meanwhile.

    Steps: stop QEMU of the VM at p3; want links from p1 to p2 and from p2 to p3.
    Verify: the first is there while the other waits; it comes when QEMU goes on.
    """
    vm, guest, process = mixed(world)
    world.ports(1, first=3)
    other = world.vm(3)
    third = world.guest(other)
    world.add_flow("cookie=3,priority=40000,in_port=3,actions=2")
    os.kill(other.process.pid, signal.SIGSTOP)
    try:
        world.bypass_on(guest, process)
        assert world.devices(vm)
    finally:
        os.kill(other.process.pid, signal.SIGCONT)
    world.bypass_on(third)


def test_when_slots_are_used_up_a_link_is_off_with_that_reason(world: VmWorld) -> None:
    """A VM with room for one more device.

    Steps: fill the PCI bus of a VM but for one slot; want links to two processes; forbid the first.
    Verify: one link is there; the other is off for want of a slot, which is said once and not tried
    again and again; it comes when the first has gone.
    """
    world.ports(3)
    filler = [word for n in range(4, 30) for word in ("-device", f"pci-testdev,addr={n:#x}")]
    vm = world.vm(1, options=filler)
    guest = world.guest(vm)
    world.vnf(2)
    world.vnf(3)
    free = 32 - int(vm.shell("ls /sys/bus/pci/devices | sed s/[.].*// | uniq | wc -l"))
    for number in range(2, 4):
        world.add_flow(f"in_port=1,dl_dst=02:00:00:00:00:0{number},actions={number}")
    assert free == 2, free
    world.ports(1, first=4)
    world.vnf(4)
    world.add_flow("in_port=1,dl_dst=02:00:00:00:00:04,actions=4")
    for number in (2, 3):
        guest.send_to(f"02:00:00:00:00:0{number}")
        world.bypass_on(guest)
    guest.send_to("02:00:00:00:00:04")
    guest.send()
    eventually(lambda: "no free PCI slot" in world.link_reason(1, 4), "the reason is shown")
    log = world.sandbox.daemon("highwayd").log
    assert "QEMU refuses" not in log.read_text()
    assert len(world.devices(vm)) == 2
    world.trust(2, "nobody")
    world.bypass_on(guest)


def test_half_a_message_damages_no_other(world: VmWorld) -> None:
    """What an earlier program or an earlier highwayd has left in the channel.

    Steps: before the guest's program starts, write half a message from the guest; while highwayd
    is away, write half a message from the host, and noise.
    Verify: each time the port and the link come up.
    """
    world.ports(2)
    vm = world.vm(1)
    vm.shell("(printf HWYM; head -c 100 /dev/urandom) > /dev/vport0p1")
    guest, process = world.guest(vm), world.vnf(2)
    world.add_flow("in_port=1,actions=2")
    world.add_flow("in_port=2,actions=1")
    world.bypass_on(guest, process)
    world.sandbox.stop_highwayd()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(world.sandbox.rundir / "vms/vm1/control"))
        sock.sendall(b"HWYM" + bytes(range(100)) + b"HWYM" + bytes(300) + b"HW")
    world.sandbox.start_highwayd()
    eventually(lambda: world.vms()["vm1"]["program"], "highwayd hears of the program")
    world.trust(1, "nobody")
    world.is_unplugged(vm)
    world.trust(1, "sandbox")
    world.bypass_on(guest, process)
    arrives(guest, process)
