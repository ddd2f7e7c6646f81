# SPDX-License-Identifier: Apache-2.0
"""What one seed does: a table, the flows of frames for it, and when which frame is sent."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from tests.system.differential.frames import Flow, FrameMaker
from tests.system.differential.tables import Table, TableMaker
from tests.system.differential.world import PORTS, World
from tests.system.frame_pipe import Pause, Send

if TYPE_CHECKING:
    from collections.abc import Iterable

QUEUES: Final = 2
_PAUSES: Final = (0.0005, 0.002, 0.008)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Frames that are sent, and all received, before the next round begins.

    Attributes:
        settle: OVS is to look at all its flows once before this round, since a bridge that has
            just learned something may not have applied it to them yet.
        offloaded: this round begins when all flows of the rounds before are rules.
    """

    steps: tuple[Send | Pause, ...]
    settle: bool = False
    offloaded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a seed stands for.

    Attributes:
        bypass_first: the run with the bypass comes before the one without it.
        purge: counters are read after the datapath flows were deleted, else after a revalidation.
    """

    seed: int
    table: Table
    flows: tuple[Flow, ...]
    rounds: tuple[Round, ...]
    bypass_first: bool
    purge: bool

    @classmethod
    def make(cls, seed: int, only: Iterable[int] | None = None) -> Plan:
        """Return the plan of a seed; with `only`, just these of its flows are sent."""
        rng = Random(seed)
        world = World.make(rng)
        table = TableMaker(rng, world).table()
        maker = FrameMaker(rng, world, queues=QUEUES, learning=table.learning)
        flows = tuple(maker.flow(number) for number in range(rng.choice((10, 25, 40))))
        wanted = range(len(flows)) if only is None else set(only)
        draw = _Rounds(rng, [flow for flow in flows if flow.number in wanted], len(flows))
        rounds = []
        lessons: Round | None = None
        if table.learning:
            steps = tuple(Send(port=port - 1, frame=frame) for port, frame in maker.lessons())
            lessons = Round(steps=steps)
            rounds.append(lessons)
        rounds.append(draw.round(copies=1, settle=lessons is not None))
        if rng.random() < 0.3:
            # Rules come into force amid these.
            rounds.append(draw.round(copies=4, pauses=True))
        else:
            rounds.append(draw.round(copies=2))
        rounds.append(draw.round(copies=3, offloaded=True))
        rounds.append(draw.round(copies=2, pauses=rng.random() < 0.3))
        return cls(
            seed=seed,
            table=table,
            flows=flows,
            rounds=tuple(rounds),
            bypass_first=rng.random() < 0.5,
            purge=rng.random() < 0.7,
        )


class _Rounds:
    """Draws rounds; each frame gets the next number of its flow."""

    def __init__(self, rng: Random, flows: list[Flow], total: int) -> None:
        self._rng, self._flows, self._total = rng, flows, total
        self._serials = dict.fromkeys((flow.number for flow in flows), 0)

    def round(
        self, *, copies: int, pauses: bool = False, settle: bool = False, offloaded: bool = False
    ) -> Round:
        """Draw a round with so many frames of each flow, in any order."""
        rng = self._rng
        order = [flow for flow in self._flows for _ in range(rng.randrange(1, copies + 1))]
        rng.shuffle(order)
        if rng.random() < 0.5:  # so that bursts are longer than a frame or two
            order.sort(key=lambda flow: flow.port)
        steps: list[Send | Pause] = []
        for flow in order:
            serial = self._serials[flow.number]
            self._serials[flow.number] += 1
            frame, segment = flow.frame(serial)
            steps.append(Send(port=flow.port - 1, queue=flow.queue, frame=frame, segment=segment))
            if pauses and rng.random() < 0.5:
                steps.append(Pause(seconds=rng.choice(_PAUSES)))
        return Round(steps=tuple(steps), settle=settle, offloaded=offloaded)


__all__ = ["PORTS", "QUEUES", "Plan", "Round"]
