# SPDX-License-Identifier: Apache-2.0
"""VMs are attached and detached while they run, get further ports, and are used up and down."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.system.faults.world import Held
from tests.system.scene import becomes, eventually
from tests.vm.world import IDLE

from ovs_highway import vms
from ovs_highway.lab.vm import Vm

if TYPE_CHECKING:
    from tests.vm.world import VmWorld

FREE: Final = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
CYCLES: Final = 30


def monitor(path: Path, command: str) -> Any:  # noqa: ANN401 - as QMP has it
    """Ask a QMP monitor of the test's own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, sock.makefile("rw") as stream:
        sock.settimeout(10)
        sock.connect(str(path))
        stream.readline()
        for one in ("qmp_capabilities", command):
            stream.write(json.dumps({"execute": one}) + "\n")
            stream.flush()
            while "event" in (answer := json.loads(stream.readline())):
                pass
        return answer["return"]


def test_a_detached_vm_can_be_migrated_and_attached_again(world: VmWorld) -> None:
    """`highway vm detach` and `attach` under a link, with the program in the guest running on.

    Steps: a VM with a link to a process; detach it; attach it again.
    Verify: QEMU tells blockers before and none after; the guest has no device of ours, and the
    program's port is down; then it is up again, with a link.
    """
    world.ports(2)
    own = world.sandbox.rundir / "own.qmp"
    vm = world.vm(1, options=("-qmp", f"unix:{own},server=on,wait=off"))
    guest, process = world.guest(vm), world.vnf(2)
    world.add_flow("in_port=1,actions=2")
    world.bypass_on(guest)
    assert monitor(own, "query-migrate")["blocked-reasons"]
    assert world.highway("vm", "detach", "vm1") == "VM vm1 has no highway device\n"
    assert monitor(own, "query-migrate").get("blocked-reasons", []) == []
    becomes(vm.ports, [], "devices in the guest")
    eventually(lambda: not guest.link_status(0), "the port is down")
    assert world.vms()["vm1"]["migration_blockers"] == []
    assert world.highway("vm", "attach", "vm1") == "VM vm1 has p1\n"
    guest.wait_link_up()
    world.bypass_on(guest)
    assert process.bypassed("rx") > 0


def test_a_running_vm_that_highway_does_not_know_is_attached(world: VmWorld) -> None:
    """A VM with sockets of its own choice, which was started without any port.

    Steps: `highway vm attach` with its sockets and a port; start testpmd in it; then give it
    another port, and have testpmd attach that; in the end have testpmd close it.
    Verify: both ports come up in the one program, and have a link to each other, until one is
    closed; the other port goes on. When the VM is forgotten, a process can have its port.
    """
    world.ports(2)
    folder = world.sandbox.rundir
    qmp, control = folder / "a.qmp", folder / "a.control"
    options = [
        *("-qmp", f"unix:{qmp},server=on,wait=off", "-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=c,path={control},server=on,wait=off"),
        *("-device", "virtserialport,chardev=c,name=org.highway.0,id=vsp"),
    ]
    vm = world.use(Vm("strange", options=options, directory=folder, env=world.sandbox.env))
    try:
        sockets = ("--qmp", str(qmp), "--control", str(control))
        world.highway("vm", "attach", "strange", "p1", *sockets)
        guest = world.guest(vm)
        world.highway("vm", "attach", "strange", "p2")
        guest.command("stop")
        assert "is attached" in guest.command(f"port attach net_highway1,port=p2,{IDLE}")
        guest.command("port start 1")
        guest.wait_link_up(1)
        guest.start()
        world.add_flow("in_port=1,actions=2")
        world.add_flow("in_port=2,actions=1")

        def bypassed() -> bool:
            before = guest.bypassed("rx", 1)
            guest.send()
            return guest.bypassed("rx", 1) > before

        eventually(bypassed, "what port 0 sends goes over the bypass to port 1")
        for command in ("stop", "port stop 1", "port close 1"):
            guest.command(command)
        world.no_regions()
        becomes(lambda: world.devices(vm), [], "links")
        assert guest.link_status(0)
        vms.forget("strange", folder)
        eventually(lambda: "strange" not in world.vms(), "highwayd does not look after it")
        vnf = world.vnf(1)
        assert vnf.link_status(0)
    finally:
        vms.forget("strange", folder)


