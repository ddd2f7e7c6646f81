# SPDX-License-Identifier: Apache-2.0
"""The detector against a naive evaluator, and against itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.unit.detector import naive
from tests.unit.detector.strategies import (
    BRIDGES,
    HIGHWAY,
    SETTINGS,
    defaults,
    events,
    packets,
    start_events,
)

from ovs_highway.detector.verdicts import Detector

if TYPE_CHECKING:
    from ovs_highway.openflow.model import Flow

_SETTINGS = settings(
    deadline=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def new_detector() -> Detector:
    """Return a detector of two empty bridges."""
    detector = Detector()
    detector.configure(SETTINGS)
    for bridge in BRIDGES:
        detector.take(bridge, start_events())
    return detector


def truth(detector: Detector, port: str) -> str | None:
    """Return where every packet of a port goes, as the naive evaluator sees it."""
    bridge, number = detector.ports[port]
    ends = set()
    for bits in packets(number):
        try:
            ends |= naive.outcome(detector.bridges, bridge, bits)
        except naive.UnknownError:
            return None
    if len(ends) != 1:
        return None
    (sent,) = ends
    return HIGHWAY[sent[0][0]][sent[0][1]] if len(sent) == 1 else None


@given(st.data())
@_SETTINGS
def test_what_the_detector_calls_p2p_is_so_for_every_packet(data: st.DataObject) -> None:
    """Steps: random events. Verify: no wrong yes, and how often a yes is missed."""
    detector = new_detector()
    known: dict[str, list[Flow]] = {bridge: [] for bridge in BRIDGES}
    for bridge in BRIDGES:
        detector.take(bridge, data.draw(defaults()))
    for _ in range(data.draw(st.integers(0, 8))):
        bridge = data.draw(st.sampled_from((BRIDGES[0], BRIDGES[0], BRIDGES[1])))
        detector.take(bridge, [data.draw(events(known[bridge]))])
    detector.decide()
    for port, verdict in detector.verdicts.items():
        real = truth(detector, port)
        if verdict.peer is not None:
            event("yes")
            assert verdict.peer == real
        elif real is not None:
            assert verdict.reason is not None
            event(f"missed: {verdict.reason.kind}")


@given(st.data())
@_SETTINGS
def test_step_by_step_gives_what_a_start_from_scratch_gives(data: st.DataObject) -> None:
    """Steps: random events, one or several at a time. Verify: the same verdicts after each."""
    detector = new_detector()
    detector.decide()
    known: dict[str, list[Flow]] = {bridge: [] for bridge in BRIDGES}
    told = {bridge: start_events() for bridge in BRIDGES}
    for bridge in BRIDGES:
        more = data.draw(defaults())
        told[bridge] += more
        detector.take(bridge, more)
    for _ in range(data.draw(st.integers(1, 12))):
        bridge = data.draw(st.sampled_from((BRIDGES[0], BRIDGES[0], BRIDGES[1])))
        batch = [data.draw(events(known[bridge])) for _ in range(data.draw(st.integers(1, 2)))]
        told[bridge] += batch
        detector.take(bridge, batch)
        detector.decide()
        fresh = Detector()
        fresh.configure(SETTINGS)
        for name in BRIDGES:
            fresh.take(name, told[name])
        fresh.decide()
        assert {p: v.peer for p, v in detector.verdicts.items()} == {
            p: v.peer for p, v in fresh.verdicts.items()
        }
