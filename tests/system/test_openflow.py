# SPDX-License-Identifier: Apache-2.0
"""The OpenFlow client, against the real ovs-vswitchd and what ovs-ofctl says of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import subprocess
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, Self

import pytest
from tests.system.plain_switch import PlainSwitch
from tests.system.scene import becomes, eventually

from ovs_highway.errors import SandboxError
from ovs_highway.openflow.client import Certificates, Client
from ovs_highway.openflow.model import (
    LOCAL,
    PORT_DOWN,
    Event,
    Flow,
    FlowGone,
    FlowSet,
    Frags,
    GroupDesc,
    GroupGone,
    GroupSet,
    Output,
    PortDesc,
    PortGone,
    PortSet,
    Restart,
    Synced,
)
from ovs_highway.openflow.session import Session
from ovs_highway.openflow.text import NOT_UNDERSTOOD, format_actions, format_match

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

VERSIONS: Final = ("OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15")
every_version = pytest.mark.parametrize("version", VERSIONS)

# A flow as ovs-ofctl takes it; and its actions as we show them, if ovs-ofctl does otherwise.
FLOWS: Final = (
    ("in_port=1,actions=output:2", ""),
    ("in_port=LOCAL,actions=NORMAL", ""),
    (
        "dl_src=00:11:22:33:44:55,"
        "actions=mod_dl_src:00:00:00:00:00:01,mod_dl_dst:00:00:00:00:00:02,output:1",
        "",
    ),
    ("dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=FLOOD", ""),
    ("dl_type=0x1234,actions=ALL", ""),
    ("dl_vlan=5,actions=strip_vlan,output:1", ""),
    (
        "dl_vlan=5,dl_vlan_pcp=3,actions=mod_vlan_vid:7,output:1",
        "set_field:0x1007->vlan_vid,output:1",
    ),
    ("dl_vlan_pcp=3,actions=mod_vlan_pcp:1,output:1", "set_field:0x3000/0xf000->vlan_tci,output:1"),
    ("vlan_tci=0x0000,actions=drop", ""),
    ("vlan_tci=0x1000/0x1000,actions=drop", ""),
    ("vlan_tci=0x1003/0x100f,actions=drop", ""),
    ("vlan_tci=0/0x1fff,actions=drop", ""),
    (
        "ip,nw_src=10.0.0.0/8,nw_dst=10.1.2.3,"
        "actions=mod_nw_src:1.2.3.4,mod_nw_dst:4.3.2.1,output:1",
        "set_field:1.2.3.4->ipv4_src,set_field:4.3.2.1->ipv4_dst,output:1",
    ),
    ("actions=meter:1,output:1", "meter,output:1"),
    ("ip,nw_src=10.0.0.1/255.0.0.255,actions=drop", ""),
    (
        "ip,nw_proto=47,nw_tos=32,nw_ecn=1,nw_ttl=64,actions=mod_nw_tos:32,dec_ttl,output:1",
        "set_field:0x8->ip_dscp,dec_ttl,output:1",
    ),
    ("ip,nw_frag=no,actions=output:1", ""),
    ("ip,nw_frag=yes,actions=output:1", ""),
    ("ip,nw_frag=first,actions=output:1", ""),
    ("ip,nw_frag=later,actions=output:1", ""),
    ("ip,nw_frag=not_later,actions=output:1", ""),
    (
        "tcp,tp_src=1,tp_dst=80,actions=mod_tp_src:5,mod_tp_dst:6,output:1",
        "set_field:0x5->tcp_src,set_field:0x6->tcp_dst,output:1",
    ),
    ("tcp,tp_dst=0x50/0xfff0,actions=output:1", ""),
    ("tcp,tcp_flags=+syn-ack,actions=output:1", ""),
    ("tcp,tcp_flags=+syn+ack+ns-fin,actions=output:1", ""),
    ("udp,tp_src=1,tp_dst=80,actions=output:1", ""),
    ("sctp,tp_src=1,tp_dst=80,actions=output:1", ""),
    ("icmp,icmp_type=8,icmp_code=0,actions=output:1", ""),
    (
        "arp,arp_op=1,arp_spa=10.0.0.0/24,arp_tpa=1.2.3.4,arp_sha=00:00:00:00:00:01,arp_tha=00:00:00:00:00:02,"
        "actions=output:1",
        "",
    ),
    ("rarp,actions=output:1", ""),
    ("ipv6,ipv6_src=fe80::/10,ipv6_dst=ff02::1,ipv6_label=0x12345,actions=output:1", ""),
    ("tcp6,tp_src=1,tp_dst=80,actions=output:1", ""),
    ("udp6,tp_src=1,tp_dst=80,actions=output:1", ""),
    ("sctp6,tp_src=1,tp_dst=80,actions=output:1", ""),
    (
        "icmp6,icmpv6_type=135,icmpv6_code=0,nd_target=fe80::1,nd_sll=00:00:00:00:00:01,"
        "actions=output:1",
        "",
    ),
    (
        "icmp6,icmp_type=136,icmp_code=0,nd_target=fe80::/10,nd_tll=00:00:00:00:00:02,"
        "actions=output:1",
        "",
    ),
    ("ipv6,ipv6_src=1::2/ffff::ffff,actions=drop", ""),
    (
        "mpls,mpls_label=5,mpls_tc=3,mpls_bos=1,actions=pop_mpls:0x0800,output:1",
        "pop_mpls,output:1",
    ),
    ("mplsm,mpls_ttl=7,actions=drop", ""),
    ("reg0=5,reg1=0xff00/0xff00,reg14=3,reg15=0,metadata=0x5,actions=drop", ""),
    ("metadata=0xf0/0xff,actions=drop", ""),
    ("xreg0=0x500000006,actions=drop", ""),
    ("xxreg1=0x1122334455667788,actions=drop", ""),
    ("tun_id=5,tun_src=1.2.3.4,tun_dst=5.6.7.0/24,actions=drop", ""),
    ("tun_id=5/0xff,actions=drop", ""),
    ("tun_ipv6_src=1::2,tun_ipv6_dst=3::/16,actions=drop", ""),
    ("pkt_mark=7,actions=drop", ""),
    ("pkt_mark=7/15,actions=drop", ""),
    ("ip,ct_state=+trk+est-new,ct_zone=5,ct_mark=6/0xf,ct_label=0x77,actions=output:1", ""),
    ("ip,ct_state=-trk,actions=ct(table=5,zone=3)", "ct"),
    ("tun_metadata0=5,actions=drop", ""),
    ("conj_id=7,actions=output:1", ""),
    ("recirc_id=0,actions=drop", ""),
    ("tun_gbp_id=5,actions=drop", ""),
    ("tun_flags=+oam,actions=drop", ""),
    ("tun_gbp_id=6,actions=drop", ""),
    ("actions=load:3->NXM_NX_REG0[],output:1", "set_field:0x3->reg0,output:1"),
    ("actions=load:3->NXM_NX_REG0[4..11],output:1", "set_field:0x30/0xff0->reg0,output:1"),
    ("actions=load:3->OXM_OF_METADATA[],resubmit(,5)", "write_metadata:0x3,resubmit(,5)"),
    (
        "actions=load:3->NXM_OF_IN_PORT[],resubmit(1,5),resubmit(1,),resubmit(IN_PORT,7)",
        "set_field:0x3->in_port,resubmit(1,5),resubmit:1,resubmit(,7)",
    ),
    (
        "actions=move:NXM_NX_REG0[0..15]->NXM_NX_REG1[16..31],output:NXM_NX_REG0[],"
        "output:NXM_NX_REG1[0..15],output(port=2,max_len=100)",
        "move:reg0[0..15]->reg1[16..31],output:reg0[],output:reg1[0..15],output",
    ),
    ("actions=exit", ""),
    ("actions=note:01.02.03,output:1", "note,output:1"),
    (
        "actions=set_queue:5,pop_queue,output:1,enqueue(1,5)",
        "set_queue,pop_queue,output:1,set_queue,output:1,pop_queue",
    ),
    ("actions=push:NXM_NX_REG0[],pop:NXM_NX_REG1[],output:1", "push,pop,output:1"),
    (
        "actions=clone(load:3->NXM_NX_REG0[],output:2),output:1",
        "clone(set_field:0x3->reg0,output:2),output:1",
    ),
    ("actions=ct_clear,output:1", ""),
    ("ip,actions=conjunction(5,1/2)", "conjunction"),
    ("actions=learn(table=5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])", "learn"),
    ("ip,actions=ct(commit,nat(src=1.2.3.4)),CONTROLLER", "ct,CONTROLLER:65535"),
    ("actions=controller(reason=action,max_len=100,id=5)", "controller"),
    ("actions=sample(probability=5,collector_set_id=1)", "sample"),
    ("tcp,actions=fin_timeout(idle_timeout=5),output:1", "fin_timeout,output:1"),
    ("actions=multipath(eth_src,50,hrw,12,0,NXM_NX_REG0[0..5])", "multipath"),
    ("actions=bundle(eth_src,0,hrw,ofport,members:1,2)", "bundle"),
    ("actions=bundle_load(eth_src,0,hrw,ofport,NXM_NX_REG0[0..15],members:1,2)", "bundle_load"),
    ("actions=check_pkt_larger(100)->NXM_NX_REG0[0]", "check_pkt_larger"),
    ("ip,actions=dec_ttl(1,2),output:1", "dec_ttl,output:1"),
    (
        "actions=push_vlan:0x8100,set_field:4100->vlan_vid,output:1",
        "push_vlan,set_field:0x1004->vlan_vid,output:1",
    ),
    (
        "actions=push_mpls:0x8847,set_mpls_label:5,set_mpls_tc:1,set_mpls_ttl:6,"
        "dec_mpls_ttl,output:1",
        "push_mpls,set_field:0x5->mpls_label,set_field:0x1->mpls_tc,set_mpls_ttl,dec_mpls_ttl,output:1",
    ),
    ("actions=set_tunnel:5,output:1", ""),
    ("actions=set_tunnel64:0x500000001,output:1", ""),
    ("actions=IN_PORT", ""),
    ("actions=LOCAL", ""),
    ("actions=group:5", ""),
    ("actions=goto_table:9", ""),
    (
        "actions=load:5->NXM_NX_REG3[],write_metadata:0x5/0xff,goto_table:9",
        "set_field:0x5->reg3,write_metadata:0x5/0xff,goto_table:9",
    ),
    ("actions=clear_actions", ""),
    ("actions=write_actions(output:1)", ""),
    ("actions=output:1,clear_actions,write_actions(output:2),goto_table:8", ""),
    (
        "actions=set_field:1->xreg2,set_field:1->xxreg2,set_field:5/7->reg1",
        "set_field:0x1->xreg2,set_field:0x1->xxreg2,set_field:0x5/0x7->reg1",
    ),
    (
        "ip,actions=set_field:1.2.3.4->nw_src,set_field:3->ip_dscp,set_field:1->nw_ecn",
        "set_field:1.2.3.4->ipv4_src,set_field:0x3->ip_dscp,set_field:0x1->ip_ecn",
    ),
    ("idle_timeout=1000,actions=output:1", ""),
    ("hard_timeout=1000,actions=output:1", ""),
    ("ipv6,actions=set_field:1::2->ipv6_src,dec_ttl", ""),
    ("actions=load:0xffff->NXM_OF_VLAN_TCI[],output:1", "set_field:0xffff->vlan_tci,output:1"),
    ("actions=encap(nsh(md_type=1)),output:1", "encap,output:1"),
    ("actions=delete_field:tun_metadata0,output:1", "delete_field,output:1"),
    ("packet_type=(1,0x800),actions=output:1", ""),
    ("actset_output=5,actions=drop", ""),
    ("actions=set_field:5->tun_gbp_id,output:1", "set_field,output:1"),
    (
        "dl_dst=ff:ff:ff:ff:ff:ff,"
        "actions=set_field:ff:00:00:00:00:00/ff:00:00:00:00:00->eth_dst,output:1",
        "set_field:ff:00:00:00:00:00/ff:00:00:00:00:00->eth_dst,output:1",
    ),
    ("actions=load:1->NXM_NX_PKT_MARK[],output:1", "set_field:0x1->pkt_mark,output:1"),
    ("ip,actions=load:1->NXM_OF_IP_TOS[2..7],output:1", "set_field:0x4/0xfc->ip_tos,output:1"),
    ("arp,arp_op=2,arp_sha=01:00:00:00:00:00/01:00:00:00:00:00,actions=drop", ""),
)


class State:
    """What a client's events add up to."""

    def __init__(self) -> None:
        self.flows: dict[tuple[int, int, int, int], Flow] = {}
        self.groups: dict[int, GroupDesc] = {}
        self.ports: dict[int, PortDesc] = {}
        self.synced: Synced | None = None
        self.frags = 0
        self.restarts: list[Restart] = []

    def take(self, events: list[Event]) -> None:
        """Take a batch."""
        for event in events:
            self._one(event)

    def _one(self, event: Event) -> None:
        match event:
            case FlowSet(flow):
                self.flows[flow.key] = flow
            case FlowGone(key):
                self.flows.pop(key, None)
            case GroupSet(group):
                self.groups[group.group] = group
            case GroupGone(None):
                self.groups.clear()
            case GroupGone(int(number)):
                self.groups.pop(number, None)
            case PortSet(port):
                self.ports[port.port] = port
            case PortGone(port):
                self.ports.pop(port, None)
            case Synced(_, frags, _):
                self.synced, self.frags = event, frags
            case Frags(frags):
                self.frags = frags
            case Restart():
                self.restarts.append(event)
                self.flows.clear()
                self.groups.clear()
                self.ports.clear()
                self.synced = None


