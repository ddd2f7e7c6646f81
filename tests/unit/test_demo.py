# SPDX-License-Identifier: Apache-2.0
"""The pure parts of the demo: what it reads, what it concludes, and how it looks in a pipe."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import replace

import pytest

from ovs_highway.demo import __main__ as program
from ovs_highway.demo import openflow
from ovs_highway.demo.chain import HOPS, PORTS, Counts, place
from ovs_highway.demo.openflow import PortCount
from ovs_highway.demo.screen import Screen
from ovs_highway.demo.story import Outcome, hop_counts

FLOWS = """NXST_FLOW reply (xid=0x4):
 cookie=0x0, duration=1.2s, table=0, n_packets=40, n_bytes=2560, idle_age=0, \
priority=40000,udp,in_port=source,tp_dst=80 actions=output:web
 cookie=0x0, duration=8.536s, table=0, n_packets=17141696, n_bytes=1097068544, idle_age=0, \
in_port=source actions=output:fw0
"""
PORT_LINES = """OFPST_PORT reply (xid=0x2): 3 ports
  port LOCAL: rx pkts=0, bytes=0, drop=0, errs=0, frame=0, over=0, crc=0
           tx pkts=0, bytes=0, drop=0, errs=0, coll=0
  port  source: rx pkts=17, bytes=1088, drop=0, errs=0, frame=?, over=?, crc=?
           tx pkts=0, bytes=0, drop=0, errs=0, coll=?
  port  "a-b": rx pkts=3, bytes=1, drop=0, errs=0, frame=?, over=?, crc=?
           tx pkts=12, bytes=8, drop=5, errs=0, coll=?
"""
GOOD = Outcome(
    mpps_normal=1.0,
    mpps_bypass=9.0,
    flow_packets=5,
    vnf_packets=5,
    counters=True,
    packet_out=True,
    split=True,
    removed=True,
)


def counts(packets: int, *, dropped: int = 0) -> Counts:
    """Return counters after some packets have gone all the way."""
    return Counts(
        rules={f"in_port={sender}": packets for sender, _ in HOPS},
        ports={
            port: PortCount(rx_packets=packets, tx_packets=packets - dropped, tx_dropped=dropped)
            for port in PORTS
        },
        sent=dict.fromkeys(PORTS, packets),
        received=dict.fromkeys(PORTS, packets - dropped),
    )


def test_rules_are_read_without_their_priority() -> None:
    web, rest = openflow.parse_rules(FLOWS)
    assert (web.match, web.actions, web.packets) == (
        "udp,in_port=source,tp_dst=80",
        "output:web",
        40,
    )
    assert (rest.match, rest.packets, rest.bytes) == ("in_port=source", 17141696, 1097068544)


def test_ports_are_read_by_name() -> None:
    found = openflow.parse_ports(PORT_LINES)
    assert found["source"] == PortCount(rx_packets=17, tx_packets=0, tx_dropped=0)
    assert found["a-b"] == PortCount(rx_packets=3, tx_packets=12, tx_dropped=5)


def test_a_frame_has_its_length_and_text() -> None:
    found = openflow.frame("packet-out", 99)
    assert len(found) == 99
    assert b"packet-out" in found


def test_counters_agree_when_nothing_is_missing() -> None:
    assert all(hop.agree for hop in hop_counts(counts(3), counts(1003)))


def test_what_the_switch_says_it_dropped_is_not_missing() -> None:
    hops = hop_counts(counts(0), counts(1000, dropped=10))
    assert all(hop.agree and hop.dropped == 10 for hop in hops)


@pytest.mark.parametrize("field", ["sent", "rule", "port_rx", "port_tx", "received", "dropped"])
def test_a_single_packet_too_many_anywhere_is_noticed(field: str) -> None:
    hop = hop_counts(counts(0), counts(1000))[0]
    assert hop.agree
    assert not replace(hop, **{field: getattr(hop, field) + 1}).agree


def test_a_good_outcome_has_no_problems() -> None:
    assert GOOD.problems() == []


@pytest.mark.parametrize(
    "change",
    [
        {"mpps_bypass": 0.0},
        {"flow_packets": 4},
        {"counters": False},
        {"packet_out": False},
        {"split": False},
        {"removed": False},
    ],
)
def test_each_thing_that_does_not_hold_is_a_problem(change: dict[str, float | int | bool]) -> None:
    assert len(replace(GOOD, **change).problems()) == 1  # type: ignore[arg-type]


def test_the_last_line_is_one_json_object_with_the_keys_promised() -> None:
    line = program.last_line(GOOD)
    assert "\n" not in line
    assert json.loads(line) == {
        "mpps_normal": 1.0,
        "mpps_bypass": 9.0,
        "flow_packets": 5,
        "vnf_packets": 5,
        "packet_out": True,
        "split": True,
        "removed": True,
    }


@pytest.mark.parametrize(
    ("cores", "placed"),
    [
        ([0], [0, 0, 0, 0]),
        ([0, 1], [0, 1, 0, 1]),
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 1, 2, 3, 4], [0, 1, 2, 3]),
    ],
)
def test_vnfs_leave_the_switch_its_core_where_there_are_enough(
    cores: list[int], placed: list[int]
) -> None:
    assert place(cores) == placed


def test_a_pipe_gets_plain_lines() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.title("A step")
    screen.command("ovs-ofctl dump-flows br0", "one\ntwo\n")
    screen.verdict(True, "it [holds]")
    screen.verdict(False, "it does not")
    screen.table(["hop", "packets"], [["a → b", 1234567], ["b → c", 8]])
    assert stream.getvalue() == (
        "\n== A step\n"
        "   $ ovs-ofctl dump-flows br0\n"
        "     one\n"
        "     two\n"
        "   ok: it [holds]\n"
        "   WRONG: it does not\n"
        "   hop      packets\n"
        "   a → b  1,234,567\n"
        "   b → c          8\n"
    )


def test_a_rate_is_that_of_the_whole_time() -> None:
    stream = io.StringIO()
    counter = itertools.count(0, 1000)
    rate = Screen(stream).watch("at the sink", 0.3, lambda: next(counter))
    assert rate > 0
    assert "Mpps" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
