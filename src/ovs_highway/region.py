# SPDX-License-Identifier: Apache-2.0
"""Port regions and link regions: find, make, open, check, read.

Whoever maps a region may write into it, so geometry is checked once, on opening, and kept as a
private copy; all later reads are bounded by that copy. A region is mapped, never copied.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from ovs_highway import shm
from ovs_highway.errors import RegionError
from ovs_highway.shm import CData, Off, Phase, RingGeometry, atomic, ffi

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHM_DIR: Final = Path("/dev/shm")


def region_dirs(mounts: Path = Path("/proc/mounts")) -> list[Path]:
    """Return where region files may lie: hugetlbfs mounts, /dev/hugepages first, then /dev/shm."""
    found = []
    with contextlib.suppress(OSError):
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split()
            if len(fields) > 2 and fields[2] == "hugetlbfs":
                found.append(Path(fields[1].replace("\\040", " ")))
    first = Path("/dev/hugepages")
    found.sort(key=lambda folder: folder != first)
    return [*dict.fromkeys(found), _SHM_DIR]


def region_name(tag: str, kind: str, name: str) -> str:
    """Return the file name of a region; `kind` is `port` or `link`."""
    return f"ovs-highway-{tag}-{kind}-{name}"


def region_paths(tag: str, kind: str, dirs: Sequence[Path] | None = None) -> dict[str, list[Path]]:
    """Return the region files of one tag by port name or link id, in all places they may lie."""
    prefix = region_name(tag, kind, "")
    found: dict[str, list[Path]] = {}
    for folder in region_dirs() if dirs is None else dirs:
        with contextlib.suppress(OSError):
            for entry in sorted(os.listdir(folder)):
                if entry.startswith(prefix):
                    found.setdefault(entry.removeprefix(prefix), []).append(folder / entry)
    return found


def unlink_region(path: Path) -> None:
    """Remove a region file; its memory goes back when the last process has unmapped it."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


