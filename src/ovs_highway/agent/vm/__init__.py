# SPDX-License-Identifier: Apache-2.0
"""The compute agent for virtual machines: control channel, devices, and what they are for."""

from __future__ import annotations

from ovs_highway.agent.vm.machine import Machine
from ovs_highway.agent.vm.machines import Machines

__all__ = ["Machine", "Machines"]
