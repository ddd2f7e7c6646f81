# SPDX-License-Identifier: Apache-2.0
"""Match fields as bits of one large number.

What is known of a packet, and what a flow matches, is a pair of Python integers (mask, value): a 1
in the mask is a bit that is known, or matched, and the value has that bit; elsewhere the value is
0. So "can this flow match this packet" and "does this flow match every such packet" are each a few
operations on integers, whatever the fields. Names and widths are those of ovs-fields(7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Slice:
    """Some bits: `width` of them, from bit `offset` on; `name` is for people."""

    name: str
    offset: int
    width: int

    @property
    def ones(self) -> int:
        """All bits of the slice."""
        return ((1 << self.width) - 1) << self.offset

    def place(self, value: int) -> int:
        """Return a value at the slice's place."""
        return value << self.offset

    def take(self, bits: int) -> int:
        """Return what bits have at the slice's place."""
        return (bits >> self.offset) & ((1 << self.width) - 1)

    def part(self, start: int, width: int) -> Slice:
        """Return `width` bits of the slice, from its bit `start` on.

        Raises:
            ValueError: it has no such bits.
        """
        if start < 0 or width <= 0 or start + width > self.width:
            raise ValueError(f"{self.name} has no bits {start} to {start + width - 1}")
        if width == self.width:
            return self
        return Slice(f"{self.name}[{start}..{start + width - 1}]", self.offset + start, width)


_LAID_OUT: Final = (
    # Not of the packet: known from the start, and written by actions.
    ("in_port", 32),
    ("metadata", 64),
    *((f"reg{number}", 32) for number in range(15, -1, -1)),  # so that xxreg0 begins with reg0
    ("tun_id", 64),
    ("tun_src", 32),
    ("tun_dst", 32),
    ("tun_ipv6_src", 128),
    ("tun_ipv6_dst", 128),
    ("pkt_mark", 32),
    ("ct_state", 32),
    ("ct_zone", 16),
    ("ct_mark", 32),
    ("ct_label", 128),
    ("packet_type", 32),
    # Of the packet.
    ("eth_src", 48),
    ("eth_dst", 48),
    ("eth_type", 16),
    ("vlan_tci", 16),
    ("ip_tos", 8),
    ("ip_proto", 8),
    ("ip_ttl", 8),
    ("ip_frag", 2),
    ("ipv4_src", 32),
    ("ipv4_dst", 32),
    ("ipv6_src", 128),
    ("ipv6_dst", 128),
    ("ipv6_label", 20),
    ("tcp_src", 16),
    ("tcp_dst", 16),
    ("tcp_flags", 12),
    ("udp_src", 16),
    ("udp_dst", 16),
    ("sctp_src", 16),
    ("sctp_dst", 16),
    ("icmp_type", 8),
    ("icmp_code", 8),
    ("icmpv6_type", 8),
    ("icmpv6_code", 8),
    ("nd_target", 128),
    ("nd_sll", 48),
    ("nd_tll", 48),
    ("arp_op", 16),
    ("arp_spa", 32),
    ("arp_tpa", 32),
    ("arp_sha", 48),
    ("arp_tha", 48),
    ("mpls_label", 20),
    ("mpls_tc", 3),
    ("mpls_bos", 1),
    ("mpls_ttl", 8),
    # A match field that is not understood, as a number that stands for what it asks.
    ("opaque", 64),
)


def _lay_out() -> dict[str, Slice]:
    found, offset = {}, 0
    for name, width in _LAID_OUT:
        found[name] = Slice(name, offset, width)
        offset += width
    for number in range(8):
        found[f"xreg{number}"] = Slice(f"xreg{number}", found[f"reg{2 * number + 1}"].offset, 64)
    for number in range(4):
        found[f"xxreg{number}"] = Slice(f"xxreg{number}", found[f"reg{4 * number + 3}"].offset, 128)
    for name, (whole, start, width) in {
        "vlan_vid": ("vlan_tci", 0, 13),  # with the bit that says that there is a tag
        "vlan_pcp": ("vlan_tci", 13, 3),
        "ip_dscp": ("ip_tos", 2, 6),
        "ip_ecn": ("ip_tos", 0, 2),
    }.items():
        found[name] = Slice(name, found[whole].offset + start, width)
    return found


FIELDS: Final = _lay_out()
"""All fields by name; some, such as `xreg0` and `reg0`, share bits."""
NAMES: Final = tuple(name for name, _ in _LAID_OUT)
"""Fields that share no bits, in the order of their offsets."""
META: Final = FIELDS["eth_src"].offset
"""Bits below this one are not of the packet."""
META_ONES: Final = (1 << META) - 1
"""All of them."""
PACKET_END: Final = FIELDS["opaque"].offset
"""Bits from here on are known of no packet."""
IN_PORT: Final = FIELDS["in_port"]
METADATA: Final = FIELDS["metadata"]
OPAQUE: Final = FIELDS["opaque"]
