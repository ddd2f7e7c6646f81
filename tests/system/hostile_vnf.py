# SPDX-License-Identifier: Apache-2.0
"""A VNF without a driver: it attaches as one does, and writes into its regions what it likes."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING, Final

from tests.system.hostile import PACKET, Scribbler

from ovs_highway import paths, protocol, shm
from ovs_highway.errors import SandboxError
from ovs_highway.lab.process import wait_until
from ovs_highway.lab.stand_in import PATIENCE, FakeVnf, Peer
from ovs_highway.shm import LinkFlag, Phase, Role, ffi

if TYPE_CHECKING:
    from pathlib import Path

BUFFER: Final = shm.constant("HIGHWAY_DESC_BUFFER")
FENCE: Final = shm.constant("HIGHWAY_DESC_FENCE")
CELL: Final = 2048
"""Bytes of a ring's data for each frame."""
_TAIL: Final = ffi.offsetof("struct highway_ring", "tail")
_STAMPED: Final = shm.constant("HIGHWAY_STAMPED")
_END_LEN: Final = ffi.sizeof("struct highway_link_end")


class RawRing:
    """One end of a ring, as its geometry was before anybody scribbled."""

    def __init__(self, region: Scribbler, start: int, size: int, data: int) -> None:
        self.region, self.start, self.size, self.data_len = region, start, size, data
        self.slots = start + shm.RING_DESC_OFFSET
        self.data = self.slots + shm.DESC_LEN * size
        self.head = region.read(start)

    def word(self, offset: int, length: int, kind: int = PACKET, *, stamped: bool = True) -> int:
        """Return the next descriptor."""
        stamp = (_STAMPED | self.head // self.size % _STAMPED) if stamped else 0
        return offset | length << 32 | kind << 48 | stamp << 56

    def publish(self, word: int) -> None:
        """Publish a descriptor, whatever it says."""
        self.region.write(self.slots + self.head % self.size * shm.DESC_LEN, word)
        self.head += 1
        self.region.head(self.start, self.head)

    def put(
        self, content: bytes, kind: int = PACKET, *, stamped: bool = True, at: int | None = None
    ) -> None:
        """Send a frame or a mark as a driver does, once there is room for it."""
        cells = min(self.size, self.data_len // CELL)
        if not wait_until(lambda: self.head - self.tail < cells, PATIENCE, interval=0):
            raise SandboxError("nobody takes anything from the ring")
        offset = self.head % cells * CELL if at is None else at
        start = self.data + offset
        self.region.memory[start : start + len(content)] = content
        self.publish(self.word(offset, len(content), kind, stamped=stamped))

    @property
    def tail(self) -> int:
        """What the other end has consumed."""
        return self.region.read(self.start + _TAIL)

    @property
    def empty(self) -> bool:
        """Whether the other end has consumed everything."""
        return self.tail >= self.head

    def drain(self) -> None:
        """Consume everything, unseen."""
        self.region.tail(self.start, self.region.read(self.start))


class HostileLink:
    """A link region at one of its ends; both rings are of queue 0."""

    def __init__(self, fd: int, added: protocol.LinkAdd) -> None:
        self.region, self.end = Scribbler(fd), added.end
        self.link_id, self.peer, self.peer_id = added.link_id, added.peer_name, added.peer_id
        size, data = self._field("ring_size", "I"), self._field("ring_data", "I")
        self.rings = [
            RawRing(self.region, self._field(f"ring_offset[{end}]"), size, data) for end in (0, 1)
        ]
        self.pools = [self._field(f"pools_offset[{end}]") for end in (0, 1)]
        self.buffers = [self._field(f"buffer_size[{end}]", "I") for end in (0, 1)]

    def _field(self, name: str, form: str = "Q") -> int:
        name, _, index = name.rstrip("]").partition("[")
        step = struct.calcsize(form) * int(index or 0)
        return self.region.read(self.region.offset_of("highway_link_region", name) + step, form)

    @property
    def out(self) -> RawRing:
        """The ring that this end sends on."""
        return self.rings[self.end]

    @property
    def active(self) -> bool:
        """Whether both ends have it."""
        return self._field("phase", "I") == Phase.ACTIVE

    def settle_in(self, epoch: int) -> None:
        """Say that this end receives."""
        start = self.region.offset_of("highway_link_region", "end") + self.end * _END_LEN
        for name, value in (("epoch", epoch), ("max_frame", 9234), ("rx_ready", 1)):
            offset = self.region.offset_of("highway_link_end", name)
            self.region.write(start + offset, value, "Q" if name == "epoch" else "I")
        self.region.write(start + self.region.offset_of("highway_link_end", "attached"), 1, "I")

    def put_in_buffer(self, content: bytes, *, length: int | None = None) -> None:
        """Send a frame in the buffer whose turn it is, with a length that may not be its own."""
        ring, buffer = self.out, self.buffers[self.end]
        assert buffer, "the link has no buffers"
        count = shm.pool_buffers(ring.size, buffer)
        first = self.pools[self.end] + shm.round_up(count, shm.PAGE)
        start = first + ring.head % count * buffer + shm.BUFFER_HEADROOM
        self.region.memory[start : start + len(content)] = content
        ring.publish(ring.word(0, len(content) if length is None else length, BUFFER))

    def close(self) -> None:
        """Unmap it."""
        self.region.memory.close()


class HostileVnf(FakeVnf):
    """A VNF that keeps to the protocol and has its regions mapped, with all that it may write."""

    port: Scribbler
    to_switch: list[RawRing]
    to_vnf: RawRing

    def __init__(self, rundir: Path, name: str) -> None:
        self.at: dict[int, HostileLink] = {}
        super().__init__(rundir, name)

    def connect(self) -> None:
        """Connect, and say that it takes frames without a copy."""
        Peer.__init__(self, paths.vnf_socket(self.name, self.rundir))
        self.send(
            protocol.Hello(
                role=Role.VNF, name=self.name, epoch=self.epoch, driver="hostile", external=True
            )
        )

    def attach(self, *, started: bool = True) -> HostileVnf:
        """Map the port's region, and say that it receives on one queue."""
        self.expect_welcome()
        self.expect(protocol.PortRegion)
        fd = self.fds.pop(0)
        self.port = region = Scribbler(fd)
        os.close(fd)
        size, data = region.port_field("ring_size", "I"), region.port_field("ring_data", "I")
        first, stride = region.port_field("to_switch_offset"), region.port_field("ring_stride")
        self.to_switch = [
            RawRing(region, first + queue * stride, size, data)
            for queue in range(region.port_field("n_queues", "I"))
        ]
        self.to_vnf = RawRing(region, region.port_field("to_vnf_offset"), size, data)
        self.to_vnf.drain()
        for name, value, form in (
            ("epoch", self.epoch, "Q"),
            ("n_rxq", 1, "I"),
            ("n_txq", 1, "I"),
            ("attached", 1, "I"),
            ("started", int(started), "I"),
        ):
            region.write(region.offset_of("highway_port_region", f"vnf_state.{name}"), value, form)
        return self

    def serve(self, timeout: float = 0.0) -> None:
        """Do what highwayd asks for."""
        self.pump(timeout)
        while self._inbox:
            match self._inbox.pop(0):
                case protocol.LinkAdd() as added:
                    self._take(added)
                case protocol.LinkUpdate(link_id=link_id, flags=flags) if link_id in self.at:
                    if flags != self.flags[link_id]:
                        self.flags[link_id] = flags
                        self.send(protocol.LinkAdded(link_id=link_id, flags=flags))
                case protocol.LinkRemove(link_id=link_id):
                    if (link := self.at.pop(link_id, None)) is not None:
                        link.close()
                    self.send(protocol.LinkRemoved(link_id=link_id))

    def _take(self, added: protocol.LinkAdd) -> None:
        fd = self.fds.pop(0)
        link = HostileLink(fd, added)
        os.close(fd)
        link.settle_in(self.epoch)
        self.at[added.link_id], self.flags[added.link_id] = link, added.flags
        self.send(protocol.LinkAdded(link_id=added.link_id, flags=added.flags))

    def link(self, peer: str, flags: LinkFlag | None = None) -> HostileLink:
        """Return the link to a peer, once it is there and, if flags are given, has these.

        Raises:
            SandboxError: it does not come.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not self.eof:
            self.serve(0.02)
            for link_id, link in self.at.items():
                if link.peer == peer and link.active and flags in (None, self.flags[link_id]):
                    return link
        raise SandboxError(f"{self.name} gets no link to {peer}; it has {self.flags}")

    def acknowledge(self) -> None:
        """Say that it uses no rule that is gone by now."""
        change = self.port.port_field("gate.change", "I")
        self.port.write(self.port.offset_of("highway_port_region", "vnf_state.ack"), change, "I")

    def close(self) -> None:
        """End the connection, and with it this life of the VNF."""
        super().close()
        for link in self.at.values():
            link.close()
        self.at.clear()
        if hasattr(self, "port"):
            self.port.memory.close()