class Follower(State):
    """A client that runs in a thread of its own, and what it has told so far."""

    def __init__(self, target: str, certificates: Certificates | None = None) -> None:
        super().__init__()
        self._client = Client(target, self.take, certificates=certificates)
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._task = self._loop.create_task(self._client.run())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self.synced is not None, "everything is known")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


@pytest.fixture(scope="module")
def plain() -> Iterator[PlainSwitch]:
    """A switch for all tests of this module."""
    with PlainSwitch() as switch:
        yield switch


def shown(state: State) -> Counter[tuple[int, int, str]]:
    """Return table, priority and match of all flows."""
    return Counter(
        (flow.table, flow.priority, format_match(flow.mask, flow.value))
        for flow in list(state.flows.values())
    )


_OPAQUE: Final = re.compile(
    r"(tun_metadata0|conj_id|recirc_id|tun_gbp_id|tun_flags|actset_output|ct_nw_src)=[^,]*"
)


def dumped(plain: PlainSwitch, version: str) -> dict[tuple[int, int, str], str]:
    """Return what ovs-ofctl says: table, priority and match of all flows, with their actions."""
    found = {}
    for line in plain.ofctl(version, "dump-flows", "--no-stats").splitlines():
        if "actions=" not in line:
            continue
        head, actions = line.strip().split("actions=")
        table, priority, rest = 0, 32768, []
        for word in head.strip().replace(", ", ",").split(","):
            if word.startswith("table="):
                table = int(word[6:])
            elif word.startswith("priority="):
                priority = int(word[9:])
            elif word and not word.startswith(("cookie=", "idle_timeout", "hard_timeout")):
                rest.append(word)
        known = [word for word in rest if not _OPAQUE.fullmatch(word)]
        match = ",".join(known + [NOT_UNDERSTOOD] * (len(known) < len(rest)))
        found[table, priority, match] = actions
    return found


