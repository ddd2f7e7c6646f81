# SPDX-License-Identifier: Apache-2.0
"""The client's connections, against a switch that repeats what a real one said."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.unit.openflow_record import recorded

from ovs_highway.errors import CommandError
from ovs_highway.openflow import client as module
from ovs_highway.openflow.client import Client, parse_target
from ovs_highway.openflow.model import Event, FlowSet, Restart, Synced

if TYPE_CHECKING:
    from pathlib import Path


class Repeater:
    """A switch that answers as the recorded one did, a number of times, and then says nothing."""

    def __init__(self, path: Path, *, ends: bool) -> None:
        self.path = path
        self.connections = 0
        self.quiet = asyncio.Event()
        self._ends = ends

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self.connections += 1
        for line in recorded("1.4")[:12]:
            if line.ours:
                await reader.readexactly(len(line.data))
            else:
                writer.write(line.data)
        if self._ends:
            writer.close()
            return
        await self.quiet.wait()
        writer.close()


async def follow(path: Path, *, ends: bool, connections: int) -> list[list[Event]]:
    """Follow a repeater until it has been left for the last of some connections."""
    switch = Repeater(path, ends=ends)
    batches: list[list[Event]] = []
    enough = asyncio.Event()

    def deliver(events: list[Event]) -> None:
        batches.append(events)
        lost = [batch for batch in batches if isinstance(batch[-1], Restart) and batch[-1].missed]
        if len(lost) == connections:
            enough.set()

    async with await asyncio.start_unix_server(switch.serve, path):
        task = asyncio.create_task(Client(f"unix:{path}", deliver).run())
        async with asyncio.timeout(60):
            await enough.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        switch.quiet.set()
    return batches


def test_switch_that_closes_is_followed_again(tmp_path: Path) -> None:
    batches = asyncio.run(follow(tmp_path / "s", ends=True, connections=2))
    events = [event for batch in batches for event in batch]
    ends = [event for event in events if isinstance(event, Restart) and event.missed]
    assert [end.why for end in ends] == ["the switch closed the connection"] * 2
    assert sum(isinstance(event, Synced) for event in events) == 2
    assert sum(isinstance(event, FlowSet) for event in events) >= 2 * 53


def test_switch_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL", 0.05)
    monkeypatch.setattr(module, "DEAD", 0.5)
    batches = asyncio.run(follow(tmp_path / "s", ends=False, connections=1))
    last = batches[-1][-1]
    assert isinstance(last, Restart)
    assert last.why == "it does not answer"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("unix:/run/br0.mgmt", ("unix", "/run/br0.mgmt", 0)),
        ("tcp:10.0.0.1", ("tcp", "10.0.0.1", 6653)),
        ("tcp:10.0.0.1:6633", ("tcp", "10.0.0.1", 6633)),
        ("ssl:[fe80::1]:6633", ("ssl", "fe80::1", 6633)),
        ("ssl:[fe80::1]", ("ssl", "fe80::1", 6653)),
    ],
)
def test_target(target: str, expected: tuple[str, str, int]) -> None:
    assert parse_target(target) == expected


@pytest.mark.parametrize(
    "target", ["", "br0", "unix:", "tcp:", "tcp::1", "tcp:a:b", "tcp:a:65536", "tcp:a:-1", "udp:a"]
)
def test_malformed_target_is_an_error(target: str) -> None:
    with pytest.raises(CommandError, match="unix:FILE"):
        parse_target(target)


def test_ssl_takes_certificates() -> None:
    with pytest.raises(CommandError, match="certificate"):
        Client("ssl:127.0.0.1", print)
