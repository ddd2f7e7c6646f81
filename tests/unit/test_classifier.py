# SPDX-License-Identifier: Apache-2.0
"""The driver's classifier against brute force over OVS's own idea of frames and flows."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovs_highway import shm

from . import frames
from .driver_classifier import (
    CONFLICT,
    ISAS,
    NONE,
    UNLINKED,
    Driver,
    Rule,
    Table,
    compile_driver,
    peers_of,
)
from .ovs_items import items_of
from .ovs_model import FRAG_ANY, TCP, UDP, Flow, Match, doubts, extract

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS: Final = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow]
)
VLAN_LIMITS: Final = (1, 2)
LONGEST_WALK: Final = 32
"""Entries of one mask that a look-up may pass; a table is at most a quarter full."""


@pytest.fixture(scope="module", params=ISAS)
def driver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    return Driver(compile_driver(tmp_path_factory.mktemp("classifier"), request.param))


@dataclass
class Case:
    """Frames of a port, and the datapath flows that OVS has for it."""

    packets: list[bytes]
    matches: list[Match]
    links: list[int]

    def __repr__(self) -> str:
        lines = [f"frame {packet.hex()}" for packet in self.packets]
        pairs = zip(self.matches, self.links, strict=True)
        lines += [f"to {link}: {match.value}\n    masked {match.mask}" for match, link in pairs]
        return "\n".join(lines)


def case_of(r: Random, n_packets: int, n_flows: int) -> Case:
    """Return a case whose flows were made for frames like these, some of them for these."""
    packets = [frames.any_frame(r) for _ in range(n_packets)]
    seen = [extract(packet, vlan_limit=r.choice(VLAN_LIMITS)) for packet in packets]
    matches = frames.matches_for(r, seen, n_flows)
    usual = r.randrange(3)
    links = [r.choice((usual, usual, usual, 0, 1, 2, UNLINKED)) for _ in matches]
    return Case(packets, matches, links)


def shallow_case_of(r: Random, n_packets: int, n_flows: int) -> Case:
    """Return a case of IPv4 for the fast way: a few flows that look at little."""
    packets = [frames.any_ipv4(r) for _ in range(n_packets)]
    seen = [extract(packet, vlan_limit=1) for packet in packets]
    matches = [frames.shallow_match(r, r.choice(seen)) for _ in range(n_flows)]
    return Case(packets, matches, [r.choice((0, 0, 1)) for _ in matches])


RANDOM = st.integers(0, 2**32 - 1).map(Random)
CASES = st.builds(case_of, RANDOM, n_packets=st.integers(1, 12), n_flows=st.integers(1, 40))
SHALLOW_CASES = st.builds(
    shallow_case_of, RANDOM, n_packets=st.integers(1, 40), n_flows=st.integers(1, 4)
)


def offloaded(driver: Driver, case: Case) -> tuple[Case, list[Rule]]:
    """Return the case with only the flows that OVS offloads, and how the driver reads those."""
    kept = Case(case.packets, [], [])
    rules = []
    for match, link in zip(case.matches, case.links, strict=True):
        items = items_of(match)
        if items is None:
            continue
        rule = driver.parse(items)
        assert rule is not None, f"refused: {items}"
        assert rule.usable is not bool(match.value.nw_frag & match.mask.nw_frag & FRAG_ANY)
        rules.append(rule)
        kept.matches.append(match)
        kept.links.append(link)
    return kept, rules


def check_frame(table: Table, case: Case, frame: bytes, first: int) -> None:
    """Compare the driver's verdict on a frame with brute force, over all that OVS may see."""
    verdict = table.lookup(frame)
    for limit in VLAN_LIMITS:
        flow = extract(frame, vlan_limit=limit)
        peers = peers_of(case.matches, case.links, flow)
        hint = f"{case}\nframe {frame.hex()}: {flow}, to {peers}, driver: {verdict}"
        if verdict >= 0:
            assert peers == {case.links[verdict]} != {UNLINKED}, hint
            assert case.matches[verdict].covers(flow), hint
        elif verdict == CONFLICT:
            assert len(peers) > 1, hint
        else:
            excused = flow.nw_frag or doubts(frame, table.depth)
            assert peers <= {UNLINKED} or excused, hint
    chained = table.lookup(frame, first)
    if min(chained, verdict) >= 0:  # of equal rules to the same peer, any may be found
        chained, verdict = case.links[chained], case.links[verdict]
    assert chained == verdict, f"{case}\nframe {frame.hex()}, first segment {first}"


