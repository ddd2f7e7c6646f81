# SPDX-License-Identifier: Apache-2.0
"""Where things are: the run directory and its sockets, region files, the driver plugin.

Everything that belongs to one switch lives in one run directory, so that several switches (a
system one and any number of sandboxes) share a machine. The C driver computes the same paths.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from ovs_highway.errors import SetupError

DEFAULT_RUNDIR: Final = Path("/run/ovs-highway")
STATEDIR: Final = Path("/var/lib/ovs-highway")
PLUGIN_NAME: Final = "librte_net_highway.so"
REGION_DIRS: Final = (Path("/dev/hugepages"), Path("/dev/shm"))

_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3


def rundir() -> Path:
    """Return the run directory: `HIGHWAY_RUNDIR`, else `/run/ovs-highway`."""
    value = os.environ.get("HIGHWAY_RUNDIR")
    return Path(value) if value else DEFAULT_RUNDIR


def switch_socket(base: Path | None = None) -> Path:
    """Return the socket on which highwayd listens for the switch side of the driver."""
    return (base or rundir()) / "switch.sock"


def vnf_socket(port: str, base: Path | None = None) -> Path:
    """Return the socket of one port, alone in a directory that a container can be given."""
    return (base or rundir()) / "ports" / port / "sock"


def vms_dir(base: Path | None = None) -> Path:
    """Return the folder with one folder per virtual machine."""
    return (base or rundir()) / "vms"


def control_socket(base: Path | None = None) -> Path:
    """Return the socket on which highwayd answers the `highway` command."""
    return (base or rundir()) / "highwayd.ctl"


def events_file(base: Path | None = None) -> Path:
    """Return the record of events; that of the default run directory outlives a reboot."""
    directory = base or rundir()
    return (STATEDIR if directory == DEFAULT_RUNDIR else directory) / "events.jsonl"


def fnv1a64(data: bytes) -> int:
    """Return the 64-bit FNV-1a hash of `data`."""
    value = _FNV_OFFSET
    for byte in data:
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value


def region_tag(base: Path | None = None) -> str:
    """Return the 16 hex digits that mark the region files of one run directory.

    They are the FNV-1a 64 hash of the directory's canonical path (`realpath`, no trailing slash).
    """
    return f"{fnv1a64(os.fsencode(os.path.realpath(base or rundir()))):016x}"


def region_files(base: Path | None = None) -> list[Path]:
    """Return the region files of one run directory, in huge pages and in `/dev/shm`."""
    pattern = f"ovs-highway-{region_tag(base)}-*"
    return sorted(file for folder in REGION_DIRS for file in folder.glob(pattern))


def make_dir(path: Path, mode: int = 0o711) -> None:
    """Make a directory that others may pass but not list, if it is not there yet.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)


def checkout() -> Path | None:
    """Return the source tree this package runs from, or None when it is installed."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "drivers/net/highway").is_dir() else None


def build_plugin() -> Path | None:
    """Return where the build puts the plugin, whether it is built yet or not."""
    root = checkout()
    return root / "build/meson/drivers/net/highway" / PLUGIN_NAME if root is not None else None


def dpdk_plugin_dirs() -> list[Path]:
    """Return the folders from which DPDK programs load plugins on their own, best first."""
    try:
        answer = subprocess.run(
            ["pkg-config", "--variable=libdir", "libdpdk"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    except OSError:
        answer = ""
    libdirs = (
        [Path(answer)] if answer else [*Path("/usr/lib").glob("*-linux-gnu"), Path("/usr/lib")]
    )
    return [folder for libdir in libdirs for folder in sorted(libdir.glob("dpdk/pmds-*"))]


def plugin() -> Path:
    """Return the driver plugin: `HIGHWAY_PLUGIN`, else the build's, else the installed one.

    Raises:
        SetupError: there is none.
    """
    named = os.environ.get("HIGHWAY_PLUGIN")
    if named:
        path = Path(named)
        if not path.is_file():
            raise SetupError(f"HIGHWAY_PLUGIN names {path}, which is no file; correct or unset it")
        return path.resolve()
    built = build_plugin()
    candidates = [built] if built is not None else []
    candidates += [folder / PLUGIN_NAME for folder in dpdk_plugin_dirs()]
    for path in candidates:
        if path.is_file():
            return path
    raise SetupError(f"there is no {PLUGIN_NAME}; run 'make build' in the source tree")


def traffic() -> Path:
    """Return the test program `traffic` (tests/apps/traffic): `HIGHWAY_TRAFFIC`, else the build's.

    Raises:
        SetupError: there is none.
    """
    return _test_program("traffic")


def gauge() -> Path:
    """Return the test program `gauge` (tests/apps/gauge): `HIGHWAY_GAUGE`, else the build's.

    Raises:
        SetupError: there is none.
    """
    return _test_program("gauge")


def latency() -> Path:
    """Return the test program `latency` (tests/apps/latency): `HIGHWAY_LATENCY`, else the build's.

    Raises:
        SetupError: there is none.
    """
    return _test_program("latency")


def _test_program(name: str) -> Path:
    named, root = os.environ.get(f"HIGHWAY_{name.upper()}"), checkout()
    if named:
        path = Path(named)
    elif root is not None:
        path = root / f"build/meson/tests/apps/{name}/{name}"
    else:
        raise SetupError(f"the program '{name}' is not installed; run this from a source tree")
    if not path.is_file():
        raise SetupError(f"{path} is missing; run 'make build' in the source tree")
    return path


def header() -> Path:
    """Return `highway_shm.h`, the one description of everything that processes share.

    Raises:
        SetupError: neither the source tree nor the installed package holds it.
    """
    root = checkout()
    here = Path(__file__).resolve().parent
    for path in ([root / "drivers/net/highway/highway_shm.h"] if root else []) + [
        here / "highway_shm.h"
    ]:
        if path.is_file():
            return path
    raise SetupError("highway_shm.h is missing; install the package again with 'make install'")
