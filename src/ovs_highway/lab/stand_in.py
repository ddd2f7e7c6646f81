# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for ports: a switch side and VNFs without OVS or DPDK, over highwayd's real sockets.

They do what the protocol asks for and move no packet.
"""

from __future__ import annotations

import array
import contextlib
import os
import random
import socket
import time
from typing import TYPE_CHECKING, Final, TypeVar

from ovs_highway import paths, protocol, shm
from ovs_highway.errors import SandboxError
from ovs_highway.region import LinkRegion, PortRegion, region_name
from ovs_highway.shm import CData, LinkFlag, RingGeometry, Role, Stats, ffi

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ovs_highway.protocol import Message

PATIENCE: Final = 20.0
"""Seconds after which an answer is not waited for any more."""

M = TypeVar("M", bound=protocol.Message)


def port_path(rundir: Path, name: str) -> Path:
    """Return where the region of a stand-in for a port lies."""
    return paths.REGION_DIRS[-1] / region_name(paths.region_tag(rundir), "port", name)


def write_port_header(
    raw: CData, *, name: str, tag: str, region_id: int, n_queues: int, n_rules: int, ring_size: int
) -> int:
    """Fill in a port region as the driver does; return the size it needs, a power of two."""
    rings = RingGeometry.of_port(ring_size)
    rules = shm.PORT_HEADER_LEN
    table = shm.round_up(n_rules * shm.RULE_LEN, shm.PAGE)
    counters = rules + 2 * table
    in_counters = shm.round_up(counters + n_queues * n_rules * shm.COUNTER_LEN, shm.PAGE)
    to_switch = shm.round_up(in_counters + n_queues * n_rules * shm.COUNTER_LEN, shm.PAGE)
    to_vnf = to_switch + n_queues * rings.stride
    size = shm.next_power_of_two(to_vnf + n_queues * rings.stride)
    header = raw.header
    header.abi_version, header.abi_oldest = shm.ABI_VERSION, shm.ABI_OLDEST
    header.size, header.region_id, header.rundir_tag = size, region_id, int(tag, 16)
    raw.name = name.encode()
    raw.n_queues, raw.n_rules = n_queues, n_rules
    raw.ring_size, raw.ring_data, raw.ring_stride = rings.size, rings.data, rings.stride
    raw.rules_offset, raw.in_rules_offset = rules, rules + table
    raw.counters_offset, raw.in_counters_offset = counters, in_counters
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
    """Make the file of a port region, as the driver does; `change` may spoil it."""
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
        """Send messages, with a file descriptor if one is given."""
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
            self._inbox += self.take(self._decoder.feed(data))

    def take(self, messages: list[Message]) -> list[Message]:
        """Return the messages that wait to be expected."""
        return messages

    def expect(self, kind: type[M]) -> M:
        """Return the next message, which has to be of this kind.

        Raises:
            SandboxError: it is not, or there is none.
        """
        deadline = time.monotonic() + PATIENCE
        while not self._inbox:
            if self.eof or time.monotonic() > deadline:
                what = "the connection ended" if self.eof else "nothing came"
                raise SandboxError(f"{what} instead of {kind.__name__}; see highwayd's log")
            self.pump(0.2)
        message = self._inbox.pop(0)
        if not isinstance(message, kind):
            raise SandboxError(f"{message} came instead of {kind.__name__}; see highwayd's log")
        return message

    def expect_welcome(self) -> None:
        """Wait until highwayd accepts the other end of this connection.

        Raises:
            SandboxError: it does not.
        """
        welcome = self.expect(protocol.Welcome)
        if welcome.status is not shm.Status.OK:
            raise SandboxError(f"highwayd refuses: {welcome}")

    def expect_eof(self) -> None:
        """Wait until highwayd closes the connection."""
        deadline = time.monotonic() + PATIENCE
        while not self.eof:
            if time.monotonic() > deadline:
                raise SandboxError("the connection was not closed; see highwayd's log")
            self.pump(0.2)

    def quiet(self, seconds: float = 0.2) -> bool:
        """Tell whether nothing comes for a while."""
        self.pump(seconds)
        return not self._inbox and not self.eof

    def close(self) -> None:
        """Close the connection, and what came over it."""
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


class FakeSwitch(Peer):
    """The switch side of one port.

    Attributes:
        counted: whose counters highwayd wants, by sender; 0: of all others.
    """

    def __init__(self, rundir: Path, name: str) -> None:
        self.name = name
        self.counted: dict[int, Stats] = {}
        self.path = port_path(rundir, name)
        if not self.path.exists():
            make_port_file(self.path, name=name, tag=paths.region_tag(rundir))
        self.region = PortRegion.open(self.path)
        self.region_id = self.region.region_id
        super().__init__(paths.switch_socket(rundir))
        self.hello()
        self.expect_welcome()

    def take(self, messages: list[Message]) -> list[Message]:
        """Note whose counters highwayd wants."""
        for message in messages:
            if isinstance(message, protocol.WhoCounts):
                self.counted[message.sender_id] = message.source
        return [message for message in messages if not isinstance(message, protocol.WhoCounts)]

    def hello(self) -> None:
        """Say which port this is, and that it is up."""
        state = self.region.raw.switch_state
        state.attached, state.link_up, state.pid = 1, 1, os.getpid()
        hello = protocol.Hello(
            role=Role.SWITCH, name=self.name, epoch=1, port_id=self.region.region_id
        )
        self.send(hello, fd=self.region.fd)

    def want(self, peer: FakeSwitch, rules: int = 1) -> None:
        """Say how many rules towards a peer are in force."""
        self.want_id(peer.region.region_id, rules)

    def want_id(self, peer_id: int, rules: int = 1) -> None:
        """Say how many rules towards a peer, by its region id, are in force."""
        self.send(protocol.Want(port_id=self.region.region_id, peer_id=peer_id, rules=rules))

    def close(self) -> None:
        """Close the connection, and the region."""
        super().close()
        self.region.close()


class FakeVnf(Peer):
    """A VNF that does at once what highwayd asks for."""

    def __init__(
        self, rundir: Path, name: str, *, epoch: int | None = None, abi: int = shm.ABI_VERSION
    ) -> None:
        self.rundir, self.name, self.abi = rundir, name, abi
        self.epoch = random.randrange(1, 1 << 64) if epoch is None else epoch
        self.links: dict[int, LinkRegion] = {}
        self.flags: dict[int, LinkFlag] = {}
        self.connect()

    def connect(self) -> None:
        """Connect, at first or again, and say which links there are."""
        super().__init__(paths.vnf_socket(self.name, self.rundir))
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
        self.expect_welcome()
        handed = self.expect(protocol.PortRegion)
        with PortRegion(self.fds.pop()) as port:
            if port.region_id != handed.region_id:
                raise SandboxError(f"the region handed over is not that of {self.name}")
            state = port.raw.vnf_state
            state.epoch, state.n_rxq, state.n_txq = self.epoch, 1, 1
            state.attached, state.started = 1, int(started)
        return self

    def accept_link(self) -> int:
        """Take the link that is handed over next; return its id."""
        added = self.expect(protocol.LinkAdd)
        self.flags[added.link_id] = added.flags
        link = LinkRegion(self.fds.pop())
        expected = (added.link_id, self.name, added.peer_name)
        if (link.region_id, link.names[added.end], link.names[1 - added.end]) != expected:
            raise SandboxError(f"the region handed over is not that of the link {expected}")
        self.links[added.link_id] = link
        self.send(
            protocol.LinkAdded(link_id=added.link_id, port_id=added.port_id, flags=added.flags)
        )
        return added.link_id

    def await_update(self) -> LinkRegion:
        """Take what a link is to heed from now on; return its region."""
        update = self.expect(protocol.LinkUpdate)
        if update.flags != self.flags[update.link_id]:
            self.flags[update.link_id] = update.flags
            self.send(protocol.LinkAdded(link_id=update.link_id, flags=update.flags))
        return self.links[update.link_id]

    def give_up_link(self, *, updated: bool = False) -> str:
        """Let go of the link that highwayd removes next; return its reason.

        `updated`: it may say before that what the link is to heed.
        """
        removed = self.expect(protocol.LinkMessage if updated else protocol.LinkRemove)
        if updated and isinstance(removed, protocol.LinkUpdate):
            removed = self.expect(protocol.LinkRemove)
        if (link := self.links.pop(removed.link_id, None)) is not None:
            link.close()
        self.send(protocol.LinkRemoved(link_id=removed.link_id))
        return removed.text

    def close(self) -> None:
        """Close the connection, and all links."""
        super().close()
        for link in self.links.values():
            link.close()
        self.links.clear()