def add_all(plain: PlainSwitch, version: str) -> dict[int, str]:
    """Add each flow that a version can express, and return what to expect, by priority."""
    plain.ofctl(version, "add-tlv-map", "{class=0xffff,type=0,len=4}->tun_metadata0")
    if version != "OpenFlow10":
        plain.ofctl(version, "add-meter", "meter=1,kbps,band=type=drop,rate=1000")
        plain.ofctl(version, "add-group", "group_id=5,type=all,bucket=output:1")
    expected = {}
    for priority, (flow, actions) in enumerate(FLOWS, 1):
        with contextlib.suppress(SandboxError):
            plain.ofctl(version, "add-flow", f"priority={priority},{flow}")
            expected[priority] = actions
    return expected


@every_version
def test_all_flows_are_told_as_ovs_ofctl_shows_them(plain: PlainSwitch, version: str) -> None:
    plain.new_bridge(version)
    with Follower(plain.target) as later:
        expected = add_all(plain, version)
        assert len(expected) > 85
        theirs = dumped(plain, version)
        becomes(lambda: shown(later), Counter(theirs.keys()), "flows that are told")
        with Follower(plain.target) as follower:
            assert follower.synced is not None
            assert shown(follower) == Counter(theirs.keys())
            if version != "OpenFlow10":
                told = {f.priority: format_actions(f.actions) for f in follower.flows.values()}
                by_priority = {key[1]: actions for key, actions in theirs.items()}
                assert told == {
                    number: by_priority[number] if actions == "" else actions
                    for number, actions in expected.items()
                }
            timeouts = [flow.priority for flow in follower.flows.values() if flow.timeouts]
            assert len(timeouts) == 2
        plain.ofctl(version, "del-flows")
        eventually(lambda: not later.flows, "deleted flows are told")


