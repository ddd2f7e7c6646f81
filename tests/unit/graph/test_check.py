# SPDX-License-Identifier: Apache-2.0
"""What is said of graphs that make no sense; all at once, at the right line."""

from __future__ import annotations

import pytest

from ovs_highway.errors import GraphError
from ovs_highway.graph.check import check
from ovs_highway.graph.load import parse

GRAPH = """\
name: web
bridge: br0
vnfs:
  fw: {template: forward, ports: [in, out]}
  cache: {template: forward, ports: [in, out]}
end-points:
  lan: {port: eth-lan}
  wan: {nic: 0000:01:00.0, vlan: 25}
links:
  - [lan, fw.in]
  - [cache.out, wan]
rules:
  - {from: fw.out, match: "tcp,tp_dst=80", to: cache.in, priority: 200}
  - {from: fw.out, to: wan}
"""


def said(text: str) -> list[str]:
    document = parse(text, "web.yaml")
    try:
        document.refuse(check(document.graph))
    except GraphError as error:
        return list(error.problems)
    return []


def test_a_graph_that_makes_sense() -> None:
    assert said(GRAPH) == []


FW = "fw: {template: forward, ports: [in, out]}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: web", "name: a/b", "web.yaml:1: name: 'a/b' is no name"),
        ("name: web", "name: web\ntable: 250", "web.yaml:2: table: is 250; give 1 to 246"),
        ("[lan, fw.in]", "[lan, wf.in]", "web.yaml:10: links[0][1]: there is no VNF 'wf'; did you"),
        (
            "[lan, fw.in]",
            "[lan, fw.ni]",
            "links[0][1]: VNF fw has no port 'ni'; did you mean 'in'?",
        ),
        ("[lan, fw.in]", "[lan, fw]", "'fw' is a VNF; name one of its ports; known: fw.in, fw.out"),
        ("[lan, fw.in]", "[lna, fw.in]", "there is no end-point 'lna'; did you mean 'lan'?"),
        ("[lan, fw.in]", "[lan, lan]", "links[0]: both ends are lan; name two"),
        (
            "[cache.out, wan]",
            "[lan, wan]",
            "web.yaml:11: links[1][0]: lan is linked already by links[0]",
        ),
        ("to: cache.in", "to: cache.on", "web.yaml:13: rules[0].to[0]: VNF cache has no port 'on'"),
        ("from: fw.out, to", "from: fw.outt, to", "web.yaml:14: rules[1].from: VNF fw has no port"),
        ("to: wan}", "to: []}", "rules[1].to: is empty"),
        ("to: wan}", "to: [wan, wan]}", "rules[1].to: names an end twice"),
        ("priority: 200", "priority: 1", "rules[0].priority: is 1; give 2 to 65535"),
        ("tcp,tp_dst=80", "tp_dst=80", "rules[0].match: tp_dst needs tcp, udp or sctp"),
        (", priority: 200", "", "web.yaml:14: rules[1]: matches packets that rules[0] matches too"),
        ("to: wan}", "to: wan, push-vlan: 0}", "rules[1].push-vlan: is 0; give 1 to 4094"),
        ("to: wan}", "to: wan, pop-vlan: true}", "rules[1].pop-vlan: needs a tag in the match"),
        ("vlan: 25", "vlan: 4095", "web.yaml:8: end-points.wan.vlan: is 4095; give 1 to 4094"),
        ("nic: 0000:01:00.0", "nic: 01:00.0", "'01:00.0' is no PCI address; write it as 0000:01:"),
        ("port: eth-lan", "port: eth-lan, tap: t", "give exactly one of port, bridge, nic, kernel"),
        ("port: eth-lan", "bridge: br0", "end-points.lan.bridge: is the graph's own bridge"),
        (
            "port: eth-lan",
            "kernel: an-interface-too-long",
            "has 21 characters, and OpenFlow tells 15",
        ),
        ("port: eth-lan", "nic: 0000:01:00.0, vlan: 25", "end-points.wan: is the same as lan"),
        (
            "lan: {port: eth-lan}",
            "lan: {port: fw-in}",
            "its port in OVS would be 'fw-in', as that of",
        ),
        ("wan: {nic", "fw: {port: x}\n  wan: {nic", "end-points.fw: is the name of a VNF too"),
        (FW, "fw: {template: forward}", "web.yaml:4: vnfs.fw: has no ports"),
        (FW, FW.replace("[in", "[in, in"), "vnfs.fw.ports: 'in' stands twice"),
        (FW, FW.replace("forward", "forwrad"), "vnfs.fw.template: there is no 'forwrad'; did you"),
        (FW, FW.replace("template: forward, ", ""), "vnfs.fw: give either a template or a command"),
        (
            FW,
            FW.replace("ports", "command: x, ports"),
            "vnfs.fw: give either a template or a command",
        ),
        (
            FW,
            FW.replace("template: forward", "command: a 'b"),
            "vnfs.fw.command: no closing quotation",
        ),
        (FW, FW.replace("[in", "[a, in"), "takes ports in pairs, and there are 3; give an even"),
        (
            FW,
            FW.replace("ports", "options: {brust: 1}, ports"),
            "options.brust: 'forward' has no such",
        ),
        (FW, FW.replace("ports", "options: {burst: 0}, ports"), "give a number from 1 to 512"),
        (FW, FW.replace("ports", "memory: 64M, ports"), "is 64 MiB, and 16384 mbufs need 73; give"),
        (
            FW,
            FW.replace("ports", "memory: 512, ports"),
            "is 512 bytes; give at least 16M, as in 512M",
        ),
        (FW, FW.replace("ports", "cores: 0, ports"), "vnfs.fw.cores: is 0; give at least 1"),
        (FW, FW.replace("ports", "cores: [], ports"), "vnfs.fw.cores: give numbers of cores"),
        (FW, FW.replace("ports", "cores: [1, 1], ports"), "vnfs.fw.cores: give numbers of cores"),
        (FW, FW.replace("ports", "image: x, ports"), "vnfs.fw.image: has no meaning for a process"),
        (FW, FW.replace("ports", "kind: container, ports"), "give either its image or its rootfs"),
        (FW, FW.replace("ports", "kind: vm, ports"), "give either its image or its libvirt domain"),
        (FW, FW.replace("ports", "environment: {A=B: c}, ports"), "is no name of a variable"),
        (
            FW,
            FW.replace("[in, out]", "{in: {queues: 17}, out: }"),
            "ports.in.queues: is 17; give 1 to",
        ),
        (
            FW,
            FW.replace("[in, out]", "{in: {ring-size: 100}, out: }"),
            "give a power of two, 64 to",
        ),
        (FW, FW.replace("[in, out]", "{in: {ovs-port: cache-in}, out: }"), "as that of fw.in"),
        ("cache", "a-long-cache", "its name in OVS, 'a-long-cache-out', has 16 characters"),
    ],
)
def test_what_is_said(old: str, new: str, expected: str) -> None:
    assert old in GRAPH
    assert [line for line in said(GRAPH.replace(old, new)) if expected in line]


