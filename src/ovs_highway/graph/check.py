# SPDX-License-Identifier: Apache-2.0
"""Whether a graph makes sense, whatever the machine."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Final

from ovs_highway import shm
from ovs_highway.graph import templates
from ovs_highway.graph.flows import (
    LAST_TABLE,
    TABLES,
    Flow,
    compile_flows,
    own_tables,
)
from ovs_highway.graph.marks import Path, Problem, dotted, hint
from ovs_highway.graph.match import overlap, parse_match
from ovs_highway.graph.model import LINK_PRIORITY, EndPoint, Graph, Port, Rule, Vnf

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST: Final = 15
"""Characters of a port's name that OpenFlow tells (OFP_MAX_PORT_NAME_LEN, with its NUL)."""
MIN_MEMORY: Final = 16 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_PCI: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_LETTERS: Final = "give letters, digits, '_' and '-'"


def check(graph: Graph) -> list[Problem]:
    """Return everything that is wrong with a graph; empty if it makes sense."""
    problems = [
        *_head(graph),
        *(problem for vnf in graph.vnfs for problem in _vnf(vnf)),
        *(problem for point in graph.endpoints for problem in _endpoint(graph, point)),
        *_names(graph),
        *_links(graph),
        *(
            problem
            for number, rule in enumerate(graph.rules)
            for problem in _rule(graph, number, rule)
        ),
    ]
    return problems or [*_tables(graph), *_clashes(graph)]


def _head(graph: Graph) -> Iterator[Problem]:
    for key, name in (("name", graph.name), ("bridge", graph.bridge)):
        if not shm.valid_port_name(name):
            yield Problem((key,), f"'{name}' is no name; {_LETTERS}, at most {shm.NAME_LEN - 1}")
    last = LAST_TABLE + 1 - TABLES
    if graph.table is not None and not 1 <= graph.table <= last:
        yield Problem(
            ("table",), f"is {graph.table}; give 1 to {last}: a graph has {TABLES} tables"
        )
    if not graph.links and not graph.rules:
        yield Problem((), "has neither links nor rules; add what is to go where")


# VNFs -------------------------------------------------------------------------------------------


def _vnf(vnf: Vnf) -> Iterator[Problem]:
    path: Path = ("vnfs", vnf.name)
    if not _NAME.fullmatch(vnf.name):
        yield Problem(path, f"'{vnf.name}' is no name; {_LETTERS}")
    if not vnf.ports:
        yield Problem(path, "has no ports; add ports: [in, out], or take it out")
    yield from _program(vnf, path)
    yield from _resources(vnf, path)
    for port in vnf.ports:
        yield from _port(vnf, port, (*path, "ports", port.name))
    for name, count in Counter(port.name for port in vnf.ports).items():
        if count > 1:
            yield Problem((*path, "ports"), f"'{name}' stands twice; keep one")


def _program(vnf: Vnf, path: Path) -> Iterator[Problem]:
    """What it runs, by its kind."""
    program = [name for name in ("template", "command") if getattr(vnf, name)]
    root = [name for name in ("image", "rootfs", "domain") if getattr(vnf, name)]
    if vnf.kind == "vm":
        if len(root) != 1 or root == ["rootfs"]:
            yield Problem(path, "is a VM; give either its image or its libvirt domain")
        for name in (*program, *(name for name in ("user", "environment") if getattr(vnf, name))):
            yield Problem((*path, name), "has no meaning for a VM; set it in the image")
        return
    if len(program) != 1:
        yield Problem(path, "give either a template or a command")
    if vnf.kind == "container" and (len(root) != 1 or root == ["domain"]):
        yield Problem(path, "is a container; give either its image or its rootfs")
    if vnf.kind == "process" and root:
        yield Problem((*path, root[0]), "has no meaning for a process; take it out, or give a kind")
    if vnf.template:
        for field, text in templates.problems(vnf):
            yield Problem((*path, *field), text)
    else:
        yield from _command(vnf, path)


def _command(vnf: Vnf, path: Path) -> Iterator[Problem]:
    try:
        if isinstance(vnf.command, str):
            shlex.split(vnf.command)
    except ValueError as error:
        yield Problem((*path, "command"), f"{str(error).lower()}; close the quotes, or give words")
    if vnf.options:
        yield Problem((*path, "options"), "are a template's; write them into the command")


