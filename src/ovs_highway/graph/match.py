# SPDX-License-Identifier: Apache-2.0
"""Matches of rules, as ovs-ofctl(8) has them, as bits of `openflow.fields`.

OVS takes `tp_dst=80` without `tcp` and then leaves it out; here that is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ovs_highway.graph.marks import hint
from ovs_highway.graph.values import Bits, address, flags, fragment, mac, number
from ovs_highway.openflow.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

_IP, _IPV6, _ARP, _RARP, _MPLS = 0x0800, 0x86DD, 0x0806, 0x8035, 0x8847
_ICMP, _TCP, _UDP, _ICMP6, _SCTP = 1, 6, 17, 58, 132
_PRESENT: Final = 0x1000

_KEYWORDS: Final[dict[str, tuple[int, int | None]]] = {
    "ip": (_IP, None),
    "icmp": (_IP, _ICMP),
    "tcp": (_IP, _TCP),
    "udp": (_IP, _UDP),
    "sctp": (_IP, _SCTP),
    "ipv6": (_IPV6, None),
    "icmp6": (_IPV6, _ICMP6),
    "tcp6": (_IPV6, _TCP),
    "udp6": (_IPV6, _UDP),
    "sctp6": (_IPV6, _SCTP),
    "arp": (_ARP, None),
    "rarp": (_RARP, None),
    "mpls": (_MPLS, None),
}
_ELSEWHERE: Final = {
    "in_port": "'from' says where packets come from",
    "priority": "write it as a field of the rule",
    "table": "the graph has tables of its own",
    "cookie": "the graph has a cookie of its own",
    "actions": "'to' says where packets go",
}


def parse_match(text: str) -> Bits:
    """Return the mask and value of a match such as `tcp,nw_dst=10.0.0.0/8,tp_dst=80`.

    Raises:
        ValueError: it is not one; the message says what to write instead.
    """
    words = [word.partition("=") for word in re.split(r"[,\s]+", text.strip()) if word]
    seen = [name for name, _, _ in words]
    for name in seen:
        if seen.count(name) > 1:
            raise ValueError(f"'{name}' stands twice; keep one")
    match = _Match()
    for name, equals, value in words:
        if name in _KEYWORDS and not equals:
            match.keyword(name)
        elif name in ("dl_type", "eth_type"):
            match.put("eth_type", number(value, 16))
    for name, _, value in words:
        if name in ("nw_proto", "ip_proto") and match.ethertype in (_IP, _IPV6):
            match.put("ip_proto", number(value, 8))
    for name, equals, value in words:
        if equals and name not in ("dl_type", "eth_type"):
            match.field(name, value)
        elif not equals and name not in _KEYWORDS:
            raise ValueError(f"'{name}' is unknown{hint(name, _KEYWORDS)}")
    return match.mask, match.value


def overlap(one: Bits, other: Bits) -> bool:
    """Tell whether some packet matches both."""
    return not (one[1] ^ other[1]) & one[0] & other[0]


def join(one: Bits, other: Bits) -> Bits | None:
    """Return the match of what matches both, None if that is nothing."""
    return (one[0] | other[0], one[1] | other[1]) if overlap(one, other) else None


def field_bits(name: str, mask: int, value: int) -> Bits:
    """Return the match of one field."""
    field = FIELDS[name]
    return field.place(mask), field.place(value)


class _Match:
    """A match as it is put together."""

    def __init__(self) -> None:
        self.mask = self.value = 0

    def _known(self, name: str) -> int | None:
        field = FIELDS[name]
        return field.take(self.value) if self.mask & field.ones == field.ones else None

    @property
    def ethertype(self) -> int | None:
        """The ethertype, if it is matched."""
        return self._known("eth_type")

    def keyword(self, name: str) -> None:
        """Match a protocol."""
        ethertype, protocol = _KEYWORDS[name]
        self.put("eth_type", (0xFFFF, ethertype))
        if protocol is not None:
            self.put("ip_proto", (0xFF, protocol))

    def field(self, name: str, text: str) -> None:
        """Match a field by any of its names."""
        if name in _ELSEWHERE:
            raise ValueError(f"'{name}' does not belong into a match: {_ELSEWHERE[name]}")
        if name == "dl_vlan":
            mask, value = number(text, 16)
            none = value == 0xFFFF
            if mask != 0xFFFF or (value > 0xFFF and not none):
                raise ValueError(f"dl_vlan={text} is no tag; give 0 to 4095, 0xffff for none")
            self.put("vlan_vid", (0x1FFF, 0 if none else _PRESENT | value))
            return
        if name in ("dl_vlan_pcp", "vlan_pcp"):
            self.put("vlan_tci", (0xF000, number(text, 3)[1] << 13 | _PRESENT))
            return
        if name == "nw_tos":
            mask, value = number(text, 8)
            if value & 3:
                raise ValueError(f"nw_tos={text} has ECN bits; give a multiple of 4, or nw_ecn")
            self._needs(name, (_IP, _IPV6))
            self.put("ip_dscp", (mask >> 2, value >> 2))
            return
        canonical = self._canonical(name)
        if canonical not in _FIELDS:
            raise ValueError(f"field '{name}' is unknown{_hint(name)}")
        ethertypes, protocol, parse = _FIELDS[canonical]
        self._needs(name, ethertypes, protocol)
        try:
            self.put(canonical, parse(text, FIELDS[canonical].width))
        except ValueError as error:
            raise ValueError(f"{name}={text}: {error}") from error

    def put(self, name: str, bits: Bits) -> None:
        """Match a field's bits too."""
        found = join((self.mask, self.value), field_bits(name, bits[0], bits[1] & bits[0]))
        if found is None:
            raise ValueError(f"{name} has two values, so nothing matches; keep one")
        self.mask, self.value = found

    def _canonical(self, name: str) -> str:
        protocol = self._known("ip_proto")
        kind, _, what = name.partition("_")
        if kind == "tp":
            shown = {_TCP: "tcp", _UDP: "udp", _SCTP: "sctp"}.get(
                -1 if protocol is None else protocol
            )
            if shown is None or self.ethertype not in (_IP, _IPV6):
                raise ValueError(f"{name} needs tcp, udp or sctp; write tcp,{name}=…")
            return f"{shown}_{what}"
        if kind == "icmp" and protocol == _ICMP6:
            return f"icmpv6_{what}"
        if self.ethertype in (_ARP, _RARP) and name in _OF_ARP:
            return _OF_ARP[name]
        return _SAME.get(name, name)

    def _needs(self, name: str, ethertypes: tuple[int, ...], protocol: int | None = None) -> None:
        if ethertypes and self.ethertype not in ethertypes:
            wanted = [_word(kind, protocol) for kind in ethertypes]
        elif protocol is not None and self._known("ip_proto") != protocol:
            wanted = [_word(self.ethertype or 0, protocol)]
        else:
            return
        raise ValueError(f"{name} needs {' or '.join(wanted)}; write {wanted[0]},{name}=…")


