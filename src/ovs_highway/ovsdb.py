# SPDX-License-Identifier: Apache-2.0
"""What highwayd needs of the Open_vSwitch database, as immutable snapshots.

`ovs.db.idl.Idl` runs in a thread of its own and reconnects by itself; every change becomes a
`Snapshot` that is handed to the event loop. The columns are those of ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import threading
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports eventlet where that is installed, which warns
    import ovs.db.error  # type: ignore[import-untyped]  # it has no types
    import ovs.db.idl  # type: ignore[import-untyped]
    import ovs.poller  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

DEVARGS_PREFIX: Final = "net_highway_"
_NETWORK: Final = ("tcp:", "ssl:")


def _optional(kind: str) -> dict[str, Any]:
    return {"key": kind, "min": 0, "max": 1}


def _many(kind: str) -> dict[str, Any]:
    return {"key": kind, "min": 0, "max": "unlimited"}


def _rows(table: str) -> dict[str, Any]:
    return {"key": {"type": "uuid", "refTable": table}, "min": 0, "max": "unlimited"}


_STRINGS: Final = {"key": "string", "value": "string", "min": 0, "max": "unlimited"}
_MIRROR: Final[dict[str, Any]] = {
    "name": "string",
    "select_all": "boolean",
    "select_src_port": _many("uuid"),
    "select_dst_port": _many("uuid"),
    "select_vlan": _many("integer"),
    "output_port": _optional("uuid"),
    "output_vlan": _optional("integer"),
    "snaplen": _optional("integer"),
}
_COLUMNS: Final[dict[str, dict[str, Any]]] = {
    "Open_vSwitch": {
        "manager_options": _rows("Manager"),
        "other_config": _STRINGS,
        "external_ids": _STRINGS,
        "next_cfg": "integer",
        "cur_cfg": "integer",
    },
    "Bridge": {
        "name": "string",
        "ports": _rows("Port"),
        "mirrors": _rows("Mirror"),
        "netflow": _optional("uuid"),
        "sflow": _optional("uuid"),
        "ipfix": _optional("uuid"),
        "controller": _rows("Controller"),
        "fail_mode": _optional("string"),
        "protocols": _many("string"),
        "stp_enable": "boolean",
        "rstp_enable": "boolean",
        "other_config": _STRINGS,
        "external_ids": _STRINGS,
    },
    "Controller": {
        "target": "string",
        "connection_mode": _optional("string"),
        "is_connected": "boolean",
    },
    "Manager": {"target": "string"},
    "Port": {
        "name": "string",
        "interfaces": _rows("Interface"),
        "qos": _optional("uuid"),
        "lacp": _optional("string"),
    },
    "Interface": {
        "name": "string",
        "type": "string",
        "options": _STRINGS,
        "ofport": _optional("integer"),
        "external_ids": _STRINGS,
        "ingress_policing_rate": "integer",
        "ingress_policing_kpkts_rate": "integer",
        "bfd": _STRINGS,
        "cfm_mpid": _optional("integer"),
        "lldp": _STRINGS,
    },
    "Mirror": _MIRROR,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """An Interface record that is one of our ports.

    Attributes:
        port: the name in `options:dpdk-devargs=net_highway_<port>,...`.
        name: of the record; often, not always, the same.
        port_record: name of the Port record that it belongs to.
        ofport: OpenFlow port number, None while there is none.
        external_ids: those that begin with `highway`.
        qos: the Port record has one.
    """

    port: str
    name: str
    bridge: str
    port_record: str = ""
    ofport: int | None = None
    external_ids: Mapping[str, str] = field(default_factory=dict)
    ingress_policing_rate: int = 0
    ingress_policing_kpkts_rate: int = 0
    qos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An Interface record of any kind, as OpenFlow sees it.

    Attributes:
        name: of the record.
        port: our port, None if it is not one of ours.
        peer: of a patch port: the name of the Interface at the other end.
        members: interfaces of its Port record; more than one is a bond.
        watches: protocols whose frames OVS takes in itself: `bfd`, `cfm`, `lldp`, `lacp`.
        policed: ingress policing is set.
        qos: its Port record has one.
    """

    name: str
    port: str | None = None
    peer: str | None = None
    members: int = 1
    watches: frozenset[str] = frozenset()
    policed: bool = False
    qos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """A Controller record that OVS connects to by itself.

    Attributes:
        in_band: it is reached through the bridge, as far as the record says.
    """

    target: str
    connected: bool
    in_band: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A Bridge record.

    Attributes:
        external_ids: those that begin with `highway`.
        mirrors: each one's settings, to be compared only.
        patched: bridges to which this one has a patch port.
        sampled: `sFlow` or `IPFIX` is set on it.
        spanning_tree: STP or RSTP is on.
        secure: `fail_mode=secure`.
        in_band: it may have in-band flows: `other_config:disable-in-band` is not set.
        protocols: OpenFlow versions such as `OpenFlow14`; empty: OVS's default.
        attached: its interfaces by OpenFlow port number.
    """

    name: str
    external_ids: Mapping[str, str] = field(default_factory=dict)
    netflow: bool = False
    mirrors: frozenset[str] = frozenset()
    patched: frozenset[str] = frozenset()
    sampled: frozenset[str] = frozenset()
    spanning_tree: bool = False
    secure: bool = False
    in_band: bool = True
    protocols: frozenset[str] = frozenset()
    controllers: tuple[Controller, ...] = ()
    attached: Mapping[int, Attachment] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The database at one moment.

    Attributes:
        connected: whether the database is being followed now; if not, this is its last known state.
        ports: our ports by name.
        bridges: all bridges by name.
        external_ids: of Open_vSwitch; those that begin with `highway`.
        next_cfg, cur_cfg: changes asked for, and changes that ovs-vswitchd has carried out.
        tx_flush_us: `other_config:tx-flush-interval`, in microseconds.
        managers: targets of database managers that OVS connects to over the network.
    """

    connected: bool
    ports: Mapping[str, Interface] = field(default_factory=dict)
    bridges: Mapping[str, Bridge] = field(default_factory=dict)
    external_ids: Mapping[str, str] = field(default_factory=dict)
    next_cfg: int = 0
    cur_cfg: int = 0
    tx_flush_us: int = 0
    managers: frozenset[str] = frozenset()

    @property
    def standalone(self) -> bool:
        """`external_ids:highway-fail-mode` is `standalone`."""
        return self.external_ids.get("highway-fail-mode") == "standalone"


