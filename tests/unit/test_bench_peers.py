# SPDX-License-Identifier: Apache-2.0
"""What `highway bench peers` makes of its measurements; no switch is needed."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ovs_highway.bench import machine, peers
from ovs_highway.bench.alternatives import ALTERNATIVES
from ovs_highway.bench.hops import shares_mbufs
from ovs_highway.bench.machine import Placement
from ovs_highway.bench.peers import Attempts, Failure
from ovs_highway.bench.sample import Sample
from ovs_highway.bench.schedule import measure
from ovs_highway.cli import main
from ovs_highway.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable

PLACEMENT = Placement(first=0, second=1, switch=1)
RATES = {
    ("bypass", 64): 30.0,
    ("memif", 64): 25.0,
    ("memif_zc_tx", 64): 20.0,
    ("memif_zc_rx", 64): 40.0,
    ("normal", 64): 12.0,
    ("vhostuser", 64): 10.0,
    ("bypass", 1500): 12.0,
    ("memif", 1500): 10.0,
    ("memif_zc_tx", 1500): 8.0,
    ("memif_zc_rx", 1500): 6.0,
    ("normal", 1500): 5.0,
}


def sample(mpps: float) -> Sample:
    return Sample(packets=round(mpps * 1e6), seconds=1.0, disturbance=0.0, round_trip_ns=200.0)


def refuse() -> Sample:
    raise SandboxError("the port does not take it")


def report(rounds: int = 2) -> dict[str, Any]:
    names = list(dict.fromkeys(name for name, _ in RATES))
    sizes = (64, 1500)
    takes: dict[str, Callable[[], Sample | Failure]] = {}
    for size in sizes:
        for name in names:
            rate = RATES.get((name, size))
            take = refuse if rate is None else partial(sample, rate)
            takes[peers.label(name, size)] = Attempts(take)
    results = measure(takes, rounds, flaw=peers.flaw, most=rounds + 1, only_lacking=True)
    return peers.report(
        results,
        names=names,
        sizes=sizes,
        facts=machine.gather(),
        placement=PLACEMENT,
        versions={"open_vswitch": "3.1.0", "dpdk": "22.11.11"},
        seconds=1.0,
    )


def test_the_report_has_rates_by_size_and_ratios_with_their_cores() -> None:
    found = report()
    assert found["alternatives"]["bypass"]["sizes"]["1500"]["mpps"]["median"] == 12
    assert found["ratio_memif_64"] == found["ratio_memif_default_64"] == pytest.approx(1.2)
    assert found["ratio_memif_best_64"] == pytest.approx(0.75)
    assert found["ratio_memif_1500"] == found["ratio_memif_best_1500"] == pytest.approx(1.2)
    assert found["ratio_normal_vhost_64"] == pytest.approx(1.2)
    assert "ratio_limit_64" not in found
    assert found["ratios"][0]["topology"] == found["between"]["one_way"]["topology"]
    assert found["ratios"][0]["round_trip_ns"] == 200
    json.dumps(found, allow_nan=False)


def test_what_cannot_carry_a_size_has_a_reason_and_no_ratio() -> None:
    found = report()
    refused = found["alternatives"]["vhostuser"]["sizes"]["1500"]
    assert refused == {"mpps": None, "reason": "the port does not take it"}
    assert "ratio_normal_vhost_1500" not in found
    assert found["alternatives"]["vhostuser"]["sizes"]["64"]["mpps"]["median"] == 10


def test_the_best_is_of_those_that_carry_the_size() -> None:
    names = ["bypass", *peers.MEMIF]
    medians = {("bypass", 64): 30.0, ("memif", 64): 20.0, ("memif_zc_tx", 64): 10.0}
    found = {each["name"]: each for each in peers.ratios_at(64, medians, names)}
    assert found["memif_best"]["second"] == "memif"
    assert "limit" not in found
    assert not peers.ratios_at(64, medians, ["bypass", "memif_zc_tx"])


def test_failures_are_told_apart_from_disturbed_measurements() -> None:
    found = report()
    assert found["set_aside"] == []
    assert not any("disturbed" in note for note in found["notes"])
    assert found["rounds"] == 2


def test_what_always_fails_is_given_up() -> None:
    calls = []

    def take() -> Sample:
        calls.append(1)
        return refuse()

    attempts = Attempts(take)
    outcomes = [attempts() for _ in range(5)]
    assert outcomes == [Failure(reason="the port does not take it")] * 5
    assert len(calls) == 2


def test_what_has_succeeded_is_tried_again_after_failures() -> None:
    takes: list[Callable[[], Sample]]
    takes = [partial(sample, 1.0), refuse, refuse, refuse, partial(sample, 2.0)]
    attempts = Attempts(lambda: takes.pop(0)())
    outcomes = [attempts() for _ in range(5)]
    rates = [each.mpps if isinstance(each, Sample) else None for each in outcomes]
    assert rates == [1, None, None, None, 2]


def test_only_what_lacks_sound_results_has_another_turn() -> None:
    turns: list[str] = []
    values = iter([0, 1, 1])

    def first() -> int:
        return next(values)

    def second() -> int:
        return 1

    measure(
        {"a": first, "b": second},
        2,
        flaw=lambda value, others: "" if value else "nothing",
        most=4,
        only_lacking=True,
        tell=lambda turn, result: turns.append(f"{turn.round}{turn.name}"),
    )
    assert turns == ["1a", "1b", "2a", "2b", "3a"]


def test_shared_mbufs_are_seen_in_the_maps() -> None:
    rings = "7f0000000000-7f0000100000 rw-s 000 00:01 347   /memfd:memif_region_0 (deleted)\n"
    mbufs = "7e0000000000-7e0001000000 rw-s 000 00:11 818   /memfd:seg_2 (deleted)\n"
    others = "7e0000000000-7e0001000000 rw-s 000 00:11 819   /memfd:seg_2 (deleted)\n"
    library = "7d0000000000-7d0000100000 r-xp 000 fe:00 99   /usr/bin/dpdk-testpmd\n"
    assert shares_mbufs(library + rings + mbufs, mbufs + rings + library)
    assert not shares_mbufs(library + rings + mbufs, others + rings + library)


def test_every_ratio_is_of_alternatives_and_within_one_kind() -> None:
    for first, others in peers.RATIOS.values():
        for other in others:
            assert ALTERNATIVES[first].circle == ALTERNATIVES[other].circle


def test_the_command_refuses_frames_that_no_port_takes() -> None:
    for words in (["--sizes", "9217"], ["--sizes", "14"], ["--only", "carrier-pigeon"]):
        done = CliRunner().invoke(main, ["bench", "peers", *words], standalone_mode=False)
        assert done.exception is not None
