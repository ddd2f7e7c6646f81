# SPDX-License-Identifier: Apache-2.0
"""Install and remove the driver plugin and the tools.

A plugin that fails to load stops every DPDK program of the machine from starting, so the plugin
is loaded by programs that may fail before, and once more after, it goes into DPDK's folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from steps import PLUGIN, ROOT, StepError, dpdk_version, is_root, pkg_config, run, say

PREFIX: Final = Path("/opt/ovs-highway")
LINKS: Final = Path("/usr/local/bin")
COMMANDS: Final = ("highway", "highwayd")
MARKER: Final = ".ovs-highway"

# Runs in a process of its own: loads the plugin with every symbol resolved at once, and prints
# the DPDK version that it was built for and the one that runs.
_PROBE: Final = """
import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW | os.RTLD_GLOBAL)
version = library.rte_version
version.restype = ctypes.c_char_p
built = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, "highway_dpdk_version")))
print(built.decode().removeprefix("DPDK ").strip())
print(version().decode().removeprefix("DPDK ").strip())
"""


def plugin_dir() -> Path:
    """Return the folder from which DPDK loads its plugins.

    Raises:
        StepError: DPDK's build configuration names none, or it does not exist.
    """
    folders = [Path(word[2:]) for word in pkg_config("--cflags").split() if word.startswith("-I")]
    for folder in [*folders, Path("/usr/include/dpdk")]:
        config = folder / "rte_build_config.h"
        if not config.is_file():
            continue
        match = re.search(r'#define RTE_EAL_PMD_PATH "([^"]+)"', config.read_text())
        if match and Path(match[1]).is_dir():
            return Path(match[1])
    found = sorted((Path(pkg_config("--variable=libdir")) / "dpdk").glob("pmds-*"))
    if len(found) != 1:
        raise StepError("DPDK's plugin folder is not to be found; install the package dpdk")
    return found[0]


def probe(plugin: Path) -> None:
    """Load a plugin in a process of its own and check the version it was built for.

    Raises:
        StepError: it does not load, or was built for another DPDK.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(plugin)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StepError(f"the driver does not load ({reason}); not installed")
    built, running = done.stdout.split("\n")[:2]
    if built != running or built != dpdk_version():
        raise StepError(
            f"the driver was built for DPDK {built}, installed is {running}; run 'make clean build'"
        )


def start_dpdk(plugin: Path | None) -> None:
    """Start and end a real DPDK program, with the plugin given or with the installed ones only.

    Raises:
        StepError: it does not get through DPDK's initialisation.
    """
    command = ["dpdk-testpmd", "--no-pci", "--no-huge", "-m", "64", "--no-shconf"]
    command += ["--no-telemetry", "--file-prefix", f"hwtest{os.getpid()}", "--lcores", "0,1@0"]
    command += ["-d", str(plugin)] if plugin is not None else []
    command += ["--vdev", "net_null0", "--", "--total-num-mbufs=2048", "--no-mlockall"]
    run(command, doing="starting a DPDK program with the driver", timeout=60)


def install() -> None:
    """Install plugin, package and commands.

    Raises:
        StepError: not root, or the driver does not pass its tests.
    """
    if not is_root():
        raise StepError("installing needs root; run 'make install' as root")
    if not PLUGIN.is_file():
        raise StepError(f"{PLUGIN.relative_to(ROOT)} is not built; see what 'make build' says")
    probe(PLUGIN)
    start_dpdk(PLUGIN)
    target = plugin_dir() / PLUGIN.name
    # DPDK loads every *.so of this folder, so the unfinished copy must not be called so.
    unfinished = target.with_name(f".{PLUGIN.name}.new")
    previous = target.with_name(f".{PLUGIN.name}.old")
    try:
        shutil.copyfile(PLUGIN, unfinished)
        unfinished.chmod(0o644)
        if target.exists():
            shutil.copyfile(target, previous)
        os.replace(unfinished, target)
        try:
            start_dpdk(None)
        except StepError:
            if previous.exists():
                os.replace(previous, target)
            else:
                target.unlink()
            raise
    finally:
        unfinished.unlink(missing_ok=True)
        previous.unlink(missing_ok=True)
    say("install", f"{target} for DPDK {dpdk_version()}")
    _install_tools()


def _install_tools() -> None:
    if PREFIX.exists() and not (PREFIX / MARKER).exists():
        raise StepError(f"{PREFIX} is not ours; move it out of the way")
    run([sys.executable, "-m", "venv", "--clear", PREFIX], doing=f"making {PREFIX}")
    (PREFIX / MARKER).touch()
    run([PREFIX / "bin/pip", "install", "-q", ROOT], doing="installing the Python package")
    for package in PREFIX.glob("lib/python3*/site-packages/ovs_highway"):
        shutil.copy(ROOT / "drivers/net/highway/highway_shm.h", package)
    for name in COMMANDS:
        link = LINKS / name
        if link.exists() and not _is_ours(link):
            raise StepError(f"{link} is not ours; move it out of the way")
        link.unlink(missing_ok=True)
        link.symlink_to(PREFIX / "bin" / name)
    say("install", f"{', '.join(str(LINKS / name) for name in COMMANDS)}")


def _is_ours(link: Path) -> bool:
    return link.is_symlink() and PREFIX in Path(os.readlink(link)).parents


def uninstall() -> None:
    """Remove what `install` put into the system; say nothing was there if so.

    Raises:
        StepError: not root.
    """
    if not is_root():
        raise StepError("uninstalling needs root; run 'make uninstall' as root")
    removed: list[Path] = []
    for target in Path("/usr/lib").glob(f"**/dpdk/pmds-*/{PLUGIN.name}"):
        target.unlink()
        removed.append(target)
    for link in (LINKS / name for name in COMMANDS):
        if _is_ours(link):
            link.unlink()
            removed.append(link)
    if (PREFIX / MARKER).exists():
        shutil.rmtree(PREFIX)
        removed.append(PREFIX)
    say("uninstall", ", ".join(map(str, removed)) if removed else "nothing is installed")
