# SPDX-License-Identifier: Apache-2.0
"""The rte_flow patterns that OVS makes of its datapath flows' matches.

As in OVS's lib/netdev-offload-dpdk.c (3.1; later lib/dpif-offload-dpdk-netdev.c), whose
function parse_flow_match() is the same in all of them but for ICMPv6, which 3.1 has not.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .ovs_model import (
    FRAG_ANY,
    FRAG_LATER,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    SCTP,
    TCP,
    UDP,
    VLAN_PRESENT,
    Flow,
    Match,
)


@dataclass(frozen=True, slots=True)
class Item:
    """One `struct rte_flow_item`: its type's name, and its structs' bytes; None is NULL."""

    kind: str
    spec: bytes | None = None
    mask: bytes | None = None
    last: bytes | None = None


def _eth(flow: Flow, kind: int, has_vlan: int) -> bytes:
    """GCC puts the bit field has_vlan right behind the type."""
    macs = flow.dl_dst.to_bytes(6, "big") + flow.dl_src.to_bytes(6, "big")
    return macs + struct.pack(">HB5x", kind, has_vlan)


def _vlan(tci: int, inner_type: int) -> bytes:
    return struct.pack(">HH4x", tci & ~VLAN_PRESENT, inner_type)


def _ipv4(flow: Flow, fragment_offset: int) -> bytes:
    return struct.pack(
        ">xBxxxxHBBxxII",
        *(flow.nw_tos, fragment_offset, flow.nw_ttl, flow.nw_proto, flow.nw_src, flow.nw_dst),
    )


def _ipv6(flow: Flow, proto: int, has_frag_ext: int) -> bytes:
    head = struct.pack(">IxxBB", flow.nw_tos << 20, proto, flow.nw_ttl)
    addresses = flow.nw_src.to_bytes(16, "big") + flow.nw_dst.to_bytes(16, "big")
    return head + addresses + struct.pack("=I", has_frag_ext << 2)


def _frag_ext(next_header: int, frag_data: int) -> bytes:
    return struct.pack(">BxHxxxx", next_header, frag_data)


def _l4(flow: Flow, proto: int) -> bytes:
    ports = struct.pack(">HH", flow.tp_src, flow.tp_dst)
    if proto == TCP:
        upper, lower = flow.tcp_flags >> 8, flow.tcp_flags & 0xFF
        return ports + struct.pack(">8xBB6x", upper, lower)
    if proto in (ICMP, ICMPV6):
        codes = bytes([flow.tp_src & 0xFF, flow.tp_dst & 0xFF])
        return codes + bytes(6 if proto == ICMP else 2)
    return ports + bytes(4 if proto == UDP else 8)


L4_ITEMS = {TCP: "tcp", UDP: "udp", SCTP: "sctp", ICMP: "icmp", ICMPV6: "icmp6"}


def _ip_items(match: Match) -> list[Item]:
    value, mask = match.value, match.mask
    if value.dl_type == IPV4:
        spec_bits, mask_bits, last = 0, 0, None
        if mask.nw_frag & FRAG_ANY:
            spec_bits, mask_bits = 0, 0x3FFF
            if value.nw_frag & FRAG_LATER:
                spec_bits, mask_bits, last = 1, 0x1FFF, _ipv4(Flow(), 0x1FFF)
            elif value.nw_frag & FRAG_ANY:
                spec_bits = 0x2000
        return [Item("ipv4", _ipv4(value, spec_bits), _ipv4(mask, mask_bits), last)]
    if value.dl_type != IPV6:
        return []
    wanted = int(bool(mask.nw_frag & FRAG_ANY and value.nw_frag & FRAG_ANY))
    asked = int(bool(mask.nw_frag))
    if not wanted:
        return [Item("ipv6", _ipv6(value, value.nw_proto, 0), _ipv6(mask, mask.nw_proto, asked))]
    ip = Item("ipv6", _ipv6(value, 0, 1), _ipv6(mask, 0, asked))
    if value.nw_frag & FRAG_LATER:
        spec, known, end = _frag_ext(0, 8), _frag_ext(0, 0xFFF8), _frag_ext(0, 0xFFF8)
        return [ip, Item("frag_ext", spec, known, end)]
    spec, known = _frag_ext(value.nw_proto, 1), _frag_ext(mask.nw_proto, 0xFFF9)
    return [ip, Item("frag_ext", spec, known)]


def items_of(match: Match) -> list[Item] | None:
    """Return the pattern for a match whose ethertype is exact; None if OVS does not offload it."""
    value, mask = match.value, match.mask
    if mask.vlan_tci and value.vlan_tci:
        items = [
            Item("eth", _eth(value, value.vlan_tpid, 1), _eth(mask, mask.vlan_tpid, 1)),
            Item("vlan", _vlan(value.vlan_tci, value.dl_type), _vlan(mask.vlan_tci, mask.dl_type)),
        ]
    else:
        items = [Item("eth", _eth(value, value.dl_type, 0), _eth(mask, mask.dl_type, 1))]
    ip = _ip_items(match)
    proto = value.nw_proto & mask.nw_proto if ip else 0
    if proto in L4_ITEMS:
        ports = Item(L4_ITEMS[proto], _l4(value, proto), _l4(mask, proto))
        return [*items, *ip, ports, Item("end")]
    if mask.tp_src or mask.tp_dst or mask.tcp_flags:
        return None
    return [*items, *ip, Item("end")]
