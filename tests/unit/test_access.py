# SPDX-License-Identifier: Apache-2.0
"""Who may attach to a port, and how much of highwayd others may have."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import grp
import hashlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from ovs_highway import protocol, shm
from ovs_highway.agent.access import Access, Peer, access, peer_of
from ovs_highway.agent.ports import Port
from ovs_highway.agent.vm.channel import VmChannel
from ovs_highway.agent.watch import PathWatch
from ovs_highway.lab.stand_in import make_port_file
from ovs_highway.limits import Bucket, Quota
from ovs_highway.region import PortRegion
from ovs_highway.shm import Role
from ovs_highway.view import Direction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SECRET = b"sixteen bytes and more\n"
HASH = hashlib.sha256(SECRET).hexdigest()


def peer(uid: int, *groups: int) -> Peer:
    return Peer(pid=1, uid=uid, groups=frozenset(groups))


@pytest.mark.parametrize(
    ("ids", "who", "may"),
    [
        ({}, peer(os.geteuid()), True),
        ({}, peer(0), True),
        ({}, peer(4711, 0), False),
        ({"highway-user": "4711"}, peer(4711), True),
        ({"highway-user": "4711"}, peer(0, 4711), False),
        ({"highway-group": "4711"}, peer(1, 2, 4711), True),
        ({"highway-group": "4711"}, peer(4711, 2), False),
        ({"highway-user": "1", "highway-group": "2"}, peer(1), True),
        ({"highway-user": "1", "highway-group": "2"}, peer(3, 2), True),
        ({"highway-user": "1", "highway-group": "2"}, peer(3, 1), False),
        ({"highway-user": "no-such-user"}, peer(0), False),
        ({"highway-user": ""}, peer(0), False),
        ({"highway-user": "-1"}, peer(0), False),
        ({"highway-user": "4294967294"}, peer(4294967294), True),
        ({"highway-user": "4294967295"}, peer(0), False),
        ({"highway-group": "no-such-group"}, peer(0), False),
        ({"highway-token-sha256": "abc"}, peer(0), False),
        ({"highway-token-sha256": ""}, peer(0), False),
    ],
)
def test_a_port_is_for_whom_the_database_says(ids: Mapping[str, str], who: Peer, may: bool) -> None:
    found = access(ids)
    assert (found.why_not(who, b"") is None) is may, found
    if found.problem:
        assert found.socket() == (os.geteuid(), os.getegid(), 0o600)
        assert found.why_not(None, b"") == found.problem


def test_names_are_understood() -> None:
    user, group = getpass.getuser(), grp.getgrgid(os.getegid()).gr_name
    found = access({"highway-user": user, "highway-group": group})
    assert (found.uid, found.gid, found.problem) == (os.geteuid(), os.getegid(), "")
    assert found.socket() == (os.geteuid(), os.getegid(), 0o660)


@pytest.mark.parametrize("who", [peer(0), None])
def test_a_token_is_asked_for_besides(who: Peer | None) -> None:
    found = access({"highway-token-sha256": HASH.upper()})
    assert found.why_not(who, SECRET) is None
    assert "no token" in (found.why_not(who, b"") or "")
    assert "a wrong token" in (found.why_not(who, SECRET + b"x") or "")
    assert Access().why_not(who, SECRET) is None


def test_a_token_travels_in_the_greeting() -> None:
    for token in (b"", SECRET, bytes(range(1, 65))):
        hello = protocol.Hello(role=Role.VNF, name="p", token=token)
        (back,) = protocol.Decoder().feed(protocol.encode(hello))
        assert back == hello


def test_the_kernel_says_who_a_peer_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = peer_of(ours)
    assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
    assert found.groups >= {os.getegid()}


def test_each_user_has_a_quota() -> None:
    quota = Quota(2)
    assert [quota.take(1) for _ in range(3)] == [True, True, False]
    assert quota.take(2)
    quota.give(1)
    assert quota.take(1)


def test_a_bucket_gives_a_burst_and_then_a_rate() -> None:
    bucket = Bucket(per_second=0.001, burst=3)
    assert [bucket() for _ in range(5)] == [True, True, True, False, False]
    owing = Bucket(per_second=10, burst=2)
    assert owing.owe(2) == 0
    assert 0.9 < owing.owe(10) <= 1.0


def test_a_vnf_that_starts_and_stops_all_the_time_is_not_followed(tmp_path: Path) -> None:
    make_port_file(tmp_path / "r", name="p1", tag="0" * 16)
    with PortRegion.open(tmp_path / "r") as region:
        port = Port("p1", region)
        followed = 0
        for _ in range(200):
            followed += port._has_started(True)
            assert not port._has_started(False)
        assert followed == 15


def test_a_path_that_changes_all_the_time_is_told_as_it_is_later() -> None:
    watch = PathWatch()

    def way(rules: int) -> Direction:
        return Direction(
            sender="a",
            receiver="b",
            state="bypass",
            rules=rules,
            packets=0,
            bytes=0,
            reason="",
            link_id=1,
            checked=False,
            counted=False,
        )

    told = [rules for rules in range(200) if watch._news({("a", "b"): way(rules)}, {"a", "b"})]
    assert 50 <= len(told) < 60
    watch._limits.clear()
    assert watch._news({("a", "b"): way(999)}, {"a", "b"}) == [way(999)]
    assert watch._news({("a", "b"): way(999)}, {"a", "b"}) == []


def test_noise_on_a_unix_socket_costs_next_to_nothing() -> None:
    hello = protocol.Hello(role=Role.VNF, name="p")
    decoder = protocol.Decoder(strict=True)
    assert decoder.feed(protocol.encode(hello) + NOISE["almost messages"]) == [hello]
    assert decoder.tried == 2
    assert decoder.skipped > 0
    assert decoder.feed(protocol.encode(hello)) == []


async def _serve_noise(path: Path, noise: bytes, until: Callable[[], bool]) -> None:
    """Flood a VM's channel until something holds, or for 20 s."""

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(noise)
            await writer.drain()

    server = await asyncio.start_unix_server(flood, path)
    running = asyncio.create_task(VmChannel("vm1").run(str(path), lambda _: None))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while not until():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
    running.cancel()
    server.close()


MAGIC = shm.MSG_MAGIC.to_bytes(4, "little")
NOISE = {
    "nothing": b"\xab" * 60_000,
    "almost messages": (MAGIC + bytes(4) + shm.MSG_LEN.to_bytes(4, "little")) * 5_000,
    "messages": protocol.encode(protocol.LinkRemoved(link_id=1)) * 240,
}


@pytest.mark.parametrize("noise", NOISE)
def test_a_guest_that_sends_noise_is_read_slowly(
    tmp_path: Path, noise: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = "its guest sends more than 2000 messages a second"
    asyncio.run(_serve_noise(tmp_path / "s", NOISE[noise], lambda: said in caplog.text))
    assert caplog.text.count(said) == 1
