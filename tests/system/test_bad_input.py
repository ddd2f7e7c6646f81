# SPDX-License-Identifier: Apache-2.0
"""Wrong options, damaged regions, bad messages, hostile VNFs: refused and logged, others go on."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.hostile import HUGE_PAGE, Scribbler, write_file
from tests.system.scene import BRIDGE, BURST, Count, becomes, eventually, settled

from ovs_highway import paths, protocol, shm
from ovs_highway.errors import SandboxError
from ovs_highway.lab.process import wait_until
from ovs_highway.shm import Role, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.scene import Scene


class Bystander:
    """A bypass p11 → p12 that must not notice anything."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        scene.ports(2, first=11)
        self.receiver, self.sender = scene.vnf(12), scene.vnf(11)
        scene.add_flow("cookie=11,in_port=11,actions=12")
        scene.bypass_on(self.sender)
        self.switch = scene.sandbox.daemon("ovs-vswitchd").pid

    def check(self) -> None:
        """Verify that the switch lives, and that this bypass works and is counted."""
        assert self.scene.sandbox.daemon("ovs-vswitchd").alive
        assert self.scene.sandbox.daemon("ovs-vswitchd").pid == self.switch
        assert self.scene.sandbox.daemon("highwayd").alive
        before = self.sender.bypassed()
        self.sender.send(4)
        assert self.sender.bypassed() == before + 4 * BURST
        becomes(self.receiver.received, self.sender.sent(), "the bystander receives")
        self.scene.flow_becomes(11, self.sender.sent())


@pytest.fixture
def bystander(scene: Scene) -> Iterator[Bystander]:
    """A bypass that is checked again when the test is over."""
    bystander = Bystander(scene)
    yield bystander
    bystander.check()


# options ---------------------------------------------------------------------------------------

SWITCH_OPTIONS: Final = {
    "role": ("net_highway_x1,role=server", "x1: wrong role: give switch or vnf"),
    "queues-zero": ("net_highway_x2,role=switch,queues=0", "queues=0: give a number from 1 to 16"),
    "queues-many": ("net_highway_x3,role=switch,queues=17", "queues=17: give a number from 1 to"),
    "queues-text": ("net_highway_x4,role=switch,queues=2x", "queues=2x: give a number"),
    "ring-size": ("net_highway_x5,role=switch,ring-size=1000", "ring-size=1000: .*power of two"),
    "rules": ("net_highway_x6,role=switch,rules=-1", "rules=-1: give a number from 1 to 4096"),
    "unknown": ("net_highway_x7,role=switch,colour=red", "known are role, port, socket"),
    "twice": ("net_highway_x8,role=switch,rules=4,rules=8", "rules stands more than once"),
    "vnf-option": ("net_highway_x9,role=switch,idle=yield", "idle is not for role=switch"),
    "no-name": ("net_highway_,role=switch", "name the device net_highway_<port>"),
    "long-name": (f"net_highway_{'n' * 64},role=switch", "name|long"),
    "port": ("net_highway_x10,role=switch,port=p11", "leave port= out"),
    "memory": ("net_highway_x11,role=switch,memory=disk", "wrong memory: give auto or shm"),
    "bar-limit": ("net_highway_x12,role=switch,bar-limit=9", "bar-limit is not for role=switch"),
    "bad-name": ("net_highway_a/b,role=switch", "name the device net_highway_<port>"),
}


def test_wrong_options_of_a_port_are_refused_with_a_reason(
    scene: Scene, bystander: Bystander
) -> None:
    """Each option of the switch's side, given wrongly.

    Steps: add ports with wrong devargs; then one with right ones.
    Verify: OVS reports an error for each, the driver's log line says what is wrong and what to
    give instead; a bypass of other ports is not disturbed, and a right port can be added.
    """
    for name, (devargs, pattern) in SWITCH_OPTIONS.items():
        column = f'options:dpdk-devargs="{devargs}"'
        with pytest.raises(SandboxError):
            scene.sandbox.add_dpdk_port(BRIDGE, "bad", "dpdk", None, column)
        assert re.search(pattern, scene.log()), f"{name}: no log line like '{pattern}'"
        scene.sandbox.del_port(BRIDGE, "bad")
        bystander.check()
    scene.sandbox.add_port(BRIDGE, "x1", 21)


