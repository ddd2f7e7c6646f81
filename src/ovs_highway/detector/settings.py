# SPDX-License-Identifier: Apache-2.0
"""What the database's records mean for the detector; pure.

A bridge or port is blocked where OVS does something with packets that no OpenFlow flow shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovs_highway.detector.switch import BridgeSettings, PortSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ovs_highway.ovsdb import Attachment, Bridge, Snapshot


def settings(snapshot: Snapshot, names: Iterable[str]) -> dict[str, BridgeSettings]:
    """Return the settings of some bridges."""
    places = {
        one.name: (bridge.name, number)
        for bridge in snapshot.bridges.values()
        for number, one in bridge.attached.items()
        if one.peer is not None
    }
    peers = {
        one.name: one.peer
        for bridge in snapshot.bridges.values()
        for one in bridge.attached.values()
        if one.peer is not None
    }
    found = {}
    for name in names:
        bridge = snapshot.bridges[name]
        ports = {}
        for number, one in bridge.attached.items():
            # Both ends have to name each other (`patch_port_output()`).
            paired = one.peer is not None and peers.get(one.peer) == one.name
            ports[number] = PortSettings(
                peer=places[one.peer] if paired and one.peer is not None else None,
                highway=one.port,
                blocked=_port_blocked(one),
                held=f"port {one.name} has QoS" if one.qos else None,
            )
        found[name] = BridgeSettings(blocked=_bridge_blocked(snapshot, bridge), ports=ports)
    return found


def _bridge_blocked(snapshot: Snapshot, bridge: Bridge) -> str | None:
    if bridge.mirrors:
        return "it has mirrors"
    if bridge.sampled or bridge.netflow:
        return f"it has {' and '.join(sorted(bridge.sampled)) or 'NetFlow'}"
    if bridge.spanning_tree:
        return "it runs spanning tree"
    return _hidden_flows(snapshot, bridge)


def _hidden_flows(snapshot: Snapshot, bridge: Bridge) -> str | None:
    """Return what may have added flows above priority 65535, which no monitor shows.

    In-band control does while there is a remote to be reached through the bridge
    (`update_in_band_remotes()` in `ofproto/connmgr.c`), fail-open while no controller is there
    (`ofproto/fail-open.c`); OVS waits for at least three probe intervals before that, and renews
    `is_connected` every 5 s.
    """
    in_band = [one.target for one in bridge.controllers if one.in_band]
    remotes = [*in_band, *sorted(snapshot.managers)]
    if bridge.in_band and remotes:
        return (
            f"in-band control of {remotes[0]} may have flows that nobody can see; set"
            " other_config:disable-in-band=true on the bridge if it is not needed"
        )
    away = bridge.controllers and not any(one.connected for one in bridge.controllers)
    if away and not bridge.secure:
        return "it is, or may soon be, in fail-open mode, for its controllers are away"
    return None


def _port_blocked(one: Attachment) -> str | None:
    if one.watches:
        return f"port {one.name} runs {' and '.join(sorted(one.watches))}, which takes frames in"
    if one.members > 1:
        return f"port {one.name} is in a bond"
    if one.policed:
        return f"port {one.name} has ingress policing"
    return None
