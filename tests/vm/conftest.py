# SPDX-License-Identifier: Apache-2.0
"""What all VM tests share: a switch per module as system tests have it, and the guest."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.conftest import _archive, missing, pytest_runtest_makereport, sandbox
from tests.vm.world import VmWorld

from ovs_highway.errors import SetupError
from ovs_highway.lab.vm import QEMU, guest_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovs_highway.lab import Sandbox

__all__ = ["_archive", "pytest_runtest_makereport", "sandbox"]

HERE: Final = Path(__file__).resolve().parent


def _lacking() -> str | None:
    if (reason := missing()) is not None:
        return reason
    if shutil.which(QEMU) is None:
        return f"no {QEMU}; run 'make guest-image' as root"
    with contextlib.suppress(SetupError):
        guest_files()
        return None
    return "no guest; run 'make guest-image' as root"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and skip them if the machine cannot run them."""
    mine = [item for item in items if HERE in item.path.parents]
    reason = _lacking() if mine else None
    for item in mine:
        item.add_marker(pytest.mark.vm)
        item.add_marker(pytest.mark.timeout(300))
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def world(sandbox: Sandbox) -> Iterator[VmWorld]:
    """An empty bridge, to which VMs and processes come."""
    with VmWorld(sandbox) as world:
        yield world
