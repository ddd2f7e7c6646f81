# SPDX-License-Identifier: Apache-2.0
"""Actions and instructions on the wire, as those of `model`.

OpenFlow 1.0 numbers its actions otherwise than 1.1 and later. Numbers are those of the OpenFlow
specifications and of OVS's lib/ofp-actions.c, names those of ovs-actions(7).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from ovs_highway.openflow.fields import FIELDS, Slice
from ovs_highway.openflow.model import (
    IN_PORT,
    Action,
    Actions,
    ClearActions,
    Clone,
    CtClear,
    Exit,
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
from ovs_highway.openflow.oxm import ONF, Wire, read_header, wide_port

if TYPE_CHECKING:
    from collections.abc import Callable

OF10: Final = 1
NICIRA: Final = 0x2320
ALL_TABLES: Final = 0xFF
_DEEPEST: Final = 8
_CACHE_BYTES: Final = 16 << 20
_CFI: Final = 0x1000

_NAMES_10: Final = {1: "mod_vlan_vid", 2: "mod_vlan_pcp", 3: "strip_vlan", 9: "mod_tp_src"} | {
    10: "mod_tp_dst",
    11: "enqueue",
}
_NAMES_11: Final = {
    1: "mod_vlan_vid",
    2: "mod_vlan_pcp",
    9: "mod_tp_src",
    10: "mod_tp_dst",
    11: "copy_ttl_out",
    12: "copy_ttl_in",
    13: "set_mpls_label",
    14: "set_mpls_tc",
    15: "set_mpls_ttl",
    16: "dec_mpls_ttl",
    17: "push_vlan",
    18: "pop_vlan",
    19: "push_mpls",
    20: "pop_mpls",
    21: "set_queue",
    24: "dec_ttl",
    26: "push_pbb",
    27: "pop_pbb",
    29: "meter",
}
_NAMES_NICIRA: Final = {
    4: "set_queue",
    10: "multipath",
    12: "bundle",
    13: "bundle_load",
    16: "learn",
    18: "dec_ttl",
    19: "fin_timeout",
    20: "controller",
    21: "dec_ttl",
    23: "push_mpls",
    24: "pop_mpls",
    25: "set_mpls_ttl",
    26: "dec_mpls_ttl",
    27: "push",
    28: "pop",
    29: "sample",
    30: "set_mpls_label",
    31: "set_mpls_tc",
    34: "conjunction",
    35: "ct",
    36: "nat",
    37: "controller",
    38: "sample",
    39: "output",  # with max_len
    41: "sample",
    44: "resubmit",  # with ct
    45: "learn",
    46: "encap",
    47: "decap",
    48: "dec_nsh_ttl",
    49: "check_pkt_larger",
    50: "delete_field",
    255: "debug_recirc",
}
# Actions that set a field, with its bytes behind the header (OpenFlow 1.0 5.2.4, 1.1 A.2.5).
_SETS: Final = {4: ("eth_src", 6), 5: ("eth_dst", 6), 6: ("ipv4_src", 4), 7: ("ipv4_dst", 4)}
_SETS_11: Final = {8: ("ip_ecn", 1), 23: ("ip_ttl", 1)}

_HEAD: Final = struct.Struct("!HH")
_VENDOR: Final = struct.Struct("!IH")


class _Cache:
    """Lists that were decoded, by their bytes; what they take is bounded."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, bytes], Actions] = {}
        self._room = _CACHE_BYTES

    def get(self, kind: str, data: bytes) -> Actions:
        """Return what a list means."""
        found = self._found.get((kind, data))
        if found is None:
            if self._room < len(data) + _ENTRY:
                self._found.clear()
                self._room = _CACHE_BYTES
            self._room -= len(data) + _ENTRY
            found = self._found[kind, data] = _DECODE[kind](data)
        return found


_ENTRY: Final = 64
_cache: Final = _Cache()


def decode_actions(version: int, data: bytes) -> Actions:
    """Return a list of actions; equal bytes give the same object, most of the time.

    What is not understood, or is malformed, becomes an `Other`.
    """
    return _cache.get("1.0" if version == OF10 else "1.1+", data)


def decode_instructions(data: bytes) -> Actions:
    """Return what a list of instructions does, as actions in the order of their execution."""
    return _cache.get("instructions", data)


