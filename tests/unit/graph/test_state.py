# SPDX-License-Identifier: Apache-2.0
"""What a graph asks for: Interface records of every kind of port, and how VNFs are started."""

from __future__ import annotations

from typing import Final

import msgspec

from ovs_highway.graph.check import check
from ovs_highway.graph.load import parse
from ovs_highway.graph.state import MANAGED_KEYS, PortSpec, State, VnfSpec, desired

GRAPH: Final = """\
name: g
bridge: br0
trust: mine
vnfs:
  fw:
    template: forward
    user: vnf
    environment: {B: "2", A: "1"}
    ports: {in: {queues: 4, ring-size: 512, mode: p2p}, out: {trust: ""}}
  vm: {kind: vm, domain: router, ports: [in], cores: shared, memory: 1G, restart: never}
end-points:
  here: {port: eth-lan}
  card: {nic: 0000:01:00.0}
  red: {nic: 0000:01:00.0, vlan: 25}
  host: {kernel: eth7}
  tap: {tap: tap0}
  ex: {bridge: br-ex}
links: [[here, fw.in]]
"""


def wanted() -> State:
    graph = parse(GRAPH, "g").graph
    assert check(graph) == []
    return desired(graph, {"fw": (2,), "vm": (3,)})


def port(name: str, kind: str, option: tuple[str, str] | None, bridge: str = "br0") -> PortSpec:
    return PortSpec(
        name=name,
        bridge=bridge,
        type=kind,
        options=(option,) if option else (),
        external_ids=(("highway-graph", "g"),),
    )


def test_end_points_as_ports() -> None:
    ports = [found for name, found in wanted().ports.items() if name[:2] not in ("fw", "vm")]
    assert ports == [
        port("card", "dpdk", ("dpdk-devargs", "0000:01:00.0")),
        port("host", "dpdk", ("dpdk-devargs", "net_af_packet_host,iface=eth7")),
        port("tap0", "tap", None),
        port("ex", "patch", ("peer", "ex-p")),
        port("ex-p", "patch", ("peer", "ex"), "br-ex"),
    ]
    assert wanted().needs == {"eth-lan", "br-ex"}


def test_ports_of_vnfs_with_their_settings() -> None:
    ports = wanted().ports
    assert ports["fw-in"].options == (
        ("dpdk-devargs", "net_highway_fw-in,role=switch,queues=4,ring-size=512"),
    )
    assert ports["fw-in"].external_ids == tuple(
        zip(MANAGED_KEYS, ("g", "p2p", "mine", "vnf"), strict=True)
    )
    assert dict(ports["fw-out"].external_ids) == {"highway-graph": "g", "highway-user": "vnf"}
    assert ports["vm-in"].options[0][1].endswith(",memory=shm")


def test_what_vnfs_are_started_with() -> None:
    vnfs = wanted().vnfs
    assert vnfs["vm"] == VnfSpec(
        name="vm",
        kind="vm",
        command=(),
        ports=("vm-in",),
        cores=(3,),
        shared=True,
        memory=1 << 30,
        restart="never",
        domain="router",
    )
    assert str(vnfs["vm"]) == "vm vm on core 3 (shared) with 1024 MiB: router"
    assert vnfs["fw"].environment == (("A", "1"), ("B", "2"))
    assert "g-fw" in vnfs["fw"].command


def test_what_runs_can_be_written_down() -> None:
    for kind, parts in ((VnfSpec, wanted().vnfs), (PortSpec, wanted().ports)):
        for part in parts.values():
            assert msgspec.json.decode(msgspec.json.encode(part), type=kind) == part
