# SPDX-License-Identifier: Apache-2.0
"""The guest as a libvirt domain, and the libvirt daemons that run it.

Domains run as libvirt's own user with its DAC labels, as they do for operators.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from ovs_highway.errors import SandboxError
from ovs_highway.lab.process import wait_until
from ovs_highway.lab.vm import KERNEL_OPTIONS, QEMU, Vm, guest_files

if TYPE_CHECKING:
    from types import TracebackType

URI: Final = "qemu:///system"
DAEMONS: Final = ("virtlogd", "libvirtd")


def virsh(*words: str, check: bool = True) -> str:
    """Run virsh; return what it prints."""
    command = ["virsh", "-q", "-c", URI, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0 and check:
        raise SandboxError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def start_daemons() -> list[subprocess.Popen[bytes]]:
    """Start the daemons that do not run; return those, which are the caller's to end."""
    started = []
    if not _answers():
        for name in DAEMONS:
            program = shutil.which(name, path="/usr/sbin:/sbin:/usr/bin")
            if program is None:
                raise SandboxError(f"{name} is missing; run 'make guest-image' as root")
            started.append(subprocess.Popen([program], stderr=subprocess.DEVNULL))
    if not wait_until(_answers, 20):
        raise SandboxError("libvirt does not answer")
    return started


def _answers() -> bool:
    return subprocess.run(["virsh", "-q", "-c", URI, "list"], capture_output=True).returncode == 0


class Domain(Vm):
    """A running domain.

    Args:
        devices: XML of devices, as `highway vm args --libvirt` prints them.
    """

    def __init__(self, name: str, devices: str) -> None:
        # libvirt's user has to reach the files.
        self._folder = Path(tempfile.mkdtemp(prefix="hw-domain-", dir="/run"))
        self._folder.chmod(0o777)
        super().__init__(name, options=[], directory=self._folder)
        self._devices = devices

    def __enter__(self) -> Self:
        for path in guest_files():
            shutil.copy(path, self._folder)
        file = self._folder / "domain.xml"
        file.write_text(self._xml())
        virsh("create", str(file))
        try:
            self.wait_booted()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.save_errors()
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def alive(self) -> bool:
        """Whether the domain runs."""
        return virsh("domstate", self.name, check=False).strip() == "running"

    def kill(self) -> None:
        """End the domain at once."""
        virsh("destroy", self.name, check=False)

    def _xml(self) -> str:
        domain = ET.Element("domain", type="qemu")
        ET.SubElement(domain, "name").text = self.name
        ET.SubElement(domain, "memory", unit="M").text = "256"
        ET.SubElement(domain, "vcpu").text = "2"
        system = ET.SubElement(domain, "os")
        ET.SubElement(system, "type", arch="x86_64", machine="pc").text = "hvm"
        for tag, path in zip(("kernel", "initrd"), guest_files(), strict=True):
            ET.SubElement(system, tag).text = str(self._folder / path.name)
        ET.SubElement(system, "cmdline").text = KERNEL_OPTIONS
        ET.SubElement(ET.SubElement(domain, "features"), "acpi")
        ET.SubElement(domain, "cpu", mode="maximum")
        devices = ET.SubElement(domain, "devices")
        ET.SubElement(devices, "emulator").text = shutil.which(QEMU)
        ET.SubElement(devices, "controller", type="usb", model="none")
        ET.SubElement(devices, "memballoon", model="none")
        for number, path in enumerate(self._lines):
            serial = ET.SubElement(devices, "serial", type="unix")
            ET.SubElement(serial, "source", path=str(path), mode="bind")
            ET.SubElement(serial, "target", port=str(number))
        devices.extend(ET.fromstring(f"<devices>{self._devices}</devices>"))
        return ET.tostring(domain, encoding="unicode")
