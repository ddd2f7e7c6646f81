# SPDX-License-Identifier: Apache-2.0
"""Cores, NUMA nodes and room: who gets what, and what is said when there is not enough."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ovs_highway.graph.model import EndPoint, Graph, Link, Port, Rule, Vnf
from ovs_highway.graph.needs import needs, port_region
from ovs_highway.graph.place import Core, Machine, place
from ovs_highway.graph.state import State, desired

GIB = 1 << 30


def machine(nodes: int, each: int, *switch: int, **more: object) -> Machine:
    """Return a machine whose cores are numbered node by node."""
    cores = tuple(
        Core(number=number, node=number // each, siblings=(number,))
        for number in range(nodes * each)
    )
    made = Machine(cores=cores, switch=frozenset(switch), huge_free=GIB, memory_free=8 * GIB)
    return replace(made, **more)  # type: ignore[arg-type]  # fields by name


def chain(*vnfs: Vnf, nics: tuple[str, str] | None = None) -> Graph:
    ends = [f"{vnf.name}.{side}" for vnf in vnfs for side in ("in", "out")]
    points: tuple[EndPoint, ...] = ()
    if nics:
        points = tuple(EndPoint(name=n, nic=p) for n, p in zip(("lan", "wan"), nics, strict=True))
        ends = ["lan", *ends, "wan"]
    else:
        ends = ends[1:-1]
    links = tuple(Link(ends=(a, b)) for a, b in zip(ends[::2], ends[1::2], strict=True))
    return Graph(name="g", bridge="br0", vnfs=vnfs, endpoints=points, links=links)


def vnf(name: str, cores: object = 1, **more: object) -> Vnf:
    made = Vnf(name=name, template="forward", ports=(Port(name="in"), Port(name="out")))
    return replace(made, cores=cores, **more)  # type: ignore[arg-type]  # fields by name


def said(graph: Graph, of: Machine, actual: State | None = None) -> list[str]:
    return [problem.text for problem in place(graph, of, actual).problems]


def test_each_has_its_own_and_the_first_core_goes_last() -> None:
    placed = place(chain(vnf("a"), vnf("b", 2)), machine(1, 5, 1))
    assert placed.cores == {"a": (2,), "b": (3, 4)}
    assert placed.problems == placed.warnings == ()
    assert place(chain(vnf("a"), vnf("b", 3)), machine(1, 5, 1)).cores["b"] == (0, 3, 4)


def test_what_another_graph_has_is_not_given_away() -> None:
    of = machine(1, 4, 1, taken=frozenset({2}))
    assert place(chain(vnf("a"), vnf("b", "shared")), of).cores == {"a": (3,), "b": (0,)}


def test_whole_cores_come_before_their_second_threads() -> None:
    of = machine(1, 6, 1)
    cores = tuple(replace(core, siblings=(core.number, core.number ^ 1)) for core in of.cores)
    placed = place(chain(vnf("a"), vnf("b")), replace(of, cores=cores))
    assert placed.cores == {"a": (2,), "b": (4,)}


def test_those_that_share_get_what_is_left_in_turn() -> None:
    shared = [vnf(name, "shared") for name in "abc"]
    placed = place(chain(*shared, vnf("d")), machine(1, 4, 1))
    assert placed.cores == {"d": (2,), "a": (0,), "b": (3,), "c": (0,)}
    assert place(chain(*shared), machine(1, 2, 1)).cores == dict.fromkeys("abc", (0,))


def test_neighbours_are_on_one_node_near_their_card() -> None:
    graph = chain(vnf("a"), vnf("b"), nics=("0000:81:00.0", "0000:81:00.1"))
    of = machine(2, 4, 0, 4, nics={"0000:81:00.0": 1, "0000:81:00.1": 1})
    placed = place(graph, of)
    assert placed.cores == {"a": (5,), "b": (6,)}
    assert placed.warnings == ()


def test_links_across_nodes_are_warned_of() -> None:
    graph = chain(vnf("a", (1,)), vnf("b", (3,)), nics=("0000:01:00.0", "0000:02:00.0"))
    of = machine(2, 2, nics={"0000:01:00.0": 0, "0000:02:00.0": 0})
    texts = [warning.text for warning in place(graph, of).warnings]
    assert len(texts) == 2
    assert texts[0].startswith("a.out is on NUMA node 0 and b.in on 1: each frame crosses")
    assert texts[1].startswith("wan is on NUMA node 0 and b.out on 1")


def test_polling_on_a_shared_core_is_warned_of() -> None:
    polling = vnf("b", "shared", ports=(Port(name="in", idle="poll"), Port(name="out")))
    warnings = place(chain(vnf("a"), polling), machine(1, 3)).warnings
    assert [warning.path for warning in warnings] == [("vnfs", "b", "ports", "in", "idle")]


def test_too_few_cores() -> None:
    assert said(chain(vnf("a", 2), vnf("b")), machine(1, 3, 1)) == [
        "3 cores are needed (a 2, b 1) and 2 are free (0, 2; the switch has 1); give fewer, or"
        " cores: shared"
    ]
    assert said(chain(vnf("a"), vnf("b", "shared")), machine(1, 2, 1)) == [
        "no core is left for those that share one (b); give others fewer"
    ]


def test_cores_by_number_that_cannot_be_had() -> None:
    assert said(chain(vnf("a", (1, 9)), vnf("b", (2,)), vnf("c", (2,))), machine(1, 4, 1)) == [
        "core 1 is the switch's; name another one",
        "core 9 is not there; there are 0, 1, 2, 3",
        "core 2 is another VNF's; name another one",
    ]


def test_another_host() -> None:
    assert said(chain(vnf("a", host="h2"), vnf("b", host="h1")), machine(1, 4, host="h1")) == [
        "is 'h2', and this is 'h1'; a graph is on one: take it out"
    ]


def test_too_few_huge_pages_with_numbers() -> None:
    # 2 x 128 MiB, 4 port regions of 2 MiB, 1 link region of 4 MiB.
    graph = chain(vnf("a"), vnf("b"))
    assert needs(graph, State()).huge == (256 + 8 + 4) << 20
    assert said(graph, machine(1, 4, huge_free=(256 + 12) << 20)) == []
    assert said(graph, machine(1, 4, huge_free=(256 + 7) << 20)) == [
        "268 MiB of huge pages are needed (256 by VNFs, 8 by ports, 4 by links) and 263 are free;"
        " add 3 to vm.nr_hugepages"
    ]


def test_too_little_memory_and_pci_space_for_vms() -> None:
    vm = vnf("b", kind="vm", template="", image="x", memory=2 * GIB)
    assert said(chain(vnf("a"), vm), machine(1, 4, memory_free=GIB, bar_space=7 << 20)) == [
        "2048 MiB of memory are needed and 1024 are free; give VMs less",
        "its ports and links need 8 MiB of PCI address space, and a VM has 7; give it fewer queues"
        " or ports, or smaller rings",
    ]
    assert said(chain(vnf("a"), vm), machine(1, 4, bar_space=8 << 20)) == []


def test_what_libvirt_takes_lies_in_other_memory() -> None:
    found = needs(chain(vnf("a"), vnf("b", kind="vm", template="", domain="b")), State())
    assert (found.vnfs, found.ports, found.links) == (128 << 20, 4 << 20, 0)
    assert found.plain == (128 + 4 + 4) << 20


def test_port_regions_are_as_documented() -> None:
    assert port_region(1, 2048) == 2 << 20
    assert port_region(4, 2048) == 8 << 20
    assert port_region(1, 64) == 2 << 20


def test_what_runs_keeps_its_cores_and_needs_nothing_more() -> None:
    graph, of = chain(vnf("b"), vnf("c")), machine(1, 6, 1)
    before = desired(graph, {"b": (5,), "c": (4,)})
    longer = chain(vnf("a"), vnf("b"), vnf("c"), vnf("d", "shared"))
    placed = place(longer, of, before)
    assert placed.cores == {"a": (2,), "b": (5,), "c": (4,), "d": (0,)}
    assert placed.needs.vnfs == 256 << 20
    assert placed.needs.ports == 8 << 20
    assert placed.needs.links == 2 * (4 << 20)
    assert needs(graph, before).huge == 0


def test_a_rule_needs_a_link_too() -> None:
    graph = replace(
        chain(vnf("a"), vnf("b")), links=(), rules=(Rule(source="a.out", to=("b.in",)),)
    )
    assert needs(graph, State()).links == 4 << 20


@given(
    st.lists(st.sampled_from([1, 1, 2, 3, "shared"]), min_size=1, max_size=8),
    st.integers(1, 2),
    st.integers(1, 8),
    st.sets(st.integers(0, 15)),
)
def test_nobody_gets_what_another_has(
    counts: list[int | str], nodes: int, each: int, switch: set[int]
) -> None:
    graph = chain(*(vnf(f"v{n}", count) for n, count in enumerate(counts)))
    of = machine(nodes, each, *switch, huge_free=64 * GIB)
    free = {core.number for core in of.cores} - switch
    own = sum(count for count in counts if isinstance(count, int))
    placed = place(graph, of)
    assert bool(placed.problems) == (own > len(free) or ("shared" in counts and own >= len(free)))
    if placed.problems:
        return
    assert {name: len(cores) for name, cores in placed.cores.items()} == {
        f"v{n}": count if isinstance(count, int) else 1 for n, count in enumerate(counts)
    }
    alone = [c for n, k in enumerate(counts) if k != "shared" for c in placed.cores[f"v{n}"]]
    others = {c for n, k in enumerate(counts) if k == "shared" for c in placed.cores[f"v{n}"]}
    assert len(set(alone)) == len(alone)
    assert not others & set(alone)
    assert free >= others | set(alone)
    assert place(graph, of, desired(graph, placed.cores)).cores == placed.cores
