# SPDX-License-Identifier: Apache-2.0
"""What ovs-ofctl prints, as far as the demo needs it; and a packet for it to send."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

_RULE: Final = re.compile(r"n_packets=(\d+), n_bytes=(\d+),.*? (\S+) actions=(\S+)")
_PORT: Final = re.compile(
    r"port\s+\"?([^\s\":]+)\"?: rx pkts=(\d+), bytes=(\d+),.*?\n\s+tx pkts=(\d+), bytes=(\d+),"
    r" drop=(\d+)"
)
_ETHERTYPE: Final = 0x88B5
"""IEEE 802, for local experiments: no program on the way takes it for its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCount:
    """The counters of one OpenFlow rule, in packets and bytes."""

    match: str
    actions: str
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCount:
    """The counters of one OpenFlow port, as the switch sees it, in packets."""

    rx_packets: int
    tx_packets: int
    tx_dropped: int


def parse_rules(dump_flows: str) -> list[RuleCount]:
    """Parse what `ovs-ofctl dump-flows` prints; `match` is without the priority."""
    return [
        RuleCount(
            match=re.sub(r"^priority=\d+,?", "", match),
            actions=actions,
            packets=int(packets),
            bytes=int(octets),
        )
        for packets, octets, match, actions in _RULE.findall(dump_flows)
    ]


def parse_ports(dump_ports: str) -> dict[str, PortCount]:
    """Parse what `ovs-ofctl dump-ports` prints, by port name or number as it is printed."""
    return {
        port: PortCount(rx_packets=int(rx), tx_packets=int(tx), tx_dropped=int(dropped))
        for port, rx, _, tx, _, dropped in _PORT.findall(dump_ports)
    }


def frame(text: str, length: int) -> bytes:
    """Return an Ethernet frame of a length in bytes, with a text in it."""
    head = struct.pack("!6s6sH", b"\x02\0\0\0\0\x02", b"\x02\0\0\0\0\x01", _ETHERTYPE)
    return (head + text.encode()).ljust(length, b"\0")
