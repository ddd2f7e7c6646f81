# SPDX-License-Identifier: Apache-2.0
"""A libvirt domain, by virsh: libvirt owns its QEMU's monitor, so nobody else may speak to it.

virsh and not the Python binding, which is a compiled module outside of this package's environment
and blocks; each call here is a process of some 20 ms that cannot take highwayd down with it. What
libvirt does not report as an event is looked for twice a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ovs_highway.errors import VmError
from ovs_highway.hypervisor.base import Bus, DeviceId, Hypervisor, Kind, Watcher
from ovs_highway.vms import SERIAL_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHM: Final = Path("/dev/shm")
_USER_ALIAS: Final = "ua-"
_LOOK: Final = 0.5
_ANSWER: Final = 20.0
_DAC: Final = re.compile(r"\+?(\d+):\+?(\d+)")


def shmem_xml(device: DeviceId, name: str, size: int) -> str:
    """Return the XML of a device whose memory is the file `name` of /dev/shm, of `size` bytes."""
    shmem = ET.Element("shmem", name=name)
    ET.SubElement(shmem, "model", type="ivshmem-plain")
    ET.SubElement(shmem, "size", unit="M").text = str(size >> 20)
    ET.SubElement(shmem, "alias", name=f"{_USER_ALIAS}{device}")
    ET.indent(shmem)
    return ET.tostring(shmem, encoding="unicode")


def channel_xml() -> str:
    """Return the XML of the control channel, whose socket libvirt chooses."""
    channel = ET.Element("channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name=SERIAL_NAME)
    ET.indent(channel)
    return ET.tostring(channel, encoding="unicode")


def _channel(root: ET.Element) -> ET.Element | None:
    for channel in root.iterfind("./devices/channel"):
        target = channel.find("target")
        if target is not None and target.get("name") == SERIAL_NAME:
            return channel
    return None


class LibvirtDomain(Hypervisor):
    """One domain of one libvirt."""

    def __init__(self, name: str, domain: str, uri: str) -> None:
        self._name = name
        self._domain = domain
        self._uri = uri
        self._known: set[DeviceId] = set()
        self._id = ""

    async def _virsh(self, *words: str) -> str:
        virsh = shutil.which("virsh")
        if virsh is None:
            raise VmError("virsh is missing; as root: apt-get install libvirt-clients")
        command = [virsh, "-q", "-c", self._uri, *words]
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
        )
        try:
            async with asyncio.timeout(_ANSWER):
                out, err = await child.communicate()
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            if isinstance(error, TimeoutError):
                raise VmError(f"VM {self._name}: libvirt did not answer '{words[0]}'") from error
            raise
        if child.returncode != 0:
            text = " ".join(err.decode(errors="replace").split()).removeprefix("error: ")
            raise VmError(f"VM {self._name}: libvirt refuses {words[0]}: {text}")
        return out.decode(errors="replace")

    async def describe(self) -> ET.Element:
        """Return the domain's XML as it runs.

        Raises:
            VmError: there is no such domain, or it does not run.
        """
        root = ET.fromstring(await self._virsh("dumpxml", self._domain))
        if root.get("id") is None:
            raise VmError(f"VM {self._name}: libvirt's domain {self._domain} does not run")
        return root

    async def prepare(self, path: Path) -> None:
        """Let the user as whom libvirt starts QEMU open a region."""
        root = ET.fromstring(await self._virsh("capabilities"))
        label = root.find("./host/secmodel[model='dac']/baselabel")
        self._give(path, "" if label is None else label.text or "")

    async def connect(self) -> None:
        """See that the domain runs."""
        self._id = (await self.describe()).get("id", "")
        self._known = set()

    async def follow(self, watcher: Watcher) -> None:
        """Look twice a second until the domain has ended, or was started anew."""
        present = await self.program_present()
        while True:
            await asyncio.sleep(_LOOK)
            before = set(self._known)
            root = await self.describe()
            if root.get("id") != self._id:
                return
            for device in before - set(_devices(root)):
                self._known.discard(device)
                watcher.unplugged(device)
            if _connected(root) != present:
                present = not present
                watcher.program(present)

    async def close(self) -> None:
        """Nothing is open."""

    async def devices(self) -> list[DeviceId]:
        """Return what is plugged."""
        found = _devices(await self.describe())
        self._known = set(found)
        return found

    async def buses(self) -> list[Bus]:
        """Return nothing: libvirt keeps the books, and names the reason when there is no room."""
        return []

    async def program_present(self) -> bool:
        """Tell whether the guest has the control channel open, as libvirt has heard."""
        return _connected(await self.describe())

    async def control_path(self) -> str | None:
        """Return the socket that libvirt has chosen."""
        channel = _channel(await self.describe())
        source = None if channel is None else channel.find("source")
        if source is None:
            raise VmError(
                f"VM {self._name}: its domain has no channel {SERIAL_NAME};"
                " 'highway vm args --libvirt' prints it"
            )
        return source.get("path")

    async def plug(self, device: DeviceId, path: Path, size: int, bus: str | None) -> None:
        """Attach a region, which has to lie in /dev/shm, since that is all that libvirt takes."""
        if path.parent != _SHM:
            fix = "; add the port with memory=shm" if device.kind is Kind.PORT else ""
            raise VmError(f"VM {self._name}: libvirt takes regions in {_SHM} only, not {path}{fix}")
        await self._allow(path)
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(shmem_xml(device, path.name, size))
            file.flush()
            await self._virsh("attach-device", self._domain, file.name, "--live")
        self._known.add(device)

    async def _allow(self, path: Path) -> None:
        """Let the domain's QEMU, which is another user's, open a region: by the file's group."""
        for label in (await self.describe()).iterfind("./seclabel[@model='dac']/label"):
            self._give(path, label.text or "")

    def _give(self, path: Path, label: str) -> None:
        match = _DAC.fullmatch(label)
        if match is None or int(match[1]) == 0:
            return
        try:
            os.chown(path, -1, int(match[2]))
            os.chmod(path, 0o660)
        except OSError as error:
            raise VmError(
                f"VM {self._name}: cannot let its QEMU open {path}: {error.strerror}"
            ) from error

    async def unplug(self, device: DeviceId) -> bool:
        """Ask the guest to let go; the next look tells whether it has."""
        try:
            alias = f"{_USER_ALIAS}{device}"
            await self._virsh("detach-device-alias", self._domain, alias, "--live")
        except VmError as error:
            gone = device not in _devices(await self.describe())
            if not gone and "process of unplug" not in str(error):
                raise
            if gone:
                self._known.discard(device)
            return gone
        return False

    async def migration_blockers(self) -> list[str]:
        """Return QEMU's reasons."""
        answer = await self._virsh(
            "qemu-monitor-command", self._domain, '{"execute": "query-migrate"}'
        )
        reasons: Sequence[object] = json.loads(answer)["return"].get("blocked-reasons", [])
        return [str(reason) for reason in reasons]


def _devices(root: ET.Element) -> list[DeviceId]:
    found = []
    for alias in root.iterfind("./devices/shmem/alias"):
        name = alias.get("name", "")
        device = DeviceId.parse(name.removeprefix(_USER_ALIAS))
        if device is not None and name.startswith(_USER_ALIAS):
            found.append(device)
    return found


def _connected(root: ET.Element) -> bool:
    channel = _channel(root)
    target = None if channel is None else channel.find("target")
    return target is not None and target.get("state") == "connected"
