# SPDX-License-Identifier: Apache-2.0
"""What the installed Open vSwitch itself sees in a frame: `ovs-ofctl parse-pcap`, no daemon."""

from __future__ import annotations

import ipaddress
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from .ovs_model import (
    FRAG_ANY,
    FRAG_LATER,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    SCTP,
    TCP,
    UDP,
    VLAN_PRESENT,
    Flow,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SHORT: Final = {
    "ip": (IPV4, 0),
    "ipv6": (IPV6, 0),
    "icmp": (IPV4, ICMP),
    "tcp": (IPV4, TCP),
    "udp": (IPV4, UDP),
    "sctp": (IPV4, SCTP),
    "icmp6": (IPV6, ICMPV6),
    "tcp6": (IPV6, TCP),
    "udp6": (IPV6, UDP),
    "sctp6": (IPV6, SCTP),
    "arp": (0x0806, 0),
    "rarp": (0x8035, 0),
    "mpls": (0x8847, 0),
    "mplsm": (0x8848, 0),
}
"""ovs-fields(7), "Shorthands"."""
_FLAGS: Final = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns")
_FRAGMENTS: Final = {"no": 0, "first": FRAG_ANY, "later": FRAG_ANY | FRAG_LATER}


def _tcp_flags(text: str) -> int:
    if text == "0":
        return 0
    flags = 0
    for name in text.split("|"):
        flags |= int(name[1:-1], 16) if name.startswith("[") else 1 << _FLAGS.index(name)
    return flags


def parse_flow(line: str) -> Flow:
    """Return a flow from OVS's text, without the TPID, which it does not print."""
    flow = Flow()
    fields: dict[str, str] = {}
    for part in line.split(","):
        name, equals, value = part.partition("=")
        if equals:
            fields[name] = value
        else:
            flow.dl_type, flow.nw_proto = _SHORT[name]
    flow.dl_dst = int(fields["dl_dst"].replace(":", ""), 16)
    flow.dl_src = int(fields["dl_src"].replace(":", ""), 16)
    flow.dl_type = int(fields.get("dl_type", str(flow.dl_type)), 0)
    if "dl_vlan" in fields:
        flow.vlan_tci = VLAN_PRESENT | int(fields["dl_vlan_pcp"]) << 13 | int(fields["dl_vlan"])
    if flow.dl_type in (IPV4, IPV6):
        _parse_ip(flow, fields)
    return flow


def _parse_ip(flow: Flow, fields: dict[str, str]) -> None:
    prefix = "nw" if flow.dl_type == IPV4 else "ipv6"
    flow.nw_src = int(ipaddress.ip_address(fields[f"{prefix}_src"]))
    flow.nw_dst = int(ipaddress.ip_address(fields[f"{prefix}_dst"]))
    flow.nw_proto = int(fields.get("nw_proto", str(flow.nw_proto)))
    flow.nw_tos = int(fields["nw_tos"]) | int(fields["nw_ecn"])
    flow.nw_ttl = int(fields["nw_ttl"])
    flow.nw_frag = _FRAGMENTS[fields["nw_frag"]]
    flow.tp_src = int(fields.get("icmp_type", fields.get("tp_src", "0")))
    flow.tp_dst = int(fields.get("icmp_code", fields.get("tp_dst", "0")))
    flow.tcp_flags = _tcp_flags(fields.get("tcp_flags", "0"))


def flows_of(frames: Sequence[bytes], folder: Path) -> list[Flow]:
    """Return what OVS sees in each frame; skip the test if there is no OVS."""
    program = shutil.which("ovs-ofctl")
    if program is None:
        pytest.skip("no ovs-ofctl; run 'make setup' as root")
    path = folder / "frames.pcap"
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            file.write(struct.pack("=IIII", 0, 0, len(frame), len(frame)) + frame)
    run = subprocess.run(
        [program, "parse-pcap", str(path)], capture_output=True, text=True, check=True
    )
    lines = run.stdout.splitlines()
    assert len(lines) == len(frames), run.stderr
    return [parse_flow(line) for line in lines]
