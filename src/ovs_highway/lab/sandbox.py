# SPDX-License-Identifier: Apache-2.0
"""A private Open vSwitch with DPDK, the driver and highwayd, in a run directory of its own.

ovs-vswitchd runs in a network namespace of its own: the userspace datapath makes tap devices
with fixed names (`ovs-netdev` and one per bridge), which would meet those of a system OVS or of
another sandbox. Everything else it uses are Unix sockets, which namespaces do not hide.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

from ovs_highway import paths
from ovs_highway.errors import SandboxError, SetupError
from ovs_highway.lab.process import GRACE, Process, tail, wait_until
from ovs_highway.lab.rundir import BASE, PREFIX, answers, claim, clean_up, sweep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

TRUST: Final = "sandbox"
START_TIMEOUT: Final = 30.0
_MEMORY: Final = 512
_SOCKET_PATH_MAX: Final = 107
_LONGEST_NAME: Final = 60
_VSWITCHDS: Final = (
    "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk",
    "/usr/local/sbin/ovs-vswitchd",
    "/usr/sbin/ovs-vswitchd",
)
_SCHEMAS: Final = (
    "/usr/share/openvswitch/vswitch.ovsschema",
    "/usr/local/share/openvswitch/vswitch.ovsschema",
)


def last_core() -> int:
    """Return the highest core that this process may run on."""
    return max(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """How a sandbox is to be set up.

    `pmd_cpu_mask` is OVS's (hexadecimal, None for the last core), `socket_mem` is in MiB,
    `plugin` None leaves the driver out, `rundir` None makes a directory below /run. `pci` are the
    addresses of network cards that the switch takes; without any it probes no PCI device.
    """

    pmd_cpu_mask: str | None = None
    socket_mem: int = _MEMORY
    offload: bool = True
    keep: bool = False
    highwayd: bool = True
    other_config: Mapping[str, str] = field(default_factory=dict)
    rundir: Path | None = None
    plugin: Path | None = None
    pci: Sequence[str] = ()

    def database(self, prefix: str) -> dict[str, str]:
        """Return the `other_config` of the switch; `prefix` names its DPDK process."""
        mask = self.pmd_cpu_mask or f"{1 << last_core():x}"
        cards = " ".join(f"-a {address}" for address in self.pci) or "--no-pci"
        extra = f"{cards} --in-memory --no-telemetry --file-prefix={prefix}"
        if self.plugin is not None:
            extra += f" -d {self.plugin}"
        config = {
            "dpdk-init": "true",
            "dpdk-extra": extra,
            "dpdk-socket-mem": str(self.socket_mem),
            "hw-offload": "true" if self.offload else "false",
            "pmd-cpu-mask": mask if mask.startswith("0x") else f"0x{mask}",
        }
        given = dict(self.other_config)
        if "dpdk-extra" in given:
            given["dpdk-extra"] = f"{extra} {given['dpdk-extra']}"
        return config | given


def find_vswitchd() -> Path:
    """Return an ovs-vswitchd that was built with DPDK.

    Raises:
        SetupError: there is none.
    """
    found = [Path(name) for name in _VSWITCHDS]
    on_path = shutil.which("ovs-vswitchd")
    if on_path is not None:
        found.append(Path(on_path).resolve())
    for program in found:
        if not program.is_file():
            continue
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        if "DPDK" in answer.stdout:
            return program
    raise SetupError(
        "there is no ovs-vswitchd with DPDK; as root: apt-get install openvswitch-switch-dpdk"
    )


def check_plugin(plugin: Path) -> None:
    """Check that DPDK will accept a plugin (eal_common_options.c, verify_perms).

    Raises:
        SetupError: it is missing, or below a folder that everybody may write to.
    """
    if not plugin.is_file():
        raise SetupError(f"the driver {plugin} is missing; run 'make build'")
    for folder in plugin.resolve().parents:
        if folder.stat().st_mode & stat.S_IWOTH:
            raise SetupError(
                f"DPDK refuses plugins below {folder}, which everybody may write to; move the"
                " source tree, or name a copy elsewhere with HIGHWAY_PLUGIN"
            )


class Sandbox:
    """A switch of one's own: `with Sandbox() as sandbox: sandbox.add_bridge("br0")`.

    By default the driver is the one of `paths.plugin()`; `plugin=None` leaves it out.

    Raises:
        SetupError: on entering: the machine lacks something.
        SandboxError: on entering: a daemon did not start.
    """

    live: ClassVar[set[Sandbox]] = set()

    def __init__(
        self,
        *,
        pmd_cpu_mask: str | None = None,
        socket_mem: int = _MEMORY,
        offload: bool = True,
        keep: bool = False,
        highwayd: bool = True,
        other_config: Mapping[str, str] | None = None,
        rundir: Path | None = None,
        plugin: Path | str | None = "auto",
        pci: Sequence[str] = (),
    ) -> None:
        self.options = SandboxOptions(
            pmd_cpu_mask=pmd_cpu_mask,
            socket_mem=socket_mem,
            offload=offload,
            keep=keep,
            highwayd=highwayd,
            other_config=other_config or {},
            rundir=rundir,
            plugin=paths.plugin() if plugin == "auto" else Path(plugin) if plugin else None,
            pci=tuple(pci),
        )
        self._rundir: Path | None = None
        self._made_rundir = False
        self._closed = False
        self._daemons: dict[str, Process] = {}

    @property
    def rundir(self) -> Path:
        """The run directory of switch and highwayd.

        Raises:
            SandboxError: the sandbox has not been entered.
        """
        if self._rundir is None:
            raise SandboxError("the sandbox is not started; use it in a 'with' statement")
        return self._rundir

    @property
    def env(self) -> dict[str, str]:
        """The environment in which plain `ovs-vsctl`, `highway` and so on talk to this switch."""
        directory = str(self.rundir)
        here = str(Path(sys.executable).parent)
        rest = os.environ.get("PATH", os.defpath)
        env = {
            **os.environ,
            "OVS_RUNDIR": directory,
            "OVS_DBDIR": directory,
            "OVS_LOGDIR": directory,
            "HIGHWAY_RUNDIR": directory,
            "PATH": f"{here}{os.pathsep}{rest}{os.pathsep}/usr/sbin{os.pathsep}/sbin",
        }
        if self.options.plugin is not None:
            env["HIGHWAY_PLUGIN"] = str(self.options.plugin)
        return env

    @property
    def plugin(self) -> Path | None:
        """The driver plugin that the switch was started with."""
        return self.options.plugin

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise SetupError("a sandbox needs root, for huge pages and DPDK; run it as root")
        if self.options.plugin is not None:
            check_plugin(self.options.plugin)
        sweep()
        self._make_rundir()
        self.live.add(self)
        try:
            self._start()
        except BaseException:
            self.close(failed=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _make_rundir(self) -> None:
        if self.options.rundir is None:
            self._rundir = Path(tempfile.mkdtemp(prefix=PREFIX, dir=BASE))
            self._made_rundir = True
        else:
            self._rundir = self.options.rundir.resolve()
            self._made_rundir = not self._rundir.exists()
            self._rundir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(self._rundir.iterdir()):
                raise SandboxError(f"{self._rundir} is not empty; name another run directory")
        if len(str(self._rundir)) + _LONGEST_NAME > _SOCKET_PATH_MAX:
            too_long = self._rundir
            if self._made_rundir:
                too_long.rmdir()
            raise SandboxError(f"{too_long} is too long for Unix sockets; name a shorter one")
        claim(self._rundir, os.getpid())

    def _start(self) -> None:
        directory = self.rundir
        vswitchd = find_vswitchd()
        schema = next((name for name in _SCHEMAS if Path(name).is_file()), None)
        if schema is None:
            raise SetupError("vswitch.ovsschema is missing; install openvswitch-switch")
        self._run("ovsdb-tool", "create", str(directory / "conf.db"), schema)
        database = self._daemon(
            "ovsdb-server",
            "ovsdb-server",
            str(directory / "conf.db"),
            f"--remote=punix:{directory}/db.sock",
            "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
        )
        database.start()
        database.wait_ready(
            lambda: answers(directory / "db.sock"), START_TIMEOUT, what="open its socket"
        )
        self.vsctl("--no-wait", "init")
        config = self.options.database(directory.name)
        settings = [f"other_config:{key}={_quoted(value)}" for key, value in config.items()]
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".", *settings)
        # Debian calls it ovs-vswitchd-dpdk, and the name is part of where ovs-appctl looks for it.
        program = directory / "ovs-vswitchd"
        program.symlink_to(vswitchd)
        self._daemon("ovs-vswitchd", *_IN_NAMESPACE, str(program), f"unix:{directory}/db.sock")
        if self.options.highwayd:
            self._daemons["highwayd"] = Process(
                "highwayd",
                [sys.executable, "-m", "ovs_highway.agent.daemon", "--rundir", directory],
                log=directory / "highwayd.log",
                env=self.env,
            )
            self.start_highwayd()
        self.start_vswitchd()

    def _daemon(self, name: str, *command: str) -> Process:
        directory = self.rundir
        log = directory / f"{name}.log"
        arguments = [
            *command,
            "--no-chdir",
            f"--pidfile={directory}/{name}.pid",
            f"--log-file={log}",
            "-vconsole:off",
        ]
        daemon = Process(name, arguments, log=log, env=self.env)
        self._daemons[name] = daemon
        return daemon

    def close(self, *, failed: bool = False) -> None:
        """End all processes; remove the region files, and the run directory unless kept.

        After a failed start the run directory is removed too: the error carries the log's end.
        The logs are copied to a folder of `HIGHWAY_LOG_ARCHIVE` first, if that is set.
        """
        if self._closed or self._rundir is None:
            return
        self._closed = True
        self.live.discard(self)
        for name in ("highwayd", "ovs-vswitchd", "ovsdb-server"):
            if name in self._daemons:
                self._daemons[name].stop()
        directory = self._rundir
        archive = os.environ.get("HIGHWAY_LOG_ARCHIVE")
        if archive:
            self.save_logs(Path(archive) / directory.name)
        clean_up(directory, keep=self.options.keep and not failed, made=self._made_rundir)

    def daemon(self, name: str) -> Process:
        """Return one of the daemons: `ovsdb-server`, `ovs-vswitchd` or `highwayd`.

        Raises:
            SandboxError: this sandbox has no such daemon.
        """
        try:
            return self._daemons[name]
        except KeyError as error:
            raise SandboxError(f"this sandbox has no {name}; start it with one") from error

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd and wait until DPDK is up.

        Raises:
            SandboxError: it did not start.
        """
        daemon = self.daemon("ovs-vswitchd")
        self.vsctl("--no-wait", "clear", "Open_vSwitch", ".", "dpdk_version")
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "dpdk_initialized=false")
        daemon.start()
        daemon.wait_ready(self._dpdk_is_up, START_TIMEOUT, what="initialise DPDK")

    def _dpdk_is_up(self) -> bool:
        get = ["--no-wait", "get", "Open_vSwitch", ".", "dpdk_initialized"]
        return self.vsctl(*get).strip() == "true"

    def stop_vswitchd(self) -> None:
        """End ovs-vswitchd in an orderly way, which SIGTERM is not: it closes its ports first."""
        daemon = self.daemon("ovs-vswitchd")
        if daemon.alive:
            with contextlib.suppress(SandboxError):
                self.appctl("exit")
            wait_until(lambda: not daemon.alive, GRACE)
        daemon.stop()

    def kill_vswitchd(self) -> None:
        """End ovs-vswitchd with SIGKILL."""
        self.daemon("ovs-vswitchd").kill()

    def restart_vswitchd(self) -> None:
        """End ovs-vswitchd in an orderly way and start it again."""
        self.stop_vswitchd()
        self.start_vswitchd()

    def start_highwayd(self) -> None:
        """Start highwayd and wait until it answers.

        Raises:
            SandboxError: it did not start.
        """
        daemon = self.daemon("highwayd")
        daemon.start()
        control = paths.control_socket(self.rundir)
        daemon.wait_ready(lambda: answers(control), START_TIMEOUT, what="open its socket")

    def stop_highwayd(self) -> None:
        """End highwayd in an orderly way."""
        self.daemon("highwayd").stop()

    def kill_highwayd(self) -> None:
        """End highwayd with SIGKILL."""
        self.daemon("highwayd").kill()

    def restart_highwayd(self) -> None:
        """End highwayd in an orderly way and start it again."""
        self.stop_highwayd()
        self.start_highwayd()

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl; return what it prints.

        Raises:
            SandboxError: it failed, or ovs-vswitchd did not carry it out in 20 s.
        """
        return self._run("ovs-vsctl", "--timeout=20", *arguments)

    def ofctl(self, *arguments: str) -> str:
        """Run ovs-ofctl; return what it prints.

        Raises:
            SandboxError: it failed.
        """
        return self._run("ovs-ofctl", "--timeout=20", *arguments)

    def appctl(self, *arguments: str) -> str:
        """Run ovs-appctl against ovs-vswitchd; return what it prints.

        Raises:
            SandboxError: it failed.
        """
        return self._run("ovs-appctl", "--timeout=20", *arguments)

    def add_bridge(
        self,
        name: str = "br0",
        *,
        fail_mode: str = "secure",
        protocols: str = "OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15",
        **other_config: str,
    ) -> None:
        """Add a userspace bridge; without flows unless `fail_mode` is `standalone`."""
        config = [f"other_config:{_dashed(key)}={value}" for key, value in other_config.items()]
        columns = ["datapath_type=netdev", f"fail_mode={fail_mode}", f"protocols={protocols}"]
        self.vsctl("add-br", name, "--", "set", "Bridge", name, *columns, *config)

    def add_port(
        self, bridge: str, port: str, ofport: int | None = None, **devargs: str | int
    ) -> int:
        """Add a highway port and return its OpenFlow port number.

        `devargs` are further options of the driver, with `_` for `-`: `ring_size=4096`.

        Raises:
            SandboxError: OVS could not add it; the message has OVS's reason.
        """
        extra = "".join(f",{_dashed(key)}={value}" for key, value in devargs.items())
        options = [f'options:dpdk-devargs="net_highway_{port},role=switch{extra}"']
        options.append(f"external_ids:highway-trust={TRUST}")
        return self.add_dpdk_port(bridge, port, "dpdk", ofport, *options)

    def add_dpdk_port(
        self, bridge: str, port: str, kind: str, ofport: int | None = None, *columns: str
    ) -> int:
        """Add a port of any interface type and return its OpenFlow port number.

        Raises:
            SandboxError: OVS could not add it; the message has OVS's reason.
        """
        request = [] if ofport is None else [f"ofport_request={ofport}"]
        self.vsctl(
            *("add-port", bridge, port, "--"),
            *("set", "Interface", port, f"type={kind}", *request, *columns),
        )
        number = self.vsctl("get", "Interface", port, "ofport").strip()
        if not number.isdigit():
            reason = self.vsctl("get", "Interface", port, "error").strip().strip('"')
            log = self.daemon("ovs-vswitchd").log
            raise SandboxError(f"OVS could not add port {port}: {reason}; its log: {tail(log, 6)}")
        return int(number)

    def del_port(self, bridge: str, port: str) -> None:
        """Remove a port from its bridge."""
        self.vsctl("del-port", bridge, port)

    def logs(self) -> dict[str, Path]:
        """Return the log file of each daemon and VNF, by name."""
        return {path.stem: path for path in sorted(self.rundir.glob("*.log"))}

    def save_logs(self, target: Path) -> None:
        """Copy all logs to a folder, which is made if need be."""
        target.mkdir(parents=True, exist_ok=True)
        for log in self.logs().values():
            shutil.copy(log, target)

    def in_namespace(self, *command: str) -> list[str]:
        """Return a command line that runs in the network namespace of ovs-vswitchd."""
        return ["nsenter", f"--net=/proc/{self.daemon('ovs-vswitchd').pid}/ns/net", *command]

    def _run(self, *command: str) -> str:
        try:
            done = subprocess.run(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except FileNotFoundError as error:
            raise SetupError(f"{command[0]} is missing; run 'make setup' as root") from error
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"'{' '.join(command)}' did not end; see the logs") from error
        if done.returncode != 0:
            reason = " | ".join(done.stderr.strip().splitlines()) or f"status {done.returncode}"
            raise SandboxError(f"'{' '.join(command)}' failed: {reason}")
        return done.stdout


_IN_NAMESPACE: Final = ("unshare", "--net", "--")


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _quoted(value: str) -> str:
    """Quote a value for ovs-vsctl, where it needs to be."""
    if re.fullmatch(r"[\w.-]+", value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
