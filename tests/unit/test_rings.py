# SPDX-License-Identifier: Apache-2.0
"""The rings of shared memory (highway_ring.h), against a model and against a hostile other end.

The C code runs in a process of its own with the address and undefined-behaviour sanitizers.
"""

from __future__ import annotations

import errno
import shlex
import shutil
import subprocess
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovs_highway import shm

if TYPE_CHECKING:
    from types import TracebackType

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCE: Final = ROOT / "tests/apps/ring_check.c"
DRIVER: Final = ROOT / "drivers/net/highway"
DATA: Final = shm.MIN_RING_DATA
SIZE: Final = shm.MIN_RING_SIZE
GRANULE: Final = shm.constant("HIGHWAY_GRANULE")
LONGEST: Final = shm.constant("HIGHWAY_MAX_FRAME")
BATCH: Final = 32
"""HIGHWAY_BATCH: the shared head may be so many descriptors behind their stamps."""
STAMPED: Final = shm.constant("HIGHWAY_STAMPED")
PACKET, FENCE = (shm.constant(f"HIGHWAY_DESC_{kind}") for kind in ("PACKET", "FENCE"))
SETTINGS: Final = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Ring:
    """The C program, with a method per command; as a context manager."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            [self._program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _, said = self._child.communicate()
        if kind is None:
            assert self._child.returncode == 0, said
            assert said == ""

    def ask(self, command: str) -> str:
        """Give a command and return its answer."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(command + "\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline().strip()
        if not answer:
            _, said = self._child.communicate()
            pytest.fail(f"'{command}' ended the program: {said}")
        return answer

    def init(self, size: int = SIZE, data: int = DATA) -> None:
        """Start with a new ring."""
        assert self.ask(f"init {size} {data}") == "0"

    def put(self, length: int, seed: int = 1, kind: int = PACKET) -> int:
        """Put a frame: 1; or 0: full, -1: broken."""
        return int(self.ask(f"put {length} {seed} {kind}"))

    def get(self) -> str:
        """Take a frame: its length, checksum and kind; or `none`, or `broken`."""
        return self.ask("get")

    def expected(self, length: int, seed: int, kind: int = PACKET) -> str:
        """Return what `get` says of a frame."""
        return f"{length} {self.ask(f'sum {length} {seed}')} {kind}"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program, compiled with sanitizers."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler; run 'make setup' as root")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "libdpdk"], capture_output=True, text=True, check=False
    )
    if flags.returncode != 0:
        pytest.skip("no DPDK headers; run 'make setup' as root")
    target = tmp_path_factory.mktemp("rings") / "ring_check"
    options = ["-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-error=cpp"]
    options += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{DRIVER}"]
    options += shlex.split(flags.stdout)
    subprocess.run([compiler, *options, str(SOURCE), "-o", str(target)], check=True)
    return target


LENGTHS = st.one_of(
    st.integers(14, LONGEST),
    st.sampled_from([14, 60, 64, GRANULE - 1, GRANULE, GRANULE + 1, 1514, LONGEST]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), LENGTHS, st.integers(0, 1 << 20), st.integers(1, 25)),
        st.tuples(st.sampled_from(["publish", "get", "get", "release"]), st.integers(1, 40)),
        st.tuples(st.sampled_from(["restart-producer", "restart-consumer"]), st.just(1)),
    ),
    max_size=60,
)


