# SPDX-License-Identifier: Apache-2.0
"""Where in a file something stands, and what is wrong there."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Path: TypeAlias = tuple[str | int, ...]
"""Keys and indexes from the top of a graph, such as `("vnfs", "fw", "ports", 0)`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, in a line that says what to do."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Marks:
    """A graph's file, and the line and label of everything in it.

    A label is what messages call a field, if that is not its path.
    """

    file: str
    lines: dict[Path, int] = field(default_factory=dict)
    labels: dict[Path, str] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """Return the line of a field, or of what it would stand in."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def describe(self, problem: Problem) -> str:
        """Return a problem as `file:line: field: text`."""
        label = path = problem.path
        while label and label not in self.labels:
            label = label[:-1]
        name = dotted(path[len(label) :], self.labels.get(label, ""))
        where = f"{self.file}:{self.line(path)}: "
        text = f"{where}{name}: {problem.text}" if name else where + problem.text
        return "".join(char if char.isprintable() else "?" for char in text)


def dotted(path: Path, start: str = "") -> str:
    """Return a path as people write it, such as `vnfs.fw.ports[0]`."""
    for key in path:
        start += f"[{key}]" if isinstance(key, int) else f".{key}" if start else key
    return start


def hint(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` if a known word is near, else `; known: …`."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(words)}" if words else ""
