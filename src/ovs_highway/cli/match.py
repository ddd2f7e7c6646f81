# SPDX-License-Identifier: Apache-2.0
"""What a rule matches, in the words of ovs-fields(7)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from ovs_highway.shm import ffi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovs_highway.shm import CData

_IPV6: Final = 0x86DD
_ICMP: Final = (1, 58)
_VLAN_PRESENT: Final = 0x1000
_FRAGMENT: Final = 1
_LATER: Final = 2


def format_match(key: CData, mask: CData) -> str:
    """Return a rule's key and mask, such as `eth_type=0x0800,vlan=none,nw_frag=no`."""
    return ",".join(_fields(key, mask)) or "any"


def _raw(field: CData) -> bytes:
    return bytes(ffi.buffer(field))


def _net16(value: int) -> int:
    """Return a 16-bit field in host order; it lies in memory in network order."""
    return int.from_bytes(int(value).to_bytes(2, "little"), "big")


def _fields(key: CData, mask: CData) -> Iterator[str]:
    for name in ("eth_src", "eth_dst"):
        if any(bits := _raw(getattr(mask, name))):
            address = _raw(getattr(key, name)).hex(":")
            yield f"{name}={address}" + ("" if bits == b"\xff" * 6 else f"/{bits.hex(':')}")
    if mask.eth_type:
        yield f"eth_type=0x{_net16(key.eth_type):04x}"
    yield from _vlan(_net16(key.vlan_tci), _net16(mask.vlan_tci))
    if mask.vlan_tpid and key.vlan_tpid:
        yield f"vlan_tpid=0x{_net16(key.vlan_tpid):04x}"
    if mask.ip_frag:
        yield f"nw_frag={_fragment(int(key.ip_frag), int(mask.ip_frag))}"
    ipv6 = _net16(key.eth_type) == _IPV6
    for side in ("src", "dst"):
        bits = _raw(getattr(mask, f"ip_{side}"))
        if any(bits):
            address = _address(_raw(getattr(key, f"ip_{side}")), bits, ipv6=ipv6)
            yield f"{'ipv6' if ipv6 else 'nw'}_{side}={address}"
    for name in ("proto", "tos", "ttl"):
        if getattr(mask, f"ip_{name}"):
            yield f"nw_{name}={getattr(key, f'ip_{name}')}"
    icmp = bool(mask.ip_proto) and int(key.ip_proto) in _ICMP
    for name, icmp_name in (("src", "type"), ("dst", "code")):
        if bits16 := _net16(getattr(mask, f"l4_{name}")):
            value = _net16(getattr(key, f"l4_{name}"))
            word = f"icmp_{icmp_name}" if icmp else f"tp_{name}"
            whole = bits16 == 0xFFFF or (icmp and bits16 == 0xFF)
            yield f"{word}={value}" if whole else f"{word}=0x{value:x}/0x{bits16:x}"
    if flags := _net16(mask.tcp_flags):
        yield f"tcp_flags=0x{_net16(key.tcp_flags):x}/0x{flags:x}"


def _vlan(tci: int, mask: int) -> Iterator[str]:
    if mask & _VLAN_PRESENT and not tci & _VLAN_PRESENT:
        yield "vlan=none"
        return
    if bits := mask & 0xFFF:
        yield f"vlan={tci & 0xFFF}" + ("" if bits == 0xFFF else f"/0x{bits:x}")
    elif mask & _VLAN_PRESENT:
        yield "vlan=any"
    if mask & 0xE000:
        yield f"vlan_pcp={tci >> 13}"


def _fragment(bits: int, mask: int) -> str:
    if not mask & _LATER:
        return "yes" if bits & _FRAGMENT else "no"
    if not mask & _FRAGMENT:
        return "later" if bits & _LATER else "not_later"
    return {0: "no", _FRAGMENT: "first"}.get(bits, "later")


def _address(address: bytes, mask: bytes, *, ipv6: bool) -> str:
    length = 16 if ipv6 else 4
    value = ipaddress.ip_address(address[:length])
    bits = int.from_bytes(mask[:length], "big")
    prefix = bin(bits).count("1")
    full = length * 8
    if bits == (1 << full) - 1:
        return str(value)
    if bits == ((1 << prefix) - 1) << (full - prefix):
        return f"{value}/{prefix}"
    return f"{value}/{ipaddress.ip_address(mask[:length])}"
