# SPDX-License-Identifier: Apache-2.0
"""Virtual machines of the tests and the demo: QEMU with the guest of `make guest-image`.

KVM where a trial start works, else TCG: then everything works and is counted right, and speed
means nothing.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from ovs_highway import paths
from ovs_highway.errors import SandboxError, SetupError
from ovs_highway.lab.process import Process, tail, wait_until
from ovs_highway.lab.testpmd import PROGRAM, TestPmd
from ovs_highway.lab.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from ovs_highway.lab.sandbox import Sandbox

QEMU: Final = "qemu-system-x86_64"
BOOT_TIMEOUT: Final = 60.0
_TRIES: Final = 2
_SHELL_TIMEOUT: Final = 30.0
_ERRORS: Final = "/tmp/stderr"
# Without the time-stamp counter as its clock a TCG guest asks an emulated device for the time.
KERNEL_OPTIONS: Final = "console=ttyS0 quiet loglevel=3 panic=1 tsc=reliable clocksource=tsc"
_EAL: Final = "--lcores 0@0,1@0 --no-huge -m 48 --no-telemetry"


@functools.cache
def accelerator() -> str:
    """Return `kvm` if a guest starts on it, else `tcg`."""
    if not Path("/dev/kvm").exists():
        return "tcg"
    try:
        with Vm("trial", options=[], directory=Path("/tmp"), accel="kvm"):
            return "kvm"
    except SandboxError:
        return "tcg"


def guest_files() -> tuple[Path, Path]:
    """Return kernel and initramfs of the guest.

    Raises:
        SetupError: they are not built.
    """
    root = paths.checkout()
    found = [root / "build/guest" / name for name in ("vmlinuz", "initramfs")] if root else []
    if not found or not all(path.is_file() for path in found):
        raise SetupError("there is no guest; run 'make guest-image' in the source tree")
    return found[0], found[1]


class Vm:
    """A running guest: `with Vm("vm1", options=vm_options(...), directory=...) as vm:`.

    Args:
        options: QEMU's, as `highway vm args` prints them.
        directory: for its logs and the sockets of its two serial lines. What programs in the guest
            write to standard error is put there at the end: it would cut into their answers, and
            a serial line is slow.
        cores: virtual CPUs; at least two are possible, since else TCG leaves out atomics.
        machine: `pc` or `q35`.
        kernel: further options of the guest's kernel.

    Raises:
        SetupError: on entering: QEMU or the guest is missing.
        SandboxError: on entering: the guest did not come up.
    """

    def __init__(
        self,
        name: str,
        *,
        options: Sequence[str],
        directory: Path,
        cores: int = 1,
        memory: int = 256,
        machine: str = "pc",
        accel: str | None = None,
        kernel: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        image, initramfs = guest_files()
        self.errors = directory / f"{name}.guest.log"
        self._lines = [directory / f"{name}.line{number}" for number in (0, 1)]
        serial = [
            word for path in self._lines for word in ("-serial", f"unix:{path},server=on,wait=off")
        ]
        kind = accel or accelerator()
        self._process = Process(
            f"VM {name}",
            [
                QEMU,
                *("-name", name, "-machine", machine, "-nodefaults", "-no-user-config"),
                *("-accel", "tcg,thread=multi" if kind == "tcg" else kind),
                *("-cpu", "max", "-smp", f"{cores},maxcpus={max(cores, 2)}", "-m", str(memory)),
                *("-display", "none", "-nic", "none"),
                *("-kernel", image, "-initrd", initramfs),
                *("-append", f"{KERNEL_OPTIONS} {kernel}"),
                *serial,
                *options,
            ],
            log=directory / f"{name}.qemu.log",
            env=dict(env or {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}),
        )

    def __enter__(self) -> Self:
        for attempt in range(1, _TRIES + 1):
            self._process.start()
            try:
                self.wait_booted()
            except SandboxError:
                self.kill()
                if attempt == _TRIES or not self._hung():
                    raise
                continue
            except BaseException:
                self.kill()
                raise
            return self
        raise AssertionError

    def _hung(self) -> bool:
        return not tail(self._process.log)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.save_errors()
        self._process.stop(grace=3)

    def save_errors(self) -> None:
        """Put what programs in the guest wrote to standard error into `errors`."""
        with contextlib.suppress(SandboxError, OSError):
            self.errors.write_text(self.shell(f"cat {_ERRORS}", timeout=5, check=False))

    @property
    def process(self) -> Process:
        """QEMU."""
        return self._process

    @property
    def alive(self) -> bool:
        """Whether QEMU runs."""
        return self._process.alive

    @property
    def console(self) -> Path:
        """The socket of the serial line on which programs run."""
        return self._lines[0]

    def kill(self) -> None:
        """End QEMU with SIGKILL."""
        self._process.kill()

    def start(self) -> None:
        """Start the VM again after it has ended."""
        self._process.start()
        self.wait_booted()

    def wait_booted(self) -> None:
        """Wait until both shells answer.

        Raises:
            SandboxError: they do not.
        """
        deadline = time.monotonic() + BOOT_TIMEOUT
        for line in self._lines:
            while True:
                if not self.alive or time.monotonic() > deadline:
                    raise SandboxError(
                        f"VM {self.name} did not come up; its log {self._process.log} ends:"
                        f" {tail(self._process.log)}"
                    )
                with contextlib.suppress(SandboxError, OSError):
                    self._ask(line, "true", timeout=2.0)
                    break
                time.sleep(0.1)

    def shell(self, command: str, *, timeout: float = _SHELL_TIMEOUT, check: bool = True) -> str:
        """Run a command on the second line; return what it prints.

        Raises:
            SandboxError: it failed, unless `check` is False, or did not end in time.
        """
        status, text = self._ask(self._lines[1], command, timeout=timeout)
        if status != 0 and check:
            raise SandboxError(f"VM {self.name}: '{command}' ended with {status}: {text.strip()}")
        return text

    def _ask(self, line: Path, command: str, *, timeout: float) -> tuple[int, str]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout)
            sock.connect(str(line))
            # The mark does not stand in what is typed, so an echo of that is not taken for it.
            mark = f"{time.monotonic_ns()}"
            typed = f"{mark[:3]}''{mark[3:]}"
            sock.sendall(f"\necho @{typed}@; {command}; echo @$?@{typed}@\n".encode())
            text = b""
            deadline = time.monotonic() + timeout
            pattern = re.compile(rf"@{mark}@\s*\n(.*)@(\d+)@{mark}@".encode(), re.DOTALL)
            while (found := pattern.search(text)) is None:
                if time.monotonic() > deadline:
                    raise SandboxError(f"VM {self.name} did not end '{command}'")
                try:
                    data = sock.recv(65536)
                except TimeoutError as error:
                    raise SandboxError(f"VM {self.name} did not answer '{command}'") from error
                if not data:
                    raise SandboxError(f"VM {self.name} has gone")
                text += data
        return int(found[2]), found[1].decode(errors="replace").replace("\r", "")

    def poweroff(self) -> None:
        """Have the guest switch itself off, and wait for it."""
        with contextlib.suppress(SandboxError):
            self.shell("poweroff -f", timeout=3)
        if not wait_until(lambda: not self.alive, 20):
            raise SandboxError(f"VM {self.name} did not switch itself off")

    def reboot(self) -> None:
        """Have the guest start anew; `wait_booted` waits until it is up."""
        with contextlib.suppress(SandboxError, OSError):
            self.shell("reboot -f", timeout=1)

    def ports(self) -> list[str]:
        """Return the PCI addresses of all ivshmem devices that the guest has."""
        text = self.shell("grep -l 0x1110 /sys/bus/pci/devices/*/device", check=False)
        return re.findall(r"devices/([0-9a-f:.]+)/device", text)


def vm_options(sandbox: Sandbox, name: str, *ports: str) -> list[str]:
    """Return QEMU's options for a VM, as `highway vm args` prints them."""
    words = [sys.executable, "-m", "ovs_highway.cli", "vm", "args", "--name", name, *ports]
    done = subprocess.run(words, env=sandbox.env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"highway vm args: {done.stderr.strip()}")
    return shlex.split(done.stdout)


