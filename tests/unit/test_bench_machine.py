# SPDX-License-Identifier: Apache-2.0
"""The facts of the machine, where programs are placed, and who is disturbed."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

from ovs_highway.bench import machine, probe, threads
from ovs_highway.bench.machine import Core, Placement, parse_list, place, place_large

if TYPE_CHECKING:
    from pathlib import Path


def core(number: int, siblings: tuple[int, ...] = (), cache: tuple[int, ...] = (0,)) -> Core:
    return Core(
        number=number,
        siblings=siblings or (number,),
        cache_shared_with=cache,
        last_cache="L3 32768K",
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("text", "cores"),
    [("", ()), ("0", (0,)), ("0-2,8\n", (0, 1, 2, 8)), ("1,3-4", (1, 3, 4)), ("\n", ())],
)
def test_lists_of_cores_are_read_as_the_kernel_writes_them(
    text: str, cores: tuple[int, ...]
) -> None:
    assert parse_list(text) == cores


def test_a_core_is_read_with_its_siblings_and_last_cache(tmp_path: Path) -> None:
    base = tmp_path / "sys/devices/system/cpu/cpu2"
    write(base / "topology/thread_siblings_list", "2,10\n")
    for index, (level, kind, shared) in enumerate(
        [
            ("1", "Data", "2"),
            ("1", "Instruction", "2"),
            ("2", "Unified", "2-3"),
            ("3", "Unified", "0-3"),
        ]
    ):
        write(base / f"cache/index{index}/level", f"{level}\n")
        write(base / f"cache/index{index}/type", f"{kind}\n")
        write(base / f"cache/index{index}/shared_cpu_list", f"{shared}\n")
        write(base / f"cache/index{index}/size", "32768K\n")
    found = machine.read_core(2, tmp_path)
    assert found.siblings == (2, 10)
    assert found.cache_shared_with == (0, 1, 2, 3)
    assert found.last_cache == "L3 32768K"
    assert found.l2_shared_with == (2, 3)


@pytest.mark.parametrize(
    ("second", "word"),
    [
        (0, "one core"),
        (1, "SMT siblings"),
        (2, "shared L2"),
        (3, "shared L3"),
        (4, "apart"),
        (9, "apart"),
    ],
)
def test_it_is_said_how_near_two_cores_are(second: int, word: str) -> None:
    first = Core(
        number=0,
        siblings=(0, 1),
        l2_shared_with=(0, 1, 2),
        cache_shared_with=(0, 1, 2, 3),
        last_cache="L3 32768K",
    )
    assert machine.topology((first,), 0, second) == word


def test_a_core_of_which_nothing_is_told_is_apart(tmp_path: Path) -> None:
    cores = tuple(machine.read_core(number, tmp_path) for number in (0, 1))
    assert machine.topology(cores, 0, 1) == "apart"
    assert machine.topology(cores, 7, 1) == "apart"


def test_a_machine_that_tells_nothing_is_no_error(tmp_path: Path) -> None:
    found = machine.gather(tmp_path)
    assert [each.siblings for each in found.cores] == [(each.number,) for each in found.cores]
    assert found.memory_kib == 0
    assert found.huge_pages == {}
    json.dumps(found.json(), allow_nan=False)


def test_this_machine_has_its_facts() -> None:
    found = machine.gather()
    assert found.cpu
    assert found.memory_kib > 0
    assert {each.number for each in found.cores} == os.sched_getaffinity(0)


def test_two_cores_are_shared_with_the_switch() -> None:
    assert place((core(0), core(1))) == Placement(first=0, second=1, switch=1)


def test_one_core_is_not_enough() -> None:
    assert place((core(0),)) is None


def test_threads_of_one_core_are_used_only_if_there_is_no_other() -> None:
    pairs = [(0, 4), (1, 5), (2, 6), (0, 4), (1, 5), (2, 6)]
    cores = [core(number, pair) for number, pair in zip((0, 1, 2, 4, 5, 6), pairs, strict=True)]
    assert place(tuple(cores)) == Placement(first=0, second=1, switch=2)
    assert place((core(0, (0, 1)), core(1, (0, 1)))) == Placement(first=0, second=1, switch=1)


def test_cores_that_share_a_cache_are_preferred() -> None:
    near = (2, 3, 4, 5)
    cores = (core(0), core(1), *(core(number, cache=near) for number in near))
    chosen = place(cores)
    assert chosen is not None
    assert {chosen.first, chosen.second, chosen.switch} <= set(near)


def task(root: Path, pid: int, thread: int, name: str, waited: int) -> None:
    folder = root / str(pid) / "task" / str(thread)
    write(folder / "comm", f"{name}\n")
    write(folder / "schedstat", f"1000 {waited} 3\n")


def test_polling_threads_are_told_from_others(tmp_path: Path) -> None:
    for thread, name in enumerate(
        ["dpdk-testpmd", "rte-worker-1", "lcore-worker-2", "dpdk-worker3", "pmd-c01/id:9", "urcu1"]
    ):
        task(tmp_path, 7, thread, name, 0)
    assert threads.polling_threads(7, tmp_path) == [1, 2, 3, 4]
    assert threads.polling_threads(8, tmp_path) == []


def test_the_disturbance_is_that_of_the_thread_that_waited_longest(tmp_path: Path) -> None:
    task(tmp_path, 7, 1, "rte-worker-1", 1_000_000_000)
    task(tmp_path, 8, 2, "pmd-c01/id:9", 0)
    before = threads.waited([7, 8], tmp_path)
    task(tmp_path, 7, 1, "rte-worker-1", 1_100_000_000)
    task(tmp_path, 8, 2, "pmd-c01/id:9", 500_000_000)
    after = threads.waited([7, 8], tmp_path)
    assert threads.disturbance(before, after, 2.0) == pytest.approx(0.25)
    assert threads.disturbance({}, after, 2.0) == 0


def test_only_threads_that_are_known_by_name_are_prioritized() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        threads.prioritize([os.getpid()], 5)
        assert thread.native_id is not None
        assert os.getpriority(os.PRIO_PROCESS, thread.native_id) == os.getpriority(
            os.PRIO_PROCESS, 0
        )
    finally:
        stop.set()
        thread.join()


def test_the_round_trip_between_two_cores_takes_its_time() -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core only")
    found = probe.round_trip(cores[0], cores[1])
    assert found is not None
    assert found > 0


def test_a_core_that_does_not_exist_has_no_round_trip() -> None:
    assert probe.round_trip(0, 100_000) is None


def test_a_large_machine_has_a_core_for_each_vnf_and_the_first_for_none() -> None:
    cores = tuple(core(n, cache=tuple(range(12))) for n in range(12))
    found = place_large(cores, vnfs=8, switches=2)
    assert found is not None
    assert found.vnfs == tuple(range(1, 9))
    assert found.switches == (9, 10)
    assert found.pmd_mask == "600"
    assert found.chain == found.vnfs
    assert place_large(cores[:10], vnfs=8, switches=2) is None
    # Threads of one core count once.
    pairs = tuple(core(n, (n // 2 * 2, n // 2 * 2 + 1)) for n in range(12))
    assert place_large(pairs, vnfs=8, switches=2) is None
    small = place((core(0), core(1)))
    assert small is not None
    assert (small.chain, small.pmd_mask) == ((0,), "2")
