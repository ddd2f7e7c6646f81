# SPDX-License-Identifier: Apache-2.0
"""What two ports may send each other over a link, and what its ends must heed; pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ovs_highway.agent.policy import Verdict, way_verdict
from ovs_highway.shm import LinkFlag

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ovs_highway.agent.actions import Flags, Pair, PortFacts, Proofs, Way

Verdicts = tuple[Verdict, Verdict]
"""By sending end."""

_RECEIVES: Final = LinkFlag.CHECKED | LinkFlag.NO_RECEIVE
"""What the receiver of a direction heeds."""
_CHECKED: Final = Verdict(allowed=True, checked=True)


def wanted_ways(ports: Mapping[str, PortFacts], proofs: Proofs) -> set[Way]:
    """Return the directions that are proven, or for which there is a rule in force."""
    by_id = {port.region_id: port.name for port in ports.values()}
    found = {way for way in proofs.peers.items() if way[0] in ports and way[1] in ports}
    for port in ports.values():
        found |= {
            (port.name, by_id[peer_id])
            for peer_id, rules in port.wants.items()
            if rules > 0 and peer_id in by_id
        }
    return {(sender, receiver) for sender, receiver in found if sender != receiver}


def verdicts(one: PortFacts, other: PortFacts, proofs: Proofs) -> Verdicts | None:
    """Return what policy says of both directions, or None if that is not known (see `unknown`).

    With a driver that knows only one kind of link for both, they are alike.
    """
    if unknown(one, other, proofs) is not None:
        return None
    found = _verdict(one, other, proofs), _verdict(other, one, proofs)
    old = [port.name for port in (one, other) if not port.directed]
    if not old or found[0] == found[1] or not any(verdict.allowed for verdict in found):
        return found
    if all(verdict.allowed for verdict in found):
        return _CHECKED, _CHECKED
    reason = f"the driver of the VNF at {old[0]} is too old for a link that carries one direction"
    never = Verdict(allowed=False, reason=f"{reason}; install the same release everywhere")
    return (never, found[1]) if found[0].allowed else (found[0], never)


def unknown(one: PortFacts, other: PortFacts, proofs: Proofs) -> str | None:
    """Return why it is not known what policy says of two ports, None if it is."""
    if one.terms is None or other.terms is None:
        return "highwayd has not found both ports in the OVS database yet"
    for sender, receiver in ((one, other), (other, one)):
        if sender.name in proofs.pending and not _verdict(sender, receiver, proofs).allowed:
            return "highwayd has not read the OpenFlow flows yet"
    return None


def flags_for(found: Verdicts) -> Flags:
    """Return what each end of a link must heed."""
    flags = [LinkFlag(0), LinkFlag(0)]
    for sender, verdict in enumerate(found):
        if verdict.allowed and not verdict.checked:
            continue
        flags[sender] |= LinkFlag.PEER_CHECKS
        flags[1 - sender] |= LinkFlag.CHECKED
        if not verdict.allowed:
            flags[sender] |= LinkFlag.NO_SEND
            flags[1 - sender] |= LinkFlag.NO_RECEIVE
    return flags[0], flags[1]


def loosened(told: Flags, wanted: Flags, reported: tuple[LinkFlag | None, ...]) -> Flags:
    """Return what to tell ends that heed more than they have to.

    A receiver first: its sender may do more only when it does not check any more.
    """
    found = []
    for end in (0, 1):
        peer = reported[1 - end]
        waits = peer is None or bool(peer & ~wanted[1 - end] & _RECEIVES)
        found.append(told[end] & ~_RECEIVES if waits else LinkFlag(0))
    return wanted[0] | found[0], wanted[1] | found[1]


def both_ways(pair: Pair) -> tuple[Way, Way]:
    """Return the directions of a pair, by sending end."""
    return pair, (pair[1], pair[0])


def useful(pair: Pair, wanted: Collection[Way], found: Verdicts | None) -> bool:
    """Tell whether a link would carry something that is wanted."""
    return any(
        way in wanted and (verdict is None or verdict.allowed)
        for way, verdict in zip(both_ways(pair), found or (None, None), strict=True)
    )


def not_ready(port: PortFacts) -> str | None:
    """Return why a port can have no link now, or None if it can."""
    if port.forbidden is not None:
        return port.forbidden
    if port.vnf is None:
        return f"no VNF attached at {port.name}"
    if not port.started:
        return f"the VNF at {port.name} has not started"
    return None


def _verdict(sender: PortFacts, receiver: PortFacts, proofs: Proofs) -> Verdict:
    assert sender.terms is not None
    assert receiver.terms is not None
    peer = proofs.peers.get(sender.name)
    unproven = f"it goes to {peer}" if peer else proofs.reasons.get(sender.name, "")
    return way_verdict(
        sender.terms, receiver.terms, proven=peer == receiver.name, unproven=unproven
    )
