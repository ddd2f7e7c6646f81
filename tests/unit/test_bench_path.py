# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of the hot path make of their measurements; no switch is needed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ovs_highway import paths
from ovs_highway.bench import cycles, links, machine, path, queues, rules
from ovs_highway.bench.machine import Placement
from ovs_highway.bench.path import PathSample
from ovs_highway.bench.rules import Case
from ovs_highway.bench.schedule import Results
from ovs_highway.cli import main
from ovs_highway.errors import SetupError
from ovs_highway.lab.gauge import read_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HZ = 2_000_000_000


def calls(packets: int, cycles: float, number: int | None = None) -> dict[str, int]:
    """Return calls of 32 packets, or so many calls, as the program describes them."""
    number = packets // 32 if number is None else number
    return {"calls": number, "packets": packets, "cycles": round(cycles)}


def answer(tx: float, rx: float, *, empty: float = 20) -> dict[str, Any]:
    """Return what the program answers, for so many cycles per packet and per empty poll."""
    return {
        "tsc_hz": HZ,
        "rdtsc_cycles": 24,
        "round_trip_ns": 60.0,
        "sent": 64_000,
        "received": 64_000,
        "tx": {
            "seconds": 0.5,
            "whole": calls(32_000, 32_000 * tx),
            "part": calls(100, 1_000_000, 10),
            "interrupted": calls(64, 5_000_000),
        },
        "rx": {
            "seconds": 0.5,
            "found": calls(32_000, 32_000 * rx),
            "empty": calls(0, 1000 * empty, 1000),
            "interrupted": calls(32, 9_000_000),
        },
    }


def sample(tx: float, rx: float, *, empty: float = 20) -> PathSample:
    """Return a sample of so many cycles."""
    return PathSample(
        packets=32_032,
        seconds=0.5,
        disturbance=0.0,
        round_trip_ns=60.0,
        measured=read_run(answer(tx, rx, empty=empty)),
        facts={"links": 1},
        command_lines=("gauge",),
    )


def results(samples: Mapping[str, list[PathSample]]) -> Results[PathSample]:
    """Return sound results."""
    return Results(
        kept=dict(samples),
        flaws={name: [""] * len(taken) for name, taken in samples.items()},
        set_aside=(),
    )


def test_waiting_and_interruptions_are_no_cost_of_a_packet() -> None:
    """Only whole calls of the sender count, and calls of the receiver that found something."""
    found = sample(50, 30)
    assert (found.tx, found.rx) == (50, 30)
    assert found.measured.rx.packets == 32_032
    assert found.measured.mpps == pytest.approx(0.064064)
    assert found.measured.rx.found.burst == 32
    assert found.measured.rx.empty.per_call == 20
    assert found.measured.rx.empty.per_packet == 0


def test_the_cores_distance_is_the_shortest_that_is_not_rare() -> None:
    """A moment as threads of one core is no measure for the rest, and neither is it one of them."""
    assert path.nearest([]) is None
    assert path.nearest([300.0]) == 300
    trips = [26.0, *[62.0] * 5, 66.0, *[300.0] * 12]
    assert path.nearest(trips) == 62
    assert path.usual(trips, 66)
    assert not path.usual(trips, 26)
    assert not path.usual(trips, 300)
    assert path.usual([], 300)


def test_a_sample_is_judged_by_its_circumstances() -> None:
    """What it says does not matter."""
    sound = [sample(50, 30), sample(500, 300)]
    assert path.flaw(sound[1], sound) == ""
    far = replace(sound[0], measured=replace(sound[0].measured, round_trip_ns=300.0))
    assert "300 ns from each other instead of 60" in path.flaw(far, [*sound, far])
    kept_waiting = replace(sound[0], disturbance=0.3)
    assert "waiting for 30%" in path.flaw(kept_waiting, sound)


def test_cycles_are_medians_of_both_sides_together() -> None:
    """The sum is taken sample by sample."""
    found = cycles.figures(
        results(
            {
                "64": [sample(50, 30), sample(60, 10), sample(40, 50)],
                "1500": [sample(100, 200)] * 3,
                "1500_external": [sample(110, 40)] * 3,
            }
        )
    )
    assert (found["tx_64"], found["rx_64"], found["rx_tx_64"]) == (50, 30, 80)
    assert (found["rx_tx_1500"], found["rx_tx_1500_external"]) == (300, 150)


