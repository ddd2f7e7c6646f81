# SPDX-License-Identifier: Apache-2.0
"""Random frames: well formed ones of many kinds, and mutations that cut, lie and flip.

A flow is what differs only in length, segments and number; its frames end in eight bytes with the
flow and a number, so that each of them can be told from all others wherever it comes out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from scapy.contrib.mpls import MPLS
from scapy.fields import ShortField
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw
from tests.system.differential.tables import LESSON_TYPE
from tests.system.differential.world import PORTS

if TYPE_CHECKING:
    from random import Random

    from tests.system.differential.world import World

LONGEST: Final = 1518
_TAG: Final = struct.Struct(">HHI")
_MAGIC: Final = 0xA55A


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Frames that are the same but for length, segments and number.

    Attributes:
        port: OpenFlow number of the port that sends them.
        variants: frames with their segments; the tag's place is still empty.
        tagged: whether there is room for a tag behind all headers.
        whole: all variants can be parsed to the end and belong to one datapath flow.
        kind: how it was made, for people.
    """

    number: int
    port: int
    queue: int
    variants: tuple[tuple[bytes, int], ...]
    tagged: bool
    whole: bool
    kind: str

    def ordered(self, serial: int) -> int:
        """Return what is the same for those frames that must not overtake one another.

        A length that lies may do so in one variant only, and such a frame has no bypass.
        """
        return 0 if self.whole else serial % len(self.variants)

    def frame(self, serial: int) -> tuple[bytes, int]:
        """Return frame number `serial` of the flow, and the length of its segments."""
        frame, segment = self.variants[serial % len(self.variants)]
        if self.tagged:
            frame = frame[: -_TAG.size] + _TAG.pack(_MAGIC, self.number, serial)
        return frame, segment


def tag(frame: bytes) -> tuple[int, int] | None:
    """Return flow and number of a frame, None if it has no tag."""
    if len(frame) < _TAG.size:
        return None
    magic, flow, serial = _TAG.unpack(frame[-_TAG.size :])
    return (flow, serial) if magic == _MAGIC else None


class Typed(Packet):
    """Stands in front of what is to follow an Ethernet header or tag with a certain type."""

    name = "typed"
    fields_desc: ClassVar = [ShortField("type", 0)]