@every_version
def test_ports_and_fragments(plain: PlainSwitch, version: str) -> None:
    plain.new_bridge(version)
    with Follower(plain.target) as follower:
        assert sorted(follower.ports) == [1, 2, 3, 4, LOCAL]
        assert {port.name for port in follower.ports.values()} == {"br0", "p1", "p2", "p3", "p4"}
        plain.ofctl(version, "mod-port", "p1", "down")
        eventually(lambda: bool(follower.ports[1].config & PORT_DOWN), "a port is down")
        plain.ofctl(version, "mod-port", "p1", "up")
        eventually(lambda: not follower.ports[1].config & PORT_DOWN, "a port is up")
        plain.vsctl("del-port", "p4")
        eventually(lambda: 4 not in follower.ports, "a port is gone")
        plain.ofctl(version, "set-frags", "drop")
        eventually(lambda: follower.frags == 1, "fragments are dropped")
        with Follower(plain.target) as another:
            assert another.frags == 1
        assert plain.ofctl(version, "get-frags") == "drop\n"
        plain.ofctl(version, "set-frags", "normal")
        eventually(lambda: follower.frags == 0, "fragments are not dropped")
        assert len(follower.restarts) == 1


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_groups_that_are_there_are_told(plain: PlainSwitch, version: str) -> None:
    plain.new_bridge(version)
    plain.ofctl(version, "add-group", "group_id=1,type=all,bucket=output:1,bucket=output:2")
    with Follower(plain.target) as follower:
        assert follower.synced is not None
        assert follower.synced.groups == (version != "OpenFlow13")
        (group,) = follower.groups.values()
        assert (group.group, group.kind) == (1, "all")
        assert [bucket.actions for bucket in group.buckets] == [(Output(1),), (Output(2),)]


