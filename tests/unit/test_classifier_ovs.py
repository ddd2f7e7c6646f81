# SPDX-License-Identifier: Apache-2.0
"""The driver and the model read frames as the installed Open vSwitch does, or leave them to it."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from . import frames, ovs_oracle
from .driver_classifier import ISAS, Driver, compile_driver, ffi
from .ovs_model import IPV4, IPV6, Depth, Flow, doubts, extract

if TYPE_CHECKING:
    from pathlib import Path

BATCH: Final = 5000
OVS_LIMIT: Final = 2
"""Tags that ovs-ofctl takes off: as ovs-vswitchd with other_config:vlan-limit=0."""


@pytest.fixture(scope="module", params=ISAS)
def driver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    return Driver(compile_driver(tmp_path_factory.mktemp("classifier"), request.param))


def seen_by_driver(key: Any) -> Flow:  # noqa: ANN401  # a cffi struct
    """Return a `struct highway_key` as OVS's fields."""
    flow = Flow(
        dl_dst=int.from_bytes(bytes(key.eth_dst), "big"),
        dl_src=int.from_bytes(bytes(key.eth_src), "big"),
        nw_proto=key.ip_proto,
        nw_tos=key.ip_tos,
        nw_ttl=key.ip_ttl,
        nw_frag=key.ip_frag,
    )
    for name, value in (
        ("dl_type", key.eth_type),
        ("vlan_tci", key.vlan_tci),
        ("vlan_tpid", key.vlan_tpid),
        ("tcp_flags", key.tcp_flags),
        ("tp_src", key.l4_src),
        ("tp_dst", key.l4_dst),
    ):
        setattr(flow, name, int.from_bytes(value.to_bytes(2, "little"), "big"))
    length = 16 if flow.dl_type == IPV6 else 4
    flow.nw_src = int.from_bytes(bytes(key.ip_src)[:length], "big")
    flow.nw_dst = int.from_bytes(bytes(key.ip_dst)[:length], "big")
    assert not any(bytes(key.ip_src)[length:] + bytes(key.ip_dst)[length:])
    return flow


def bytes_of(key: Any) -> bytes | None:  # noqa: ANN401  # a cffi struct
    return None if key is None else bytes(ffi.buffer(key))


def down_to(flow: Flow, depth: Depth) -> Flow:
    """Return what of a flow is seen at this depth."""
    flow = dataclasses.replace(flow)
    if depth < Depth.L4 or flow.nw_proto == 2:  # IGMP's type and code: no rule asks for them
        flow.tp_src = flow.tp_dst = flow.tcp_flags = 0
    if depth < Depth.L3 or flow.dl_type not in (IPV4, IPV6):
        flow.nw_src = flow.nw_dst = flow.nw_proto = flow.nw_tos = flow.nw_ttl = flow.nw_frag = 0
    return flow


def compare(driver: Driver, folder: Path, seed: int) -> int:
    """Compare a batch of frames; return how many the driver could parse to the last layer."""
    r = Random(seed)
    batch = [frames.any_frame(r) for _ in range(BATCH)]
    parsed = 0
    for frame, seen in zip(batch, ovs_oracle.flows_of(batch, folder), strict=True):
        hint = f"seed {seed}, frame {frame.hex()}"
        mine = extract(frame, vlan_limit=OVS_LIMIT)
        seen.vlan_tpid = mine.vlan_tpid
        assert mine == seen, hint
        for depth in Depth:
            key = driver.extract(frame, depth)
            if key is not None:
                assert seen_by_driver(key) == down_to(seen, depth), f"{depth.name}, {hint}"
                parsed += depth is Depth.L4
            doubt = doubts(frame, depth)
            assert bool(doubt) == (key is None), f"{depth.name}, doubt '{doubt}', {hint}"
            first = r.randrange(len(frame) + 1)
            part = driver.extract(frame, depth, first)
            assert bytes_of(part) == bytes_of(key), f"{depth.name}, first segment {first}, {hint}"
    return parsed


@pytest.mark.parametrize("seed", range(2))
def test_driver_and_model_read_frames_as_ovs_does(
    driver: Driver, tmp_path: Path, seed: int
) -> None:
    assert compare(driver, tmp_path, seed) > BATCH // 4


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_driver_and_model_read_a_million_frames_as_ovs_does(driver: Driver, tmp_path: Path) -> None:
    for seed in range(1000, 1000 + 1_000_000 // BATCH):
        assert compare(driver, tmp_path, seed) > BATCH // 4
