# SPDX-License-Identifier: Apache-2.0
"""The parsers of testpmd's output, on output recorded with DPDK 22.11.11."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovs_highway.errors import SandboxError
from ovs_highway.lab import parse
from ovs_highway.lab.parse import FwdStats, PortStats

DATA = Path(__file__).parent / "data"


def recorded(name: str) -> str:
    return (DATA / f"testpmd-{name}.txt").read_text()


def test_port_stats_are_read_to_the_packet() -> None:
    assert parse.port_stats(recorded("port-stats")) == PortStats(
        rx_packets=19942976,
        rx_missed=0,
        rx_bytes=0,
        rx_errors=0,
        rx_nombuf=0,
        tx_packets=0,
        tx_errors=0,
        tx_bytes=0,
    )


def test_rates_are_not_taken_for_counters() -> None:
    text = recorded("port-stats").replace("Rx-pps:            0", "Rx-pps:       999999")
    assert parse.port_stats(text).rx_packets == 19942976


def test_xstats_keep_every_counter_and_no_heading() -> None:
    found = parse.xstats(recorded("port-xstats"))
    assert found["rx_good_packets"] == 19942976
    assert found["tx_q0_bytes"] == 0
    assert len(found) == 13


def test_forward_stats_are_per_port_without_the_sum() -> None:
    assert parse.fwd_stats(recorded("stop")) == {
        0: FwdStats(rx_packets=19315776, rx_dropped=0, tx_packets=0, tx_dropped=0),
        1: FwdStats(rx_packets=0, rx_dropped=0, tx_packets=19315776, tx_dropped=0),
    }


def test_port_info_knows_link_mac_and_queues() -> None:
    info = parse.port_info(recorded("port-info"))
    assert (info.name, info.driver, info.mtu) == ("net_null0", "net_null", 1500)
    assert info.mac == info.mac.lower()
    assert info.link_up
    assert info.link_speed == "10 Gbps"
    assert (info.rx_queues, info.max_rx_queues) == (1, 1024)


def test_a_link_that_is_down_is_seen() -> None:
    text = recorded("port-info").replace("Link status: up", "Link status: down")
    assert not parse.port_info(text).link_up


@pytest.mark.parametrize("parser", [parse.port_stats, parse.port_info])
def test_output_without_the_fields_is_refused_with_what_was_seen(parser: object) -> None:
    assert callable(parser)
    with pytest.raises(SandboxError, match="Invalid port 7"):
        parser("Invalid port 7\n")


@pytest.mark.parametrize("line", ["Command not found", "Bad arguments", "Ambiguous command"])
def test_refused_commands_are_noticed(line: str) -> None:
    assert parse.refusal(f"some text\n{line}\n") == line


def test_an_answer_is_no_refusal() -> None:
    assert parse.refusal(recorded("stop")) is None
