# SPDX-License-Identifier: Apache-2.0
"""Matches: what they mean, against OVS's own writing of them, and what is said of wrong ones."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_highway.graph.match import field_bits, join, overlap, parse_match
from ovs_highway.openflow.fields import FIELDS
from ovs_highway.openflow.text import format_match


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", ""),
        ("tcp, tp_dst=80", "tcp,tp_dst=80"),
        ("tcp,tcp_dst=80", "tcp,tp_dst=80"),
        ("dl_type=0x800,nw_proto=6,tp_dst=80", "tcp,tp_dst=80"),
        ("tp_dst=0x50/0xfff0,tcp6", "tcp6,tp_dst=0x50/0xfff0"),
        ("ip,nw_dst=10.1.2.3/8", "ip,nw_dst=10.0.0.0/8"),
        ("ip,ip_src=10.0.0.1/255.0.0.255", "ip,nw_src=10.0.0.1/255.0.0.255"),
        ("ipv6,ipv6_dst=fe80::/10", "ipv6,ipv6_dst=fe80::/10"),
        ("dl_vlan=25", "dl_vlan=25"),
        ("dl_vlan=0xffff", "vlan_tci=0x0000/0x1fff"),
        ("vlan_vid=0x1000/0x1000", "vlan_tci=0x1000/0x1000"),
        ("dl_vlan=25,dl_vlan_pcp=3", "dl_vlan=25,dl_vlan_pcp=3"),
        ("arp,nw_src=10.0.0.1,nw_proto=1", "arp,arp_spa=10.0.0.1,arp_op=1"),
        ("icmp6,icmp_type=135", "icmp6,icmp_type=135"),
        (
            "eth_dst=01:00:00:00:00:00/01:00:00:00:00:00",
            "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
        ),
        ("tcp,tcp_flags=+syn-ack", "tcp,tcp_flags=+syn-ack"),
        ("tcp,tcp_flags=syn|ack", "tcp,tcp_flags=syn|ack"),
        ("ip,nw_frag=later", "ip,nw_frag=later"),
        ("ip,nw_tos=40,nw_ecn=1,nw_ttl=64", "ip,nw_tos=40,nw_ecn=1,nw_ttl=64"),
        ("dl_type=0x88cc", "dl_type=0x88cc"),
    ],
)
def test_a_match_is_written_as_ovs_would(text: str, written: str) -> None:
    assert format_match(*parse_match(text)) == written
    assert parse_match(written) == parse_match(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tp_dst=80", "tp_dst needs tcp, udp or sctp; write tcp,tp_dst=…"),
        ("ip,tcp_dst=80", "tcp_dst needs tcp; write tcp,tcp_dst=…"),
        ("nw_src=10.0.0.1", "nw_src needs ip; write ip,nw_src=…"),
        ("nw_proto=6", "nw_proto needs ip or ipv6; write ip,nw_proto=…"),
        ("tcp,tp_dts=80", "did you mean 'tp_dst'?"),
        ("tpc", "'tpc' is unknown; did you mean 'tcp'?"),
        ("in_port=3", "'from' says where packets come from"),
        ("tcp,udp", "ip_proto has two values, so nothing matches; keep one"),
        ("tcp,tcp", "'tcp' stands twice; keep one"),
        ("tcp,tp_dst=65536", "does not fit into 16 bits"),
        ("tcp,tp_dst=http", "is no number"),
        ("dl_vlan=4096", "dl_vlan=4096 is no tag"),
        ("dl_src=1:2", "give a MAC address"),
        ("ip,nw_src=10.0.0", "give an IPv4 address"),
        ("ip,nw_src=10.0.0.0/33", "at most 32 bits"),
        ("ip,nw_frag=maybe", "give one of no, yes"),
        ("tcp,tcp_flags=+sin", "'sin' is no flag"),
        ("tcp,tcp_flags=+syn+syn", "a flag stands twice"),
        ("ip,nw_tos=1", "has ECN bits"),
    ],
)
def test_what_is_said_of_a_wrong_match(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        parse_match(text)


FIELD = st.sampled_from(
    ["eth_src", "vlan_tci", "ipv4_src", "ip_proto", "ip_dscp", "ip_ttl", "tcp_dst", "tcp_flags"]
)


@given(st.dictionaries(FIELD, st.tuples(st.integers(0), st.integers(0))))
def test_what_is_written_is_read_again(parts: dict[str, tuple[int, int]]) -> None:
    total = parse_match("tcp")
    for name, (mask, value) in parts.items():
        mask &= FIELDS[name].ones >> FIELDS[name].offset
        whole = name in ("ip_ttl", "ip_proto") and mask
        mask = FIELDS[name].ones >> FIELDS[name].offset if whole else mask
        total = join(total, field_bits(name, mask, value & mask)) or total
    assert parse_match(format_match(*total)) == total


BITS = st.builds(lambda mask, value: (mask, value & mask), st.integers(0, 63), st.integers(0, 63))


@given(BITS, BITS)
def test_overlap_and_join_are_those_of_the_packets(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    both = {p for p in range(64) if p & one[0] == one[1] and p & other[0] == other[1]}
    assert overlap(one, other) == bool(both)
    joined = join(one, other)
    assert both == ({p for p in range(64) if p & joined[0] == joined[1]} if joined else set())
