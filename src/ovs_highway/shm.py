# SPDX-License-Identifier: Apache-2.0
"""The shared-memory contract in Python: `highway_shm.h`, parsed by cffi at import.

The driver includes the same header, so there is no second description of the layout. Everything
here is layout and memory access; `region` opens and makes regions, `protocol` speaks messages.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import cffi

from ovs_highway import paths
from ovs_highway.errors import SetupError

CData: TypeAlias = Any
"""A C struct, pointer or array of cffi, whose members no type checker can know."""

_TEXT: Final = paths.header().read_text(encoding="utf-8")
_DEFINES: Final = {
    name: int(value, 16)
    for name, value in re.findall(r"^#define\s+(\w+)\s+(0x[0-9a-fA-F]+)\s*$", _TEXT, re.MULTILINE)
}

ffi: Final = cffi.FFI()
ffi.cdef("\n".join(line for line in _TEXT.splitlines() if not line.startswith("#")))
ffi.cdef(
    """
    uint32_t __atomic_fetch_add_4(void *, uint32_t, int);
    uint32_t __atomic_fetch_or_4(void *, uint32_t, int);
    uint32_t __atomic_fetch_and_4(void *, uint32_t, int);
    """
)


def _constants() -> dict[str, int]:
    """Return every enum constant of the header by its name."""
    found: dict[str, int] = {}
    for name in re.findall(r"^enum\s+(\w+)", _TEXT, re.MULTILINE):
        found.update(ffi.typeof(f"enum {name}").relements)
    return found


_CONSTANTS: Final = _constants()


def constant(name: str) -> int:
    """Return the value of an enum constant or integer `#define` of the header.

    Raises:
        KeyError: the header has no such name.
    """
    return _DEFINES[name] if name in _DEFINES else _CONSTANTS[name]


ABI_VERSION: Final = constant("HIGHWAY_ABI_VERSION")
ABI_OLDEST: Final = constant("HIGHWAY_ABI_OLDEST")
ABI_DIRECTED: Final = constant("HIGHWAY_ABI_DIRECTED")
ABI_COUNTED: Final = constant("HIGHWAY_ABI_COUNTED")
NAME_LEN: Final = constant("HIGHWAY_NAME_LEN")
MAX_QUEUES: Final = constant("HIGHWAY_MAX_QUEUES")
MAX_RULES: Final = constant("HIGHWAY_MAX_RULES")
MAX_LINKS: Final = constant("HIGHWAY_MAX_LINKS")
MAX_FRAME: Final = constant("HIGHWAY_MAX_FRAME")
MIN_RING_SIZE: Final = constant("HIGHWAY_MIN_RING_SIZE")
MAX_RING_SIZE: Final = constant("HIGHWAY_MAX_RING_SIZE")
DATA_PER_SLOT: Final = constant("HIGHWAY_DATA_PER_SLOT")
LINK_DATA_PER_SLOT: Final = constant("HIGHWAY_LINK_DATA_PER_SLOT")
GRANULE: Final = constant("HIGHWAY_GRANULE")
BUFFER_HEADROOM: Final = constant("HIGHWAY_BUFFER_HEADROOM")
MAX_BUFFER: Final = constant("HIGHWAY_MAX_BUFFER")
POOL_ENOUGH: Final = constant("HIGHWAY_POOL_ENOUGH")
LINK_DATA_ENOUGH: Final = constant("HIGHWAY_LINK_DATA_ENOUGH")
MIN_RING_DATA: Final = constant("HIGHWAY_MIN_RING_DATA")
RING_DESC_OFFSET: Final = constant("HIGHWAY_RING_DESC_OFFSET")
PORT_HEADER_LEN: Final = constant("HIGHWAY_PORT_HEADER_LEN")
LINK_HEADER_LEN: Final = constant("HIGHWAY_LINK_HEADER_LEN")
HELLO_EXTERNAL: Final = constant("HIGHWAY_HELLO_EXTERNAL")
MSG_LEN: Final = constant("HIGHWAY_MSG_LEN")
PORT_MAGIC: Final = constant("HIGHWAY_PORT_MAGIC")
LINK_MAGIC: Final = constant("HIGHWAY_LINK_MAGIC")
MSG_MAGIC: Final = constant("HIGHWAY_MSG_MAGIC")

PAGE: Final = 4096
HUGE_PAGE: Final = 2 << 20
DESC_LEN: Final = ffi.sizeof("struct highway_desc")
RULE_LEN: Final = ffi.sizeof("struct highway_rule")
COUNTER_LEN: Final = ffi.sizeof("struct highway_counter")
MAX_REGION: Final = 4 << 30
"""Bytes; no region that the limits of the header allow comes near it."""


class Off(enum.IntFlag):
    """Why a port's bypass is off: `enum highway_off`."""

    OPERATOR = constant("HIGHWAY_OFF_OPERATOR")
    ALL = constant("HIGHWAY_OFF_ALL")
    POLICY = constant("HIGHWAY_OFF_POLICY")
    LEASE = constant("HIGHWAY_OFF_LEASE")
    HOLD = constant("HIGHWAY_OFF_HOLD")
    DOWN = constant("HIGHWAY_OFF_DOWN")
    SWITCH = constant("HIGHWAY_OFF_SWITCH")


