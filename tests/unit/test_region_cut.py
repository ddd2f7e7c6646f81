# SPDX-License-Identifier: Apache-2.0
"""A region's file is cut short while a program reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ovs_highway.region import LinkRegion, fixed_length_available

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import os, sys
from pathlib import Path
from ovs_highway import region
from ovs_highway.region import LinkRegion

if sys.argv[2] == "ready":
    region.survive_cuts()
link = LinkRegion.create(
    tag="0" * 16, link_id=1, names=("p1", "p2"), port_ids=(1, 2), n_queues=(1, 1), ring_size=256,
    dirs=[Path(sys.argv[1])],
)
os.truncate(link.path, 0)
for _ in range(1000):
    assert link.received(0) == (0, 0) and int(link.raw.phase) == 0
from ovs_highway.shm import atomic, ffi
bytes(ffi.buffer(link._copy("struct highway_counter", 0, 64)))
atomic.add(ffi.addressof(link.raw, "phase"), 1)
assert int(link.raw.phase) == 1
assert link.guard() and not link.guard()
print("alive")
"""


@pytest.mark.parametrize(("ready", "alive"), [("ready", True), ("not ready", False)])
def test_a_program_that_is_ready_survives_a_cut(tmp_path: Path, ready: str, alive: bool) -> None:
    """Steps: map a region, cut its file short, read and write. Verify: dead only if not ready."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), ready],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout.strip() == "alive") is alive, done.stderr
    assert (done.returncode == 0) is alive, done.stderr


def test_a_fault_elsewhere_still_ends_the_program(tmp_path: Path) -> None:
    """Steps: be ready; cut another mapped file short and read it. Verify: SIGBUS ends it."""
    program = """
import mmap, os, sys
from ovs_highway import region
region.survive_cuts()
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 8192)
mem = mmap.mmap(fd, 8192)
os.ftruncate(fd, 0)
mem[5000]
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "file")], check=False, timeout=60
    )
    assert done.returncode == -7


HOLE = """
import ctypes, os, sys
from pathlib import Path
from ovs_highway import region
from ovs_highway.region import LinkRegion

region.survive_cuts()
folder = Path(sys.argv[1])
link = LinkRegion.create(
    tag="0" * 16, link_id=1, names=("p1", "p2"), port_ids=(1, 2), n_queues=(1, 1), ring_size=256,
    dirs=[folder],
)
assert int(link.raw.phase) == 0
size = ctypes.c_long(link.size)
assert ctypes.CDLL(None).fallocate(link.fd, 3, ctypes.c_long(0), size) == 0
assert os.fstat(link.fd).st_size == link.size
try:
    with (folder / "other").open("wb", buffering=0) as other:
        while other.write(bytes(4096)):
            pass
except OSError:
    pass
assert int(link.raw.header.magic) == 0
assert link.guard() and not link.guard()
print("alive")
"""


def test_a_program_survives_a_hole_for_which_there_is_no_memory(tmp_path: Path) -> None:
    """Steps: punch a hole into a region on a full file system, and read it. Verify: alive."""
    mounted = f'mount -t tmpfs -o size=4M none {tmp_path} && exec {sys.executable} -c "$0" "$1"'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mounted, HOLE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr


def test_a_descriptor_of_a_region_cannot_cut_it_short(tmp_path: Path) -> None:
    """Steps: make a region, and open it again; truncate both descriptors. Verify: no permission."""
    assert fixed_length_available(), "this kernel has no Landlock, or one before Linux 6.2"
    with LinkRegion.create(
        tag="0" * 16,
        link_id=1,
        names=("p1", "p2"),
        port_ids=(1, 2),
        n_queues=(1, 1),
        ring_size=256,
        dirs=[tmp_path],
    ) as link:
        with LinkRegion.open(link.path) as again:
            for fd in (link.fd, again.fd):
                with pytest.raises(PermissionError):
                    os.ftruncate(fd, 0)
        assert not link.guard()
        assert link.path.stat().st_size == link.size
        os.truncate(link.path, 0)  # what has the file's name can
        assert link.guard()
