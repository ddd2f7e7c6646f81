# SPDX-License-Identifier: Apache-2.0
"""`highway/explain` and `highway/detector` of the control socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from ovs_highway.detector.explain import explain
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from ovs_highway.agent.detection import Detection
    from ovs_highway.agent.ports import Ports


class Core(Protocol):
    """What is looked at."""

    ports: Ports
    detection: Detection


def answer(core: Core, port: str, known: str = "0", value: str = "0") -> str:
    """Explain a port, or those of its packets of which some bits have a value (hexadecimal).

    Raises:
        CommandError: there is no such port, or the bits are no numbers.
    """
    detector = core.detection.detector
    if port not in detector.ports:
        known_ports = ", ".join(sorted(detector.ports)) or "none"
        raise CommandError(f"there is no port {port} in OVS; there are: {known_ports}")
    try:
        bits = int(known, 16), int(value, 16)
    except ValueError as error:
        raise CommandError("bits are two hexadecimal numbers") from error
    found = explain(detector, port, *bits).json()
    return json.dumps(found | {"policy": core.ports.why_off(port)})


def state(core: Core) -> str:
    """Return what the detector follows, and the verdict of each port, for people and tests."""
    detector = core.detection.detector
    bridges = {
        name: {
            "flows": len(bridge),
            "groups": len(bridge.groups),
            "openflow": bridge.version,
            "blocked": bridge.blocked,
        }
        for name, bridge in sorted(detector.bridges.items())
    }
    ports = {
        name: {
            "peer": verdict.peer,
            "reason": verdict.reason.describe() if verdict.reason else "",
            "kind": verdict.reason.kind if verdict.reason else "",
        }
        for name, verdict in sorted(detector.verdicts.items())
    }
    return json.dumps({"bridges": bridges, "ports": ports})
