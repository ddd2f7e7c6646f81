# SPDX-License-Identifier: Apache-2.0
"""What `highway doctor` looks at: this machine, its DPDK, the driver and Open vSwitch.

Everything is read from outside: DPDK is loaded by processes of their own, never by ours.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ovs_highway import paths
from ovs_highway.agent.policy import Mode, Terms
from ovs_highway.cli.model import ask_agent
from ovs_highway.errors import SetupError
from ovs_highway.lab.sandbox import find_vswitchd
from ovs_highway.region import fixed_length_available

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ovs_highway.view import AgentView

HUGE_DIR: Final = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
DEFAULT_OVS_RUNDIR: Final = Path("/var/run/openvswitch")

# Prints the version that the plugin was built for, and the version of the DPDK it loads.
_PROBE: Final = """
import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW | os.RTLD_GLOBAL)
version = library.rte_version
version.restype = ctypes.c_char_p
built = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, "highway_dpdk_version")))
print(built.decode())
print(version().decode())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A driver plugin file; `built_for` and `runs_with` are DPDK versions, `error` if it fails."""

    path: Path
    built_for: str = ""
    runs_with: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The Open vSwitch of one run directory, as its database tells; `version` '' if unknown."""

    version: str = ""
    dpdk_version: str = ""
    dpdk_initialized: bool = False
    other_config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the checks judge.

    Attributes:
        lengths_fixed: the kernel can keep who has a region from cutting it short.
        huge_total, huge_free: of 2 MiB.
        terms: on which terms highwayd lets its ports have links.
    """

    root: bool
    lengths_fixed: bool
    huge_total: int
    huge_free: int
    huge_mount: str | None
    driver: Driver | None
    installed: Path | None
    dpdk_version: str
    vswitchd: Path | None
    vswitchd_version: str
    ovs_rundir: Path
    switch: Switch | None
    highwayd: bool
    rundir: Path
    terms: tuple[Terms, ...] = ()


def gather() -> Facts:
    """Look at this machine; what cannot be found out is left empty, and nothing raises."""
    ovs_rundir = Path(os.environ.get("OVS_RUNDIR") or DEFAULT_OVS_RUNDIR)
    try:
        driver: Driver | None = probe(paths.plugin())
    except SetupError:
        driver = None
    try:
        vswitchd: Path | None = find_vswitchd()
    except SetupError:
        vswitchd = None
    installed = [folder / paths.PLUGIN_NAME for folder in paths.dpdk_plugin_dirs()]
    return Facts(
        root=os.geteuid() == 0,
        lengths_fixed=fixed_length_available(),
        huge_total=_number(HUGE_DIR / "nr_hugepages"),
        huge_free=_number(HUGE_DIR / "free_hugepages"),
        huge_mount=huge_mount(_text(Path("/proc/mounts"))),
        driver=driver,
        installed=next((path for path in installed if path.is_file()), None),
        dpdk_version=dpdk_version(),
        vswitchd=vswitchd,
        vswitchd_version=_first_version(_output([str(vswitchd), "--version"]) if vswitchd else ""),
        ovs_rundir=ovs_rundir,
        switch=_switch(ovs_rundir),
        highwayd=listens(paths.control_socket()),
        rundir=paths.rundir(),
        terms=link_terms(ask_agent(paths.rundir())),
    )


def link_terms(agent: AgentView) -> tuple[Terms, ...]:
    """Return on which terms ports may have links, as far as highwayd knows."""
    return tuple(
        Terms(port=name, mode=Mode(port["mode"]), trust=port["trust"])
        for name, port in agent.ports.items()
        if port.get("mode") in set(Mode)
    )


def probe(plugin: Path) -> Driver:
    """Load a plugin in a process of its own and read its version."""
    answer = _output([sys.executable, "-c", _PROBE, str(plugin)], errors=True)
    lines = answer.strip().splitlines()
    if len(lines) == 2 and "Error" not in answer:
        built, running = (line.removeprefix("DPDK").strip() for line in lines)
        return Driver(path=plugin, built_for=built, runs_with=running)
    return Driver(path=plugin, error=lines[-1] if lines else "it ends the process that loads it")


def dpdk_version() -> str:
    """Return the version of the installed DPDK libraries, '' if there are none."""
    code = (
        "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).rte_version;"
        " f.restype = ctypes.c_char_p; print(f().decode())"
    )
    libdirs = [folder.parent.parent for folder in paths.dpdk_plugin_dirs()]
    for library in (found for libdir in libdirs for found in libdir.glob("librte_eal.so.*")):
        answer = _output([sys.executable, "-c", code, str(library)]).strip()
        if answer:
            return answer.removeprefix("DPDK").strip()
    return ""


def huge_mount(mounts: str) -> str | None:
    """Return where 2 MiB huge pages are mounted, as /proc/mounts tells, or None."""
    for line in mounts.splitlines():
        words = line.split()
        if len(words) > 3 and words[2] == "hugetlbfs" and "pagesize=1024M" not in words[3]:
            return words[1]
    return None


def map_column(text: str) -> dict[str, str]:
    """Parse a map as ovs-vsctl prints it: `{dpdk-init="true", pmd-cpu-mask="0x2"}`."""
    result: dict[str, str] = {}
    key, word, quoted, escaped = "", "", False, False
    for char in text.strip().removeprefix("{").removesuffix("}") + ",":
        if escaped:
            word, escaped = word + char, False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "=" and not quoted and not key:
            key, word = word.strip(), ""
        elif char == "," and not quoted:
            if key:
                result[key] = word.strip()
            key, word = "", ""
        else:
            word += char
    return result


def _switch(ovs_rundir: Path) -> Switch | None:
    """Ask the switch's database; None if no one answers."""
    if not listens(ovs_rundir / "db.sock"):
        return None
    columns = ["ovs_version", "dpdk_version", "dpdk_initialized", "other_config"]
    command = ["ovs-vsctl", "--timeout=5", "--no-wait", f"--db=unix:{ovs_rundir}/db.sock"]
    answer = _output([*command, "get", "Open_vSwitch", ".", *columns]).splitlines()
    if len(answer) != len(columns):
        return Switch()
    version, dpdk, up, config = (line.strip().strip('"') for line in answer)
    return Switch(
        version=version.strip("[]"),
        dpdk_version=dpdk.strip("[]").removeprefix("DPDK").strip(),
        dpdk_initialized=up == "true" and _vswitchd_runs(ovs_rundir),
        other_config=map_column(config),
    )


def _first_version(text: str) -> str:
    """Return the first word that looks like a version: `... (Open vSwitch) 3.1.0` is `3.1.0`."""
    return next((word for word in text.split() if word[0].isdigit()), "")


def _vswitchd_runs(ovs_rundir: Path) -> bool:
    pid = _text(ovs_rundir / "ovs-vswitchd.pid").strip()
    return pid.isdigit() and Path(f"/proc/{pid}").is_dir()


def listens(path: Path) -> bool:
    """Tell whether someone listens on a Unix stream socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(2)
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def _output(command: Sequence[str], *, errors: bool = False) -> str:
    """Return what a command prints; '' if it is missing, fails (unless `errors`) or hangs."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 or errors else ""


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0
