# SPDX-License-Identifier: Apache-2.0
"""A sandbox leaves nothing behind, however it ends, and disturbs nobody."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from ovs_highway import paths
from ovs_highway.errors import SandboxError
from ovs_highway.lab import Sandbox
from ovs_highway.lab.process import wait_until
from ovs_highway.lab.rundir import sweep

HIGHWAY: Final = [sys.executable, "-m", "ovs_highway.cli"]
SYSTEM_DIRS: Final = ("/run/openvswitch", "/etc/openvswitch", "/var/log/openvswitch")

# Writes the run directory to $1, makes a region file of this sandbox, and goes on with the rest.
NOTE: Final = (
    'printf %s "$HIGHWAY_RUNDIR" > "$1.part" && mv "$1.part" "$1" && touch "/dev/shm/ovs-highway-$('
    'python -c "from ovs_highway import paths; print(paths.region_tag())")-test" && '
)


def processes_of(rundir: Path) -> list[str]:
    """Return the command lines of all processes that belong to a run directory."""
    found = []
    needle = os.fsencode(rundir)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            if needle in line or needle in (entry / "environ").read_bytes():
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def assert_nothing_left(rundir: Path) -> None:
    assert processes_of(rundir) == []
    assert paths.region_files(rundir) == []
    assert not rundir.exists()


def run_sandbox(note: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HIGHWAY, "sandbox", *options, "--", "sh", "-c", NOTE + script, "sh", str(note)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )


def start_sandbox(note: Path, script: str) -> subprocess.Popen[bytes]:
    """Start a sandbox and wait until its command runs."""
    child = subprocess.Popen(
        [*HIGHWAY, "sandbox", "--", "sh", "-c", NOTE + script, "sh", str(note)],
        stdin=subprocess.DEVNULL,
    )
    assert wait_until(lambda: note.exists() or child.poll() is not None, 60)
    assert child.poll() is None
    return child


def test_a_command_talks_to_its_own_switch_and_leaves_nothing(tmp_path: Path) -> None:
    note = tmp_path / "note"
    done = run_sandbox(
        note,
        "ovs-vsctl add-br br0 -- set Bridge br0 datapath_type=netdev && "
        "ovs-ofctl add-flow br0 actions=drop && ovs-ofctl dump-flows br0 && "
        "ovs-appctl dpif/show && highway show && "
        "ovs-vsctl get Open_vSwitch . other_config",
        *("--other-config", "max-idle=12345"),
    )
    assert done.returncode == 0, done.stderr
    assert "actions=drop" in done.stdout
    assert "netdev@ovs-netdev" in done.stdout
    assert 'max-idle="12345"' in done.stdout
    assert 'hw-offload="true"' in done.stdout
    assert_nothing_left(Path(note.read_text()))


def test_the_status_of_a_failing_command_is_passed_on(tmp_path: Path) -> None:
    note = tmp_path / "note"
    done = run_sandbox(note, "exit 7", "--no-offload")
    assert done.returncode == 7, done.stderr
    assert_nothing_left(Path(note.read_text()))


def test_a_command_that_does_not_exist_is_status_127() -> None:
    done = subprocess.run(
        [*HIGHWAY, "sandbox", "--", "no-such-command"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 127
    assert done.stderr.startswith("highway: cannot run no-such-command")


def test_what_a_command_left_running_ends_with_the_sandbox(tmp_path: Path) -> None:
    note = tmp_path / "note"
    done = run_sandbox(note, "{ sleep 600 & } >/dev/null 2>&1")
    assert done.returncode == 0, done.stderr
    assert_nothing_left(Path(note.read_text()))


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_a_signal_takes_everything_down(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    note = tmp_path / "note"
    child = start_sandbox(note, "sleep 600")
    child.send_signal(number)
    assert child.wait(40) == status
    assert_nothing_left(Path(note.read_text()))


def test_a_signal_while_it_starts_takes_everything_down(tmp_path: Path) -> None:
    rundir = Path(f"/run/hw-early-{os.getpid()}")
    child = subprocess.Popen(
        [*HIGHWAY, "sandbox", "--rundir", str(rundir), "--", "sleep", "600"],
        stdin=subprocess.DEVNULL,
    )
    assert wait_until(lambda: (rundir / "ovsdb-server.pid").exists(), 30)
    child.send_signal(signal.SIGINT)
    assert child.wait(40) == 130
    assert_nothing_left(rundir)


def test_a_killed_sandbox_has_no_processes_and_is_swept_later(tmp_path: Path) -> None:
    note = tmp_path / "note"
    child = start_sandbox(note, "exec sleep 3")
    rundir = Path(note.read_text())
    child.kill()
    child.wait()
    assert wait_until(lambda: not processes_of(rundir), 20)
    assert rundir in sweep()
    assert_nothing_left(rundir)


def test_kept_logs_survive() -> None:
    rundir = Path(f"/run/hw-kept-{os.getpid()}")
    with Sandbox(rundir=rundir, keep=True) as sandbox:
        assert sandbox.rundir == rundir
    assert processes_of(rundir) == []
    assert "DPDK Enabled" in (rundir / "ovs-vswitchd.log").read_text()
    with pytest.raises(SandboxError, match="not empty"), Sandbox(rundir=rundir):
        pass
    shutil.rmtree(rundir)


def test_a_path_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    rundir = tmp_path / ("x" * 80)
    with pytest.raises(SandboxError, match="too long"), Sandbox(rundir=rundir):
        pass
    assert not rundir.exists()


def test_two_sandboxes_may_have_bridges_of_one_name() -> None:
    with Sandbox() as one, Sandbox() as two:
        assert one.rundir != two.rundir
        for sandbox in (one, two):
            sandbox.add_bridge("br0")
            sandbox.ofctl(
                "add-flow", "br0", f"cookie={sandbox.daemon('ovs-vswitchd').pid},actions="
            )
        for sandbox in (one, two):
            cookie = f"cookie=0x{sandbox.daemon('ovs-vswitchd').pid:x}"
            assert cookie in sandbox.ofctl("dump-flows", "br0")


def test_a_system_ovs_is_not_touched() -> None:
    def state() -> dict[str, int]:
        found = {}
        for name in SYSTEM_DIRS:
            for path in [Path(name), *Path(name).rglob("*")]:
                with contextlib.suppress(OSError):
                    found[str(path)] = path.lstat().st_mtime_ns
        return found

    def interfaces() -> set[str]:
        return {entry.name for entry in Path("/sys/class/net").iterdir()}

    before = state(), interfaces()
    with Sandbox() as sandbox:
        sandbox.add_bridge("br0")
        during = state(), interfaces()
    assert during == before
    assert (state(), interfaces()) == before


def test_daemons_can_be_restarted_and_killed() -> None:
    with Sandbox() as sandbox:
        sandbox.add_bridge("br0")
        first = sandbox.daemon("ovs-vswitchd").pid
        sandbox.kill_vswitchd()
        sandbox.start_vswitchd()
        sandbox.restart_vswitchd()
        assert sandbox.daemon("ovs-vswitchd").pid != first
        assert "br0" in sandbox.appctl("dpif/show")
        sandbox.kill_highwayd()
        assert not sandbox.daemon("highwayd").alive
        sandbox.start_highwayd()
        sandbox.restart_highwayd()
        assert sandbox.daemon("highwayd").alive
        assert {"highwayd", "ovs-vswitchd", "ovsdb-server"} <= set(sandbox.logs())


def test_a_switch_that_cannot_start_says_why_and_leaves_nothing() -> None:
    rundir = Path(f"/run/hw-bad-{os.getpid()}")
    with (
        pytest.raises(SandboxError, match=r"ovs-vswitchd\.log"),
        Sandbox(rundir=rundir, other_config={"dpdk-extra": "--no-such-option"}),
    ):
        pass
    assert_nothing_left(rundir)


def test_a_port_that_dpdk_refuses_is_an_error_with_its_reason(sandbox: Sandbox) -> None:
    sandbox.add_bridge("br-bad")
    with pytest.raises(SandboxError, match="no_such_driver"):
        sandbox.add_dpdk_port(
            "br-bad", "x", "dpdk", None, "options:dpdk-devargs=net_no_such_driver0"
        )
