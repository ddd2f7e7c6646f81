# SPDX-License-Identifier: Apache-2.0
"""The pure parts of `highway bench chain` and `nic`."""

from __future__ import annotations

import pytest

from ovs_highway.bench import chain, chain_model, chain_vm, latency, lengths, nic
from ovs_highway.bench.chain_model import Costs
from ovs_highway.bench.sample import Sample
from ovs_highway.lab.latency import read_run

COSTS = Costs(end=200, middle=100, switch=50, hz=3e9)
DUMP = """OFPST_PORT reply (xid=0x2): 4 ports
  port LOCAL: rx pkts=1, bytes=2, drop=0, errs=0, frame=0, over=0, crc=0
           tx pkts=3, bytes=4, drop=0, errs=0, coll=0
  port  1: rx pkts=5, bytes=6, drop=?, errs=0, frame=?, over=?, crc=?
           tx pkts=700, bytes=42000, drop=0, errs=0, coll=?
  port "nic0": rx pkts=5, bytes=6, drop=?, errs=0, frame=?, over=?, crc=?
           tx pkts=9, bytes=9, drop=0, errs=0, coll=?
  port 11: rx pkts=5, bytes=6, drop=?, errs=0, frame=?, over=?, crc=?
           tx pkts=30, bytes=1800, drop=0, errs=0, coll=?
"""


def samples(*mpps: float) -> list[Sample]:
    return [Sample(packets=round(each * 1e6), seconds=1.0, disturbance=0.0) for each in mpps]


def test_a_shared_core_carries_what_all_vnfs_cost() -> None:
    assert chain_model.shared(COSTS, 2) == 3e9 / 200
    assert chain_model.shared(COSTS, 4) == 3e9 / 400
    # Seven hops of a dear switch are more than eight cheap VNFs.
    dear = Costs(end=200, middle=10, switch=500, hz=3e9)
    assert chain_model.shared(dear, 8) == 3e9 / (7 * 500)


def test_pinned_vnfs_are_held_up_by_the_slowest_core_only() -> None:
    assert chain_model.pinned(COSTS, 2, switch_cores=1) == 3e9 / 100
    free = Costs(end=200, middle=150, switch=0, hz=3e9)
    assert {chain_model.pinned(free, n, switch_cores=1) for n in (3, 8)} == {3e9 / 150}
    # Seven hops on three cores: one has three.
    assert chain_model.pinned(COSTS, 8, switch_cores=3) == 3e9 / 150
    assert chain_model.pinned(COSTS, 8, switch_cores=1) == 3e9 / 350


@pytest.mark.parametrize("length", [-1, 0, 1])
def test_there_is_no_chain_without_two_ends(length: int) -> None:
    for ask in (
        lambda: chain_model.shared(COSTS, length),
        lambda: chain_model.pinned(COSTS, length, switch_cores=1),
        lambda: chain.wire(length, [0]),
    ):
        with pytest.raises(ValueError, match="chain"):
            ask()


@pytest.mark.parametrize("length", range(2, 9))
def test_a_chain_has_a_hop_between_neighbours_and_no_other(length: int) -> None:
    vnfs, hops = chain.wire(length, [3])
    assert len(vnfs) == length
    assert [vnf.forward for vnf in vnfs] == ["flowgen", *["io"] * (length - 2), "flowgen"]
    assert len(hops) == length - 1
    ends = [port for hop in hops for port in hop]
    assert ends == [port for vnf in vnfs for port in vnf.ports]
    assert {vnf.core for vnf in vnfs} == {3}
    apart, _ = chain.wire(length, range(8))
    assert [vnf.core for vnf in apart] == list(range(length))


@pytest.mark.parametrize("length", range(1, 9))
def test_between_nics_all_ports_are_wired_once(length: int) -> None:
    vnfs, hops = nic.wire(length, [0])
    ends = [port for hop in hops for port in hop]
    assert ends == [
        nic.STAND_INS[0],
        *(port for vnf in vnfs for port in vnf.ports),
        nic.STAND_INS[1],
    ]


def test_what_has_left_is_read_from_the_ports_asked_for() -> None:
    assert nic.left(DUMP, [1, 11]) == (730, 43800)
    assert nic.left(DUMP, [2]) == (0, 0)


