# SPDX-License-Identifier: Apache-2.0
"""What the database says about the bypass of a port; pure functions of a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovs_highway.ovsdb import Snapshot


def policy(snapshot: Snapshot, port: str) -> str | None:
    """Return why the bypass of a port has to be off, in plain words, or None if it may be on."""
    interface = snapshot.ports.get(port)
    if interface is None:
        return None
    if interface.external_ids.get("highway") == "off":
        return f"external_ids:highway=off on interface {interface.name}"
    return None
