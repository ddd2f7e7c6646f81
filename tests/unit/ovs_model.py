# SPDX-License-Identifier: Apache-2.0
"""What OVS sees in a frame and what its flows match: small, slow, and independent of the driver.

Written from the behaviour of `miniflow_extract()` (OVS, lib/flow.c) and ovs-fields(7);
test_classifier_ovs.py holds it against the real one. `doubts` is the driver's promise in turn:
the frames that docs/architecture.md ("The life of a rule") lets take the normal channel.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Final

VLAN_TYPES: Final = (0x8100, 0x88A8)
VLAN_PRESENT: Final = 0x1000
NO_TYPE: Final = 0x05FF
"""OVS's dl_type of an LLC frame without an Ethernet type of its own."""
IPV4, IPV6 = 0x0800, 0x86DD
ICMP, IGMP, TCP, UDP, ICMPV6, SCTP = 1, 2, 6, 17, 58, 132
HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION = 0, 43, 44, 51, 60
EXTENSIONS: Final = (HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION)
L4_LEAST: Final = {TCP: 20, UDP: 8, SCTP: 12, ICMP: 8, IGMP: 8, ICMPV6: 8}
"""Bytes below which OVS does not look into a layer 4 header."""
FRAG_ANY, FRAG_LATER = 1, 2


@dataclass(slots=True, kw_only=True)
class Flow:
    """The fields of OVS's `struct flow` that a driver can be asked to match, as integers."""

    dl_dst: int = 0
    dl_src: int = 0
    dl_type: int = 0
    vlan_tpid: int = 0
    vlan_tci: int = 0
    nw_src: int = 0
    nw_dst: int = 0
    nw_proto: int = 0
    nw_tos: int = 0
    nw_ttl: int = 0
    nw_frag: int = 0
    tp_src: int = 0
    tp_dst: int = 0
    tcp_flags: int = 0


FIELDS: Final = tuple(field.name for field in dataclasses.fields(Flow))


class Depth(enum.IntEnum):
    """How far rules make the driver parse: `enum highway_class_depth`."""

    L2 = 0
    L3 = 1
    L4 = 2


def _number(data: bytes, start: int, length: int) -> int:
    return int.from_bytes(data[start : start + length], "big")


def extract(frame: bytes, *, vlan_limit: int) -> Flow:
    """Return what OVS sees in a frame of at least 14 bytes.

    `vlan_limit` is OVS's other_config:vlan-limit: how many tags it takes off.
    """
    flow = Flow(dl_dst=_number(frame, 0, 6), dl_src=_number(frame, 6, 6))
    rest = frame[12:]
    for tag in range(vlan_limit):
        if _number(rest, 0, 2) not in VLAN_TYPES or len(rest) < 6:
            break
        if tag == 0:
            flow.vlan_tpid = _number(rest, 0, 2)
            flow.vlan_tci = _number(rest, 2, 2) | VLAN_PRESENT
        rest = rest[4:]
    flow.dl_type, rest = _number(rest, 0, 2), rest[2:]
    if flow.dl_type < 0x600:
        snap = rest[:6] == bytes.fromhex("aaaa03000000") and len(rest) >= 8
        flow.dl_type = _number(rest, 6, 2) if snap else NO_TYPE
        if flow.dl_type < 0x600:
            flow.dl_type = NO_TYPE
        rest = rest[8:]
    if flow.dl_type == IPV4:
        _extract_ipv4(flow, rest)
    elif flow.dl_type == IPV6:
        _extract_ipv6(flow, rest)
    return flow


def _sane_ipv4(data: bytes) -> bool:
    if len(data) < 20:
        return False
    header, total = (data[0] & 15) * 4, _number(data, 2, 2)
    return 20 <= header <= total <= len(data)


def _extract_ipv4(flow: Flow, data: bytes) -> None:
    if not _sane_ipv4(data):
        return
    flow.nw_tos, flow.nw_ttl, flow.nw_proto = data[1], data[8], data[9]
    flow.nw_src, flow.nw_dst = _number(data, 12, 4), _number(data, 16, 4)
    if _number(data, 6, 2) & 0x3FFF:
        flow.nw_frag = FRAG_ANY
    if _number(data, 6, 2) & 0x1FFF:
        flow.nw_frag |= FRAG_LATER
    _extract_l4(flow, data[(data[0] & 15) * 4 : _number(data, 2, 2)])


