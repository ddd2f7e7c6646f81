# SPDX-License-Identifier: Apache-2.0
"""Graph files, in YAML, as graphs.

Of YAML this takes what JSON has: yes, no, on and off are texts, so is `0000:01:00.0`, and there are
no aliases, no tags and no merging. What is read may still make no sense, see `check`.
"""

from __future__ import annotations

import re
import reprlib
import types
import typing
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec
import yaml

from ovs_highway.errors import GraphError
from ovs_highway.graph.marks import Marks, Path, Problem, hint
from ovs_highway.graph.model import EndPoint, Graph, Link, Port, Rule, Vnf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

T = TypeVar("T")

_IN_FILES: Final = {"source": "from", "endpoints": "end-points"}
_SIZE: Final = re.compile(r"(\d+) ?([KMG])(?:i?B)?", re.IGNORECASE)
_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_WORDS: Final = {int: "a number", str: "a text", bool: "true or false"}
_INDEX: Final = re.compile(r"\$\[(\d+)\]`$")


@dataclass(frozen=True, slots=True)
class Document:
    """A graph and where its parts stand."""

    graph: Graph
    marks: Marks

    def refuse(self, problems: list[Problem]) -> None:
        """Raise a GraphError if there are any problems."""
        refuse(self.marks, problems)


def refuse(marks: Marks, problems: list[Problem]) -> None:
    """Raise a GraphError if there are any problems, in the order of their lines."""
    if problems:
        ordered = sorted(problems, key=lambda problem: marks.line(problem.path))
        raise GraphError(*map(marks.describe, ordered))


def parse(text: str, file: str) -> Document:
    """Read a graph; `file` is what messages call it.

    Raises:
        GraphError: it is not YAML, or not a graph; with everything that is wrong.
    """
    marks = Marks(file)
    value, problems = compose(text, marks)
    reader = _Reader(problems)
    graph = reader.graph(value)
    refuse(marks, problems)
    assert graph is not None  # else there were problems
    return Document(graph, marks)


def compose(text: str, marks: Marks) -> tuple[Any, list[Problem]]:
    """Return what YAML, or JSON, says, and which keys stand twice; note all lines in `marks`.

    Raises:
        GraphError: it is neither.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, []
        problems = list(_mark(node, (), marks.lines))
        return loader.construct_document(node), problems
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        what = error.problem or "it is not YAML"
        raise GraphError(f"{marks.file}:{at.line + 1 if at else 1}: {what}; correct it") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        first = (str(error) or "it is nested too deeply").splitlines()[0]
        raise GraphError(f"{marks.file}:1: this is not YAML: {first}; correct it") from error


class _Loader(yaml.SafeLoader):
    """YAML's core schema without floats, which no graph has; and no aliases."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # as PyYAML has it; its types say no more

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's
            raise yaml.MarkedYAMLError(problem="aliases are not taken", problem_mark=mark)
        return super().compose_node(parent, index)

    def text(self, node: yaml.ScalarNode) -> str:
        """Return a text; JSON writes characters beyond 16 bits as two halves."""
        return self.construct_scalar(node).encode("utf-16", "surrogatepass").decode("utf-16")


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )
_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.text)