def _instructions(data: bytes) -> Actions:
    meter: Actions = ()
    apply: Actions = ()
    clear: Actions = ()
    write: Actions = ()
    last: Actions = ()
    goto: Actions = ()
    pos = 0
    while pos < len(data):
        if len(data) - pos < 8:
            return (*meter, *apply, Other("unknown instruction"))
        kind, size = _HEAD.unpack_from(data, pos)
        if size < 8 or pos + size > len(data):
            return (*meter, *apply, Other("unknown instruction"))
        body = data[pos + 4 : pos + size]
        pos += size
        if kind == 1:
            goto += (Goto(body[0]),)
        elif kind == 2 and len(body) == 20:
            value, mask = struct.unpack_from("!QQ", body, 4)
            last += (Load(FIELDS["metadata"], value & mask, mask),)
        elif kind == 3:
            write += (WriteActions(_list(body[4:], False, 1)),)
        elif kind == 4:
            apply += _list(body[4:], False, 0)
        elif kind == 5:
            clear += (ClearActions(),)
        elif kind == 6:
            meter += (Other("meter"),)
        else:
            meter += (Other(f"unknown instruction {kind}"),)
    return meter + apply + clear + write + last + goto


def _list(data: bytes, old: bool, depth: int) -> Actions:
    found: list[Action] = []
    pos = 0
    while pos < len(data):
        if len(data) - pos < 8:
            found.append(Other("unknown action"))
            break
        kind, size = _HEAD.unpack_from(data, pos)
        if size < 8 or pos + size > len(data):
            found.append(Other("unknown action"))
            break
        body = data[pos + 4 : pos + size]
        pos += size
        try:
            action = _experimenter(body, old, depth) if kind == 0xFFFF else _one(kind, body, old)
        except (struct.error, ValueError, IndexError):  # it is too short
            action = None
        found.append(Other(f"unknown action {kind}") if action is None else action)
    return tuple(found)


def _one(kind: int, body: bytes, old: bool) -> Action | None:
    if kind == 0:
        (port,) = struct.unpack_from("!H" if old else "!I", body)
        return Output(wide_port(port) if old else port)
    if kind in _SETS or (not old and kind in _SETS_11):
        name, size = _SETS.get(kind) or _SETS_11[kind]
        field = FIELDS[name]
        if len(body) < size:
            return None
        return _load(Wire(field, size, (1 << field.width) - 1), int.from_bytes(body[:size], "big"))
    if (kind == 8 and old) or (kind == 7 and not old):
        kind = 8
    if kind == 8:
        return Load(FIELDS["ip_tos"], body[0] & 0xFC, 0xFC)
    if old:
        name = _NAMES_10.get(kind, "")
        return Other(name) if name else None
    if kind == 22:
        return Group(struct.unpack_from("!I", body)[0])
    if kind == 25:
        return _set_field(body, 0)
    if kind == 28:
        return _move(struct.unpack_from("!HHH", body), body, 8)
    name = _NAMES_11.get(kind, "")
    return Other(name) if name else None


def _experimenter(body: bytes, old: bool, depth: int) -> Action | None:
    experimenter, kind = _VENDOR.unpack_from(body)
    if experimenter == ONF and kind == 3200:
        return _move(struct.unpack_from("!HHH", body, 8), body, 16)
    if experimenter != NICIRA:
        return Other(f"unknown action of experimenter {experimenter:#x}")
    if kind in _NAMES_NICIRA:
        return Other(_NAMES_NICIRA[kind])
    decode = _NICIRA.get(kind)
    if decode is not None:
        return decode(body)
    if kind == 42:
        if depth >= _DEEPEST:
            return Other("clone")
        return Clone(_list(body[12:], old, depth + 1))
    return Other(f"unknown action {kind} of Nicira")


def _resubmit(body: bytes) -> Action:
    port, table = struct.unpack_from("!HB", body, 6)
    wide = wide_port(port)
    return Resubmit(None if wide == IN_PORT else wide, None if table == ALL_TABLES else int(table))


def _resubmit_here(body: bytes) -> Action:
    wide = wide_port(struct.unpack_from("!H", body, 6)[0])
    return Resubmit(None if wide == IN_PORT else wide, None)


def _write_metadata(body: bytes) -> Action:
    value, mask = struct.unpack_from("!QQ", body, 12)
    return Load(FIELDS["metadata"], value & mask, mask)


def _output_reg(body: bytes) -> Action:
    (place,) = struct.unpack_from("!H", body, 6)
    wire, _, _ = read_header(body, 8)
    return _output_from(wire, place)


