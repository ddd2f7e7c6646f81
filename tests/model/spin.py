# SPDX-License-Identifier: Apache-2.0
"""Run spin on model/switchover.pml: one configuration, checked to the end.

By hand: `python tests/model/spin.py QUEUES=2 RXQ=2 NO_FENCE`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODEL: Final = Path(__file__).resolve().parents[2] / "model/switchover.pml"
DEPTH: Final = 1_000_000
MEMORY_MIB: Final = 3000
TABLE_LINE: Final = re.compile(r"\tstate .*:(\d+) => (.*)$")
UNREACHED_LINE: Final = re.compile(r'\t\S+:(\d+), state \d+, "(.*)"$')


class Statement(NamedTuple):
    """A statement of the model; the copies that inlining makes of it are one."""

    process: str
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run of the verifier found."""

    states: int
    error: str
    """In spin's words; empty if there is none."""
    story: str
    """What happened up to the error, a line per step."""
    reached: frozenset[Statement]
    unreached: frozenset[Statement]
    """What no execution came to."""
    seconds: float

    def __str__(self) -> str:
        """The error and what led to it."""
        if not self.error:
            return f"no error in {self.states} states, {self.seconds:.1f} s"
        return f"{self.error} (after {self.states} states)\n{self.story}"


def check(macros: Mapping[str, int | str], *, cycles: bool = False, fast: bool = False) -> Outcome:
    """Explore every execution of one configuration, or up to the first error.

    Args:
        macros: the model's settings; an empty value only defines the name.
        cycles: also look for an execution that never ends.
        fast: have the verifier optimised; worth it above a million states.

    Raises:
        RuntimeError: spin or the compiler failed, or memory or depth did not suffice.
    """
    defines = [
        f"-D{name}={value}" if value != "" else f"-D{name}" for name, value in macros.items()
    ]
    with tempfile.TemporaryDirectory(prefix="highway-spin-") as folder:
        _run(["spin", "-a", *defines, MODEL], folder)
        options = ["-O2" if fast else "-O0", "-w", f"-DMEMLIM={MEMORY_MIB}"]
        options += ["-DNP"] if cycles else ["-DSAFETY"]
        options += ["-DCOLLAPSE"] if fast else []
        _run(["gcc", *options, "-o", "pan", "pan.c"], folder)
        run = ["./pan", f"-m{DEPTH}", "-w24" if fast else "-w20", *(["-l"] if cycles else [])]
        text = _run(run, folder)
        trail = Path(folder, f"{MODEL.name}.trail")
        story = _run(["spin", "-T", "-k", trail, *defines, MODEL], folder) if trail.exists() else ""
        table = _run(["./pan", "-d"], folder)
    return _outcome(text, story, table)


def _run(command: Sequence[str | Path], folder: str) -> str:
    if command[0] != "./pan" and shutil.which(command[0]) is None:
        raise RuntimeError(f"there is no {command[0]}; 'make setup' installs it")
    result = subprocess.run(
        ["nice", "-n", "19", *command], cwd=folder, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{(result.stdout + result.stderr)[-2000:]}")
    return result.stdout


def _outcome(text: str, story: str, table: str) -> Outcome:
    error = re.search(r"^pan:\d+: (.*?)(?: \(at depth \d+\))?$", text, re.M)
    states = re.search(r"(\d+) states, stored", text)
    if states is None or "max search depth too small" in text or "out of memory" in text:
        raise RuntimeError(f"the search is not complete:\n{text[-2000:]}")
    if error is None and not re.search(r"errors: 0$", text, re.M):
        raise RuntimeError(f"spin says something else:\n{text[-2000:]}")
    copies, missed = _statements(table, TABLE_LINE), _statements(text, UNREACHED_LINE)
    unreached = {statement for statement in copies if missed[statement] >= copies[statement]}
    took = re.search(r"elapsed time ([\d.]+)", text)
    return Outcome(
        states=int(states[1]),
        error=error[1] if error else "",
        story="\n".join(line.strip() for line in story.partition("spin: ")[0].splitlines()),
        reached=frozenset(copies.keys() - unreached),
        unreached=frozenset(unreached),
        seconds=float(took[1]) if took else 0.0,
    )


def _statements(text: str, pattern: re.Pattern[str]) -> Counter[Statement]:
    """Count the copies of each statement, whatever numbers the configuration puts into it."""
    process, found = "", Counter[Statement]()
    for line in text.splitlines():
        if (heading := re.match(r"(?:unreached in )?(?:proctype (\w+)|init)$", line)) is not None:
            process = heading[1] or "init"
        elif (match := pattern.match(line)) is not None:
            found[Statement(process, int(match[1]), re.sub(r"\d+", "#", match[2]))] += 1
    return found


def main(arguments: list[str]) -> int:
    """Check the configuration that the arguments give, with what NP and FAST ask for."""
    macros = {name: value for name, _, value in (word.partition("=") for word in arguments)}
    cycles, fast = macros.pop("NP", None) is not None, macros.pop("FAST", None) is not None
    outcome = check(macros, cycles=cycles, fast=fast)
    print(outcome)
    if os.environ.get("UNREACHED"):
        print(*sorted(outcome.unreached), sep="\n")
    return 1 if outcome.error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
