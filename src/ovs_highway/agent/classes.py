# SPDX-License-Identifier: Apache-2.0
"""The class of packets that a bypass rule is for, as the detector's bits."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway import shm
from ovs_highway.openflow.fields import FIELDS
from ovs_highway.shm import ffi

if TYPE_CHECKING:
    from ovs_highway.region import PortRegion

_KEY: Final = struct.Struct(">6s6sHHHBBBBHHHI16s16s")
_KEY_OFFSET: Final = ffi.offsetof("struct highway_rule", "key")
_MASK_OFFSET: Final = ffi.offsetof("struct highway_rule", "mask")
_PEER_OFFSET: Final = ffi.offsetof("struct highway_rule", "peer_id")
_IPV4, _IPV6 = 0x0800, 0x86DD
_L4: Final[dict[tuple[int, int | None], tuple[str, str]]] = {
    (_IPV4, 1): ("icmp_type", "icmp_code"),
    (_IPV6, 58): ("icmpv6_type", "icmpv6_code"),
    **{
        (version, proto): (f"{name}_src", f"{name}_dst")
        for version in (_IPV4, _IPV6)
        for proto, name in ((6, "tcp"), (17, "udp"), (132, "sctp"))
    },
}


@dataclass(frozen=True, slots=True)
class RuleClass:
    """A rule in force.

    Attributes:
        known, value: what is known of each packet that it is for; all packet bits.
    """

    slot: int
    generation: int
    peer_id: int
    known: int
    value: int


def rule_classes(region: PortRegion) -> list[RuleClass]:
    """Return the rules that are in force, suppressed or not."""
    table = bytes(ffi.buffer(region.copy_rules()))
    lives = memoryview(table).cast("Q")[:: shm.RULE_LEN // 8]
    found = []
    for slot, generation in enumerate(lives):
        if generation:
            start = slot * shm.RULE_LEN
            (peer_id,) = struct.unpack_from("=Q", table, start + _PEER_OFFSET)
            known, value = key_bits(
                table[start + _KEY_OFFSET : start + _KEY_OFFSET + _KEY.size],
                table[start + _MASK_OFFSET : start + _MASK_OFFSET + _KEY.size],
            )
            found.append(RuleClass(slot, generation, peer_id, known, value))
    return found


def key_bits(key: bytes, mask: bytes) -> tuple[int, int]:
    """Return what is known of a packet that a `struct highway_key` and its mask match."""
    k, m = _KEY.unpack(key), _KEY.unpack(mask)
    fields: list[tuple[str, int, int]] = [
        ("eth_dst", int.from_bytes(k[0]), int.from_bytes(m[0])),
        ("eth_src", int.from_bytes(k[1]), int.from_bytes(m[1])),
        ("eth_type", k[2], m[2]),
        ("vlan_tci", k[3], m[3]),
    ]
    eth_type = k[2] if m[2] == 0xFFFF else None
    if eth_type in (_IPV4, _IPV6):
        fields += [
            ("ip_proto", k[5], m[5]),
            ("ip_tos", k[6], m[6]),
            ("ip_ttl", k[7], m[7]),
            ("ip_frag", k[8] & 3, m[8] & 3),
        ]
        version, length = ("ipv4", 4) if eth_type == _IPV4 else ("ipv6", 16)
        for name, place in (("src", 13), ("dst", 14)):
            address, some = k[place][:length], m[place][:length]
            bits = int.from_bytes(address), int.from_bytes(some)
            fields.append((f"{version}_{name}", *bits))
        proto = k[5] if m[5] == 0xFF else None
        names = _L4.get((eth_type, proto))
        if names is not None:
            fields += [(names[0], k[10], m[10]), (names[1], k[11], m[11])]
        if proto == 6:
            fields.append(("tcp_flags", k[9], m[9]))
    known = value = 0
    for name, content, cared in fields:
        field = FIELDS[name]
        ones = cared & ((1 << field.width) - 1)
        known |= field.place(ones)
        value |= field.place(content & ones)
    return known, value
