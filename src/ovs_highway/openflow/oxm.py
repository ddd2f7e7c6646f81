# SPDX-License-Identifier: Apache-2.0
"""Match fields on the wire: NXM and OXM headers, and whole matches as bits of `fields`.

A header has 16 bits of class, 7 of field, 1 that says whether a mask follows, and 8 of length
(OpenFlow 1.5.1, 7.2.3.2). Numbers are those of ovs-fields(7) and OVS's
include/openvswitch/meta-flow.h.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Final

from ovs_highway.errors import ProtocolError
from ovs_highway.openflow.fields import FIELDS, OPAQUE, Slice

NXM_0: Final = 0x0000
NXM_1: Final = 0x0001
BASIC: Final = 0x8000
PKT_REG: Final = 0x8001
EXPERIMENTER: Final = 0xFFFF
ONF: Final = 0x4F4E4600

_BASIC: Final = {
    0: "in_port",
    2: "metadata",
    3: "eth_dst",
    4: "eth_src",
    5: "eth_type",
    6: "vlan_vid",
    7: "vlan_pcp",
    8: "ip_dscp",
    9: "ip_ecn",
    10: "ip_proto",
    11: "ipv4_src",
    12: "ipv4_dst",
    13: "tcp_src",
    14: "tcp_dst",
    15: "udp_src",
    16: "udp_dst",
    17: "sctp_src",
    18: "sctp_dst",
    19: "icmp_type",
    20: "icmp_code",
    21: "arp_op",
    22: "arp_spa",
    23: "arp_tpa",
    24: "arp_sha",
    25: "arp_tha",
    26: "ipv6_src",
    27: "ipv6_dst",
    28: "ipv6_label",
    29: "icmpv6_type",
    30: "icmpv6_code",
    31: "nd_target",
    32: "nd_sll",
    33: "nd_tll",
    34: "mpls_label",
    35: "mpls_tc",
    36: "mpls_bos",
    38: "tun_id",
    42: "tcp_flags",
    44: "packet_type",
}
_NXM_0: Final = {
    0: "in_port",
    1: "eth_dst",
    2: "eth_src",
    3: "eth_type",
    4: "vlan_tci",
    5: "ip_tos",
    6: "ip_proto",
    7: "ipv4_src",
    8: "ipv4_dst",
    9: "tcp_src",
    10: "tcp_dst",
    11: "udp_src",
    12: "udp_dst",
    13: "icmp_type",
    14: "icmp_code",
    15: "arp_op",
    16: "arp_spa",
    17: "arp_tpa",
}
_NXM_1: Final = {
    **{number: f"reg{number}" for number in range(16)},
    16: "tun_id",
    17: "arp_sha",
    18: "arp_tha",
    19: "ipv6_src",
    20: "ipv6_dst",
    21: "icmpv6_type",
    22: "icmpv6_code",
    23: "nd_target",
    24: "nd_sll",
    25: "nd_tll",
    26: "ip_frag",
    27: "ipv6_label",
    28: "ip_ecn",
    29: "ip_ttl",
    30: "mpls_ttl",
    31: "tun_src",
    32: "tun_dst",
    33: "pkt_mark",
    34: "tcp_flags",
    105: "ct_state",
    106: "ct_zone",
    107: "ct_mark",
    108: "ct_label",
    109: "tun_ipv6_src",
    110: "tun_ipv6_dst",
    **{111 + number: f"xxreg{number}" for number in range(4)},
}
_WIDER: Final = {  # bytes on the wire, where they are more than the bits need
    "ipv6_label": 4,
    "mpls_label": 4,
}


@dataclass(frozen=True, slots=True)
class Wire:
    """A field as it is on the wire.

    Attributes:
        size: bytes of its value; bits: those of the value that OVS heeds.
        short_port: a port number of 16 bits, as OpenFlow 1.0 has them.
    """

    field: Slice
    size: int
    bits: int
    short_port: bool = False


def _wires() -> dict[bytes, Wire]:
    found = {}
    for oxm_class, names in (
        (NXM_0, _NXM_0),
        (NXM_1, _NXM_1),
        (BASIC, _BASIC),
        (PKT_REG, {number: f"xreg{number}" for number in range(8)}),
        (EXPERIMENTER, {42: "tcp_flags"}),
    ):
        for number, name in names.items():
            field = FIELDS[name]
            size = _WIDER.get(name, (field.width + 7) // 8)
            bits = (1 << field.width) - 1
            short_port = oxm_class == NXM_0 and name == "in_port"
            if short_port:
                size, bits = 2, 0xFFFF
            elif name == "ip_tos":
                bits = 0xFC  # NXM_OF_IP_TOS leaves out ECN
            extra = ONF.to_bytes(4, "big") if oxm_class == EXPERIMENTER else b""
            length = size + len(extra)
            head = oxm_class.to_bytes(2, "big") + bytes((number << 1, length))
            found[head + extra] = Wire(field, size, bits, short_port)
    return found


WIRES: Final = _wires()
"""Fields by header, without a mask, with the experimenter's number if there is one."""
_PLAIN: Final = {header: wire for header, wire in WIRES.items() if len(header) == 4}
_KEY: Final = os.urandom(16)


