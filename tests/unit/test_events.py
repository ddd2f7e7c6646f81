# SPDX-License-Identifier: Apache-2.0
"""The record of events: bounded, readable whatever is in it, and filled from the log."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from ovs_highway import events, paths
from ovs_highway.cli import main
from ovs_highway.events import Event, EventHandler, EventLog

if TYPE_CHECKING:
    from pathlib import Path


def event(number: int, *ports: str, kind: str = "path") -> Event:
    return Event(time=1000.0 + number, kind=kind, ports=ports, text=f"number {number}")


def fill(path: Path, *some: Event) -> None:
    log = EventLog(path)
    for one in some:
        log.append(one)


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    some = [
        Event(time=12.5, kind="path", ports=("a", "b"), text="bypass", details={"rules": 3}),
        Event(time=13.25, kind="highwayd", text="serves"),
    ]
    fill(tmp_path / "e", *some)
    assert list(events.read(tmp_path / "e")) == some


def test_two_files_bound_the_record_and_the_latest_stay(tmp_path: Path) -> None:
    path = tmp_path / "e"
    log = EventLog(path, limit=2000)
    for number in range(500):
        log.append(event(number))
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["e", "e.1"]
    assert all(file.stat().st_size <= 2000 for file in files)
    numbers = [one.time - 1000 for one in events.read(path)]
    assert numbers == list(range(500 - len(numbers), 500))
    assert len(numbers) > 20


def test_damage_costs_only_the_lines_that_it_hits(tmp_path: Path) -> None:
    path = tmp_path / "e"
    fill(path, event(1))
    with path.open("ab") as stream:
        stream.write(b'\xff\xfe{"time": "x"}\n[1, 2]\n{"time": 3}\n{"time":4,"kind":"pa\n\n')
    fill(path, event(2))
    assert [one.text for one in events.read(path)] == ["number 1", "number 2"]


def test_no_record_is_an_empty_one(tmp_path: Path) -> None:
    assert list(events.read(tmp_path / "none")) == []


def test_a_place_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    log = EventLog(tmp_path / "file" / "e")
    for number in range(3):
        log.append(event(number))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_marked_log_lines_are_events_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "e"
    log = logging.getLogger("test_events")
    log.setLevel(logging.INFO)
    handler = EventHandler(EventLog(path))
    log.addHandler(handler)
    try:
        log.info("nothing")
        log.info("port %s: deleted", "p1", extra=events.about("port", "p1", why="asked"))
    finally:
        log.removeHandler(handler)
    (found,) = events.read(path)
    assert (found.kind, found.ports, found.text) == ("port", ("p1",), "port p1: deleted")
    assert found.details == {"why": "asked"}
    assert abs(found.time - time.time()) < 60


def test_following_sees_what_comes_also_in_the_next_file(tmp_path: Path) -> None:
    path = tmp_path / "e"
    fill(path, event(0))
    seen: list[float] = []

    def look() -> None:
        for one in events.follow(path, pause=0.01):
            seen.append(one.time - 1000)
            if one.time == 1060:
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    time.sleep(0.1)
    log = EventLog(path, limit=1000)
    for number in range(1, 61):
        log.append(event(number))
        time.sleep(0.02)
    thread.join(10)
    assert seen == list(range(1, 61))


# the command -----------------------------------------------------------------------------------


def run(rundir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["events", "--rundir", str(rundir), *arguments])


@pytest.fixture
def rundir(tmp_path: Path) -> Path:
    fill(
        paths.events_file(tmp_path),
        event(1, "p1", "p2"),
        event(2, "p3", kind="port"),
        event(3, "p2", "p1"),
    )
    return tmp_path


def texts(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.rpartition("number ")[2] for line in result.output.splitlines()]


def test_the_command_shows_all_or_what_is_chosen(rundir: Path) -> None:
    assert texts(run(rundir)) == ["1", "2", "3"]
    assert texts(run(rundir, "p1")) == ["1", "3"]
    assert texts(run(rundir, "p3")) == ["2"]
    assert texts(run(rundir, "--kind", "port")) == ["2"]
    assert texts(run(rundir, "-n", "1")) == ["3"]
    assert texts(run(rundir, "--since", "1970-01-01T00:16:42+00:00")) == ["2", "3"]
    assert texts(run(rundir, "--since", "10m")) == []


def test_the_command_prints_an_object_per_line(rundir: Path) -> None:
    result = run(rundir, "--format", "json", "p3")
    assert [json.loads(line) for line in result.output.splitlines()] == [
        {"time": 1002.0, "kind": "port", "ports": ["p3"], "text": "number 2"}
    ]


def test_a_time_that_is_none_is_told(rundir: Path) -> None:
    result = CliRunner().invoke(main, ["events", "--rundir", str(rundir), "--since", "tomorrow"])
    assert result.exit_code == 1
    assert "tomorrow is no time; give an age such as 10m" in result.output


def test_the_record_of_the_default_run_directory_outlives_a_reboot(tmp_path: Path) -> None:
    assert str(paths.events_file(paths.DEFAULT_RUNDIR)) == "/var/lib/ovs-highway/events.jsonl"
    assert paths.events_file(tmp_path) == tmp_path / "events.jsonl"
