# SPDX-License-Identifier: Apache-2.0
"""`highway bench cycles`: what the driver's bursts cost over the bypass, from core to core.

One rule, one link, one queue. Every packet's data crosses from one core's cache to the other's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import path, testbed
from ovs_highway.bench.path import RECEIVER, SENDER, Path, PathSample

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovs_highway.bench.schedule import Results, Turn

CASES: Final = {
    "64": (64, ""),
    "1500": (1500, ""),
    "1500_external": (1500, "external-buffers=1"),
}
"""Frame size and options of the VNF's ports, by the name that ends the keys of JSON."""


def figures(results: Results[PathSample]) -> dict[str, float]:
    """Return the medians: cycles per packet of each side and of both, and Mpps, by case."""
    found: dict[str, float] = {}
    for case in CASES:
        for key, read in _READ.items():
            found[f"{key}_{case}"] = path.median(results, case, read)
    return found


_READ: Final[dict[str, Callable[[PathSample], float]]] = {
    "tx": lambda each: each.tx,
    "rx": lambda each: each.rx,
    "rx_tx": lambda each: each.tx + each.rx,
    "mpps": lambda each: each.mpps,
}


def _once(bench: Path, size: int, devargs: str) -> PathSample:
    with bench.gauge(devargs=devargs) as gauge:
        bench.await_bypass(gauge)
        return bench.take(gauge, size=size)


def run(*, rounds: int, seconds: float, tell: Callable[[Turn, PathSample], None]) -> dict[str, Any]:
    """Measure, and return the results as the JSON file has them.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: a program does not do what it should.
    """
    facts, placement = testbed.begin()
    with Path(placement, seconds=seconds) as bench:
        bench.add_ports(SENDER, RECEIVER)
        bench.set_flows("in_port=1,actions=output:2")
        return path.compare(
            "cycles",
            bench,
            {case: partial(_once, bench, *what) for case, what in CASES.items()},
            figures,
            facts=facts,
            rounds=rounds,
            tell=tell,
        )
