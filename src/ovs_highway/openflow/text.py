# SPDX-License-Identifier: Apache-2.0
"""Matches and actions as people write them, in the manner of ovs-ofctl(8)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from ovs_highway.openflow.fields import FIELDS, Slice
from ovs_highway.openflow.model import (
    CONTROLLER,
    IN_PORT,
    PORT_NAMES,
    Action,
    Actions,
    ClearActions,
    Clone,
    CtClear,
    Exit,
    Flow,
    Goto,
    Group,
    Load,
    Move,
    Nothing,
    Other,
    Output,
    OutputReg,
    Resubmit,
    WriteActions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOT_UNDERSTOOD: Final = "(a field that is not understood)"


def format_port(port: int) -> str:
    """Return a port's number, or the name of a reserved one."""
    return PORT_NAMES.get(port, str(port))


def format_flow(flow: Flow) -> str:
    """Return a flow on one line, its cookie only if it has one."""
    cookie = f"cookie={flow.cookie:#x}, " if flow.cookie else ""
    match = format_match(flow.mask, flow.value)
    place = f"table={flow.table}, priority={flow.priority}{',' if match else ''}{match}"
    return f"{cookie}{place} actions={format_actions(flow.actions)}"


# Matches ----------------------------------------------------------------------------------------

_ETHERTYPES: Final = {
    0x0800: "ip",
    0x86DD: "ipv6",
    0x0806: "arp",
    0x8035: "rarp",
    0x8847: "mpls",
    0x8848: "mplsm",
}
_PROTOCOLS: Final = {
    (0x0800, 1): "icmp",
    (0x0800, 6): "tcp",
    (0x0800, 17): "udp",
    (0x0800, 132): "sctp",
    (0x86DD, 58): "icmp6",
    (0x86DD, 6): "tcp6",
    (0x86DD, 17): "udp6",
    (0x86DD, 132): "sctp6",
}
_CT_STATE: Final = ("new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat")
_TCP_FLAGS: Final = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns")
_FRAG: Final = {
    (0, 3): "no",
    (1, 3): "first",
    (3, 3): "later",
    (0, 1): "no",
    (1, 1): "yes",
    (0, 2): "not_later",
    (2, 2): "later",
}


def _ones(width: int) -> int:
    return (1 << width) - 1


def _decimal(value: int, mask: int, width: int) -> str:
    return str(value) if mask == _ones(width) else f"{value:#x}/{mask:#x}"


def _hexadecimal(value: int, mask: int, width: int) -> str:
    return _hex(value) if mask == _ones(width) else f"{_hex(value)}/{_hex(mask)}"


def _hex(value: int) -> str:
    return f"{value:#x}" if value else "0"


def _mac_of(value: int) -> str:
    return value.to_bytes(6, "big").hex(":")


def _mac(value: int, mask: int, width: int) -> str:
    return _mac_of(value) if mask == _ones(width) else f"{_mac_of(value)}/{_mac_of(mask)}"


def _address(value: int, mask: int, width: int) -> str:
    kind = ipaddress.IPv4Address if width == 32 else ipaddress.IPv6Address
    text = str(kind(value))
    if mask == _ones(width):
        return text
    zeros = ~mask & _ones(width)
    if zeros & (zeros + 1) == 0:
        return f"{text}/{width - zeros.bit_length()}"
    return f"{text}/{kind(mask)}"


def _port(value: int, mask: int, width: int) -> str:
    return format_port(value) if mask == _ones(width) else f"{value:#x}/{mask:#x}"


def _flags(names: tuple[str, ...]) -> Callable[[int, int, int], str]:
    def formatted(value: int, mask: int, width: int) -> str:
        if mask == _ones(width):
            words = [name for bit, name in enumerate(names) if value >> bit & 1]
            rest = value >> len(names) << len(names)
            return "|".join([*words, *([f"[{rest:x}]"] if rest else [])]) or "0"
        if mask >> len(names):  # with bits that have no names
            return _hexadecimal(value, mask, width)
        return "".join(
            ("+" if value >> bit & 1 else "-") + name
            for bit, name in enumerate(names)
            if mask >> bit & 1
        )

    return formatted


