# SPDX-License-Identifier: Apache-2.0
"""The rules of a port that has no ovs-vswitchd at the moment: which of them are in force.

The driver marks what was in force when OVS closed the port (`HIGHWAY_RULE_KEPT`); after a crash
the rules are simply still there. Only highwayd writes here, and only while no switch does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ovs_highway import shm
from ovs_highway.shm import CData, Off, atomic, ffi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ovs_highway.region._port import PortRegion

_KEPT: Final = shm.constant("HIGHWAY_RULE_KEPT")
_UNCHECKED: Final = shm.constant("HIGHWAY_RULE_UNCHECKED")


def go_on_alone(sender: PortRegion, receivers: Mapping[int, PortRegion]) -> bool:
    """Have a port's last rules in force without a switch, as far as their receivers are there.

    Args:
        receivers: by region id, the ports that may be sent to directly now; rules towards others
            are suspended, and come back when a later call finds their receiver again.

    Returns:
        Whether anything changed.
    """
    changed = False
    table = sender.rule_table()
    for slot, rule in enumerate(sender.copy_rules()):
        if not rule.generation or not (rule.live or rule.flags & _KEPT):
            continue
        receiver = receivers.get(int(rule.peer_id))
        if (receiver is not None) == bool(rule.live):
            continue
        table[slot].flags = int(rule.flags) | _KEPT
        if receiver is None:
            table[slot].live = 0
        else:
            if not _let_in(receiver, sender.region_id, rule):
                table[slot].flags = _KEPT | _UNCHECKED
            # An OVS that ends deletes its flows, which is no reason to leave what they were for.
            table[slot].suppressed = 0
            table[slot].live = rule.generation
        changed = True
    word = ffi.addressof(sender.raw.gate, "off_switch")
    if atomic.clear_bits(word, Off.SWITCH) & Off.SWITCH:
        changed = True
    if changed:
        sender.changed()
    return changed


def stop_alone(sender: PortRegion) -> None:
    """Have nothing go on without a switch, until `go_on_alone` is called again."""
    word = ffi.addressof(sender.raw.gate, "off_switch")
    if not atomic.set_bits(word, Off.SWITCH) & Off.SWITCH:
        sender.changed()


def _let_in(receiver: PortRegion, sender_id: int, rule: CData) -> bool:
    """Put the receiver's copy of a rule in force; False if the switch had left it none.

    A copy is never made here: the sender can write into its own table what it likes.
    """
    pattern = _pattern(rule)
    table = receiver.in_rule_table()
    for slot, copy in enumerate(receiver.copy_in_rules()):
        if (
            int(copy.peer_id) != sender_id
            or not (copy.live or copy.flags & _KEPT)
            or _pattern(copy) != pattern
        ):
            continue
        if not copy.live:
            table[slot].live = copy.generation
            receiver.changed()
        return True
    return False


def _pattern(rule: CData) -> bytes:
    """Return key and mask of a rule."""
    return b"".join(bytes(ffi.buffer(ffi.addressof(rule, name))) for name in ("key", "mask"))
