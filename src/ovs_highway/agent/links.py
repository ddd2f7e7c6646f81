# SPDX-License-Identifier: Apache-2.0
"""Which links there should be, and what to do next about each: the reconciler, without any I/O.

The caller tells what it sees (`PortFacts`, `added`, `removed`, `failed`) and carries out the
actions that `reconcile` returns, until there are none. A link goes MAKING → NEW → ACTIVE →
LEAVING and is then forgotten; there is never more than one per pair of ports.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ovs_highway import shm
from ovs_highway.agent.actions import (
    Action,
    Add,
    Flags,
    LinkStatus,
    Make,
    Pair,
    PortFacts,
    Proofs,
    Remove,
    SetPhase,
    Unlink,
    Update,
    Way,
)
from ovs_highway.agent.ways import (
    Verdicts,
    both_ways,
    flags_for,
    loosened,
    not_ready,
    unknown,
    useful,
    verdicts,
    wanted_ways,
)
from ovs_highway.shm import LinkFlag, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds.

    Attributes:
        linger: a link is kept after its last rule went.
        answer: a driver has for LINK_ADDED and for LINK_REMOVED.
        adoption: drivers have to report the links of an earlier highwayd.
        backoff, backoff_max: before a pair that failed is tried again, doubling.
        proven: a link has to last for its pair's failures to be forgotten.
    """

    linger: float = 30.0
    answer: float = 10.0
    adoption: float = 3.0
    backoff: float = 1.0
    backoff_max: float = 60.0
    proven: float = 60.0


class _End(enum.Enum):
    UNTOLD = "not told of the link"
    ASKED = "was sent LINK_ADD"
    HAS = "has the link mapped"
    LEAVING = "was sent LINK_REMOVE"
    GONE = "has not, or no longer"


@dataclass(slots=True)
class _Link:
    """A link.

    Attributes:
        told: what its ends were told to heed; None: adopted, and they are yet to report.
        before: the most that they may still heed: what they were told before the first
            LINK_UPDATE that is not answered; only ever loosened.
        target: what they are to heed.
        reported: the same as each end reported it.
        ways: by sending end, why nothing may be sent.
    """

    link_id: int
    pair: Pair
    port_ids: tuple[int, int]
    phase: Phase
    stored: Phase
    since: float
    told: Flags | None
    made: bool = False
    adopted: bool = False
    wanted_at: float = 0.0
    why: str = ""
    ends: list[_End] = field(default_factory=lambda: [_End.UNTOLD, _End.UNTOLD])
    sessions: list[int | None] = field(default_factory=lambda: [None, None])
    reported: list[LinkFlag | None] = field(default_factory=lambda: [None, None])
    before: list[LinkFlag | None] = field(default_factory=lambda: [None, None])
    target: Flags | None = None
    updated_at: float = 0.0
    ways: tuple[str, str] = ("", "")


@dataclass(slots=True)
class _Failure:
    reason: str
    count: int
    at: float
    until: float
    sessions: tuple[int | None, int | None]


_IN_HAND: Final = (_End.ASKED, _End.HAS, _End.LEAVING)
_NO_PROOFS: Final = Proofs()
_MINUTE: Final = 60.0
_LET_GO: Final = 10
"""Links of a pair in a minute that VNFs may let go of before that counts as a failure."""
_UNCHECKED: Final = (shm.FREE, shm.FREE)


