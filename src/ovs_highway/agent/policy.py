# SPDX-License-Identifier: Apache-2.0
"""What the database allows: the bypass of a port, and links between two; pure functions.

`why_port_off` closes a port's gate, which turns both directions off and is quick. `way_verdict`
decides whether a port may send to another over a link, and whether that is checked.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway.shm import Stats

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ovs_highway.ovsdb import Interface, Snapshot


class Mode(enum.StrEnum):
    """`external_ids:highway-mode`: which links a port may have.

    - `AUTO`: proven point-to-point, or to a port with the same trust label.
    - `CHECKED`: also to any other port in this mode, with the receiver checking each frame.
    - `P2P`: proven point-to-point only, each way for itself.
    - `OFF`: none.
    """

    AUTO = "auto"
    CHECKED = "checked"
    P2P = "p2p"
    OFF = "off"


_MODES: Final = frozenset(mode.value for mode in Mode)
_STATS: Final = {"sender": Stats.SENDER, "receiver": Stats.RECEIVER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which terms a port may have links.

    Attributes:
        trust: `external_ids:highway-trust` of its interface; empty: it has none.
        stats: `external_ids:highway-stats`: who counts what is sent to the port.
    """

    port: str
    mode: Mode = Mode.AUTO
    trust: str = ""
    stats: Stats = Stats.SENDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a port may send over a link, checked or not; `reason` says why not, else empty."""

    allowed: bool
    checked: bool = False
    reason: str = ""


def way_verdict(
    sender: Terms, receiver: Terms, *, proven: bool = False, unproven: str = ""
) -> Verdict:
    """Decide whether a port may send to another over a link.

    Args:
        proven: all that the sender sends was proven to go to the receiver.
        unproven: why that is not so, empty if it is not known.
    """
    both = sorted((sender, receiver), key=lambda terms: terms.port)
    why = f": {unproven}" if unproven else ""
    for mode in (Mode.OFF, Mode.P2P):
        at = " and ".join(terms.port for terms in both if terms.mode is mode)
        if at and mode is Mode.OFF:
            return Verdict(allowed=False, reason=f"highway-mode=off at {at}")
        if at and not proven:
            return Verdict(
                allowed=False,
                reason=f"highway-mode=p2p at {at}, and what {sender.port} sends is not proven to be"
                f" point-to-point{why}",
            )
    if sender.trust and sender.trust == receiver.trust:
        return Verdict(allowed=True)
    if proven:
        # Only a receiver that checks also counts.
        return Verdict(allowed=True, checked=receiver.stats is Stats.RECEIVER)
    unchecked = [terms.port for terms in both if terms.mode is not Mode.CHECKED]
    if not unchecked:
        return Verdict(allowed=True, checked=True)
    where = "both" if len(unchecked) == 2 else unchecked[0]
    found = f"; what {sender.port} sends is not point-to-point{why}" if why else ""
    return Verdict(
        allowed=False,
        reason=f"{both[0].port} and {both[1].port} have no highway-trust label in common; set"
        f" external_ids:highway-trust, or highway-mode=checked on {where}{found}",
    )


def terms(snapshot: Snapshot, port: str) -> Terms | None:
    """Return on which terms a port may have links, or None if the database does not know it."""
    interface = snapshot.ports.get(port)
    if interface is None:
        return None
    value, _ = _most_specific(snapshot, interface, "highway-mode") or (Mode.AUTO, "")
    mode = Mode(value) if value in _MODES else Mode.OFF
    counter, _ = _most_specific(snapshot, interface, "highway-stats") or ("", "")
    return Terms(
        port=port,
        mode=mode,
        trust=interface.external_ids.get("highway-trust", ""),
        stats=_STATS.get(counter, Stats.SENDER),
    )


def why_port_off(
    snapshot: Snapshot, port: str, fin_timeout: Collection[str] = frozenset()
) -> str | None:
    """Return why the bypass of a port has to be off, in plain words, or None if it may be on.

    Args:
        fin_timeout: bridges with an OpenFlow rule that has this action.
    """
    interface = snapshot.ports.get(port)
    if interface is None:
        return None
    reasons = [
        *_switched_off(snapshot, interface),
        *_outside_the_flow(snapshot, interface, fin_timeout),
    ]
    return "; ".join(reasons) or None


def pipeline(snapshot: Snapshot, bridge: str) -> frozenset[str]:
    """Return the bridges that packets of a bridge can pass, over patch ports; with itself."""
    found: set[str] = set()
    open_ends = {bridge}
    while open_ends:
        name = open_ends.pop()
        found.add(name)
        if (record := snapshot.bridges.get(name)) is not None:
            open_ends |= record.patched - found
    return frozenset(found)


def _switched_off(snapshot: Snapshot, interface: Interface) -> Iterator[str]:
    match _most_specific(snapshot, interface, "highway"):
        case None | ("on", _):
            pass
        case ("off", where):
            yield f"external_ids:highway=off on {where}"
        case (value, where):
            yield f"external_ids:highway={value} on {where} is neither on nor off"
    match _most_specific(snapshot, interface, "highway-mode"):
        case None:
            pass
        case (Mode.OFF, where):
            yield f"external_ids:highway-mode=off on {where}"
        case (value, where) if value not in _MODES:
            yield f"external_ids:highway-mode={value} on {where} is not auto, checked, p2p or off"
    match _most_specific(snapshot, interface, "highway-stats"):
        case (value, where) if value not in _STATS:
            yield f"external_ids:highway-stats={value} on {where} is neither sender nor receiver"


def _outside_the_flow(
    snapshot: Snapshot, interface: Interface, fin_timeout: Collection[str]
) -> Iterator[str]:
    """What OVS does with packets of this port, or to it, that no datapath flow shows."""
    for column in ("ingress_policing_rate", "ingress_policing_kpkts_rate"):
        if rate := getattr(interface, column):
            yield f"ingress policing, {column}={rate} on interface {interface.name}"
    if interface.qos:
        yield f"QoS on port {interface.port_record}"
    bridges = sorted(pipeline(snapshot, interface.bridge))
    for name in bridges:
        if name in snapshot.bridges and snapshot.bridges[name].netflow:
            yield f"NetFlow on bridge {name}"
    for name in bridges:
        if name in fin_timeout:
            yield f"an OpenFlow rule of bridge {name} has fin_timeout"


def _most_specific(snapshot: Snapshot, interface: Interface, key: str) -> tuple[str, str] | None:
    """Return a setting of interface, bridge or switch, and where it stands; None if nowhere."""
    bridge = snapshot.bridges.get(interface.bridge)
    for where, ids in (
        (f"interface {interface.name}", interface.external_ids),
        (f"bridge {interface.bridge}", bridge.external_ids if bridge else {}),
        ("Open_vSwitch", snapshot.external_ids),
    ):
        if key in ids:
            return ids[key], where
    return None
