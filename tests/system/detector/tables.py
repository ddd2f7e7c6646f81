# SPDX-License-Identifier: Apache-2.0
"""Random flow tables as ovs-ofctl reads them, and random packets for ofproto/trace."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

PORTS = {"br0": (1, 2, 3), "br1": (4, 5)}
PATCH = 9
NAMES = {number: f"p{number}" for numbers in PORTS.values() for number in numbers}
_HEADERS = (
    "",
    "",
    "ip",
    "arp",
    "ipv6",
    "udp",
    "tcp",
    "udp,tp_dst=53",
    "tcp,tp_dst=0x10/0xfff0",
    "ip,nw_dst=10.0.0.0/8",
    "ip,nw_dst=10.1.0.0/16",
    "dl_vlan=5",
    "vlan_tci=0",
    "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
    "icmp",
)
_HARMLESS = ("note:01.02", "load:1->NXM_NX_REG3[]", "set_field:7->metadata")
_ODD = (
    "NORMAL",
    "FLOOD",
    "CONTROLLER:100",
    "LOCAL",
    "IN_PORT",
    "mod_dl_dst:02:00:00:00:00:77",
    "set_field:5->pkt_mark",
    "set_queue:1",
    "learn(table=9,hard_timeout=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])",
    "group:3",
    "group:4",
    "conjunction(1,1/2)",
)


_ODD_IP = ("dec_ttl", "ct(commit)")  # ct(table=2) in table 2 is traced for ever


@dataclass
class Tables:
    """Flows and groups of both bridges."""

    flows: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in PORTS})
    groups: dict[str, list[str]] = field(default_factory=dict)


def draw(seed: int) -> Tables:
    """Draw tables; most flows lead to one port, so that proofs are common."""
    chance = random.Random(seed)
    found = Tables()
    for bridge, numbers in PORTS.items():
        # Not both over the patch: OVS takes minutes to follow what comes back again and again.
        target = chance.choice((*numbers, PATCH, PATCH) if bridge == "br0" else numbers)
        other = chance.choice(numbers)
        found.groups[bridge] = [
            f"group_id=1,type=indirect,bucket=output:{target}",
            f"group_id=2,type=all,bucket=actions=load:1->NXM_NX_REG1[],output:{target}",
            f"group_id=3,type=all,bucket=output:{target},bucket=output:{other}",
            f"group_id=4,type=ff,bucket=watch_port:{target},output:{target}",
        ]
        flows = found.flows[bridge]
        for table in range(4):
            if chance.random() < 0.9:
                does = _does(chance, table, target)
                flows.append(f"table={table},priority=0,actions={does}")
        for _ in range(chance.randrange(14)):
            table = chance.choice((0, 0, 0, 1, 2, 3))
            match = [chance.choice(_HEADERS)]
            if chance.random() < 0.6:
                match.append(f"in_port={chance.choice((*numbers, PATCH))}")
            if chance.random() < 0.3:
                match.append(f"reg{chance.randrange(2)}={chance.randrange(2)}")
            if chance.random() < 0.1:
                match.append("metadata=7")
            if chance.random() < 0.05:
                match.append("idle_timeout=300")
            where = ",".join(part for part in match if part)
            goal = target if chance.random() < 0.8 else other
            does = _does(chance, table, goal)
            if chance.random() < 0.12:
                ip = match[0].startswith(("ip", "udp", "tcp", "icmp"))
                does = chance.choice((*_ODD, "drop", *(_ODD_IP if ip else ())))
            flows.append(
                f"table={table},priority={chance.randrange(1, 4)}"
                f"{',' if where else ''}{where},actions={does}"
            )
    return found


def _does(chance: random.Random, table: int, target: int) -> str:
    later = [number for number in range(4) if number > table]
    kinds = [f"output:{target}", f"output:{target}", "group:1", "group:2"]
    kinds.append(f"load:{target}->NXM_NX_REG7[0..15],output:NXM_NX_REG7[0..15]")
    kinds.append(f"clone(output:{target})")
    kinds.append(f"write_actions(output:{target})")
    if later:
        next_one = chance.choice(later)
        kinds += [f"resubmit(,{next_one})", f"goto_table:{next_one}"] * 2
        kinds.append(f"load:{chance.randrange(2)}->NXM_NX_REG0[],resubmit(,{next_one})")
        kinds.append(f"move:NXM_NX_REG0[]->NXM_NX_REG1[],resubmit(,{next_one})")
        kinds.append(f"move:NXM_OF_IN_PORT[]->NXM_NX_REG1[0..15],resubmit(,{next_one})")
    chosen = chance.choice(kinds)
    if chance.random() < 0.2 and not chosen.startswith(("goto", "write")):
        chosen = f"{chance.choice(_HARMLESS)},{chosen}"
    return chosen


def packet(chance: random.Random) -> str:
    """Draw a packet, without its input port."""
    parts = [
        f"dl_src=02:00:00:00:00:{chance.randrange(256):02x}",
        f"dl_dst={chance.choice(('02', '01', 'ff'))}:00:00:00:00:{chance.randrange(256):02x}",
    ]
    kind = chance.choice(("udp", "tcp", "icmp", "arp", "ipv6", "dl_type=0x88b5", "udp", "tcp"))
    parts.append(kind)
    if kind in ("udp", "tcp", "icmp"):
        ten = chance.random() < 0.7
        second = chance.choice((0, 1, 9))
        parts.append(f"nw_src=192.0.2.{chance.randrange(256)}")
        parts.append(f"nw_dst={10 if ten else 11}.{second}.0.{chance.randrange(256)}")
        parts.append("nw_ttl=64")
    if kind in ("udp", "tcp"):
        parts.append(f"{kind}_src={chance.randrange(65536)}")
        parts.append(f"{kind}_dst={chance.choice((53, 80, 0x10, 0x1F, chance.randrange(65536)))}")
    if kind == "arp":
        parts.append("arp_op=1")
    if chance.random() < 0.25:
        parts.append(f"dl_vlan={chance.choice((5, 6))},dl_vlan_pcp={chance.randrange(8)}")
    return ",".join(parts)
