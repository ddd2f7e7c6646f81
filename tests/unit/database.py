# SPDX-License-Identifier: Apache-2.0
"""A real ovsdb-server, for tests that are about the database."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 20.0
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"

needs_ovs = pytest.mark.skipif(
    shutil.which("ovsdb-server") is None, reason="ovsdb-server is missing: install openvswitch"
)


class Database:
    """A private ovsdb-server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "conf.db"
        self.process: subprocess.Popen[bytes] | None = None
        subprocess.run(["ovsdb-tool", "create", self.file, SCHEMA], check=True)

    def start(self) -> None:
        socket = self.folder / "db.sock"
        self.process = subprocess.Popen(
            ["ovsdb-server", f"--remote=punix:{socket}", "--unixctl=none", str(self.file)],
            env={**os.environ, "OVS_RUNDIR": str(self.folder)},
            stderr=subprocess.DEVNULL,
        )
        self.vsctl("--retry", "init")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
            self.process = None

    def vsctl(self, *arguments: str) -> None:
        where = f"--db=unix:{self.folder}/db.sock"
        command = ["ovs-vsctl", "--no-wait", f"--timeout={PATIENCE:.0f}", where, *arguments]
        subprocess.run(command, check=True)

    def add_port(self, interface: str, port: str) -> None:
        self.vsctl(
            *("add-port", "br0", interface, "--", "set", "Interface", interface, "type=dpdk"),
            f"options:dpdk-devargs=net_highway_{port},role=switch",
            "external_ids:highway-trust=lab",
        )