class Model:
    """What the ring is to do: frames that were put, published, taken and given back, in order."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.pending: deque[str] = deque()
        self.published: deque[str] = deque()
        self.taken: deque[str] = deque()
        self.head = self.tail = 0

    def put(self, length: int, seed: int, kind: int) -> None:
        """Put a frame, which only a full ring may refuse."""
        done = self.ring.put(length, seed, kind)
        assert done in (0, 1)
        used = len(self.pending) + len(self.published) + len(self.taken)
        if done:
            assert used < SIZE
            if len(self.pending) == BATCH:
                self._show()
            self.pending.append(self.ring.expected(length, seed, kind))
        elif used == 0:
            pytest.fail(f"an empty ring refuses {length} bytes")

    def publish(self) -> None:
        """Let the consumer see all."""
        self._show()
        assert self.ring.ask("publish") == str(self.head)

    def _show(self) -> None:
        self.head += len(self.pending)
        self.published += self.pending
        self.pending.clear()

    def get(self) -> None:
        """Take the next frame, which is the oldest."""
        answer = self.ring.get()
        if not self.published:
            assert answer == "none"
            return
        frame = self.published.popleft()
        assert answer == frame
        self.taken.append(frame)

    def release(self) -> None:
        """Give back what was taken."""
        self.tail += len(self.taken)
        assert self.ring.ask("release") == str(self.tail)
        self.taken.clear()

    def restart(self, end: str) -> None:
        """An end is a new process: what it had not published is void."""
        if end == "restart-producer":
            self.pending.clear()
        else:
            self.published.extendleft(reversed(self.taken))
            self.taken.clear()
        assert self.ring.ask(end) == "0"


@SETTINGS
@given(steps=STEPS)
def test_a_ring_keeps_order_and_content_whatever_is_done(
    program: Path, steps: list[tuple[str, int, int, int] | tuple[str, int]]
) -> None:
    """Random frames up to the longest, in random steps, with restarts of both ends.

    Verify: what comes out is what was put, in order; refused only when it is full; at the end
    everything published comes out, and the emptied ring takes the longest frame.
    """
    with Ring(program) as ring:
        ring.init()
        model = Model(ring)
        for step in steps:
            if len(step) == 4:
                for turn in range(step[3]):
                    model.put(step[1], step[2] + turn, FENCE if turn == 7 else PACKET)
            elif step[0].startswith("restart"):
                model.restart(step[0])
            else:
                for _ in range(step[1] if step[0] == "get" else 1):
                    getattr(model, step[0])()
        model.publish()
        while model.published:
            model.get()
        model.release()
        model.put(LONGEST, 1, PACKET)


@pytest.mark.parametrize("length", [14, 128, 129, 1514, LONGEST])
def test_a_full_ring_wraps_around_many_times(program: Path, length: int) -> None:
    """Fill it to the brim and empty it, again and again.

    Verify: each time it holds as many frames as before but for what the wrap-around costs, and
    nothing is lost or mixed up.
    """
    with Ring(program) as ring:
        ring.init()
        model = Model(ring)
        granules = -(-length // GRANULE) * GRANULE
        room = min(SIZE, DATA // granules)
        for turn in range(30):
            before = len(model.published) + len(model.taken)
            while ring.put(length, turn):
                model.pending.append(ring.expected(length, turn))
                assert len(model.pending) <= SIZE
            assert before + len(model.pending) >= room - 2
            model.publish()
            for _ in range(len(model.published) - turn % 3):
                model.get()
            model.release()


@pytest.mark.parametrize("value", [-(1 << 40), -BATCH - 1, SIZE + 1, 1 << 40, (1 << 63)])
def test_an_impossible_head_is_caught(program: Path, value: int) -> None:
    """The producer is hostile: its index lies behind, or more than a ring ahead.

    Verify: the consumer calls the ring broken and takes nothing; a restarted one refuses it.
    """
    with Ring(program) as ring:
        ring.init()
        ring.ask(f"head {value % (1 << 64)}")
        assert ring.get() == "broken"
        assert ring.get() == "broken"
        assert ring.ask("restart-consumer") == str(-errno.EBADMSG)
        assert ring.ask("restart-producer") == str(-errno.EBADMSG)


def _frames(ring: Ring, n: int, seed: int = 0) -> list[str]:
    """Put frames; return what `get` will say of them."""
    for turn in range(n):
        assert ring.put(100 + turn, seed + turn) == 1
    return [ring.expected(100 + turn, seed + turn) for turn in range(n)]


def _word(index: int, *, length: int = 60) -> int:
    """Return a descriptor of the first lap, with its stamp."""
    return index * GRANULE | length << 32 | PACKET << 48 | STAMPED << 56


def test_a_producer_that_writes_no_stamps_is_understood(program: Path) -> None:
    """An older driver's: only the shared head tells.

    Verify: everything arrives, in order, over several laps; nothing more.
    """
    with Ring(program) as ring:
        ring.init()
        for lap in range(5 * SIZE // 10):
            expected = _frames(ring, 10, seed=lap)
            ring.ask("publish")
            for slot in range(SIZE):
                ring.ask(f"unstamp {slot}")
            assert [ring.get() for _ in range(11)] == [*expected, "none"]
            ring.ask("release")


def test_a_head_that_lags_behind_the_stamps_is_no_fault(program: Path) -> None:
    """The consumer has taken what the head does not show yet.

    Verify: nothing more until there is something; then that.
    """
    with Ring(program) as ring:
        ring.init()
        expected = _frames(ring, BATCH)
        ring.ask("publish")
        ring.ask("head 0")
        assert [ring.get() for _ in range(BATCH + 1)] == [*expected, "none"]
        expected = _frames(ring, 1, seed=7)
        ring.ask("publish")
        assert ring.get() == expected[0]


@pytest.mark.parametrize("last_written", [0, 1, BATCH - 1])
def test_a_producer_that_was_killed_while_it_published(program: Path, last_written: int) -> None:
    """It writes its batch from the last descriptor to the first, and the shared head behind it.

    Verify: before the first descriptor is written nothing is published, and the next producer's
    frames are not mixed up with what was left; after it, all of the batch is.
    """
    with Ring(program) as ring:
        ring.init()
        if last_written == 0:
            expected = _frames(ring, BATCH)
            ring.ask("publish")
            ring.ask("head 0")
        else:
            expected = []
            for index in range(last_written, BATCH):
                ring.ask(f"desc {index} {_word(index)}")
        assert ring.get() == (expected[0] if expected else "none")
        # A hostile one may have left more.
        left = BATCH + 8
        ring.ask(f"desc {left} {_word(left)}")
        ring.ask("restart-producer")
        expected += _frames(ring, left - len(expected), seed=50)
        ring.ask("publish")
        del expected[: 1 if last_written == 0 else 0]
        assert [ring.get() for _ in range(len(expected) + 1)] == [*expected, "none"]


@pytest.mark.parametrize("value", [-1, 4, 1000, 1 << 40, (1 << 64) - 5])
def test_an_impossible_tail_is_caught(program: Path, value: int) -> None:
    """The consumer is hostile: its index runs back, or ahead of the producer.

    Verify: the producer calls the ring broken as soon as it needs to look; it never overwrites
    what lies outside.
    """
    with Ring(program) as ring:
        ring.init()
        for taken in (5, 0):
            while ring.put(LONGEST):
                pass
            ring.ask("publish")
            for _ in range(taken):
                ring.get()
            ring.ask("release")
        ring.ask(f"tail {value % (1 << 64)}")
        assert ring.put(LONGEST) == -1


@SETTINGS
@given(
    words=st.lists(
        st.tuples(st.integers(0, SIZE - 1), st.integers(0, (1 << 64) - 1)), min_size=1, max_size=20
    ),
    head=st.integers(1, SIZE),
)
def test_hostile_descriptors_are_never_followed_out_of_the_ring(
    program: Path, words: list[tuple[int, int]], head: int
) -> None:
    """Random descriptors, read by the consumer and, when it restarts, by the producer.

    Verify: each is a frame inside of the ring's data, or the ring is broken; nothing is read or
    written out of bounds (the sanitizer would end the program).
    """
    with Ring(program) as ring:
        ring.init()
        for slot, word in words:
            ring.ask(f"desc {slot} {word}")
        ring.ask(f"head {head}")
        for _ in range(head):
            answer = ring.get()
            if answer == "broken":
                break
            assert int(answer.split()[0]) <= LONGEST
        if ring.ask("restart-producer") == "0":
            for _ in range(40):
                ring.put(LONGEST)
            ring.ask("tail 1")
            ring.put(LONGEST)


def test_a_descriptor_that_the_consumer_changed_does_not_lead_the_producer_astray(
    program: Path,
) -> None:
    """The producer learns from a descriptor how far it may write; the consumer may change it.

    Verify: an offset outside of the data, or not on a granule, breaks the ring; any other leaves
    the producer inside of the data.
    """
    for offset, broken in ((DATA, True), (0xFFFFFF80, True), (GRANULE + 1, True), (GRANULE, False)):
        with Ring(program) as ring:
            ring.init()
            while ring.put(LONGEST):
                pass
            ring.ask("publish")
            ring.ask(f"desc 3 {offset}")
            ring.ask("tail 3")
            answers = {ring.put(LONGEST) for _ in range(SIZE)}
            assert (-1 in answers) == broken
