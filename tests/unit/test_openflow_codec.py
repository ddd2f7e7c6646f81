# SPDX-License-Identifier: Apache-2.0
"""Matches and actions on the wire."""

from __future__ import annotations

import contextlib
import struct
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_highway.errors import ProtocolError
from ovs_highway.openflow.actions import decode_actions, decode_instructions
from ovs_highway.openflow.fields import FIELDS, OPAQUE
from ovs_highway.openflow.model import (
    CONTROLLER,
    LOCAL,
    Action,
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
from ovs_highway.openflow.oxm import WIRES, decode_match
from ovs_highway.openflow.text import NOT_UNDERSTOOD, format_actions, format_match

IN_PORT_1: Final = "80000004 00000001"
TCP: Final = "80000a02 0800 80001401 06"


def match_of(text: str) -> str:
    """Return a match on the wire, in hexadecimal, as people write it."""
    return format_match(*decode_match(bytes.fromhex(text)))


@pytest.mark.parametrize(
    ("wire", "shown"),
    [
        ("", ""),
        (IN_PORT_1, "in_port=1"),
        ("80000004 fffffffe", "in_port=LOCAL"),
        ("00000002 fffe", "in_port=LOCAL"),
        ("00000002 0007", "in_port=7"),
        (TCP, "tcp"),
        (TCP + "80001c02 0050", "tcp,tp_dst=80"),
        (TCP + "80001d04 0050 fff0", "tcp,tp_dst=0x50/0xfff0"),
        (TCP + "00010004 00000003", "tcp,reg0=0x3"),
        ("80000a02 0800 80001708 0a000000 ff000000", "ip,nw_src=10.0.0.0/8"),
        ("80000a02 0800 80001001 08", "ip,nw_tos=32"),
        ("80000a02 0800 00000a01 23", "ip,nw_tos=32"),  # NXM_OF_IP_TOS leaves out ECN
        ("80000c02 1005", "dl_vlan=5"),
        ("80000c02 0000", "vlan_tci=0x0000/0x1fff"),
        ("80000d04 1000 1000", "vlan_tci=0x1000/0x1000"),
        ("00000802 6005", "vlan_tci=0x6005"),
        ("00000802 7005", "dl_vlan=5,dl_vlan_pcp=3"),
        ("80000510 00000000000000f0 00000000000000ff", "metadata=0xf0/0xff"),
        ("80010008 0000000500000006", "reg0=0x5,reg1=0x6"),
        ("80000a02 0806 80002a02 0001", "arp,arp_op=1"),
        (TCP + "ffff5406 4f4e4600 0002", "tcp,tcp_flags=syn"),
        (TCP + "ffff5508 4f4e4600 0002 0012", "tcp,tcp_flags=+syn-ack"),
        (TCP + "ffff5406 4f4e4600 0802", "tcp,tcp_flags=syn|[800]"),
        (TCP + "ffff5406 4f4e4600 0000", "tcp,tcp_flags=0"),
        ("ffff5606 4f4e4600 0005", NOT_UNDERSTOOD),
        ("00014804 00000005", NOT_UNDERSTOOD),
        (IN_PORT_1 + "00014804 00000005", "in_port=1," + NOT_UNDERSTOOD),
    ],
)
def test_match_is_shown_as_by_ovs_ofctl(wire: str, shown: str) -> None:
    assert match_of(wire) == shown


@pytest.mark.parametrize("wire", ["80", "800000", "80000004", "80000004 000001", "00014804 01"])
def test_cut_match_is_an_error(wire: str) -> None:
    with pytest.raises(ProtocolError, match="ends within a field"):
        match_of(wire)


@given(st.sampled_from(sorted(WIRES)), st.data())
def test_every_field_lands_at_its_place(header: bytes, data: st.DataObject) -> None:
    wire = WIRES[header]
    ones = (1 << 8 * wire.size) - 1
    value, cares = data.draw(st.integers(0, ones)), data.draw(st.integers(0, ones))
    plain = header + value.to_bytes(wire.size, "big")
    mask, bits = decode_match(plain)
    if wire.short_port:
        assert wire.field.take(bits) & 0xFFFF == value
        return
    assert mask == wire.field.place(wire.bits)
    assert bits == wire.field.place(value & wire.bits)
    head = bytearray(header)
    head[2] |= 1
    head[3] += wire.size
    masked = bytes(head) + value.to_bytes(wire.size, "big") + cares.to_bytes(wire.size, "big")
    mask, bits = decode_match(masked)
    assert mask == wire.field.place(cares & wire.bits)
    assert bits == wire.field.place(value & cares & wire.bits)


def test_unknown_fields_differ_if_any_byte_differs() -> None:
    def opaque(text: str) -> int:
        mask, value = decode_match(bytes.fromhex(text))
        assert OPAQUE.take(mask) == (1 << 64) - 1
        return OPAQUE.take(value)

    first = opaque("00014804 00000005")
    assert first == opaque("00014804 00000005")
    assert first == opaque(IN_PORT_1 + "00014804 00000005")
    assert len({first, opaque("00014804 00000006"), opaque("00014a04 00000005")}) == 3
    assert first != opaque("00014804 00000005 00014a04 00000005")


@given(st.binary(max_size=80))
def test_any_bytes_are_a_match_or_an_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        mask, value = decode_match(data)
        assert value & ~mask == 0
        format_match(mask, value)


def nicira(kind: int, body: str, *, size: int = 0) -> str:
    """Return an action of Nicira's, in hexadecimal."""
    data = struct.pack("!IH", 0x2320, kind) + bytes.fromhex(body)
    size = size or (len(data) + 4 + 7) // 8 * 8
    return (struct.pack("!HH", 0xFFFF, size) + data.ljust(size - 4, b"\0")).hex()


R0, R1 = FIELDS["reg0"], FIELDS["reg1"]
LOW_TO_HIGH: Final = Move(R0.part(0, 16), R1.part(16, 16))
OUTPUT_2: Final = "0000 0010 00000002 ffff 000000000000"


@pytest.mark.parametrize(
    ("wire", "action"),
    [
        (OUTPUT_2, Output(2)),
        ("0000 0010 fffffffd ffff 000000000000", Output(CONTROLLER)),
        ("0016 0008 00000005", Group(5)),
        ("0019 0010 00010004 00000003 00000000", Load(R0, 3, 0xFFFFFFFF)),
        ("0019 0010 00010108 00000003 0000000f", Load(R0, 3, 0xF)),
        ("0019 0010 80000c02 1005 00000000 0000", Load(FIELDS["vlan_vid"], 0x1005, 0x1FFF)),
        ("0019 0010 80000e01 03 000000 00000000", Load(FIELDS["vlan_tci"], 0x7000, 0xF000)),
        ("0019 0010 00014c04 00000003 00000000", Other("set_field")),  # tun_gbp_id
        ("001c 0018 0010 0000 0010 0000 00010004 00010204 00000000", LOW_TO_HIGH),
        (
            "ffff 0020 4f4e4600 0c80 0000 0010 0000 0010 0000 00010004 00010204 00000000",
            LOW_TO_HIGH,
        ),
        ("0018 0008 00000000", Other("dec_ttl")),
        ("0063 0008 00000000", Other("unknown action 99")),
        (nicira(1, "0005"), Resubmit(5, None)),
        (nicira(14, "fff8 07"), Resubmit(None, 7)),
        (nicira(14, "0003 ff"), Resubmit(3, None)),
        (nicira(14, "fffe 07"), Resubmit(LOCAL, 7)),
        (nicira(7, "0107 00010004 0000000000000003"), Load(R0, 0x30, 0xFF0)),
        (nicira(7, "000f 00000002 000000000000fffe"), Load(FIELDS["in_port"], LOCAL, 0xFFFFFFFF)),
        (nicira(7, "003f 00010004 0000000000000003"), Other("load")),  # too many bits
        (nicira(33, "000000000000 00010108 00000003 0000000f"), Load(R0, 3, 0xF)),
        (nicira(6, "0010 0000 0010 00010004 00010204"), LOW_TO_HIGH),
        (nicira(6, "0021 0000 0000 00010004 00010204"), Other("move")),
        (nicira(15, "000f 00010004 ffff"), OutputReg(R0.part(0, 16))),
        (nicira(32, "001f ffff 00010004"), OutputReg(R0)),
        (nicira(17, ""), Exit()),
        (nicira(8, "010203"), Nothing("note")),
        (nicira(5, ""), Nothing("pop_queue")),
        (nicira(43, ""), CtClear()),
        (nicira(44, "0003 07"), Other("resubmit")),
        (nicira(42, "000000000000" + OUTPUT_2), Clone((Output(2),))),
        (nicira(40, "0000 00000005"), Group(5)),
        (
            nicira(9, "000000000000 0000000500000001"),
            Load(FIELDS["tun_id"], 0x500000001, 2**64 - 1),
        ),
        (nicira(200, ""), Other("unknown action 200 of Nicira")),
        ("ffff 0010 00001234 0000 000000000000", Other("unknown action of experimenter 0x1234")),
    ],
)
def test_action_of_later_versions(wire: str, action: Action) -> None:
    assert decode_actions(5, bytes.fromhex(wire)) == (action,)


@pytest.mark.parametrize(
    ("wire", "action"),
    [
        ("0000 0008 0002 ffff", Output(2)),
        ("0000 0008 fffd ffff", Output(CONTROLLER)),
        ("0003 0008 00000000", Other("strip_vlan")),
        ("0004 0010 001122334455 000000000000", Load(FIELDS["eth_src"], 0x1122334455, 2**48 - 1)),
        ("0006 0008 01020304", Load(FIELDS["ipv4_src"], 0x01020304, 2**32 - 1)),
        ("0008 0008 20000000", Load(FIELDS["ip_tos"], 0x20, 0xFC)),
        ("000b 0010 0001 000000000000 00000005", Other("enqueue")),
        (nicira(14, "fff8 07"), Resubmit(None, 7)),
    ],
)
def test_action_of_version_1_0(wire: str, action: Action) -> None:
    assert decode_actions(1, bytes.fromhex(wire)) == (action,)


def test_instructions_come_in_the_order_of_their_execution() -> None:
    goto = "0001 0008 09 000000"
    metadata = "0002 0018 00000000 0000000000000005 00000000000000ff"
    write = "0003 0018 00000000" + OUTPUT_2
    apply = "0004 0018 00000000" + OUTPUT_2
    clear = "0005 0008 00000000"
    meter = "0006 0008 00000001"
    assert decode_instructions(bytes.fromhex(goto + metadata + write + apply + clear + meter)) == (
        Other("meter"),
        Output(2),
        ClearActions(),
        WriteActions((Output(2),)),
        Load(FIELDS["metadata"], 5, 0xFF),
        Goto(9),
    )


def test_equal_lists_are_one_object() -> None:
    data = bytes.fromhex(OUTPUT_2)
    assert decode_actions(5, data) is decode_actions(6, bytes(bytearray(data)))
    assert decode_actions(1, data) is not decode_actions(5, data)


def test_clones_in_clones_end_somewhere() -> None:
    data = b""
    for _ in range(2000):
        data = struct.pack("!HHIH6x", 0xFFFF, 16 + len(data), 0x2320, 42) + data
    (action,) = decode_actions(5, data)
    depth = 0
    while isinstance(action, Clone):
        (action,) = action.actions
        depth += 1
    assert action == Other("clone")
    assert depth == 8


@given(st.binary(max_size=64), st.sampled_from([1, 5]))
def test_any_bytes_are_actions(data: bytes, version: int) -> None:
    format_actions(decode_actions(version, data))
    format_actions(decode_instructions(data))


@given(st.integers(0, 60), st.binary(max_size=40))
def test_any_body_of_a_known_action_is_an_action(kind: int, body: bytes) -> None:
    text = nicira(kind, body.hex())
    format_actions(decode_actions(5, bytes.fromhex(text)))
