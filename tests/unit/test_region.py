# SPDX-License-Identifier: Apache-2.0
"""Regions: made, opened, refused, read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ovs_highway import region, shm
from ovs_highway.errors import RegionError
from ovs_highway.lab.stand_in import make_port_file
from ovs_highway.region import LinkRegion, PortRegion
from ovs_highway.shm import LinkFlag, Off, Phase, ffi

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ovs_highway.shm import CData

TAG = "00112233445566ff"


def new_link(
    folder: Path,
    *,
    queues: tuple[int, int] = (1, 1),
    ring_size: int = 64,
    buffers: tuple[int, int] = (0, 0),
) -> LinkRegion:
    return LinkRegion.create(
        tag=TAG,
        link_id=0xABC,
        names=("a", "b"),
        port_ids=(1, 2),
        n_queues=queues,
        ring_size=ring_size,
        buffers=buffers,
        dirs=[folder],
    )


def spoil(field: str, value: int | bytes) -> Callable[[CData], None]:
    def change(raw: CData) -> None:
        *parents, last = field.split(".")
        for parent in parents:
            raw = getattr(raw, parent)
        setattr(raw, last, value)

    return change


def test_a_port_region_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "r"
    make_port_file(path, name="vnf1", tag=TAG, n_queues=4, n_rules=100, ring_size=128)
    with PortRegion.open(path) as port:
        assert (port.name, port.tag, port.n_queues, port.n_rules) == ("vnf1", TAG, 4, 100)
        assert port.rings.size == 128
        assert port.size == path.stat().st_size
        assert not port.vnf().attached
        assert not port.switch().attached
        assert port.gate().off_operator == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil("header.magic", 5), "wrong magic"),
        (spoil("header.magic", shm.LINK_MAGIC), "wrong magic"),
        (spoil("header.abi_oldest", 9), "install the same release"),
        (spoil("header.abi_version", 0), "install the same release"),
        (spoil("header.size", 4096), "says 4096 bytes"),
        (spoil("header.region_id", 0), "no region id"),
        (spoil("name", b"../../etc"), "bad port name"),
        (spoil("name", b""), "bad port name"),
        (spoil("n_queues", 0), "queues"),
        (spoil("n_queues", 17), "queues"),
        (spoil("n_queues", 16), "outside"),
        (spoil("n_rules", 0), "rules"),
        (spoil("n_rules", 4097), "rules"),
        (spoil("ring_size", 63), "ring geometry"),
        (spoil("ring_size", 32), "ring geometry"),
        (spoil("ring_size", 1 << 31), "ring geometry"),
        (spoil("ring_data", 0), "ring geometry"),
        (spoil("ring_data", 0xFFFFF000), "ring geometry"),
        (spoil("ring_stride", 0), "ring geometry"),
        (spoil("ring_stride", 1 << 63), "ring geometry"),
        (spoil("rules_offset", 0), "areas"),
        (spoil("rules_offset", (1 << 64) - 64), "areas"),
        (spoil("counters_offset", 8192), "areas"),
        (spoil("in_counters_offset", 8192), "areas"),
        (spoil("to_switch_offset", 1 << 40), "areas"),
        (spoil("to_vnf_offset", 8192), "areas"),
    ],
)
def test_a_bad_port_region_is_refused_with_its_reason(
    tmp_path: Path, change: Callable[[CData], None], words: str
) -> None:
    make_port_file(tmp_path / "r", name="vnf1", tag=TAG, change=change)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RegionError, match=words) as caught:
        PortRegion.open(tmp_path / "r")
    assert "\n" not in str(caught.value)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [0, 64, 4096, 8191, 8192 + 4096])
def test_a_file_of_a_wrong_size_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "r").write_bytes(bytes(size))
    with pytest.raises(RegionError, match=r"too small|impossible size"):
        PortRegion.open(tmp_path / "r")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match="cannot be opened"):
        PortRegion.open(tmp_path / "missing")
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(RegionError, match="regular file"):
        PortRegion(reading)


def test_geometry_is_kept_when_the_other_side_changes_it(tmp_path: Path) -> None:
    make_port_file(tmp_path / "r", name="vnf1", tag=TAG)
    with PortRegion.open(tmp_path / "r") as port:
        port.raw.n_rules = 0xFFFFFFFF
        port.raw.rules_offset = (1 << 64) - 1
        port.raw.counters_offset = (1 << 64) - 1
        port.raw.n_queues = 0xFFFFFFFF
        port.raw.vnf_state.n_rxq = 0xFFFFFFFF
        assert port.rules() == []
        assert port.vnf().n_rxq == shm.MAX_QUEUES


def test_a_link_region_is_read_as_it_was_made(tmp_path: Path) -> None:
    with new_link(tmp_path, queues=(2, 3), ring_size=2048) as link:
        with LinkRegion.open(link.path) as other:
            assert other.names == ("a", "b")
            assert other.port_ids == (1, 2)
            assert other.n_queues == (2, 3)
            assert other.region_id == 0xABC
            assert other.rings.size == 2048
            before, when = other.phase, int(other.raw.active_ns)
            assert (before, when) == (Phase.NEW, 0)
            link.phase = Phase.ACTIVE
            assert other.phase == Phase.ACTIVE
            assert int(other.raw.active_ns) >= other.created_ns > 0
        assert link.path.name == f"ovs-highway-{TAG}-link-0000000000000abc"
        assert link.path.stat().st_mode & 0o777 == 0o600
        assert shm.power_of_two(link.path.stat().st_size)
        # Allocated, not only as long: a later touch must not fail.
        assert link.path.stat().st_blocks * 512 >= link.size
        assert not any(os.pread(link.fd, link.size, shm.LINK_HEADER_LEN))


def test_the_default_link_region_fits_into_two_huge_pages(tmp_path: Path) -> None:
    with new_link(tmp_path, ring_size=shm.constant("HIGHWAY_DEFAULT_RING_SIZE")) as link:
        assert link.size == 2 * shm.HUGE_PAGE


@pytest.mark.parametrize("buffers", [(1664, 0), (0, 9216), (1664, 2048)])
def test_buffers_lie_behind_the_rings_of_a_link(tmp_path: Path, buffers: tuple[int, int]) -> None:
    queues, ring_size = (2, 3), 64
    with (
        new_link(tmp_path, queues=queues, ring_size=ring_size, buffers=buffers) as link,
        LinkRegion.open(link.path) as other,
    ):
        assert other.buffers == buffers
        end = int(link.raw.ring_offset[1]) + queues[1] * link.rings.stride
        for index, size in enumerate(buffers):
            if size:
                assert link.raw.pools_offset[index] == end
                count = shm.pool_buffers(ring_size, size)
                assert count == link.raw.n_buffers[index] <= ring_size
                end += queues[index] * shm.pool_stride(count, size)
        assert end <= link.size


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("buffer_size", 100, "buffers of"),
        ("buffer_size", 1 << 20, "buffers of"),
        ("buffer_size", 16384, "outside"),
        ("n_buffers", 1 << 31, "buffers"),
        ("pools_offset", 8192, "overlap|areas|outside"),
        ("pools_offset", 1 << 62, "outside|areas"),
    ],
)
def test_a_link_region_with_bad_buffers_is_refused(
    tmp_path: Path, field: str, value: int, words: str
) -> None:
    with new_link(tmp_path, buffers=(1664, 0)) as link:
        getattr(link.raw, field)[0] = value
        with pytest.raises(RegionError, match=words):
            LinkRegion.open(link.path)


def test_a_link_region_says_what_its_ends_heed(tmp_path: Path) -> None:
    both = LinkFlag.CHECKED | LinkFlag.PEER_CHECKS
    with new_link(tmp_path) as link:
        assert link.flags == (shm.FREE, shm.FREE)
        link.raw.flags = int(LinkFlag.CHECKED)
        assert link.flags == (both, both), "as highwayd said it before ABI_DIRECTED"
        link.set_flags(1, LinkFlag.NO_SEND)
        assert link.flags == (both, LinkFlag.NO_SEND)
        link.raw.flags = 0xFFFFFFFF
        every = both | LinkFlag.NO_SEND | LinkFlag.NO_RECEIVE
        assert link.flags == (every, every)


def test_a_link_id_is_never_used_twice(tmp_path: Path) -> None:
    with new_link(tmp_path), pytest.raises(RegionError, match="exists"):
        new_link(tmp_path)


def test_no_memory_is_an_error_that_names_every_place(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match=r"no memory for a region .*nowhere.*neither") as caught:
        LinkRegion.create(
            tag=TAG,
            link_id=1,
            names=("a", "b"),
            port_ids=(1, 2),
            n_queues=(1, 1),
            ring_size=64,
            dirs=[tmp_path / "nowhere", tmp_path / "neither"],
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil("ring_size", 100), "ring geometry"),
        (spoil("ring_stride", 4096), "ring geometry"),
        (lambda raw: setattr(raw, "n_queues", [0, 1]), "queues"),
        (lambda raw: setattr(raw, "n_queues", [1, 16]), "areas"),
        (lambda raw: setattr(raw, "ring_offset", [0, 8192]), "areas"),
        (lambda raw: setattr(raw, "name", [b"b", b"a"]), "port names"),
        (lambda raw: setattr(raw, "name", [b"a", b"a"]), "port names"),
        (spoil("header.magic", shm.PORT_MAGIC), "wrong magic"),
    ],
)
def test_a_bad_link_region_is_refused(
    tmp_path: Path, change: Callable[[CData], None], words: str
) -> None:
    with new_link(tmp_path) as link:
        change(link.raw)
        with pytest.raises(RegionError, match=words):
            LinkRegion.open(link.path)


def test_an_impossible_phase_counts_as_leaving(tmp_path: Path) -> None:
    with new_link(tmp_path) as link:
        link.raw.phase = 77
        assert link.phase is Phase.LEAVING
        link.raw.end[1].closed = 1234
        assert "1234" in link.end(1).closed


def test_gate_changes_are_counted_only_when_something_changes(tmp_path: Path) -> None:
    make_port_file(tmp_path / "r", name="vnf1", tag=TAG)
    with PortRegion.open(tmp_path / "r") as port:
        assert port.set_operator(Off.OPERATOR, off=True)
        assert not port.set_operator(Off.OPERATOR, off=True)
        assert port.set_operator(Off.ALL, off=True)
        assert port.gate().off_operator == Off.OPERATOR | Off.ALL
        assert port.gate().change == 2
        assert port.set_operator(Off.OPERATOR | Off.ALL, off=False)
        assert port.set_policy("because " * 50, tx_flush_us=7, standalone=True)
        assert not port.set_policy("because " * 50)
        gate = port.gate()
        assert (gate.off_policy, gate.tx_flush_us, gate.standalone) == (Off.POLICY, 7, True)
        assert gate.off_text.startswith("because because")
        assert port.set_policy(None)
        assert (port.gate().off_policy, port.gate().off_text) == (0, "")
        assert port.gate().change == 5


def test_the_dead_are_noted_once(tmp_path: Path) -> None:
    make_port_file(tmp_path / "r", name="vnf1", tag=TAG)
    with PortRegion.open(tmp_path / "r") as port:
        port.raw.vnf_state.attached = port.raw.vnf_state.started = 1
        port.raw.switch_state.attached = 1
        assert port.vnf_died()
        assert not port.vnf_died()
        assert port.switch_died()
        assert not port.switch_died()
        assert port.gate().change == 2
        assert not port.vnf().attached
        assert not port.vnf().started


def test_rules_come_with_their_counters_of_all_queues(tmp_path: Path) -> None:
    make_port_file(tmp_path / "r", name="vnf1", tag=TAG, n_queues=2, n_rules=8)
    with PortRegion.open(tmp_path / "r") as port:
        assert port._mem is not None
        whole = ffi.from_buffer(port._mem)
        rules: CData = ffi.cast("struct highway_rule *", whole + port._rules_offset)
        counters: CData = ffi.cast("struct highway_counter *", whole + port._counters_offset)
        rules[3].live = rules[3].generation = 5
        rules[3].peer_id = 42
        rules[3].peer_name = b"vnf2"
        rules[6].generation, rules[6].peer_id = 4, 43
        counters[3].packets, counters[3].bytes = 10, 640
        counters[8 + 3].packets, counters[8 + 3].bytes = 1, 64
        (rule,) = port.rules()
        assert (rule.slot, rule.peer_id, rule.peer_name, rule.live) == (3, 42, "vnf2", True)
        assert (rule.packets, rule.bytes) == (11, 704)
        assert port.live_peers() == [42]
        assert [rule.slot for rule in port.rules(ended=True)] == [3, 6]
        ffi.release(whole)


def test_a_rule_is_suppressed_until_it_is_lifted_or_another_has_its_slot(tmp_path: Path) -> None:
    make_port_file(tmp_path / "r", name="vnf1", tag=TAG, n_rules=8)
    with PortRegion.open(tmp_path / "r") as port:
        table = port.rule_table()
        for slot, peer in ((3, 42), (4, 42), (5, 43)):
            table[slot].live = table[slot].generation = 100 + slot
            table[slot].peer_id = peer
        assert port.suppress(3, 103)
        assert port.suppress(5, 105)
        assert port.gate().change == 2
        assert port.suppress(3, 103), "again"
        assert not port.suppress(4, 103), "another rule"
        assert not port.suppress(6, 0), "none"
        assert port.gate().change == 2, "nothing new, nothing told"
        assert port.suppressed() == {3: 103, 5: 105}
        assert port.count_rules() == ({42: 1}, {42: 1, 43: 1})
        assert sorted(port.live_peers()) == [42, 42, 43]
        found = [(rule.slot, rule.generation, rule.live, rule.suppressed) for rule in port.rules()]
        assert found == [(3, 103, True, True), (4, 104, True, False), (5, 105, True, True)]

        port.lift(4, 104)
        port.lift(3, 99)
        assert port.gate().change == 2
        port.lift(3, 103)
        assert (port.gate().change, port.suppressed()) == (3, {5: 105})

        table[5].live = 0
        assert port.suppressed() == {}
        assert not port.suppress(5, 105), "withdrawn"
        table[5].live = table[5].generation = 200
        assert port.suppressed() == {}
        assert port.count_rules() == ({42: 2, 43: 1}, {})
        port.lift(5, 105)
        assert int(table[5].suppressed) == 0


def test_a_port_file_under_another_name_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / region.region_name(TAG, "port", "vnf1")
    make_port_file(path, name="other", tag=TAG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovs_highway.region._files.region_dirs", lambda: [tmp_path])
        found, problems = region.open_ports(TAG)
    assert found == {}
    assert "vnf1" in problems[0]


def test_region_dirs_come_from_the_mounts(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "none /mnt/huge hugetlbfs rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n"
        "none /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n"
    )
    names = [str(folder) for folder in region.region_dirs(mounts)]
    assert names == ["/dev/hugepages", "/mnt/huge", "/dev/shm"]
    assert [str(folder) for folder in region.region_dirs(tmp_path / "no")] == ["/dev/shm"]


@pytest.mark.parametrize("offset", [1 << 40, (1 << 63) + 64])
def test_a_link_is_read_where_it_was_when_it_was_checked(tmp_path: Path, offset: int) -> None:
    """Somebody who has the link mapped changes where its rings are said to lie.

    Verify: the rings are read where they are, and nothing outside of the region.
    """
    with new_link(tmp_path) as link:
        link.raw.ring_offset[0] = link.raw.ring_offset[1] = offset
        assert link.consumed(0) == link.consumed(1) == 0