class _Region:
    """A mapped region with a checked header. Use `PortRegion` or `LinkRegion`."""

    _MAGIC: int
    _TYPE: str
    _WHAT: str

    def __init__(self, fd: int, *, writable: bool, what: str) -> None:
        """Map `fd`, which this object owns from now on, even if this raises RegionError."""
        self.fd = fd
        self._mem: mmap.mmap | None = None
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

    def is_file(self, path: Path) -> bool:
        """Tell whether `path` is this very region."""
        try:
            there, here = path.stat(), os.fstat(self.fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def same_file(self, other: _Region) -> bool:
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

    @property
    def linked(self) -> bool:
        """Tell whether the region still has a file name."""
        return os.fstat(self.fd).st_nlink > 0

    def _copy(self, ctype: str, offset: int, count: int) -> CData:
        """Return a private copy of an array, so that nothing changes while it is looked at."""
        assert self._mem is not None
        length = ffi.sizeof(ctype) * count
        return ffi.from_buffer(f"{ctype}[{count}]", self._mem[offset : offset + length])


def _open(path: Path, *, writable: bool) -> int:
    try:
        return os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError as error:
        raise RegionError(f"region {path} cannot be opened: {error.strerror}") from error


def _check_rings(what: str, size: int, raw: CData) -> RingGeometry:
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


def _check_extents(what: str, size: int, first: int, extents: Sequence[tuple[int, int]]) -> None:
    """Check that (offset, length) areas lie in order behind the header and inside the region."""
    end = first
    for offset, length in extents:
        if offset < end or offset % 64 or offset + length > size:
            raise RegionError(f"{what} has areas outside of it or on top of each other")
        end = offset + length


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchState:
    """A copy of `struct highway_switch_state`."""

    epoch: int
    attached: bool
    link_up: bool
    max_frame: int
    pid: int
    rules_live: int
    rules_inert: int
    rules_refused: int
    unclaimed_packets: int
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    tx_full: int
    bypass_rx_packets: int
    bypass_rx_bytes: int
    bypass_tx_packets: int
    bypass_tx_bytes: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A copy of `struct highway_gate`; `lease` counts up by one per second."""

    change: int
    off_switch: Off
    off_operator: Off
    off_policy: Off
    lease: int
    standalone: bool
    tx_flush_us: int
    off_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VnfState:
    """A copy of `struct highway_vnf_state`."""

    epoch: int
    attached: bool
    started: bool
    n_rxq: int
    n_txq: int
    pid: int
    abi_version: int
    max_frame: int
    errors: int
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One used slot of a rule table with its counters.

    Attributes:
        slot: index in the table.
        live: in force; False: withdrawn, the slot is not used again yet.
        peer_id: region id of the receiver's port.
        key, mask: copies of `struct highway_key`.
    """

    slot: int
    live: bool
    peer_id: int
    peer_name: str
    max_frame: int
    key: CData
    mask: CData
    packets: int
    bytes: int


class PortRegion(_Region):
    """The region of one port; made by the switch side.

    Attributes:
        name: the port, as in `net_highway_<name>`.
        n_queues: VNF queues; rings in each direction.
        n_rules: rule slots.
        rings: size of the normal rings.
    """

    _MAGIC = shm.PORT_MAGIC
    _TYPE = "highway_port_region"
    _WHAT = "port"

    def __init__(self, fd: int, *, writable: bool = True, what: str = "the region") -> None:
        super().__init__(fd, writable=writable, what=what)
        try:
            self._check(what)
        except RegionError:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path, *, writable: bool = True, what: str | None = None) -> PortRegion:
        """Open and check a region file; `what` is what errors call it.

        Raises:
            RegionError: no such file, no permission, or not a region of this version.
        """
        what = what or f"region {path}"
        return cls(_open(path, writable=writable), writable=writable, what=what)

    def _check(self, what: str) -> None:
        raw = self.raw
        self.name = shm.clean(bytes(ffi.buffer(raw.name)))
        if not shm.valid_port_name(self.name):
            raise RegionError(f"{what} has a bad port name; use letters, digits, '_', '-' and '.'")
        self.n_queues, self.n_rules = int(raw.n_queues), int(raw.n_rules)
        if not 1 <= self.n_queues <= shm.MAX_QUEUES or not 1 <= self.n_rules <= shm.MAX_RULES:
            raise RegionError(f"{what} has {self.n_queues} queues and {self.n_rules} rules")
        self.rings = _check_rings(what, self.size, raw)
        self._rules_offset = int(raw.rules_offset)
        self._counters_offset = int(raw.counters_offset)
        per_direction = self.n_queues * self.rings.stride
        _check_extents(
            what,
            self.size,
            shm.PORT_HEADER_LEN,
            [
                (self._rules_offset, self.n_rules * shm.RULE_LEN),
                (self._counters_offset, self.n_queues * self.n_rules * shm.COUNTER_LEN),
                (int(raw.to_switch_offset), per_direction),
                (int(raw.to_vnf_offset), per_direction),
            ],
        )

    def switch(self) -> SwitchState:
        """Return what the switch says of itself."""
        raw = self.raw.switch_state
        values: dict[str, Any] = {name: int(getattr(raw, name)) for name in SwitchState.__slots__}
        values["attached"], values["link_up"] = bool(raw.attached), bool(raw.link_up)
        return SwitchState(**values)

    def gate(self) -> Gate:
        """Return the gate: what is switched off, and why."""
        raw = self.raw.gate
        return Gate(
            change=int(raw.change),
            off_switch=Off(int(raw.off_switch) & 0x7F),
            off_operator=Off(int(raw.off_operator) & 0x7F),
            off_policy=Off(int(raw.off_policy) & 0x7F),
            lease=int(raw.lease),
            standalone=bool(raw.fail_mode),
            tx_flush_us=int(raw.tx_flush_us),
            off_text=shm.clean(bytes(ffi.buffer(raw.off_text))),
        )

    def vnf(self) -> VnfState:
        """Return what the VNF says of itself."""
        raw = self.raw.vnf_state
        return VnfState(
            epoch=int(raw.epoch),
            attached=bool(raw.attached),
            started=bool(raw.started),
            n_rxq=min(int(raw.n_rxq), shm.MAX_QUEUES),
            n_txq=min(int(raw.n_txq), shm.MAX_QUEUES),
            pid=int(raw.pid),
            abi_version=int(raw.abi_version),
            max_frame=int(raw.max_frame),
            errors=int(raw.errors),
            driver=shm.clean(bytes(ffi.buffer(raw.driver))),
        )

    def live_peers(self) -> list[int]:
        """Return the peer's region id of each rule in force."""
        table = self._copy("struct highway_rule", self._rules_offset, self.n_rules)
        return [int(rule.peer_id) for rule in table if rule.live]

    def rules(self, *, ended: bool = False) -> list[Rule]:
        """Return the rules in force, with `ended` also those in slots not yet used again."""
        table = self._copy("struct highway_rule", self._rules_offset, self.n_rules)
        used = [
            slot
            for slot in range(self.n_rules)
            if table[slot].live or (ended and table[slot].generation and table[slot].peer_id)
        ]
        packets, counted = dict.fromkeys(used, 0), dict.fromkeys(used, 0)
        for queue in range(self.n_queues if used else 0):
            offset = self._counters_offset + queue * self.n_rules * shm.COUNTER_LEN
            counters = self._copy("struct highway_counter", offset, self.n_rules)
            for slot in used:
                packets[slot] += int(counters[slot].packets)
                counted[slot] += int(counters[slot].bytes)
        return [
            Rule(
                slot=slot,
                live=bool(table[slot].live),
                peer_id=int(table[slot].peer_id),
                peer_name=shm.clean(bytes(ffi.buffer(table[slot].peer_name))),
                max_frame=int(table[slot].max_frame),
                key=_own(table[slot].key),
                mask=_own(table[slot].mask),
                packets=packets[slot],
                bytes=counted[slot],
            )
            for slot in used
        ]

    def changed(self) -> None:
        """Tell the VNF and the switch that something in this region has changed."""
        atomic.add(ffi.addressof(self.raw.gate, "change"), 1)

    def set_operator(self, bits: Off, *, off: bool) -> bool:
        """Set or clear bits of `off_operator`; return whether that changed anything."""
        word = ffi.addressof(self.raw.gate, "off_operator")
        before = atomic.set_bits(word, bits) if off else atomic.clear_bits(word, bits)
        if bool(before & bits == bits if off else not before & bits):
            return False
        self.changed()
        return True

    def set_policy(
        self, reason: str | None, *, tx_flush_us: int | None = None, standalone: bool | None = None
    ) -> bool:
        """Write what highwayd decided; return whether that changed anything.

        `reason` is why the bypass is off, None when policy allows it.
        """
        gate, before = self.raw.gate, self.gate()
        after = replace(
            before,
            off_policy=Off.POLICY if reason else Off(0),
            off_text=shm.clean(shm.text_bytes(reason or "", len(gate.off_text))),
            tx_flush_us=before.tx_flush_us if tx_flush_us is None else tx_flush_us,
            standalone=before.standalone if standalone is None else standalone,
        )
        if after == before:
            return False
        gate.tx_flush_us, gate.fail_mode = after.tx_flush_us, int(after.standalone)
        if reason:
            _put_text(gate.off_text, after.off_text)
        gate.off_policy = int(after.off_policy)
        if not reason:
            _put_text(gate.off_text, "")
        self.changed()
        return True

    def renew_lease(self) -> None:
        """Count the lease up; only highwayd does this."""
        self.raw.gate.lease = (int(self.raw.gate.lease) + 1) & 0xFFFFFFFFFFFFFFFF

    def switch_died(self) -> bool:
        """Note that no ovs-vswitchd has the port; return whether that was news."""
        if not self.raw.switch_state.attached:
            return False
        self.raw.switch_state.attached = 0
        self.changed()
        return True

    def vnf_died(self) -> bool:
        """Note that no VNF has the port; return whether that was news."""
        state = self.raw.vnf_state
        if not state.attached and not state.started:
            return False
        state.started = state.attached = 0
        self.changed()
        return True


