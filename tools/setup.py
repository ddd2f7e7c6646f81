#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Set up this machine and this checkout: packages, huge pages, headers, build, Python.

Called by the Makefile, with the standard library only. Every step looks first whether there is
anything to do, says what it does in one line, and stops with one line that says what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

import driver_sdk
import guest_image
import install
from steps import (
    BUILD,
    PLUGIN,
    ROOT,
    StepError,
    digest,
    dpdk_version,
    is_root,
    run,
    say,
    stamp_matches,
    write_stamp,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES: Final = (
    "ca-certificates",
    "dpdk",
    "dpdk-dev",
    "gcc",
    "libatomic1",
    "libc6-dev",
    "libdpdk-dev",
    "meson",
    "ninja-build",
    "openvswitch-switch",
    "openvswitch-switch-dpdk",
    "pkg-config",
    "python3",
    "python3-venv",
    "spin",
)
VM_PACKAGES: Final = (
    "apparmor",
    "busybox-static",
    "cpio",
    "libvirt-clients",
    "libvirt-daemon-system",
    "qemu-system-x86",
)
FUZZ_PACKAGES: Final = (
    "clang",
    "libclang-rt-dev",
    "llvm",
)
HUGEPAGES: Final = 1536
HUGE_MOUNT: Final = Path("/dev/hugepages")
HUGE_COUNT: Final = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
POLICY: Final = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT: Final = """#!/bin/sh
# Put here by ovs-highway while it installs packages, and removed afterwards.
case "$1" in
openvswitch* | ovs* | dpdk* | libvirt* | virt*) exit 101 ;;
esac
exit 0
"""


def packages(wanted: tuple[str, ...] = PACKAGES) -> None:
    """Install the Debian packages that are missing, without starting services of theirs."""
    if shutil.which("dpkg-query") is None:
        say("packages", f"this is not Debian; make sure of the likes of {', '.join(wanted)}")
        return
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    present = {
        words[0]
        for line in answer.stdout.splitlines()
        if (words := line.split())[1:] == ["installed"]
    }
    missing = [name for name in wanted if name not in present]
    if not missing:
        return
    if not is_root():
        raise StepError(
            f"packages are missing: run as root, or apt-get install {' '.join(missing)}"
        )
    say("packages", f"installing {' '.join(missing)}")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    lock = "-oDPkg::Lock::Timeout=300"
    subprocess.run(
        ["apt-get", "-qq", lock, "update"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    command = ["apt-get", "-qq", lock, "install", "-y", "--no-install-recommends", *missing]
    with _services_kept_down():
        run(
            command,
            doing="installing packages",
            env=env,
            hint="check the network and apt's sources",
        )
    if "openvswitch-switch" in missing and Path("/run/systemd/system").is_dir():
        units = ["openvswitch-switch", "ovs-vswitchd", "ovsdb-server"]
        subprocess.run(["systemctl", "disable", "-q", *units], capture_output=True, check=False)
        say(
            "packages",
            "the system's Open vSwitch is off; 'systemctl enable --now"
            " openvswitch-switch' starts it",
        )


@contextmanager
def _services_kept_down() -> Iterator[None]:
    """Have invoke-rc.d start no Open vSwitch while packages are being installed."""
    saved = POLICY.with_name(POLICY.name + ".ovs-highway-saved")
    if saved.exists():
        os.replace(saved, POLICY)
    if POLICY.exists():
        denies = subprocess.run([POLICY, "openvswitch-switch", "start"], check=False)
        if denies.returncode == 101:
            yield
            return
        os.replace(POLICY, saved)
    POLICY.write_text(POLICY_TEXT)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
        if saved.exists():
            os.replace(saved, POLICY)


def hugepages() -> None:
    """Mount hugetlbfs and raise the number of 2 MiB huge pages to what tests and demo need."""
    need = int(os.environ.get("HIGHWAY_HUGEPAGES", HUGEPAGES))
    try:
        have = int(HUGE_COUNT.read_text())
    except OSError as error:
        raise StepError("this kernel has no 2 MiB huge pages; use one that has") from error
    if have < need:
        if not is_root():
            raise StepError(f"{have} of {need} huge pages of 2 MiB; run as root to raise them")
        _raise_hugepages(have, need)
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    if any(mount[1] == str(HUGE_MOUNT) and mount[2] == "hugetlbfs" for mount in mounts):
        return
    if not is_root():
        raise StepError(f"no hugetlbfs on {HUGE_MOUNT}; run as root to mount it")
    say("huge pages", f"mounting hugetlbfs on {HUGE_MOUNT}")
    HUGE_MOUNT.mkdir(exist_ok=True)
    command = ["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "hugetlbfs", str(HUGE_MOUNT)]
    run(command, doing="mounting hugetlbfs", hint="mount it on the host")


def _raise_hugepages(have: int, need: int) -> None:
    """Raise the number of huge pages, or leave it as it was.

    Raises:
        StepError: there is too little memory, or this is a container that may not.
    """
    advice = f"free some memory, or boot with hugepages={need}"
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(meminfo["MemAvailable"].split()[0]) // 2048
    if available < need - have:
        raise StepError(
            f"{have} of {need} huge pages of 2 MiB, and memory for {available} more; {advice}"
        )
    say("huge pages", f"raising their number from {have} to {need} (2 MiB each)")
    try:
        for _ in range(3):
            HUGE_COUNT.write_text(str(need))
            got = int(HUGE_COUNT.read_text())
            if got >= need:
                return
            for knob in ("drop_caches", "compact_memory"):
                Path("/proc/sys/vm", knob).write_text("1")
            time.sleep(0.5)
        HUGE_COUNT.write_text(str(have))
    except OSError as error:
        raise StepError(
            f"{have} of {need} huge pages, and no more to be had from here ({error.strerror});"
            f" on the host: sysctl vm.nr_hugepages={need}"
        ) from error
    raise StepError(f"only {got} of {need} huge pages of 2 MiB can be had; {advice}")


def build() -> None:
    """Configure and build what is written in C."""
    before = _mtime(PLUGIN)
    _compile(BUILD / "meson")
    if _mtime(PLUGIN) != before:
        say("build", f"built {PLUGIN.relative_to(ROOT)}")


def _compile(folder: Path, *options: str, target: str = "all", compiler: str = "cc") -> None:
    """Configure a build folder if that was not done yet, and build in it."""
    sdk = driver_sdk.ensure()
    stamp, key = folder / ".configured", digest(dpdk_version(), str(sdk), str(ROOT))
    if not stamp_matches(stamp, key) or not (folder / "build.ninja").exists():
        say("build", f"configuring {folder.relative_to(ROOT)} for DPDK {dpdk_version()}")
        shutil.rmtree(folder, ignore_errors=True)
        command = ["meson", "setup", str(folder), str(ROOT), f"-Ddpdk_sdk={sdk}", *options]
        run(
            command,
            doing="configuring the build",
            hint=f"see {folder}/meson-logs/meson-log.txt",
            env={"CC": compiler} if compiler != "cc" else {},
        )
        write_stamp(stamp, key)
    output = run(["ninja", "-C", folder, target], doing="compiling")
    for line in output.splitlines():
        if "warning:" in line:
            print(f"    {line}", file=sys.stderr)


def _mtime(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def venv() -> None:
    """Make .venv with this package, as an editable install, and everything its tests need."""
    target = ROOT / ".venv"
    python = digest(sys.executable, sys.version, str(ROOT))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    key = digest(python, repr(project["build-system"]), repr(project["project"]))
    if stamp_matches(target / ".complete", key):
        return
    if not stamp_matches(target / ".python", python):
        say("python", f"making .venv with Python {sys.version.split()[0]}")
        run(
            [sys.executable, "-m", "venv", "--clear", target],
            doing="making .venv",
            hint="as root: apt-get install python3-venv",
        )
        write_stamp(target / ".python", python)
    say("python", "installing this package and what it needs into .venv")
    run(
        [target / "bin/python", "-m", "pip", "install", "-q", "-e", ".[dev]"],
        doing="installing Python packages",
        hint="check that pip reaches its package index",
    )
    controllers(target, project["project"]["optional-dependencies"]["controllers"])
    write_stamp(target / ".complete", key)


def controllers(venv: Path, requirements: list[str]) -> None:
    """Install the OpenFlow controllers of the tests into a folder that only they look into.

    Package ovs, which highwayd uses, behaves differently beside eventlet, which they need.
    """
    folder = venv / "controllers"
    shutil.rmtree(folder, ignore_errors=True)
    run(
        [venv / "bin/python", "-m", "pip", "install", "-q", "--target", folder, *requirements],
        doing="installing OpenFlow controllers",
        hint="check that pip reaches its package index",
    )


def everything() -> None:
    """Do whatever demo and tests need."""
    if not is_root():
        raise StepError("this needs root, for DPDK's huge pages; run it as root")
    started = time.monotonic()
    for step in (packages, hugepages, build, venv):
        step()
    if (took := time.monotonic() - started) > 3:
        say("setup", f"done in {took:.0f} s")


def build_only() -> None:
    """Build, with the packages it takes."""
    packages()
    build()


def install_all() -> None:
    """Put the driver and the tools into the system."""
    if not is_root():
        raise StepError("installing needs root; run 'make install' as root")
    build_only()
    install.install()


def guest() -> None:
    """Build the guest of the VM tests and the demo."""
    build_only()
    packages(VM_PACKAGES)
    guest_image.ensure()


def fuzzers() -> None:
    """Build the fuzzers, which takes a compiler of their own."""
    build_only()
    packages(FUZZ_PACKAGES)
    _compile(BUILD / "fuzz", "-Dfuzz=true", target="fuzzers", compiler="clang")


def python_only() -> None:
    """Make the Python environment only."""
    if is_root():
        packages()
    venv()


STEPS: Final = {
    "all": everything,
    "build": build_only,
    "venv": python_only,
    "guest-image": guest,
    "fuzzers": fuzzers,
    "hugepages": hugepages,
    "install": install_all,
    "uninstall": install.uninstall,
}


def main(arguments: list[str]) -> int:
    """Carry out one step by name; return the exit status."""
    if len(arguments) != 1 or arguments[0] not in STEPS:
        print(f"usage: setup.py {'|'.join(STEPS)}", file=sys.stderr)
        return 2
    try:
        STEPS[arguments[0]]()
    except StepError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
