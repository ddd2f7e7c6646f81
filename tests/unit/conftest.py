# SPDX-License-Identifier: Apache-2.0
"""Peers for highwayd: a switch side and VNFs that speak the protocol over the real sockets."""

from __future__ import annotations

import array
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pytest

from ovs_highway import paths, protocol, region, shm, unixctl
from ovs_highway.errors import CommandError
from ovs_highway.region import LinkRegion, PortRegion
from ovs_highway.shm import CData, LinkFlag, RingGeometry, Role, ffi

from .database import Database
from .fake_ovsdb import FakeOvsdb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ovs_highway.protocol import Message

PATIENCE = 20.0
"""Seconds after which a test gives up; nothing is asserted on how long things take."""

T = TypeVar("T")
M = TypeVar("M", bound=protocol.Message)


def wait_for(check: Callable[[], T], what: str) -> T:
    """Return what `check` returns as soon as it is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := check():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited in vain until {what}")


def write_port_header(
    raw: CData, *, name: str, tag: str, region_id: int, n_queues: int, n_rules: int, ring_size: int
) -> int:
    """Fill in a port region as the driver does; return the size it needs, a power of two."""
    rings = RingGeometry.of(ring_size)
    rules = shm.PORT_HEADER_LEN
    table = shm.round_up(n_rules * shm.RULE_LEN, shm.PAGE)
    counters = rules + 2 * table
    to_switch = shm.round_up(counters + n_queues * n_rules * shm.COUNTER_LEN, shm.PAGE)
    to_vnf = to_switch + n_queues * rings.stride
    size = shm.next_power_of_two(to_vnf + n_queues * rings.stride)
    header = raw.header
    header.abi_version, header.abi_oldest = shm.ABI_VERSION, shm.ABI_OLDEST
    header.size, header.region_id, header.rundir_tag = size, region_id, int(tag, 16)
    raw.name = name.encode()
    raw.n_queues, raw.n_rules = n_queues, n_rules
    raw.ring_size, raw.ring_data, raw.ring_stride = rings.size, rings.data, rings.stride
    raw.rules_offset, raw.in_rules_offset = rules, rules + table
    raw.counters_offset = counters
    raw.to_switch_offset, raw.to_vnf_offset = to_switch, to_vnf
    header.magic = shm.PORT_MAGIC
    return size


def make_port_file(
    path: Path,
    *,
    name: str,
    tag: str,
    n_queues: int = 1,
    n_rules: int = 64,
    ring_size: int = 64,
    change: Callable[[CData], None] = lambda raw: None,
) -> None:
    """Make the file of a port region; `change` may spoil it."""
    raw: CData = ffi.new("struct highway_port_region *")
    size = write_port_header(
        raw,
        name=name,
        tag=tag,
        region_id=random.randrange(1, 1 << 64),
        n_queues=n_queues,
        n_rules=n_rules,
        ring_size=ring_size,
    )
    change(raw)
    with path.open("wb") as file:
        file.truncate(size)
        file.write(bytes(ffi.buffer(raw)))


class Peer:
    """One end of a control connection, blocking."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(path))
        self._decoder = protocol.Decoder()
        self._inbox: list[Message] = []
        self.fds: list[int] = []
        self.eof = False

    def send(self, *messages: Message, fd: int | None = None) -> None:
        raw = b"".join(protocol.encode(message) for message in messages)
        if fd is None:
            self.sock.sendall(raw)
        else:
            socket.send_fds(self.sock, [raw], [fd])

    def pump(self, timeout: float = 0.0) -> None:
        """Read what is there, after waiting for at most `timeout` seconds."""
        self.sock.settimeout(timeout)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 65536, 16)
            except ConnectionResetError:
                data, fds = b"", []
            self.eof = self.eof or not data
            self.fds += array.array("i", fds)
            self._inbox += self._decoder.feed(data)

    def expect(self, kind: type[M]) -> M:
        """Return the next message, which has to be of this kind."""
        deadline = time.monotonic() + PATIENCE
        while not self._inbox:
            assert not self.eof, f"the connection ended instead of {kind.__name__}"
            assert time.monotonic() < deadline, f"no {kind.__name__} came"
            self.pump(0.2)
        message = self._inbox.pop(0)
        assert isinstance(message, kind), message
        return message

    def expect_eof(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.eof:
            assert time.monotonic() < deadline, "the connection was not closed"
            self.pump(0.2)

    def quiet(self, seconds: float = 0.2) -> bool:
        """Tell whether nothing comes for a while."""
        self.pump(seconds)
        return not self._inbox and not self.eof

    def close(self) -> None:
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


class FakeSwitch(Peer):
    """The switch side of one port."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name = lab, name
        self.path = lab.port_path(name)
        if not self.path.exists():
            make_port_file(self.path, name=name, tag=lab.tag)
        self.region = PortRegion.open(self.path)
        self.region_id = self.region.region_id
        super().__init__(paths.switch_socket(lab.rundir))
        self.hello()
        assert self.expect(protocol.Welcome).status is shm.Status.OK

    def hello(self) -> None:
        state = self.region.raw.switch_state
        state.attached, state.link_up, state.pid = 1, 1, os.getpid()
        hello = protocol.Hello(
            role=Role.SWITCH, name=self.name, epoch=1, port_id=self.region.region_id
        )
        self.send(hello, fd=self.region.fd)

    def want(self, peer: FakeSwitch, rules: int = 1) -> None:
        self.send(
            protocol.Want(port_id=self.region.region_id, peer_id=peer.region.region_id, rules=rules)
        )

    def close(self) -> None:
        super().close()
        self.region.close()


class FakeVnf(Peer):
    """A VNF that does at once what highwayd asks for."""

    def __init__(
        self, lab: Lab, name: str, *, epoch: int | None = None, abi: int = shm.ABI_VERSION
    ) -> None:
        self.lab, self.name, self.abi = lab, name, abi
        self.epoch = random.randrange(1, 1 << 64) if epoch is None else epoch
        self.links: dict[int, LinkRegion] = {}
        self.flags: dict[int, LinkFlag] = {}
        self.connect()

    def connect(self) -> None:
        super().__init__(paths.vnf_socket(self.name, self.lab.rundir))
        self.send(
            protocol.Hello(
                role=Role.VNF,
                name=self.name,
                epoch=self.epoch,
                driver="fake 1.0",
                abi_version=self.abi,
            ),
            *(
                protocol.LinkAdded(link_id=link_id, flags=self.flags[link_id])
                for link_id in self.links
            ),
        )

    def attach(self, *, started: bool = True) -> FakeVnf:
        """Take the port's region, which highwayd hands over after its welcome."""
        assert self.expect(protocol.Welcome).status is shm.Status.OK
        handed = self.expect(protocol.PortRegion)
        with PortRegion(self.fds.pop()) as port:
            assert port.region_id == handed.region_id
            state = port.raw.vnf_state
            state.epoch, state.n_rxq, state.n_txq = self.epoch, 1, 1
            state.attached, state.started = 1, int(started)
        return self

    def accept_link(self) -> int:
        added = self.expect(protocol.LinkAdd)
        self.flags[added.link_id] = added.flags
        link = LinkRegion(self.fds.pop())
        assert link.region_id == added.link_id
        assert link.names[added.end] == self.name
        assert link.names[1 - added.end] == added.peer_name
        self.links[added.link_id] = link
        self.send(
            protocol.LinkAdded(link_id=added.link_id, port_id=added.port_id, flags=added.flags)
        )
        return added.link_id

    def await_update(self) -> LinkRegion:
        update = self.expect(protocol.LinkUpdate)
        if update.flags != self.flags[update.link_id]:
            self.flags[update.link_id] = update.flags
            self.send(protocol.LinkAdded(link_id=update.link_id, flags=update.flags))
        return self.links[update.link_id]

    def give_up_link(self) -> str:
        removed = self.expect(protocol.LinkRemove)
        if (link := self.links.pop(removed.link_id, None)) is not None:
            link.close()
        self.send(protocol.LinkRemoved(link_id=removed.link_id))
        return removed.text

    def close(self) -> None:
        super().close()
        for link in self.links.values():
            link.close()
        self.links.clear()


@dataclass
class Lab:
    """A run directory with a highwayd of its own."""

    rundir: Path
    ovs_rundir: Path
    daemon: subprocess.Popen[bytes] | None = None
    database: FakeOvsdb | None = None
    peers: list[Peer] = field(default_factory=list)

    @property
    def tag(self) -> str:
        return paths.region_tag(self.rundir)

    def port_path(self, name: str) -> Path:
        return paths.REGION_DIRS[-1] / region.region_name(self.tag, "port", name)

    def start(self) -> None:
        if not (self.ovs_rundir / "db.sock").exists():
            self.database = FakeOvsdb(self.ovs_rundir / "db.sock")
        log = (self.rundir / "highwayd.log").open("ab")
        with log:
            self.daemon = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ovs_highway.agent.daemon"),
                    *("--rundir", str(self.rundir), "--ovs-rundir", str(self.ovs_rundir)),
                ],
                stderr=log,
            )
        wait_for(self.answers, "highwayd answers")

    def answers(self) -> bool:
        assert self.daemon is not None
        assert self.daemon.poll() is None, self.log()
        try:
            self.ask("version")
        except CommandError:
            return False
        return True

    def ask(self, method: str) -> str:
        return unixctl.call(paths.control_socket(self.rundir), method, timeout=PATIENCE)

    def log(self) -> str:
        return (self.rundir / "highwayd.log").read_text(encoding="utf-8")

    def end(self, number: signal.Signals) -> int:
        """End highwayd with a signal; return its exit status."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        status = self.daemon.wait(PATIENCE)
        self.daemon = None
        return status

    def switch(self, name: str) -> FakeSwitch:
        if self.database is not None:
            self.database.add_port(name)
        peer = FakeSwitch(self, name)
        self.peers.append(peer)
        return peer

    def vnf(self, name: str, *, epoch: int | None = None, abi: int = shm.ABI_VERSION) -> FakeVnf:
        peer = FakeVnf(self, name, epoch=epoch, abi=abi)
        self.peers.append(peer)
        return peer

    def peer(self, path: Path) -> Peer:
        peer = Peer(path)
        self.peers.append(peer)
        return peer

    def link_files(self) -> list[Path]:
        return [path for files in region.region_paths(self.tag, "link").values() for path in files]

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        if self.daemon is not None:
            self.end(signal.SIGKILL)
        if self.database is not None:
            self.database.close()
        for path in paths.region_files(self.rundir):
            path.unlink()


def put_rule(
    switch: FakeSwitch, slot: int, peer: FakeSwitch, *, protocol: int = 17, live: bool = True
) -> None:
    """Put a rule in force, or take it out: UDP port 80 goes to the peer."""
    port = switch.region
    assert port._mem is not None
    whole = ffi.from_buffer(port._mem)
    rules: CData = ffi.cast("struct highway_rule *", whole + port._rules_offset)
    rule = rules[slot]
    rule.peer_id, rule.generation, rule.live = peer.region_id, slot + 1, (slot + 1) * live
    rule.peer_name = peer.name.encode()
    fill_key(rule.key, rule.mask)
    rule.key.ip_proto = protocol
    counters: CData = ffi.cast("struct highway_counter *", whole + port._counters_offset)
    counters[slot].packets, counters[slot].bytes = 5, 320
    del rules, rule, counters
    ffi.release(whole)
    port.changed()


def fill_key(key: CData, mask: CData) -> None:
    key.eth_type, mask.eth_type = 0x0008, 0xFFFF
    mask.vlan_tci = 0x0010
    mask.ip_frag = 3
    key.ip_proto, mask.ip_proto = 17, 0xFF
    key.l4_dst, mask.l4_dst = 80 << 8, 0xFFFF


@pytest.fixture
def idle_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab whose highwayd is not started yet."""
    (tmp_path / "ovs").mkdir()
    (tmp_path / "hw").mkdir()
    lab = Lab(tmp_path / "hw", tmp_path / "ovs")
    yield lab
    print(lab.log() if (lab.rundir / "highwayd.log").exists() else "")
    lab.close()


@pytest.fixture
def lab(idle_lab: Lab) -> Lab:
    """A lab with a running highwayd."""
    idle_lab.start()
    return idle_lab


@pytest.fixture
def database(idle_lab: Lab) -> Iterator[Database]:
    """A database with bridge `br0`, for the highwayd of `idle_lab`."""
    database = Database(idle_lab.ovs_rundir)
    database.start()
    database.vsctl("add-br", "br0")
    yield database
    database.stop()
