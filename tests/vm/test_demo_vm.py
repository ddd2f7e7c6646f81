# SPDX-License-Identifier: Apache-2.0
"""`make demo-vm`, as its users run it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_vm_demo_shows_what_it_promises() -> None:
    """Steps: run it. Verify: status 0, and the last line says that all holds."""
    done = subprocess.run(
        [sys.executable, "-m", "ovs_highway.demo.vm"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("active_ms") > 0
    assert found.pop("flow_packets") == found.pop("vnf_packets") > 0
    assert found == {"plugged": 2, "packet_out": True, "unplugged": 2, "mixed": True}
