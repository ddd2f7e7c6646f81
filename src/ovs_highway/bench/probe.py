# SPDX-License-Identifier: Apache-2.0
"""How far two cores are from each other: the round trip of a cache line.

The cores of a virtual machine are moved about by its host: now they share a cache, a second later
they do not, and whatever two cores pass to each other takes several times as long. Such a result
says nothing of the program. Run as a program of its own, with two cores as arguments, this module
prints the round trip in nanoseconds; the interpreter's own time is in it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import sys
import time
from typing import Final

_TRIPS: Final = 100
_SERIES: Final = 600
_END: Final = 255
_ANSWER_AT: Final = 256
_TIMEOUT: Final = 20.0


def round_trip(first: int, second: int) -> float | None:
    """Return the shortest mean round trip between two cores, in ns; None if it is not found out.

    The shortest of many short series: on a busy machine, too, some are not interrupted.
    """
    command = [sys.executable, "-P", "-S", "-E", __file__, str(first), str(second)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=True
        )
        return float(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _ping(shared: mmap.mmap) -> float:
    began = time.perf_counter_ns()
    for number in range(_TRIPS):
        value = number % _END
        shared[0] = value
        while shared[_ANSWER_AT] != value:
            pass
    return (time.perf_counter_ns() - began) / _TRIPS


def _pong(shared: mmap.mmap) -> None:
    value, parent = 0, os.getppid()
    while value != _END and os.getppid() == parent:
        for _ in range(1 << 16):
            if shared[0] != value:
                value = shared[0]
                shared[_ANSWER_AT] = value


def _main(first: int, second: int) -> None:
    if not {first, second} <= os.sched_getaffinity(0):
        sys.exit(f"no such cores: {first}, {second}")
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    child = os.fork()
    if child == 0:
        try:
            os.sched_setaffinity(0, {second})
            _pong(shared)
        finally:
            os._exit(0)
    os.sched_setaffinity(0, {first})
    print(min(_ping(shared) for _ in range(_SERIES)))
    shared[0] = _END
    os.waitpid(child, 0)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))