class FrameMaker:
    """Draws flows; with `learning` sources stay where they are, as NORMAL needs it."""

    def __init__(self, rng: Random, world: World, *, queues: int = 1, learning: bool) -> None:
        self._rng, self._world, self._queues, self._learning = rng, world, queues, learning

    def flow(self, number: int) -> Flow:
        """Draw a flow."""
        flow = self._draw(number)
        while any(_unreadable(frame) for frame, _ in flow.variants):
            flow = self._draw(number)
        return flow

    def _draw(self, number: int) -> Flow:
        rng = self._rng
        port = rng.choice(PORTS)
        layers, kind = self._layers(port)
        header = len(bytes(layers))
        lengths = [rng.choice((8, 9, 30, 64, 200, 700)) for _ in range(rng.choice((1, 1, 2, 3)))]
        if rng.random() < 0.05:
            lengths.append(rng.choice((LONGEST - header, LONGEST + 1 - header, 3000)))
        frames = [bytes(layers / Raw(bytes(max(length, 8)))) for length in lengths]
        tagged = True
        # Behind "none" the protocol may be one with ports, for which some lengths are too short.
        whole = " none" not in kind
        if rng.random() < 0.35:
            frames, parsed, how = self._mutate(frames, header)
            tagged = all(len(frame) >= parsed + _TAG.size for frame in frames)
            kind += how
            whole = False
        return Flow(
            number=number,
            port=port,
            queue=rng.randrange(self._queues),
            variants=tuple((frame, self._segment()) for frame in frames),
            tagged=tagged,
            whole=whole,
            kind=kind,
        )

    def lessons(self) -> list[tuple[int, bytes]]:
        """Return broadcasts that teach a learning bridge where each source is, with their port."""
        found = []
        for port in PORTS:
            for mac in self._world.own_macs[port]:
                head = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff", type=LESSON_TYPE)
                found.append((port, bytes(head / Raw(bytes(46)))))
                head = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
                for vlan in self._world.vlans:
                    tag = Dot1Q(vlan=vlan, type=LESSON_TYPE)
                    found.append((port, bytes(head / tag / Raw(bytes(42)))))
        return found

    def _segment(self) -> int:
        return self._rng.choice((0, 0, 0, 0, 14, 20, 33, 60, 64, 128))

    def _layers(self, port: int) -> tuple[Packet, str]:
        rng, world = self._rng, self._world
        source = rng.choice(world.own_macs[port] if self._learning else world.macs)
        frame: Packet = Ether(src=source, dst=rng.choice(world.macs))
        tags = rng.choices((0, 1, 2), (60, 30, 10))[0]
        for _ in range(tags):
            kind = rng.choices((Dot1Q, Dot1AD), (4, 1))[0]
            frame = frame / kind(
                vlan=rng.choice(world.vlans), prio=rng.randrange(8), dei=rng.choice((0, 0, 0, 1))
            )
        makers = (self._ipv4, self._ipv6, self._arp, self._mpls, self._llc, self._other)
        maker = rng.choices(makers, (50, 25, 6, 5, 4, 5))[0]
        upper, name = maker()
        if isinstance(upper, Typed):
            frame.lastlayer().type = upper.type
            upper = upper.payload
        return frame / upper, f"{tags} tags, {name}"

    def _l4(self, *, v6: bool) -> tuple[Packet | None, int, str]:
        """Return a layer 4, its protocol number, and what it is."""
        rng = self._rng
        source, destination = rng.choice(self._world.l4_ports), rng.choice(self._world.l4_ports)
        kind = rng.choices(("tcp", "udp", "sctp", "icmp", "none"), (30, 35, 10, 15, 10))[0]
        match kind:
            case "tcp":
                options = [("NOP", None)] * rng.choice((0, 0, 4, 12))
                flags = rng.choice((0x02, 0x10, 0x12, 0x18, 0x01, 0x1C2))
                return TCP(sport=source, dport=destination, flags=flags, options=options), 6, kind
            case "udp":
                checksum = rng.choice((None, 0))
                return UDP(sport=source, dport=destination, chksum=checksum), 17, kind
            case "sctp":
                return SCTP(sport=source, dport=destination), 132, kind
            case "icmp" if v6 and rng.random() < 0.5:
                return ICMPv6ND_NS(tgt=rng.choice(self._world.ip6s)), 58, "nd"
            case "icmp" if v6:
                return ICMPv6EchoRequest(code=rng.randrange(2)), 58, "icmp6"
            case "icmp":
                return ICMP(type=rng.choice((0, 3, 8)), code=rng.randrange(2)), 1, kind
        return None, rng.choice(self._world.protos), kind

    def _ipv4(self) -> tuple[Packet, str]:
        rng, world = self._rng, self._world
        upper, proto, name = self._l4(v6=False)
        fields: dict[str, Any] = {
            "src": rng.choice(world.ips),
            "dst": rng.choice(world.ips),
            "ttl": rng.choice(world.ttls),
            "tos": rng.choice(world.toses),
            "id": rng.randrange(65536),
            "proto": proto,
            "flags": rng.choice((0, 0, 2)),
        }
        name = f"ipv4 {name}"
        if rng.random() < 0.1:
            fields["flags"], fields["frag"] = rng.choice(((1, 0), (1, 5), (0, 5), (3, 0), (4, 0)))
            name += " fragment"
        if rng.random() < 0.1:
            fields["options"] = [rng.choice((b"\x01" * 4, b"\x94\x04\x00\x00", b"\x01" * 40))]
            name += " options"
        ip = IP(**fields)
        return (ip if upper is None else ip / upper), name

    def _ipv6(self) -> tuple[Packet, str]:
        rng, world = self._rng, self._world
        upper, proto, name = self._l4(v6=True)
        ip: Packet = IPv6(
            src=rng.choice(world.ip6s),
            dst=rng.choice(world.ip6s),
            hlim=rng.choice(world.ttls),
            tc=rng.choice(world.toses),
            fl=rng.choice((0, 5)),
        )
        name = f"ipv6 {name}"
        last, field = ip, "nh"
        for _ in range(rng.choices((0, 1, 2), (75, 18, 7))[0]):
            extension = rng.choice(
                (
                    IPv6ExtHdrHopByHop(),
                    IPv6ExtHdrDestOpt(),
                    IPv6ExtHdrRouting(),
                    IPv6ExtHdrFragment(offset=rng.choice((0, 0, 3)), m=rng.randrange(2)),
                )
            )
            name += " " + extension.name.removeprefix("IPv6 Extension Header - ")
            ip = ip / extension
            last = extension
        if upper is None:
            setattr(ip.lastlayer() if last is not ip else ip, field, proto)
            return ip, name
        return ip / upper, name

    def _arp(self) -> tuple[Packet, str]:
        rng, world = self._rng, self._world
        arp = ARP(
            op=rng.choice((1, 2, 3, 300)),
            psrc=rng.choice(world.ips),
            pdst=rng.choice(world.ips),
            hwsrc=rng.choice(world.macs),
            hwdst=rng.choice(world.macs),
        )
        return arp, "arp"

    def _mpls(self) -> tuple[Packet, str]:
        rng = self._rng
        frame: Packet = MPLS(label=rng.choice((0, 5, 17)), s=1, ttl=rng.choice(self._world.ttls))
        if rng.random() < 0.3:
            frame = MPLS(label=rng.choice((5, 17)), s=0) / frame
        return frame / IP(src=self._world.ips[0], dst=self._world.ips[1]), "mpls"

    def _llc(self) -> tuple[Packet, str]:
        size = self._rng.choice((3, 46, 1500, 0x5FF))
        if self._rng.random() < 0.5:
            kind = self._rng.choice((0x0800, 0x9000))
            snap = LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=self._rng.randrange(2), code=kind)
            inner = IP(src=self._world.ips[0], dst=self._world.ips[1])
            return Typed(type=size) / snap / inner, "snap"
        return Typed(type=size) / LLC(dsap=0x42, ssap=0x42, ctrl=3), "llc"

    def _other(self) -> tuple[Packet, str]:
        kind = self._rng.choice((*self._world.ether_types, 0x0800, 0x86DD, 0x05FF, 0x8100))
        return Typed(type=kind) / Raw(self._rng.randbytes(40)), f"type {kind:#06x}"

    def _mutate(self, frames: list[bytes], header: int) -> tuple[list[bytes], int, str]:
        """Return mutated frames, how long their headers may be now, and what was done."""
        rng = self._rng
        # A bridge that learns would otherwise find a source at a port where it is not.
        first = 12 if not self._learning else 18
        match rng.randrange(5):
            case 0:
                length = rng.randrange(14, max(15, min(header + 8, len(frames[0]))))
                return [frame[:length] for frame in frames[:1]], length, f", cut to {length}"
            case 1:
                more = rng.choice((1, 4, 46, 255, 256, 300))
                return [frame + bytes(more) for frame in frames], header, f", {more} of padding"
            case 2:
                at = rng.randrange(first, max(first + 1, header))
                value = rng.randrange(1, 256)
                return [_flip(f, at, value) for f in frames], header + 40, f", byte {at} ^ {value}"
            case 3:  # the lengths of the headers of IP and TCP, and of what they carry
                at = rng.choice((14, 16, 17, 18, 19, 46, 66, 38, 39))
                at = max(at, first)
                delta = rng.choice((1, 2, 8, 0x10, 0x20, 0xF0, 255))
                return [_add(f, at, delta) for f in frames], header + 40, f", byte {at} + {delta}"
        lot = [(rng.randrange(first, max(first + 1, header)), rng.randrange(256)) for _ in range(4)]
        for at, value in lot:
            frames = [_flip(frame, at, value) for frame in frames]
        return frames, header + 40, f", bytes {lot}"


def _unreadable(frame: bytes) -> bool:
    """Tell whether OVS would make a flow of this frame that it cannot read back itself.

    It deletes such a flow with each revalidation, and may lose a hit with it: the key of an MPLS
    packet without any label has an empty attribute, which is an error (parse_l2_5_onward() in OVS's
    lib/odp-util.c).
    """
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    if frame[at : at + 2] not in (b"\x88\x47", b"\x88\x48"):
        return False
    labels = frame[at + 2 : at + 14]
    return not any(labels[: len(labels) & ~3])


def _flip(frame: bytes, at: int, value: int) -> bytes:
    at = min(at, len(frame) - 1)
    return frame[:at] + bytes([frame[at] ^ value]) + frame[at + 1 :]


def _add(frame: bytes, at: int, value: int) -> bytes:
    at = min(at, len(frame) - 1)
    return frame[:at] + bytes([(frame[at] + value) & 0xFF]) + frame[at + 1 :]
