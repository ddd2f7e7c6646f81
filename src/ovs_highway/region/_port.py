# SPDX-License-Identifier: Apache-2.0
"""Port regions: one per port, made by the switch side."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ovs_highway import shm
from ovs_highway.errors import RegionError
from ovs_highway.region._base import Region, check_extents, check_rings, put_text
from ovs_highway.region._files import open_again, open_file
from ovs_highway.shm import CData, Off, atomic, ffi

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchState:
    """A copy of `struct highway_switch_state`."""

    epoch: int
    attached: bool
    link_up: bool
    max_frame: int
    pid: int
    rules_live: int
    rules_inert: int
    rules_refused: int
    unclaimed_packets: int
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    tx_full: int
    bypass_rx_packets: int
    bypass_rx_bytes: int
    bypass_tx_packets: int
    bypass_tx_bytes: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A copy of `struct highway_gate`; `lease` counts up by one per second."""

    change: int
    off_switch: Off
    off_operator: Off
    off_policy: Off
    lease: int
    standalone: bool
    tx_flush_us: int
    off_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VnfState:
    """A copy of `struct highway_vnf_state`."""

    epoch: int
    attached: bool
    started: bool
    n_rxq: int
    n_txq: int
    ack: int
    pid: int
    abi_version: int
    max_frame: int
    errors: int
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One used slot of a rule table with its counters.

    Attributes:
        slot: index in the table.
        generation: names this rule among all that the slot ever holds.
        live: in force; False: withdrawn, the slot is not used again yet.
        suppressed: not in force for the time being, by highwayd's wish.
        peer_id: region id of the receiver's port.
        key, mask: copies of `struct highway_key`.
    """

    slot: int
    generation: int
    live: bool
    suppressed: bool
    peer_id: int
    peer_name: str
    max_frame: int
    key: CData
    mask: CData
    packets: int
    bytes: int


class PortRegion(Region):
    """The region of one port; made by the switch side.

    Attributes:
        name: the port, as in `net_highway_<name>`.
        n_queues: VNF queues; rings in each direction.
        n_rules: rule slots.
        rings: size of the normal rings.
        has_in_counters: there is room for a receiver's counts by inbound rule.
    """

    _MAGIC = shm.PORT_MAGIC
    _TYPE = "highway_port_region"
    _WHAT = "port"

    def __init__(self, fd: int, *, writable: bool = True, what: str = "the region") -> None:
        super().__init__(fd, writable=writable, what=what)
        try:
            self._check(what)
        except RegionError:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path, *, writable: bool = True) -> PortRegion:
        """Open and check a region file.

        Raises:
            RegionError: no such file, no permission, or not a region of this version.
        """
        return cls(open_file(path, writable=writable), writable=writable, what=f"region {path}")

    @classmethod
    def open_again(cls, fd: int, *, what: str) -> PortRegion:
        """Open and check a region that another process has handed over; `fd` stays open.

        With an open file of our own: the other's has a lock that lives as long as any copy of it.

        Raises:
            RegionError: no permission, or not a region of this version.
        """
        return cls(open_again(fd, what=what), what=what)

    def _check(self, what: str) -> None:
        raw = self.raw
        self.name = shm.clean(bytes(ffi.buffer(raw.name)))
        if not shm.valid_port_name(self.name):
            raise RegionError(f"{what} has a bad port name; use letters, digits, '_', '-' and '.'")
        self.n_queues, self.n_rules = int(raw.n_queues), int(raw.n_rules)
        if not 1 <= self.n_queues <= shm.MAX_QUEUES or not 1 <= self.n_rules <= shm.MAX_RULES:
            raise RegionError(f"{what} has {self.n_queues} queues and {self.n_rules} rules")
        self.rings = check_rings(what, self.size, raw)
        self._rules_offset = int(raw.rules_offset)
        self._in_rules_offset = int(raw.in_rules_offset)
        self._counters_offset = int(raw.counters_offset)
        self._in_counters_offset = int(raw.in_counters_offset)
        self.has_in_counters = self._in_counters_offset != 0
        counters = self.n_queues * self.n_rules * shm.COUNTER_LEN
        per_direction = self.n_queues * self.rings.stride
        check_extents(
            what,
            self.size,
            shm.PORT_HEADER_LEN,
            [
                (self._rules_offset, self.n_rules * shm.RULE_LEN),
                (self._in_rules_offset, self.n_rules * shm.RULE_LEN),
                (self._counters_offset, counters),
                *([(self._in_counters_offset, counters)] if self._in_counters_offset else []),
                (int(raw.to_switch_offset), per_direction),
                (int(raw.to_vnf_offset), per_direction),
            ],
        )

    def switch(self) -> SwitchState:
        """Return what the switch says of itself."""
        raw = self.raw.switch_state
        values: dict[str, Any] = {name: int(getattr(raw, name)) for name in SwitchState.__slots__}
        values["attached"], values["link_up"] = bool(raw.attached), bool(raw.link_up)
        return SwitchState(**values)

    def gate(self) -> Gate:
        """Return the gate: what is switched off, and why."""
        raw = self.raw.gate
        return Gate(
            change=int(raw.change),
            off_switch=Off(int(raw.off_switch) & 0x7F),
            off_operator=Off(int(raw.off_operator) & 0x7F),
            off_policy=Off(int(raw.off_policy) & 0x7F),
            lease=int(raw.lease),
            standalone=bool(raw.fail_mode),
            tx_flush_us=int(raw.tx_flush_us),
            off_text=shm.clean(bytes(ffi.buffer(raw.off_text))),
        )

    def vnf(self) -> VnfState:
        """Return what the VNF says of itself."""
        raw = self.raw.vnf_state
        return VnfState(
            epoch=int(raw.epoch),
            attached=bool(raw.attached),
            started=bool(raw.started),
            n_rxq=min(int(raw.n_rxq), shm.MAX_QUEUES),
            n_txq=min(int(raw.n_txq), shm.MAX_QUEUES),
            ack=int(raw.ack),
            pid=int(raw.pid),
            abi_version=int(raw.abi_version),
            max_frame=int(raw.max_frame),
            errors=int(raw.errors),
            driver=shm.clean(bytes(ffi.buffer(raw.driver))),
        )

    def rule_table(self) -> CData:
        """Return the rule table itself, to write to: `struct highway_rule[n_rules]`."""
        return self._at("struct highway_rule", self._rules_offset)

    def in_rule_table(self) -> CData:
        """Return the table of inbound rules itself: `struct highway_rule[n_rules]`."""
        return self._at("struct highway_rule", self._in_rules_offset)

    def copy_rules(self) -> CData:
        """Return a copy of the rule table: `struct highway_rule[n_rules]`."""
        return self._copy("struct highway_rule", self._rules_offset, self.n_rules)

    def copy_in_rules(self) -> CData:
        """Return a copy of the table of inbound rules: `struct highway_rule[n_rules]`."""
        return self._copy("struct highway_rule", self._in_rules_offset, self.n_rules)

    def live_peers(self) -> list[int]:
        """Return the peer's region id of each rule in force, suppressed or not."""
        return [int(rule.peer_id) for rule in self.copy_rules() if rule.live]

    def count_rules(self) -> tuple[Counter[int], Counter[int]]:
        """Return how many rules are in force, and how many suppressed, by the peer's region id."""
        in_force, suppressed = Counter[int](), Counter[int]()
        for rule in self.copy_rules():
            if rule.live:
                (suppressed if _is_suppressed(rule) else in_force)[int(rule.peer_id)] += 1
        return in_force, suppressed

    def inbound_peers(self) -> list[int]:
        """Return the sender's region id of each inbound rule in force."""
        return [int(rule.peer_id) for rule in self.copy_in_rules() if rule.live]

    def matches_tcp(self) -> bool:
        """Tell whether some rule in force is for TCP and nothing else."""
        table = self.copy_rules()
        offset = ffi.offsetof("struct highway_rule", "key", "ip_proto")
        protocols = bytes(ffi.buffer(table))[offset :: shm.RULE_LEN]
        slot = protocols.find(socket.IPPROTO_TCP)
        while slot >= 0 and not (table[slot].live and table[slot].mask.ip_proto == 0xFF):
            slot = protocols.find(socket.IPPROTO_TCP, slot + 1)
        return slot >= 0

    def rules(self, *, ended: bool = False) -> list[Rule]:
        """Return the rules in force, with `ended` also those in slots not yet used again."""
        table = self.copy_rules()
        used = [
            slot
            for slot in range(self.n_rules)
            if table[slot].live or (ended and table[slot].generation and table[slot].peer_id)
        ]
        packets, counted = dict.fromkeys(used, 0), dict.fromkeys(used, 0)
        for queue in range(self.n_queues if used else 0):
            offset = self._counters_offset + queue * self.n_rules * shm.COUNTER_LEN
            counters = self._copy("struct highway_counter", offset, self.n_rules)
            for slot in used:
                packets[slot] += int(counters[slot].packets)
                counted[slot] += int(counters[slot].bytes)
        return [
            Rule(
                slot=slot,
                generation=int(table[slot].generation),
                live=bool(table[slot].live),
                suppressed=_is_suppressed(table[slot]),
                peer_id=int(table[slot].peer_id),
                peer_name=shm.clean(bytes(ffi.buffer(table[slot].peer_name))),
                max_frame=int(table[slot].max_frame),
                key=_own(table[slot].key),
                mask=_own(table[slot].mask),
                packets=packets[slot],
                bytes=counted[slot],
            )
            for slot in used
        ]

    def suppress(self, slot: int, generation: int) -> bool:
        """Have the sender leave a rule with its next burst, until `lift`; OVS is not told.

        Returns:
            False if this rule is not in force (any more).
        """
        rule = self.rule_table()[slot]
        if not generation or int(rule.live) != generation:
            return False
        if int(rule.suppressed) != generation:
            rule.suppressed = generation
            self.changed()
        return True

    def lift(self, slot: int, generation: int) -> None:
        """Take `suppress` back; nothing happens if it was another rule's."""
        rule = self.rule_table()[slot]
        if generation and int(rule.suppressed) == generation:
            rule.suppressed = 0
            self.changed()

    def suppressed(self) -> dict[int, int]:
        """Return the generation by slot of each rule that would be in force if not suppressed."""
        return {
            slot: int(rule.generation)
            for slot, rule in enumerate(self.copy_rules())
            if rule.live and _is_suppressed(rule)
        }

    def changed(self) -> None:
        """Tell the VNF and the switch that something in this region has changed."""
        atomic.add(ffi.addressof(self.raw.gate, "change"), 1)

    def set_operator(self, bits: Off, *, off: bool) -> bool:
        """Set or clear bits of `off_operator`; return whether that changed anything."""
        word = ffi.addressof(self.raw.gate, "off_operator")
        before = atomic.set_bits(word, bits) if off else atomic.clear_bits(word, bits)
        if bool(before & bits == bits if off else not before & bits):
            return False
        self.changed()
        return True

    def set_policy(
        self, reason: str | None, *, tx_flush_us: int | None = None, standalone: bool | None = None
    ) -> bool:
        """Write what highwayd decided; return whether that changed anything.

        `reason` is why the bypass is off, None when policy allows it.
        """
        gate, before = self.raw.gate, self.gate()
        after = replace(
            before,
            off_policy=Off.POLICY if reason else Off(0),
            off_text=shm.clean(shm.text_bytes(reason or "", len(gate.off_text))),
            tx_flush_us=before.tx_flush_us if tx_flush_us is None else tx_flush_us,
            standalone=before.standalone if standalone is None else standalone,
        )
        if after == before:
            return False
        gate.tx_flush_us, gate.fail_mode = after.tx_flush_us, int(after.standalone)
        if reason:
            put_text(gate.off_text, after.off_text)
        gate.off_policy = int(after.off_policy)
        if not reason:
            put_text(gate.off_text, "")
        self.changed()
        return True

    def renew_lease(self) -> None:
        """Count the lease up; only highwayd does this."""
        self.raw.gate.lease = (int(self.raw.gate.lease) + 1) & 0xFFFFFFFFFFFFFFFF

    def switch_died(self) -> bool:
        """Note that no ovs-vswitchd has the port; return whether that was news."""
        if not self.raw.switch_state.attached:
            return False
        self.raw.switch_state.attached = 0
        self.changed()
        return True

    def vnf_died(self) -> bool:
        """Note that no VNF has the port; return whether that was news."""
        state = self.raw.vnf_state
        if not state.attached and not state.started:
            return False
        state.started = state.attached = 0
        self.changed()
        return True


def _is_suppressed(rule: CData) -> bool:
    return bool(rule.suppressed == rule.generation)


def _own(struct: CData) -> CData:
    """Return a copy of a `struct highway_key` that outlives the table it was in."""
    return ffi.new("struct highway_key *", struct)
