# SPDX-License-Identifier: Apache-2.0
"""Bypass rules as the detector's bits, and which of them a change of flows concerns."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from tests.unit.detector.strategies import start_events

from ovs_highway.agent.classes import key_bits
from ovs_highway.detector.classes import Surveys, still_right, touches
from ovs_highway.detector.explain import explain
from ovs_highway.detector.switch import BridgeSettings, Changes, PortSettings
from ovs_highway.detector.verdicts import Detector
from ovs_highway.openflow import model
from ovs_highway.openflow.fields import FIELDS, IN_PORT
from ovs_highway.openflow.text import format_match

if TYPE_CHECKING:
    from ovs_highway.openflow.model import Flow

KEY = struct.Struct(">6s6sHHHBBBBHHHI16s16s")
NO_MAC, NO_IP = bytes(6), bytes(16)


def key(**parts: object) -> bytes:
    """Return a struct highway_key."""
    names = (
        *("eth_dst", "eth_src", "eth_type", "vlan_tci", "vlan_tpid", "ip_proto", "ip_tos"),
        *("ip_ttl", "ip_frag", "tcp_flags", "l4_src", "l4_dst", "reserved", "ip_src", "ip_dst"),
    )
    defaults: dict[str, object] = dict.fromkeys(names, 0)
    defaults |= {"eth_dst": NO_MAC, "eth_src": NO_MAC, "ip_src": NO_IP, "ip_dst": NO_IP}
    return KEY.pack(*(defaults | parts).values())


@pytest.mark.parametrize(
    ("of_key", "of_mask", "text"),
    [
        ({"eth_type": 0x800}, {"eth_type": 0xFFFF}, "ip"),
        (
            {"eth_type": 0x800, "ip_proto": 17, "l4_dst": 53, "vlan_tci": 0x1005},
            {"eth_type": 0xFFFF, "ip_proto": 0xFF, "l4_dst": 0xFFFF, "vlan_tci": 0x1FFF},
            "dl_vlan=5,udp,tp_dst=53",
        ),
        (
            {"eth_type": 0x800, "ip_dst": b"\x0a\x01" + bytes(14)},
            {"eth_type": 0xFFFF, "ip_dst": b"\xff\xff" + bytes(14)},
            "ip,nw_dst=10.1.0.0/16",
        ),
        (
            {"eth_type": 0x86DD, "ip_proto": 58, "l4_src": 135, "ip_src": NO_IP[:-1] + b"\1"},
            {"eth_type": 0xFFFF, "ip_proto": 0xFF, "l4_src": 0xFF, "ip_src": b"\xff" * 16},
            "icmp6,ipv6_src=::1,icmp_type=135",
        ),
        ({"eth_type": 0x88B5, "l4_dst": 7}, {"eth_type": 0xFFFF, "l4_dst": 7}, "dl_type=0x88b5"),
    ],
)
def test_a_rule_is_for_the_packets_that_its_key_says(
    of_key: dict[str, object], of_mask: dict[str, object], text: str
) -> None:
    known, value = key_bits(key(**of_key), key(**of_mask))
    assert sorted(format_match(known, value).split(",")) == sorted(text.split(","))


def flow(output: int | None, *, priority: int = 1, port: int | None = 1, **fields: int) -> Flow:
    """Return a flow of table 0."""
    mask = 0 if port is None else IN_PORT.ones
    value = 0 if port is None else IN_PORT.place(port)
    for name, content in fields.items():
        mask |= FIELDS[name].ones
        value |= FIELDS[name].place(content)
    actions = () if output is None else (model.Output(output),)
    return model.Flow(0, priority, mask, value, actions)


UDP = {"eth_type": 0x800, "ip_proto": 17}
TCP = {"eth_type": 0x800, "ip_proto": 6}


def bits(**fields: int) -> tuple[int, int]:
    """Return what is known of packets with these fields."""
    known = sum(FIELDS[name].ones for name in fields)
    return known, sum(FIELDS[name].place(content) for name, content in fields.items())


def new_detector(*flows: Flow) -> Detector:
    """Return a detector of one bridge."""
    detector = Detector()
    ports = {number: PortSettings(highway=f"p{number}") for number in (1, 2, 3)}
    ports[9] = PortSettings()
    detector.configure({"br0": BridgeSettings(ports=ports)})
    detector.take("br0", [*start_events(), *map(model.FlowSet, flows)])
    detector.decide()
    return detector


def test_a_change_concerns_the_classes_that_it_can_meet() -> None:
    changes = Changes(flows=[flow(None, priority=9, **UDP)])
    assert touches(changes, *bits(**UDP))
    assert not touches(changes, *bits(**TCP))
    assert touches(Changes(groups={1}), *bits(**TCP))


def test_a_survey_tells_which_ports_a_change_concerns() -> None:
    detector = new_detector(flow(2, priority=5), flow(1, port=2), flow(3, port=None, priority=2))
    surveys = Surveys(detector)
    ports = {"p1", "p2"}
    assert surveys.concerned(ports, "br0", Changes(flows=[flow(2, priority=0)])) == ports
    assert surveys.make("p1")
    assert surveys.make("p2")
    for one, concerned in (
        (flow(3, priority=9, **UDP), {"p1"}),
        (flow(3, priority=4, **UDP), set()),  # below what takes all of p1's
        (flow(3, port=None, priority=9), {"p1", "p2"}),
        (flow(3, port=3, priority=9), set()),
    ):
        assert surveys.concerned(ports, "br0", Changes(flows=[one])) == concerned


def test_a_class_stays_right_while_other_classes_go_elsewhere() -> None:
    detector = new_detector(flow(2), flow(3, priority=9, **TCP))
    assert detector.verdicts["p1"].peer is None
    assert still_right(detector, "p1", "p2", *bits(**UDP))
    assert not still_right(detector, "p1", "p3", *bits(**UDP))
    assert still_right(detector, "p1", "p3", *bits(**TCP))
    assert not still_right(detector, "p1", "p2", *bits())


def test_a_time_out_ends_a_proof_but_no_rule() -> None:
    one = flow(2)
    detector = new_detector(model.Flow(0, 1, one.mask, one.value, one.actions, 0, True))
    assert detector.verdicts["p1"].peer is None
    assert still_right(detector, "p1", "p2", *bits(**UDP))


def test_explain_names_the_flow_that_decides() -> None:
    detector = new_detector(flow(2), flow(None, priority=9, udp_dst=53, **UDP))
    found = explain(detector, "p1")
    assert (found.peer, found.kind) == (None, "drop")
    assert "priority=9" in found.reason
    assert found.advice
    for_tcp = explain(detector, "p1", *bits(**TCP))
    assert (for_tcp.peer, for_tcp.reason, len(for_tcp.flows)) == ("p2", "", 1)