def test_a_policed_port_carries_its_line_rate() -> None:
    (rate,) = [
        word for word in nic.stand_in("nic0").columns if word.startswith("ingress_policing_rate")
    ]
    frames = int(rate.split("=")[1]) * 1000 / 8 / (60 - 14)
    assert nic.LINE_RATE * 0.999 < frames <= nic.LINE_RATE


def test_the_ratio_is_to_the_best_traditional_way() -> None:
    found = lengths.ratios({"highway": {2: 10.0}, "normal": {2: 4.0}, "vhostuser": {2: 5.0}})
    assert found == {"ratio_2": 2.0, "ratio_normal_2": 2.5, "ratio_vhostuser_2": 2.0}


def test_a_model_that_misses_is_not_printed() -> None:
    near = {n: chain_model.shared(COSTS, n) / 1e6 * 1.1 for n in (2, 3)}
    far = {**near, 3: near[3] * 1.2}
    predicted = {n: chain_model.shared(COSTS, n) / 1e6 for n in (2, 3)}
    found = chain.modelled(
        {"a": COSTS, "b": COSTS}, {"a": near, "b": far}, {"a": predicted, "b": predicted}
    )
    assert found["a"]["holds"]
    assert found["a"]["mpps"]["1"]["2"] == 30.0
    assert not found["b"]["holds"]
    assert "mpps" not in found["b"]
    nothing = chain.modelled({"a": COSTS}, {"a": {5: 1.0}}, {"a": {5: 1.0}})
    assert not nothing["a"]["holds"]


@pytest.mark.parametrize(
    ("direct", "normal", "expected"),
    [([1.0, 1.2], [1.1, 1.3], True), ([1.0, 1.1], [1.2, 1.3], False), ([1.2], [1.2], True)],
)
def test_ways_coincide_where_their_ranges_meet(
    direct: list[float], normal: list[float], expected: bool
) -> None:
    found = {"highway": {1: samples(*direct)}, "normal": {1: samples(*normal)}, "vhostuser": {}}
    assert nic.coincide(found) is expected
    assert nic.coincide({"highway": {}, "normal": {}, "vhostuser": {}}) is None


def test_counts_are_exact_if_all_three_agree_on_every_hop() -> None:
    dump = (
        " cookie=0x1, duration=1.4s, table=0, n_packets=10, n_bytes=64, in_port=1 actions=2\n"
        " cookie=0xb, duration=1.4s, table=0, n_packets=20, n_bytes=1, in_port=2 actions=1\n"
    )
    assert chain_vm.flow_packets(dump) == {1: 10, 11: 20}
    hops = chain_vm.directions([("a", "b"), ("c", "d")])
    assert [(hop.source, hop.target) for hop in hops] == [
        ("a", "b"),
        ("b", "a"),
        ("c", "d"),
        ("d", "c"),
    ]
    assert len({hop.cookie for hop in hops}) == 4
    good = {"sent": 5, "received": 5, "flow": 5}
    assert chain_vm.exact([good, good])
    for key in good:
        assert not chain_vm.exact([good, {**good, key: 4}])
    assert not chain_vm.exact([{"sent": 0, "received": 0, "flow": 0}])


def test_a_percentile_is_the_least_time_of_its_bin() -> None:
    bins = [[100, 50], [200, 49], [5000, 1]]
    answer = {"sent": 100, "received": 100, "refused": 0, "missed": 0, "foreign": 0, "rate": 1.0}
    times = read_run(answer | {"bins": bins})
    assert [times.percentile(percent) for percent in (50, 51, 99, 99.9)] == [100, 200, 200, 5000]
    assert read_run(answer | {"received": 0, "bins": []}).percentile(50) is None
    found = latency.point(times)
    assert (found["p50_ns"], found["p99.9_ns"], found["lost"]) == (100, 5000, 0)


def test_a_model_of_pinned_chains_is_so_many_hops() -> None:
    def hop(ns: int) -> dict[str, dict[str, dict[str, int]]]:
        return {"one_way": {"10 %": {"p50_ns": ns}}}

    found = latency.model(
        {"highway": hop(200), "normal": hop(1000), "vhostuser": hop(2000)}, [2, 8]
    )
    assert found["p50_ns"]["normal"] == {"2": 1000, "8": 7000}
    assert found["less"] == {"normal": 0.8, "vhostuser": 0.9}
