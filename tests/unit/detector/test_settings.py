# SPDX-License-Identifier: Apache-2.0
"""What the database's records mean for the detector."""

from __future__ import annotations

import pytest

from ovs_highway.detector.settings import settings
from ovs_highway.ovsdb import Attachment, Bridge, Controller, Snapshot

REMOTE = Controller(target="tcp:192.0.2.1:6653", connected=True, in_band=True)
OUT = Controller(target="tcp:192.0.2.1:6653", connected=True, in_band=False)
AWAY = Controller(target="tcp:192.0.2.1:6653", connected=False, in_band=False)


def blocked(managers: frozenset[str] = frozenset(), **of_bridge: object) -> str | None:
    """Return why a bridge with these settings can prove nothing."""
    bridge = Bridge(name="br0", **of_bridge)  # type: ignore[arg-type]
    snapshot = Snapshot(connected=True, bridges={"br0": bridge}, managers=managers)
    return settings(snapshot, ["br0"])["br0"].blocked


@pytest.mark.parametrize(
    ("of_bridge", "word"),
    [
        ({}, None),
        ({"controllers": (OUT,)}, None),
        ({"controllers": (REMOTE,)}, "in-band"),
        ({"controllers": (REMOTE,), "in_band": False}, None),
        ({"controllers": (AWAY,)}, "fail-open"),
        ({"controllers": (AWAY, OUT)}, None),
        ({"controllers": (AWAY,), "secure": True}, None),
        ({"managers": frozenset({"tcp:192.0.2.1:6640"})}, "in-band"),
        ({"managers": frozenset({"tcp:192.0.2.1:6640"}), "in_band": False}, None),
        ({"mirrors": frozenset({"m"})}, "mirrors"),
        ({"sampled": frozenset({"IPFIX", "sFlow"})}, "IPFIX and sFlow"),
        ({"netflow": True}, "NetFlow"),
        ({"spanning_tree": True}, "spanning tree"),
    ],
)
def test_what_ovs_does_beside_the_flows_blocks_a_bridge(
    of_bridge: dict[str, object], word: str | None
) -> None:
    found = blocked(**of_bridge)  # type: ignore[arg-type]
    assert found is None if word is None else found is not None and word in found


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (Attachment(name="p1"), None),
        (Attachment(name="p1", watches=frozenset({"bfd", "lldp"})), "bfd and lldp"),
        (Attachment(name="p1", members=2), "bond"),
        (Attachment(name="p1", policed=True), "policing"),
    ],
)
def test_what_takes_frames_in_blocks_a_port(one: Attachment, word: str | None) -> None:
    bridge = Bridge(name="br0", attached={1: one})
    snapshot = Snapshot(connected=True, bridges={"br0": bridge})
    found = settings(snapshot, ["br0"])["br0"].ports[1].blocked
    assert found is None if word is None else found is not None and word in found


def test_a_patch_port_leads_on_if_both_ends_name_each_other() -> None:
    ends = {
        "br0": {9: Attachment(name="a", peer="b"), 8: Attachment(name="c", peer="b")},
        "br1": {7: Attachment(name="b", peer="a")},
    }
    snapshot = Snapshot(
        connected=True,
        bridges={name: Bridge(name=name, attached=ports) for name, ports in ends.items()},
    )
    found = settings(snapshot, ends)
    assert found["br0"].ports[9].peer == ("br1", 7)
    assert found["br1"].ports[7].peer == ("br0", 9)
    assert found["br0"].ports[8].peer is None
