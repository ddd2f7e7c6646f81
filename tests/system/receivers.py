# SPDX-License-Identifier: Apache-2.0
"""Ports that do not trust each other, whose receivers check, and count if they are to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.system.scene import Scene


def receivers_count(scene: Scene, ports: int, stats: str = "receiver") -> None:
    """Take the labels of this many ports away; have all ports checked, and set who counts."""
    for number in range(1, ports + 1):
        scene.sandbox.vsctl("remove", "Interface", f"p{number}", "external_ids", "highway-trust")
    scene.sandbox.vsctl(
        *("set", "Open_vSwitch", "."),
        "external_ids:highway-mode=checked",
        f"external_ids:highway-stats={stats}",
        "other_config:stats-update-interval=1000",
    )
