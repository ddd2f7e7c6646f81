# SPDX-License-Identifier: Apache-2.0
"""Whether a graph makes sense, whatever the machine."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Final

from ovs_highway import shm
from ovs_highway.graph.check_parts import LETTERS, check_endpoint, check_vnf
from ovs_highway.graph.flows import (
    LAST_TABLE,
    TABLES,
    Flow,
    compile_flows,
    own_tables,
)
from ovs_highway.graph.marks import Path, Problem, dotted, hint
from ovs_highway.graph.match import overlap, parse_match
from ovs_highway.graph.model import LINK_PRIORITY, Graph, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(graph: Graph) -> list[Problem]:
    """Return everything that is wrong with a graph; empty if it makes sense."""
    problems = [
        *_head(graph),
        *(problem for vnf in graph.vnfs for problem in check_vnf(vnf)),
        *(problem for point in graph.endpoints for problem in check_endpoint(graph, point)),
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
            yield Problem((key,), f"'{name}' is no name; {LETTERS}, at most {shm.NAME_LEN - 1}")
    last = LAST_TABLE + 1 - TABLES
    if graph.table is not None and not 1 <= graph.table <= last:
        yield Problem(
            ("table",), f"is {graph.table}; give 1 to {last}: a graph has {TABLES} tables"
        )
    if not graph.links and not graph.rules:
        yield Problem((), "has neither links nor rules; add what is to go where")


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
