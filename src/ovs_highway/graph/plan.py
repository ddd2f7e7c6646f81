# SPDX-License-Identifier: Apache-2.0
"""From what is to what is to be, in the fewest steps.

New VNFs run before flows lead to them, and old ones run until no flow does: packets that are under
way get through. What has to be made anew under its old name goes first and comes back with the
same OpenFlow number, so that its flows stay. A plan that was carried out half-way needs no undoing:
the plan from there has the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ovs_highway.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovs_highway.graph.flows import Flow
    from ovs_highway.graph.state import PortSpec, State, VnfSpec


@dataclass(frozen=True, slots=True)
class AddPort:
    """Make a port; with an OpenFlow number if flows have it already."""

    port: PortSpec
    number: int | None = None

    def __str__(self) -> str:
        return f"add {self.port}"


@dataclass(frozen=True, slots=True)
class SetPort:
    """Set a port's `external_ids` of `state.MANAGED_KEYS` to these, and remove the rest of them."""

    port: PortSpec

    def __str__(self) -> str:
        shown = " ".join(f"{key}={value}" for key, value in self.port.external_ids)
        return f"set port {self.port.name}: {shown}"


@dataclass(frozen=True, slots=True)
class DelPort:
    """Remove a port."""

    port: PortSpec

    def __str__(self) -> str:
        return f"delete port {self.port.name} of {self.port.bridge}"


@dataclass(frozen=True, slots=True)
class StartVnf:
    """Start a VNF and wait until its ports are up."""

    vnf: VnfSpec

    def __str__(self) -> str:
        return f"start {self.vnf}"


@dataclass(frozen=True, slots=True)
class StopVnf:
    """Stop a VNF and wait until it is gone."""

    vnf: VnfSpec

    def __str__(self) -> str:
        vnf = self.vnf
        cores = ", ".join(map(str, vnf.cores))
        return f"stop {vnf.kind} {vnf.name}: frees core {cores} and {vnf.memory >> 20} MiB"


@dataclass(frozen=True, slots=True)
class ReplaceFlows:
    """Change flows, all at once: one bundle.

    Attributes:
        add: new ones, and those that replace one of the same key.
        remove: with strict matching.
    """

    bridge: str
    add: tuple[Flow, ...] = ()
    remove: tuple[Flow, ...] = ()

    def __str__(self) -> str:
        return f"in one bundle on {self.bridge}: {len(self.add)} flows in, {len(self.remove)} out"

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the flows, one line each, `-` before those that go and `+` before the others."""
        return (
            *(f"- {flow.text()}" for flow in self.remove),
            *(f"+ {flow.text()}" for flow in self.add),
        )


Step: TypeAlias = AddPort | SetPort | DelPort | StartVnf | StopVnf | ReplaceFlows


def plan(wanted: State, actual: State, *, flows: bool = True) -> tuple[Step, ...]:
    """Return the steps from `actual` to `wanted`, in order; none if it is so already.

    Args:
        wanted: what `desired` returns; an empty State removes everything.
        flows: False leaves them to somebody else.

    Raises:
        GraphError: a port's name is taken, a port or bridge is missing, or the bridge is another.
    """
    _possible(wanted, actual)
    return tuple(_Difference(wanted, actual).steps(flows=flows))


def _possible(wanted: State, actual: State) -> None:
    if actual.bridge and wanted.bridge and actual.bridge != wanted.bridge:
        raise GraphError(
            f"the graph runs on bridge {actual.bridge}, and is to be on {wanted.bridge}; delete it"
            " first"
        )
    needed = (*wanted.needs, *{port.bridge for port in wanted.ports.values()} - wanted.needs)
    problems = [
        f"this switch has no port or bridge '{name}'; add it, or name another one"
        for name in sorted(set(needed) - actual.others)
    ]
    problems += [
        f"a port '{name}' exists and is not this graph's; give it another name, or delete that one"
        for name in sorted(wanted.ports.keys() & actual.others)
    ]
    if problems:
        raise GraphError(*problems)


class _Difference:
    def __init__(self, wanted: State, actual: State) -> None:
        self._wanted, self._actual = wanted, actual
        before, after = actual.ports, wanted.ports
        self._anew = [
            name for name in before if name in after and before[name].fixed != after[name].fixed
        ]
        made = [name for name in after if name not in before or name in self._anew]
        new = {(after[name].type, after[name].options) for name in made}
        gone = [name for name in before if name not in after]
        # A card cannot be in two ports.
        self._first = [
            n for n in gone if (before[n].type, before[n].options) in new and before[n].options
        ]
        self._last = [name for name in gone if name not in self._first]
        broken = {*self._anew, *self._first}
        self._restarted = [
            name
            for name, vnf in actual.vnfs.items()
            if name in wanted.vnfs and (vnf != wanted.vnfs[name] or broken & {*vnf.ports})
        ]

    def steps(self, *, flows: bool) -> Iterator[Step]:
        """Return all steps."""
        wanted, actual = self._wanted, self._actual
        for name in self._restarted:
            yield StopVnf(actual.vnfs[name])
        for name in (*self._anew, *self._first):
            yield DelPort(actual.ports[name])
        yield from self._ports()
        for name, vnf in wanted.vnfs.items():
            if name not in actual.vnfs or name in self._restarted:
                yield StartVnf(vnf)
        if flows:
            yield from self._flows()
        for name, vnf in actual.vnfs.items():
            if name not in wanted.vnfs:
                yield StopVnf(vnf)
        for name in self._last:
            yield DelPort(actual.ports[name])

    def _ports(self) -> Iterator[Step]:
        wanted, actual = self._wanted, self._actual
        for name, port in wanted.ports.items():
            before = actual.ports.get(name)
            if before is None:
                yield AddPort(port)
            elif name in self._anew:
                same = before.bridge == port.bridge
                yield AddPort(port, actual.numbers.get(name) if same else None)
            elif before.external_ids != port.external_ids:
                yield SetPort(port)

    def _flows(self) -> Iterator[Step]:
        wanted, actual = self._wanted, self._actual
        keys = {flow.key for flow in wanted.flows}
        add = sorted(wanted.flows - actual.flows, key=lambda flow: flow.key)
        remove = [flow for flow in actual.flows if flow.key not in keys]
        if add or remove:
            yield ReplaceFlows(
                bridge=wanted.bridge or actual.bridge,
                add=tuple(add),
                remove=tuple(sorted(remove, key=lambda flow: flow.key)),
            )
