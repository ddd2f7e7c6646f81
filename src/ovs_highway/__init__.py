# SPDX-License-Identifier: Apache-2.0
"""ovs-highway: a transparent fast path between the ports of Open vSwitch with DPDK."""

from __future__ import annotations

__version__ = "0.1.0"
