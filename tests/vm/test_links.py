# SPDX-License-Identifier: Apache-2.0
"""Links between VMs, and between VMs and processes: made, used, counted, and withdrawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.scene import BRIDGE, BURST, becomes, eventually
from tests.vm.world import IDLE

if TYPE_CHECKING:
    from tests.vm.world import VmWorld


def test_two_vms_get_a_link_while_traffic_flows_and_lose_it_with_the_rule(world: VmWorld) -> None:
    """The life of a link between two VMs.

    Steps: send from p1 to p2 until the bypass is used, then 100 bursts; send a packet out from the
    controller; change the rule so that p1's packets are dropped; forbid the link.
    Verify: everything arrives; flow and port counters are exact; the packet-out arrives over the
    normal channel; with the rule gone nothing arrives; both guests lose the device, and its region
    goes.
    """
    one, two, first, second = world.pair()
    world.bypass_on(first)
    assert len(world.devices(one)) == len(world.devices(two)) == 1
    assert len(one.ports()) == len(two.ports()) == 2
    first.send(100)
    sent = first.sent()
    becomes(second.received, sent, "p2 has all")
    assert second.bypassed("rx") > 100 * BURST
    world.flow_becomes(1, sent)
    becomes(lambda: world.port(1).rx, sent, "port 1 of OpenFlow")
    becomes(lambda: world.port(2).tx, sent, "port 2 of OpenFlow")

    normal = second.normal("rx")
    packet = f"{'02' * 6}{'04' * 6}0800{'00' * 50}"
    world.ofctl("packet-out", f"in_port=controller,packet={packet},actions=2")
    becomes(lambda: second.normal("rx"), normal + 1, "the packet-out has arrived")

    world.ofctl("mod-flows", "in_port=1,actions=drop")
    world.bypass_off(first)
    got = second.received_all()
    first.send(5)
    assert second.received_all() == got
    world.trust(1, "nobody")
    world.is_unplugged(one, two)
    world.no_regions()
    assert one.alive
    assert two.alive


def test_a_vm_and_a_process_get_a_link(world: VmWorld) -> None:
    """The region goes to one end as a PCI device and to the other as a file descriptor.

    Steps: a VM at p1, a process at p2; send both ways.
    Verify: both ways use the bypass; all arrives and is counted.
    """
    world.ports(2)
    vm = world.vm(1)
    guest, process = world.guest(vm), world.vnf(2)
    world.add_flow("cookie=1,in_port=1,actions=2")
    world.add_flow("cookie=2,in_port=2,actions=1")
    world.bypass_on(guest, process)
    guest.send(50)
    process.send(50)
    becomes(process.received, guest.sent(), "what the VM has sent")
    becomes(guest.received, process.sent(), "what the process has sent")
    world.flow_becomes(1, guest.sent())
    world.flow_becomes(2, process.sent())
    world.trust(2, "nobody")
    world.is_unplugged(vm)
    world.no_regions()


def test_two_vms_and_a_process_in_a_triangle(world: VmWorld) -> None:
    """Each of three VNFs has a link to each of the others.

    Steps: web traffic and other traffic of each VNF go to different peers: by ethertype, since
    testpmd sends one kind at a time. Send to one peer, then to the other.
    Verify: three links; each way uses the bypass; nothing arrives at the wrong peer.
    """
    world.ports(3)
    vms = world.vm(1), world.vm(2)
    guests = [world.guest(vm) for vm in vms]
    vnfs = {1: guests[0], 2: guests[1], 3: world.vnf(3)}
    mac = {1: "02:00:00:00:00:01", 2: "02:00:00:00:00:02", 3: "02:00:00:00:00:03"}
    for number, vnf in vnfs.items():
        for peer in set(vnfs) - {number}:
            world.add_flow(f"in_port={number},dl_dst={mac[peer]},actions={peer}")
            vnf.send_to(mac[peer])
            before = {other: vnfs[other].received().packets for other in vnfs}
            world.bypass_on(vnf)
            third = ({1, 2, 3} - {number, peer}).pop()
            eventually(
                lambda peer=peer, before=before: (  # type: ignore[misc]
                    vnfs[peer].received().packets >= before[peer] + BURST
                ),
                "the peer has it",
            )
            assert vnfs[third].received().packets == before[third]
    assert len(world.links()) == 3
    assert [len(world.devices(vm)) for vm in vms] == [2, 2]


def test_both_ports_of_one_vm_get_a_link(world: VmWorld) -> None:
    """Both ends of a link are in one program: one device, mapped twice.

    Steps: a VM with p1 and p2; each port's packets go to the other; then forbid the link.
    Verify: the bypass is used both ways over one device, which goes when both ports let go of it.
    """
    world.ports(2)
    vm = world.vm(1, 2)
    vnf = world.guest(vm, ports=2)
    world.add_flow("cookie=1,in_port=1,actions=2")
    world.add_flow("cookie=2,in_port=2,actions=1")

    def both_bypassed() -> bool:
        before = [vnf.bypassed("rx", port) for port in (0, 1)]
        vnf.send()
        return all(vnf.bypassed("rx", port) > before[port] for port in (0, 1))

    eventually(both_bypassed, "both ways use the bypass")
    assert len(world.devices(vm)) == 1
    for port, peer in ((0, 1), (1, 0)):
        becomes(
            lambda port=port: vnf.received(port),  # type: ignore[misc]
            vnf.sent(peer),
            f"port {port}",
        )
    world.flow_becomes(1, vnf.sent(0))
    world.trust(1, "nobody")
    world.is_unplugged(vm)


def test_a_port_named_as_a_vdev_in_the_guest_is_found(world: VmWorld) -> None:
    """`--vdev net_highway0,port=p1` in a guest, as in a process.

    Steps: name the port in the guest, with an option; send to a process.
    Verify: it is the program's only port, and it gets a link.
    """
    world.ports(2)
    vm = world.vm(1)
    guest = world.guest(vm, vdevs=[f"net_highway0,port=p1,{IDLE}"])
    assert "net_highway0" in guest.command("show port summary all")
    assert "0000:" not in guest.command("show port summary all")
    world.vnf(2)
    world.add_flow("in_port=1,actions=2")
    world.bypass_on(guest)


def test_other_ivshmem_devices_are_left_alone(world: VmWorld) -> None:
    """A device of that kind whose memory is no region of ours.

    Steps: a VM with such a device besides, its memory filled by the guest; start testpmd.
    Verify: it has one port; the memory is as it was.
    """
    world.ports(1)
    memory = ("-object", "memory-backend-ram,id=other,size=1M,share=on")
    device = ("-device", "ivshmem-plain,id=otherdev,memdev=other,addr=0x1c")
    vm = world.vm(1, options=[*memory, *device])
    resource = "/sys/bus/pci/devices/0000:00:1c.0/resource2"
    assert vm.shell(f"ls {resource}")
    guest = world.guest(vm)
    assert len(vm.ports()) == 2
    assert "Number of available ports: 1" in guest.command("show port summary all")
    guest.send()
    assert world.devices(vm, "port") == ["p1"]


def test_a_bar_that_is_too_slow_leaves_the_link_off(world: VmWorld) -> None:
    """The driver times a link's memory when it attaches it.

    Steps: a guest that takes any memory for too slow, as one that is not cached would be.
    Verify: `highway links` says so; traffic goes through the switch; nothing stays plugged.
    """
    world.ports(2)
    vm = world.vm(1)
    guest = world.guest(vm, devargs=f"{IDLE},bar-limit=1")
    process = world.vnf(2)
    world.add_flow("in_port=1,actions=2")
    guest.send()
    eventually(lambda: "too slow" in world.link_reason(1, 2), "the reason is shown")
    before = process.received()
    sent = guest.send(5)
    becomes(lambda: process.received() - before, sent, "it goes through the switch")
    assert guest.bypassed() == 0
    world.is_unplugged(vm)


def test_a_second_program_in_a_vm_is_told_why_it_has_no_ports(world: VmWorld) -> None:
    """The control channel is one program's.

    Steps: with a program running in a VM, start another one.
    Verify: that one's port stays down, and it says why; the first one's goes on.
    """
    world.ports(1)
    vm = world.vm(1)
    guest = world.guest(vm)
    said = vm.shell(
        "(sleep 2; echo quit) | dpdk-testpmd -l 0 --file-prefix second --no-huge -m 24"
        " --no-telemetry -- -i --total-num-mbufs=2048 2>&1",
        check=False,
    )
    assert "another program of this VM has it" in said, said
    assert guest.link_status(0)
    assert BRIDGE in world.sandbox.vsctl("list-br")


def test_a_guest_that_is_locked_down_says_why_it_has_no_port(world: VmWorld) -> None:
    """A kernel that lets no program map PCI memory, as with secure boot.

    Steps: a guest with `lockdown=integrity`; start testpmd, with the port named so that it looks
    for it all the time.
    Verify: the driver says why, once; the program goes on.
    """
    world.ports(1)
    vm = world.vm(1, kernel="lockdown=integrity")
    said = vm.shell(
        "(sleep 3; echo quit) | dpdk-testpmd --lcores 0@0,1@0 --no-huge -m 48 --no-telemetry"
        " --vdev net_highway0,port=p1 -- -i --total-num-mbufs=2048 2>&1",
        check=False,
    )
    assert said.count("this kernel forbids programs to map PCI memory (lockdown)") == 1, said
    assert "Bye..." in said
    assert world.devices(vm, "port") == ["p1"]