def _word(ethertype: int, protocol: int | None) -> str:
    return next((word for word, found in _KEYWORDS.items() if found == (ethertype, protocol)), "ip")


def _hint(name: str) -> str:
    return hint(name, {*_FIELDS, *_SAME, "tp_src", "tp_dst", "dl_vlan", "nw_tos"})


_ANY_IP: Final = (_IP, _IPV6)
_BOTH_ARP: Final = (_ARP, _RARP)
_FIELDS: Final[dict[str, tuple[tuple[int, ...], int | None, Callable[[str, int], Bits]]]] = {
    # ethertypes and protocol that it needs, and how it is written
    "eth_src": ((), None, mac),
    "eth_dst": ((), None, mac),
    "vlan_tci": ((), None, number),
    "vlan_vid": ((), None, number),
    "ipv4_src": ((_IP,), None, address),
    "ipv4_dst": ((_IP,), None, address),
    "ipv6_src": ((_IPV6,), None, address),
    "ipv6_dst": ((_IPV6,), None, address),
    "ipv6_label": ((_IPV6,), None, number),
    "ip_proto": (_ANY_IP, None, number),
    "ip_dscp": (_ANY_IP, None, number),
    "ip_ecn": (_ANY_IP, None, number),
    "ip_ttl": (_ANY_IP, None, number),
    "ip_frag": (_ANY_IP, None, fragment),
    **{
        f"{word}_{side}": (_ANY_IP, protocol, number)
        for word, protocol in (("tcp", _TCP), ("udp", _UDP), ("sctp", _SCTP))
        for side in ("src", "dst")
    },
    "tcp_flags": (_ANY_IP, _TCP, flags),
    "icmp_type": ((_IP,), _ICMP, number),
    "icmp_code": ((_IP,), _ICMP, number),
    "icmpv6_type": ((_IPV6,), _ICMP6, number),
    "icmpv6_code": ((_IPV6,), _ICMP6, number),
    "arp_op": (_BOTH_ARP, None, number),
    "arp_spa": (_BOTH_ARP, None, address),
    "arp_tpa": (_BOTH_ARP, None, address),
    "arp_sha": (_BOTH_ARP, None, mac),
    "arp_tha": (_BOTH_ARP, None, mac),
    "mpls_label": ((_MPLS,), None, number),
    "mpls_tc": ((_MPLS,), None, number),
    "mpls_bos": ((_MPLS,), None, number),
}
_SAME: Final = {
    "dl_src": "eth_src",
    "dl_dst": "eth_dst",
    "nw_src": "ipv4_src",
    "nw_dst": "ipv4_dst",
    "ip_src": "ipv4_src",
    "ip_dst": "ipv4_dst",
    "nw_proto": "ip_proto",
    "nw_ecn": "ip_ecn",
    "nw_ttl": "ip_ttl",
    "nw_frag": "ip_frag",
}
_OF_ARP: Final = {"nw_src": "arp_spa", "nw_dst": "arp_tpa", "nw_proto": "arp_op"}