def _frag(value: int, mask: int, _width: int) -> str:
    return _FRAG.get((value, mask), f"{value:#x}/{mask:#x}")


_MATCH: Final[tuple[tuple[str, str, Callable[[int, int, int], str]], ...]] = (
    # field, what ovs-ofctl calls it, format
    ("reg", "reg", _hexadecimal),
    ("tun_id", "tun_id", _hexadecimal),
    ("tun_src", "tun_src", _address),
    ("tun_dst", "tun_dst", _address),
    ("tun_ipv6_src", "tun_ipv6_src", _address),
    ("tun_ipv6_dst", "tun_ipv6_dst", _address),
    ("metadata", "metadata", _hexadecimal),
    ("in_port", "in_port", _port),
    ("vlan_tci", "", _hexadecimal),
    ("eth_src", "dl_src", _mac),
    ("eth_dst", "dl_dst", _mac),
    ("eth_type", "dl_type", lambda value, _mask, _width: f"0x{value:04x}"),
    ("ipv6_src", "ipv6_src", _address),
    ("ipv6_dst", "ipv6_dst", _address),
    ("ipv6_label", "ipv6_label", lambda value, mask, width: _label(value, mask, width)),
    ("ipv4_src", "nw_src", _address),
    ("ipv4_dst", "nw_dst", _address),
    ("arp_spa", "arp_spa", _address),
    ("arp_tpa", "arp_tpa", _address),
    ("ip_proto", "nw_proto", _decimal),
    ("arp_op", "arp_op", _decimal),
    ("arp_sha", "arp_sha", _mac),
    ("arp_tha", "arp_tha", _mac),
    ("ip_tos", "", _decimal),
    ("ip_ttl", "nw_ttl", _decimal),
    ("mpls_label", "mpls_label", _decimal),
    ("mpls_tc", "mpls_tc", _decimal),
    ("mpls_ttl", "mpls_ttl", _decimal),
    ("mpls_bos", "mpls_bos", _decimal),
    ("ip_frag", "nw_frag", _frag),
    ("icmp_type", "icmp_type", _decimal),
    ("icmp_code", "icmp_code", _decimal),
    ("icmpv6_type", "icmp_type", _decimal),
    ("icmpv6_code", "icmp_code", _decimal),
    ("nd_target", "nd_target", _address),
    ("nd_sll", "nd_sll", _mac),
    ("nd_tll", "nd_tll", _mac),
    ("tcp_src", "tp_src", _decimal),
    ("tcp_dst", "tp_dst", _decimal),
    ("udp_src", "tp_src", _decimal),
    ("udp_dst", "tp_dst", _decimal),
    ("sctp_src", "tp_src", _decimal),
    ("sctp_dst", "tp_dst", _decimal),
    ("tcp_flags", "tcp_flags", _flags(_TCP_FLAGS)),
)
_FIRST: Final[tuple[tuple[str, str, Callable[[int, int, int], str]], ...]] = (
    ("pkt_mark", "pkt_mark", _hexadecimal),
    ("ct_state", "ct_state", _flags(_CT_STATE)),
    ("ct_zone", "ct_zone", _decimal),
    ("ct_mark", "ct_mark", _hexadecimal),
    ("ct_label", "ct_label", _hexadecimal),
    ("packet_type", "", _hexadecimal),
)


def _label(value: int, mask: int, width: int) -> str:
    full = f"0x{value:05x}"
    return full if mask == _ones(width) else f"{full}/0x{mask:05x}"


def format_match(mask: int, value: int) -> str:
    """Return a match in the manner of ovs-ofctl, such as `tcp,in_port=1,tp_dst=80`."""
    return ",".join(_match(mask, value))