def check_case(driver: Driver, case: Case, r: Random) -> bool:
    """Compare all frames of a case; return whether the fast way is taken, or no rule used."""
    case, rules = offloaded(driver, case)
    usable = [index for index, rule in enumerate(rules) if rule.usable]
    links = [case.links[index] for index in usable]
    with driver.table([rules[index] for index in usable], links, r.getrandbits(64)) as table:
        # Rules that are not used come last, so that the driver's numbers are the case's.
        order = usable + [index for index in range(len(rules)) if index not in set(usable)]
        case.matches = [case.matches[index] for index in order]
        case.links = [case.links[index] for index in order]
        for frame in case.packets:
            check_frame(table, case, frame, r.randrange(len(frame) + 1))
        return table.plain or not usable


@SETTINGS
@given(case=CASES, seed=st.integers(0, 2**32 - 1))
def test_a_frame_matches_what_ovs_would_match(driver: Driver, case: Case, seed: int) -> None:
    check_case(driver, case, Random(seed))


@SETTINGS
@given(case=SHALLOW_CASES, seed=st.integers(0, 2**32 - 1))
def test_the_fast_way_matches_what_ovs_would_match(driver: Driver, case: Case, seed: int) -> None:
    fast = check_case(driver, case, Random(seed))
    assert fast or any(match.mask.dl_dst or match.mask.tcp_flags for match in case.matches)


@pytest.mark.parametrize(
    ("proto", "l4"),
    [
        (UDP, struct.pack(">HHHH", 5, 1000, 40, 0)),
        (TCP, struct.pack(">HHIIBBHHH", 5, 1000, 0, 0, 0x50, 0x10, 0, 0, 0)),
    ],
)
def test_ports_count_only_where_the_header_is_whole(driver: Driver, proto: int, l4: bytes) -> None:
    """A rule of a port, and frames with that port but other lengths in their headers.

    Verify: a frame goes by the rule just if the IP length has room for the layer-4 header, and the
    frame for the IP length; a TCP header is as long as it says.
    """
    payload = l4 + bytes(40 - len(l4))

    def frame(total_len: int, body: bytes = payload) -> bytes:
        ip = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, total_len, 0, 0, 9, proto, 0, b"\x0a" * 4, b"\x0b" * 4
        )
        return b"\x02" * 12 + b"\x08\x00" + ip + body

    whole = 20 + len(payload)
    mask = Flow(dl_type=0xFFFF, vlan_tci=0xFFFF, nw_proto=0xFF, nw_frag=3, tp_dst=0xFFFF)
    items = items_of(Match(value=extract(frame(whole), vlan_limit=1), mask=mask))
    assert items is not None
    rule = driver.parse(items)
    assert rule is not None
    with driver.table([rule], [0], 1) as table:
        for total_len in range(whole + 3):
            fits = 20 + len(l4) <= total_len <= whole
            assert table.lookup(frame(total_len)) == (0 if fits else NONE), total_len
        for words in range(16 if proto == TCP else 0):
            body = payload[:12] + bytes([words << 4]) + payload[13:]
            fits = 5 <= words <= len(payload) // 4
            assert table.lookup(frame(whole, body)) == (0 if fits else NONE), words


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_frames_match_what_ovs_would_match(driver: Driver) -> None:
    for seed in range(50_000):
        r = Random(seed)
        try:
            check_case(driver, case_of(r, 20, r.choice((1, 3, 10, 30))), r)
            check_case(driver, shallow_case_of(r, 20, r.choice((1, 2, 4))), r)
        except AssertionError:
            print(f"seed {seed}")
            raise