def wide_port(number: int) -> int:
    """Return the 32-bit number of a port that has this 16-bit one (OpenFlow 1.1, A.2.1)."""
    return 0xFFFF0000 | number if number >= 0xFF00 else number


# Whole matches ----------------------------------------------------------------------------------

_EXACT: Final = {
    header: (4 + wire.size, wire.field.offset, wire.bits, wire.bits << wire.field.offset)
    for header, wire in _PLAIN.items()
    if not wire.short_port
}
_MASKED: Final = {
    header[:2] + bytes((header[2] | 1, 2 * header[3])): (
        4 + wire.size,
        4 + 2 * wire.size,
        wire.field.offset,
        wire.bits,
    )
    for header, wire in _PLAIN.items()
    if not wire.short_port
}
_SHORT_PORT: Final = bytes((0, 0, 0, 2))
_IN_PORT: Final = FIELDS["in_port"]


def decode_match(data: bytes) -> tuple[int, int]:
    """Return mask and value of a match: TLVs, without the header of `struct ofp_match`.

    All TLVs that are not understood become one number in `opaque`, a keyed digest of their bytes.

    Raises:
        ProtocolError: a TLV is longer than what there is.
    """
    mask = value = pos = 0
    end = len(data)
    unknown = b""
    take = int.from_bytes
    while pos < end:
        header = data[pos : pos + 4]
        exact = _EXACT.get(header)
        if exact is not None:
            size, offset, bits, ones = exact
            mask |= ones
            value |= (take(data[pos + 4 : pos + size], "big") & bits) << offset
            pos += size
            continue
        masked = _MASKED.get(header)
        if masked is not None:
            half, size, offset, bits = masked
            cares = take(data[pos + half : pos + size], "big") & bits
            mask |= cares << offset
            value |= (take(data[pos + 4 : pos + half], "big") & cares) << offset
            pos += size
            continue
        size = 4 + header[3] if len(header) == 4 else 4
        tlv = data[pos : pos + size]
        pos += size
        if header == _SHORT_PORT:
            mask |= _IN_PORT.ones
            value |= wide_port(take(tlv[4:], "big")) << _IN_PORT.offset
        elif (found := _experimenter(tlv)) is not None:
            mask |= found[0]
            value |= found[1]
        else:
            unknown += tlv
    if pos != end:
        raise ProtocolError("a match of a flow ends within a field; is this an OpenFlow switch?")
    if unknown:
        digest = hashlib.blake2b(unknown, digest_size=8, key=_KEY).digest()
        mask |= OPAQUE.ones
        value |= int.from_bytes(digest, "big") << OPAQUE.offset
    return mask, value


def _experimenter(tlv: bytes) -> tuple[int, int] | None:
    if tlv[:2] != b"\xff\xff" or len(tlv) < 8:
        return None
    has_mask = tlv[2] & 1
    size = len(tlv) - 8
    header = tlv[:2] + bytes((tlv[2] & ~1, 4 + (size >> has_mask))) + tlv[4:8]
    wire = WIRES.get(header)
    if wire is None or size != wire.size << has_mask:
        return None
    cares = wire.bits
    if has_mask:
        cares &= int.from_bytes(tlv[8 + wire.size :], "big")
    value = int.from_bytes(tlv[8 : 8 + wire.size], "big") & cares
    return cares << wire.field.offset, value << wire.field.offset


# Single headers, as actions have them -----------------------------------------------------------


def read_header(data: bytes, pos: int) -> tuple[Wire | None, bool, int]:
    """Return the field of a header at a position, whether it has a mask, and where it ends.

    The field is None if it is not understood; an experimenter's header has 8 bytes. The length
    in a header counts a mask, too, if it has one.
    """
    header = data[pos : pos + 4]
    if len(header) < 4:
        return None, False, len(data)
    has_mask = bool(header[2] & 1)
    if header[:2] == b"\xff\xff":
        extra = data[pos + 4 : pos + 8]
        payload = header[3] - 4
        if has_mask:
            payload //= 2
        plain = header[:2] + bytes((header[2] & ~1, max(0, payload + 4))) + extra
        return WIRES.get(plain), has_mask, min(pos + 8, len(data))
    if has_mask:
        header = header[:2] + bytes((header[2] & ~1, header[3] // 2))
    return WIRES.get(header), has_mask, pos + 4