def _resources(vnf: Vnf, path: Path) -> Iterator[Problem]:
    cores = vnf.cores
    if isinstance(cores, int) and cores < 1:
        yield Problem((*path, "cores"), f"is {cores}; give at least 1, or shared")
    if isinstance(cores, tuple) and (len({*cores}) < max(1, len(cores)) or min(cores) < 0):
        yield Problem((*path, "cores"), "give numbers of cores, each once")
    if vnf.memory < MIN_MEMORY:
        yield Problem(
            (*path, "memory"),
            f"is {vnf.memory} bytes; give at least {MIN_MEMORY >> 20}M, as in 512M",
        )
    if vnf.rootfs and not vnf.rootfs.startswith("/"):
        yield Problem((*path, "rootfs"), f"'{vnf.rootfs}' is relative; give an absolute path")
    for key in vnf.environment or {}:
        if not key or "=" in key or "\0" in key:
            yield Problem((*path, "environment", key), "is no name of a variable; take '=' out")


def _port(vnf: Vnf, port: Port, path: Path) -> Iterator[Problem]:
    if not _NAME.fullmatch(port.name):
        yield Problem(path, f"'{port.name}' is no name; {_LETTERS}")
    yield from _ovs_name(vnf.ovs_port(port), path, "give it a shorter one as ovs-port")
    if not 1 <= port.queues <= shm.MAX_QUEUES:
        yield Problem((*path, "queues"), f"is {port.queues}; give 1 to {shm.MAX_QUEUES}")
    size = port.ring_size
    if not shm.MIN_RING_SIZE <= size <= shm.MAX_RING_SIZE or not shm.power_of_two(size):
        limits = f"{shm.MIN_RING_SIZE} to {shm.MAX_RING_SIZE}"
        yield Problem((*path, "ring-size"), f"is {size}; give a power of two, {limits}")


def _ovs_name(name: str, path: Path, advice: str) -> Iterator[Problem]:
    if len(name) > LONGEST:
        yield Problem(
            path,
            f"its name in OVS, '{name}', has {len(name)} characters, and OpenFlow tells"
            f" {LONGEST}; {advice}",
        )
    elif not shm.valid_port_name(name):
        yield Problem(path, f"its name in OVS, '{name}', is none; {advice}")


# End-points -------------------------------------------------------------------------------------


def _endpoint(graph: Graph, point: EndPoint) -> Iterator[Problem]:
    path: Path = ("end-points", point.name)
    if not _NAME.fullmatch(point.name):
        yield Problem(path, f"'{point.name}' is no name; {_LETTERS}")
    if len(point.devices) != 1:
        yield Problem(path, "give exactly one of port, bridge, nic, kernel and tap")
        return
    kind, device = point.devices[0]
    if kind == "nic" and not _PCI.fullmatch(device):
        yield Problem((*path, kind), f"'{device}' is no PCI address; write it as 0000:01:00.0")
    elif kind in ("kernel", "tap"):
        yield from _ovs_name(device, (*path, kind), f"interfaces have at most {LONGEST}")
    elif kind == "bridge" and device == graph.bridge:
        yield Problem((*path, kind), "is the graph's own bridge; name another one, or a port")
    if kind in ("nic", "kernel", "bridge"):
        # A patch port's peer has two characters more.
        name = point.name + "-p" * (kind == "bridge")
        yield from _ovs_name(name, path, "give the end-point a shorter name")
    if point.vlan is not None and not 1 <= point.vlan <= 4094:
        yield Problem((*path, "vlan"), f"is {point.vlan}; give 1 to 4094")


