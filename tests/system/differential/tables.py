# SPDX-License-Identifier: Apache-2.0
"""Random OpenFlow tables: overlapping priorities, masks on every field, pipelines, groups.

Each rule has a cookie and, within its table, a priority of its own: which of two rules of one
priority takes a packet is for the switch to choose, and it need not choose the same twice.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.system.differential.world import PORTS

if TYPE_CHECKING:
    from random import Random

    from tests.system.differential.world import World

SENTINEL_TYPE: Final = 0x88B5
LESSON_TYPE: Final = 0x9000
"""The ethertype of frames that teach a learning bridge, whatever its other rules say."""
SENTINEL: Final = 0xFFFF
LAST_TABLE: Final = 3
_V4_L4: Final = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}
_V6_L4: Final = {"tcp6": 6, "udp6": 17, "sctp6": 132, "icmp6": 58}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One OpenFlow rule."""

    table: int
    priority: int
    cookie: int
    match: str
    actions: str

    def __str__(self) -> str:
        match = f",{self.match}" if self.match else ""
        return (
            f"cookie={self.cookie:#x},table={self.table},priority={self.priority}{match},"
            f"actions={self.actions}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Everything that a bridge is told; with `learning` some rules say NORMAL."""

    groups: tuple[str, ...]
    rules: tuple[Rule, ...]
    learning: bool

    def bundle(self) -> str:
        """Return what `ovs-ofctl bundle` is to do, in place of all that was there."""
        first = f"cookie={SENTINEL:#x},priority=65535"
        fixed = [f"{first},dl_type={SENTINEL_TYPE:#x},actions=in_port"]
        if self.learning:
            fixed.append(f"{first},dl_type={LESSON_TYPE:#x},actions=NORMAL")
        lines = ["flow delete", "group delete"]
        lines += [f"group add {group}" for group in self.groups]
        lines += [f"flow add {rule}" for rule in (*fixed, *self.rules)]
        return "\n".join(lines) + "\n"


class TableMaker:
    """Draws one table from what a seed's world has."""

    def __init__(self, rng: Random, world: World) -> None:
        self._rng, self._world = rng, world
        self._tables = rng.choice((1, 1, 2, 4))
        self._learning = rng.random() < 0.12
        self._groups: list[str] = []
        # How often a match names a field, and how a rule ends: each table has its own manner.
        self._fields = rng.choice((0.1, 0.3, 0.6))
        self._plain = rng.choice((10, 30, 60, 120))

    def table(self) -> Table:
        """Draw everything."""
        rng = self._rng
        if not self._learning:
            self._groups = [self._group(number + 1) for number in range(rng.choice((0, 0, 2, 4)))]
        rules: list[Rule] = []
        for table in range(self._tables):
            count = rng.choice((2, 4, 8, 16))
            drawn = [self._rule(table) for _ in range(count)]
            drawn += self._fan() if rng.random() < 0.6 else []
            drawn += self._defaults(table)
            priorities = sorted(rng.sample(range(1, 1000), len(drawn)), reverse=True)
            for (match, actions), priority in zip(drawn, priorities, strict=True):
                rules.append(
                    Rule(
                        table=table,
                        priority=priority,
                        cookie=len(rules) + 1,
                        match=match,
                        actions=actions,
                    )
                )
        return Table(groups=tuple(self._groups), rules=tuple(rules), learning=self._learning)

    def _defaults(self, table: int) -> list[tuple[str, str]]:
        rng = self._rng
        if self._learning:
            return [("", "NORMAL")]
        if table + 1 < self._tables and rng.random() < 0.5:
            return [("", f"resubmit(,{table + 1})")]
        return [
            (f"in_port={port}", f"output:{rng.choice(PORTS)}")
            for port in PORTS
            if rng.random() < 0.9
        ]

    def _fan(self) -> list[tuple[str, str]]:
        """Return rules that send each value of one field elsewhere."""
        rng, world = self._rng, self._world
        fields: dict[str, tuple[object, ...]] = {
            "dl_vlan": world.vlans,
            "dl_vlan_pcp": tuple(range(8)),
            "dl_src": world.macs,
            "dl_dst": world.macs,
            "ip,nw_src": world.ips,
            "ip,nw_dst": world.ips,
            "ipv6,ipv6_dst": world.ip6s,
            "ip,nw_tos": (0, 0x10, 0xB8),
            "ip,nw_ttl": world.ttls,
            "ip,nw_proto": (1, 6, 17, 132),
            "udp,tp_dst": world.l4_ports,
            "tcp,tp_src": world.l4_ports,
        }
        field = rng.choice(list(fields))
        return [(f"{field}={value}", f"output:{rng.choice(PORTS)}") for value in fields[field]]

    def _rule(self, table: int) -> tuple[str, str]:
        match, kind, tagged = self._match(table)
        # Whoever matches later fragments may not write ports.
        kind = "ip" if "ip_frag=" in match and kind in _V4_L4 else kind
        kind = "ipv6" if "ip_frag=" in match and kind in _V6_L4 else kind
        return match, self._actions(table, kind, tagged=tagged)

    # matches -----------------------------------------------------------------------------------

    def _chance(self) -> bool:
        return self._rng.random() < self._fields

    def _masked(self, value: int, bits: int) -> str:
        """Return a number, four times in ten with a mask."""
        rng = self._rng
        if rng.random() < 0.6:
            return f"{value:#x}"
        full = (1 << bits) - 1
        mask = rng.choice((full >> bits // 2, full << bits // 2 & full, rng.getrandbits(bits), 1))
        mask = mask or full
        return f"{value & mask:#x}/{mask:#x}"

    def _mac(self) -> str:
        rng = self._rng
        mac = rng.choice(self._world.macs)
        if rng.random() < 0.6:
            return mac
        mask = rng.choice((1 << 40, 0xFFFFFF000000, 0xFFFF, 0xFF00, rng.getrandbits(48) or 1))
        return f"{_colons(int(mac.replace(':', ''), 16) & mask)}/{_colons(mask)}"

    def _ip(self, pool: tuple[str, ...]) -> str:
        rng = self._rng
        address = ipaddress.ip_address(rng.choice(pool))
        bits = address.max_prefixlen
        if rng.random() < 0.4:
            return str(address)
        ones = (1 << bits) - 1
        length = rng.randrange(8, bits)
        prefix = ones << (bits - length) & ones
        mask = rng.choice((prefix, ones ^ 0xFF00, 3, ones ^ 0xF << bits // 2))
        kind = type(address)
        return f"{kind(int(address) & mask)}/{kind(mask)}"

    def _match(self, table: int) -> tuple[str, str, bool]:
        """Return a match, what it says of the type (`any` if nothing), and if it asks for a tag."""
        rng, world = self._rng, self._world
        fields = []
        if rng.random() < 0.5:
            fields.append(f"in_port={rng.choice(PORTS)}")
        if table and rng.random() < 0.4:
            fields.append(f"reg0={self._masked(rng.randrange(4), 2)}")
        if self._chance():
            fields.append(f"dl_src={self._mac()}")
        if self._chance():
            fields.append(f"dl_dst={self._mac()}")
        tagged = False
        if self._chance():
            text, tagged = self._vlan()
            fields.append(text)
        kind = rng.choices(
            ("any", "ip", *_V4_L4, "ipv6", *_V6_L4, "arp", "mpls", "other"),
            (30, 12, 9, 9, 4, 5, 8, 5, 5, 2, 3, 4, 2, 4),
        )[0]
        match kind:
            case "any":
                pass
            case "arp":
                fields += ["arp", *self._arp()]
            case "mpls":
                fields.append("mpls")
                if self._chance():
                    fields.append(f"mpls_label={rng.choice((0, 5, 17))}")
            case "other":
                fields.append(f"dl_type={rng.choice((*world.ether_types, 0x05FF)):#06x}")
            case _:
                fields += [kind, *self._ip_fields(kind), *self._l4_fields(kind)]
        return ",".join(fields), kind, tagged

    def _vlan(self) -> tuple[str, bool]:
        rng = self._rng
        vlan = rng.choice(self._world.vlans)
        tci = vlan | rng.randrange(8) << 13
        mask = rng.getrandbits(16) & 0xEFFF
        return rng.choice(
            (
                (f"dl_vlan={vlan}", True),
                (f"dl_vlan={vlan},dl_vlan_pcp={rng.randrange(8)}", True),
                ("vlan_tci=0x1000/0x1000", True),
                ("vlan_tci=0", False),
                (f"vlan_tci={0x1000 | tci & mask:#x}/{0x1000 | mask:#x}", True),
                (f"vlan_tci={vlan & 0xF:#x}/0xf", False),
            )
        )

    def _arp(self) -> list[str]:
        rng, world = self._rng, self._world
        fields = []
        if self._chance():
            fields.append(f"arp_op={rng.choice((1, 2, 3))}")
        if self._chance():
            fields.append(f"arp_spa={self._ip(world.ips)}")
        if self._chance():
            fields.append(f"arp_tpa={self._ip(world.ips)}")
        if self._chance():
            fields.append(f"arp_sha={rng.choice(world.macs)}")
        return fields

    def _ip_fields(self, kind: str) -> list[str]:
        rng, world = self._rng, self._world
        v6 = kind.endswith("6") or kind == "ipv6"
        fields = []
        pool, source, destination = (
            (world.ip6s, "ipv6_src", "ipv6_dst") if v6 else (world.ips, "nw_src", "nw_dst")
        )
        if self._chance():
            fields.append(f"{source}={self._ip(pool)}")
        if self._chance():
            fields.append(f"{destination}={self._ip(pool)}")
        if self._chance() and rng.random() < 0.5:
            fields.append(f"nw_tos={rng.choice(world.toses) & 0xFC}")
        if self._chance() and rng.random() < 0.3:
            fields.append(f"nw_ecn={rng.randrange(4)}")
        if self._chance() and rng.random() < 0.5:
            fields.append(f"nw_ttl={rng.choice(world.ttls)}")
        if self._chance() and rng.random() < 0.5:
            fragments = ["no", "first", "not_later"]
            fragments += ["yes", "later"] if kind in ("ip", "ipv6") else []
            fields.append(f"ip_frag={rng.choice(fragments)}")
        if v6 and self._chance() and rng.random() < 0.3:
            fields.append(f"ipv6_label={rng.choice((0, 5))}")
        if kind in ("ip", "ipv6") and self._chance():
            fields.append(f"nw_proto={rng.choice((6, 17, *world.protos))}")
        return fields

    def _l4_fields(self, kind: str) -> list[str]:
        rng, world = self._rng, self._world
        fields = []
        match kind:
            case "icmp" | "icmp6":
                if self._chance():
                    kinds = (0, 3, 8) if kind == "icmp" else (128, 135)
                    fields.append(f"icmp_type={rng.choice(kinds)}")
                    if self._chance():
                        fields.append(f"icmp_code={rng.randrange(2)}")
                    if fields == ["icmp_type=135"] and self._chance():
                        fields = ["icmp_type=135,icmp_code=0", f"nd_target={self._ip(world.ip6s)}"]
            case "ip" | "ipv6":
                pass
            case _:
                if self._chance():
                    fields.append(f"tp_src={self._masked(rng.choice(world.l4_ports), 16)}")
                if self._chance():
                    fields.append(f"tp_dst={self._masked(rng.choice(world.l4_ports), 16)}")
                if kind.startswith("tcp") and self._chance():
                    fields.append(f"tcp_flags={self._masked(rng.choice((2, 0x10, 0x12)), 12)}")
        return fields

    # actions -----------------------------------------------------------------------------------

    def _output(self) -> str:
        return f"output:{self._rng.choice(PORTS)}"

    def _actions(self, table: int, kind: str, *, tagged: bool) -> str:
        rng = self._rng
        more = table + 1 < self._tables
        choices: dict[str, int] = {
            "output": self._plain,
            "drop": 6,
            "several": 8,
            "in_port": 4,
            "next": 25 if more else 0,
            "group": 15 if self._groups else 0,
            "rewrite": 0 if self._learning else 12,
            "vlan": 0 if self._learning else 10,
            "flood": 3,
            "normal": 40 if self._learning else 0,
            "odd": 6,
        }
        match rng.choices(list(choices), list(choices.values()))[0]:
            case "output":
                return self._output()
            case "drop":
                return "drop"
            case "several":
                return ",".join(self._output() for _ in range(rng.choice((2, 2, 3))))
            case "in_port":
                return rng.choice(("in_port", f"in_port,{self._output()}"))
            case "next":
                return self._next(table)
            case "group":
                return f"group:{rng.randrange(1, 1 + len(self._groups))}"
            case "rewrite":
                then = self._next(table) if more and rng.random() < 0.4 else self._output()
                return f"{self._rewrites(kind)},{then}"
            case "vlan":
                then = self._next(table) if more and rng.random() < 0.4 else self._output()
                return f"{self._vlan_action(tagged=tagged)},{then}"
            case "flood":
                return rng.choice(("FLOOD", "ALL"))
            case "normal":
                return "NORMAL"
        return rng.choice(
            (
                "output:LOCAL",
                f"clone(set_field:02:00:00:00:00:77->eth_src,{self._output()}),{self._output()}",
                "check_pkt_larger(200)->NXM_NX_REG0[0],output:2",
                "load:3->NXM_NX_REG1[],output:NXM_NX_REG1[]",
                f"note:00.11.22,{self._output()}",
                f"{self._output()},set_field:02:00:00:00:00:78->eth_dst,{self._output()}",
                "multipath(symmetric_l4,50,modulo_n,3,0,NXM_NX_REG1[0..1]),"
                "load:1->NXM_NX_REG1[1],output:NXM_NX_REG1[]",
            )
        )

    def _next(self, table: int) -> str:
        rng = self._rng
        to = rng.randrange(table + 1, self._tables)
        load = f"load:{rng.randrange(4)}->NXM_NX_REG0[]," if rng.random() < 0.4 else ""
        return load + rng.choice(
            (f"goto_table:{to}", f"resubmit(,{to})", f"resubmit({rng.choice(PORTS)},{to})")
        )

    def _rewrites(self, kind: str) -> str:
        rng, world = self._rng, self._world
        mac, port = rng.choice(world.macs), rng.choice(world.l4_ports)
        found = [
            f"set_field:{mac}->eth_dst",
            f"set_field:{mac}->eth_src",
            "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]",
        ]
        v4 = kind == "ip" or kind in _V4_L4
        v6 = kind == "ipv6" or kind in _V6_L4
        if v4:
            found.append(f"set_field:{rng.choice(world.ips)}->ip_dst")
            found.append(f"set_field:{rng.choice(world.ips)}->ip_src")
        if v6:
            found.append(f"set_field:{rng.choice(world.ip6s)}->ipv6_dst")
        if v4 or v6:
            found.append(f"set_field:{rng.choice(world.ttls)}->nw_ttl")
            found.append(f"set_field:{rng.choice(world.toses) >> 2}->ip_dscp")
            found.append("dec_ttl")
        for proto in ("tcp", "udp", "sctp"):
            if kind.startswith(proto):
                found.append(f"set_field:{port}->{proto}_dst")
        if kind == "arp":
            found.append("set_field:2->arp_op")
        if kind == "mpls":
            found.append("set_field:17->mpls_label")
        return ",".join(rng.sample(found, rng.choice((1, 1, 2))))

    def _vlan_action(self, *, tagged: bool) -> str:
        rng = self._rng
        vlan = rng.choice(self._world.vlans)
        choices = [f"push_vlan:0x8100,set_field:{vlan | 0x1000}->vlan_vid", "push_vlan:0x88a8"]
        if tagged:
            choices += [
                "pop_vlan",
                f"set_field:{vlan | 0x1000}->vlan_vid",
                f"set_field:{rng.randrange(8)}->vlan_pcp",
                f"mod_vlan_vid:{vlan}",
            ]
        return rng.choice(choices)

    def _group(self, number: int) -> str:
        rng = self._rng
        head = f"group_id={number},type="
        change = rng.choice(("", "", "set_field:02:00:00:00:00:79->eth_dst,"))
        return head + rng.choice(
            (
                f"indirect,bucket={change}{self._output()}",
                f"indirect,bucket={self._output()}",
                f"select,bucket={self._output()}",
                f"select,bucket=weight:3,{self._output()},bucket=weight:1,{self._output()}",
                f"all,bucket={self._output()}",
                f"all,bucket={change}{self._output()},bucket={self._output()}",
                "fast_failover,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3",
            )
        )


def _colons(mac: int) -> str:
    text = f"{mac:012x}"
    return ":".join(text[at : at + 2] for at in range(0, 12, 2))
