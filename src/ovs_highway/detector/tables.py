# SPDX-License-Identifier: Apache-2.0
"""Flow tables, indexed so that what a port's packets can meet is found without reading the rest.

As in OVS's own classifier (`lib/classifier.c`), flows with one mask form a subtable. Within it they
are found by their whole value, and by the part of it that is not of the packet (`in_port`,
`metadata`, registers), since that is usually known where a packet's header is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ovs_highway.openflow.fields import META_ONES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovs_highway.openflow.model import Flow

Group: TypeAlias = "dict[int, Flow]"
"""Flows of one subtable, priority and action list, by value."""
Bucket: TypeAlias = dict[int, dict[tuple[int, bool], Group]]
"""Groups by priority, then by action list (its identity) and whether they have a time-out."""


class Subtable:
    """The flows of one mask."""

    __slots__ = ("_buckets", "exact", "mask", "meta", "priorities", "priority")

    def __init__(self, mask: int) -> None:
        self.mask = mask
        self.meta = mask & META_ONES
        self.exact: dict[int, tuple[Flow, ...]] = {}
        self.priorities: dict[int, int] = {}
        self.priority = -1
        # Where all that is matched is not of the packet, `exact` serves for both.
        self._buckets: dict[int, Bucket] | None = None if self.meta == mask else {}

    def add(self, flow: Flow) -> None:
        """Add a flow that is not there."""
        value, priority = flow.value, flow.priority
        here = self.exact.get(value)
        if here is None:
            self.exact[value] = (flow,)
        else:
            self.exact[value] = tuple(sorted((*here, flow), key=_falling))
        self.priorities[priority] = self.priorities.get(priority, 0) + 1
        self.priority = max(self.priority, priority)
        if self._buckets is not None:
            bucket = self._buckets.setdefault(value & self.meta, {})
            groups = bucket.setdefault(priority, {})
            groups.setdefault((id(flow.actions), flow.timeouts), {})[value] = flow

    def remove(self, flow: Flow) -> None:
        """Remove a flow that is there."""
        value, priority = flow.value, flow.priority
        rest = tuple(other for other in self.exact[value] if other is not flow)
        if rest:
            self.exact[value] = rest
        else:
            del self.exact[value]
        self.priorities[priority] -= 1
        if not self.priorities[priority]:
            del self.priorities[priority]
            self.priority = max(self.priorities, default=-1)
        if self._buckets is not None:
            bucket = self._buckets[value & self.meta]
            groups = bucket[priority]
            group = groups[id(flow.actions), flow.timeouts]
            del group[value]
            if not group:
                del groups[id(flow.actions), flow.timeouts]
                if not groups:
                    del bucket[priority]
                    if not bucket:
                        del self._buckets[value & self.meta]

    def find(self, value: int, priority: int) -> Flow | None:
        """Return the flow of this value and priority."""
        for flow in self.exact.get(value, ()):
            if flow.priority == priority:
                return flow
        return None

    def possible(self, known: int, value: int, least: int, *, each: bool) -> Iterator[Flow]:
        """Return flows that some packet can meet of which `known` and `value` are known.

        Args:
            least: of this priority, or a higher one.
            each: all of them; else at least one of each priority and action list.
        """
        mask = self.mask
        if self._buckets is None:
            for flows in self.exact.values():
                if not (flows[0].value ^ value) & mask & known:
                    yield from (flow for flow in flows if flow.priority >= least)
            return
        if not self.meta & ~known:
            bucket = self._buckets.get(value & self.meta)
            buckets = [] if bucket is None else [bucket]
        else:
            some = self.meta & known
            buckets = [b for meta, b in self._buckets.items() if not (meta ^ value) & some]
        looked_at = mask & known & ~META_ONES
        for bucket in buckets:
            for priority in sorted(bucket, reverse=True):
                if priority < least:
                    break
                for group in bucket[priority].values():
                    fitting = iter(group.values())
                    if looked_at:
                        fitting = (f for v, f in group.items() if not (v ^ value) & looked_at)
                    if each:
                        yield from fitting
                    elif (flow := next(fitting, None)) is not None:
                        yield flow


class Table:
    """A flow table."""

    __slots__ = ("_ordered", "subtables")

    def __init__(self) -> None:
        self.subtables: dict[int, Subtable] = {}
        self._ordered: list[Subtable] | None = None

    def put(self, flow: Flow) -> Flow | None:
        """Add a flow; return the one that it replaces."""
        subtable = self.subtables.get(flow.mask)
        if subtable is None:
            subtable = self.subtables[flow.mask] = Subtable(flow.mask)
            self._ordered = None
        before = subtable.find(flow.value, flow.priority)
        if before is not None:
            subtable.remove(before)
        elif flow.priority > subtable.priority:
            self._ordered = None
        subtable.add(flow)
        return before

    def remove(self, priority: int, mask: int, value: int) -> Flow | None:
        """Remove a flow; return it if it was there."""
        subtable = self.subtables.get(mask)
        flow = subtable.find(value, priority) if subtable is not None else None
        if subtable is None or flow is None:
            return None
        before = subtable.priority
        subtable.remove(flow)
        if not subtable.exact:
            del self.subtables[mask]
        if subtable.priority != before:
            self._ordered = None
        return flow

    def lookup(self, known: int, value: int, *, each: bool) -> tuple[int, Iterator[Flow]]:
        """Return what packets can meet of which `known` and `value` are known.

        Returns:
            The priority of the flow that all these packets match if they match no higher one, -1
            if there is none; and all flows of at least that priority that some of them can match
            (unless `each`, at least one of each priority and action list per subtable).
        """
        least = -1
        if self._ordered is None:
            self._ordered = sorted(self.subtables.values(), key=lambda subtable: -subtable.priority)
        for subtable in self._ordered:
            if subtable.priority <= least:
                break
            if not subtable.mask & ~known:
                flows = subtable.exact.get(value & subtable.mask)
                if flows is not None and flows[0].priority > least:
                    least = flows[0].priority
        return least, self._possible(known, value, least, each=each)

    def _possible(self, known: int, value: int, least: int, *, each: bool) -> Iterator[Flow]:
        assert self._ordered is not None
        for subtable in self._ordered:
            if subtable.priority < least:
                return
            if not subtable.mask & ~known:
                for flow in subtable.exact.get(value & subtable.mask, ()):
                    if flow.priority >= least:
                        yield flow
            else:
                yield from subtable.possible(known, value, least, each=each)

    def flows(self) -> Iterator[Flow]:
        """Return all flows."""
        for subtable in self.subtables.values():
            for flows in subtable.exact.values():
                yield from flows

    def __len__(self) -> int:
        return sum(sum(subtable.priorities.values()) for subtable in self.subtables.values())


def _falling(flow: Flow) -> int:
    return -flow.priority
