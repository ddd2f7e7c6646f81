# SPDX-License-Identifier: Apache-2.0
"""What `highway bench switchover` makes of its runs; no switch is needed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from ovs_highway.bench import switchover
from ovs_highway.bench.switchover import Goal, Outcome, faults
from ovs_highway.cli import main
from ovs_highway.lab.traffic import Verdict

if TYPE_CHECKING:
    from pathlib import Path

KEYS: Final = (
    *("switchovers", "packets", "lost", "doubled", "reordered", "refused", "longest_gap_us"),
)


def outcome(*, reordered: int = 0, lost: int = 0, **fields: Any) -> Outcome:  # noqa: ANN401
    """Return a run of a million packets."""
    verdict = Verdict(
        packets=1_000_000,
        received=1_000_000 - lost,
        lost=lost,
        doubled=0,
        reordered=reordered,
        misdirected=0,
        corrupt=0,
        foreign=0,
        bad_mbuf=0,
        refused=3,
        longest_gap_us=12.5,
    )
    given: dict[str, Any] = {
        "to_bypass": 1000,
        "to_normal": 1200,
        "bypass_packets": 400_000,
        "links_closed": 0,
        "abandoned": 0,
        "switch_drops": 0,
        "seconds": 2.0,
        "changes": {"gate_closed": 7},
        "notes": (),
        "command_line": "traffic",
    }
    return Outcome(verdict=verdict, **{**given, **fields})


def result(ordered: Outcome, naive: Outcome) -> dict[str, Any]:
    """Return both runs as the JSON file has them."""
    return {**ordered.json(), "naive": naive.json()}


def test_both_runs_have_the_same_keys() -> None:
    """The file can be written, and has what readers look for in both runs."""
    found = result(outcome(), outcome(reordered=9))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(key in found and key in found["naive"] for key in KEYS)
    assert found["switchovers"] == 2200
    assert found["bypass_packets"] + found["normal_packets"] == found["packets"]


def test_what_the_switch_has_dropped_is_told_apart() -> None:
    """Open vSwitch counts its own drops; they are not lost by a change of channel."""
    found = outcome(lost=12, switch_drops=10).json()
    assert (found["lost"], found["switch_drops"]) == (2, 10)


@pytest.mark.parametrize(
    ("ordered", "naive", "said"),
    [
        ({}, {"reordered": 1}, None),
        ({"lost": 1}, {"reordered": 1}, "1 packets lost"),
        ({"reordered": 2}, {"reordered": 1}, "2 packets reordered"),
        ({"links_closed": 1}, {"reordered": 1}, "1 links closed"),
        ({"abandoned": 1}, {"reordered": 1}, "1 packets abandoned"),
        ({}, {}, "the test sees nothing"),
    ],
)
def test_a_fault_in_either_run_is_told(
    ordered: dict[str, int], naive: dict[str, int], said: str | None
) -> None:
    """The run in order has to be without fault, and the naive one must not be."""
    found = faults(result(outcome(**ordered), outcome(**naive)))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_the_command_fails_when_packets_were_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is written all the same; `--long` asks for ten times as much."""
    asked: list[Goal] = []

    def run(*, packets: int, switchovers: int, **_: object) -> dict[str, Any]:
        asked.append(Goal(packets=packets, switchovers=switchovers))
        return result(outcome(lost=5), outcome(reordered=1))

    monkeypatch.setattr(switchover, "run", run)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    path = tmp_path / "found.json"
    words = ["bench", "switchover", "--long", "--packets", "50", "--json", str(path)]
    monkeypatch.setattr("sys.argv", ["highway", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "5 packets lost" in capsys.readouterr().err
    assert json.loads(path.read_text())["lost"] == 5
    assert asked == [Goal(packets=500, switchovers=10_000)]
