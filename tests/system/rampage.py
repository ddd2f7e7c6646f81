# SPDX-License-Identifier: Apache-2.0
"""A hostile VNF at a port, life after life, each with something else done to its regions.

`python -m tests.system.rampage PORT SEED` runs until it is killed and tells on standard output what
it does. The run directory is that of the environment.
"""

from __future__ import annotations

import contextlib
import random
import struct
import sys
import time
from typing import TYPE_CHECKING, Final

from tests.system.hostile_vnf import BUFFER, FENCE, HostileVnf

from ovs_highway import paths, shm
from ovs_highway.errors import HighwayError
from ovs_highway.shm import CData, ffi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.hostile import Scribbler
    from tests.system.hostile_vnf import HostileLink, RawRing

Place = tuple["Scribbler", int, str]
"""A word: a region, an offset and `struct`'s format."""

FORMS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
FRAME: Final = bytes.fromhex("02000000000166000000000108004500") + bytes(1498)
MARKS: Final = {kind: shm.constant(f"HIGHWAY_DESC_{kind}") for kind in ("ENTER", "LEAVE")}
KINDS: Final = (0, 1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 255)
LENGTHS: Final = (0, 13, 14, 31, 32, 60, 512, 1514, 1515, 1664, 9234, 9235, 0xFFFF)
GEOMETRY: Final = 256
"""Bytes of a port region."""
ATTACK: Final = (0.02, 0.15)
"""Seconds."""
LINKS: Final = 0.3
"""Seconds to wait for links."""