def test_the_ratio_of_rules_is_that_of_both_sides() -> None:
    """Both ratios are to the case of one rule."""
    costs = {case.name: sample(100, 30) for case in rules.CASES}
    costs[Case(rules=1).name] = sample(40, 25)
    costs[Case(rules=1000, masks=8).name] = sample(230, 30)
    found = rules.figures(results({name: [each] for name, each in costs.items()}))
    assert found["ratio_1000"] == 2
    assert found["ratio_1000_masks_8"] == 4
    assert found["tx_0"] == 100
    assert found["tx_1000_masks_8"] == 230


def frame_of(number: int) -> tuple[int, int]:
    """Return source and destination port of a frame of `gauge` (frames.c)."""
    return (number % 100 + 1) << 8 | (number % 10 + 1), 1000 + number


def matches(flow: str, field: str, value: int) -> bool:
    """Tell whether a flow matches a port."""
    found = re.search(rf"\b{field}=(\w+)(?:/(\w+))?", flow)
    if found is None:
        return True
    mask = int(found[2], 0) if found[2] else 0xFFFF
    return value & mask == int(found[1], 0)


@pytest.mark.parametrize("case", rules.CASES, ids=lambda case: case.name)
def test_each_frame_is_matched_by_one_flow_and_each_flow_by_as_many(case: Case) -> None:
    """The flows of a case are as many as its rules, of as many kinds as its masks."""
    flows = rules.flows(case)
    assert len(flows) == max(1, case.rules)
    hits = [0] * len(flows)
    for number in range(rules.FRAMES):
        source, destination = frame_of(number)
        found = [
            index
            for index, flow in enumerate(flows)
            if matches(flow, "tp_src", source) and matches(flow, "tp_dst", destination)
        ]
        assert len(found) == 1
        hits[found[0]] += 1
    assert set(hits) == {rules.FRAMES // len(flows)}
    fields = {re.sub(r"=\w+", "", re.sub(r"priority=\d+,", "", flow)) for flow in flows}
    assert len(fields) == case.masks


def test_the_ratio_of_links_is_the_receivers() -> None:
    """What the sender spends does not matter."""
    found = links.figures(
        results(
            {
                links._name(count): [sample(50 + count, 30 + count / 64 * 9, empty=count)]
                for count in links.COUNTS
            }
        )
    )
    assert found["ratio_64"] == pytest.approx(39 / (30 + 9 / 64))
    assert found["empty_poll_32"] == 32


def test_there_are_peers_for_64_links() -> None:
    """A switch of 32 ports and the stand-ins together."""
    assert 1 + len(links.IDLE) + len(links.STAND_INS) == 64
    assert len(links.IDLE) + 2 == links.DPDK_PORTS


def test_the_report_says_where_the_cores_are_beside_each_figure() -> None:
    """Everything that a figure depends on is in the file."""
    taken = results({queues._name(count): [sample(50, 30)] * 3 for count in queues.COUNTS})
    found = path.report(
        "queues",
        taken,
        queues.figures(taken),
        facts=machine.gather(),
        placement=Placement(first=0, second=1, switch=1),
        versions={"dpdk": "22.11.11"},
        seconds=0.5,
        notes=["of its own"],
    )
    figures = found["queues"]
    assert figures["ratio_4"] == 1
    assert figures["topology"] in ("SMT siblings", "shared L2", "shared L3", "apart")
    assert figures["round_trip_ns"] == 60
    one = found["alternatives"]["1 queue"]
    assert one["cycles_per_packet"]["rx_tx"]["median"] == 80
    assert one["facts"] == [{"links": 1}] * 3
    assert one["gauge"][0]["rdtsc_cycles"] == 24
    assert found["notes"][0] == "of its own"
    assert any("on the sender's core" in note for note in found["notes"])
    assert found["machine"]["cpu"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("name", ["cycles", "rules", "links", "queues"])
def test_the_commands_refuse_too_few_rounds(name: str) -> None:
    """Five rounds are the least."""
    done = CliRunner().invoke(main, ["bench", name, "--rounds", "2"], standalone_mode=False)
    assert done.exception is not None
    assert "5" in str(done.exception)


def test_a_gauge_that_is_not_built_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to do."""
    monkeypatch.setenv("HIGHWAY_GAUGE", str(tmp_path / "none"))
    with pytest.raises(SetupError, match="run 'make build'"):
        paths.gauge()
