# SPDX-License-Identifier: Apache-2.0
"""`highway/explain` of the control socket: the detector's explanation, and what highwayd adds."""

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