@pytest.mark.parametrize("versions", [VERSIONS[1:], VERSIONS[-1:]])
def test_changes_of_groups_are_told(plain: PlainSwitch, versions: tuple[str, ...]) -> None:
    plain.new_bridge(*versions)
    with Follower(plain.target) as follower:
        groups = follower.groups
        plain.ofctl("OpenFlow15", "add-group", "group_id=1,type=all,bucket=output:1")
        plain.ofctl("OpenFlow15", "add-flow", "table=3,actions=group:1")
        eventually(lambda: 1 in groups and bool(follower.flows), "a group is added")
        insert = "group_id=1,command_bucket_id=last,bucket=bucket_id:9,actions=output:4"
        plain.ofctl("OpenFlow15", "insert-buckets", insert)
        eventually(lambda: len(groups[1].buckets) == 2, "a bucket is added")
        plain.ofctl("OpenFlow15", "remove-buckets", "group_id=1,command_bucket_id=9")
        eventually(lambda: len(groups[1].buckets) == 1, "a bucket is gone")
        plain.ofctl("OpenFlow15", "mod-group", "group_id=1,type=ff,bucket=watch_port:1,output:3")
        eventually(lambda: groups[1].kind == "ff", "a group is changed")
        assert groups[1].buckets[0].watches
        plain.ofctl("OpenFlow15", "del-groups")
        eventually(lambda: not groups and not follower.flows, "groups are gone")


