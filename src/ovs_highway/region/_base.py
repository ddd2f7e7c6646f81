# SPDX-License-Identifier: Apache-2.0
"""What port and link regions have in common: mapping, the header, checks of the geometry."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import stat
from typing import TYPE_CHECKING, Final, Self

from ovs_highway import shm
from ovs_highway.errors import RegionError
from ovs_highway.region._cut import register
from ovs_highway.shm import CData, RingGeometry, ffi

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_MAP_FIXED: Final = 0x10  # the same on every Linux that DPDK runs on


class Region:
    """A mapped region with a checked header. Use `PortRegion` or `LinkRegion`."""

    _MAGIC: int
    _TYPE: str
    _WHAT: str

    def __init__(self, fd: int, *, writable: bool, what: str) -> None:
        """Map `fd`, which this object owns from now on, even if this raises RegionError."""
        self.fd = fd
        self._mem: mmap.mmap | None = None
        self._cut = self._cut_told = False
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise RegionError(f"{what} is not a regular file; it cannot be a region")
            size = info.st_size
            if size < shm.PORT_HEADER_LEN:
                raise RegionError(f"{what} is too small for a {self._WHAT} region: {size} bytes")
            if not shm.power_of_two(size) or size > shm.MAX_REGION:
                raise RegionError(f"{what} has an impossible size: {size} bytes")
            self.size = size
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self._mem = mmap.mmap(fd, size, access=access)
            self._buffer = ffi.from_buffer(self._mem)
            self.raw: CData = ffi.cast(f"struct {self._TYPE} *", self._buffer)
            register(self)
            self._check_header(what)
        except (OSError, ValueError) as error:
            self.close()
            raise RegionError(f"{what} cannot be mapped: {error}") from error
        except RegionError:
            self.close()
            raise

    def _check_header(self, what: str) -> None:
        header = self.raw.header
        if int(header.magic) != self._MAGIC:
            raise RegionError(f"{what} has a wrong magic; it is no {self._WHAT} region")
        version, oldest = int(header.abi_version), int(header.abi_oldest)
        if version < shm.ABI_OLDEST or oldest > shm.ABI_VERSION or oldest > version:
            raise RegionError(
                f"{what} has ABI {oldest} to {version}, this program {shm.ABI_OLDEST} to "
                f"{shm.ABI_VERSION}; install the same release on both sides"
            )
        if int(header.size) != self.size:
            raise RegionError(f"{what} says {int(header.size)} bytes but has {self.size}")
        self.region_id = int(header.region_id)
        if self.region_id == 0:
            raise RegionError(f"{what} has no region id; add the port again")
        self.tag = f"{int(header.rundir_tag):016x}"

    def close(self) -> None:
        """Unmap and close; the region itself stays."""
        if self._mem is not None:
            if hasattr(self, "raw"):
                del self.raw
            if hasattr(self, "_buffer"):
                ffi.release(self._buffer)
            self._mem.close()
            self._mem = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def guard(self) -> bool:
        """Put empty memory in the region's place if its file was cut short; return whether it was.

        Or whether that was done before, by `survive_cuts`. Returns True only once.
        """
        self.replace_cut()
        told, self._cut_told = self._cut_told, self._cut
        return self._cut and not told

    def replace_cut(self) -> bool:
        """Do that, and return whether there was anything to do."""
        if self._cut or self.fd < 0 or os.fstat(self.fd).st_size >= self.size:
            return False
        self._replace()
        return True

    def replace_at(self, address: int) -> bool:
        """Do the same if an access to `address` failed and that is in this region."""
        if self._cut or self._mem is None or not hasattr(self, "raw"):
            return False
        if not 0 <= address - int(ffi.cast("uintptr_t", self.raw)) < self.size:
            return False
        self._replace()
        return True

    def _replace(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap(
            ctypes.c_void_p(int(ffi.cast("uintptr_t", self.raw))),
            ctypes.c_size_t(self.size),
            ctypes.c_int(mmap.PROT_READ | mmap.PROT_WRITE),
            ctypes.c_int(mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED),
            ctypes.c_int(-1),
            ctypes.c_long(0),
        )
        self._cut = True

    def is_file(self, path: Path) -> bool:
        """Tell whether `path` is this very region."""
        try:
            there, here = path.stat(), os.fstat(self.fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def same_file(self, other: Region) -> bool:
        """Tell whether `other` is another mapping of this very region."""
        there, here = os.fstat(other.fd), os.fstat(self.fd)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def lock(self) -> bool:
        """Lock the region's file; return False if a switch has it, which locks it as well."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def locked(self) -> bool:
        """Tell whether a switch has the region, even one that is stopped."""
        if not self.lock():
            return True
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return False

    @property
    def linked(self) -> bool:
        """Tell whether the region still has a file name."""
        return os.fstat(self.fd).st_nlink > 0

    def _at(self, ctype: str, offset: int) -> CData:
        """Return a pointer to an array in the region itself."""
        return ffi.cast(f"{ctype} *", ffi.cast("char *", self.raw) + offset)

    def _copy(self, ctype: str, offset: int, count: int) -> CData:
        """Return a private copy of an array, so that nothing changes while it is looked at."""
        assert self._mem is not None
        length = ffi.sizeof(ctype) * count
        return ffi.from_buffer(f"{ctype}[{count}]", self._mem[offset : offset + length])


def check_rings(what: str, size: int, raw: CData) -> RingGeometry:
    """Return a copy of the ring geometry of a region, or raise RegionError."""
    rings = RingGeometry(size=int(raw.ring_size), data=int(raw.ring_data))
    if (
        not shm.power_of_two(rings.size)
        or not shm.MIN_RING_SIZE <= rings.size <= shm.MAX_RING_SIZE
        or rings.data < shm.MIN_RING_DATA
        or rings.data % shm.PAGE
        or int(raw.ring_stride) != rings.stride
        or rings.stride > size
    ):
        raise RegionError(f"{what} has a bad ring geometry; add the port again")
    return rings


def check_extents(what: str, size: int, first: int, extents: Sequence[tuple[int, int]]) -> None:
    """Check that (offset, length) areas lie in order behind the header and inside the region."""
    end = first
    for offset, length in extents:
        if offset < end or offset % 64 or offset + length > size:
            raise RegionError(f"{what} has areas outside of it or on top of each other")
        end = offset + length


def put_text(field: CData, text: str) -> None:
    """Fill a fixed-size text field of a region, with zeros behind the text."""
    ffi.buffer(field)[:] = shm.text_bytes(text, len(field)).ljust(len(field), b"\0")
