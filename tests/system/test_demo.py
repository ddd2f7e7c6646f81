# SPDX-License-Identifier: Apache-2.0
"""The demo holds what it claims."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.timeout(240)
def test_the_demo_ends_with_a_line_of_json_in_which_all_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ovs_highway.demo"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["mpps_normal"] > 0
    assert found["mpps_bypass"] > 0
    assert found["flow_packets"] == found["vnf_packets"] > 0
    for claim in ("packet_out", "split", "removed"):
        assert found[claim] is True, claim
