# SPDX-License-Identifier: Apache-2.0
"""What all system tests share: a switch per module, and the logs of failed tests.

Logs of a failed test are in `build/test-logs/<test>/<run directory>/`. With `CI_STRICT` set, a
test that skips fails.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.system.scene import Scene

from ovs_highway import paths
from ovs_highway.errors import SetupError
from ovs_highway.lab import Sandbox
from ovs_highway.lab.sandbox import find_vswitchd

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

HERE: Final = Path(__file__).resolve().parent
LOGS: Final = HERE.parents[1] / "build/test-logs"
HUGE_FREE: Final = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")


def missing() -> str | None:
    """Return what this machine lacks for system tests, or None."""
    if os.geteuid() != 0:
        return "not root; run the tests as root"
    if not HUGE_FREE.exists() or int(HUGE_FREE.read_text()) < 512:
        return "fewer than 512 free huge pages of 2 MiB; run 'make setup' as root"
    try:
        find_vswitchd()
        paths.plugin()
    except SetupError as error:
        return str(error)
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and skip them if the machine cannot run them."""
    mine = [item for item in items if HERE in item.path.parents]
    reason = missing() if mine else None
    for item in mine:
        item.add_marker(pytest.mark.system)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def log_dir(item: pytest.Item) -> Path:
    """Return where the logs of one test go if it fails."""
    return LOGS / re.sub(r"[^\w.-]+", "_", f"{item.path.stem}-{item.name}")[:120]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, None]:
    """Keep the logs of a test that fails, and let none skip in CI."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    if report.skipped and os.environ.get("CI_STRICT") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    if report.failed:
        item.stash[_FAILED] = True
        for sandbox in Sandbox.live:
            sandbox.save_logs(log_dir(item) / sandbox.rundir.name)


_FAILED: Final = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def _archive(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have sandboxes that end within the test leave their logs; drop them if it passes."""
    item = request.node
    assert isinstance(item, pytest.Item)
    folder = log_dir(item)
    shutil.rmtree(folder, ignore_errors=True)
    monkeypatch.setenv("HIGHWAY_LOG_ARCHIVE", str(folder))
    yield
    if not item.stash.get(_FAILED, False):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"logs: {folder}")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A switch with the driver and highwayd, for all tests of a module; without any bridge."""
    with Sandbox() as switch:
        yield switch


@pytest.fixture
def scene(sandbox: Sandbox) -> Iterator[Scene]:
    """An empty bridge `br0` in the module's sandbox."""
    with Scene(sandbox) as scene:
        yield scene