# ----------------------------------------------------------------------------------- capacity ---


def distinct_rules(driver: Driver, r: Random, n: int, n_masks: int) -> tuple[Case, list[Rule]]:
    """Return `n` rules for TCP over IPv4 that no frame matches two of, of `n_masks` masks.

    Each mask has source addresses of its own.
    """
    case = Case([], [], [])
    for index in range(n):
        which, number = index % n_masks, index // n_masks
        value = Flow(dl_type=0x0800, nw_proto=6, nw_src=which + 1, tp_src=r.randrange(1, 65536))
        value.nw_dst = number << 16 | r.randrange(65536)
        mask = Flow(dl_type=0xFFFF, vlan_tci=0xFFFF, nw_frag=3, nw_proto=0xFF, nw_src=0xFFFFFFFF)
        mask.nw_dst = 0xFFFF0000 | which
        case.matches.append(Match(value=value, mask=mask))
        case.links.append(index % 7)
        case.packets.append(tcp_frame(value))
    return case, offloaded(driver, case)[1]


def tcp_frame(flow: Flow) -> bytes:
    """Return a frame for a flow of TCP over IPv4."""
    head = bytes.fromhex("45000028000000004006") + bytes(2)
    ports = flow.tp_src.to_bytes(2, "big") + flow.tp_dst.to_bytes(2, "big")
    addresses = flow.nw_src.to_bytes(4, "big") + flow.nw_dst.to_bytes(4, "big")
    return bytes(12) + b"\x08\0" + head + addresses + ports + bytes(8) + b"\x50\x10" + bytes(6)


@pytest.mark.parametrize(
    ("n", "n_masks"), [(1, 1), (4, 1), (5, 1), (1024, 5), (4096, 1), (4096, 16), (4096, 4096)]
)
def test_every_one_of_many_rules_is_found(driver: Driver, n: int, n_masks: int) -> None:
    assert n <= shm.MAX_RULES
    case, rules = distinct_rules(driver, Random(n), n, n_masks)
    with driver.table(rules, case.links) as table:
        assert table.longest_walk <= LONGEST_WALK
        assert table.groups == len({rule.mask for rule in rules})
        for index, frame in enumerate(case.packets):
            assert table.lookup(frame) == index
        stranger = Flow(nw_src=0xFF000000)
        assert table.lookup(tcp_frame(stranger)) == NONE


def collide(n: int) -> list[int]:
    """Return `n` 64-bit words of which CRC-32C cannot tell any two apart.

    A CRC is linear: whatever is made of two words of checksum 0 has checksum 0 as well. So these
    are found by elimination, and are the same for any start value.
    """
    rows: dict[int, tuple[int, int]] = {}
    kernel = []
    for bit in range(64):
        word, crc = 1 << bit, 1 << bit
        for _ in range(64):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        while crc and (pivot := crc.bit_length()) in rows:
            crc, word = crc ^ rows[pivot][0], word ^ rows[pivot][1]
        if crc:
            rows[pivot] = crc, word
        else:
            kernel.append(word)
    words = [0]
    for base in kernel:
        words += [word ^ base for word in words]
        if len(words) >= n:
            break
    return words[:n]


ADDRESSES_THAT_COLLIDE: Final = {
    "low": range(4096),
    "high": [number << 52 for number in range(4096)],
    "middle": [number << 20 for number in range(4096)],
    "strided": [number * 0x9E3779B97F4A7C15 % 2**64 for number in range(4096)],
    "crc": collide(4096),
}


@pytest.mark.parametrize("kind", ADDRESSES_THAT_COLLIDE)
@pytest.mark.parametrize("seed", range(8))
def test_chosen_addresses_do_not_make_look_ups_slow(driver: Driver, kind: str, seed: int) -> None:
    rules = []
    for word in ADDRESSES_THAT_COLLIDE[kind]:
        value = Flow(dl_type=0x86DD, nw_src=int.from_bytes(word.to_bytes(8, "little") + bytes(8)))
        mask = Flow(dl_type=0xFFFF, vlan_tci=0xFFFF, nw_frag=3, nw_src=(1 << 128) - (1 << 64))
        items = items_of(Match(value=value, mask=mask))
        assert items is not None
        rule = driver.parse(items)
        assert rule is not None
        rules.append(rule)
    with driver.table(rules, [0] * len(rules), seed) as table:
        assert table.longest_walk <= LONGEST_WALK


