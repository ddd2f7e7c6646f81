# SPDX-License-Identifier: Apache-2.0
"""Other releases of ourselves: this source tree, built with other ABI versions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ovs_highway import shm

ROOT: Final = Path(__file__).resolve().parents[2]
PARTS: Final = ("drivers", "src", "tests/apps", "meson.build", "meson_options.txt")
_HEADER: Final = "drivers/net/highway/highway_shm.h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A source tree of its own, built.

    Attributes:
        version, oldest: ABI versions that it speaks.
    """

    root: Path
    version: int
    oldest: int

    @property
    def plugin(self) -> Path:
        """Its driver."""
        return self.root / "build/drivers/net/highway/librte_net_highway.so"

    @property
    def env(self) -> dict[str, str]:
        """What has Python run its highwayd and its commands."""
        return {"PYTHONPATH": str(self.root / "src")}


def release(ahead: int) -> Release:
    """Build the release that is so many versions ahead, and accepts the one before it.

    It lies below `build/`, and only what has changed is built anew.
    """
    version = shm.ABI_VERSION + ahead
    found = Release(root=ROOT / f"build/abi-{version}", version=version, oldest=version - 1)
    for part in PARTS:
        source, target = ROOT / part, found.root / part
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    header = found.root / _HEADER
    text = header.read_text()
    for name, value in (("VERSION", found.version), ("OLDEST", found.oldest)):
        text, times = re.subn(rf"(HIGHWAY_ABI_{name}) = \d+", rf"\1 = {value}", text)
        assert times == 1, name
    header.write_text(text)
    _build(found.root)
    return found


def _build(root: Path) -> None:
    options = json.loads((ROOT / "build/meson/meson-info/intro-buildoptions.json").read_text())
    (sdk,) = [option["value"] for option in options if option["name"] == "dpdk_sdk"]
    run = {"check": True, "capture_output": True, "env": dict(os.environ)}
    if not (root / "build/build.ninja").exists():
        setup = ["meson", "setup", str(root / "build"), str(root), f"-Ddpdk_sdk={sdk}"]
        subprocess.run(setup, **run)  # type: ignore[call-overload]
    target = "drivers/net/highway/librte_net_highway.so"
    subprocess.run(["ninja", "-C", str(root / "build"), target], **run)  # type: ignore[call-overload]
