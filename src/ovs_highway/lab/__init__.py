# SPDX-License-Identifier: Apache-2.0
"""What demo, tests and benchmarks stand on: a private switch, and unmodified VNFs to drive.

Nothing here is imported by highwayd.
"""

from __future__ import annotations

from ovs_highway.lab.process import Process
from ovs_highway.lab.sandbox import Sandbox
from ovs_highway.lab.testpmd import FwdStats, PortInfo, PortStats, TestPmd

__all__ = ["FwdStats", "PortInfo", "PortStats", "Process", "Sandbox", "TestPmd"]
