# SPDX-License-Identifier: Apache-2.0
"""A private ovs-vswitchd without DPDK, whose bridge `br0` forwards nothing: for OpenFlow only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from ovs_highway.errors import SandboxError
from ovs_highway.lab.process import Process
from ovs_highway.lab.rundir import answers

if TYPE_CHECKING:
    from types import TracebackType

SCHEMA: Final = "/usr/share/openvswitch/vswitch.ovsschema"
PATIENCE: Final = 30.0


class PlainSwitch:
    """A switch with bridge `br0` and its ports `p1` to `p4`, of OVS's `dummy` kind."""

    def __init__(self) -> None:
        self.rundir = Path(tempfile.mkdtemp(prefix="hw-plain-", dir="/run"))
        folder = str(self.rundir)
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        self.env = dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"), folder) | {"PATH": path}
        self._database = self._daemon(
            "ovsdb-server", f"{folder}/conf.db", f"--remote=punix:{folder}/db.sock"
        )
        self._vswitchd = self._daemon(
            "ovs-vswitchd", f"unix:{folder}/db.sock", "--enable-dummy=override", "--disable-system"
        )

    def _daemon(self, name: str, *arguments: str) -> Process:
        options = ["--no-chdir", f"--pidfile={self.rundir}/{name}.pid", "-vconsole:info"]
        log = self.rundir / f"{name}.log"
        return Process(name, [name, *arguments, *options], log=log, env=self.env)

    @property
    def target(self) -> str:
        """Where the bridge speaks OpenFlow."""
        return f"unix:{self.rundir}/br0.mgmt"

    def __enter__(self) -> Self:
        self.run("ovsdb-tool", "create", f"{self.rundir}/conf.db", SCHEMA)
        self._database.start()
        socket = self.rundir / "db.sock"
        self._database.wait_ready(lambda: answers(socket), PATIENCE, what="open its socket")
        self.vsctl("--no-wait", "init")
        self.start()
        self.new_bridge()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._vswitchd.stop()
        self._database.stop()
        shutil.rmtree(self.rundir, ignore_errors=True)

    def start(self) -> None:
        """Start ovs-vswitchd; its bridge, if it had one, is there again."""
        self._vswitchd.start()
        pid = self._vswitchd.pid
        self.vsctl("set", "Open_vSwitch", ".", f"external_ids:test={pid}")  # waits for it

    def kill(self) -> None:
        """End ovs-vswitchd with SIGKILL."""
        self._vswitchd.kill()

    def new_bridge(self, *protocols: str) -> None:
        """Have an empty `br0` that speaks these protocols; none: all that OVS has."""
        setting = f"protocols={','.join(protocols)}" if protocols else "protocols=[]"
        self.vsctl("--if-exists", "del-br", "br0")  # apart, or it would be the same bridge
        command = ["add-br", "br0", "--", "set", "Bridge", "br0"]
        command += ["datapath_type=dummy", "fail_mode=secure", setting]
        for number in range(1, 5):
            command += ["--", "add-port", "br0", f"p{number}", "--", "set", "Interface"]
            command += [f"p{number}", "type=dummy", f"ofport_request={number}"]
        self.vsctl(*command)

    def run(self, *command: str) -> str:
        """Run a program in the switch's environment; return what it prints.

        Raises:
            SandboxError: it failed.
        """
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode != 0:
            raise SandboxError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl."""
        return self.run("ovs-vsctl", f"--db=unix:{self.rundir}/db.sock", "--timeout=20", *arguments)

    def ofctl(self, version: str, command: str, *arguments: str) -> str:
        """Run ovs-ofctl for the bridge, with one OpenFlow version."""
        return self.run("ovs-ofctl", "-O", version, "--no-names", command, "br0", *arguments)

    def appctl(self, *arguments: str) -> str:
        """Run ovs-appctl for ovs-vswitchd."""
        return self.run("ovs-appctl", *arguments)
