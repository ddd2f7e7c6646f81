# SPDX-License-Identifier: Apache-2.0
"""What `traffic` says, and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from ovs_highway import paths
from ovs_highway.errors import SetupError
from ovs_highway.lab.traffic import TrafficStats, judge, match, read_stats

if TYPE_CHECKING:
    from pathlib import Path

STREAM: Final = {"source": 0, "class": 1, "queue": 2}


def port(sent: int = 0, *, received: int = 0, **faults: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a port as the program describes it."""
    stream = {
        **STREAM,
        "received": received,
        "bytes": received * 64,
        "doubled": 0,
        "reordered": 0,
        "misdirected": 0,
        "next": received,
        "longest_gap_us": 1.5,
        "longest_gap_at": 7,
        **{key: value for key, value in faults.items() if key in ("doubled", "reordered")},
    }
    rx = dict.fromkeys(
        ("received", "corrupt", "foreign", "bad_mbuf", "multi_segment", "forwarded", "pending"), 0
    )
    rx |= {key: value for key, value in faults.items() if key in rx}
    return {
        "tx": {
            "bytes": sent * 64,
            "refused": 5,
            "nombuf": 0,
            "pending": 0,
            "written_off": 0,
            "streams": [{**STREAM, "sent": sent}] if sent else [],
        },
        "rx": {**rx, "shapes": [], "streams": [stream] if received else []},
    }


def stats(*ports: dict[str, Any]) -> TrafficStats:
    """Return statistics of a program with these ports."""
    return read_stats({"ports": list(ports), "notes": []})


def test_what_arrives_elsewhere_is_not_lost() -> None:
    """Loss is judged over all ports of all programs."""
    verdict = judge([stats(port(100), port(received=60)), stats(port(received=40))])
    assert verdict.faults == {}
    assert (verdict.packets, verdict.received, verdict.refused) == (100, 100, 15)
    assert judge([stats(port(100), port(received=60))]).faults == {"lost": 40}


@pytest.mark.parametrize("fault", ["doubled", "reordered", "corrupt", "foreign", "bad_mbuf"])
def test_each_fault_is_told(fault: str) -> None:
    """No fault hides behind another one."""
    verdict = judge([stats(port(10), port(received=10, **{fault: 3}))])
    assert verdict.faults == {fault: 3}
    assert replace(verdict, **{fault: 0}).faults == {}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("udp=1000", "vlan_tci=0/0x1000,udp,tp_dst=1000"),
        ("vlan=5+tcp6=80", "dl_vlan=5,tcp6,tp_dst=80"),
        ("qinq=7+vlan=5+udp=1", "dl_vlan=7,udp,tp_dst=1"),
        ("ether=0x88b5", "vlan_tci=0/0x1000,dl_type=0x88b5"),
        ("proto=89+tos=16", "vlan_tci=0/0x1000,ip,nw_proto=89,nw_tos=16"),
        ("udp6=1+address=9", "vlan_tci=0/0x1000,udp6,tp_dst=1,ipv6_dst=2001:db8::9"),
    ],
)
def test_a_class_has_its_openflow_match(spec: str, expected: str) -> None:
    """What `traffic` sends of a class is what the match means."""
    assert match(spec) == expected


def test_a_program_that_is_not_built_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to do."""
    monkeypatch.setenv("HIGHWAY_TRAFFIC", str(tmp_path / "none"))
    with pytest.raises(SetupError, match="run 'make build'"):
        paths.traffic()