def devargs_port(devargs: str) -> str | None:
    """Return the port that `options:dpdk-devargs` names, or None if it is not one of ours."""
    first = devargs.split(",", 1)[0].strip()
    return first.removeprefix(DEVARGS_PREFIX) or None if first.startswith(DEVARGS_PREFIX) else None


def _number(text: str) -> int:
    """Return what OVS reads from an unsigned option: 0 for what is no number."""
    try:
        return min(max(int(text, 0), 0), 1_000_000)
    except ValueError:
        return 0


class Follower:
    """Follows one database until it is closed.

    Args:
        socket: of the database server; need not exist yet.
        deliver: called with each snapshot, in the event loop.
    """

    def __init__(self, socket: Path, deliver: Callable[[Snapshot], None]) -> None:
        self._socket = socket
        self._deliver = deliver

    async def run(self) -> None:
        """Follow the database until cancelled; it may come and go meanwhile."""
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        # A daemon thread and no executor: an executor's thread would be waited for at exit.
        thread = threading.Thread(
            target=self._follow, args=(loop, reading), name="ovsdb", daemon=True
        )
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            os.close(writing)
            thread.join(timeout=2)

    def _follow(self, loop: asyncio.AbstractEventLoop, stop: int) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            while not self._follow_once(loop, stop):
                log.warning("following the OVSDB starts anew")
        os.close(stop)

    def _follow_once(self, loop: asyncio.AbstractEventLoop, stop: int) -> bool:
        """Follow until told to stop (True) or until the IDL breaks (False)."""
        idl = _Idl(f"unix:{self._socket}")
        last: Snapshot | None = None
        try:
            while True:
                idl.run()
                snapshot = idl.snapshot(last)
                if snapshot is not None and snapshot != last:
                    if last is None or snapshot.connected != last.connected:
                        state = "follows" if snapshot.connected else "has lost"
                        log.info("highwayd %s the OVSDB at %s", state, self._socket)
                    last = snapshot
                    loop.call_soon_threadsafe(self._deliver, snapshot)
                poller = ovs.poller.Poller()
                idl.wait(poller)
                poller.fd_wait(stop, select.POLLIN)
                poller.timer_wait(1000)
                poller.block()
                if select.select([stop], [], [], 0)[0]:
                    return True
        except (ovs.db.error.Error, OSError, AssertionError, ValueError):
            log.exception("the OVSDB at %s cannot be followed", self._socket)
            return bool(select.select([stop], [], [], 1)[0])
        finally:
            idl.close()