def test_one_device_cannot_be_two_ports(scene: Scene, bystander: Bystander) -> None:
    """The same port name in two ports of the switch.

    Steps: add a second port for the device of p11.
    Verify: it is refused with a reason, and p11 works.
    """
    column = 'options:dpdk-devargs="net_highway_p11,role=switch"'
    with pytest.raises(SandboxError, match="already in use"):
        scene.sandbox.add_dpdk_port(BRIDGE, "again", "dpdk", None, column)
    scene.sandbox.del_port(BRIDGE, "again")
    bystander.check()


VNF_OPTIONS: Final = {
    "no-port": ("net_highway0", "no port; give port="),
    "bad-port": ("net_highway0,port=a/b", "wrong port: give a name"),
    "long-port": (f"net_highway0,port={'n' * 64}", "wrong port: give a name"),
    "role": ("net_highway0,port=p1,role=both", "wrong role: give switch or vnf"),
    "stores": ("net_highway0,port=p1,stores=fast", "wrong stores: give auto, cached or streamed"),
    "idle": ("net_highway0,port=p1,idle=busy", "wrong idle: give poll, yield or sleep"),
    "socket": ("net_highway0,port=p1,socket=here", "wrong socket: give an absolute path"),
    "unknown": ("net_highway0,port=p1,speed=9", "known are role, port, socket"),
    "drain": ("net_highway0,port=p1,drain-timeout=60", "give a number from 1 to 9"),
    "bar-limit": ("net_highway0,port=p1,bar-limit=-1", "give a number from 0 to 1000000"),
    "memory": ("net_highway0,port=p1,memory=shm", "memory is set at the switch's port"),
    "unordered": ("net_highway0,port=p1,unordered=yes", "wrong unordered: give 0 or 1"),
    "switch-option": ("net_highway0,port=p1,queues=2", "queues is set at the switch's port"),
    "twice": ("net_highway0,port=p1,port=p1", "port stands more than once"),
}