def words(kind: str, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield where the numbers of a shared structure lie, and their sizes; of arrays the ends."""

    def walk(ctype: CData, at: int) -> Iterator[tuple[int, int]]:
        if ctype.kind == "primitive":
            yield at, ffi.sizeof(ctype)
        elif ctype.kind == "array":
            for index in {0, 1, ctype.length - 1} & set(range(ctype.length)):
                yield from walk(ctype.item, at + index * ffi.sizeof(ctype.item))
        else:
            for name, field in ctype.fields:
                if not name.startswith("pad"):
                    yield from walk(field.type, at + field.offset)

    yield from walk(ffi.typeof(f"struct {kind}"), start)


class Rampage:
    """One life of a hostile VNF, with a random generator of its own."""

    def __init__(self, vnf: HostileVnf, chosen: random.Random) -> None:
        self.vnf, self.random = vnf, chosen
        self.links = list(vnf.at.values())
        self.rings = [*vnf.to_switch, vnf.to_vnf]
        self.rings += [ring for link in self.links for ring in link.rings]
        self.places = list(self._places())

    def _places(self) -> Iterator[Place]:
        port = self.vnf.port
        found = [(port, *word) for word in words("highway_port_region")]
        for name in ("rules_offset", "in_rules_offset"):
            first = port.port_field(name)
            for slot in (0, 1, self.random.randrange(port.port_field("n_rules", "I"))):
                found += [
                    (port, *word) for word in words("highway_rule", first + slot * shm.RULE_LEN)
                ]
        found += [(port, *word) for word in words("highway_counter", self._counters)]
        for link in self.links:
            found += [(link.region, *word) for word in words("highway_link_region")]
        for ring in self.rings:
            found += [(ring.region, *word) for word in words("highway_ring", ring.start)]
        for region, offset, size in found:
            if size in FORMS:
                yield region, offset, FORMS[size]

    @property
    def _counters(self) -> int:
        return self.vnf.port.port_field("counters_offset")

    def value(self, place: Place) -> int:
        """Return something to write: near what is there, near the ends, or anything."""
        region, offset, form = place
        bits = 8 * ffi.sizeof(f"uint{8 * {'B': 1, 'H': 2, 'I': 4, 'Q': 8}[form]}_t")
        near = region.read(offset, form) + self.random.choice((-4096, -64, -1, 1, 2, 64, 4096))
        edge = self.random.choice((0, 1, 2, 1 << bits - 1, (1 << bits) - 1))
        known = self.random.choice([0, *(link.peer_id for link in self.links), *self.vnf.at])
        found = self.random.choice((near, edge, known, self.random.getrandbits(bits)))
        return found & ((1 << bits) - 1)

    def frames(self) -> None:
        """Send some frames as they ought to be, by both ways, and take what comes."""
        for ring in (*self.vnf.to_switch, *(link.out for link in self.links)):
            if ring.head - ring.tail < 16:
                ring.put(FRAME[: self.random.choice((60, 700, 1514))])
        for link in self.links:
            link.rings[1 - link.end].drain()
            if link.buffers[link.end] and self.random.random() < 0.5:
                link.put_in_buffer(FRAME)
        self.vnf.to_vnf.drain()
        self.vnf.acknowledge()

    # What is done, over and over for a while ----------------------------------------------------

    def one_field(self) -> Callable[[], None]:
        """Write into one place again and again, while it is read."""
        place = region, offset, form = self.random.choice(self.places)
        values = [self.value(place) for _ in range(4)]

        def write() -> None:
            for value in values * 50:
                region.write(offset, value, form)

        return write

    def one_field_under_traffic(self) -> Callable[[], None]:
        """The same, with sound traffic around it."""
        write = self.one_field()

        def both() -> None:
            write()
            self.frames()

        return both

    def many_fields(self) -> Callable[[], None]:
        """Write into places at random."""

        def write() -> None:
            place = region, offset, form = self.random.choice(self.places)
            region.write(offset, self.value(place), form)

        return write

    def noise(self) -> Callable[[], None]:
        """Write noise over some bytes, or all."""
        region = self.random.choice([self.vnf.port, *(link.region for link in self.links)])

        def write() -> None:
            length = self.random.choice((8, 64, 4096, 65536, region.size))
            region.noise(self.random.randrange(region.size - length + 1), length)

        return write

    def descriptors(self) -> Callable[[], None]:
        """Publish descriptors of any kind, with stamps and without, into rings of either end."""
        ring = self.random.choice(self.rings)
        kinds = self.random.choices(KINDS, k=2)

        def write() -> None:
            offset = self.random.choice((0, 64, 128, ring.data_len - 128, ring.data_len, 1 << 31))
            stamped = self.random.random() < 0.8
            ring.publish(
                ring.word(
                    offset,
                    self.random.choice(LENGTHS),
                    self.random.choice((1, *kinds)),
                    stamped=stamped,
                )
            )

        return write

    def marks(self) -> Callable[[], None]:
        """Tell the switch of changes of channel that are none, and peers of fences."""

        def write() -> None:
            if not self.links:
                return
            link: HostileLink = self.random.choice(self.links)
            value = self.random.choice((0, 1, link.out.head, link.out.head + 1, 1 << 63))
            self._mark(self.vnf.to_switch[0], link, value, self.random.choice([*MARKS.values()]))
            if self.random.random() < 0.2:
                self._mark(link.out, link, value, FENCE)
            self.frames()

        return write

    def _mark(self, ring: RawRing, link: HostileLink, value: int, kind: int) -> None:
        if ring.head - ring.tail < 16:
            body: CData = ffi.new("struct highway_marker *")
            body.peer_id, body.link_id, body.value = link.peer_id, link.link_id, value
            ring.put(bytes(ffi.buffer(body)), kind)

    def states(self) -> Callable[[], None]:
        """Give back buffers that are out, take others, at either end; offer them all the same."""

        def write() -> None:
            for link in self.links:
                for pool in filter(None, link.pools):
                    link.region.noise(pool, link.out.size)
                if link.buffers[link.end]:
                    ring = link.out
                    ring.publish(ring.word(0, self.random.choice(LENGTHS[5:9]), BUFFER))
            self.frames()

        return write

    def run(self) -> str:
        """Do one of these things; return which."""
        kinds = {
            self.one_field: 4,
            self.one_field_under_traffic: 4,
            self.many_fields: 2,
            self.noise: 1,
            self.descriptors: 4,
            self.marks: 2,
            self.states: 2,
        }
        (kind,) = self.random.choices(list(kinds), list(kinds.values()))
        act, until = kind(), time.monotonic() + self.random.uniform(*ATTACK)
        while time.monotonic() < until:
            act()
        return kind.__name__


def live(port: str, chosen: random.Random) -> str:
    """Attach, do harm, answer highwayd or not, and go."""
    with contextlib.closing(HostileVnf(paths.rundir(), port).attach()) as vnf:
        until = time.monotonic() + LINKS
        while time.monotonic() < until and sum(link.active for link in vnf.at.values()) < 2:
            vnf.serve(0.01)
            vnf.to_vnf.drain()
        geometry = vnf.port.memory[:GEOMETRY]
        did = []
        for _ in range(chosen.randint(2, 8)):
            rampage = Rampage(vnf, chosen)
            for _ in range(5):
                rampage.frames()
            did.append(f"{rampage.run()} with {len(rampage.links)} links")
            # Whoever attaches next has to find its way.
            vnf.port.memory[:GEOMETRY] = geometry
            until = time.monotonic() + chosen.choice((0, 0.02, 0.02, 0.3))
            while time.monotonic() < until:
                vnf.serve(0.01)
            if not vnf.at:
                break
        return ", ".join(did)


def main() -> None:
    """Live at a port until the process is killed."""
    port, seed = sys.argv[1], int(sys.argv[2])
    for number in range(1 << 30):
        chosen = random.Random(f"{seed}-{number}")
        random.seed(f"{seed}-{number}")  # of Scribbler.noise()
        try:
            print(number, live(port, chosen), flush=True)
        except (HighwayError, OSError, OverflowError, struct.error) as error:
            # The port is being deleted, or added; or there were too many lives of late; or noise
            # stands where the geometry was.
            print(number, f"{type(error).__name__}: {error}", flush=True)
            time.sleep(0.1)


if __name__ == "__main__":
    main()