def _own(struct: CData) -> CData:
    """Return a copy of a `struct highway_key` that outlives the table it was in."""
    return ffi.new("struct highway_key *", struct)


def _put_text(field: CData, text: str) -> None:
    ffi.buffer(field)[:] = shm.text_bytes(text, len(field)).ljust(len(field), b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEnd:
    """What one end of a link says of itself."""

    epoch: int
    attached: bool
    rx_ready: bool
    tx_done: bool
    closed: str


class LinkRegion(_Region):
    """The region of one link; made by highwayd.

    Attributes:
        names: both ports, in order of their names; end 0 and end 1.
        port_ids: region ids of the two ports.
        n_queues: sender queues of each end.
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
        link = cls(_open(path, writable=writable), writable=writable, what=f"region {path}")
        link.path = path
        return link

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
        dirs: Sequence[Path] | None = None,
    ) -> LinkRegion:
        """Make the region of a new link, in huge pages where there are any, else in /dev/shm.

        Raises:
            RegionError: there is no memory for it.
        """
        rings = RingGeometry.of(ring_size)
        needed = shm.LINK_HEADER_LEN + sum(n_queues) * rings.stride
        path, fd = _allocate(
            region_name(tag, "link", f"{link_id:016x}"),
            shm.next_power_of_two(needed),
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
                    _put_text(raw.name[end], names[end])
                    raw.n_queues[end] = n_queues[end]
                    raw.ring_offset[end] = offset
                    offset += n_queues[end] * rings.stride
                raw.phase = int(Phase.NEW)
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
        self.rings = _check_rings(what, self.size, raw)
        _check_extents(
            what,
            self.size,
            shm.LINK_HEADER_LEN,
            [(int(raw.ring_offset[end]), self.n_queues[end] * self.rings.stride) for end in (0, 1)],
        )

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

    def received(self, end: int) -> tuple[int, int]:
        """Return packets and bytes that end 0 or 1 has received since the link was made."""
        counters = self.raw.received[end]
        queues = range(self.n_queues[1 - end])
        return (
            sum(int(counters[queue].packets) for queue in queues),
            sum(int(counters[queue].bytes) for queue in queues),
        )


def _allocate(name: str, size: int, dirs: Sequence[Path]) -> tuple[Path, int]:
    """Make a file of at least `size` bytes whose memory is really there; return path and fd."""
    problems = []
    for folder in dirs:
        path = folder / name
        page = _page_size(folder)
        if page > shm.HUGE_PAGE:
            problems.append(f"{folder}: pages of {page >> 20} MiB are too large")
            continue
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}")
            continue
        try:
            os.posix_fallocate(fd, 0, max(size, page))
        except OSError as error:
            os.close(fd)
            unlink_region(path)
            no_space = error.errno == errno.ENOSPC
            problems.append(f"{folder}: {'no memory left' if no_space else error.strerror}")
            continue
        return path, fd
    raise RegionError(f"no memory for a region of {size >> 10} KiB ({'; '.join(problems)})")


def _page_size(folder: Path) -> int:
    try:
        return os.statvfs(folder).f_bsize
    except OSError:
        return shm.PAGE


def open_ports(tag: str, *, writable: bool = False) -> tuple[dict[str, PortRegion], list[str]]:
    """Open all port regions of a tag; return them by name, and why others were left out."""
    found: dict[str, PortRegion] = {}
    problems = []
    for name, files in sorted(region_paths(tag, "port").items()):
        for path in files:
            try:
                region = PortRegion.open(path, writable=writable)
            except RegionError as error:
                problems.append(str(error))
                continue
            if region.name != name or region.tag != tag or name in found:
                problems.append(f"region {path} is not that of port {name}; remove the file")
                region.close()
                continue
            found[name] = region
    return found, problems


def open_links(tag: str, *, writable: bool = False) -> tuple[list[LinkRegion], list[str]]:
    """Open all link regions of a tag; return them, and why others were left out."""
    found, problems = [], []
    for files in region_paths(tag, "link").values():
        for path in files:
            try:
                found.append(LinkRegion.open(path, writable=writable))
            except RegionError as error:
                problems.append(str(error))
    return found, problems
