# SPDX-License-Identifier: Apache-2.0
"""What differs between two runs of a plan.

Frames are compared byte for byte: those of one flow that come out of one port in their order, those
without a tag as a multiset. Different flows may overtake one another where one has a bypass.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.system.differential.frames import tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.system.differential.frames import Flow
    from tests.system.differential.plan import Plan
    from tests.system.differential.runs import Outcome

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference; `flow` is the number of the flow it concerns, None if that is not known."""

    flow: int | None
    text: str


def frame_differences(plan: Plan, normal: Outcome, bypass: Outcome) -> Iterator[Difference]:
    """Return differences in what came out of the ports."""
    tagged = {flow.number: flow for flow in plan.flows if flow.tagged}
    for number, (left, right) in enumerate(zip(normal.frames, bypass.frames, strict=True)):
        for port, queue in sorted(left.keys() | right.keys()):
            where = f"round {number}, port {port}, queue {queue}"
            expected, plain = _by_flow(left.get((port, queue), []), tagged)
            got, got_plain = _by_flow(right.get((port, queue), []), tagged)
            for key in sorted(expected.keys() | got.keys()):
                if Counter(expected[key]) != Counter(got[key]):
                    how = _how(expected[key], got[key])
                    yield Difference(flow=key[0], text=f"{where}: {how}")
                for name, frames in (("without", expected[key]), ("with", got[key])):
                    if (order := _order(frames)) != sorted(order):
                        yield Difference(flow=key[0], text=f"{where}: {order} {name} the bypass")
            if plain != got_plain:
                how = _how(list(plain.elements()), list(got_plain.elements()))
                yield Difference(flow=None, text=f"{where}, no tag: {how}")


def counter_differences(normal: Outcome, bypass: Outcome) -> Iterator[Difference]:
    """Return differences in what OpenFlow shows."""
    for what in ("flows", "tables", "groups", "ports"):
        left: Mapping[int, Any] = getattr(normal.counters, what)
        right: Mapping[int, Any] = getattr(bypass.counters, what)
        for key in sorted(left.keys() | right.keys()):
            if left.get(key) != right.get(key):
                text = f"{what[:-1]} {key:#x}: without {left.get(key)}, with {right.get(key)}"
                yield Difference(flow=None, text=text)


def lost_hits(normal: Outcome, bypass: Outcome) -> int | None:
    """Return how many hits OpenFlow lacks with the bypass, None if that cannot be all.

    What is sent after OVS has read a rule for the last time and before the rule is gone is in the
    counters of ports, and neither in those of flows nor in those of tables and groups.
    """
    left, right = normal.counters, bypass.counters
    less = all(count.packets >= right.flows[key].packets for key, count in left.flows.items())
    hits = left.tables[0][1] - right.tables[0][1]
    return hits if less and hits > 0 and left.ports == right.ports else None


def _by_flow(
    frames: list[bytes], tagged: Mapping[int, Flow]
) -> tuple[defaultdict[tuple[int, int], list[bytes]], Counter[bytes]]:
    flows: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
    plain: Counter[bytes] = Counter()
    for frame in frames:
        found = tag(frame)
        if found is not None and found[0] in tagged:
            flows[found[0], tagged[found[0]].ordered(found[1])].append(frame)
        else:
            plain[frame] += 1
    return flows, plain


def _how(expected: list[bytes], got: list[bytes]) -> str:
    missing = list((Counter(expected) - Counter(got)).elements())
    extra = list((Counter(got) - Counter(expected)).elements())
    words = []
    for name, frames in (("missing", missing), ("too many", extra)):
        if frames:
            shown = ", ".join(frame.hex() for frame in frames[:_SHOWN])
            words.append(f"{len(frames)} {name}: {shown}")
    return "; ".join(words)


def _order(frames: list[bytes]) -> list[int]:
    """Return the numbers of frames, each where it came for the first time.

    OVS sends a burst to a rule's first output, then to its second, which may be the same port.
    """
    return list(dict.fromkeys(found[1] for frame in frames if (found := tag(frame)) is not None))
