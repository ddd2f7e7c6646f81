# SPDX-License-Identifier: Apache-2.0
"""Random tables and frames: with the bypass everything is as OVS alone has it.

Each seed is an OpenFlow table and frames for it. They go through the same bridge twice, with the
bypass and with all gates closed, and what comes out of the ports and what OpenFlow counts is
compared. Environment:

- `HIGHWAY_DIFF_SEEDS=100:200`: these seeds instead of the usual ones;
- `HIGHWAY_DIFF_FLOWS=3,17`: of a single seed only these flows.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.differential.compare import (
    Difference,
    counter_differences,
    frame_differences,
    lost_hits,
)
from tests.system.differential.plan import QUEUES, Plan
from tests.system.differential.runs import Outcome, Runner
from tests.system.differential.world import PORTS
from tests.system.frame_pipe import FramePipe
from tests.system.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovs_highway.lab import Sandbox

SHORT: Final = range(40)
LONG: Final = range(1000, 4000)
PER_TEST: Final = 10
LEAST_SHARE: Final = 0.05


def seeds(default: range) -> range:
    """Return the seeds to run."""
    text = os.environ.get("HIGHWAY_DIFF_SEEDS")
    if not text:
        return default
    first, _, end = text.partition(":")
    return range(int(first), int(end) if end else int(first) + 1)


def only() -> list[int] | None:
    """Return the only flows to send, None for all."""
    text = os.environ.get("HIGHWAY_DIFF_FLOWS")
    return [int(word) for word in text.split(",")] if text else None


@pytest.fixture(scope="module")
def runner(sandbox: Sandbox) -> Iterator[Runner]:
    """Four ports with two queues each, all in one process."""
    with Scene(sandbox) as scene:
        scene.ports(len(PORTS), queues=QUEUES)
        with FramePipe(sandbox, [f"p{port}" for port in PORTS], queues=QUEUES) as pipe:
            yield Runner(scene, pipe)


def both(runner: Runner, plan: Plan) -> tuple[Outcome, Outcome]:
    """Return what comes of a plan without the bypass, and with it."""
    outcomes = {bypass: runner.run(plan, bypass=bypass) for bypass in order(plan)}
    return outcomes[False], outcomes[True]


def order(plan: Plan) -> tuple[bool, bool]:
    """Return which run comes first."""
    return (True, False) if plan.bypass_first else (False, True)


def check(runner: Runner, seed: int) -> Outcome:
    """Compare both runs of a seed; return that with the bypass."""
    plan = Plan.make(seed, only())
    normal, bypass = both(runner, plan)
    assert normal.bypassed == 0, f"seed {seed}: the oracle was not without the bypass"
    found = [
        *frame_differences(plan, normal, bypass),
        *(() if within_tolerance(runner, normal, bypass) else counter_differences(normal, bypass)),
    ]
    if found:
        pytest.fail(report(runner, plan, found), pytrace=False)
    return bypass


def within_tolerance(runner: Runner, normal: Outcome, bypass: Outcome) -> bool:
    """Tell whether all hits that OpenFlow lacks become unclaimed."""
    hits = lost_hits(normal, bypass)
    return hits is not None and runner.becomes_unclaimed(hits, bypass)


def report(runner: Runner, plan: Plan, found: list[Difference]) -> str:
    """Return all that is needed to see what went wrong, and how to see it again."""
    lines = [f"seed {plan.seed}: {len(found)} differences"]
    lines += [
        f"  {f'flow {one.flow}, ' if one.flow is not None else ''}{one.text}" for one in found[:20]
    ]
    blamed = sorted({one.flow for one in found if one.flow is not None})
    runner.install(plan)
    for number in blamed[:3]:
        flow = plan.flows[number]
        frame, _ = flow.frame(0)
        lines += [
            f"flow {number} ({flow.kind}), from port {flow.port}: {frame.hex()}",
            runner.trace(flow.port, frame),
        ]
    again = f"HIGHWAY_DIFF_SEEDS={plan.seed}"
    if blamed:
        again += f" HIGHWAY_DIFF_FLOWS={','.join(map(str, blamed))}"
    test = "tests/system/test_differential.py::test_with_the_bypass_all_is_as_without"
    return "\n".join(
        [*lines, "the table:", plan.table.bundle(), f"to run just that: {again} pytest {test}"]
    )


def batches(all_seeds: range) -> list[range]:
    """Return seeds in portions of a test each."""
    return [all_seeds[at : at + PER_TEST] for at in range(0, len(all_seeds), PER_TEST)]


def compare_all(runner: Runner, some: range) -> None:
    """Check some seeds; see that the bypass was used."""
    outcomes = [check(runner, seed) for seed in some]
    sent, bypassed = (
        sum(outcome.sent for outcome in outcomes),
        sum(outcome.bypassed for outcome in outcomes),
    )
    shares = [f"{100 * outcome.bypassed // outcome.sent} %" for outcome in outcomes]
    print(f"seeds {some.start} to {some.stop - 1}: {bypassed} of {sent} bypassed; {shares}")
    assert only() is not None or len(some) < PER_TEST or bypassed > LEAST_SHARE * sent


@pytest.mark.parametrize("some", batches(seeds(SHORT)), ids=str)
def test_with_the_bypass_all_is_as_without(runner: Runner, some: range) -> None:
    """The same frames at the same ports in the same order, and the same OpenFlow counters.

    Steps: for each seed install its table, send its frames in several rounds, so that a frame
    meets no flow, then a datapath flow, then a rule; with the bypass and without.
    Verify: nothing differs, and a part of all frames has taken the bypass.
    """
    compare_all(runner, some)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("some", batches(seeds(LONG)), ids=str)
def test_thousands_of_tables(runner: Runner, some: range) -> None:
    """The same with thousands of tables."""
    compare_all(runner, some)