@pytest.mark.parametrize("name", VNF_OPTIONS)
def test_wrong_options_of_a_vnf_are_refused_with_a_reason(scene: Scene, name: str) -> None:
    """Each option of the VNF's side, given wrongly.

    Steps: start testpmd with a wrong --vdev.
    Verify: it does not get the port, and the driver has said why.
    """
    device, pattern = VNF_OPTIONS[name]
    command = [
        *("dpdk-testpmd", "--no-pci", "--no-huge", "-m", "64", "--no-telemetry"),
        *(
            "--no-shconf",
            "-d",
            str(scene.sandbox.plugin),
            "--vdev",
            device,
            "--",
            "--total-num-mbufs=2048",
        ),
    ]
    done = subprocess.run(
        command,
        env=scene.sandbox.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = done.stdout + done.stderr
    assert "No probed ethernet devices" in said
    assert re.search(pattern, said), said


# regions ---------------------------------------------------------------------------------------


def planted_regions(scene: Scene) -> dict[str, tuple[bytes, int, str]]:
    """Return content, size and the expected log line of regions that cannot be used."""
    with scene.region(11) as right:
        whole = bytearray(shm.ffi.buffer(right.raw, 8192))
        size = right.size
    offset = shm.ffi.offsetof("struct highway_port_region", "name")
    whole[offset : offset + 64] = b"p1".ljust(64, b"\0")

    def changed(at: int, new: bytes) -> bytes:
        return bytes(whole[:at]) + new + bytes(whole[at + len(new) :])

    header = "struct highway_header"
    version = shm.ffi.offsetof(header, "abi_version")
    geometry = shm.ffi.offsetof("struct highway_port_region", "n_queues")
    return {
        "empty": (b"", 0, ""),
        "too-small": (bytes(whole), size // 2, "its header names another size"),
        "too-large": (bytes(whole), size * 2, "its header names another size"),
        "zeros": (b"", size, "its magic is wrong"),
        "noise": (random.randbytes(size), size, "its magic is wrong"),
        "magic": (changed(0, b"HWYPORT0"), size, "its magic is wrong"),
        "version": (changed(version, b"\x63\0\0\0\x63\0\0\0"), size, "its ABI version"),
        "other-port": (changed(offset, b"px\0"), size, "it is another port's"),
        "queues": (changed(geometry, b"\xff\xff\xff\xff"), size, "out of range"),
        "rules": (changed(geometry + 4, b"\x10\0\0\0"), size, "its geometry is another one"),
        "rings": (changed(geometry + 8, b"\0\0\0\x40"), size, "its ring size is out of range"),
        "outside": (changed(geometry + 40, b"\xff" * 8), size, "its parts do not fit into it"),
    }


def test_a_region_that_cannot_be_used_is_replaced(scene: Scene, bystander: Bystander) -> None:
    """Something else lies where the port's region is to be.

    Steps: before a port is added, plant at its region's place an empty file, one too small, too
    large, of zeros, of noise, with a wrong magic, version, name or geometry, and a symbolic link.
    Verify: the port comes up with a new region, the log says why the old one was replaced, and a
    VNF can use it; what the link pointed to is untouched.
    """
    tag = paths.region_tag(scene.sandbox.rundir)
    place = scene.region_files("port-p11")[0].parent / f"ovs-highway-{tag}-port-p1"
    for name, (content, size, pattern) in planted_regions(scene).items():
        start = len(scene.log())
        place.unlink(missing_ok=True)
        whole_pages = size % HUGE_PAGE == 0
        write_file(place if whole_pages else Path("/dev/shm") / place.name, content, size)
        scene.ports(1)
        assert scene.region(1).name == "p1", name
        log = scene.log()[start:]
        assert pattern in log, f"{name}: no log line like '{pattern}'"
        scene.sandbox.del_port(BRIDGE, "p1")
    victim = scene.sandbox.rundir / "victim"
    victim.write_bytes(b"precious")
    place.unlink(missing_ok=True)
    link = Path("/dev/shm") / place.name
    link.symlink_to(victim)
    scene.ports(1)
    assert victim.read_bytes() == b"precious"
    link.unlink(missing_ok=True)
    scene.ports(1, first=2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(sender)
    becomes(receiver.received, sender.sent(), "the receiver")


# messages --------------------------------------------------------------------------------------


def hello(**values: object) -> protocol.Hello:
    """Return a greeting of a VNF at p11, with some values changed."""
    right: dict[str, object] = {"role": Role.VNF, "name": "p11", "epoch": 7, "driver": "test"}
    return protocol.Hello(**(right | values))  # type: ignore[arg-type]


def cut(raw: bytes) -> bytes:
    """Return a message whose checksum does not fit."""
    return raw[:60] + bytes([raw[60] ^ 1]) + raw[61:]


def small_file() -> int:
    """Return a descriptor of a file that is too small for any region."""
    fd = os.memfd_create("small")
    os.ftruncate(fd, 4096)
    return fd


def pipe_end() -> int:
    """Return a descriptor of something that cannot be mapped."""
    ours, theirs = os.pipe()
    os.close(theirs)
    return ours


def huge_length(raw: bytes) -> bytes:
    """Return a message that says it is very long."""
    return raw[:8] + b"\xff\xff\xff\x7f" + raw[12:]


SWITCH: Final = {"role": Role.SWITCH, "name": "p77"}
TO_SWITCH_SOCKET: Final[dict[str, tuple[bytes, Callable[[], int] | None]]] = {
    "noise": (random.Random(1).randbytes(5000), None),
    "checksum": (cut(protocol.encode(hello(**SWITCH))), None),
    "length": (huge_length(protocol.encode(hello(**SWITCH))), None),
    "no-region": (protocol.encode(hello(**SWITCH)), None),
    "small-region": (protocol.encode(hello(**SWITCH)), small_file),
    "no-file": (protocol.encode(hello(**SWITCH)), pipe_end),
    "wrong-role": (protocol.encode(hello()), None),
    "name": (protocol.encode(hello(role=Role.SWITCH, name="../../etc")), small_file),
    "version": (
        protocol.encode(hello(**SWITCH, abi_version=99, abi_oldest=98)),
        small_file,
    ),
    "not-hello": (protocol.encode(protocol.Want(peer_id=1, rules=1)), None),
}
TO_VNF_SOCKET: Final[dict[str, tuple[bytes, Callable[[], int] | None]]] = {
    "noise": (random.Random(2).randbytes(5000), None),
    "checksum": (cut(protocol.encode(hello())), None),
    "length": (huge_length(protocol.encode(hello())), None),
    "wrong-role": (protocol.encode(hello(role=Role.SWITCH)), None),
    "wrong-port": (protocol.encode(hello(name="p12")), None),
    "descriptor": (protocol.encode(hello()), small_file),
    "version": (protocol.encode(hello(abi_version=99, abi_oldest=98)), None),
    "second": (protocol.encode(hello()), None),
    "not-hello": (protocol.encode(protocol.LinkRemoved(link_id=1)), None),
}


def ended(path: Path, data: bytes, fd: int | None) -> bool:
    """Say something on a socket; return whether the other side then ended the connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        try:
            if fd is None:
                sock.sendall(data)
            else:
                socket.send_fds(sock, [data], [fd])
                os.close(fd)
            while sock.recv(4096):
                pass
        except TimeoutError:
            return False
        except (ConnectionResetError, BrokenPipeError):
            return True
    return True


def test_bad_messages_end_only_their_own_connection(scene: Scene, bystander: Bystander) -> None:
    """Whoever can connect to highwayd's sockets may say anything.

    Steps: on switch.sock and on a port's socket: noise, wrong checksum, length, role, version,
    name, missing, small and impossible regions, a descriptor that nobody asked for, a second VNF.
    Verify: each connection is closed and a warning logged; a bypass goes on; highwayd is the same
    process, has no descriptor more, and serves a new VNF.
    """
    daemon = scene.sandbox.daemon("highwayd")
    pid = daemon.pid
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    rundir = scene.sandbox.rundir
    for path, cases in (
        (paths.switch_socket(rundir), TO_SWITCH_SOCKET),
        (paths.vnf_socket("p11", rundir), TO_VNF_SOCKET),
    ):
        for name, (data, make_fd) in cases.items():
            warnings = scene.log("highwayd").count("|WARN|")
            assert ended(path, data, make_fd() if make_fd else None), f"{path.name}: {name}"
            eventually(
                lambda old=warnings: scene.log("highwayd").count("|WARN|") > old,  # type: ignore[misc]
                f"highwayd logs a warning about {name}",
            )
    bystander.check()
    assert daemon.pid == pid
    eventually(
        lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) <= descriptors, "descriptors closed"
    )
    assert "Traceback" not in scene.log("highwayd")


def serve(listener: socket.socket) -> socket.socket:
    """Take the next connection of a driver and its greeting."""
    listener.settimeout(30)
    sock, _ = listener.accept()
    sock.settimeout(30)
    assert isinstance(next_message(sock), protocol.Hello)
    return sock


def next_message(sock: socket.socket) -> protocol.Message:
    """Read one message."""
    (message,) = protocol.Decoder().feed(sock.recv(shm.MSG_LEN, socket.MSG_WAITALL))
    return message


def send(sock: socket.socket, message: protocol.Message, fd: int | None = None) -> None:
    """Send a message, with a descriptor that is closed here if there is one."""
    if fd is None:
        sock.sendall(protocol.encode(message))
    else:
        socket.send_fds(sock, [protocol.encode(message)], [fd])
        os.close(fd)


def test_a_vnf_survives_a_highwayd_that_talks_nonsense(scene: Scene) -> None:
    """A VNF driver checks what comes over its socket.

    Steps: be highwayd for a VNF: send noise, a region without a descriptor, one too small; then
    the port's right region, and links without a descriptor, too small, of noise, of other ports.
    Verify: each is answered with a refusal, or logged and the connection started over; the VNF
    lives, and after the right region its link is up.
    """
    scene.ports(1)
    region = scene.region(1)
    path = scene.sandbox.rundir / "fake.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        vnf = scene.vnf(1, devargs=f",socket={path}", await_link=False)
        with serve(listener) as sock:
            sock.sendall(random.Random(3).randbytes(shm.MSG_LEN * 5))
            send(sock, protocol.Welcome(status=Status.OK))
            send(sock, protocol.PortRegion(region_id=1, size=HUGE_PAGE))
            assert sock.recv(1) == b""
        eventually(lambda: "unsound control message" in vnf.output, "noise is logged")
        eventually(lambda: "cannot map the port's region" in vnf.output, "no region is logged")
        with serve(listener) as sock:
            send(sock, protocol.Welcome(status=Status.OK))
            send(sock, protocol.PortRegion(region_id=1, size=HUGE_PAGE), small_file())
            assert sock.recv(1) == b""
        with serve(listener) as sock:
            send(sock, protocol.Welcome(status=Status.OK))
            right = protocol.PortRegion(region_id=region.region_id, size=region.size)
            send(sock, right, os.dup(region.fd))
            vnf.wait_link_up()
            noise = os.memfd_create("noise")
            os.write(noise, random.Random(4).randbytes(HUGE_PAGE))
            for number, fd in enumerate([None, small_file(), noise, os.dup(region.fd)], 1):
                add = protocol.LinkAdd(link_id=number, size=HUGE_PAGE, peer_id=2, peer_name="px")
                send(sock, add, fd)
                answer = next_message(sock)
                assert isinstance(answer, protocol.LinkAdded)
                assert (answer.link_id, answer.status) == (number, Status.REFUSED)
                assert answer.text
            send(sock, protocol.LinkRemove(link_id=99))
            send(sock, protocol.Want(peer_id=1, rules=1))
            eventually(lambda: "of type 10 ignored" in vnf.output, "a wrong type is logged")
            assert vnf.send().packets == BURST


# hostile VNFs ----------------------------------------------------------------------------------


def rings(region: Scribbler) -> tuple[int, int]:
    """Return where the rings to the switch and to the VNF lie."""
    return region.port_field("to_switch_offset"), region.port_field("to_vnf_offset")


def to_switch_head(distance: int) -> Callable[[Scribbler], None]:
    """Return what moves the producer's index of the ring to the switch."""
    return lambda r: r.head(rings(r)[0], r.read(rings(r)[0]) + distance)


def to_vnf_tail(distance: int) -> Callable[[Scribbler], None]:
    """Return what sets the consumer's index of the ring to the VNF beside the producer's."""
    return lambda r: r.tail(rings(r)[1], r.read(rings(r)[1]) + distance)


def descriptors(
    offset: int, length: int, kind: int = 1, *, stamped: bool = True
) -> Callable[[Scribbler], None]:
    """Return what fills the ring to the switch with one descriptor."""
    return lambda r: r.descriptors(rings(r)[0], offset, length, kind, stamped=stamped)


def field(name: str, value: int, form: str = "I") -> Callable[[Scribbler], None]:
    """Return what overwrites one field."""
    return lambda r: r.write(r.offset_of("highway_port_region", name), value, form)


def counters(region: Scribbler, value: int) -> None:
    """Overwrite the first rules' packet counters."""
    start = region.port_field("counters_offset")
    for rule in range(16):
        region.write(start + rule * shm.COUNTER_LEN, value)


SCRIBBLES: Final[dict[str, Callable[[Scribbler], None]]] = {
    "head-ahead": to_switch_head(1 << 40),
    "head-back": to_switch_head(-5000),
    "tail-ahead": to_vnf_tail(1 << 40),
    "tail-back": to_vnf_tail(-100_000),
    "offset-beyond": descriptors(0xFFFFFF80, 64),
    "offset-at-end": descriptors(HUGE_PAGE - 1, 1500),
    "length-beyond": descriptors(0, 0xFFFF),
    "length-zero": descriptors(0, 0),
    "offset-beyond-by-head": descriptors(0xFFFFFF80, 64, stamped=False),
    "endless-frames": descriptors(0, 64),
    "unknown-kind": descriptors(0, 64, 200),
    "marks-of-noise": descriptors(0, 32, shm.constant("HIGHWAY_DESC_ENTER")),
    "leave-of-noise": descriptors(0, 32, shm.constant("HIGHWAY_DESC_LEAVE")),
    "counters-ahead": lambda r: counters(r, (1 << 64) - 1),
    "counters-back": lambda r: counters(r, 0),
    "rules": lambda r: r.noise(r.port_field("rules_offset"), 100_000),
    "queues": field("vnf_state.n_rxq", 0xFFFFFFFF),
    "header": lambda r: r.noise(0, 64),
    "geometry": lambda r: r.noise(r.offset_of("highway_port_region", "n_queues"), 64),
    "states": lambda r: r.noise(r.offset_of("highway_port_region", "switch_state"), 2048),
    "everything": lambda r: r.noise(0, r.size),
}


@pytest.mark.long  # test_hostile.py does the same in less time
@pytest.mark.timeout(240)
def test_a_vnf_that_scribbles_over_its_region_hurts_only_itself(
    scene: Scene, bystander: Bystander
) -> None:
    """Every byte that a VNF can write, written.

    Steps: a VNF at p1 sends to p2 and p2 to it, over bypass and switch; overwrite ring indexes,
    descriptors, counters, rules, states, the header, everything; then end it, delete its port and
    add it again for a decent VNF.
    Verify: ovs-vswitchd is the same process, a bypass of other ports works and is counted to the
    packet, p1's counters do not run backwards; the port works again after del-port and add-port.
    """
    scene.ports(1, first=2)
    neighbour = scene.vnf(2)
    frame = "ffffffffffff0200000000010800" + "00" * 50
    for name, scribble in SCRIBBLES.items():
        scene.ports(1)
        vnf = scene.vnf(1)
        scene.add_flow("cookie=1,in_port=1,actions=2")
        scene.bypass_on(vnf)
        vnf.send(2)
        before = settled(lambda: scene.port(1).rx)
        with Scribbler(scene.region_files("port-p1")[0]) as region:
            scribble(region)
            for _ in range(2):
                vnf.command("stop")
                with contextlib.suppress(SandboxError):
                    vnf.start(tx_first=1)
                scene.ofctl("packet-out", f"in_port=controller packet={frame} actions=output:1")
                scene.revalidate()
        assert scene.sandbox.daemon("ovs-vswitchd").alive, name
        after = scene.port(1).rx
        assert before.packets <= after.packets <= before.packets + (1 << 40), name
        assert scene.flow(1).packets >= 0
        vnf.close()
        scene.highway("on", "--all")
        assert neighbour.alive, name
        bystander.check()
        scene.ofctl("del-flows", "in_port=1")
        scene.sandbox.del_port(BRIDGE, "p1")
    scene.ports(1)
    decent = scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    start = neighbour.received_all()
    scene.bypass_on(decent)
    decent.send(10)
    becomes(neighbour.received, start + decent.sent(), "p2 has what the decent VNF sent")
    scene.flow_becomes(1, decent.sent())


def link_ring(region: Scribbler, end: int) -> int:
    """Return where the first ring lies that one end of a link sends on."""
    return region.read(region.offset_of("highway_link_region", "ring_offset") + 8 * end)


def link_descriptors(region: Scribbler, end: int, offset: int, length: int, kind: int) -> None:
    """Fill a link's ring with one descriptor."""
    ring = link_ring(region, end)
    start = ring + shm.constant("HIGHWAY_RING_DESC_OFFSET")
    word = offset | length << 32 | kind << 48
    for slot in range(2048):
        region.write(start + 8 * slot, word)
    region.head(ring, region.read(ring) + 8)


LINK_SCRIBBLES: Final[dict[str, Callable[[Scribbler, int], None]]] = {
    "head-ahead": lambda r, end: r.head(link_ring(r, end), 1 << 40),
    "head-back": lambda r, end: r.head(link_ring(r, end), 1),
    "tail-ahead": lambda r, end: r.tail(link_ring(r, end), 1 << 40),
    "tail-back": lambda r, end: r.tail(link_ring(r, end), 0),
    "offset": lambda r, end: link_descriptors(r, end, 0xFFFFFF80, 64, 1),
    "length": lambda r, end: link_descriptors(r, end, 0, 0xFFFF, 1),
    "kind": lambda r, end: link_descriptors(r, end, 0, 64, 77),
    "fence": lambda r, end: link_descriptors(r, end, 0, 32, 4),
    "noise": lambda r, _: r.noise(0, r.size),
}


@pytest.mark.timeout(240)
def test_a_vnf_that_scribbles_over_a_link_does_not_hurt_its_peer(
    scene: Scene, bystander: Bystander
) -> None:
    """Every byte that two VNFs share, written by one of them.

    Steps: under a flood p1 → p2 overwrite indexes and descriptors of the link's ring, or all of
    the link's region.
    Verify: both VNFs and OVS live; traffic arrives at p2 again by itself, over the switch or a
    new link; other ports are not disturbed.
    """
    for name, scribble in LINK_SCRIBBLES.items():
        scene.ports(2)
        receiver, sender = scene.vnf(2), scene.vnf(1)
        scene.add_flow("cookie=1,in_port=1,actions=2")
        scene.bypass_on(sender)
        sender.flood()
        mine = [path for path in scene.region_files("link-") if is_link_of(path, "p1")]
        with Scribbler(mine[0]) as region:
            end = 0 if name_at(region, 0) == "p1" else 1
            scribble(region, end)
        start = receiver.received().packets
        eventually(
            lambda vnf=receiver, old=start: vnf.received().packets > old + 20_000,  # type: ignore[misc]
            f"{name}: packets arrive again",
        )
        assert sender.alive, name
        sender.close()
        receiver.close()
        bystander.check()
        scene.ofctl("del-flows", "in_port=1")
        for number in (1, 2):
            scene.sandbox.del_port(BRIDGE, f"p{number}")


def name_at(region: Scribbler, end: int) -> str:
    """Return the port at one end of a link region."""
    offset = region.offset_of("highway_link_region", "name") + 64 * end
    return region.memory[offset : offset + 64].split(b"\0")[0].decode(errors="replace")


def is_link_of(path: Path, port: str) -> bool:
    """Tell whether a link region has a port at one of its ends."""
    with Scribbler(path) as region:
        return port in (name_at(region, 0), name_at(region, 1))


# limits ----------------------------------------------------------------------------------------


def test_a_full_rule_table_leaves_the_rest_to_the_switch(scene: Scene) -> None:
    """More flows than rule slots.

    Steps: p1 has four rules; its VNF sends to 256 addresses; sixteen flows of sixteen addresses
    each go to p2 and p3 in turn.
    Verify: four rules are in force, the rest of the flows inert and counted as such; traffic is
    right on both ports; each flow and both ports have counted all.
    """
    scene.ports(1, rules=4)
    scene.ports(2, first=2)
    second, third = scene.vnf(2), scene.vnf(3)
    sender = scene.vnf(1, app_args=("--txonly-multi-flow",))
    for number in range(16):
        net, output = f"198.18.{number * 16}.0/20", 2 + number % 2
        scene.add_flow(f"cookie={number + 1},in_port=1,ip,nw_src={net},actions={output}")

    def some_bypass() -> bool:
        sender.send(8)
        return sender.bypassed() > 0 and len(scene.datapath_flows()) >= 16

    eventually(some_bypass, "some flows bypass")
    start = sender.sent(), sender.bypassed(), second.received_all(), third.received_all()
    sender.send(32)
    count, bypassed = sender.sent() - start[0], sender.bypassed() - start[1]
    assert count.packets == 32 * BURST
    assert bypassed == count.packets // 16 * 4
    half = Count(packets=count.packets // 2, bytes=count.bytes // 2)
    becomes(second.received, start[2] + half, "p2 has half of it")
    becomes(third.received, start[3] + half, "p3 has half of it")
    shown = scene.highway_json("rules", "p1")
    assert len(shown["rules"]) == 4
    assert shown["inert"] == 12
    becomes(
        lambda: sum((scene.flow(number + 1) for number in range(16)), Count()),
        sender.sent(),
        "all flows together",
    )
    assert scene.port(1).rx == sender.sent()
    statistics = scene.sandbox.vsctl("get", "Interface", "p1", "statistics")
    found = re.search(r"rules_table_full\w*=(\d+)", statistics)
    assert found is not None, statistics
    assert wait_until(lambda: table_full(scene) >= 12, 30), statistics


def table_full(scene: Scene) -> int:
    """Return how many rules of p1 found its table full, as OVS shows it."""
    statistics = scene.sandbox.vsctl("get", "Interface", "p1", "statistics")
    found = re.search(r"rules_table_full\w*=(\d+)", statistics)
    return int(found[1]) if found else -1