def test_everything_is_said_at_once_in_the_order_of_lines() -> None:
    text = GRAPH.replace("vlan: 25", "vlan: 0").replace("to: wan}", "to: nan}")
    lines = said(text.replace("tp_dst", "dst"))
    assert [line.split(": ")[0] for line in lines] == [f"web.yaml:{n}" for n in (8, 13, 14)]


def test_a_vm_has_an_image_and_nothing_of_a_process() -> None:
    vm = "fw: {kind: vm, image: fw.qcow2, user: me, template: forward, ports: [in, out]}"
    assert said(GRAPH.replace(FW, vm.replace("user: me, template: forward, ", ""))) == []
    assert said(GRAPH.replace(FW, vm)) == [
        f"web.yaml:4: vnfs.fw.{name}: has no meaning for a VM; set it in the image"
        for name in ("template", "user")
    ]


def test_more_tags_than_ovs_knows() -> None:
    rule = "{from: fw.out, to: wan}"
    three = rule.replace("}", ", match: dl_vlan=7, push-vlan: 9, priority: 7}")
    assert said(GRAPH.replace(rule, three)) == [
        "web.yaml:14: rules[1]: frames would have more than the 2 tags that OVS knows; push fewer"
    ]
    assert said(GRAPH.replace(rule, three.replace("push", "pop-vlan: true, push"))) == []
    assert said(GRAPH.replace(rule, three.replace("wan", "lan"))) == []


def test_two_links_of_one_device_clash_unless_tags_tell_them_apart() -> None:
    two = GRAPH.replace("port: eth-lan", "nic: 0000:01:00.0")
    assert said(two) == []  # lan has the frames without a tag
    rule = "  - {from: lan, to: cache.in, match: dl_vlan=7}\n"
    assert said(two + rule) == [
        "web.yaml:15: rules[2].match: frames of lan have no tag; take it out of the match"
    ]


def test_more_tables_than_there_are() -> None:
    points = "".join(f"  p{n}: {{nic: 0000:02:00.0, vlan: {n}}}\n" for n in range(1, 10))
    rules = "".join(f"  - {{from: p{n}, match: dl_vlan=7, to: wan}}\n" for n in range(1, 10))
    text = GRAPH.replace("links:", points + "links:") + rules
    assert said(text)[0].startswith("web.yaml:6: end-points: 9 with a tag have rules that look")
    assert said(text.replace("match: dl_vlan=7", "match: tcp", 1)) == []