def _names(graph: Graph) -> Iterator[Problem]:
    """Names and devices that are used twice."""
    used: dict[tuple[object, ...], str] = {}
    for point in graph.endpoints:
        first = used.setdefault((point.devices, point.vlan), point.name)
        if point.devices and first != point.name:
            yield Problem(
                ("end-points", point.name),
                f"is the same as {first}; use that one, or give it another vlan",
            )
    vnfs = {vnf.name for vnf in graph.vnfs}
    for key, names in (
        ("vnfs", [vnf.name for vnf in graph.vnfs]),
        ("end-points", [*_points(graph)]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                yield Problem((key, name), "stands twice; give each another name")
    for name in {*_points(graph)} & vnfs:
        yield Problem(("end-points", name), "is the name of a VNF too; give it another one")
    owners: dict[str, tuple[object, str]] = {}
    for end in graph.ends.values():
        # Several tags of one device share its port.
        device: object = end.endpoint.devices if end.endpoint else end.name
        first_device, first = owners.setdefault(end.ovs_port, (device, end.name))
        if first_device != device:
            yield Problem(
                _path(graph, end.name),
                f"its port in OVS would be '{end.ovs_port}', as that of {first}; give it another"
                f" {'name' if end.endpoint else 'ovs-port'}",
            )


def _points(graph: Graph) -> Iterator[str]:
    return (point.name for point in graph.endpoints)


def _path(graph: Graph, end: str) -> Path:
    vnf, _, port = end.partition(".")
    return ("vnfs", vnf, "ports", port) if port else ("end-points", end)


# Links and rules --------------------------------------------------------------------------------


def _end(graph: Graph, name: str, path: Path) -> Iterator[Problem]:
    if name in graph.ends:
        return
    vnf, dot, port = name.partition(".")
    known = {item.name: item for item in graph.vnfs}
    if not dot and vnf in known:
        ports = [f"{vnf}.{item.name}" for item in known[vnf].ports]
        yield Problem(path, f"'{name}' is a VNF; name one of its ports{hint('', ports)}")
    elif vnf in known:
        ports = [item.name for item in known[vnf].ports]
        yield Problem(path, f"VNF {vnf} has no port '{port}'{hint(port, ports)}")
    elif dot:
        yield Problem(path, f"there is no VNF '{vnf}'{hint(vnf, known)}")
    else:
        yield Problem(path, f"there is no end-point '{name}'{hint(name, graph.ends)}")


def _links(graph: Graph) -> Iterator[Problem]:
    linked: dict[str, int] = {}
    for number, link in enumerate(graph.links):
        path: Path = ("links", number)
        if link.ends[0] == link.ends[1]:
            yield Problem(path, f"both ends are {link.ends[0]}; name two")
            continue
        for side, name in enumerate(link.ends):
            yield from _end(graph, name, (*path, side))
            if linked.setdefault(name, number) != number:
                yield Problem(
                    (*path, side),
                    f"{name} is linked already by {dotted(('links', linked[name]))}; use rules, or"
                    " another port",
                )


def _rule(graph: Graph, number: int, rule: Rule) -> Iterator[Problem]:
    path: Path = ("rules", number)
    yield from _end(graph, rule.source, (*path, "from"))
    for place, name in enumerate(rule.to):
        yield from _end(graph, name, (*path, "to", place))
    if not rule.to:
        yield Problem((*path, "to"), "is empty; name where packets go")
    if len(set(rule.to)) < len(rule.to):
        yield Problem((*path, "to"), "names an end twice; keep one")
    if not LINK_PRIORITY < rule.priority <= 0xFFFF:
        yield Problem(
            (*path, "priority"),
            f"is {rule.priority}; give {LINK_PRIORITY + 1} to 65535: links have {LINK_PRIORITY}",
        )
    if rule.push_vlan is not None and not 1 <= rule.push_vlan <= 4094:
        yield Problem((*path, "push-vlan"), f"is {rule.push_vlan}; give 1 to 4094")
    try:
        bits = parse_match(rule.match)
    except ValueError as error:
        yield Problem((*path, "match"), str(error))
        return
    present = bits[1] & parse_match(_TAGGED)[1] != 0
    if rule.pop_vlan and not present:
        yield Problem(
            (*path, "pop-vlan"), f"needs a tag in the match, such as dl_vlan=25 or {_TAGGED}"
        )
    pushed = any((found := graph.ends.get(name)) and found.vlan for name in rule.to)
    if present - rule.pop_vlan + (rule.push_vlan is not None) + pushed > _MOST_TAGS:
        yield Problem(
            path, f"frames would have more than the {_MOST_TAGS} tags that OVS knows; push fewer"
        )
    end = graph.ends.get(rule.source)
    if end and end.vlan == 0 and not overlap(bits, parse_match("dl_vlan=0xffff")):
        yield Problem(
            (*path, "match"), f"frames of {end.name} have no tag; take it out of the match"
        )


_MOST_TAGS: Final = 2
"""FLOW_MAX_VLAN_HEADERS of OVS; it refuses a flow that puts on more."""
_TAGGED: Final = "vlan_tci=0x1000/0x1000"


def _tables(graph: Graph) -> Iterator[Problem]:
    used = own_tables(graph)
    if len(used) > TABLES:
        yield Problem(
            ("end-points",),
            f"{len(used)} with a tag have rules that look at the tag below, and there are {TABLES}"
            " tables for them; split the graph",
        )


def _clashes(graph: Graph) -> Iterator[Problem]:
    """Two flows of one priority that some packet matches both of, and that do other things."""
    groups: dict[tuple[int, str, int], list[Flow]] = {}
    for flow in compile_flows(graph):
        groups.setdefault((flow.table, flow.in_port, flow.priority), []).append(flow)
    for group in groups.values():
        for one, other in combinations(group, 2):
            if overlap(one.bits, other.bits) and (one.actions != other.actions):
                yield Problem(
                    other.origin,
                    f"matches packets that {dotted(one.origin)} matches too, with the same priority"
                    f" {other.priority}; give one of them another",
                )
