# SPDX-License-Identifier: Apache-2.0
"""The files that describe VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ovs_highway import vms
from ovs_highway.errors import VmError
from ovs_highway.vms import VmConfig

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """A VM of QEMU's and one of libvirt's, and a stamp that changes with them."""
    before = vms.stamp(tmp_path)
    one = vms.default_config("vm1", ("p1", "p2"), tmp_path)
    two = VmConfig(name="vm2", ports=("p3",), domain="dom", attached=False)
    for config in (one, two):
        vms.save(config, tmp_path)
    assert vms.load_all(tmp_path) == ({"vm1": one, "vm2": two}, [])
    assert vms.load("vm2", tmp_path) == two
    assert vms.stamp(tmp_path) != before
    vms.forget("vm1", tmp_path)
    assert list(vms.load_all(tmp_path)[0]) == ["vm2"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (VmConfig(name="a/b", ports=(), domain="d"), "'a/b' is no name"),
        (VmConfig(name="a", ports=("p", "p"), domain="d"), "a port stands twice"),
        (VmConfig(name="a", ports=("..",), domain="d"), "'..' is no name"),
        (VmConfig(name="a", ports=("p",)), "give either QEMU's QMP socket or a libvirt domain"),
        (VmConfig(name="a", ports=("p",), qmp="/q", control="/c", domain="d"), "give either"),
        (VmConfig(name="a", ports=("p",), qmp="/q"), "the socket of its control channel too"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, config: VmConfig, reason: str) -> None:
    """Nothing of it is written."""
    with pytest.raises(VmError, match=reason):
        vms.save(config, tmp_path)
    assert vms.stamp(tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"name": "vm1", "ports": []}', "give either"),
        ('{"name": "vm1", "ports": [1], "domain": "d"}', r"\$.ports\[0\]"),
        ('{"name": "vm1", "ports": [], "domain": "d", "colour": "red"}', "colour"),
        ('{"name": "vm2", "ports": [], "domain": "d"}', "describes VM vm2"),
    ],
)
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: str, reason: str) -> None:
    """The other VMs are not concerned."""
    good = VmConfig(name="good", ports=("p9",), domain="d")
    vms.save(good, tmp_path)
    folder = vms.folder("vm1", tmp_path)
    folder.mkdir()
    (folder / "vm.json").write_text(text)
    with pytest.raises(VmError, match=reason):
        vms.load("vm1", tmp_path)
    found, problems = vms.load_all(tmp_path)
    assert found == {"good": good}
    assert len(problems) == 1


def test_an_unknown_vm_is_told_with_the_known_ones(tmp_path: Path) -> None:
    """So that a typing error is seen."""
    vms.save(VmConfig(name="web", ports=("p",), domain="d"), tmp_path)
    with pytest.raises(VmError, match="there is no VM wbe; known: web"):
        vms.load("wbe", tmp_path)
