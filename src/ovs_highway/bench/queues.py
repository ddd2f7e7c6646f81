# SPDX-License-Identifier: Apache-2.0
"""`highway bench queues`: what a packet costs where one core sends on several queues by turns.

The receiver's core polls the queues by turns, too. Each queue has a ring of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import path, stats, testbed
from ovs_highway.bench.path import RECEIVER, SENDER, Path, PathSample

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovs_highway.bench.schedule import Results, Turn

COUNTS: Final = (1, 2, 3, 4)


def _name(queues: int) -> str:
    return f"{queues} queue{'s' if queues > 1 else ''}"


def figures(results: Results[PathSample]) -> dict[str, float | None]:
    """Return the medians by number of queues, and those of 4 as a multiple of those of 1."""
    found: dict[str, float | None] = {}
    both: dict[int, float] = {}
    for queues in COUNTS:
        name = _name(queues)
        both[queues] = path.median(results, name, lambda each: each.tx + each.rx)
        found[f"rx_tx_{queues}"] = both[queues]
        found[f"mpps_{queues}"] = path.median(results, name, lambda each: each.mpps)
    found["ratio_4"] = stats.ratio(both[COUNTS[-1]], both[COUNTS[0]])
    return found


def _once(bench: Path, queues: int) -> PathSample:
    with bench.gauge(queues=queues) as gauge:
        bench.await_bypass(gauge, queues=queues)
        return bench.take(gauge, queues=queues)


def run(*, rounds: int, seconds: float, tell: Callable[[Turn, PathSample], None]) -> dict[str, Any]:
    """Measure, and return the results as the JSON file has them.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: a program does not do what it should.
    """
    facts, placement = testbed.begin()
    with Path(placement, seconds=seconds) as bench:
        bench.add_ports(SENDER, RECEIVER, queues=COUNTS[-1])
        bench.set_flows("in_port=1,actions=output:2")
        return path.compare(
            "queues",
            bench,
            {_name(queues): partial(_once, bench, queues) for queues in COUNTS},
            figures,
            facts=facts,
            rounds=rounds,
            tell=tell,
        )
