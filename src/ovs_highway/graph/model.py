# SPDX-License-Identifier: Apache-2.0
"""A service graph: VNFs, end-points, and what goes from where to where.

An end of a link or rule is written `vnf.port`, or as the name of an end-point. Field names are
those of graph files with `_` for `-`, but for `source`, which files call `from`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind: TypeAlias = Literal["process", "container", "vm"]
Idle: TypeAlias = Literal["poll", "yield", "sleep"]
Mode: TypeAlias = Literal["auto", "checked", "p2p", "off"]
Restart: TypeAlias = Literal["never", "on-failure", "always"]
Shared: TypeAlias = Literal["shared"]

LINK_PRIORITY: Final = 1
"""Of a link's flows: above a bridge's own `priority=0,actions=NORMAL`, below all rules."""
RULE_PRIORITY: Final = 100
"""Of a rule that does not tell."""
DEFAULT_MEMORY: Final = 128 << 20
"""Bytes that a VNF has if the graph does not tell: enough for testpmd's buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of a VNF.

    Attributes:
        ovs_port: its name in OVS; empty: `<vnf>-<port>`.
        ring_size: descriptors per ring.
        idle: what the VNF does at empty polls; None: `poll` on cores of its own, else `sleep`.
        mode: which links it may have, see `agent.policy.Mode`; None: as its bridge says.
        trust: label; None: the graph's.
    """

    name: str
    ovs_port: str = ""
    queues: int = 1
    ring_size: int = 2048
    idle: Idle | None = None
    mode: Mode | None = None
    trust: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vnf:
    """A virtual network function.

    Attributes:
        template: see `templates`; `options` are its.
        command: instead of a template: words, or a line as a shell has it.
        cores: how many, or which, or `shared`: those that other such VNFs have too.
        memory: bytes; huge pages but for a VM.
        host: where it is to run; empty: here.
        image: of a container (local) or VM (a disk); `rootfs`: a container's folder instead.
        domain: of a VM that libvirt knows.
    """

    name: str
    kind: Kind = "process"
    template: str = ""
    options: dict[str, str | int] | None = None
    command: str | tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    cores: int | tuple[int, ...] | Shared = 1
    memory: int = DEFAULT_MEMORY
    user: str = ""
    environment: dict[str, str] | None = None
    restart: Restart = "on-failure"
    host: str = ""
    image: str = ""
    rootfs: str = ""
    domain: str = ""

    def ovs_port(self, port: Port) -> str:
        """Return the name in OVS of one of its ports."""
        return port.ovs_port or f"{self.name}-{port.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndPoint:
    """Where packets enter or leave the graph: exactly one of the first five.

    Attributes:
        port: an OVS port that exists and stays.
        bridge: another bridge of this OVS, by a pair of patch ports.
        nic: PCI address of a card that DPDK drives.
        kernel: an interface of the kernel, by af_packet.
        tap: an interface that is made for the graph.
        vlan: only frames with this tag; it is put on and taken off. Beside such an end-point, one
            of the same device without has the frames without a tag.
    """

    name: str
    port: str = ""
    bridge: str = ""
    nic: str = ""
    kernel: str = ""
    tap: str = ""
    vlan: int | None = None

    @property
    def devices(self) -> tuple[tuple[str, str], ...]:
        """What it names, as kind and value; one, if it is right."""
        kinds = ("port", "bridge", "nic", "kernel", "tap")
        return tuple((kind, value) for kind in kinds if (value := getattr(self, kind)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Everything that comes out of either end goes to the other."""

    ends: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What comes out of `source` and matches goes to all of `to`.

    Attributes:
        match: as ovs-ofctl(8) has it, without `in_port`; empty: everything.
        push_vlan: tag to put on; `pop_vlan`: take one off.
    """

    source: str
    to: tuple[str, ...]
    priority: int = RULE_PRIORITY
    match: str = ""
    push_vlan: int | None = None
    pop_vlan: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """An end of links and rules: a port in OVS, of a VNF or an end-point.

    Attributes:
        name: as links and rules write it.
        vlan: tag of an end-point; 0: it has the frames without one; None: all.
    """

    name: str
    ovs_port: str
    vnf: Vnf | None = None
    port: Port | None = None
    endpoint: EndPoint | None = None
    vlan: int | None = None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A service graph.

    Attributes:
        trust: label of all ports that have none of their own.
        table: first of the OpenFlow tables that are its; None: chosen by its name.
    """

    name: str
    bridge: str
    trust: str = ""
    table: int | None = None
    vnfs: tuple[Vnf, ...] = ()
    endpoints: tuple[EndPoint, ...] = ()
    links: tuple[Link, ...] = ()
    rules: tuple[Rule, ...] = ()

    @cached_property
    def ends(self) -> Mapping[str, End]:
        """All ends by name."""
        return {end.name: end for end in (*self._vnf_ends(), *self._endpoint_ends())}

    def peers(self, name: str) -> frozenset[str]:
        """Return the ends with which an end exchanges packets, by link or rule."""
        found = {end for link in self.links if name in link.ends for end in link.ends}
        for rule in self.rules:
            if rule.source == name:
                found.update(rule.to)
            elif name in rule.to:
                found.add(rule.source)
        return frozenset(found - {name})

    def _vnf_ends(self) -> Iterator[End]:
        for vnf in self.vnfs:
            for port in vnf.ports:
                name = f"{vnf.name}.{port.name}"
                yield End(name=name, ovs_port=vnf.ovs_port(port), vnf=vnf, port=port)

    def _endpoint_ends(self) -> Iterator[End]:
        tagged = {point.devices for point in self.endpoints if point.vlan is not None}
        names: dict[tuple[tuple[str, str], ...], str] = {}
        for point in self.endpoints:
            own = dict(point.devices)
            first = names.setdefault(point.devices, point.name)
            yield End(
                name=point.name,
                ovs_port=own.get("port") or own.get("tap") or first,
                endpoint=point,
                vlan=0 if point.vlan is None and point.devices in tagged else point.vlan,
            )
