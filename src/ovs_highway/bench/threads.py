# SPDX-License-Identifier: Apache-2.0
"""The polling threads of DPDK programs: their priority, and how long they wait for a core.

A polling thread that waits has been disturbed, by something that its result should not show;
the kernel counts it (`run_delay`, kernel/sched/stats.c) in `/proc/PID/task/TID/schedstat`.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

POLLING: Final = re.compile(r"lcore-worker-|dpdk-worker|rte-worker-|pmd-c\d")
"""How EAL calls its workers (its versions differ), and OVS its PMD threads."""


def polling_threads(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """Return the ids of a process's polling threads; none if it has ended."""
    found = []
    for task in (proc / str(pid) / "task").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if POLLING.match((task / "comm").read_text()):
                found.append(int(task.name))
    return sorted(found)


def waited(pids: Iterable[int], proc: Path = Path("/proc")) -> dict[int, float]:
    """Return how many seconds each polling thread of some processes has waited so far, by id."""
    found = {}
    for pid in pids:
        for thread in polling_threads(pid, proc):
            with contextlib.suppress(OSError, IndexError, ValueError):
                text = (proc / str(pid) / "task" / str(thread) / "schedstat").read_text()
                found[thread] = int(text.split()[1]) / 1e9
    return found


def switches(pids: Iterable[int], proc: Path = Path("/proc")) -> dict[int, int]:
    """Return how often each polling thread has given up its core, of its own will or not, by id."""
    found = {}
    for pid in pids:
        for thread in polling_threads(pid, proc):
            with contextlib.suppress(OSError):
                text = (proc / str(pid) / "task" / str(thread) / "status").read_text()
                found[thread] = sum(map(int, re.findall(r"ctxt_switches:\s*(\d+)", text)))
    return found


def disturbance(before: dict[int, float], after: dict[int, float], seconds: float) -> float:
    """Return the largest share of an interval for which a thread waited: 0 to 1."""
    shares = [(after[thread] - before[thread]) / seconds for thread in before if thread in after]
    return min(1.0, max([0.0, *shares]))


def prioritize(pids: Iterable[int], niceness: int) -> None:
    """Give all polling threads of some processes the same niceness, so that others disturb less."""
    for pid in pids:
        for thread in polling_threads(pid):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, thread, niceness)