def _mark(node: yaml.Node, path: Path, lines: dict[Path, int]) -> Iterator[Problem]:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a key has to be a text", problem_mark=key.start_mark
                )
            below = (*path, str(key.value))
            if key.value in seen:
                lines[below] = key.start_mark.line + 1
                yield Problem(below, "stands twice; keep one")
                continue
            seen.add(key.value)
            lines[below] = key.start_mark.line + 1
            yield from _mark(value, below, lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _mark(value, (*path, number), lines)


class _Reader:
    """Makes a graph of what the file says, and collects what is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems

    def graph(self, raw: object) -> Graph | None:
        """Return the graph, None if there are problems."""
        if not isinstance(raw, dict):
            self._wrong((), raw, "a mapping with name, bridge, vnfs, end-points, links and rules")
            return None
        vnfs = [self._vnf(*item) for item in self._named(raw, ("vnfs",))]
        points = [
            self._take(EndPoint, value, path, {"name": name})
            for path, name, value in self._named(raw, ("end-points",))
        ]
        links = [self._link(path, value) for path, value in self._listed(raw, "links")]
        rules = [self._rule(path, value) for path, value in self._listed(raw, "rules")]
        parts = {
            "vnfs": tuple(vnf for vnf in vnfs if vnf),
            "endpoints": tuple(point for point in points if point),
            "links": tuple(link for link in links if link),
            "rules": tuple(rule for rule in rules if rule),
        }
        return self._take(Graph, raw, (), {}, parts)

    def _vnf(self, path: Path, name: str, raw: object) -> Vnf | None:
        parsed: dict[str, object] = {}
        if isinstance(raw, dict):
            parsed["ports"] = tuple(self._ports(raw.get("ports"), (*path, "ports")))
            if isinstance(size := raw.get("memory"), str) and (match := _SIZE.fullmatch(size)):
                parsed["memory"] = int(match[1]) * _UNITS[match[2].upper()]
        return self._take(Vnf, raw, path, {"name": name}, parsed)

    def _ports(self, raw: object, path: Path) -> Iterator[Port]:
        if isinstance(raw, list):
            for number, name in enumerate(raw):
                if isinstance(name, str):
                    yield Port(name=name)
                else:
                    self._wrong((*path, number), name, "the name of a port")
        elif isinstance(raw, dict):
            for key, value in raw.items():
                below = (*path, str(key))
                if port := self._take(Port, {} if value is None else value, below, {"name": key}):
                    yield port
        elif raw is not None:
            self._wrong(path, raw, "a list of names, or a mapping from name to options")

    def _link(self, path: Path, raw: object) -> Link | None:
        if isinstance(raw, list) and len(raw) == 2 and all(isinstance(end, str) for end in raw):
            return Link(ends=(raw[0], raw[1]))
        self._wrong(path, raw, "two ends, such as [fw.out, cache.in]")
        return None

    def _rule(self, path: Path, raw: object) -> Rule | None:
        parsed: dict[str, object] = {}
        if isinstance(raw, dict) and isinstance(to := raw.get("to"), str):
            parsed["to"] = (to,)
        return self._take(Rule, raw, path, {}, parsed)

    def _named(self, raw: Mapping[str, object], path: Path) -> Iterator[tuple[Path, str, object]]:
        found = raw.get(str(path[0]))
        if isinstance(found, dict):
            for name, value in found.items():
                yield (*path, str(name)), name, value
        elif found is not None:
            self._wrong(path, found, "a mapping from names to what they are")

    def _listed(self, raw: Mapping[str, object], key: str) -> Iterator[tuple[Path, object]]:
        found = raw.get(key)
        if isinstance(found, list):
            for number, value in enumerate(found):
                yield (key, number), value
        elif found is not None:
            self._wrong((key,), found, "a list")

    def _take(
        self,
        kind: type[T],
        raw: object,
        path: Path,
        given: Mapping[str, object],
        parsed: Mapping[str, object] | None = None,
    ) -> T | None:
        """Return a `kind` made of a mapping, None if that cannot be.

        Args:
            given: fields that the mapping may not have; `parsed`: those that were read already.
        """
        if not isinstance(raw, dict):
            self._wrong(path, raw, "a mapping")
            return None
        before = len(self._problems)
        names = {_IN_FILES.get(name, name.replace("_", "-")): name for name in _types(kind)}
        known = [shown for shown, name in names.items() if name not in given]
        values: dict[str, object] = {}
        for key, value in raw.items():
            if key not in known:
                self._add((*path, str(key)), f"there is no such field{hint(str(key), known)}")
            elif names[key] not in (parsed or {}):
                values[names[key]] = self._value(_types(kind)[names[key]], value, (*path, key))
        values |= dict(parsed or {})
        for name, value in given.items():
            values[name] = value
            if not isinstance(value, str):
                self._wrong(path, value, "a name, in quotes if it is a number")
        for needed in fields(kind):  # type: ignore[arg-type]  # all kinds are dataclasses
            if needed.default is MISSING and needed.name not in values:
                shown = next(key for key, name in names.items() if name == needed.name)
                self._add(path, f"'{shown}' is missing; add it")
        return kind(**values) if len(self._problems) == before else None

    def _value(self, wanted: object, value: object, path: Path) -> object:
        try:
            return msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            found = _INDEX.search(str(error))
            if found and isinstance(value, list):
                path, value = (*path, int(found[1])), value[int(found[1])]
            self._wrong(path, value, _words(wanted))
            return None

    def _wrong(self, path: Path, value: object, wanted: str) -> None:
        shown = "empty" if value is None else reprlib.repr(value)
        self._add(path, f"is {shown}; give {wanted}")

    def _add(self, path: Path, text: str) -> None:
        self._problems.append(Problem(path, text))


def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _words(wanted: object) -> str:
    """Return what a type asks for, in words."""
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is Literal:
        return " or ".join(map(repr, args)) if len(args) < 3 else "one of " + ", ".join(args)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_words(part) for part in args if part is not types.NoneType)
    if origin is tuple:
        return "a list of " + _words(args[0]).removeprefix("a ") + "s"
    if origin is dict:
        return "a mapping from names to " + _words(args[1]).removeprefix("a ") + "s"
    return _WORDS[wanted] if isinstance(wanted, type) else str(wanted)
