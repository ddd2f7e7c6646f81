# SPDX-License-Identifier: Apache-2.0
"""What `highway bench quick` makes of its measurements; no switch is needed."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ovs_highway.bench import machine, quick
from ovs_highway.bench.hops import drops
from ovs_highway.bench.machine import Placement
from ovs_highway.bench.record import check_writable, write_json
from ovs_highway.bench.sample import Sample, flaw
from ovs_highway.bench.schedule import measure
from ovs_highway.cli import main
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PLACEMENT = Placement(first=0, second=1, switch=1)
RATES = {
    "bypass": [26.0, 30.0, 20.0],
    "memif": [20.0, 21.0, 19.0],
    "normal": [13.0, 12.0, 14.0],
    "vhostuser": [10.0, 9.0, 11.0],
}


def sample(mpps: float, **fields: Any) -> Sample:  # noqa: ANN401 - as the class has them
    given = {"disturbance": 0.0, "round_trip_ns": 200.0, "command_lines": ("dpdk-testpmd",)}
    return Sample(packets=round(mpps * 2e6), seconds=2.0, **{**given, **fields})


def report(samples: dict[str, Sequence[Sample]], rounds: int = 3) -> dict[str, Any]:
    takes = {name: iter(each) for name, each in samples.items()}
    alternatives = {name: (lambda name=name: next(takes[name])) for name in samples}
    return quick.report(
        measure(alternatives, rounds, flaw=flaw, most=rounds + 1),
        facts=machine.gather(),
        placement=PLACEMENT,
        versions={"open_vswitch": "3.1.0", "dpdk": "22.11.11"},
        seconds=2.0,
    )


def test_the_report_has_medians_ratios_and_facts() -> None:
    found = report({name: [sample(rate) for rate in rates] for name, rates in RATES.items()})
    assert found["bypass_mpps"] == 26
    assert found["memif_mpps"] == 20
    assert found["normal_mpps"] == 13
    assert found["vhostuser_mpps"] == 10
    assert found["ratio_bypass_memif"] == pytest.approx(1.3)
    assert found["ratio_normal_vhostuser"] == pytest.approx(1.3)
    assert found["rounds"] == 3
    bypass = found["alternatives"]["bypass"]
    assert list(bypass["mpps"]["values"]) == [26, 30, 20]
    assert bypass["mpps"]["q1"] == 23
    assert bypass["command_lines"] == ["dpdk-testpmd"]
    assert found["machine"]["cpu"]
    assert found["versions"]["dpdk"] == "22.11.11"
    assert found["set_aside"] == []
    json.dumps(found, allow_nan=False)


def test_what_was_disturbed_is_measured_again_and_reported() -> None:
    samples = {name: [sample(rate) for rate in [*rates, 15.0]] for name, rates in RATES.items()}
    samples["memif"][0] = sample(5.0, round_trip_ns=600.0)
    found = report(dict(samples))
    assert found["memif_mpps"] == 19
    assert [(each["alternative"], each["mpps"]) for each in found["set_aside"]] == [("memif", 5)]
    assert "far apart" in found["set_aside"][0]["reason"]
    assert any("1 measurement" in note for note in found["notes"])


def test_flaws_do_not_depend_on_the_rate() -> None:
    others = [sample(1.0), sample(30.0)]
    assert flaw(sample(0.001), others) == ""
    assert "waiting for 50%" in flaw(sample(30.0, disturbance=0.5), others)
    assert "far apart" in flaw(sample(30.0, round_trip_ns=400.0), others)
    assert flaw(sample(1.0, round_trip_ns=None), others) == ""


def test_the_notes_say_what_shares_a_core() -> None:
    apart = Placement(first=1, second=2, switch=3)
    assert "on the sender's core" in quick.notes(PLACEMENT)[0]
    assert "on the sender's core" not in quick.notes(apart)[0]


def test_drops_are_summed_over_the_ports() -> None:
    text = """OFPST_PORT reply (xid=0x2): 2 ports
  port LOCAL: rx pkts=0, bytes=0, drop=0, errs=0, frame=0, over=0, crc=0
           tx pkts=0, bytes=0, drop=2, errs=0, coll=0
  port  1: rx pkts=7, bytes=448, drop=?, errs=0, frame=?, over=?, crc=?
           tx pkts=0, bytes=0, drop=40, errs=0, coll=?
"""
    assert drops(text) == 42


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]


def test_a_file_that_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.json")
    with pytest.raises(CommandError, match="there is no folder"):
        check_writable(tmp_path / "missing/new.json")
    with pytest.raises(CommandError, match="no plain file"):
        check_writable(tmp_path)


def test_the_command_refuses_too_few_rounds() -> None:
    done = CliRunner().invoke(main, ["bench", "quick", "--rounds", "2"], standalone_mode=False)
    assert done.exception is not None
    assert "5" in str(done.exception)
