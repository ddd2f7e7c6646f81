# SPDX-License-Identifier: Apache-2.0
"""Where a port's traffic goes, which flows decide it, and what would have to change; in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.detector.walk import Place, Reason, Walk
from ovs_highway.openflow.text import format_flow

if TYPE_CHECKING:
    from ovs_highway.detector.verdicts import Detector
    from ovs_highway.openflow.model import Flow

_MAX_FLOWS: Final = 40
_ADVICE: Final = {
    "normal": "have a flow output to the port instead of NORMAL",
    "miss": "add a flow for the rest, or one that matches all of it",
    "timeout": "leave out idle_timeout and hard_timeout",
    "several": "let one flow, with one output, match all that the port sends",
    "drop": "have a flow output to a port",
    "group": "output to the port instead, or use a group with one bucket",
    "set-field": "leave out what changes the packet",
    "elsewhere": "only ports of the highway can be connected directly",
    "bounded": "use fewer flows, or less resubmitting, for this port",
    "controller": "have a flow output to a port instead of asking the controller",
    "local": "have a flow output to a port of a VNF",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What becomes of what a port sends.

    Attributes:
        place: the port's bridge and OpenFlow port number.
        peer: the port of ours that everything goes to, None if that is not so.
        reason, kind, advice: why there is none, and what would have to change.
        flows: those that some of its packets may meet, with their bridges, in the order met.
        more: that many others.
    """

    port: str
    place: Place
    peer: str | None
    reason: str
    kind: str
    advice: str
    flows: tuple[str, ...]
    more: int

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        bridge, number = self.place
        return {
            "port": self.port,
            "bridge": bridge,
            "ofport": number,
            "peer": self.peer,
            "reason": self.reason,
            "kind": self.kind,
            "advice": self.advice,
            "flows": [*self.flows],
            "more_flows": self.more,
        }


def explain(detector: Detector, port: str, known: int = 0, value: int = 0) -> Explanation:
    """Explain what becomes of a port's packets, of which `known` packet bits have this value.

    Raises:
        KeyError: there is no such port.
    """
    verdict, walk = detector.judge(port, known, value)
    reason = verdict.reason or Reason("", "")
    flows = _flows(detector, port, walk, known, value)
    return Explanation(
        port=port,
        place=detector.ports[port],
        peer=verdict.peer,
        reason="" if verdict.peer is not None else reason.describe(),
        kind="" if verdict.peer is not None else reason.kind,
        advice="" if verdict.peer is not None else _ADVICE.get(reason.kind, ""),
        flows=tuple(flows[:_MAX_FLOWS]),
        more=max(0, len(flows) - _MAX_FLOWS),
    )


def _flows(detector: Detector, port: str, judged: Walk, known: int, value: int) -> list[str]:
    """Return the flows that were met before the answer was known."""
    found: dict[tuple[str, int], tuple[str, Flow]] = {}

    def note(_depth: int, bridge: str, flow: Flow) -> None:
        found.setdefault((bridge, id(flow)), (bridge, flow))

    walk = Walk(detector.bridges, refine=judged.refine, budget=4_000, trace=note)
    walk.start(detector.ports[port], known, value)
    return [f"{bridge}: {format_flow(flow)}" for bridge, flow in found.values()]
