# SPDX-License-Identifier: Apache-2.0
"""What the driver's classifier costs: `.venv/bin/python -m tests.unit.classifier_cost`.

Nothing is asserted. Frames are looked up in random order, one behind the other, on one core;
medians of nine.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from random import Random

from .driver_classifier import ISAS, Driver, compile_driver
from .ovs_model import Flow
from .test_classifier import PACKET, WIDE, distinct_rules, rules_for, tcp_frame

LOOKUPS = 1_000_000
TABLES = ((1024, 5), (4096, 1), (4096, 16), (4096, 4096))


def measure(driver: Driver, n: int, n_masks: int) -> str:
    """Return a line on one table."""
    if n == 1:
        rules, links = rules_for(driver, [WIDE], PACKET), [0]
        frames = [tcp_frame(Flow(nw_proto=6))] * 256
    else:
        r = Random(n)
        case, rules = distinct_rules(driver, r, n, n_masks)
        links, frames = case.links, r.sample(case.packets, n)
    rounds = max(1, LOOKUPS // len(frames) // n_masks)
    with driver.table(rules, links) as table:
        lookup = statistics.median(table.cost(frames, rounds) for _ in range(9))
        build = statistics.median(table.build_cost() for _ in range(9)) / 1000
    return f"{n:5} rules, {n_masks:4} masks: {lookup:8.1f} ns per look-up, {build:6.0f} us to build"


def main() -> None:
    """Print a line per table and instruction set."""
    with tempfile.TemporaryDirectory() as folder:
        for isa in ISAS:
            driver = Driver(compile_driver(Path(folder), isa))
            for n, n_masks in ((1, 1), *TABLES):
                print(isa, measure(driver, n, n_masks), flush=True)


if __name__ == "__main__":
    main()