def _output_reg2(body: bytes) -> Action:
    (place,) = struct.unpack_from("!H", body, 6)
    wire, _, _ = read_header(body, 10)
    return _output_from(wire, place)


def _output_from(wire: Wire | None, place: int) -> Action:
    if wire is None:
        return Other("output")
    source = _part(wire, place >> 6, (place & 63) + 1)
    return Other("output") if source is None else OutputReg(source)


def _reg_load(body: bytes) -> Action:
    place, header, value = struct.unpack_from("!H4sQ", body, 6)
    wire, _, _ = read_header(header, 0)
    if wire is None:
        return Other("load")
    start, width = place >> 6, (place & 63) + 1
    if start + width > 8 * wire.size:
        return Other("load")
    ones = (1 << width) - 1
    return _load(wire, (value & ones) << start, ones << start) or Other("load")


def _set_field(body: bytes, pos: int) -> Action:
    wire, has_mask, pos = read_header(body, pos)
    if wire is None or pos + (wire.size << has_mask) > len(body):
        return Other("set_field")
    value = int.from_bytes(body[pos : pos + wire.size], "big")
    mask = wire.bits
    if has_mask:
        mask = int.from_bytes(body[pos + wire.size : pos + 2 * wire.size], "big")
    return _load(wire, value, mask) or Other("set_field")


def _load(wire: Wire, value: int, mask: int | None = None) -> Load | None:
    """Return the Load of some bits of a field, with what OVS sets besides.

    Who sets a VLAN's number or priority gives the packet a tag, if it has none (lib/flow.c).
    """
    field = wire.field
    mask = wire.bits if mask is None else mask & wire.bits
    value &= mask
    if wire.short_port:
        if mask != wire.bits:
            return None
        return Load(field, wide_port(value), (1 << field.width) - 1)
    if field.name == "vlan_vid":
        return Load(field, value | _CFI, mask | _CFI)
    if field.name == "vlan_pcp":
        return Load(FIELDS["vlan_tci"], value << 13 | _CFI, mask << 13 | _CFI)
    return Load(field, value, mask)


def _reg_move(body: bytes) -> Action:
    return _move(struct.unpack_from("!HHH", body, 6), body, 12)


def _move(places: tuple[int, ...], body: bytes, pos: int) -> Action:
    width, source_start, target_start = places
    source_wire, _, pos = read_header(body, pos)
    target_wire, _, _ = read_header(body, pos)
    if source_wire is None or target_wire is None or width == 0:
        return Other("move")
    source = _part(source_wire, source_start, width)
    target = _part(target_wire, target_start, width)
    if source is None or target is None or target_wire.field.name in ("vlan_vid", "vlan_pcp"):
        return Other("move")
    if target_wire.short_port:
        return Other("move")
    return Move(source, target)


def _part(wire: Wire, start: int, width: int) -> Slice | None:
    """Return some bits of a field; None if they are not all meant by it."""
    ones = ((1 << width) - 1) << start
    if ones & ~wire.bits or start + width > wire.field.width:
        return None
    return wire.field.part(start, width)


def _tunnel(body: bytes) -> Action:
    (value,) = struct.unpack_from("!I", body, 8)
    return Load(FIELDS["tun_id"], value, FIELDS["tun_id"].ones >> FIELDS["tun_id"].offset)


def _tunnel64(body: bytes) -> Action:
    (value,) = struct.unpack_from("!Q", body, 12)
    return Load(FIELDS["tun_id"], value, FIELDS["tun_id"].ones >> FIELDS["tun_id"].offset)


_NICIRA: Final[dict[int, Callable[[bytes], Action]]] = {
    1: _resubmit_here,
    2: _tunnel,
    5: lambda _body: Nothing("pop_queue"),
    6: _reg_move,
    7: _reg_load,
    8: lambda _body: Nothing("note"),
    9: _tunnel64,
    14: _resubmit,
    15: _output_reg,
    17: lambda _body: Exit(),
    22: _write_metadata,
    32: _output_reg2,
    33: lambda body: _set_field(body, 12),
    40: lambda body: Group(struct.unpack_from("!I", body, 8)[0]),
    43: lambda _body: CtClear(),
}
_DECODE: Final[dict[str, Callable[[bytes], Actions]]] = {
    "1.0": lambda data: _list(data, True, 0),
    "1.1+": lambda data: _list(data, False, 0),
    "instructions": _instructions,
}
