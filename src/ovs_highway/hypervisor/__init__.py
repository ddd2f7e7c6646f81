# SPDX-License-Identifier: Apache-2.0
"""Plugging regions into virtual machines: QEMU by its QMP socket, libvirt by virsh."""

from __future__ import annotations

from ovs_highway.hypervisor.base import Bus, DeviceId, Hypervisor, Kind, Watcher

__all__ = ["Bus", "DeviceId", "Hypervisor", "Kind", "Watcher"]