def _match(mask: int, value: int) -> Iterator[str]:
    def named(name: str) -> tuple[int, int]:
        field = FIELDS[name]
        return field.take(value), field.take(mask)

    for name, shown, write in _FIRST:
        bits, cares = named(name)
        if cares:
            if name == "packet_type":
                yield f"packet_type=({bits >> 16},{bits & 0xFFFF:#x})"
            else:
                yield f"{shown}={write(bits, cares, FIELDS[name].width)}"
    hidden = set()
    ethertype, cares = named("eth_type")
    if cares == 0xFFFF:
        protocol, cares = named("ip_proto")
        if cares == 0xFF and (ethertype, protocol) in _PROTOCOLS:
            hidden = {"eth_type", "ip_proto"}
            yield _PROTOCOLS[ethertype, protocol]
        elif ethertype in _ETHERTYPES:
            hidden = {"eth_type"}
            yield _ETHERTYPES[ethertype]
    for name, shown, write in _MATCH:
        if name == "reg":
            for number in range(16):
                bits, cares = named(f"reg{number}")
                if cares:
                    yield f"reg{number}={write(bits, cares, 32)}"
            continue
        bits, cares = named(name)
        if not cares or name in hidden:
            continue
        if name == "vlan_tci":
            yield from _vlan(bits, cares)
        elif name == "ip_tos":
            yield from _tos(bits, cares)
        else:
            yield f"{shown}={write(bits, cares, FIELDS[name].width)}"
    if FIELDS["opaque"].take(mask):
        yield NOT_UNDERSTOOD


def _vlan(bits: int, cares: int) -> Iterator[str]:
    vid = cares & 0x1FFF
    pcp = cares & 0xE000
    tag = bits & 0x1000
    if tag and vid == 0x1FFF and pcp in (0, 0xE000):
        yield f"dl_vlan={bits & 0xFFF}"
        if pcp:
            yield f"dl_vlan_pcp={bits >> 13}"
    elif tag and vid == 0x1000 and pcp == 0xE000:
        yield f"dl_vlan_pcp={bits >> 13}"
    elif cares == 0xFFFF:
        yield f"vlan_tci=0x{bits:04x}"
    else:
        yield f"vlan_tci=0x{bits:04x}/0x{cares:04x}"


def _tos(bits: int, cares: int) -> Iterator[str]:
    if cares & 0xFC:
        text = str(bits & 0xFC)
        yield f"nw_tos={text}" if cares & 0xFC == 0xFC else f"nw_tos={text}/{cares & 0xFC:#x}"
    if cares & 3:
        yield f"nw_ecn={bits & 3}" if cares & 3 == 3 else f"nw_ecn={bits & 3}/{cares & 3}"


# Actions ----------------------------------------------------------------------------------------


def format_actions(actions: Actions) -> str:
    """Return actions in the manner of ovs-ofctl, such as `load:0x3->reg14,resubmit(,8)`."""
    return ",".join(map(_action, actions)) or "drop"


def _action(action: Action) -> str:
    match action:
        case Output(port):
            if port in PORT_NAMES:
                return PORT_NAMES[port] + (":65535" if port == CONTROLLER else "")
            return f"output:{port}"
        case OutputReg(source):
            return f"output:{_bits(source)}"
        case Group(group):
            return f"group:{group}"
        case Resubmit(port, None):
            return f"resubmit:{format_port(IN_PORT if port is None else port)}"
        case Resubmit(port, table):
            return f"resubmit({'' if port is None else format_port(port)},{table})"
        case Goto(table):
            return f"goto_table:{table}"
        case Load(target, value, mask):
            return _load(target, value, mask)
        case Move(source, target):
            return f"move:{_bits(source)}->{_bits(target)}"
        case Clone(inner):
            return f"clone({','.join(map(_action, inner))})"
        case WriteActions(inner):
            return f"write_actions({format_actions(inner)})"
        case ClearActions():
            return "clear_actions"
        case Exit():
            return "exit"
        case CtClear():
            return "ct_clear"
        case Nothing(name) | Other(name):
            return name


def _bits(field: Slice) -> str:
    return field.name if "[" in field.name else f"{field.name}[]"


def _load(target: Slice, value: int, mask: int) -> str:
    if target.name == "metadata":
        full = mask == _ones(64)
        return f"write_metadata:{value:#x}" if full else f"write_metadata:{value:#x}/{mask:#x}"
    if target.width == 48:
        text = _mac(value, mask, 48)
    elif target.name.startswith(("ipv4", "ipv6_s", "ipv6_d", "arp_spa", "arp_tpa")):
        text = _address(value, mask, target.width)
    elif mask == _ones(target.width):
        text = f"{value:#x}"
    else:
        text = f"{value:#x}/{mask:#x}"
    return f"set_field:{text}->{target.name}"
