# SPDX-License-Identifier: Apache-2.0
"""Random frames, well-formed and broken, and random datapath flows that some of them match.

All draw from a `random.Random`, which may be Hypothesis's own (`st.randoms()`).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from .ovs_model import (
    AH,
    DESTINATION,
    FRAG_ANY,
    FRAG_LATER,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IGMP,
    IPV4,
    IPV6,
    L4_LEAST,
    NO_TYPE,
    ROUTING,
    SCTP,
    TCP,
    UDP,
    VLAN_PRESENT,
    VLAN_TYPES,
    Flow,
    Match,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

MACS: Final = tuple(
    bytes.fromhex(mac)
    for mac in ("02000000000a", "02000000000b", "020000800a0b", "ffffffffffff", "333300000001")
)
ADDRESSES4: Final = tuple(bytes(a) for a in ((10, 0, 0, 1), (10, 0, 0, 2), (10, 9, 0, 1)))
ADDRESSES6: Final = tuple(
    bytes.fromhex(a + "0" * (32 - len(a) - len(b)) + b)
    for a, b in (("fe80", "1"), ("fe80", "2"), ("20010db8", "1"), ("ff02", "1"))
)
PORTS: Final = (0, 1, 53, 80, 179, 443, 0x1F90, 0xFFFF)
TYPES: Final = (0x0806, 0x8035, 0x8847, 0x8848, 0x894F, 0x88CC, 0x0600, 0x0BAD, 0xFFFF)
ESP, NO_NEXT, GRE, MOBILITY, OTHER = 50, 59, 47, 135, 253


def _random_bytes(r: Random, length: int) -> bytes:
    return r.getrandbits(8 * length).to_bytes(length, "big") if length else b""


def _port(r: Random) -> int:
    return r.choice(PORTS)


def _l4(r: Random, proto: int) -> bytes:
    ports = struct.pack(">HH", _port(r), _port(r))
    payload = _random_bytes(r, r.choice((0, 0, 1, 8, 18)))
    if proto == TCP:
        words = r.choice((5, 5, 5, 6, 8, 15))
        flags = r.choice((0x002, 0x010, 0x012, 0x018, 0x0C2, 0x100, 0xFFF))
        fixed = ports + bytes(8) + struct.pack(">HH4x", words << 12 | flags, 1024)
        return fixed + bytes(words * 4 - 20) + payload
    if proto == UDP:
        return ports + struct.pack(">HH", r.choice((8, 8 + len(payload), 0xFFFF)), 0) + payload
    if proto == SCTP:
        return ports + bytes(8) + payload
    if proto == ICMPV6:
        return _icmpv6(r) + payload
    if proto in (ICMP, IGMP):
        return bytes((r.choice((0, 3, 8, 0x11)), r.choice((0, 1)))) + bytes(6) + payload
    return payload


def _icmpv6(r: Random) -> bytes:
    kind = r.choice((1, 128, 135, 136, 136))
    data = bytes((kind, r.choice((0, 0, 0, 1)))) + bytes(6)
    if kind in (135, 136):
        data += r.choice(ADDRESSES6)
        data += b"".join(
            bytes((r.choice((1, 2, 5)), r.choice((0, 1, 1, 1, 2)))) + r.choice(MACS)
            for _ in range(r.choice((0, 1, 1, 2)))
        )
    return data


def _ipv4(r: Random) -> bytes:
    proto = r.choice((TCP, TCP, UDP, UDP, SCTP, ICMP, ICMPV6, IGMP, GRE, HOP_BY_HOP, OTHER))
    options = bytes(4 * r.choice((0, 0, 0, 0, 1, 5, 10)))
    fragment = r.choice((0, 0, 0, 0, 0x4000, 0x4000, 0x8000, 0x2000, 0x2001, 0x0001, 0x1FFF))
    payload = _l4(r, proto)
    total = 20 + len(options) + len(payload)
    head = struct.pack(
        ">BBHHHBBH",
        *(0x45 + len(options) // 4, r.choice((0, 0, 0xB8, 0x03)), total, 7),
        *(fragment, r.choice((64, 63, 1)), proto, 0),
    )
    return head + r.choice(ADDRESSES4) + r.choice(ADDRESSES4) + options + payload


def _extension(r: Random, kind: int, following: int) -> bytes:
    if kind == FRAGMENT:
        offset = r.choice((0, 0, 1, 1, 8, 9, 0xFFF9, 6))
        return struct.pack(">BBHI", following, 0, offset, 9)
    units = r.choice((0, 0, 1, 2))
    if kind == AH:
        return bytes((following, units + 1)) + bytes(4 * (units + 3) - 2)
    return bytes((following, units)) + bytes(8 * (units + 1) - 2)


def _ipv6(r: Random) -> bytes:
    protos = (TCP, TCP, UDP, UDP, SCTP, ICMPV6, ICMPV6, ICMP, ESP, NO_NEXT, MOBILITY, OTHER)
    proto = r.choice(protos)
    payload = _l4(r, proto)
    for _ in range(r.choice((0, 0, 0, 1, 1, 2, 3))):
        kind = r.choice((HOP_BY_HOP, ROUTING, DESTINATION, AH, FRAGMENT, FRAGMENT))
        payload = _extension(r, kind, proto) + payload
        proto = kind
    flow_label = r.choice((0, 0, 0x12345))
    head = struct.pack(
        ">IHBB",
        6 << 28 | r.choice((0, 0, 0xB8, 0x03)) << 20 | flow_label,
        *(len(payload), proto, r.choice((64, 255, 1))),
    )
    return head + r.choice(ADDRESSES6) + r.choice(ADDRESSES6) + payload


def _arp(r: Random) -> bytes:
    head = struct.pack(">HHBBH", 1, IPV4, 6, 4, r.choice((1, 2, 3, 256)))
    return head + r.choice(MACS) + r.choice(ADDRESSES4) + bytes(6) + r.choice(ADDRESSES4)


def _layer3(r: Random) -> tuple[int, bytes]:
    kind = r.choice(("4",) * 8 + ("6",) * 8 + ("arp", "other", "other", "mpls", "nsh", "type"))
    if kind == "4":
        return IPV4, _ipv4(r)
    if kind == "6":
        return IPV6, _ipv6(r)
    if kind == "arp":
        return r.choice((0x0806, 0x8035)), _arp(r)
    if kind == "mpls":
        return r.choice((0x8847, 0x8848)), struct.pack(">I", r.choice((0x40, 0x140))) + _ipv4(r)
    if kind == "nsh":
        return 0x894F, struct.pack(">BBBBI", 0, 6, 1, 1, 0x100) + bytes(16) + _ipv4(r)
    if kind == "type":
        return r.choice((NO_TYPE, 0x05FE, 0x0000, 0x0026)), _ipv4(r)
    return r.choice(TYPES), _random_bytes(r, r.choice((0, 1, 30, 46)))


def well_formed(r: Random) -> bytes:
    """Return a frame with nothing wrong with it, but perhaps of a rare kind."""
    kind, data = _layer3(r)
    envelope = r.choice(("ii",) * 12 + ("llc", "snap", "snap", "foreign snap"))
    if envelope == "llc":
        data = bytes.fromhex("424203") + data
    elif envelope != "ii":
        organisation = "000000" if envelope == "snap" else "00000c"
        data = bytes.fromhex("aaaa03" + organisation) + struct.pack(">H", kind) + data
    if envelope != "ii":
        kind = min(len(data), 1500)
    data = struct.pack(">H", kind) + data
    for _ in range(r.choice((0, 0, 0, 0, 0, 1, 1, 1, 2, 3))):
        tci = r.choice((0, 5, 5, 4095, 0x3005, 0xE005, 0x1005))
        data = struct.pack(">HH", r.choice((VLAN_TYPES[0], *VLAN_TYPES)), tci) + data
    return r.choice(MACS) + r.choice(MACS) + data


def _l3_start(frame: bytes) -> int:
    at = 12
    while at + 4 < len(frame) and int.from_bytes(frame[at : at + 2], "big") in VLAN_TYPES:
        at += 4
    return at + 2


def _set(frame: bytes, at: int, value: bytes) -> bytes:
    return frame if at + len(value) > len(frame) else frame[:at] + value + frame[at + len(value) :]


def _lie(r: Random, frame: bytes) -> bytes:
    """Change a field that says how long or what something is."""
    start = _l3_start(frame)
    ihl = (frame[start] & 15) * 4 if start < len(frame) else 20
    fields = [(0, 1), (2, 2), (2, 2), (4, 2), (4, 2), (6, 1), (6, 2), (9, 1), (ihl + 12, 1)]
    fields += [(40, 2), (52, 1), (41, 1), (-2, 2), (-6, 2), (ihl, 2)]
    at, size = r.choice(fields)
    old = int.from_bytes(frame[start + at : start + at + size], "big")
    near = old + r.choice((-20, -8, -4, -1, 1, 4, 8, 256))
    value = r.choice((near, near, 0, (1 << 8 * size) - 1, r.getrandbits(8 * size), 0x45))
    return _set(frame, start + at, (value % (1 << 8 * size)).to_bytes(size, "big"))


def broken(r: Random, frame: bytes) -> bytes:
    """Return a frame of at least 14 bytes made of another one: cut, padded, or lying."""
    for _ in range(r.choice((1, 1, 1, 2, 3))):
        how = r.choice(("cut", "cut near", "pad", "lie", "lie", "lie", "flip"))
        if how == "cut":
            frame = frame[: r.randrange(14, len(frame) + 1)]
        elif how == "cut near":
            base = _l3_start(frame) + r.choice((0, 8, 20, 28, 40, 48, 60))
            frame = frame[: max(14, base + r.choice((-1, 0, 1)))]
        elif how == "pad":
            frame += bytes(r.choice((1, 6, 18, 255, 256, 300)))
        elif how == "lie":
            frame = _lie(r, frame)
        else:
            at = r.randrange(len(frame))
            frame = _set(frame, at, bytes((frame[at] ^ 1 << r.randrange(8),)))
    return frame


def any_frame(r: Random) -> bytes:
    """Return a frame, broken in two of five cases."""
    frame = well_formed(r)
    return broken(r, frame) if r.randrange(5) < 2 else frame


def any_ipv4(r: Random) -> bytes:
    """Return a frame of IPv4 without a tag, broken in two of three cases."""
    frame = r.choice(MACS) + r.choice(MACS) + struct.pack(">H", IPV4) + _ipv4(r)
    return broken(r, frame) if r.randrange(3) else frame


# ------------------------------------------------------------------------------------- flows ---


def _some_bits(r: Random, width: int) -> int:
    """Return a mask as OVS makes them: nothing, all, a prefix, or any bits."""
    full = (1 << width) - 1
    return r.choice(
        (0, 0, 0, full, full, full ^ full >> r.randrange(width + 1), r.getrandbits(width))
    )


def random_match(r: Random, flow: Flow, *, shape: Match | None = None) -> Match:
    """Return a datapath flow as OVS makes it for a packet.

    The ethertype and whether there is a tag are always matched, and fragments of IP. With a
    `shape`, its mask is taken over, as when many flows come from one OpenFlow table.
    """
    if shape is not None and shape.value.dl_type == flow.dl_type:
        mask = shape.mask
    else:
        mask = _random_mask(r, flow)
    tagged = bool(flow.vlan_tci)
    if tagged is not bool(mask.vlan_tci & flow.vlan_tci & VLAN_PRESENT):
        mask.vlan_tci |= VLAN_PRESENT
    return Match(value=flow, mask=mask)


def _random_mask(r: Random, flow: Flow) -> Flow:
    mask = Flow(dl_type=0xFFFF, vlan_tci=r.choice((0xFFFF, 0xFFFF, 0x1FFF, VLAN_PRESENT, 0xF000)))
    if r.randrange(3) == 0:
        mask.dl_dst, mask.dl_src = _some_bits(r, 48), _some_bits(r, 48)
    if flow.vlan_tci and r.randrange(3) == 0:
        mask.vlan_tpid = 0xFFFF
    if flow.dl_type not in (IPV4, IPV6):
        return mask
    mask.nw_frag = FRAG_ANY | FRAG_LATER
    if r.randrange(2):
        width = 32 if flow.dl_type == IPV4 else 128
        mask.nw_src, mask.nw_dst = _some_bits(r, width), _some_bits(r, width)
    if r.randrange(3) == 0:
        mask.nw_tos, mask.nw_ttl = r.choice((0, 0xFC, 0x03, 0xFF)), r.choice((0, 0xFF))
    if r.randrange(2):
        mask.nw_proto = 0xFF
        _mask_l4(r, flow, mask)
    return mask


def shallow_match(r: Random, flow: Flow) -> Match:
    """Return a datapath flow that asks for little, as most do that the fast way is made for."""
    mask = Flow(dl_type=0xFFFF, vlan_tci=0xFFFF, dl_src=r.choice((0, 0, 0xFFFFFFFF)))
    mask.dl_dst = r.choice((0,) * 15 + ((1 << 48) - 1,))
    if flow.dl_type in (IPV4, IPV6):
        mask.nw_frag = FRAG_ANY | FRAG_LATER
        mask.nw_proto, mask.nw_ttl = r.choice((0, 0xFF)), r.choice((0, 0, 0xFF))
        mask.nw_tos = r.choice((0, 0, 0xFC))
    if mask.nw_proto and flow.nw_proto == TCP:
        mask.tcp_flags = r.choice((0, 0, 0, 0, 0xFFF))
    return Match(value=flow, mask=mask)


def _mask_l4(r: Random, flow: Flow, mask: Flow) -> None:
    if flow.nw_proto not in L4_LEAST or flow.nw_proto == IGMP or flow.nw_frag & FRAG_LATER:
        return
    width = 8 if flow.nw_proto in (ICMP, ICMPV6) else 16
    mask.tp_src, mask.tp_dst = _some_bits(r, width), _some_bits(r, width)
    if flow.nw_proto == TCP:
        mask.tcp_flags = r.choice((0, 0, 0xFFF, 0x012, 0x100))


def matches_for(r: Random, flows: Sequence[Flow], n: int) -> list[Match]:
    """Return `n` datapath flows made for some of these packets, of a handful of masks."""
    shapes = [random_match(r, r.choice(flows)) for _ in range(r.choice((1, 2, 5)))]
    return [
        random_match(r, r.choice(flows), shape=r.choice((None, r.choice(shapes)))) for _ in range(n)
    ]
