# SPDX-License-Identifier: Apache-2.0
"""Link regions: one per pair of ports, made by highwayd."""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway import shm
from ovs_highway.errors import RegionError
from ovs_highway.region._base import Region, check_extents, check_rings, put_text
from ovs_highway.region._files import (
    allocate,
    open_file,
    region_dirs,
    region_name,
    unlink_region,
)
from ovs_highway.shm import CData, LinkFlag, Phase, RingGeometry, ffi

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FLAGS: Final = 8
_MASK: Final = 0xFF
"""Bits of `flags` that one end has."""
_BOTH_CHECKED: Final = LinkFlag.CHECKED | LinkFlag.PEER_CHECKS


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEnd:
    """What one end of a link says of itself."""

    epoch: int
    attached: bool
    rx_ready: bool
    tx_done: bool
    closed: str


class LinkRegion(Region):
    """The region of one link; made by highwayd.

    Attributes:
        names: both ports, in order of their names; end 0 and end 1.
        port_ids: region ids of the two ports.
        n_queues: sender queues of each end.
        buffers: bytes of the buffers that each end sends in, 0 if there are none.
        path: its file.
    """

    _MAGIC = shm.LINK_MAGIC
    _TYPE = "highway_link_region"
    _WHAT = "link"
    path: Path

    def __init__(self, fd: int, *, writable: bool = True, what: str = "the region") -> None:
        super().__init__(fd, writable=writable, what=what)
        try:
            self._check(what)
        except RegionError:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path, *, writable: bool = True) -> LinkRegion:
        """Open and check a region file.

        Raises:
            RegionError: no such file, no permission, or not a region of this version.
        """
        link = cls(open_file(path, writable=writable), writable=writable, what=f"region {path}")
        link.path = path
        return link

    @staticmethod
    def size_of(
        n_queues: tuple[int, int], ring_size: int, buffers: tuple[int, int] = (0, 0)
    ) -> int:
        """Return the bytes of a region for so many sender queues, and such buffers, at each end."""
        stride = RingGeometry.of_link(ring_size).stride
        pools = (
            count * shm.pool_stride(shm.pool_buffers(ring_size, buffer), buffer)
            for count, buffer in zip(n_queues, buffers, strict=True)
        )
        return shm.next_power_of_two(shm.LINK_HEADER_LEN + sum(n_queues) * stride + sum(pools))

    @classmethod
    def create(
        cls,
        *,
        tag: str,
        link_id: int,
        names: tuple[str, str],
        port_ids: tuple[int, int],
        n_queues: tuple[int, int],
        ring_size: int,
        buffers: tuple[int, int] = (0, 0),
        flags: tuple[LinkFlag, LinkFlag] = (shm.FREE, shm.FREE),
        dirs: Sequence[Path] | None = None,
    ) -> LinkRegion:
        """Make the region of a new link, in huge pages where there are any, else in /dev/shm.

        Raises:
            RegionError: there is no memory for it.
        """
        rings = RingGeometry.of_link(ring_size)
        path, fd = allocate(
            region_name(tag, "link", f"{link_id:016x}"),
            cls.size_of(n_queues, ring_size, buffers),
            region_dirs() if dirs is None else dirs,
        )
        try:
            size = os.fstat(fd).st_size
            with mmap.mmap(fd, size) as mem:
                buffer = ffi.from_buffer(mem, require_writable=True)
                raw: CData = ffi.cast("struct highway_link_region *", buffer)
                header = raw.header
                header.abi_version, header.abi_oldest = shm.ABI_VERSION, shm.ABI_OLDEST
                header.size, header.region_id = size, link_id
                header.rundir_tag = int(tag, 16)
                raw.ring_size, raw.ring_data = rings.size, rings.data
                raw.ring_stride = rings.stride
                offset = shm.LINK_HEADER_LEN
                for end in (0, 1):
                    raw.port_id[end] = port_ids[end]
                    put_text(raw.name[end], names[end])
                    raw.n_queues[end] = n_queues[end]
                    raw.ring_offset[end] = offset
                    offset += n_queues[end] * rings.stride
                for end in (0, 1):
                    count = shm.pool_buffers(rings.size, buffers[end])
                    raw.buffer_size[end], raw.n_buffers[end] = buffers[end], count
                    raw.pools_offset[end] = offset if count else 0
                    offset += n_queues[end] * shm.pool_stride(count, buffers[end])
                raw.phase = int(Phase.NEW)
                raw.flags = _pack(flags)
                raw.created_ns = time.time_ns()
                header.magic = shm.LINK_MAGIC
                del raw, header
                ffi.release(buffer)
        except BaseException:
            os.close(fd)
            unlink_region(path)
            raise
        link = cls(fd, what=f"region {path}")
        link.path = path
        return link

    def _check(self, what: str) -> None:
        raw = self.raw
        names = [shm.clean(bytes(ffi.buffer(raw.name[end]))) for end in (0, 1)]
        self.names = (names[0], names[1])
        if not all(map(shm.valid_port_name, names)) or not names[0] < names[1]:
            raise RegionError(f"{what} has bad port names")
        self.port_ids = (int(raw.port_id[0]), int(raw.port_id[1]))
        self.n_queues = (int(raw.n_queues[0]), int(raw.n_queues[1]))
        if not all(1 <= count <= shm.MAX_QUEUES for count in self.n_queues):
            raise RegionError(f"{what} has {self.n_queues} queues")
        self.rings = check_rings(what, self.size, raw)
        self.buffers = (int(raw.buffer_size[0]), int(raw.buffer_size[1]))
        counts = (int(raw.n_buffers[0]), int(raw.n_buffers[1]))
        if any(buffer > shm.MAX_BUFFER or buffer % shm.GRANULE for buffer in self.buffers):
            raise RegionError(f"{what} has buffers of {self.buffers} bytes")
        if any(count > self.rings.size for count in counts):
            raise RegionError(f"{what} has {counts} buffers")
        self._ring_offsets = (int(raw.ring_offset[0]), int(raw.ring_offset[1]))
        extents = [
            (self._ring_offsets[end], self.n_queues[end] * self.rings.stride) for end in (0, 1)
        ]
        extents += [
            (
                int(raw.pools_offset[end]),
                self.n_queues[end] * shm.pool_stride(counts[end], size),
            )
            for end, size in enumerate(self.buffers)
            if size
        ]
        check_extents(what, self.size, shm.LINK_HEADER_LEN, extents)

    @property
    def phase(self) -> Phase:
        """Where the link stands; a value that cannot be counts as LEAVING."""
        value = int(self.raw.phase)
        return Phase(value) if value in Phase.__members__.values() else Phase.LEAVING

    @phase.setter
    def phase(self, phase: Phase) -> None:
        if phase is Phase.ACTIVE and not self.raw.active_ns:
            self.raw.active_ns = time.time_ns()
        self.raw.phase = int(phase)

    @property
    def flags(self) -> tuple[LinkFlag, LinkFlag]:
        """What end 0 and end 1 must heed; for people, drivers go by their messages."""
        value = int(self.raw.flags)
        if value == LinkFlag.CHECKED:  # the two directions of a highwayd before ABI_DIRECTED
            value = _pack((_BOTH_CHECKED, _BOTH_CHECKED))
        one, other = value & _MASK, value >> _FLAGS & _MASK
        return LinkFlag.read(one, shm.ABI_VERSION), LinkFlag.read(other, shm.ABI_VERSION)

    def set_flags(self, end: int, flags: LinkFlag) -> None:
        """Note what end 0 or 1 must heed."""
        both = list(self.flags)
        both[end] = flags
        self.raw.flags = _pack((both[0], both[1]))

    @property
    def created_ns(self) -> int:
        """When it was made: nanoseconds of CLOCK_REALTIME."""
        return int(self.raw.created_ns)

    def end(self, index: int) -> LinkEnd:
        """Return what end 0 or 1 says of itself."""
        raw = self.raw.end[index]
        closed = int(raw.closed)
        return LinkEnd(
            epoch=int(raw.epoch),
            attached=bool(raw.attached),
            rx_ready=bool(raw.rx_ready),
            tx_done=bool(raw.tx_done),
            closed=shm.CLOSE_TEXT.get(closed, f"error {closed}") if closed else "",
        )

    def end_gone(self, index: int) -> None:
        """Say for end 0 or 1 that it will neither send nor receive any more."""
        raw = self.raw.end[index]
        raw.rx_ready, raw.tx_done, raw.attached = 0, 1, 0

    def consumed(self, end: int, queue: int = 0) -> int:
        """Return the descriptors, marks included, that were taken from a ring that `end` fills.

        At once, unlike all counts: drivers publish those every 10 ms.
        """
        offset = self._ring_offsets[end] + queue * self.rings.stride
        return int(self._at("struct highway_ring", offset)[0].tail)

    def received(self, end: int) -> tuple[int, int]:
        """Return packets and bytes that end 0 or 1 has received since the link was made."""
        counters = self.raw.received[end]
        queues = range(self.n_queues[1 - end])
        return (
            sum(int(counters[queue].packets) for queue in queues),
            sum(int(counters[queue].bytes) for queue in queues),
        )


def _pack(flags: tuple[LinkFlag, LinkFlag]) -> int:
    return int(flags[0]) | int(flags[1]) << _FLAGS