def random_changes(count: int) -> str:
    """Return changes of flows as `ovs-ofctl add-flows` takes them."""
    dice = random.Random(count)
    lines = []
    for _ in range(count):
        match = (
            f"table={dice.randrange(4)},ip,nw_dst=10.0.{dice.randrange(8)}.{dice.randrange(256)}"
        )
        kind = dice.choices(("add", "modify", "delete"), (5, 2, 3))[0]
        actions = "" if kind == "delete" else f",actions={dice.randrange(1, 5)}"
        lines.append(f"{kind} {match}{actions}\n")
    return "".join(lines)


@every_version
def test_state_is_whole_again_after_changes_were_left_out(plain: PlainSwitch, version: str) -> None:
    plain.new_bridge(version)
    file = plain.rundir / "flows"
    state, session = State(), Session()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(plain.target.removeprefix("unix:"))
        connection.settimeout(30)

        def read() -> None:
            data = connection.recv(1 << 16)
            assert data
            events, out = session.receive(data)
            state.take(events)
            connection.sendall(out)

        while not session.synced:
            read()
        for number in range(3):  # meanwhile, nothing is read
            file.write_text(random_changes(5000 + number))
            plain.ofctl(version, "add-flows", str(file))
            plain.ofctl(version, "del-flows", f"table={number}")
        while len(state.restarts) < 2 or not session.synced:
            read()
    assert state.restarts[1].missed
    told = {
        (flow.table, flow.priority, format_match(flow.mask, flow.value)): format_actions(
            flow.actions
        )
        for flow in state.flows.values()
    }
    assert told == dumped(plain, version)


def test_switch_that_dies_is_followed_again(plain: PlainSwitch) -> None:
    plain.new_bridge()
    with Follower(plain.target) as follower:
        plain.ofctl("OpenFlow14", "add-flow", "actions=1")
        eventually(lambda: len(follower.flows) == 1, "a flow is told")
        plain.kill()
        eventually(lambda: follower.synced is None, "the end is noticed")
        assert follower.restarts[-1].missed
        assert not follower.flows
        plain.start()
        plain.ofctl("OpenFlow14", "add-flow", "table=1,actions=2")
        eventually(lambda: [f.table for f in follower.flows.values()] == [1], "it is followed")


@every_version
def test_following_changes_nothing_at_the_switch(plain: PlainSwitch, version: str) -> None:
    plain.new_bridge(version)
    before = plain.appctl("ofproto/trace", "br0", "in_port=1")
    with Follower(plain.target):
        assert plain.appctl("ofproto/trace", "br0", "in_port=1") == before
        assert plain.ofctl(version, "get-frags") == "normal\n"


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_switch_is_followed_over_tcp(plain: PlainSwitch) -> None:
    plain.new_bridge()
    port = free_port()
    plain.vsctl("set-controller", "br0", f"ptcp:{port}:127.0.0.1")
    plain.ofctl("OpenFlow14", "add-flow", "actions=1")
    with Follower(f"tcp:127.0.0.1:{port}") as follower:
        assert len(follower.flows) == 1
        plain.ofctl("OpenFlow14", "mod-port", "p1", "down")
        eventually(lambda: bool(follower.ports[1].config & PORT_DOWN), "a port is down")


def test_switch_is_followed_over_ssl(plain: PlainSwitch, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=test", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    plain.new_bridge()
    plain.vsctl("set-ssl", str(key), str(certificate), str(certificate))
    port = free_port()
    plain.vsctl("set-controller", "br0", f"pssl:{port}:127.0.0.1")
    plain.ofctl("OpenFlow14", "add-flow", "actions=1")
    certificates = Certificates(private_key=key, certificate=certificate, ca_cert=certificate)
    with Follower(f"ssl:127.0.0.1:{port}", certificates) as follower:
        assert len(follower.flows) == 1
    plain.vsctl("del-ssl")
