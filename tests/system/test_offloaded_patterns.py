# SPDX-License-Identifier: Apache-2.0
"""The patterns that the real OVS sends are those that the unit tests take for OVS's."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import becomes
from tests.unit import frames
from tests.unit.driver_classifier import Driver, compile_driver
from tests.unit.ovs_items import items_of
from tests.unit.ovs_model import (
    FRAG_LATER,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    SCTP,
    TCP,
    UDP,
    VLAN_PRESENT,
    Match,
    extract,
)

from ovs_highway.shm import ffi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.scene import Scene

FLOWS: Final = 150
KINDS: Final = (IPV4, IPV6, 0x88CC, 0x0BAD)
NEIGHBOUR_DISCOVERY: Final = (135, 136)
PORTS: Final = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
FRAGMENTS: Final = ("no", "first", "", "later")


def mac(value: int) -> str:
    return value.to_bytes(6, "big").hex(":")


def address(kind: int, value: int) -> str:
    return str(ipaddress.IPv4Address(value) if kind == IPV4 else ipaddress.IPv6Address(value))


def ip_text(match: Match) -> str:
    """Return the IP and layer 4 part of ovs-dpctl's text for a flow."""
    value, mask = match.value, match.mask
    kind = value.dl_type
    tos, ttl = ("tos", "ttl") if kind == IPV4 else ("tclass", "hlimit")
    parts = [
        f"{name}={address(kind, getattr(value, field))}/{address(kind, getattr(mask, field))}"
        for name, field in (("src", "nw_src"), ("dst", "nw_dst"))
    ]
    parts += [
        f"{name}={getattr(value, field)}/{getattr(mask, field):#x}"
        for name, field in (("proto", "nw_proto"), (tos, "nw_tos"), (ttl, "nw_ttl"))
    ]
    text = (
        f"{'ipv4' if kind == IPV4 else 'ipv6'}({','.join(parts)},frag={FRAGMENTS[value.nw_frag]})"
    )
    if value.nw_frag & FRAG_LATER:
        return text
    if value.nw_proto in PORTS:
        ports = f"src={value.tp_src}/{mask.tp_src:#x},dst={value.tp_dst}/{mask.tp_dst:#x}"
        text += f",{PORTS[value.nw_proto]}({ports})"
    if value.nw_proto == TCP:
        text += f",tcp_flags({value.tcp_flags:#x}/{mask.tcp_flags:#x})"
    if (kind, value.nw_proto) in ((IPV4, ICMP), (IPV6, ICMPV6)):
        name = "icmp" if kind == IPV4 else "icmpv6"
        codes = f"type={value.tp_src}/{mask.tp_src:#x},code={value.tp_dst}/{mask.tp_dst:#x}"
        text += f",{name}({codes})"
    return text


def flow_text(match: Match, port: str) -> str:
    """Return ovs-dpctl's text for a flow."""
    value, mask = match.value, match.mask
    macs = f"src={mac(value.dl_src)}/{mac(mask.dl_src)},dst={mac(value.dl_dst)}/{mac(mask.dl_dst)}"
    inner = f"eth_type({value.dl_type:#06x})"
    if value.dl_type in (IPV4, IPV6):
        inner += "," + ip_text(match)
    if value.vlan_tci:
        tag = f"vid={value.vlan_tci & 0xFFF}/{mask.vlan_tci & 0xFFF:#x}"
        tag += f",pcp={value.vlan_tci >> 13}/{mask.vlan_tci >> 13:#x},cfi=1/1"
        inner = f"eth_type({value.vlan_tpid:#06x}),vlan({tag}),encap({inner})"
    return f"recirc_id(0),in_port({port}),eth({macs}),{inner}"


def random_matches(r: Random) -> list[Match]:
    """Return datapath flows that ovs-dpctl can be told of, each with a source of its own."""
    found: list[Match] = []
    while len(found) < FLOWS:
        flow = extract(frames.any_frame(r), vlan_limit=1)
        if flow.dl_type not in KINDS or (not flow.nw_ttl and flow.dl_type in (IPV4, IPV6)):
            continue
        match = frames.random_match(r, flow)
        tagged = bool(flow.vlan_tci)
        match.mask.vlan_tci = match.mask.vlan_tci | VLAN_PRESENT if tagged else 0xFFFF
        match.mask.vlan_tpid = 0xFFFF if tagged else 0
        odd = {IPV4: (ICMPV6,), IPV6: (ICMP,)}.get(flow.dl_type, ())
        if flow.nw_proto in odd or (flow.nw_proto == ICMPV6 and match.depth == 2):
            continue
        if flow.nw_proto == ICMPV6 and flow.tp_src in NEIGHBOUR_DISCOVERY:
            continue
        flow.dl_src = len(found) + 1
        match.mask.dl_src |= 0xFFFF
        found.append(match)
    return found


@contextlib.contextmanager
def paused(scene: Scene) -> Iterator[None]:
    """Keep OVS from deleting datapath flows that it has not made itself."""
    scene.sandbox.appctl("revalidator/pause")
    try:
        yield
    finally:
        scene.sandbox.appctl("revalidator/resume")


@pytest.mark.parametrize("seed", [1])
def test_ovs_sends_the_patterns_that_the_model_says(
    scene: Scene, tmp_path: Path, seed: int
) -> None:
    """Random datapath flows reach the rule table as the model of OVS and the driver say.

    Steps: two ports; revalidators paused; random flows from p1 to p2 put into the datapath.
    Verify: the keys and masks of p1's rules are those of the model's patterns; none was refused.
    """
    driver = Driver(compile_driver(tmp_path, "base"))
    scene.ports(2)
    shown = scene.sandbox.appctl("dpif/show")
    numbers = dict(re.findall(r"(p\d) \d+/(\d+):", shown))
    expected, inert, texts = set(), 0, []
    with paused(scene):
        for match in random_matches(Random(seed)):
            text = flow_text(match, numbers["p1"])
            items = items_of(match)
            assert items is not None
            rule = driver.parse(items)
            assert rule is not None
            scene.sandbox.appctl("dpctl/add-flow", text, numbers["p2"])
            texts.append(text)
            inert += not rule.usable
            if rule.usable:
                expected.add((rule.key.hex(), rule.mask.hex()))
        assert len(expected) > FLOWS // 3
        assert inert > 0
        region = scene.region(1)

        def rules() -> set[tuple[str, str]]:
            return {
                (bytes(ffi.buffer(rule.key)).hex(), bytes(ffi.buffer(rule.mask)).hex())
                for rule in region.rules()
            }

        def difference() -> list[tuple[str, str]]:
            return sorted(rules() ^ expected)

        becomes(difference, [], f"seed {seed}: keys and masks of only OVS or the model: {texts}")
        becomes(lambda: region.switch().rules_inert, inert, "inert rules")
        assert region.switch().rules_refused == 0
