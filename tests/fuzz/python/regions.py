# SPDX-License-Identifier: Apache-2.0
"""Regions that somebody else writes to: before they are opened, and while they are read."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ovs_highway import shm
from ovs_highway.errors import RegionError
from ovs_highway.lab.stand_in import write_port_header
from ovs_highway.region import LinkRegion, PortRegion, go_on_alone, stop_alone
from ovs_highway.shm import LinkFlag, Off, Phase, RingGeometry, ffi

from .taker import Taker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ovs_highway.shm import CData

_TAG: Final = "00112233445566ff"
_RULES: Final = 16
_FIRST_RULE: Final = shm.PORT_HEADER_LEN
_END_OF_RULES: Final = _FIRST_RULE + 3 * shm.PAGE
"""Both tables and the counters, one page each."""


def _port_head() -> tuple[bytes, int]:
    raw: CData = ffi.new("struct highway_port_region *")
    size = write_port_header(
        raw, name="a", tag=_TAG, region_id=11, n_queues=1, n_rules=_RULES, ring_size=64
    )
    return bytes(ffi.buffer(raw)), size


def _link_head() -> tuple[bytes, int]:
    raw: CData = ffi.new("struct highway_link_region *")
    rings = RingGeometry.of_link(64)
    header = raw.header
    header.magic, header.region_id, header.rundir_tag = shm.LINK_MAGIC, 21, int(_TAG, 16)
    header.abi_version, header.abi_oldest = shm.ABI_VERSION, shm.ABI_OLDEST
    header.size = size = shm.next_power_of_two(shm.LINK_HEADER_LEN + 2 * rings.stride)
    raw.ring_size, raw.ring_data, raw.ring_stride = rings.size, rings.data, rings.stride
    for end in (0, 1):
        raw.port_id[end], raw.name[end], raw.n_queues[end] = 11 + end, b"ab"[end : end + 1], 1
        raw.ring_offset[end] = shm.LINK_HEADER_LEN + end * rings.stride
    return bytes(ffi.buffer(raw)), size


_HEADS: Final = (_port_head(), _link_head())


def _scribble(take: Taker, mem: mmap.mmap, end: int) -> None:
    """Change a word, most often of the first bytes."""
    how = take.number()
    at = take.number(2) * 4 % end if how & 1 else take.number() * 4
    width = 8 if how & 2 else 4
    old = int.from_bytes(mem[at : at + width], "little")
    mem[at : at + width] = take.near(old, width).to_bytes(width, "little")


def _text(text: str) -> None:
    assert text.isprintable()


def _read_port(port: PortRegion, take: Taker) -> None:
    port.switch()
    gate = port.gate()
    _text(gate.off_text)
    vnf = port.vnf()
    _text(vnf.driver)
    assert vnf.n_rxq <= shm.MAX_QUEUES
    for rule in port.rules(ended=True):
        _text(rule.peer_name)
        assert rule.slot < port.n_rules
    in_force, suppressed = port.count_rules()
    assert in_force.total() + suppressed.total() == len(port.live_peers()) <= _RULES
    assert len(port.inbound_peers()) <= _RULES
    port.matches_tcp()
    for slot, generation in port.suppressed().items():
        port.lift(slot, generation)
    port.suppress(take.number() % _RULES, take.number())
    port.set_operator(Off.OPERATOR, off=bool(take.number() & 1))
    port.set_policy("why" if take.number() & 1 else None, standalone=True)
    port.renew_lease()
    go_on_alone(port, {12: port})
    stop_alone(port)
    port.switch_died()
    port.vnf_died()


def _read_link(link: LinkRegion, take: Taker) -> None:
    assert link.phase in Phase
    assert all(int(flags) & ~sum(LinkFlag) == 0 for flags in link.flags)
    assert link.created_ns >= 0
    for end in (0, 1):
        _text(link.end(end).closed)
        packets, counted = link.received(end)
        assert packets >= 0
        assert counted >= 0
        link.consumed(end)
    link.set_flags(take.number() & 1, LinkFlag.CHECKED)
    link.phase = Phase.ACTIVE
    link.end_gone(take.number() & 1)


def _work(region: PortRegion | LinkRegion, take: Taker, scribble: Callable[[], None]) -> None:
    """Read and write a region as highwayd does, while somebody else writes."""
    for _ in range(4):
        if isinstance(region, PortRegion):
            _read_port(region, take)
        else:
            _read_link(region, take)
        if not take.rest:
            break
        scribble()


def one_input(data: bytes) -> None:
    """Only RegionError is raised, on opening; nothing is touched that lies outside."""
    take = Taker(data)
    how = take.number()
    head, size = _HEADS[how & 1]
    fd = os.memfd_create("region", os.MFD_CLOEXEC)
    os.ftruncate(fd, size << (how >> 1 & 1))
    with mmap.mmap(fd, 0) as mem:
        mem[: len(head)] = head
        for _ in range(how >> 2 & 7):
            _scribble(take, mem, len(head))
        kind = PortRegion if how & 1 == 0 else LinkRegion
        with suppress(RegionError), kind(fd) as region:
            assert shm.valid_port_name(region.name if how & 1 == 0 else region.names[0])  # type: ignore[union-attr]
            _work(region, take, lambda: _scribble(take, mem, _END_OF_RULES))


def seeds() -> Iterable[bytes]:
    """Sound ones, then with something changed before or afterwards."""
    yield from (bytes([how]) + bytes(20) for how in (0, 1))
    yield bytes([4, 0, 33, 0xF3, *range(40)])
    yield bytes([1, 0, 0, 0, 0, 2, 54, 0xF3, *range(40)])
