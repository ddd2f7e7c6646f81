# SPDX-License-Identifier: Apache-2.0
"""Where sockets, region files and the plugin are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovs_highway import paths
from ovs_highway.errors import SetupError


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"", 0xCBF29CE484222325), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)],
)
def test_the_hash_is_fnv_1a(data: bytes, value: int) -> None:
    assert paths.fnv1a64(data) == value


def test_the_tag_is_of_the_canonical_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    real = paths.region_tag(tmp_path / "real")
    assert paths.region_tag(tmp_path / "link") == real
    assert paths.region_tag(tmp_path / "real/../real/") == real
    assert paths.region_tag(tmp_path) != real
    assert len(real) == 16


def test_region_files_are_those_of_one_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "REGION_DIRS", (tmp_path,))
    mine = tmp_path / f"ovs-highway-{paths.region_tag(Path('/run/a'))}-port-1"
    other = tmp_path / f"ovs-highway-{paths.region_tag(Path('/run/b'))}-port-1"
    for file in (mine, other):
        file.touch()
    assert paths.region_files(Path("/run/a")) == [mine]


def test_the_environment_names_the_run_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIGHWAY_RUNDIR", "/run/x")
    assert paths.switch_socket() == Path("/run/x/switch.sock")
    assert paths.vnf_socket("vnf1") == Path("/run/x/ports/vnf1/sock")
    assert paths.control_socket(Path("/run/y")) == Path("/run/y/highwayd.ctl")
    monkeypatch.delenv("HIGHWAY_RUNDIR")
    assert paths.rundir() == Path("/run/ovs-highway")


def test_a_named_plugin_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = tmp_path / "my.so"
    plugin.touch()
    monkeypatch.setenv("HIGHWAY_PLUGIN", str(plugin))
    assert paths.plugin() == plugin


def test_a_named_plugin_that_is_missing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIGHWAY_PLUGIN", str(tmp_path / "none.so"))
    with pytest.raises(SetupError, match="unset it"):
        paths.plugin()


def test_the_header_is_found_in_the_source_tree() -> None:
    assert paths.header().name == "highway_shm.h"
