# SPDX-License-Identifier: Apache-2.0
"""What a hostile VNF or highwayd could do: write anywhere in a region, say anything on a socket."""

from __future__ import annotations

import mmap
import os
import random
import struct
from typing import TYPE_CHECKING, Final, Self

from ovs_highway import shm
from ovs_highway.shm import ffi

if TYPE_CHECKING:
    from pathlib import Path

HUGE_PAGE: Final = 2 << 20
PACKET: Final = shm.constant("HIGHWAY_DESC_PACKET")
_DESC_OFFSET: Final = shm.constant("HIGHWAY_RING_DESC_OFFSET")
_DESC_LEN: Final = ffi.sizeof("struct highway_desc")
_STAMPED: Final = shm.constant("HIGHWAY_STAMPED")
_TAIL: Final = ffi.offsetof("struct highway_ring", "tail")


def write_file(path: Path, content: bytes, size: int) -> None:
    """Make a file of some size with some content, also on hugetlbfs, where write(2) is unknown."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(fd, size)
        if size:
            with mmap.mmap(fd, size) as memory:
                memory[: len(content)] = content
    finally:
        os.close(fd)


class Scribbler:
    """A region mapped for writing, by its file or descriptor, with no respect for what it means."""

    def __init__(self, file: Path | int) -> None:
        fd = os.dup(file) if isinstance(file, int) else os.open(file, os.O_RDWR)
        try:
            self.size = os.fstat(fd).st_size
            self.memory = mmap.mmap(fd, self.size)
        finally:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.memory.close()

    def offset_of(self, kind: str, field: str) -> int:
        """Return where a field of a shared structure lies, as in `gate.change`."""
        offset, kind = 0, f"struct {kind}"
        for name in field.split("."):
            offset += ffi.offsetof(kind, name)
            kind = next(item.type for key, item in ffi.typeof(kind).fields if key == name).cname
        return int(offset)

    def read(self, offset: int, form: str = "Q") -> int:
        """Return an integer of `struct`'s format `form`."""
        return int(struct.unpack_from(form, self.memory, offset)[0])

    def write(self, offset: int, value: int, form: str = "Q") -> None:
        """Overwrite an integer of `struct`'s format `form`."""
        struct.pack_into(form, self.memory, offset, value)

    def noise(self, offset: int, length: int) -> None:
        """Overwrite a part with random bytes."""
        self.memory[offset : offset + length] = random.randbytes(length)

    def port_field(self, field: str, form: str = "Q") -> int:
        """Return a field of a port region."""
        return self.read(self.offset_of("highway_port_region", field), form)

    def head(self, ring: int, value: int) -> None:
        """Set the producer's index of the ring at offset `ring`."""
        self.write(ring, value & 0xFFFFFFFFFFFFFFFF)

    def tail(self, ring: int, value: int) -> None:
        """Set the consumer's index of the ring at offset `ring`."""
        self.write(ring + _TAIL, value & 0xFFFFFFFFFFFFFFFF)

    def descriptors(
        self, ring: int, offset: int, length: int, kind: int = PACKET, *, stamped: bool = True
    ) -> None:
        """Make every descriptor of a ring the same, all of them published.

        Without stamps only a few are, by the shared head.
        """
        size, head = self.port_field("ring_size", "I"), self.read(ring)
        for index in range(head, head + size):
            stamp = _STAMPED | index // size % _STAMPED if stamped else 0
            start = ring + _DESC_OFFSET + index % size * _DESC_LEN
            struct.pack_into("IHBB", self.memory, start, offset, length, kind, stamp)
        self.head(ring, head + 8)