def test_a_vm_of_type_q35_gets_links_in_its_root_ports(world: VmWorld) -> None:
    """A PCI Express machine takes a device per root port that it was started with.

    Steps: a VM of type q35 with one root port; want links to two processes.
    Verify: one link is there; the other is off for want of a slot.
    """
    world.ports(3)
    root_port = ("-device", "pcie-root-port,id=rp1,chassis=1,slot=1,pref64-reserve=64M")
    vm = world.vm(1, options=root_port, machine="q35")
    guest = world.guest(vm)
    world.vnf(2)
    world.vnf(3)
    for number in (2, 3):
        world.add_flow(f"in_port=1,dl_dst=02:00:00:00:00:0{number},actions={number}")
    guest.send_to("02:00:00:00:00:02")
    world.bypass_on(guest)
    guest.send_to("02:00:00:00:00:03")
    guest.send()
    eventually(lambda: "no free PCI slot" in world.link_reason(1, 3), "the reason is shown")


class Usage:
    """What highwayd, QEMU, the guest's program and the guest hold."""

    def __init__(self, world: VmWorld, vm: Vm) -> None:
        def count(pattern: str) -> int:
            return int(vm.shell(f"ls -d {pattern} | wc -l"))

        text = vm.shell("cat /proc/meminfo; grep -c . /proc/$(pidof dpdk-testpmd)/maps")
        free = re.search(r"MemAvailable: +(\d+)", text)
        assert free is not None
        self.guest_free = int(free[1])
        self.exact = {
            "highwayd": str(Held.by(world.sandbox.daemon("highwayd").pid)),
            "QEMU's descriptors": len(list(Path(f"/proc/{vm.process.pid}/fd").iterdir())),
            "the program's mappings": int(text.split()[-1]),
            "the program's descriptors": count("/proc/$(pidof dpdk-testpmd)/fd/*"),
            "the guest's devices": count("/sys/bus/pci/devices/*"),
        }
        self.huge_free = int(FREE.read_text())


@pytest.mark.parametrize(
    "cycles", [3, pytest.param(CYCLES, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_plugging_and_unplugging_under_traffic_leaves_nothing_behind(
    world: VmWorld, cycles: int
) -> None:
    """A link is forbidden and allowed again while a process floods a guest.

    Steps: some cycles to warm up, then `cycles` of them; each waits for the unplug and the plug.
    Verify: QEMU lives; descriptors, mappings, devices and huge pages are as before, and the guest
    has its memory.
    """
    world.ports(2)
    vm = world.vm(1)
    guest, process = world.guest(vm), world.vnf(2)
    world.add_flow("in_port=2,actions=1")
    world.bypass_on(process)
    process.flood()

    def cycle() -> None:
        before = guest.bypassed("rx")
        (device,) = world.devices(vm)
        world.trust(1, "nobody")
        world.is_unplugged(vm)
        world.trust(1, "sandbox")
        eventually(lambda: world.devices(vm) not in ([], [device]), "another device")
        eventually(lambda: guest.bypassed("rx") > before, "the bypass is used again")

    for _ in range(1 if cycles < CYCLES else 3):
        cycle()
    before = Usage(world, vm)
    for _ in range(cycles):
        cycle()
    assert vm.alive
    becomes(lambda: Usage(world, vm).exact, before.exact, "what is held")
    after = Usage(world, vm)
    eventually(lambda: int(FREE.read_text()) >= before.huge_free, "huge pages are free again")
    assert after.guest_free > before.guest_free - 4096, (before.guest_free, after.guest_free)
    process.quiet()


def test_wrong_commands_are_refused_in_one_line(world: VmWorld) -> None:
    """What users get wrong, and what they are told."""
    world.ports(2)
    world.vm(1)

    def refused(*arguments: str) -> str:
        said = world.highway("vm", *arguments, status=1)
        assert said.count("\n") == 1
        return said

    assert "there is no port nowhere" in refused("args", "nowhere")
    assert "port p1 is VM vm1's" in refused("args", "p1", "--name", "other")
    assert "there is no VM other; known: vm1" in refused("detach", "other")
    assert "is no name" in refused("args", "p2", "--name", "a/b")
    assert "add it with options:dpdk-devargs=net_highway_p2" in refused("args", "p2", "--libvirt")
    assert "is to have no port" in refused("attach", "x", "--qmp", "/run/x", "--control", "/run/y")


def test_a_port_that_is_deleted_leaves_its_vm_and_comes_back_with_another_region(
    world: VmWorld,
) -> None:
    """`del-port` and `add-port` in OVS while a VM has the port and a link.

    Steps: delete p1 and wait; add it again; send.
    Verify: the port's device leaves the guest, and another is plugged for the new region; the same
    program has the port up again, and a link.
    """
    world.ports(2)
    vm = world.vm(1)
    guest, _ = world.guest(vm), world.vnf(2)
    world.add_flow("in_port=1,actions=2")
    world.bypass_on(guest)
    world.sandbox.del_port("br0", "p1")
    becomes(vm.ports, [], "devices in the guest")
    assert not guest.link_status(0)
    world.ports(1)
    becomes(lambda: world.devices(vm, "port"), ["p1"], "the port's device")
    guest.wait_link_up()
    world.bypass_on(guest)
