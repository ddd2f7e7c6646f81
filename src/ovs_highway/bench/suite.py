# SPDX-License-Identifier: Apache-2.0
"""The evaluation: all benchmarks in one file of results, of which the report is made.

A file is `{"date": …, "machine_name": …, "benchmarks": {NAME: RESULT, …}}`. Each result has its own
facts of the machine and of the time, so a benchmark can be repeated without the others.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import (
    chain,
    chain_vm,
    cycles,
    detector,
    latency,
    links,
    machine,
    nic,
    peers,
    queues,
    rules,
    setup,
    switchover,
    vm,
)
from ovs_highway.bench.alternatives import ALTERNATIVES
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user chooses for all of them.

    Attributes:
        rounds: how often each alternative has its turn.
        large: each VNF has a core of its own.
        cards: PCI addresses of two network cards, or none.
    """

    rounds: int
    large: bool = False
    cards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One of them: how it is run for the report, and how alone."""

    run: Callable[[Settings, Callable[[str], None]], dict[str, Any]]
    command: str


def _told(tell: Callable[[str], None]) -> Callable[..., None]:
    """Return a teller of turns."""
    return lambda turn, *_: tell(f"round {turn.round}: {turn.name}")


SUITE: Final[Mapping[str, Benchmark]] = {
    "chain": Benchmark(
        run=lambda given, tell: chain.run(
            lengths=chain.LENGTHS,
            rounds=given.rounds,
            seconds=2.0,
            tell=tell,
            large=given.large,
        ),
        command="make bench-chain",
    ),
    "chain_vm": Benchmark(
        run=lambda _, tell: chain_vm.run(length=chain_vm.LENGTH, seconds=5.0, tell=tell),
        command="highway bench chain --vnf vm",
    ),
    "nic": Benchmark(
        run=lambda given, tell: nic.run(
            lengths=nic.LENGTHS,
            rounds=given.rounds,
            seconds=2.0,
            tell=tell,
            large=given.large,
            cards=given.cards,
        ),
        command="make bench-nic",
    ),
    "latency": Benchmark(
        run=lambda given, tell: latency.run(
            lengths=latency.LENGTHS, rounds=given.rounds, seconds=2.0, tell=tell
        ),
        command="make bench-latency",
    ),
    "setup": Benchmark(
        run=lambda _, tell: setup.run(tries=setup.MIN_TRIES, tell=tell),
        command="make bench-setup",
    ),
    "switchover": Benchmark(
        run=lambda _, tell: switchover.run(
            packets=100_000_000, switchovers=1000, seed=1, tell=tell
        ),
        command="make bench-switchover",
    ),
    "peers": Benchmark(
        run=lambda given, tell: peers.run(
            names=list(ALTERNATIVES),
            sizes=peers.SIZES,
            rounds=given.rounds,
            seconds=peers.SECONDS,
            tell=_told(tell),
        ),
        command="make bench-peers",
    ),
    "cycles": Benchmark(
        run=lambda given, tell: cycles.run(rounds=given.rounds, seconds=1.0, tell=_told(tell)),
        command="make bench-cycles",
    ),
    "rules": Benchmark(
        run=lambda given, tell: rules.run(rounds=given.rounds, seconds=1.0, tell=_told(tell)),
        command="make bench-rules",
    ),
    "links": Benchmark(
        run=lambda given, tell: links.run(rounds=given.rounds, seconds=1.0, tell=_told(tell)),
        command="make bench-links",
    ),
    "queues": Benchmark(
        run=lambda given, tell: queues.run(rounds=given.rounds, seconds=1.0, tell=_told(tell)),
        command="make bench-queues",
    ),
    "detector": Benchmark(
        run=lambda _, tell: detector.run(flows=detector.FLOWS, runs=3, tell=tell),
        command="make bench-detector",
    ),
    "vm": Benchmark(
        run=lambda given, tell: vm.run(
            links=vm.MIN_LINKS, seconds=2.0, rounds=given.rounds, tell=tell
        ),
        command="make bench-vm",
    ),
}
"""In the order of the report."""


def machine_name(facts: machine.Machine) -> str:
    """Return a short name of a machine: its processor and the number of cores that it gives us."""
    words = re.sub(r"\(R\)|\(TM\)|CPU|Processor|@.*", " ", facts.cpu).split()
    slug = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
    return f"{slug or 'machine'}-{len(facts.cores)}c"


def load(path: Path) -> dict[str, Any]:
    """Return a file of results; an empty one if it is not there yet.

    Raises:
        CommandError: it is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        facts = machine.gather()
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "machine_name": machine_name(facts),
            "benchmarks": {},
        }
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}; name another file") from error
    if not isinstance(found, dict) or not isinstance(found.get("benchmarks"), dict):
        raise CommandError(
            f"{path} has no 'benchmarks': it is not of 'highway bench all'; name another file"
        )
    return found


def take(results: dict[str, Any], name: str, path: Path) -> None:
    """Take the result of one benchmark, which was run by itself, into a file of results.

    Raises:
        CommandError: it cannot be read, or is of another benchmark.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}; name another file") from error
    if not isinstance(found, dict) or found.get("benchmark", name) != name:
        raise CommandError(f"{path} has no result of '{name}'; name another file")
    results["benchmarks"][name] = found