class _Idl:
    """The IDL with the few columns above."""

    def __init__(self, remote: str) -> None:
        schema = {
            "name": "Open_vSwitch",
            "version": "8.0.0",
            "tables": {
                table: {
                    "isRoot": True,
                    "columns": {name: {"type": kind} for name, kind in columns.items()},
                }
                for table, columns in _COLUMNS.items()
            },
        }
        helper = ovs.db.idl.SchemaHelper(schema_json=schema)
        helper.register_all()
        self._idl = ovs.db.idl.Idl(remote, helper, leader_only=False)
        # The default doubles up to 8 s; a local socket may be tried more often.
        self._idl._session.reconnect.set_backoff(200, 1000)
        self._seqno = 0

    def run(self) -> None:
        self._idl.run()

    def wait(self, poller: ovs.poller.Poller) -> None:
        self._idl.wait(poller)

    def close(self) -> None:
        self._idl.close()

    def snapshot(self, last: Snapshot | None) -> Snapshot | None:
        """Return the present state, or None before the first contact."""
        connected = self._idl._session.is_connected() and (
            self._idl.state == ovs.db.idl.Idl.IDL_S_MONITORING
        )
        if last is None and not connected:
            return None
        if not connected or (last and last.connected and self._seqno == self._idl.change_seqno):
            assert last is not None
            return replace(last, connected=connected)
        self._seqno = self._idl.change_seqno
        return self._build()

    def _build(self) -> Snapshot:
        tables = self._idl.tables
        ports: dict[str, Interface] = {}
        patches: dict[str, tuple[str, str]] = {}
        for bridge in tables["Bridge"].rows.values():
            for port in bridge.ports:
                for interface in port.interfaces:
                    if interface.type == "patch":
                        patches[interface.name] = bridge.name, interface.options.get("peer", "")
                    name = devargs_port(interface.options.get("dpdk-devargs", ""))
                    if name is not None:
                        ports[name] = Interface(
                            port=name,
                            name=interface.name,
                            bridge=bridge.name,
                            port_record=port.name,
                            ofport=interface.ofport[0] if interface.ofport else None,
                            external_ids=_ours(interface.external_ids),
                            ingress_policing_rate=interface.ingress_policing_rate,
                            ingress_policing_kpkts_rate=interface.ingress_policing_kpkts_rate,
                            qos=bool(port.qos),
                        )
        peers: dict[str, set[str]] = {}
        for bridge_name, peer in patches.values():
            if peer in patches:
                peers.setdefault(bridge_name, set()).add(patches[peer][0])
        found = Snapshot(
            connected=True,
            ports=ports,
            bridges={
                row.name: _bridge(row, frozenset(peers.get(row.name, ())))
                for row in tables["Bridge"].rows.values()
            },
        )
        for row in tables["Open_vSwitch"].rows.values():
            found = replace(
                found,
                external_ids=_ours(row.external_ids),
                next_cfg=row.next_cfg,
                cur_cfg=row.cur_cfg,
                tx_flush_us=_number(row.other_config.get("tx-flush-interval", "0")),
                managers=frozenset(
                    manager.target
                    for manager in row.manager_options
                    if manager.target.startswith(_NETWORK)
                ),
            )
        return found


def _bridge(row: ovs.db.idl.Row, patched: frozenset[str]) -> Bridge:
    kinds = ("sflow", "sFlow"), ("ipfix", "IPFIX")
    return Bridge(
        name=row.name,
        external_ids=_ours(row.external_ids),
        netflow=bool(row.netflow),
        mirrors=frozenset(map(_mirror, row.mirrors)),
        patched=patched,
        sampled=frozenset(name for column, name in kinds if getattr(row, column)),
        spanning_tree=bool(row.stp_enable or row.rstp_enable),
        secure=row.fail_mode == ["secure"],
        in_band=row.other_config.get("disable-in-band") != "true",
        protocols=frozenset(row.protocols),
        controllers=tuple(
            Controller(
                target=controller.target,
                connected=bool(controller.is_connected),
                in_band=controller.target.startswith(_NETWORK)
                and controller.connection_mode != ["out-of-band"],
            )
            for controller in row.controller
            if controller.target.startswith((*_NETWORK, "unix:"))
        ),
        attached={
            interface.ofport[0]: _attachment(port, interface)
            for port in row.ports
            for interface in port.interfaces
            if interface.ofport and interface.ofport[0] > 0
        },
    )


def _attachment(port: ovs.db.idl.Row, interface: ovs.db.idl.Row) -> Attachment:
    watched = {
        "bfd": interface.bfd.get("enable") == "true",
        "cfm": bool(interface.cfm_mpid),
        "lldp": interface.lldp.get("enable") == "true",
        "lacp": port.lacp not in ([], ["off"]),
    }
    patch = interface.type == "patch"
    return Attachment(
        name=interface.name,
        port=devargs_port(interface.options.get("dpdk-devargs", "")),
        peer=interface.options.get("peer", "") if patch else None,
        members=len(port.interfaces),
        watches=frozenset(name for name, on in watched.items() if on),
        policed=bool(interface.ingress_policing_rate or interface.ingress_policing_kpkts_rate),
        qos=bool(port.qos),
    )


def _ours(external_ids: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in external_ids.items() if key.startswith("highway")}


def _mirror(row: ovs.db.idl.Row) -> str:
    values = {column: getattr(row, column) for column in _MIRROR}
    return repr(
        {
            column: sorted(map(str, value)) if isinstance(value, list) else value
            for column, value in values.items()
        }
    )
