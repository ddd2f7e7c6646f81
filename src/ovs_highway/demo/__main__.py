# SPDX-License-Identifier: Apache-2.0
"""`python -m ovs_highway.demo`: the demo; its last line is one JSON object.

The exit status is 0 if everything it shows holds.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, NoReturn

from ovs_highway.demo import story
from ovs_highway.demo.chain import Chain
from ovs_highway.demo.screen import Screen
from ovs_highway.errors import HighwayError

if TYPE_CHECKING:
    from types import FrameType

_KEYS: Final = (
    "mpps_normal",
    "mpps_bypass",
    "flow_packets",
    "vnf_packets",
    "packet_out",
    "split",
    "removed",
)


def last_line(outcome: story.Outcome) -> str:
    """Return the outcome as one line of JSON."""
    values = asdict(outcome)
    return json.dumps({key: values[key] for key in _KEYS})


def main() -> int:
    """Run the demo; return its exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    screen = Screen()
    try:
        screen.say("starting a private Open vSwitch with DPDK, highwayd and four VNFs …")
        with Chain(screen) as chain:
            began = time.monotonic()
            outcome = story.tell(chain, screen)
            screen.say(f"that took {time.monotonic() - began:.0f} s")
    except HighwayError as error:
        return _complain(" ".join(str(error).split()))
    except KeyboardInterrupt:
        return 130
    problems = outcome.problems()
    if problems:
        _complain("; ".join(problems))
    else:
        factor = outcome.mpps_bypass / outcome.mpps_normal
        screen.title(f"The bypass made this chain {factor:.1f} times as fast")
    sys.stdout.flush()
    print(last_line(outcome), flush=True)
    return 1 if problems else 0


def _complain(message: str) -> int:
    sys.stdout.flush()
    print(f"demo: {message}", file=sys.stderr, flush=True)
    return 1


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
