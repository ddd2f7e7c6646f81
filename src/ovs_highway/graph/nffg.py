# SPDX-License-Identifier: Apache-2.0
"""The NF-FG of un-orchestrator, read in.

The JSON of the paper's authors (github.com/netgroup-polito/un-orchestrator, README_NF-FG.md): a
`forwarding-graph` with `VNFs`, `end-points` and the `flow-rules` of a `big-switch`. Ports are
written `vnf:<id>:<port id>` and `endpoint:<id>`; numbers may be texts, in any base.

What is read: end-points `interface` and `vlan` (an OVS port of that name), `internal` (a bridge of
the name `group-<n>`); VNFs, whose template or image a map of the caller tells; all matches that
`match` knows. What is not: tunnels, the host's own stack, and settings inside VNFs.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.graph.check_parts import LONGEST
from ovs_highway.graph.load import Document, compose, refuse
from ovs_highway.graph.marks import Marks, Path, Problem, dotted, hint
from ovs_highway.graph.model import LINK_PRIORITY, RULE_PRIORITY, EndPoint, Graph, Port, Rule, Vnf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = "forwarding-graph"
_SHIFT: Final = LINK_PRIORITY + 1
"""What priorities grow by: theirs begin at 0, those of our rules above links."""
_MASKED: Final = {  # field, its mask if it has one, what ovs-ofctl calls it
    "source_mac": ("eth_src_mask", "eth_src"),
    "dest_mac": ("eth_dst_mask", "eth_dst"),
    "source_ip": ("", "nw_src"),
    "dest_ip": ("", "nw_dst"),
    "ipv4_src": ("ipv4_src_mask", "nw_src"),
    "ipv4_dst": ("ipv4_dst_mask", "nw_dst"),
    "ipv6_src": ("ipv6_src_mask", "ipv6_src"),
    "ipv6_dst": ("ipv6_dst_mask", "ipv6_dst"),
    "arp_spa": ("arp_spa_mask", "arp_spa"),
    "arp_tpa": ("arp_tpa_mask", "arp_tpa"),
    "arp_sha": ("", "arp_sha"),
    "arp_tha": ("", "arp_tha"),
}
_NUMBERS: Final = {
    "ether_type": "dl_type",
    "protocol": "nw_proto",
    "source_port": "tp_src",
    "dest_port": "tp_dst",
    "vlan_id": "dl_vlan",
    "vlan_pcp": "dl_vlan_pcp",
    "ip_dscp": "ip_dscp",
    "ip_ecn": "ip_ecn",
    "sctp_src": "sctp_src",
    "sctp_dst": "sctp_dst",
    "icmpv4_type": "icmp_type",
    "icmpv4_code": "icmp_code",
    "icmpv6_type": "icmpv6_type",
    "icmpv6_code": "icmpv6_code",
    "ipv6_flabel": "ipv6_label",
    "arp_opcode": "arp_op",
    "mpls_label": "mpls_label",
    "mpls_tc": "mpls_tc",
}
_MASKS: Final = {mask for mask, _ in _MASKED.values() if mask}


def is_nffg(text: str) -> bool:
    """Tell whether a file is an NF-FG rather than a graph of our own."""
    return re.match(rf'\s*\{{\s*"{ROOT}"', text) is not None


def parse_nffg(
    text: str, file: str, *, bridge: str, vnfs: Mapping[str, Vnf] | None = None
) -> Document:
    """Read an NF-FG.

    Args:
        file: what messages call it.
        bridge: where the big switch is to be: an NF-FG does not tell.
        vnfs: by name, or by `vnf_template`, what a VNF is; by default the template `forward`. Ports
            and names of these are not looked at.

    Raises:
        GraphError: it is not an NF-FG, or has parts that are not read.
    """
    marks = Marks(file)
    # A tab cannot stand in a text of JSON, and YAML takes none between them.
    value, problems = compose(text.replace("\t", " "), marks)
    reader = _Reader(marks, problems, vnfs or {})
    graph = reader.graph(value, bridge)
    refuse(marks, problems)
    return Document(graph, marks)


class _Reader:
    def __init__(self, marks: Marks, problems: list[Problem], known: Mapping[str, Vnf]) -> None:
        self._marks, self._problems, self._known = marks, problems, known
        self._ends: dict[str, str] = {}
        """What links call an end, by what the NF-FG calls it."""
        self._names: set[str] = set()

    def graph(self, raw: object, bridge: str) -> Graph:
        """Return the graph, as far as it can be read."""
        top = raw.get(ROOT) if isinstance(raw, dict) else None
        if not isinstance(top, dict):
            self._add((), f"there is no '{ROOT}'; give an NF-FG, or a graph in YAML")
            top = {}
        name = _clean(self._text(top, "id", (ROOT,)) or "graph")
        vnfs = tuple(self._vnf(*item) for item in self._items(top, "VNFs"))
        points = [self._endpoint(*item) for item in self._items(top, "end-points")]
        switch = top.get("big-switch")
        rules = [
            self._rule(path, rule)
            for path, rule in self._items(
                switch if isinstance(switch, dict) else {}, "flow-rules", "big-switch"
            )
        ]
        return Graph(
            name=f"nffg-{name}"[:40],
            bridge=bridge,
            vnfs=vnfs,
            endpoints=tuple(point for point in points if point),
            rules=tuple(rule for rule in rules if rule),
        )

    # Parts -------------------------------------------------------------------------------------

    def _vnf(self, path: Path, raw: dict[str, Any]) -> Vnf:
        label = self._text(raw, "id", path)
        shown = raw.get("name")
        name = self._name(_clean(shown if isinstance(shown, str) and shown else label))
        self._label(("vnfs", name), path)
        ports = []
        for below, port in self._items(raw, "ports", *path):
            number = self._text(port, "id", below)
            own = _clean(number)
            ports.append(Port(name=own, ovs_port=_short(f"{name}-{own}")))
            self._label(("vnfs", name, "ports", own), below)
            self._ends[f"vnf:{label}:{number}"] = f"{name}.{own}"
        what = str(raw.get("vnf_template", ""))
        model = self._known.get(name) or self._known.get(what) or Vnf(name=name, template="forward")
        environment = dict(model.environment or {})
        for below, item in self._items(raw, "unify-env-variables", *path):
            key, _, value = self._text(item, "variable", below).partition("=")
            environment[key] = value
        if raw.get("unify-control"):
            self._add((*path, "unify-control"), "is not read; take it out")
        return replace(model, name=name, ports=tuple(ports), environment=environment or None)

    def _endpoint(self, path: Path, raw: dict[str, Any]) -> EndPoint | None:
        label = self._text(raw, "id", path)
        shown = raw.get("name")
        name = self._name(_clean(shown if isinstance(shown, str) and shown else f"ep{label}"))
        self._label(("end-points", name), path)
        self._ends[f"endpoint:{label}"] = name
        kind = raw.get("type")
        own = raw.get(str(kind))
        below = (*path, str(kind))
        if kind not in ("interface", "vlan", "internal"):
            self._add((*path, "type"), f"'{kind}' is not read; give interface, vlan or internal")
            return None
        if not isinstance(own, dict):
            self._add(path, f"'{kind}' is missing; add it")
            return None
        if kind == "internal":
            return EndPoint(name=name, bridge=f"group-{self._text(own, 'internal-group', below)}")
        vlan = self._number(own, "vlan-id", below) if kind == "vlan" else None
        return EndPoint(name=name, port=self._text(own, "if-name", below), vlan=vlan)

    def _rule(self, path: Path, raw: dict[str, Any]) -> Rule | None:
        self._label(("rules", path[-1]), path)
        match = raw.get("match")
        if not isinstance(match, dict):
            self._add(path, "'match' is missing; add it, with a port_in")
            return None
        source = self._end(match.get("port_in"), (*path, "match", "port_in"))
        words = ",".join(self._words(match, (*path, "match")))
        to, push, pop = list[str](), None, False
        for below, action in self._items(raw, "actions", *path):
            for key in action:
                if key == "output_to_port":
                    to.append(self._end(action[key], (*below, key)))
                elif key == "push_vlan":
                    push = self._number(action, key, below)
                elif key == "pop_vlan":
                    pop = True
                else:
                    known = ("output_to_port", "push_vlan", "pop_vlan")
                    self._add((*below, key), f"there is no such action{hint(key, known)}")
        priority = self._number(raw, "priority", path) if "priority" in raw else None
        return Rule(
            source=source,
            to=tuple(to),
            priority=RULE_PRIORITY if priority is None else priority + _SHIFT,
            match=words,
            push_vlan=push,
            pop_vlan=pop,
        )

    def _words(self, match: dict[str, Any], path: Path) -> Iterator[str]:
        for field, value in match.items():
            if field in _MASKED:
                mask, word = _MASKED[field]
                tail = f"/{match[mask]}" if mask in match else ""
                yield f"{word}={value}{tail}"
            elif field in _NUMBERS:
                yield f"{_NUMBERS[field]}={self._number(match, field, path)}"
            elif field != "port_in" and field not in _MASKS:
                known = {*_MASKED, *_NUMBERS, *_MASKS, "port_in"}
                self._add((*path, field), f"is not read{hint(field, known)}")

    # Small ones --------------------------------------------------------------------------------

    def _end(self, value: object, path: Path) -> str:
        if isinstance(value, str) and value in self._ends:
            return self._ends[value]
        self._add(path, f"there is no '{value}'{hint(str(value), self._ends)}")
        return ""

    def _items(
        self, raw: dict[str, Any], key: str, *above: str | int
    ) -> Iterator[tuple[Path, dict[str, Any]]]:
        base: Path = above if above and above[0] == ROOT else (ROOT, *above)
        found = raw.get(key)
        if found is None:
            return
        if not isinstance(found, list):
            self._add((*base, key), "is no list; make it one")
            return
        for number, item in enumerate(found):
            if isinstance(item, dict):
                yield (*base, key, number), item
            else:
                self._add((*base, key, number), "is no object; make it one")

    def _text(self, raw: dict[str, Any], key: str, path: Path) -> str:
        value = raw.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
        self._add(path, f"'{key}' is missing or no text; give one")
        return ""

    def _number(self, raw: dict[str, Any], key: str, path: Path) -> int | None:
        text = self._text(raw, key, path)
        try:
            return int(text, 0) if text.startswith(("0x", "0X")) else int(text)
        except ValueError:
            self._add((*path, key), f"'{text}' is no number; give one")
            return None

    def _name(self, name: str) -> str:
        """Return a name that nothing else has."""
        found, number = name, 2
        while found in self._names:
            found, number = f"{name}-{number}", number + 1
        self._names.add(found)
        return found

    def _label(self, path: Path, original: Path) -> None:
        """Have messages about a part of the graph name where it comes from."""
        self._marks.labels[path] = dotted(original)
        if original in self._marks.lines:
            self._marks.lines[path] = self._marks.lines[original]

    def _add(self, path: Path, text: str) -> None:
        self._problems.append(Problem(path, text))


def _clean(text: str) -> str:
    """Return a text as a name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "", text).lstrip("-") or "x"


def _short(name: str) -> str:
    """Return a name that OVS can have: its own, or its beginning with four digits of its hash."""
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:4]
    return f"{name[: LONGEST - 5]}-{digest}"
