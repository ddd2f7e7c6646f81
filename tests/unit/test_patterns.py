# SPDX-License-Identifier: Apache-2.0
"""The driver reads rte_flow patterns without dropping a bit of them, or refuses them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from .driver_classifier import Driver, Rule, compile_driver
from .ovs_items import Item, items_of
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
    Match,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

END: Final = Item("end")
EXACT: Final = Flow(dl_type=0xFFFF, vlan_tci=0xFFFF)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    return Driver(compile_driver(tmp_path_factory.mktemp("patterns"), "base"))


def pattern(value: Flow, mask: Flow) -> list[Item]:
    """Return what OVS makes of a match that it offloads."""
    items = items_of(Match(value=value, mask=mask))
    assert items is not None
    return items


def of(kind: int, proto: int = 0, *, tagged: bool = False) -> list[Item]:
    """Return OVS's pattern for a kind of packets, with nothing else masked."""
    value = Flow(dl_type=kind, nw_proto=proto)
    if tagged:
        value.vlan_tpid, value.vlan_tci = 0x8100, VLAN_PRESENT | 5
    mask = replace(EXACT, vlan_tci=VLAN_PRESENT, nw_proto=0xFF if proto else 0)
    return pattern(value, mask)


ARP: Final = of(0x0806)
TCP4: Final = of(IPV4, TCP)
WHOLE: Final = {
    "arp": ARP,
    "vlan arp": of(0x0806, tagged=True),
    "ipv4": of(IPV4),
    "vlan ipv4": of(IPV4, tagged=True),
    "ipv6": of(IPV6),
    **{
        f"{proto} over {kind:#x}": of(kind, proto)
        for kind in (IPV4, IPV6)
        for proto in (TCP, UDP, SCTP, ICMP, ICMPV6)
    },
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_ovs_sends_is_accepted(driver: Driver, name: str) -> None:
    rule = driver.parse(WHOLE[name])
    assert rule is not None
    assert rule.usable


def test_void_items_say_nothing(driver: Driver) -> None:
    void = Item("void")
    items = [void, *(item for pair in TCP4[:-1] for item in (pair, void)), END]
    assert driver.parse(items) == driver.parse(TCP4)


FRAGMENTS: Final = {"first": FRAG_ANY, "later": FRAG_ANY | FRAG_LATER}


@pytest.mark.parametrize("which", FRAGMENTS)
@pytest.mark.parametrize(("kind", "proto"), [(IPV4, TCP), (IPV4, 44), (IPV6, TCP), (IPV6, 44)])
def test_fragments_are_understood_but_not_used(
    driver: Driver, which: str, kind: int, proto: int
) -> None:
    value = Flow(dl_type=kind, nw_frag=FRAGMENTS[which], nw_proto=proto)
    rule = driver.parse(pattern(value, replace(EXACT, nw_frag=3, nw_proto=0xFF)))
    assert rule is not None
    assert not rule.usable


def test_a_fragment_is_not_used_without_its_item_either(driver: Driver) -> None:
    """Such a pattern is for any fragment; OVS tells the first from the others."""
    value = Flow(dl_type=IPV6, nw_frag=FRAG_ANY)
    eth, ip, extension, end = pattern(value, replace(EXACT, nw_frag=3))
    assert extension.kind == "frag_ext"
    rule = driver.parse([eth, ip, end])
    assert rule is not None
    assert not rule.usable


def fields_of(item: Item) -> tuple[bytes, bytes]:
    assert item.spec is not None
    assert item.mask is not None
    return item.spec, item.mask


def flipped(data: bytes, bit: int) -> bytes:
    value = data[bit // 8] ^ 1 << bit % 8
    return data[: bit // 8] + bytes((value,)) + data[bit // 8 + 1 :]


def changed(items: Sequence[Item], index: int, item: Item) -> list[Item]:
    return [*items[:index], item, *items[index + 1 :]]


@pytest.mark.parametrize("name", WHOLE)
def test_no_bit_that_is_asked_for_is_dropped(driver: Driver, name: str) -> None:
    """Each further bit of a mask makes another rule, or one that is not used or refused."""
    items = WHOLE[name]
    plain = driver.parse(items)
    assert plain is not None
    taken = 0
    for index, item in enumerate(items[:-1]):
        _, mask = fields_of(item)
        for bit in range(8 * len(mask)):
            if mask[bit // 8] >> bit % 8 & 1:
                continue
            rule = driver.parse(changed(items, index, replace(item, mask=flipped(mask, bit))))
            if rule is not None and rule.usable:
                assert rule.mask != plain.mask, f"{item.kind}, bit {bit} of the mask"
                taken += 1
    assert taken >= 96, "the bits of the addresses at least"


@pytest.mark.parametrize("name", WHOLE)
def test_each_bit_of_a_value_makes_another_rule(driver: Driver, name: str) -> None:
    items = WHOLE[name]
    for index, item in enumerate(items[:-1]):
        spec, mask = fields_of(item)
        for bit in range(8 * len(mask)):
            more = flipped(mask, bit) if not mask[bit // 8] >> bit % 8 & 1 else mask
            one = driver.parse(changed(items, index, replace(item, mask=more)))
            turned = replace(item, spec=flipped(spec, bit), mask=more)
            other = driver.parse(changed(items, index, turned))
            if one is not None and other is not None and one.usable and other.usable:
                assert one.key != other.key, f"{item.kind}, bit {bit} of the value"


@pytest.mark.parametrize("name", WHOLE)
def test_bits_that_are_not_masked_do_not_count(driver: Driver, name: str) -> None:
    items = WHOLE[name]
    for index, item in enumerate(items[:-1]):
        spec, mask = fields_of(item)
        for bit in range(8 * len(mask)):
            if not mask[bit // 8] >> bit % 8 & 1:
                turned = changed(items, index, replace(item, spec=flipped(spec, bit)))
                assert driver.parse(turned) == driver.parse(items), f"{item.kind}, bit {bit}"


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("missing", ["spec", "mask"])
def test_items_without_value_or_mask_are_refused(driver: Driver, name: str, missing: str) -> None:
    for index, item in enumerate(WHOLE[name][:-1]):
        bare = replace(item, spec=None) if missing == "spec" else replace(item, mask=None)
        assert driver.parse(changed(WHOLE[name], index, bare)) is None, item.kind


@pytest.mark.parametrize("name", WHOLE)
def test_ranges_are_not_used(driver: Driver, name: str) -> None:
    for index, item in enumerate(WHOLE[name][:-1]):
        rule = driver.parse(changed(WHOLE[name], index, replace(item, last=item.mask)))
        assert rule is None or not rule.usable, item.kind


ETH, IP, PORTS = TCP4[0], TCP4[1], TCP4[2]
TAG, TAGGED = of(IPV4, tagged=True)[1], of(IPV4, tagged=True)[0]
DISORDER: Final = {
    "nothing": [END],
    "no eth": [IP, END],
    "no eth, only void": [Item("void"), END],
    "eth twice": [ETH, ETH, END],
    "eth behind ip": [ETH, IP, ETH, END],
    "tag behind ip": [ETH, IP, TAG, END],
    "two tags": [TAGGED, TAG, TAG, END],
    "a tag that eth denies": [ETH, TAG, END],
    "a tag that nothing describes": [TAGGED, END],
    "ip twice": [ETH, IP, IP, END],
    "ports without ip": [ETH, PORTS, END],
    "ports twice": [*TCP4[:-1], PORTS, END],
    "ip behind ports": [*TCP4[:-1], IP, END],
    "ip in arp": [ARP[0], IP, END],
    "ipv6 in ipv4": [ETH, of(IPV6)[1], END],
    "ip in any type": [Item("eth", ETH.spec, bytes(20)), IP, END],
    "ip in a tag's type": [TAGGED, IP, END],
    "tcp in udp": [*of(IPV4, UDP)[:2], PORTS, END],
    "tcp in any protocol": [*of(IPV4)[:2], PORTS, END],
    "udp in tcp": [*TCP4[:2], of(IPV4, UDP)[2], END],
    "icmp in icmpv6": [*of(IPV4, ICMPV6)[:2], of(IPV4, ICMP)[2], END],
    "icmpv6 in icmp": [*of(IPV6, ICMP)[:2], of(IPV6, ICMPV6)[2], END],
    "sctp in tcp": [*TCP4[:2], of(IPV4, SCTP)[2], END],
}


@pytest.mark.parametrize("name", DISORDER)
def test_items_that_contradict_each_other_are_refused(driver: Driver, name: str) -> None:
    assert driver.parse(DISORDER[name]) is None


@pytest.mark.parametrize("kind", ["any", "vxlan", "gre", "mpls"])
@pytest.mark.parametrize("place", range(4))
def test_unknown_items_are_refused(driver: Driver, kind: str, place: int) -> None:
    size = driver.item_type(kind)[1]
    for stranger in (Item(kind), Item(kind, bytes(size), bytes(size))):
        assert driver.parse([*TCP4[:place], stranger, *TCP4[place:]]) is None


def test_half_a_protocol_is_not_enough_for_ports(driver: Driver) -> None:
    value = Flow(dl_type=IPV4, nw_proto=TCP, tp_dst=80)
    items = pattern(value, replace(EXACT, nw_proto=0x0F, tp_dst=0xFFFF))
    assert [item.kind for item in items] == ["eth", "ipv4", "tcp", "end"]
    assert driver.parse(items) is None


def test_a_rule_of_a_tag_ignores_the_drop_eligible_bit(driver: Driver) -> None:
    def rule(tci: int) -> Rule | None:
        value = Flow(dl_type=0x0806, vlan_tpid=0x8100, vlan_tci=VLAN_PRESENT | tci)
        return driver.parse(pattern(value, replace(EXACT, vlan_tci=0xFFFF)))

    assert rule(5) is not None
    assert rule(5) == rule(0x1005)
    assert rule(5) != rule(0xE005)
