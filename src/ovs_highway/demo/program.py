# SPDX-License-Identifier: Apache-2.0
"""What the demos have in common as programs: signals, errors, the last line, the exit status."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from ovs_highway.demo.screen import Screen
from ovs_highway.errors import HighwayError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def run(show: Callable[[Screen], tuple[str, list[str]]]) -> int:
    """Run a demo and return its exit status: 0 if everything that it shows holds.

    Args:
        show: does it, and returns the last line to print and what does not hold.
    """
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    try:
        last, problems = show(Screen())
    except HighwayError as error:
        return _complain(" ".join(str(error).split()))
    except KeyboardInterrupt:
        return 130
    if problems:
        _complain("; ".join(problems))
    sys.stdout.flush()
    print(last, flush=True)
    return 1 if problems else 0


def _complain(message: str) -> int:
    sys.stdout.flush()
    print(f"demo: {message}", file=sys.stderr, flush=True)
    return 1


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
