# SPDX-License-Identifier: Apache-2.0
"""NF-FGs of un-orchestrator: what they mean as graphs, and what is said of those not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_highway.errors import GraphError
from ovs_highway.graph.check import check
from ovs_highway.graph.flows import compile_flows
from ovs_highway.graph.model import EndPoint, Vnf
from ovs_highway.graph.nffg import is_nffg, parse_nffg

if TYPE_CHECKING:
    from ovs_highway.graph.load import Document

EXAMPLE: Final = (Path(__file__).parents[3] / "examples/un-orchestrator.json").read_text()


def read(text: str, **more: Any) -> Document:  # noqa: ANN401  # of parse_nffg
    return parse_nffg(text, "g.json", bridge="br0", **more)


def test_the_example_as_flows() -> None:
    document = read(EXAMPLE)
    assert is_nffg(EXAMPLE)
    assert check(document.graph) == []
    assert [flow.text().partition(",")[2] for flow in compile_flows(document.graph)] == [
        "table=0,priority=3,in_port=eth-lan,actions=output:firewall-inout0",
        "table=0,priority=12,in_port=firewall-inout1,tcp,tp_dst=80,actions=output:webcache-inout0",
        "table=0,priority=3,in_port=firewall-inout1,actions=push_vlan:0x8100,"
        "set_field:4121->vlan_vid,output:eth-wan",
        "table=0,priority=3,in_port=webcache-inout1,actions=push_vlan:0x8100,"
        "set_field:4121->vlan_vid,output:eth-wan",
        "table=0,priority=3,in_port=eth-wan,dl_vlan=25,actions=pop_vlan,output:firewall-inout1",
        "table=0,priority=3,in_port=firewall-inout0,actions=output:eth-lan",
    ]


def test_tabs_between_its_parts() -> None:
    assert read(EXAMPLE.replace("  ", "\t")).graph == read(EXAMPLE).graph


def test_what_a_vnf_is_comes_from_the_caller() -> None:
    cache = Vnf(name="", kind="container", image="cache:1", command=("cache",), cores="shared")
    found = read(EXAMPLE, vnfs={"webcache": cache}).graph.vnfs[1]
    assert (found.name, found.image, found.cores) == ("webcache", "cache:1", "shared")
    assert [port.name for port in found.ports] == ["inout0", "inout1"]


def test_long_names_get_short_ones_in_ovs() -> None:
    graph = read(EXAMPLE.replace('"firewall"', '"a very long firewall"')).graph
    names = [end.ovs_port for end in graph.ends.values()]
    assert check(graph) == []
    assert len(set(names)) == len(names)
    assert max(map(len, names)) == 15


def test_variables_and_other_end_points() -> None:
    raw = json.loads(EXAMPLE)
    top = raw["forwarding-graph"]
    top["VNFs"][0]["unify-env-variables"] = [{"variable": "block=tcp"}]
    top["end-points"][0] = {
        "id": "1",
        "name": "lan",
        "type": "internal",
        "internal": {"internal-group": "7"},
    }
    graph = read(json.dumps(raw)).graph
    assert graph.vnfs[0].environment == {"block": "tcp"}
    assert graph.endpoints[0] == EndPoint(name="lan", bridge="group-7")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"forwarding-graph"', '"graph"', "g.json:1: there is no 'forwarding-graph'"),
        (
            '"type": "interface"',
            '"type": "gre-tunnel"',
            "g.json:18: forwarding-graph.end-points[0].type: 'gre-tunnel' is not read",
        ),
        (
            '"endpoint:1"',
            '"endpoint:9"',
            "g.json:26: forwarding-graph.big-switch.flow-rules[0].match.port_in: there is no"
            " 'endpoint:9'; did you mean 'endpoint:2'?",
        ),
        ('"protocol": "6"', '"protocoll": "6"', "is not read; did you mean 'protocol'?"),
        ('"dest_port": "80"', '"dest_port": "http"', "match.dest_port: 'http' is no number; give"),
        ('"output_to_port": "vnf:1:inout:0"', '"drop": true', "drop: there is no such action"),
        ('"vlan-id": "25", ', "", "end-points[1].vlan: 'vlan-id' is missing or no text; give one"),
    ],
)
def test_what_is_not_read(old: str, new: str, expected: str) -> None:
    assert old in EXAMPLE
    with pytest.raises(GraphError) as caught:
        read(EXAMPLE.replace(old, new, 1))
    assert [line for line in caught.value.problems if expected in line]


def test_what_makes_no_sense_is_told_in_the_words_of_the_file() -> None:
    document = read(EXAMPLE.replace('"vlan-id": "25"', '"vlan-id": "4095"'))
    with pytest.raises(
        GraphError, match=r"^g.json:19: forwarding-graph.end-points\[1\].vlan: is 4095"
    ):
        document.refuse(check(document.graph))


@given(st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=3), st.data())
def test_whatever_stands_in_it_is_refused_or_read(value: object, data: st.DataObject) -> None:
    raw = json.loads(EXAMPLE)
    here = raw
    while isinstance(here, dict | list) and here:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()):
            here[key] = value
            break
        here = here[key]
    said: list[str] = []
    try:
        check(read(json.dumps(raw)).graph)
    except GraphError as error:
        said += error.problems
    assert all(line.startswith("g.json:") for line in said)