class Phase(enum.IntEnum):
    """Where a link stands: `enum highway_link_phase`."""

    NEW = constant("HIGHWAY_LINK_NEW")
    ACTIVE = constant("HIGHWAY_LINK_ACTIVE")
    LEAVING = constant("HIGHWAY_LINK_LEAVING")


class LinkFlag(enum.IntFlag):
    """What an end of a link must heed: `enum highway_link_flags`; each is a restriction."""

    CHECKED = constant("HIGHWAY_LINK_CHECKED")
    PEER_CHECKS = constant("HIGHWAY_LINK_PEER_CHECKS")
    NO_SEND = constant("HIGHWAY_LINK_NO_SEND")
    NO_RECEIVE = constant("HIGHWAY_LINK_NO_RECEIVE")

    @classmethod
    def read(cls, value: int, version: int) -> LinkFlag:
        """Return flags as somebody of this ABI version means them; unknown bits are left out."""
        known = cls.CHECKED | cls.PEER_CHECKS | cls.NO_SEND | cls.NO_RECEIVE
        found = cls(value & known)
        if version < ABI_DIRECTED and cls.CHECKED in found:
            found |= cls.PEER_CHECKS
        return found


FREE: Final = LinkFlag(0)
"""Nothing to heed."""


class Role(enum.IntEnum):
    """Which side of a port a driver is: `enum highway_role`."""

    SWITCH = constant("HIGHWAY_ROLE_SWITCH")
    VNF = constant("HIGHWAY_ROLE_VNF")


class Stats(enum.IntEnum):
    """Whose counters become statistics: `enum highway_stats`."""

    SENDER = constant("HIGHWAY_STATS_SENDER")
    RECEIVER = constant("HIGHWAY_STATS_RECEIVER")


class Status(enum.IntEnum):
    """An answer: `enum highway_status`."""

    OK = constant("HIGHWAY_STATUS_OK")
    REFUSED = constant("HIGHWAY_STATUS_REFUSED")
    LATER = constant("HIGHWAY_STATUS_LATER")


