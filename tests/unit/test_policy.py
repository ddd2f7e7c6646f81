# SPDX-License-Identifier: Apache-2.0
"""Policy as pure functions: every mode with every label, and every reason for a port to be off."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from ovs_highway.agent.fin_timeout import bridges_to_ask
from ovs_highway.agent.policy import Mode, Terms, pipeline, terms, way_verdict, why_port_off
from ovs_highway.agent.purge import mirrors_changed
from ovs_highway.ovsdb import Bridge, Interface, Snapshot
from ovs_highway.shm import CData, Stats, ffi

if TYPE_CHECKING:
    from collections.abc import Mapping

LABELS = ("", "x", "y")
PLAIN = Interface(port="vnf1", name="i1", bridge="br0", port_record="r1")
PLACES = ("interface i1", "bridge br0", "Open_vSwitch")


def snapshot(
    interface: Interface = PLAIN,
    *bridges: Bridge,
    external_ids: Mapping[str, str] = MappingProxyType({}),
) -> Snapshot:
    return Snapshot(
        connected=True,
        ports={interface.port: interface},
        bridges={bridge.name: bridge for bridge in (Bridge(name="br0"), *bridges)},
        external_ids=external_ids,
    )


def with_settings(key: str, *values: str | None) -> Snapshot:
    """Return a database with a key set at the interface, the bridge and the switch."""
    own, bridge, switch = ({} if value is None else {key: value} for value in values)
    return snapshot(
        replace(PLAIN, external_ids=own),
        Bridge(name="br0", external_ids=bridge),
        external_ids=switch,
    )


# directions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize("labels", list(itertools.product(LABELS, LABELS)))
@pytest.mark.parametrize("modes", list(itertools.product(Mode, Mode)))
def test_every_mode_with_every_label(
    modes: tuple[Mode, Mode], labels: tuple[str, str], proven: bool
) -> None:
    one = Terms(port="p1", mode=modes[0], trust=labels[0])
    other = Terms(port="p2", mode=modes[1], trust=labels[1])
    verdict = way_verdict(one, other, proven=proven)
    back = way_verdict(other, one, proven=proven)
    assert (verdict.allowed, verdict.checked) == (back.allowed, back.checked)
    assert bool(verdict.reason) is not verdict.allowed

    trusted = labels[0] == labels[1] != ""
    if Mode.OFF in modes:
        expected = "refused"
    elif proven:
        expected = "unchecked"
    elif Mode.P2P in modes:
        expected = "refused"
    elif trusted:
        expected = "unchecked"
    elif modes == (Mode.CHECKED, Mode.CHECKED):
        expected = "checked"
    else:
        expected = "refused"
    found = "refused" if not verdict.allowed else "checked" if verdict.checked else "unchecked"
    assert found == expected


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.CHECKED, Mode.P2P])
@pytest.mark.parametrize("proven", [False, True])
def test_a_receiver_that_is_to_count_checks_what_comes_from_those_it_does_not_trust(
    mode: Mode, proven: bool
) -> None:
    sender, receiver = Terms(port="p1", mode=mode), Terms(port="p2", mode=mode)
    counts = replace(receiver, stats=Stats.RECEIVER)
    verdict = way_verdict(sender, counts, proven=proven)
    assert verdict.allowed is (proven or mode is Mode.CHECKED)
    assert verdict.checked is verdict.allowed
    plain = way_verdict(sender, receiver, proven=proven)
    assert plain.allowed is verdict.allowed
    assert plain.checked is (not proven and mode is Mode.CHECKED)
    # Who counts what it sends is for the others to say.
    assert way_verdict(counts, sender, proven=proven) == way_verdict(
        receiver, sender, proven=proven
    )
    labelled = replace(sender, trust="x"), replace(counts, trust="x")
    assert not way_verdict(*labelled, proven=proven).checked


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (
            Terms(port="p1"),
            Terms(port="p2", trust="x"),
            "p1 and p2 have no highway-trust label in common; set external_ids:highway-trust,"
            " or highway-mode=checked on both",
        ),
        (
            Terms(port="p1", mode=Mode.CHECKED),
            Terms(port="p2"),
            "p1 and p2 have no highway-trust label in common; set external_ids:highway-trust,"
            " or highway-mode=checked on p2",
        ),
        (
            Terms(port="p1", trust="x"),
            Terms(port="p2", trust="x", mode=Mode.P2P),
            "highway-mode=p2p at p2, and what p1 sends is not proven to be point-to-point",
        ),
        (Terms(port="p1", mode=Mode.OFF), Terms(port="p2"), "highway-mode=off at p1"),
        (
            Terms(port="p1", mode=Mode.OFF),
            Terms(port="p2", mode=Mode.OFF),
            "highway-mode=off at p1 and p2",
        ),
    ],
)
def test_a_refusal_says_what_to_do(one: Terms, other: Terms, reason: str) -> None:
    assert way_verdict(one, other).reason == reason


def test_a_refusal_says_what_the_detector_has_found() -> None:
    one, other = Terms(port="p1"), Terms(port="p2")
    why = "flow 7 floods"
    found = way_verdict(other, one, unproven=why).reason
    assert found == (
        "p1 and p2 have no highway-trust label in common; set external_ids:highway-trust,"
        f" or highway-mode=checked on both; what p2 sends is not point-to-point: {why}"
    )
    found = way_verdict(replace(one, mode=Mode.P2P), other, unproven=why).reason
    assert found == (
        "highway-mode=p2p at p1, and what p1 sends is not proven to be point-to-point: " + why
    )


# terms of a port -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", list(itertools.product((None, "auto", "checked", "p2p", "off"), repeat=3))
)
def test_the_most_specific_mode_wins(values: tuple[str | None, ...]) -> None:
    found = terms(with_settings("highway-mode", *values), "vnf1")
    assert found is not None
    assert found.mode == next((value for value in values if value is not None), "auto")


@pytest.mark.parametrize("values", list(itertools.product((None, "on", "off"), repeat=3)))
def test_the_most_specific_switch_wins(values: tuple[str | None, ...]) -> None:
    database = with_settings("highway", *values)
    wins = next((level for level, value in enumerate(values) if value is not None), None)
    off = wins is not None and values[wins] == "off"
    found = terms(database, "vnf1")
    assert found is not None
    assert found.mode is Mode.AUTO, "its links stay"
    expected = f"external_ids:highway=off on {PLACES[wins]}" if off and wins is not None else None
    assert why_port_off(database, "vnf1") == expected


@pytest.mark.parametrize("values", list(itertools.product((None, "sender", "receiver"), repeat=3)))
def test_the_most_specific_counter_wins(values: tuple[str | None, ...]) -> None:
    found = with_settings("highway-stats", *values)
    wins = next((value for value in values if value is not None), "sender")
    known = terms(found, "vnf1")
    assert known is not None
    assert known.stats.name.lower() == wins
    assert why_port_off(found, "vnf1") is None


@pytest.mark.parametrize("level", range(3))
def test_an_unknown_counter_is_off_and_the_reason_names_the_valid_ones(level: int) -> None:
    values: list[str | None] = [None, None, None]
    values[level] = "both"
    found = why_port_off(with_settings("highway-stats", *values), "vnf1")
    assert found == (
        f"external_ids:highway-stats=both on {PLACES[level]} is neither sender nor receiver"
    )


def test_only_the_interface_has_a_trust_label() -> None:
    for level, values in enumerate((("x", None, None), (None, "x", None), (None, None, "x"))):
        found = terms(with_settings("highway-trust", *values), "vnf1")
        assert found is not None
        assert found.trust == ("x" if level == 0 else "")


@pytest.mark.parametrize("level", range(3))
def test_an_unknown_mode_is_off_and_the_reason_names_the_valid_ones(level: int) -> None:
    values = [None if other != level else "fast" for other in range(3)]
    database = with_settings("highway-mode", *values)
    reason = f"external_ids:highway-mode=fast on {PLACES[level]} is not auto, checked, p2p or off"
    assert why_port_off(database, "vnf1") == reason
    gate: CData = ffi.new("struct highway_gate *")
    assert len(reason) < len(gate.off_text)
    found = terms(database, "vnf1")
    assert found is not None
    assert found.mode is Mode.OFF


def test_an_unknown_switch_is_off() -> None:
    database = with_settings("highway", "false", None, None)
    reason = "external_ids:highway=false on interface i1 is neither on nor off"
    assert why_port_off(database, "vnf1") == reason


def test_of_a_port_that_the_database_does_not_know_nothing_is_said() -> None:
    empty = Snapshot(connected=True)
    assert terms(empty, "vnf1") is None
    assert why_port_off(empty, "vnf1") is None


# what OVS does outside the flow ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("database", "reason"),
    [
        (snapshot(), None),
        (
            snapshot(replace(PLAIN, ingress_policing_rate=1000)),
            "ingress policing, ingress_policing_rate=1000 on interface i1",
        ),
        (
            snapshot(replace(PLAIN, ingress_policing_kpkts_rate=7)),
            "ingress policing, ingress_policing_kpkts_rate=7 on interface i1",
        ),
        (snapshot(replace(PLAIN, qos=True)), "QoS on port r1"),
        (snapshot(PLAIN, Bridge(name="br0", netflow=True)), "NetFlow on bridge br0"),
        (snapshot(PLAIN, Bridge(name="br1", netflow=True)), None),
        (
            snapshot(
                PLAIN,
                Bridge(name="br0", patched=frozenset({"br1"})),
                Bridge(name="br1", patched=frozenset({"br0"}), netflow=True),
            ),
            "NetFlow on bridge br1",
        ),
        (
            snapshot(
                replace(PLAIN, qos=True, external_ids={"highway": "off", "highway-mode": "off"})
            ),
            "external_ids:highway=off on interface i1; external_ids:highway-mode=off on interface"
            " i1; QoS on port r1",
        ),
        (with_settings("highway-mode", "checked", None, "off"), None),
        (
            with_settings("highway-mode", None, None, "off"),
            "external_ids:highway-mode=off on Open_vSwitch",
        ),
    ],
)
def test_what_ovs_does_outside_the_flow_turns_a_port_off(
    database: Snapshot, reason: str | None
) -> None:
    assert why_port_off(database, "vnf1") == reason


def test_fin_timeout_counts_on_all_bridges_that_packets_can_pass() -> None:
    database = snapshot(
        PLAIN,
        Bridge(name="br0", patched=frozenset({"br1"})),
        Bridge(name="br1", patched=frozenset({"br0", "br2"})),
        Bridge(name="br2", patched=frozenset({"br1"})),
        Bridge(name="br3"),
    )
    assert pipeline(database, "br0") == {"br0", "br1", "br2"}
    assert why_port_off(database, "vnf1", {"br3"}) is None
    reason = "an OpenFlow rule of bridge br2 has fin_timeout"
    assert why_port_off(database, "vnf1", {"br2", "br3"}) == reason
    assert bridges_to_ask(database, [], []) == set()
    assert bridges_to_ask(database, ["vnf1"], []) == {"br0", "br1", "br2"}
    assert bridges_to_ask(database, ["vnf2"], ["br3", "br4"]) == {"br3"}


def test_mirrors_that_come_change_or_go_are_noticed() -> None:
    none, one, other = (
        snapshot(PLAIN, Bridge(name="br0", mirrors=mirrors))
        for mirrors in (frozenset[str](), frozenset({"a"}), frozenset({"b"}))
    )
    assert not mirrors_changed(None, none)
    assert mirrors_changed(None, one)
    for before, after in itertools.product((none, one, other), repeat=2):
        assert mirrors_changed(before, after) is (before is not after)
    assert not mirrors_changed(one, replace(one, ports={}, connected=False))
