# SPDX-License-Identifier: Apache-2.0
"""Single cases that random tables seldom have."""

from __future__ import annotations

import pytest
from tests.unit.detector.strategies import BRIDGES, PATCH, SETTINGS, start_events

from ovs_highway.detector.verdicts import Detector
from ovs_highway.openflow import model
from ovs_highway.openflow.fields import FIELDS, IN_PORT

REG0, REG1 = FIELDS["reg0"], FIELDS["reg1"]
OUT2, OUT3 = model.Output(2), model.Output(3)


def judge(
    *events: model.Event, bridge: str = "br0", other: tuple[model.Event, ...] = ()
) -> tuple[str | None, str]:
    """Return the peer of port a (br0, 1), and why there is none."""
    detector = Detector()
    detector.configure(SETTINGS)
    for name in BRIDGES:
        detector.take(name, [*start_events(), *(events if name == "br0" else other)])
    detector.decide()
    verdict = detector.verdicts["a"]
    return verdict.peer, verdict.reason.kind if verdict.reason else ""


def flow(
    table: int, *actions: model.Action, priority: int = 1, timeouts: bool = False, **match: int
) -> model.FlowSet:
    """Return a flow."""
    mask = sum(FIELDS[name].ones for name in match)
    value = sum(FIELDS[name].place(content) for name, content in match.items())
    return model.FlowSet(model.Flow(table, priority, mask, value, actions, 0, timeouts))


def load(name: str, value: int) -> model.Load:
    return model.Load(FIELDS[name], value, (1 << FIELDS[name].width) - 1)


def test_what_is_copied_from_a_packet_is_not_known() -> None:
    copy = model.Move(FIELDS["udp_dst"], REG1.part(0, 16))
    first = flow(0, copy, model.Resubmit(None, 1))
    assert judge(first, flow(1, OUT2, reg1=0), flow(1, OUT3, priority=0)) == (None, "several")
    assert judge(first, flow(1, OUT2, reg1=0), flow(1, OUT2, priority=0)) == ("b", "")


def test_what_is_copied_from_a_register_is_known() -> None:
    first = flow(0, load("reg0", 5), model.Move(REG0, REG1), model.Resubmit(None, 1))
    assert judge(first, flow(1, OUT2, reg1=5), flow(1, OUT3, priority=0)) == ("b", "")


@pytest.mark.parametrize(
    ("kind", "buckets", "peer"),
    [
        ("indirect", [(OUT2,)], "b"),
        ("all", [(OUT2,)], "b"),
        ("select", [(OUT2,)], "b"),
        ("ff", [(OUT2,)], None),
        ("all", [(OUT2,), (OUT2,)], None),
        ("select", [(OUT2,), (OUT3,)], None),
        ("all", [], None),
        ("all", [(load("reg0", 2), model.OutputReg(REG0))], "b"),
        ("all", [(OUT2, OUT3)], None),
    ],
)
def test_a_group_with_one_bucket_is_followed(
    kind: str, buckets: list[model.Actions], peer: str | None
) -> None:
    group = model.GroupDesc(1, kind, tuple(map(model.Bucket, buckets)))
    assert judge(model.GroupSet(group), flow(0, model.Group(1)))[0] == peer


def test_a_bucket_that_watches_something_is_none() -> None:
    group = model.GroupDesc(1, "select", (model.Bucket((OUT2,), watches=True),))
    assert judge(model.GroupSet(group), flow(0, model.Group(1))) == (None, "group")


def test_registers_do_not_pass_a_patch_port() -> None:
    first = flow(0, load("reg0", 5), model.Output(PATCH))
    other = (flow(0, OUT2, reg0=0), flow(0, OUT3, priority=0))
    assert judge(first, other=other) == ("e", "")


def test_registers_are_back_after_a_patch_port() -> None:
    changed = (load("reg0", 7),)
    first = flow(0, load("reg0", 5), model.Output(PATCH), model.Resubmit(None, 1))
    tables = (first, flow(1, OUT2, reg0=5), flow(1, OUT3, priority=0))
    assert judge(*tables, other=(flow(0, *changed),)) == ("b", "")


@pytest.mark.parametrize(
    ("value", "peer"), [(2, "b"), (0x1_0002, None), (0xFFFA, None), (77, None)]
)
def test_a_register_names_a_port_of_16_bits(value: int, peer: str | None) -> None:
    assert judge(flow(0, load("reg0", value), model.OutputReg(REG0)))[0] == peer


def test_a_group_restores_what_its_bucket_changes() -> None:
    group = model.GroupDesc(1, "all", (model.Bucket((load("reg0", 9), model.Resubmit(None, 2))),))
    rest = (flow(0, model.Group(1), model.Resubmit(None, 1)), flow(2), flow(1, OUT2, reg0=0))
    assert judge(model.GroupSet(group), *rest, flow(1, OUT3, priority=0)) == ("b", "")


def test_a_resubmit_looks_up_as_if_from_another_port() -> None:
    first = flow(0, model.Resubmit(3, 1), in_port=1)
    assert judge(first, flow(1, OUT2, in_port=3), flow(1, OUT3, priority=0)) == ("b", "")
    # The packet is still one of port 1: it is not sent back there.
    assert judge(first, flow(1, model.Output(1), OUT2, in_port=3)) == ("b", "")


def test_too_many_resubmits_are_a_drop() -> None:
    """Each table resubmits twice to the next one: 2^n, though there are few tables."""
    doubled = [flow(n, model.Resubmit(None, n + 1), model.Resubmit(None, n + 1)) for n in range(13)]
    assert judge(*doubled, flow(13)) == (None, "loop")


def test_a_flow_that_comes_back_to_itself_is_a_drop() -> None:
    assert judge(flow(0, model.Resubmit(None, 0))) == (None, "loop")


def test_a_field_that_is_not_understood_may_or_may_not_match() -> None:
    assert judge(flow(0, OUT2, opaque=7), flow(0, OUT2, priority=0)) == ("b", "")
    assert judge(flow(0, OUT3, opaque=7), flow(0, OUT2, priority=0))[0] is None
    assert judge(flow(0, OUT2, opaque=7)) == (None, "miss")


def test_a_long_chain_of_tables_is_followed() -> None:
    chain = [flow(n, model.Resubmit(None, n + 1), in_port=1) for n in range(250)]
    assert judge(*chain, flow(250, OUT2)) == ("b", "")
    assert IN_PORT.width == 32
