# SPDX-License-Identifier: Apache-2.0
"""Descriptors that a hostile VNF publishes: what was sent arrives, and not a byte beside it."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.frame_pipe import FramePipe
from tests.system.hostile_vnf import BUFFER, FENCE, HostileVnf, RawRing
from tests.system.scene import becomes, eventually

from ovs_highway import shm
from ovs_highway.lab import Traffic
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from tests.system.hostile_vnf import HostileLink
    from tests.system.scene import Scene

HEADER: Final = bytes.fromhex("0200000000016600000000b188b5")
SMALL_RING: Final = 64
PEERS: Final = range(2, 9)
Evil = Callable[[RawRing, int], int]
"""Makes a descriptor for a ring whose buffers have some size."""


def frame(number: int, length: int) -> bytes:
    """Return a frame that no other one is like."""
    return HEADER + random.Random(number).randbytes(length - len(HEADER))


def of(length: int, kind: int = 1, *, offset: int = 0, stamped: bool = True) -> Evil:
    return lambda ring, _: ring.word(offset, length, kind, stamped=stamped)


EVIL: Final[dict[str, Evil]] = {
    "behind the data": lambda ring, _: ring.word(ring.data_len, 64),
    "across the end of the data": lambda ring, _: ring.word(ring.data_len - 128, 129),
    "without a stamp": lambda ring, _: ring.word(ring.data_len - 128, 129, stamped=False),
    "far away": of(64, offset=0xFFFFFF80),
    "of no length": of(0),
    "too short": of(13),
    "too long": of(shm.MAX_FRAME + 1),
    "as long as can be": of(0xFFFF),
    "invalid": of(64, 0),
    "an Enter": of(32, 2),
    "a Leave": of(32, 3),
    "a short fence": of(31, FENCE),
    "a fence behind the data": lambda ring, _: ring.word(ring.data_len, 32, FENCE),
    "a mark of the switch": of(40, 5),
    "unknown": of(64, 7),
    "unknown without a stamp": of(64, 255, stamped=False),
}
EVIL_BUFFERS: Final[dict[str, Evil]] = {
    "too long for the buffer": lambda ring, size: ring.word(0, size - 127, BUFFER),
    "as long as the buffer": lambda ring, size: ring.word(0, size, BUFFER),
    "too short for a frame": of(13, BUFFER),
}
EVIL_WITHOUT: Final[dict[str, Evil]] = {"a buffer, and there is none": of(600, BUFFER)}


@pytest.mark.parametrize("buffers", [True, False], ids=["buffers", "copies"])
def test_a_bad_descriptor_delivers_nothing_and_closes_the_link(
    scene: Scene, *, buffers: bool
) -> None:
    """Steps: p1 sends some frames to a peer, and behind them a descriptor that cannot be; each
    kind, to some peers at a time.

    Verify: the peer gets those frames as they were, and nothing else; it closes the link and counts
    that, and highwayd's log names it.
    """
    scene.ports(1 + len(PEERS), ring_size=SMALL_RING)
    for number in PEERS:
        scene.add_flow(f"in_port={number},actions=1")  # for a link; p1 sends what it likes
    names, devargs = [f"p{number}" for number in PEERS], f",external-buffers={int(buffers)}"
    peers = scene.use(FramePipe(scene.sandbox, names, devargs=devargs))
    cases = [*(EVIL | EVIL_BUFFERS if buffers else EVIL_WITHOUT).items()]
    for first in range(0, len(cases), len(PEERS)):
        expect_closed(scene, peers, dict(zip(names, cases[first:], strict=False)))


def expect_closed(scene: Scene, peers: FramePipe, cases: dict[str, tuple[str, Evil]]) -> None:
    """Have each of some peers meet its own evil."""
    before = {name: closed(peers, name) for name in cases}
    sent = {name: [frame(number, 60 + 100 * number) for number in range(3)] for name in cases}
    with contextlib.closing(HostileVnf(scene.sandbox.rundir, "p1").attach()) as hostile:
        for name, (what, evil) in cases.items():
            link = hostile.link(name)
            for content in sent[name]:
                link.out.put(content)
            link.out.publish(evil(link.out, link.buffers[link.end]))
            becomes(lambda name=name: closed(peers, name), before[name] + 1, what)  # type: ignore[misc]
            said = rf"port {name}: VNF .* closed link {link.link_id:016x}: the other end wrote"
            eventually(
                lambda said=said: re.search(said, scene.log("highwayd")) is not None,  # type: ignore[misc]
                f"highwayd tells of it: {what}",
            )
        got = peers.collect()
    for name, (what, _) in cases.items():
        port = peers.ports.index(name)
        assert [one.frame for one in got if one.port == port] == sent[name], what


def closed(peers: FramePipe, name: str) -> int:
    """Return how many links a port has closed."""
    return peers.xstats(peers.ports.index(name))["links_closed_errors"]


def lap(link: HostileLink, sizes: tuple[int, ...]) -> list[bytes]:
    """Send twice as many frames as the ring has slots, each way that there is."""
    sent = []
    for number in range(2 * link.out.size):
        sent.append(frame(number, sizes[number % len(sizes)]))
        if number % 2 and link.buffers[link.end] and len(sent[-1]) <= 1514:
            link.put_in_buffer(sent[-1])
        else:
            link.out.put(sent[-1], stamped=number % 5 != 0)
        if number % 8 == 7:
            assert wait_until(lambda: link.out.empty, 5, interval=0), "p2 does not take it"
    return sent


@pytest.mark.parametrize("buffers", [True, False], ids=["buffers", "copies"])
def test_no_byte_of_an_earlier_frame_is_delivered(scene: Scene, *, buffers: bool) -> None:
    """Steps: p1 sends long and short frames in turns, more than the ring has slots for, in the
    ring's data and in buffers, with stamps and without; and one that ends where the data ends.

    Verify: each arrives with its own bytes and its own length, and the link stays.
    """
    scene.ports(2, ring_size=SMALL_RING)
    scene.add_flow("in_port=1,actions=2")
    devargs = f",external-buffers={int(buffers)}"
    second = scene.use(FramePipe(scene.sandbox, ["p2"], devargs=devargs))
    with contextlib.closing(HostileVnf(scene.sandbox.rundir, "p1").attach()) as hostile:
        link = hostile.link("p2")
        sent = lap(link, (1514, 60, 14, 700, 61))
        last = frame(999, 127)
        link.out.put(last, at=link.out.data_len - len(last))
        sent.append(last)
        eventually(lambda: link.out.empty, "p2 takes it")
        assert [one.frame for one in second.collect()] == sent
        found = second.xstats(0)
        assert (found["rx_bypass_external_packets"] > 0) == buffers
        assert found["links_closed_errors"] == 0


def test_a_buffer_that_is_out_is_not_delivered_again(scene: Scene) -> None:
    """Steps: p1 fills all buffers of a ring; p2 keeps them; p1 offers the first one again.

    Verify: p2 does not take it and closes the link; when it has let go, another link works.
    """
    scene.ports(2, ring_size=SMALL_RING)
    scene.add_flow("in_port=1,actions=2")
    with Traffic(
        "t", ["p2"], devargs="idle=yield,external-buffers=1", env=scene.sandbox.env
    ) as second:
        second.wait_link_up()
        second.hold(4 * SMALL_RING)
        for life in (1, 2):
            with contextlib.closing(HostileVnf(scene.sandbox.rundir, "p1").attach()) as hostile:
                link = hostile.link("p2")
                for number in range(SMALL_RING):
                    link.put_in_buffer(frame(number, 600))
                becomes(
                    lambda: second.xstats(0)["rx_bypass_external_packets"],
                    life * SMALL_RING,
                    "p2 has all of them",
                )
                link.put_in_buffer(frame(999, 600))
                becomes(lambda: second.xstats(0)["links_closed_errors"], life, "p2 closes")
                assert second.stats().ports[0].packets == life * SMALL_RING
                second.hold(0)
                second.hold(4 * SMALL_RING)


SWITCH_EVIL: Final = [
    evil for name, evil in EVIL.items() if not name.startswith(("an Enter", "a Leave"))
]


def test_a_bad_descriptor_for_the_switch_delivers_nothing(scene: Scene) -> None:
    """Steps: on each queue of p1 send a frame to p2 through OVS, and behind it a descriptor that
    cannot be, and one that can.

    Verify: p2 gets the frame and nothing else; OVS logs it and counts it for p1 alone.
    """
    scene.ports(1, queues=len(SWITCH_EVIL), ring_size=SMALL_RING)
    scene.ports(1, first=2)
    scene.add_flow("in_port=1,actions=2")
    second = scene.use(FramePipe(scene.sandbox, ["p2"]))
    hostile = scene.use(contextlib.closing(HostileVnf(scene.sandbox.rundir, "p1").attach()))
    for queue, (ring, evil) in enumerate(zip(hostile.to_switch, SWITCH_EVIL, strict=True)):
        sent = frame(queue, 60 + queue)
        ring.put(sent)
        ring.publish(evil(ring, 0))
        ring.publish(ring.word(0, 60))
        becomes(lambda: ring_errors(scene, 1), queue + 1, f"OVS counts what came on {queue}")
        assert [one.frame for one in second.collect(0.02)] == [sent]
    assert ring_errors(scene, 2) == 0
    assert scene.log().count("port p1: the VNF wrote something impossible") == len(SWITCH_EVIL)


def ring_errors(scene: Scene, number: int) -> int:
    """Return what OVS shows of a port's ring errors."""
    text = scene.ofctl("dump-ports", str(number), version="OpenFlow14")
    found = re.search(r"ring_errors=(\d+)", text)
    return int(found[1]) if found else -1
