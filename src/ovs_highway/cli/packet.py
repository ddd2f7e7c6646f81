# SPDX-License-Identifier: Apache-2.0
"""A kind of packet as people write it, `udp,tp_dst=80`, as the detector's bits.

Read by OVS's own parser of flows, so it is written as in a match of ovs-ofctl(8).
"""

from __future__ import annotations

import warnings
from typing import Final

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of modules that it imports
    from ovs.flow.decoders import EthMask, IntMask, IPMask  # type: ignore[import-untyped]
    from ovs.flow.kv import ParseError  # type: ignore[import-untyped]
    from ovs.flow.ofp import OFPFlow  # type: ignore[import-untyped]

from ovs_highway.errors import CommandError
from ovs_highway.openflow.fields import FIELDS, META

_IPV4, _IPV6 = 0x0800, 0x86DD
_SHORT: Final[dict[str, tuple[int, int | None]]] = {
    "ip": (_IPV4, None),
    "ipv6": (_IPV6, None),
    "arp": (0x0806, None),
    "rarp": (0x8035, None),
    "mpls": (0x8847, None),
    "icmp": (_IPV4, 1),
    "tcp": (_IPV4, 6),
    "udp": (_IPV4, 17),
    "sctp": (_IPV4, 132),
    "icmp6": (_IPV6, 58),
    "tcp6": (_IPV6, 6),
    "udp6": (_IPV6, 17),
    "sctp6": (_IPV6, 132),
}
_OTHER_NAMES: Final = {
    "dl_src": "eth_src",
    "dl_dst": "eth_dst",
    "dl_type": "eth_type",
    "dl_vlan_pcp": "vlan_pcp",
    "nw_src": "ipv4_src",
    "nw_dst": "ipv4_dst",
    "ip_src": "ipv4_src",
    "ip_dst": "ipv4_dst",
    "nw_proto": "ip_proto",
    "nw_tos": "ip_tos",
    "nw_ecn": "ip_ecn",
    "nw_ttl": "ip_ttl",
    "icmpv4_type": "icmp_type",
    "icmpv4_code": "icmp_code",
}
_L4: Final = {6: "tcp", 17: "udp", 132: "sctp"}
_EXAMPLE: Final = "write it as in ovs-ofctl, such as udp,nw_dst=10.0.0.1,tp_dst=80"


def packet_bits(text: str) -> tuple[int, int]:
    """Return which bits of a packet are known, and their value.

    Raises:
        CommandError: it cannot be read, or has something that is no field of a packet.
    """
    try:
        match = OFPFlow(f"{text} actions=drop").match
    except (ParseError, ValueError, TypeError, IndexError) as error:
        raise CommandError(f"the packet {text!r} cannot be read; {_EXAMPLE}") from error
    known = value = 0

    def put(name: str, content: int, mask: int | None = None) -> None:
        nonlocal known, value
        field = FIELDS.get(_OTHER_NAMES.get(name, name))
        if field is None or field.offset < META or name == "opaque":
            raise CommandError(f"{name} is no field of a packet that is looked at; {_EXAMPLE}")
        ones = (1 << field.width) - 1
        if content > ones:
            raise CommandError(f"{name}={content} is too large")
        known |= field.place(ones if mask is None else mask & ones)
        value |= field.place(content & (ones if mask is None else mask & ones))

    proto = match.get("nw_proto") or match.get("ip_proto")
    for name in match:
        if name in _SHORT:
            eth_type, number = _SHORT[name]
            put("eth_type", eth_type)
            proto = number if number is not None else proto
            if number is not None:
                put("ip_proto", number)
    for name, content in match.items():
        if name in _SHORT or name in ("priority", "idle_timeout", "hard_timeout"):
            continue
        if name in ("tp_src", "tp_dst"):
            if proto not in _L4:
                raise CommandError(f"{name} needs tcp, udp or sctp beside it; {_EXAMPLE}")
            name = f"{_L4[proto]}_{name[3:]}"
        if name in ("dl_vlan", "vlan_vid"):
            put("vlan_vid", int(content) | 0x1000)
        elif isinstance(content, IPMask):
            put(name, int(content.ip), int(content.mask))
        elif isinstance(content, EthMask):
            put(name, int(content.eth), int(content.mask))
        elif isinstance(content, IntMask):
            put(name, content.value, content.mask)
        elif isinstance(content, int) and not isinstance(content, bool):
            put(name, content)
        else:
            raise CommandError(f"{name}={content} cannot be asked for; {_EXAMPLE}")
    return known, value
