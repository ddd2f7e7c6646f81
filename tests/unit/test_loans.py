# SPDX-License-Identifier: Apache-2.0
"""Frames that an application reads in a link's buffers (tests/apps/loan_check.c)."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
DRIVER: Final = ROOT / "drivers/net/highway"
SOURCES: Final = (
    ROOT / "tests/apps/loan_check.c",
    *(DRIVER / f"highway_{name}.c" for name in ("copy", "loan", "put")),
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
    """The test program, compiled with sanitizers."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler; run 'make setup' as root")
    target = tmp_path_factory.mktemp("loans") / "loan_check"
    options = ["-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-error=cpp"]
    options += ["-D_GNU_SOURCE", "-DALLOW_EXPERIMENTAL_API", f"-I{DRIVER}"]
    options += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = [compiler, *_pkg_config("--cflags"), *options, *map(str, SOURCES)]
    subprocess.run([*command, "-o", str(target), *_pkg_config("--libs")], check=True)
    return target


@pytest.mark.parametrize(("slots", "buffers"), [(64, 64), (512, 512), (512, 32)])
@pytest.mark.parametrize("seed", range(2))
def test_frames_arrive_once_and_stay_as_they_were_until_they_are_freed(
    program: Path, seed: int, slots: int, buffers: int
) -> None:
    """Also while the ring is full, its data or its buffers, and when an end attaches again."""
    run = subprocess.run(
        [program, str(seed), "15000", str(slots), str(buffers)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    sent, received, lent = map(int, run.stdout.split())
    assert sent == received > 10_000
    assert 0.05 < lent / received < 0.9
