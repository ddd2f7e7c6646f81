# SPDX-License-Identifier: Apache-2.0
"""Network commands: the OpenFlow flows of a graph.

Each direction of a link is one flow of table 0, `in_port=A,actions=output:B`, which the p-2-p link
detector follows. Only an end-point with a tag, some rule of which looks at the tag below it, has a
table of its own: the first table takes its tag off and goes there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from ovs_highway.graph.match import field_bits, join, parse_match
from ovs_highway.graph.model import LINK_PRIORITY, End, Graph, Rule
from ovs_highway.openflow.fields import FIELDS
from ovs_highway.openflow.text import format_match

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ovs_highway.graph.marks import Path
    from ovs_highway.graph.values import Bits

TABLES: Final = 8
"""How many tables a graph has, besides table 0."""
LAST_TABLE: Final = 253
"""Table 254 is OVS's own."""
_FIRST_TABLE: Final = 64
_RANGES: Final = 16
COOKIE_PREFIX: Final = 0x4857 << 48
"""Of all cookies of graphs: `HW`; the other 48 bits are of one graph."""
COOKIE_PREFIX_MASK: Final = 0xFFFF << 48
_PRESENT: Final = 0x1000
_ALL: Final[Bits] = (0, 0)
IN_PORT: Final = "in_port"


@dataclass(frozen=True, slots=True)
class Output:
    """Send to a port, by its name in OVS."""

    port: str

    def __str__(self) -> str:
        return f"output:{self.port}"


Action: TypeAlias = str | Output
"""What a flow does, in the words of ovs-actions(7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A flow of a graph.

    Attributes:
        in_port: name in OVS.
        match: of everything else, as `openflow.text` writes it.
        bits: the same as mask and value.
        origin: link or rule that it comes from.
    """

    cookie: int
    table: int
    priority: int
    in_port: str
    match: str
    actions: tuple[Action, ...]
    bits: Bits = field(compare=False, repr=False)
    origin: Path = field(compare=False, repr=False)

    @property
    def key(self) -> tuple[int, int, str, str]:
        """What identifies the flow in its bridge."""
        return self.table, self.priority, self.in_port, self.match

    @property
    def ports(self) -> frozenset[str]:
        """All ports that it names."""
        outputs = (action.port for action in self.actions if isinstance(action, Output))
        return frozenset((self.in_port, *outputs))

    def text(self, numbers: Mapping[str, int] | None = None) -> str:
        """Return the flow as ovs-ofctl takes it, with numbers for names if they are given.

        Raises:
            KeyError: a port has no number.
        """

        def shown(port: str) -> str:
            return str(numbers[port]) if numbers is not None else port

        actions = ",".join(
            f"output:{shown(action.port)}" if isinstance(action, Output) else action
            for action in self.actions
        )
        match = f",{self.match}" if self.match else ""
        return (
            f"cookie={self.cookie:#x},table={self.table},priority={self.priority},"
            f"in_port={shown(self.in_port)}{match},actions={actions}"
        )


def cookie(name: str) -> int:
    """Return the cookie of a graph's flows: the prefix, and 48 bits of the name's SHA-256."""
    return COOKIE_PREFIX | int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def tables(graph: Graph) -> range:
    """Return the graph's own tables; without `table` one of 16 ranges, chosen by its name."""
    first = graph.table
    if first is None:
        first = _FIRST_TABLE + TABLES * (cookie(graph.name) % _RANGES)
    return range(first, first + TABLES)


def looks_at_tags(bits: Bits) -> bool:
    """Tell whether a match asks for something of the tag."""
    return bool(bits[0] & FIELDS["vlan_tci"].ones)


def own_tables(graph: Graph) -> Mapping[str, int]:
    """Return the table of each end-point that needs one.

    Raises:
        ValueError: a match cannot be parsed.
    """
    deep = {rule.source for rule in graph.rules if looks_at_tags(parse_match(rule.match))}
    names = [end.name for end in graph.ends.values() if end.vlan and end.name in deep]
    return {name: tables(graph).start + number for number, name in enumerate(names)}


def compile_flows(graph: Graph) -> tuple[Flow, ...]:
    """Return the flows of a graph that was checked, those of its links first.

    Raises:
        ValueError: a match cannot be parsed, or matches nothing.
        KeyError: there is no such end.
    """
    return tuple(_Compiler(graph).flows())


class _Compiler:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._cookie = cookie(graph.name)
        self._tables = own_tables(graph)

    def flows(self) -> Iterator[Flow]:
        """Return all flows."""
        for number, link in enumerate(self._graph.links):
            one, other = link.ends
            for source, target in ((one, other), (other, one)):
                rule = Rule(source=source, to=(target,), priority=LINK_PRIORITY)
                yield self._flow(rule, ("links", number))
        for number, rule in enumerate(self._graph.rules):
            yield self._flow(rule, ("rules", number))
        for name, table in self._tables.items():
            end = self._graph.ends[name]
            actions = ("pop_vlan", f"goto_table:{table}")
            yield self._make(end, 0, LINK_PRIORITY, _tag(end), actions, ("end-points", name))

    def _flow(self, rule: Rule, origin: Path) -> Flow:
        end = self._graph.ends[rule.source]
        table = self._tables.get(end.name, 0)
        bits = parse_match(rule.match)
        actions: list[Action] = []
        if end.vlan is not None and not table:
            found = join(bits, _tag(end))
            if found is None:
                raise ValueError(f"frames of {end.name} have no tag; take it out of the match")
            bits = found
            actions += ["pop_vlan"] if end.vlan else []
        actions += ["pop_vlan"] if rule.pop_vlan else []
        actions += _push(rule.push_vlan) if rule.push_vlan is not None else []
        actions += self._outputs(end, [self._graph.ends[name] for name in rule.to])
        return self._make(end, table, rule.priority, bits, tuple(actions), origin)

    def _outputs(self, source: End, targets: list[End]) -> Iterator[Action]:
        """Send to targets without a tag first; then put each tag on, and off before the next."""
        pushed = False
        for tag in sorted({target.vlan or 0 for target in targets}):
            if pushed:
                yield "pop_vlan"
            if tag:
                yield from _push(tag)
                pushed = True
            for target in targets:
                if (target.vlan or 0) == tag:
                    back = target.ovs_port == source.ovs_port
                    yield IN_PORT if back else Output(target.ovs_port)

    def _make(
        self,
        end: End,
        table: int,
        priority: int,
        bits: Bits,
        actions: tuple[Action, ...],
        origin: Path,
    ) -> Flow:
        return Flow(
            cookie=self._cookie,
            table=table,
            priority=priority,
            in_port=end.ovs_port,
            match=format_match(*bits),
            actions=actions,
            bits=bits,
            origin=origin,
        )


def _tag(end: End) -> Bits:
    """What the frames of an end-point have as their tag."""
    if end.vlan is None:
        return _ALL
    return field_bits("vlan_vid", 0x1FFF, _PRESENT | end.vlan if end.vlan else 0)


def _push(vlan: int) -> list[Action]:
    return ["push_vlan:0x8100", f"set_field:{_PRESENT | vlan}->vlan_vid"]
