# SPDX-License-Identifier: Apache-2.0
"""Plans: they lead from any state to any other, safely, and change no more than they have to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_highway.errors import GraphError
from ovs_highway.graph.check import check
from ovs_highway.graph.model import EndPoint, Graph, Link, Port, Rule, Vnf
from ovs_highway.graph.plan import (
    AddPort,
    DelPort,
    ReplaceFlows,
    SetPort,
    StartVnf,
    Step,
    StopVnf,
    plan,
)
from ovs_highway.graph.state import State, desired

OTHERS = frozenset({"br0", "br-ex", "eth-lan", "eth-wan"})
EMPTY = State(others=OTHERS)


def carry_out(state: State, step: Step) -> State:
    """Return the state after a step; a step that makes no sense there fails."""
    ports, vnfs, numbers = dict(state.ports), dict(state.vnfs), dict(state.numbers)
    flows = state.flows
    match step:
        case AddPort(port, number):
            assert port.name not in ports
            assert port.type != "dpdk" or port.options not in [p.options for p in ports.values()]
            ports[port.name] = port
            taken = numbers.values()
            numbers[port.name] = number or max(taken, default=0) + 1
        case SetPort(port):
            assert ports[port.name].fixed == port.fixed
            ports[port.name] = port
        case DelPort(port):
            assert not any(port.name in vnf.ports for vnf in vnfs.values()), "a VNF has it"
            assert ports.pop(port.name) == port
        case StartVnf(vnf):
            assert vnf.name not in vnfs
            assert all(port in ports for port in vnf.ports)
            vnfs[vnf.name] = vnf
        case StopVnf(vnf):
            assert vnfs.pop(vnf.name) == vnf
        case ReplaceFlows(bridge, add, remove):
            assert bridge == "br0"
            assert set(remove) <= flows
            keys = {flow.key for flow in (*add, *remove)}
            assert len(keys) == len(add) + len(remove), "in one bundle their order would count"
            flows = frozenset(flow for flow in flows if flow.key not in keys) | {*add}
            for flow in flows:
                assert flow.ports <= {*ports, *OTHERS}, "a flow to a port that is not there"
    there = ports or vnfs or flows
    return replace(
        state, ports=ports, vnfs=vnfs, flows=flows, numbers=numbers, bridge="br0" if there else ""
    )


def after(state: State, steps: tuple[Step, ...]) -> State:
    for step in steps:
        state = carry_out(state, step)
    return state


def same(state: State, wanted: State) -> bool:
    return (state.ports, state.vnfs, state.flows) == (wanted.ports, wanted.vnfs, wanted.flows)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Small graphs with names, devices and options in common."""
    vnfs = tuple(
        Vnf(
            name=name,
            template="forward",
            cores=draw(st.sampled_from([1, "shared"])),
            memory=draw(st.sampled_from([128 << 20, 256 << 20])),
            ports=tuple(
                Port(name=port, queues=draw(st.integers(1, 2)), trust=draw(st.sampled_from("ab")))
                for port in ("in", "out")
            ),
        )
        for name in sorted(draw(st.sets(st.sampled_from("uvw"), min_size=1)))
    )
    devices = draw(
        st.permutations([("nic", "0000:01:00.0"), ("port", "eth-lan"), ("bridge", "br-ex")])
    )
    points = tuple(
        EndPoint(name=name, vlan=draw(st.none() | st.just(5)), **{device[0]: device[1]})
        for name, device in zip(draw(st.sets(st.sampled_from("xyz"))), devices, strict=False)
    )
    ends = [f"{vnf.name}.{port.name}" for vnf in vnfs for port in vnf.ports]
    ends = draw(st.permutations([*ends, *(point.name for point in points)]))
    links = tuple(
        Link(ends=(one, other)) for one, other in zip(ends[::2], ends[1::2], strict=False)
    )
    kept = draw(st.integers(1, len(links)))
    rules = draw(st.sampled_from([(), (Rule(source=ends[0], match="tcp", to=(ends[-1],)),)]))
    return Graph(
        name="g", bridge="br0", vnfs=vnfs, endpoints=points, links=links[:kept], rules=rules
    )


def wants(graph: Graph) -> State:
    assert check(graph) == []
    return desired(graph, {vnf.name: (number,) for number, vnf in enumerate(graph.vnfs)})


@given(st.none() | graphs(), st.none() | graphs())
def test_a_plan_leads_there_and_then_there_is_nothing_to_do(
    one: Graph | None, other: Graph | None
) -> None:
    start = after(EMPTY, plan(wants(one), EMPTY)) if one else EMPTY
    wanted = wants(other) if other else State()
    end = after(start, plan(wanted, start))
    assert same(end, wanted)
    assert plan(wanted, end) == ()


