# SPDX-License-Identifier: Apache-2.0
"""`python -m ovs_highway.demo`: the demo; its last line is one JSON object.

The exit status is 0 if everything it shows holds.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from ovs_highway.demo import program, story
from ovs_highway.demo.chain import Chain

if TYPE_CHECKING:
    from ovs_highway.demo.screen import Screen

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


def show(screen: Screen) -> tuple[str, list[str]]:
    """Run the demo; return its last line, and what does not hold.

    Raises:
        HighwayError: something does not do what it should.
    """
    screen.say("starting a private Open vSwitch with DPDK, highwayd and four VNFs …")
    with Chain(screen) as chain:
        began = time.monotonic()
        outcome = story.tell(chain, screen)
        screen.say(f"that took {time.monotonic() - began:.0f} s")
    problems = outcome.problems()
    if not problems:
        factor = outcome.mpps_bypass / outcome.mpps_normal
        screen.title(f"The bypass made this chain {factor:.1f} times as fast")
    return last_line(outcome), problems


if __name__ == "__main__":
    sys.exit(program.run(show))
