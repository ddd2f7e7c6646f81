# SPDX-License-Identifier: Apache-2.0
"""What demo, tests and benchmarks stand on: a private switch, and VNFs to drive.

The VNFs are unmodified testpmd; `traffic`, which numbers and checks its packets; and `gauge`, which
measures what they cost.

Nothing here is imported by highwayd.
"""

from __future__ import annotations

from ovs_highway.lab.gauge import Gauge
from ovs_highway.lab.process import Process
from ovs_highway.lab.sandbox import Sandbox
from ovs_highway.lab.testpmd import FwdStats, PortInfo, PortStats, TestPmd
from ovs_highway.lab.traffic import Traffic, TrafficStats, Verdict, judge

__all__ = [
    "FwdStats",
    "Gauge",
    "PortInfo",
    "PortStats",
    "Process",
    "Sandbox",
    "TestPmd",
    "Traffic",
    "TrafficStats",
    "Verdict",
    "judge",
]