def _in_guest(vm: Vm, devargs: str, words: Sequence[str]) -> list[str]:
    """Return the command that runs a DPDK program in a guest as if it ran here."""
    program, *rest = words
    # Which devices are ports only the guest knows.
    found = f"$(dpdk-args {devargs})" if devargs else ""
    return [
        sys.executable,
        *("-m", "ovs_highway.lab.console", str(vm.console)),
        f"{program} {found} {shlex.join(rest)} 2>>{_ERRORS}",
    ]


class GuestTraffic(Traffic):
    """The program `traffic` in a guest, at all ports that it finds there."""

    def __init__(
        self, vm: Vm, *, env: Mapping[str, str], devargs: str = "idle=sleep", ports: int = 1
    ) -> None:
        super().__init__(vm.name, [""] * ports, env=env)
        self.command_line = _in_guest(
            vm, devargs, ["traffic", *shlex.split(_EAL), "--", "--queues=1:1", "--mbufs=8192"]
        )


class GuestTestPmd(TestPmd):
    """A testpmd in a guest, which finds its ports by itself unless `vdevs` names them.

    Args:
        devargs: for the ports that it finds, such as `idle=yield`; those are then the only ones.
    """

    def __init__(
        self,
        vm: Vm,
        *,
        env: Mapping[str, str],
        vdevs: Sequence[str] = (),
        devargs: str = "",
        forward: str = "io",
        mbufs: int = 8192,
        app_args: Sequence[str] = (),
    ) -> None:
        super().__init__(vm.name, vdevs=vdevs, env=env)
        self._vm = vm
        vdev_args = [word for vdev in vdevs for word in ("--vdev", vdev)]
        words = [*shlex.split(_EAL), *vdev_args, "--", "-i", "--no-mlockall"]
        words += [f"--total-num-mbufs={mbufs}", f"--forward-mode={forward}", *app_args]
        self.command_line = _in_guest(vm, devargs, [PROGRAM, *words])

    def abandon(self) -> None:
        """Let go of a program that has ended with its guest."""
        if self._child is not None:
            self._child.kill()
            self._finish(self._child, grace=0)

    def kill(self) -> None:
        """End the program with SIGKILL, as a crash would."""
        if self._child is None:
            return
        if self._vm.alive:
            with contextlib.suppress(SandboxError, OSError):
                self._vm.shell(f"killall -9 {PROGRAM}", check=False)
        child = self._child
        wait_until(lambda: child.poll() is not None, 5)
        self._finish(child, grace=0)
