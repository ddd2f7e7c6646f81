# SPDX-License-Identifier: Apache-2.0
"""The layout of port regions: the driver's (tests/apps/geometry_check.c) is that of Python."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from ovs_highway import paths, region, shm
from ovs_highway.lab.stand_in import make_port_file, port_path, write_port_header
from ovs_highway.region import PortRegion
from ovs_highway.shm import CData, RingGeometry, ffi

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
DRIVER: Final = ROOT / "drivers/net/highway"
SOURCES: Final = (
    ROOT / "tests/apps/geometry_check.c",
    *(DRIVER / f"highway_{name}.c" for name in ("region", "guard")),
)
FIELDS: Final = (
    *("ring_data", "rules_offset", "in_rules_offset", "counters_offset", "in_counters_offset"),
    *("to_switch_offset", "to_vnf_offset", "ring_stride"),
)
DEFAULTS: Final = (
    1,
    shm.constant("HIGHWAY_DEFAULT_RING_SIZE"),
    shm.constant("HIGHWAY_DEFAULT_RULES"),
)


def _pkg_config(what: str) -> list[str]:
    asked = subprocess.run(
        ["pkg-config", what, "libdpdk"], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        pytest.skip("no DPDK headers; run 'make setup' as root")
    return shlex.split(asked.stdout)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler; run 'make setup' as root")
    target = tmp_path_factory.mktemp("geometry") / "geometry_check"
    options = ["-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-error=cpp"]
    options += ["-Wno-format-truncation", "-D_GNU_SOURCE", f"-I{DRIVER}"]
    command = [compiler, *_pkg_config("--cflags"), *options, *map(str, SOURCES)]
    subprocess.run([*command, "-o", str(target), *_pkg_config("--libs")], check=True)
    return target


@pytest.fixture
def rundir(tmp_path: Path) -> Iterator[Path]:
    """A run directory whose regions are removed afterwards."""
    yield tmp_path
    for path in paths.region_files(tmp_path):
        path.unlink()


def driver(program: Path, rundir: Path, *arguments: str | int) -> list[str]:
    """Return what the driver says."""
    return subprocess.run(
        [program, *map(str, arguments)],
        env={"HIGHWAY_RUNDIR": str(rundir)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()


def former(raw: CData) -> None:
    """Lay a region out as before HIGHWAY_ABI_COUNTED."""
    rings = RingGeometry(
        size=int(raw.ring_size),
        data=max(
            shm.MIN_RING_DATA,
            shm.round_up(
                int(raw.ring_size) * shm.constant("HIGHWAY_FORMER_DATA_PER_SLOT"), shm.PAGE
            ),
        ),
    )
    raw.to_switch_offset, raw.in_counters_offset = raw.in_counters_offset, 0
    raw.ring_data, raw.ring_stride = rings.data, rings.stride
    raw.to_vnf_offset = raw.to_switch_offset + raw.n_queues * rings.stride


@pytest.mark.parametrize(
    "sizes",
    [DEFAULTS, (1, 64, 1), (2, 2048, 1024), (16, 2048, 4096), (1, 32768, 1000), (3, 512, 77)],
)
def test_the_driver_and_python_lay_a_port_region_out_alike(
    program: Path, rundir: Path, sizes: tuple[int, int, int]
) -> None:
    raw: CData = ffi.new("struct highway_port_region *")
    queues, ring_size, rules = sizes
    size = write_port_header(
        raw,
        name="vnf1",
        tag="1",
        region_id=1,
        n_queues=queues,
        n_rules=rules,
        ring_size=ring_size,
    )
    mine = [int(getattr(raw, field)) for field in FIELDS]
    size = max(size, shm.HUGE_PAGE)
    assert list(map(int, driver(program, rundir, *sizes))) == [*mine, size]


def test_the_default_region_is_one_huge_page(program: Path, rundir: Path) -> None:
    assert int(driver(program, rundir, *DEFAULTS)[-1]) == shm.HUGE_PAGE


def test_a_region_of_the_release_before_is_adopted_as_it_is(program: Path, rundir: Path) -> None:
    path = port_path(rundir, "vnf1")
    queues, ring_size, rules = DEFAULTS
    make_port_file(
        path,
        name="vnf1",
        tag=paths.region_tag(rundir),
        n_queues=queues,
        n_rules=rules,
        ring_size=ring_size,
        change=former,
    )
    said, *found = driver(program, rundir, *DEFAULTS, "vnf1")
    with PortRegion.open(path) as port:
        assert said == "adopted"
        assert not port.has_in_counters
        assert list(map(int, found)) == [*(int(getattr(port.raw, f)) for f in FIELDS), port.size]


def test_a_region_of_no_release_is_replaced(program: Path, rundir: Path) -> None:
    path = port_path(rundir, "vnf1")
    queues, ring_size, rules = DEFAULTS

    def spoil(raw: CData) -> None:
        former(raw)
        raw.to_vnf_offset -= shm.PAGE

    make_port_file(
        path,
        name="vnf1",
        tag=paths.region_tag(rundir),
        n_queues=queues,
        n_rules=rules,
        ring_size=ring_size,
        change=spoil,
    )
    assert driver(program, rundir, *DEFAULTS, "vnf1")[0] == "made"
    with PortRegion.open(path) as port:
        assert port.has_in_counters
        assert region.file_of(port) == path