@given(graphs(), graphs(), st.integers(0, 40))
def test_what_was_carried_out_half_way_is_finished_or_undone(
    one: Graph, other: Graph, done: int
) -> None:
    start = after(EMPTY, plan(wants(one), EMPTY))
    half = after(start, plan(wants(other), start)[:done])
    assert same(after(half, plan(wants(other), half)), wants(other))
    assert same(after(half, plan(wants(one), half)), wants(one))
    assert same(after(half, plan(State(), half)), State())


@given(graphs(), graphs())
def test_what_stays_as_it_is_is_left_alone(one: Graph, other: Graph) -> None:
    start, wanted = wants(one), wants(other)
    start = replace(start, others=OTHERS, numbers={name: 7 for name in start.ports})
    steps = plan(wanted, start)
    touched = {step.port.name for step in steps if isinstance(step, AddPort | SetPort | DelPort)}
    kept = {name for name, port in start.ports.items() if wanted.ports.get(name) == port}
    assert not touched & kept
    moved = {step.vnf.name for step in steps if isinstance(step, StartVnf | StopVnf)}
    for name, vnf in start.vnfs.items():
        assert not (wanted.vnfs.get(name) == vnf and {*vnf.ports} <= kept and name in moved)
    for step in steps:
        match step:
            case ReplaceFlows(_, add, remove):
                assert not {*add, *remove} & (start.flows & wanted.flows)
            case AddPort(port, number):
                assert number == (7 if port.name in start.ports else None)
    assert sum(isinstance(step, ReplaceFlows) for step in steps) <= 1


def chain(*names: str) -> Graph:
    ports = (Port(name="in"), Port(name="out"))
    vnfs = tuple(Vnf(name=name, template="forward", ports=ports) for name in sorted(names))
    ends = ("lan", *(f"{name}.{side}" for name in names for side in ("in", "out")), "wan")
    return Graph(
        name="g",
        bridge="br0",
        vnfs=vnfs,
        endpoints=(EndPoint(name="lan", port="eth-lan"), EndPoint(name="wan", port="eth-wan")),
        links=tuple(Link(ends=(a, b)) for a, b in zip(ends[::2], ends[1::2], strict=True)),
    )


def test_re_wiring_is_one_bundle_and_nothing_else() -> None:
    start = replace(wants(chain("a", "b", "c")), others=OTHERS)
    steps = plan(wants(chain("a", "c", "b")), start)
    assert [type(step) for step in steps] == [ReplaceFlows]


def test_a_vnf_put_into_a_chain_runs_before_flows_lead_to_it() -> None:
    start = replace(wants(chain("a", "b")), others=OTHERS)
    steps = plan(wants(chain("a", "b", "c")), start)
    assert [type(step) for step in steps] == [AddPort, AddPort, StartVnf, ReplaceFlows]
    back = plan(wants(chain("a", "b")), after(start, steps))
    assert [type(step) for step in back] == [ReplaceFlows, StopVnf, DelPort, DelPort]


def test_a_vnf_that_is_started_anew_keeps_its_flows_and_numbers() -> None:
    start = after(EMPTY, plan(wants(chain("a", "b")), EMPTY))
    graph = chain("a", "b")
    wider = replace(graph.vnfs[1], ports=(Port(name="in", queues=2), Port(name="out")))
    steps = plan(wants(replace(graph, vnfs=(graph.vnfs[0], wider))), start)
    assert [type(step) for step in steps] == [StopVnf, DelPort, AddPort, StartVnf]
    assert after(start, steps).numbers == start.numbers


def test_flows_can_be_left_to_somebody_else() -> None:
    steps = plan(wants(chain("a")), EMPTY, flows=False)
    assert [type(step) for step in steps] == [AddPort, AddPort, StartVnf]


def test_each_step_is_a_line_for_people() -> None:
    steps = plan(wants(chain("a")), EMPTY)
    lines = [str(step) for step in (*steps, *plan(State(), after(EMPTY, steps)))]
    assert all(line and len(line.splitlines()) == 1 for line in lines)
    assert lines[0] == (
        "add port a-in of br0 (dpdk dpdk-devargs=net_highway_a-in,role=switch,queues=1,"
        "ring-size=2048)"
    )
    assert lines[2].startswith("start process a on core 0 with 128 MiB: dpdk-testpmd --no-pci")
    assert lines[3:] == [
        "in one bundle on br0: 4 flows in, 0 out",
        "in one bundle on br0: 0 flows in, 4 out",
        "stop process a: frees core 0 and 128 MiB",
        "delete port a-in of br0",
        "delete port a-out of br0",
    ]


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (State(others=OTHERS - {"eth-lan"}), "no port or bridge 'eth-lan'; add it"),
        (State(others=OTHERS - {"br0"}), "no port or bridge 'br0'; add it"),
        (State(others=OTHERS | {"a-in"}), "a port 'a-in' exists and is not this graph's"),
        (State(bridge="br1", others=OTHERS), "runs on bridge br1, and is to be on br0; delete it"),
    ],
)
def test_what_cannot_be_planned(actual: State, expected: str) -> None:
    with pytest.raises(GraphError, match=expected):
        plan(wants(chain("a")), actual)