def _sane_ipv6(data: bytes) -> bool:
    return len(data) >= 40 and 40 + _number(data, 4, 2) <= len(data)


def _extract_ipv6(flow: Flow, data: bytes) -> None:
    if not _sane_ipv6(data):
        return
    flow.nw_src, flow.nw_dst = _number(data, 8, 16), _number(data, 24, 16)
    proto, frag, rest = data[6], 0, data[40 : 40 + _number(data, 4, 2)]
    while proto in EXTENSIONS:
        if len(rest) < 8:
            return
        kind, proto = proto, rest[0]
        length = 8
        if kind == AH:
            length = (rest[1] + 2) * 4
        elif kind != FRAGMENT:
            length = (rest[1] + 1) * 8
        if length > len(rest):
            return
        if kind == FRAGMENT and (offset := _number(rest, 2, 2)):
            frag = FRAG_ANY
            if offset & 0xFFF8:
                frag, proto = FRAG_ANY | FRAG_LATER, FRAGMENT
        rest = rest[length:]
        if frag & FRAG_LATER:
            break
    flow.nw_tos, flow.nw_ttl = _number(data, 0, 2) >> 4 & 0xFF, data[7]
    flow.nw_proto, flow.nw_frag = proto, frag
    _extract_l4(flow, rest)


def _l4_complete(proto: int, data: bytes) -> bool:
    if len(data) < L4_LEAST.get(proto, 0):
        return False
    return proto != TCP or 20 <= (data[12] >> 4) * 4 <= len(data)


def _extract_l4(flow: Flow, data: bytes) -> None:
    proto = flow.nw_proto
    if flow.nw_frag & FRAG_LATER or proto not in L4_LEAST or not _l4_complete(proto, data):
        return
    if proto in (ICMP, IGMP, ICMPV6):
        flow.tp_src, flow.tp_dst = data[0], data[1]
        return
    flow.tp_src, flow.tp_dst = _number(data, 0, 2), _number(data, 2, 2)
    if proto == TCP:
        flow.tcp_flags = _number(data, 12, 2) & 0xFFF


# ------------------------------------------------------------------------------------ doubts ---


def doubts(frame: bytes, depth: Depth) -> str:
    """Return why the driver may leave this frame to the normal channel; empty if it may not."""
    if len(frame) < 18:
        return "shorter than a tagged header"
    kind, data = _number(frame, 12, 2), frame[14:]
    if kind in VLAN_TYPES:
        kind, data = _number(frame, 16, 2), frame[18:]
        if kind in VLAN_TYPES:
            return "more than one tag"
    if kind < 0x600:
        return "a length instead of a type"
    if depth is Depth.L2 or kind not in (IPV4, IPV6):
        return ""
    if kind == IPV4:
        if not _sane_ipv4(data) or data[0] >> 4 != 4:
            return "an IPv4 header that lies"
        if _number(data, 6, 2) & 0x3FFF:
            return "a fragment"
        proto, payload = data[9], data[(data[0] & 15) * 4 : _number(data, 2, 2)]
    else:
        if not _sane_ipv6(data) or data[0] >> 4 != 6:
            return "an IPv6 header that lies"
        if data[6] in EXTENSIONS:
            return "an extension header"
        proto, payload = data[6], data[40 : 40 + _number(data, 4, 2)]
    if depth is Depth.L4 and proto != IGMP and not _l4_complete(proto, payload):
        return "a layer 4 header that is cut off"
    return ""


# ------------------------------------------------------------------------------------- rules ---


@dataclass(slots=True, kw_only=True)
class Match:
    """A datapath flow's match: what a field is where the mask has a one."""

    value: Flow
    mask: Flow

    def covers(self, flow: Flow) -> bool:
        """Tell whether OVS would use this datapath flow for a packet."""
        return all(
            (getattr(flow, field) ^ getattr(self.value, field)) & getattr(self.mask, field) == 0
            for field in FIELDS
        )

    @property
    def depth(self) -> Depth:
        """How far a frame has to be parsed for this match."""
        mask = self.mask
        if mask.tp_src or mask.tp_dst or mask.tcp_flags:
            return Depth.L4
        network = (mask.nw_src, mask.nw_dst, mask.nw_proto, mask.nw_tos, mask.nw_ttl, mask.nw_frag)
        return Depth.L3 if any(network) else Depth.L2