class Links:
    """All links of one highwayd, and the pairs that should have one but have not."""

    def __init__(
        self, *, new_id: Callable[[], int], timing: Timing | None = None, now: float = 0.0
    ) -> None:
        self._new_id = new_id
        self._timing = timing or Timing()
        self._adopt_until = now + self._timing.adoption
        self._proofs = _NO_PROOFS
        self._links: dict[int, _Link] = {}
        self._failures: dict[Pair, _Failure] = {}
        self._let_go: dict[Pair, list[float]] = {}
        self._reasons: dict[Pair, tuple[str, str]] = {}

    # What the caller has seen ------------------------------------------------------------------

    def adopt(
        self, *, link_id: int, pair: Pair, port_ids: tuple[int, int], phase: Phase, now: float
    ) -> None:
        """Take over a link that an earlier highwayd made; its ends are yet to report."""
        link = _Link(link_id, pair, port_ids, phase, phase, now, None, made=True, wanted_at=now)
        link.adopted = True
        if any(other.pair == pair for other in self._links.values()):
            link.phase, link.why = Phase.LEAVING, "another link of the same ports exists"
        self._links[link_id] = link

    def made(self, link_id: int, now: float) -> None:
        """The region that Make asked for exists."""
        if (link := self._links.get(link_id)) is not None:
            link.made, link.since = True, now

    def failed(self, link_id: int, reason: str, now: float) -> None:
        """The region that Make asked for could not be made."""
        if (link := self._links.pop(link_id, None)) is not None:
            self._fail(link, reason, now)

    def added(
        self,
        port: str,
        session: int,
        link_id: int,
        *,
        ok: bool,
        text: str,
        now: float,
        flags: LinkFlag = shm.FREE,
    ) -> bool:
        """A VNF answered LINK_ADDED, or reported a link that it still has, and what it heeds.

        Returns:
            False if there is no such link at this port: the VNF has to remove it.
        """
        link, end = self._find(port, link_id)
        if link is None:
            return not ok
        crossed = link.ends[end] is _End.LEAVING and link.sessions[end] == session
        link.sessions[end] = session
        if ok:
            link.reported[end] = flags
            # If the link is being taken down, LINK_REMOVE is under way or comes with next round.
            if not crossed:
                link.ends[end] = _End.HAS
            return True
        link.ends[end] = _End.GONE
        if link.phase is not Phase.LEAVING:
            reason = f"refused by the VNF at {port}: {text or 'no reason given'}"
            self._fail(link, reason, now)
            self._leave(link, reason, now)
        return True

    def removed(
        self, port: str, session: int, link_id: int, *, ok: bool, text: str, now: float
    ) -> None:
        """A VNF no longer has a link; unless `ok`, because something was wrong with it."""
        link, end = self._find(port, link_id)
        if link is None:
            return
        asked = link.phase is Phase.LEAVING
        link.sessions[end], link.ends[end] = session, _End.GONE
        if not asked:
            how = "given up" if ok else "closed"
            reason = f"{how} by the VNF at {port}: {text or 'no reason given'}"
            if not ok or self._lets_go_too_often(link.pair, now):
                self._fail(link, reason, now)
            self._leave(link, reason, now)

    def fault(self, link_id: int, text: str, now: float) -> None:
        """Something is wrong with a link; it goes, and is tried again after a while."""
        link = self._links.get(link_id)
        if link is not None and link.phase is not Phase.LEAVING:
            self._fail(link, text, now)
            self._leave(link, text, now)

    # What is to be done ------------------------------------------------------------------------

    def reconcile(
        self, ports: Mapping[str, PortFacts], now: float, proofs: Proofs = _NO_PROOFS
    ) -> list[Action]:
        """Compare what should be with what is; return what to do about it, in order.

        To be called again after the actions were carried out, until it returns none.
        """
        self._proofs = proofs
        wanted = wanted_ways(ports, proofs)
        actions: list[Action] = []
        for link in list(self._links.values()):
            if link.made:
                self._notice_lost_ends(link, ports)
                self._check(link, ports, wanted, now)
                actions += self._progress(link, ports, now)
        self._forget_failures(ports, wanted, now)
        actions += self._create(ports, wanted, now)
        return actions

    @property
    def settled(self) -> bool:
        """Nothing is under way: without news, the next `reconcile` can wait half a second."""
        return all(link.phase is Phase.ACTIVE and not link.adopted for link in self._links.values())

    def link_ids(self) -> set[int]:
        """Return the ids of all links whose regions are to be kept."""
        return set(self._links)

    def ends(self, link_id: int) -> tuple[str, ...]:
        """Return the ports of a link, nothing if there is no such link."""
        link = self._links.get(link_id)
        return () if link is None else link.pair

    def unchecked(self) -> dict[str, frozenset[int] | None]:
        """Return by receiver the ports, by region id, whose links to it need not be checked.

        None: that is not known yet, for an earlier highwayd has made a link.
        """
        found: dict[str, frozenset[int] | None] = {}
        for link in self._links.values():
            for end, name in enumerate(link.pair):
                known = found.get(name, frozenset())
                if link.told is None or known is None:
                    found[name] = None
                elif LinkFlag.CHECKED not in link.told[end]:
                    found[name] = known | {link.port_ids[1 - end]}
        return found

    def describe(self, now: float) -> list[LinkStatus]:
        """Return all links, and all pairs that should have one with the reason why not."""
        found = {}
        for link in self._links.values():
            phase = link.phase.name.lower() if not link.adopted else "adopting"
            found[link.pair] = LinkStatus(
                pair=link.pair,
                link_id=link.link_id,
                phase=phase,
                reason=link.why,
                flags=link.told or _UNCHECKED,
                ways=link.ways,
            )
        for pair, ways in self._reasons.items():
            if pair not in found:
                reason = ways[0] or ways[1]
                found[pair] = LinkStatus(
                    pair=pair, link_id=None, phase="none", reason=reason, ways=ways
                )
        for pair, failure in self._failures.items():
            if (status := found.get(pair)) is None or status.link_id is None:
                wait = max(0.0, failure.until - now)
                reason = f"{failure.reason}; next try in {wait:.0f} s"
                found[pair] = LinkStatus(
                    pair=pair, link_id=None, phase="failed", reason=reason, ways=(reason, reason)
                )
        return sorted(found.values(), key=lambda status: status.pair)

    # Inside ------------------------------------------------------------------------------------

    def _find(self, port: str, link_id: int) -> tuple[_Link | None, int]:
        link = self._links.get(link_id)
        if link is None or port not in link.pair:
            return None, 0
        return link, link.pair.index(port)

    def _fail(self, link: _Link, reason: str, now: float) -> None:
        count = self._failures[link.pair].count + 1 if link.pair in self._failures else 0
        wait = min(self._timing.backoff * 2 ** min(count, 16), self._timing.backoff_max)
        sessions = (link.sessions[0], link.sessions[1])
        self._failures[link.pair] = _Failure(reason, count, now, now + wait, sessions)

    def _forget_failures(
        self, ports: Mapping[str, PortFacts], wanted: set[Way], now: float
    ) -> None:
        """Forget the failures of links that proved good, of VNFs and of ports that went away."""
        for pair in [pair for pair in self._let_go if not {*pair} <= ports.keys()]:
            del self._let_go[pair]
        proven = {
            link.pair
            for link in self._links.values()
            if link.phase is Phase.ACTIVE and now - link.since >= self._timing.proven
        }
        for pair, failure in list(self._failures.items()):
            known = all(name in ports for name in pair)
            another = known and any(
                session is not None and ports[name].vnf not in (None, session)
                for name, session in zip(pair, failure.sessions, strict=True)
            )
            another = another and now - failure.at >= self._timing.backoff
            stale = now - failure.until > self._timing.backoff_max
            stale = stale and wanted.isdisjoint(both_ways(pair))
            if pair in proven or not known or another or stale:
                del self._failures[pair]

    def _lets_go_too_often(self, pair: Pair, now: float) -> bool:
        """Note that a VNF let go of a link; one that always does would have them made for ever."""
        recent = [at for at in self._let_go.get(pair, []) if now - at < _MINUTE]
        self._let_go[pair] = [*recent, now]
        return len(recent) >= _LET_GO

    def _leave(self, link: _Link, why: str, now: float) -> None:
        link.phase, link.why, link.since = Phase.LEAVING, why, now
        link.adopted = False

    @staticmethod
    def _notice_lost_ends(link: _Link, ports: Mapping[str, PortFacts]) -> None:
        for end, name in enumerate(link.pair):
            port = ports.get(name)
            lost = port is None or port.vnf != link.sessions[end]
            if link.ends[end] in _IN_HAND and lost:
                link.ends[end] = _End.GONE

    def _check(
        self, link: _Link, ports: Mapping[str, PortFacts], wanted: set[Way], now: float
    ) -> None:
        """Begin to take a link down if it should not be."""
        if link.adopted and not all(end is _End.HAS for end in link.ends):
            if now < self._adopt_until:
                return
            missing = next(
                name for end, name in zip(link.ends, link.pair, strict=True) if end != _End.HAS
            )
            why: str | None = f"the VNF at {missing} did not report it to the new highwayd"
        elif link.phase is Phase.LEAVING:
            why = link.why or "it was being taken down" if link.adopted else None
        else:
            why = self._why_not(link, ports, wanted, now)
        if why is not None:
            self._leave(link, why, now)

    def _why_not(
        self, link: _Link, ports: Mapping[str, PortFacts], wanted: set[Way], now: float
    ) -> str | None:
        """Return why a link has to go, or None if it may stay."""
        for end, name in enumerate(link.pair):
            port = ports.get(name)
            if port is None:
                return f"port {name} was deleted"
            if port.region_id != link.port_ids[end]:
                return f"port {name} was made anew"
            if link.ends[end] is _End.GONE:
                return f"the VNF at {name} went away"
            if (reason := not_ready(port)) is not None:
                return reason
        found = verdicts(ports[link.pair[0]], ports[link.pair[1]], self._proofs)
        if (reason := self._why_other_terms(link, ports, found, now)) is not None:
            return reason
        if link.phase is Phase.NEW and now - link.since > self._timing.answer:
            silent = [
                name for end, name in zip(link.ends, link.pair, strict=True) if end is not _End.HAS
            ]
            reason = f"the VNF at {' and '.join(silent)} did not answer"
            self._fail(link, reason, now)
            return reason
        # While there is no ovs-vswitchd nobody can want anything, and traffic has to go on.
        if useful(link.pair, wanted, found) or not all(ports[name].switch for name in link.pair):
            link.wanted_at = now
        elif now - link.wanted_at > self._timing.linger:
            return "no rule wants it any more"
        return None

    def _why_other_terms(
        self,
        link: _Link,
        ports: Mapping[str, PortFacts],
        found: Verdicts | None,
        now: float,
    ) -> str | None:
        """Return why the link has to be made anew for what policy wants, or None if not.

        What may be loosened is loosened in place; but a receiver that began to check would refuse
        what lies in the rings. What a driver does is what it has reported; what the region says
        anybody can have written.
        """
        one, other = link.reported
        if link.told is None and one is not None and other is not None:
            link.told = one, other
        told = link.told or _UNCHECKED
        for end, reported in enumerate(link.reported):
            if reported is None:
                continue
            if reported == told[end]:
                link.before[end] = None
            before = link.before[end]
            if told[end] & ~reported or reported & ~(told[end] if before is None else before):
                reason = f"the VNF at {link.pair[end]} does not heed what it was told"
                self._fail(link, reason, now)
                return reason
        link.target = None
        if found is None:
            return None
        link.ways = found[0].reason, found[1].reason
        if not found[0].allowed and not found[1].allowed:
            return found[0].reason
        link.target = flags_for(found)
        more = [flags & ~known for flags, known in zip(link.target, told, strict=True)]
        for end in (0, 1):
            if LinkFlag.NO_SEND in more[end]:
                return f"what {link.pair[end]} sends may not take it any more: {link.ways[end]}"
        if any(more):
            return "policy wants it checked"
        if link.target != told and not all(ports[name].directed for name in link.pair):
            return "it need not be checked"
        return None

    def _progress(
        self, link: _Link, ports: Mapping[str, PortFacts], now: float
    ) -> Iterator[Action]:
        """Take a link one step further in its life."""
        if link.adopted and not all(end is _End.HAS for end in link.ends):
            return
        if link.phase is Phase.LEAVING:
            if link.stored is not Phase.LEAVING:
                yield self._store(link, Phase.LEAVING, link.why)
            yield from self._progress_leaving(link, now)
            return
        for end, name in enumerate(link.pair):
            if link.ends[end] is _End.UNTOLD:
                link.ends[end], link.sessions[end] = _End.ASKED, ports[name].vnf
                flags = (link.told or _UNCHECKED)[end]
                yield Add(link_id=link.link_id, end=end, port=name, flags=flags)
        up = all(end is _End.HAS for end in link.ends)
        if up and (link.phase is Phase.NEW or link.adopted):
            news = "adopted" if link.adopted else "up"
            link.phase, link.since, link.adopted, link.why = Phase.ACTIVE, now, False, ""
            yield self._store(link, Phase.ACTIVE, news)
            yield from self._update(link, (0, 1), now)
        elif link.phase is Phase.ACTIVE:
            yield from self._loosen(link, now)

    def _loosen(self, link: _Link, now: float) -> Iterator[Action]:
        """Have the ends of a link heed no more than they have to."""
        told = link.told or _UNCHECKED
        flags = told if link.target is None else loosened(told, link.target, tuple(link.reported))
        link.told = flags
        ends = [end for end in (0, 1) if flags[end] != told[end]]
        for end in ends:
            link.before[end] = told[end] if link.before[end] is None else link.before[end]
        # In a VM's channel a message can get lost.
        if not ends and now - link.updated_at > self._timing.answer:
            ends = [end for end in (0, 1) if flags[end] != link.reported[end]]
        if ends:
            yield from self._update(link, ends, now)

    @staticmethod
    def _update(link: _Link, ends: Iterable[int], now: float) -> Iterator[Action]:
        assert link.told is not None
        link.updated_at = now
        for end in ends:
            yield Update(link_id=link.link_id, end=end, port=link.pair[end], flags=link.told[end])

    @staticmethod
    def _store(link: _Link, phase: Phase, text: str) -> SetPhase:
        link.stored = phase
        return SetPhase(link_id=link.link_id, pair=link.pair, phase=phase, text=text)

    def _progress_leaving(self, link: _Link, now: float) -> Iterator[Action]:
        for end, name in enumerate(link.pair):
            if link.ends[end] in (_End.ASKED, _End.HAS):
                link.ends[end] = _End.LEAVING
                yield Remove(link_id=link.link_id, end=end, port=name, text=link.why)
        over = now - link.since > self._timing.answer
        if over or not any(end is _End.LEAVING for end in link.ends):
            late = [n for e, n in zip(link.ends, link.pair, strict=True) if e is _End.LEAVING]
            text = f"{link.why}; no answer from {' and '.join(late)}" if late else link.why
            del self._links[link.link_id]
            yield Unlink(link_id=link.link_id, pair=link.pair, text=text)

    def _create(
        self, ports: Mapping[str, PortFacts], wanted: set[Way], now: float
    ) -> Iterator[Action]:
        self._reasons = {}
        taken = {link.pair for link in self._links.values()}
        count = Counter(name for pair in taken for name in pair)
        pairs = {(min(way), max(way)) for way in wanted}
        for pair in sorted(pairs - taken):
            both = (ports[pair[0]], ports[pair[1]])
            found = verdicts(*both, self._proofs)
            full = [name for name in pair if count[name] >= shm.MAX_LINKS]
            failure = self._failures.get(pair)
            reason = next((r for r in map(not_ready, both) if r is not None), None)
            if reason is None and found is None:
                reason = unknown(*both, self._proofs)
            if reason is None and found is not None and not useful(pair, wanted, found):
                self._reasons[pair] = found[0].reason, found[1].reason
                continue
            if reason is None:
                reason = both[0].no_room or both[1].no_room
            if reason is None and full:
                reason = f"port {full[0]} has {shm.MAX_LINKS} links already"
            if reason is None and failure is not None and now < failure.until:
                reason = failure.reason
            if reason is not None or found is None:
                self._reasons[pair] = reason or "", reason or ""
                continue
            count.update(pair)
            link_id, flags = self._new_id(), flags_for(found)
            ids = (both[0].region_id, both[1].region_id)
            link = _Link(link_id, pair, ids, Phase.NEW, Phase.NEW, now, flags, wanted_at=now)
            link.ways = found[0].reason, found[1].reason
            self._links[link_id] = link
            yield Make(
                link_id=link_id,
                pair=pair,
                port_ids=ids,
                n_queues=(both[0].n_queues, both[1].n_queues),
                ring_size=max(both[0].ring_size, both[1].ring_size),
                flags=flags,
                buffers=_buffers(both, flags),
            )


def _buffers(ports: tuple[PortFacts, PortFacts], flags: Flags) -> tuple[int, int]:
    """Return the bytes of the buffers that each end may send in.

    What is checked is copied, and so is what comes from a port of another party: who sends can
    change what is read.
    """
    labels = {"" if port.terms is None else port.terms.trust for port in ports}
    if len(labels) > 1 or "" in labels:
        return 0, 0
    one, other = (
        0 if LinkFlag.CHECKED in heeds else port.buffer
        for port, heeds in zip(ports, flags, strict=True)
    )
    return other, one