def test_half_a_hash_is_not_taken_for_the_key(driver: Driver) -> None:
    """An entry carries 32 bits of its key's hash; that of another key may have the same."""
    values = [Flow(dl_type=0x0800, nw_src=source) for source in range(5)]
    mask = Flow(dl_type=0xFFFF, vlan_tci=0xFFFF, nw_frag=3, nw_src=0xFFFFFFFF)
    some = [rules_for(driver, [mask], value)[0] for value in values]
    with driver.table(some, [0] * 5) as table:
        one, other = table.twins(some[0].key)
    values[0] = Flow(dl_type=0x0800, nw_src=one)
    some[0] = rules_for(driver, [mask], values[0])[0]
    with driver.table(some, [0] * 5) as table:
        assert table.lookup(tcp_frame(Flow(nw_src=one))) == 0
        assert table.lookup(tcp_frame(Flow(nw_src=other))) == NONE


# -------------------------------------------------------------------------------- disagreement ---


def rules_for(driver: Driver, masks: Sequence[Flow], value: Flow) -> list[Rule]:
    """Return a rule for each mask, all of the same packet."""
    found = []
    for mask in masks:
        items = items_of(Match(value=value, mask=mask))
        assert items is not None
        rule = driver.parse(items)
        assert rule is not None
        found.append(rule)
    return found


WIDE: Final = Flow(dl_type=0xFFFF, vlan_tci=0xFFFF, nw_frag=3)
BY_DESTINATION: Final = Flow(dl_type=0xFFFF, vlan_tci=0xFFFF, nw_frag=3, nw_dst=0xFFFFFFFF)
PACKET: Final = Flow(dl_type=0x0800, nw_proto=6, nw_src=1, nw_dst=2)


@pytest.mark.parametrize("others", [0, 3, 4, 100])
@pytest.mark.parametrize(
    ("masks", "links", "verdict"),
    [
        ((WIDE, BY_DESTINATION), (1, 1), (0, 1)),
        ((WIDE, BY_DESTINATION), (1, 2), (CONFLICT,)),
        ((WIDE, WIDE), (1, 1), (0, 1)),
        ((WIDE, WIDE), (1, 2), (CONFLICT,)),
        ((WIDE, WIDE, WIDE), (1, 1, 2), (CONFLICT,)),
        ((BY_DESTINATION, BY_DESTINATION, WIDE), (1, 2, 1), (CONFLICT,)),
        ((WIDE, BY_DESTINATION, BY_DESTINATION), (1, 1, 2), (CONFLICT,)),
        ((WIDE,), (UNLINKED,), (NONE,)),
        ((WIDE, BY_DESTINATION), (UNLINKED, 1), (CONFLICT,)),
        ((BY_DESTINATION, BY_DESTINATION), (1, UNLINKED), (CONFLICT,)),
        ((BY_DESTINATION, BY_DESTINATION), (UNLINKED, UNLINKED), (NONE,)),
    ],
)
def test_rules_of_different_peers_cancel_each_other(
    driver: Driver,
    masks: tuple[Flow, ...],
    links: tuple[int, ...],
    verdict: tuple[int, ...],
    others: int,
) -> None:
    """With a few rules and with many beside them: by comparison and by hash."""
    rules = rules_for(driver, masks, PACKET)
    for number in range(others):
        other = Flow(dl_type=0x0800, nw_dst=1000 + number)
        rules += rules_for(driver, [BY_DESTINATION], other)
    with driver.table(rules, [*links, *[3] * others]) as table:
        assert table.lookup(tcp_frame(PACKET)) in verdict