CLOSE_TEXT: Final = {
    constant("HIGHWAY_CLOSE_BAD_INDEX"): "a ring index that cannot be",
    constant("HIGHWAY_CLOSE_BAD_DESC"): "a bad descriptor",
    constant("HIGHWAY_CLOSE_BAD_LEAVE"): "a Leave beyond what was published",
    constant("HIGHWAY_CLOSE_TIMEOUT"): "a drain or a gate that took too long",
}
"""`enum highway_close` in plain words."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def valid_port_name(name: str) -> bool:
    """Tell whether `name` may be a port's: safe as a file name, shorter than NAME_LEN bytes."""
    return len(name) < NAME_LEN and _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RingGeometry:
    """Size of the rings of a region.

    Attributes:
        size: descriptors, a power of two.
        data: bytes of frames.
    """

    size: int
    data: int

    @classmethod
    def of_port(cls, size: int) -> RingGeometry:
        """Return the geometry of a port's rings of `size` descriptors."""
        return cls(size=size, data=max(MIN_RING_DATA, round_up(size * DATA_PER_SLOT, PAGE)))

    @classmethod
    def of_link(cls, size: int) -> RingGeometry:
        """Return the geometry of a link's rings of `size` descriptors."""
        roomy = min(LINK_DATA_ENOUGH, round_up(size * LINK_DATA_PER_SLOT, PAGE))
        return cls(size=size, data=max(cls.of_port(size).data, roomy))

    @property
    def used(self) -> int:
        """Bytes that a ring of this geometry needs."""
        return RING_DESC_OFFSET + DESC_LEN * self.size + self.data

    @property
    def stride(self) -> int:
        """Bytes from one ring to the next."""
        return round_up(self.used, PAGE)


def buffer_size(max_frame: int) -> int:
    """Return the bytes of a buffer for frames of up to `max_frame` bytes."""
    return min(MAX_BUFFER, round_up(BUFFER_HEADROOM + max_frame, GRANULE))


def pool_buffers(ring_size: int, buffer: int) -> int:
    """Return how many buffers of `buffer` bytes a ring of `ring_size` descriptors has."""
    if not buffer:
        return 0
    return min(ring_size, 1 << (POOL_ENOUGH // buffer).bit_length() - 1)


def pool_stride(count: int, buffer: int) -> int:
    """Return the bytes of a pool of `count` buffers of `buffer` bytes."""
    return round_up(round_up(count, PAGE) + count * buffer, PAGE)


def round_up(value: int, unit: int) -> int:
    """Return the smallest multiple of `unit` that is not below `value`."""
    return -(-value // unit) * unit


def power_of_two(value: int) -> bool:
    """Tell whether `value` is a power of two."""
    return value > 0 and value & (value - 1) == 0


def next_power_of_two(value: int) -> int:
    """Return the smallest power of two that is not below `value`."""
    return 1 << max(0, value - 1).bit_length()


def clean(raw: bytes) -> str:
    """Return a NUL-terminated text as printable characters, whatever the bytes are."""
    text = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "?" for char in text)


def text_bytes(text: str, room: int) -> bytes:
    """Return `text` in UTF-8, cut at a character so that it and its NUL fit into `room` bytes."""
    return text.encode("utf-8", "replace")[: room - 1].decode("utf-8", "ignore").encode("utf-8")


class _Atomic:
    """Atomic operations on shared 32-bit words.

    Python has none of its own, and `gate.change` is counted up by two processes at once. GCC's
    libatomic exports them as plain functions; Debian installs it with the compiler (libgcc-dev)
    and with DPDK's drivers (librte-net-sfc depends on it).
    """

    _SEQ_CST: Final = 5

    def __init__(self) -> None:
        self._lib: Any = None

    def _call(self, name: str, word: CData, value: int) -> int:
        if self._lib is None:
            try:
                self._lib = ffi.dlopen("libatomic.so.1")
            except OSError as error:
                raise SetupError(
                    "libatomic.so.1 is missing; as root: apt-get install libatomic1"
                ) from error
        return int(getattr(self._lib, name)(word, value & 0xFFFFFFFF, self._SEQ_CST))

    def add(self, word: CData, value: int) -> int:
        """Add `value` to `*word` and return what was there before."""
        return self._call("__atomic_fetch_add_4", word, value)

    def set_bits(self, word: CData, bits: int) -> int:
        """Set `bits` in `*word` and return what was there before."""
        return self._call("__atomic_fetch_or_4", word, bits)

    def clear_bits(self, word: CData, bits: int) -> int:
        """Clear `bits` in `*word` and return what was there before."""
        return self._call("__atomic_fetch_and_4", word, ~bits)


atomic: Final = _Atomic()
