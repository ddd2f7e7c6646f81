# SPDX-License-Identifier: Apache-2.0
"""Parsers of what dpdk-testpmd prints (app/test-pmd/config.c and testpmd.c of DPDK)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ovs_highway.errors import SandboxError

_NUMBER: Final = re.compile(r"([RT]X-[A-Za-z]+):\s*(\d+)")
_FIELD: Final = re.compile(r"^([A-Z][^:\n]*?):[ \t]*(.*?)\s*$", re.MULTILINE)
_XSTAT: Final = re.compile(r"^(\S+): (\d+)$", re.MULTILINE)
_FWD_BLOCK: Final = re.compile(
    r"Forward statistics for port (\d+)\s+-+\n(.*?)\n\s+-{8,}", re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortStats:
    """The basic statistics of one port, since its start or their last clearing.

    Packets and bytes; bytes are without the frame check sequence.
    """

    rx_packets: int
    rx_missed: int
    rx_bytes: int
    rx_errors: int
    rx_nombuf: int
    tx_packets: int
    tx_errors: int
    tx_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FwdStats:
    """What the forwarding loop counted for one port, in packets, since the last `start`."""

    rx_packets: int
    rx_dropped: int
    tx_packets: int
    tx_dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PortInfo:
    """What the application knows of one port; `link_speed` as testpmd words it."""

    mac: str
    name: str
    driver: str
    link_up: bool
    link_speed: str
    mtu: int
    promiscuous: bool
    rx_queues: int
    tx_queues: int
    max_rx_queues: int
    max_tx_queues: int


def port_stats(text: str) -> PortStats:
    """Parse `show port stats N`.

    Raises:
        SandboxError: a counter is missing.
    """
    found = {name: int(value) for name, value in _NUMBER.findall(text)}
    try:
        return PortStats(
            rx_packets=found["RX-packets"],
            rx_missed=found["RX-missed"],
            rx_bytes=found["RX-bytes"],
            rx_errors=found["RX-errors"],
            rx_nombuf=found["RX-nombuf"],
            tx_packets=found["TX-packets"],
            tx_errors=found["TX-errors"],
            tx_bytes=found["TX-bytes"],
        )
    except KeyError as error:
        raise _unreadable("port statistics", text, error) from error


def xstats(text: str) -> dict[str, int]:
    """Parse `show port xstats N` into a counter per name."""
    return {name: int(value) for name, value in _XSTAT.findall(text)}


def fwd_stats(text: str) -> dict[int, FwdStats]:
    """Parse `show fwd stats all`, or what `stop` prints, into statistics per port id.

    Raises:
        SandboxError: a counter is missing.
    """
    result = {}
    for port, block in _FWD_BLOCK.findall(text):
        found = {name: int(value) for name, value in _NUMBER.findall(block)}
        try:
            result[int(port)] = FwdStats(
                rx_packets=found["RX-packets"],
                rx_dropped=found["RX-dropped"],
                tx_packets=found["TX-packets"],
                tx_dropped=found["TX-dropped"],
            )
        except KeyError as error:
            raise _unreadable("forward statistics", block, error) from error
    return result


def port_info(text: str) -> PortInfo:
    """Parse `show port info N`.

    Raises:
        SandboxError: a field is missing.
    """
    found = dict(_FIELD.findall(text))
    try:
        return PortInfo(
            mac=found["MAC address"].lower(),
            name=found["Device name"],
            driver=found["Driver name"],
            link_up=found["Link status"] == "up",
            link_speed=found["Link speed"],
            mtu=int(found["MTU"]),
            promiscuous=found["Promiscuous mode"] == "enabled",
            rx_queues=int(found["Current number of RX queues"]),
            tx_queues=int(found["Current number of TX queues"]),
            max_rx_queues=int(found["Max possible RX queues"]),
            max_tx_queues=int(found["Max possible TX queues"]),
        )
    except (KeyError, ValueError) as error:
        raise _unreadable("port information", text, error) from error


def refusal(text: str) -> str | None:
    """Return the line in which testpmd refuses a command, or None if it took it.

    Refusals are worded by librte_cmdline (cmdline.c); what a command itself reports is not one.
    """
    for line in text.splitlines():
        if line.strip() in ("Command not found", "Bad arguments", "Ambiguous command"):
            return line.strip()
    return None


def _unreadable(what: str, text: str, error: Exception) -> SandboxError:
    shown = " | ".join(text.split("\n"))[:200]
    return SandboxError(f"testpmd's {what} lack {error}: {shown!r}; is this DPDK supported?")
