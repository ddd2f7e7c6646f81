# SPDX-License-Identifier: Apache-2.0
"""One connection to a bridge, without I/O: bytes come in, events and bytes go out.

The start: hellos, ours in answer to the switch's, so that the version is our choice. How fragments
are handled is asked, because OVS gives a management connection asynchronous messages only once it
has set a miss_send_len, and the message for that sets both (ofproto/connmgr.c,
ofconn_receives_async_msg). Then which messages we want; then ports, groups, flows and a barrier.
Once its reply is there, everything is known, and changes follow.

A switch whose output to us is stuck leaves out changes (PAUSED) until it is not (RESUMED); then
everything is asked again. OVS means to make up for them itself, but with random changes to a few
thousand flows 3.1.0 left us with hundreds that had gone, and some missing or with old actions.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from ovs_highway.errors import ProtocolError
from ovs_highway.openflow import messages as wire
from ovs_highway.openflow.model import (
    Event,
    Frags,
    GroupDesc,
    GroupGone,
    GroupSet,
    PortGone,
    PortSet,
    Restart,
    Synced,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovs_highway.openflow.messages import Message

VERSIONS: Final = (wire.OF14, wire.OF15, wire.OF13, wire.OF10)
"""Versions that can be followed, best first.

1.4 and 1.5 tell of changes of groups; if a bucket is added, 1.4 has the whole group, 1.5 the bucket
only. 1.0 is for bridges that speak nothing else, and so have no flows that need more: OVS leaves
meters and action sets out of what it tells in 1.0 (lib/ofp-actions.c), without a word.
"""


class Session:
    """The state of one connection.

    Attributes:
        version: the OpenFlow version that is spoken; None before the hellos.
        synced: everything is known.
    """

    def __init__(self, versions: tuple[int, ...] = VERSIONS) -> None:
        if not versions or not set(versions) <= set(VERSIONS):
            raise ValueError(f"versions to follow are among {VERSIONS}, not {versions}")
        self.version: int | None = None
        self.synced = False
        self._versions = versions
        self._framer = wire.Framer()
        self._out: list[bytes] = []
        self._events: list[Event] = []
        self._xid = 0
        self._monitor = 0
        self._paused = False
        self._frags = 0
        self._config_asked: int | None = None
        self._waiting: dict[int, str] = {}  # xids of multipart requests
        self._flows_xid: int | None = None
        self._following = False
        self._barrier: int | None = None
        self._regroup: int | None = None  # xid of a request for groups after the first
        self._regroup_again = False
        self._handlers: dict[int, Callable[[Message], None]] = {}

    def poll(self) -> bytes:
        """Return what asks how fragments are handled; nothing if that is not answered yet."""
        if not self.synced or self._config_asked is not None:
            return b""
        self._ask_config()
        return self._take_out()

    def receive(self, data: bytes) -> tuple[list[Event], bytes]:
        """Take bytes of the switch; return what they tell, and what is to be sent now.

        Raises:
            ProtocolError: the switch breaks the protocol, or refuses a request of ours. The
                connection is of no more use.
        """
        for message in self._framer.feed(data):
            self._message(message)
        events, self._events = self._events, []
        return events, self._take_out()

    def _take_out(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _next(self) -> int:
        self._xid = self._xid % 0x7FFFFFFF + 1
        return self._xid

    @property
    def _spoken(self) -> int:
        assert self.version is not None
        return self.version

    # messages -----------------------------------------------------------------------------------

    def _message(self, message: Message) -> None:
        if message.kind == wire.ERROR:
            self._error(message)
        elif message.kind == wire.HELLO:
            if self.version is None:
                self._hello(message)
        elif self.version is None:
            raise ProtocolError("the switch does not begin with a hello; is it OpenFlow?")
        elif message.version != self.version:
            raise ProtocolError(
                f"a message of version {message.version} in a connection of {self.version}"
            )
        elif message.kind == wire.ECHO_REQUEST:
            self._out.append(wire.pack(message.version, wire.ECHO_REPLY, message.xid, message.body))
        elif (handler := self._handlers.get(message.kind)) is not None:
            handler(message)

    def _error(self, message: Message) -> None:
        # Ours are all that we send but for echo replies, whose numbers are the switch's.
        kind, code = struct.unpack_from("!HH", message.body) if len(message.body) >= 4 else (0, 0)
        if kind == 0 or self.version is None:
            text = message.body[4:].decode("ascii", "replace")[:200]
            raise ProtocolError(f"the switch refuses to speak OpenFlow with us: {text!r}")
        if not 0 < message.xid <= self._xid:
            return
        name = wire.VERSION_NAMES[self.version]
        raise ProtocolError(
            f"the switch refuses a request in OpenFlow {name} (error type {kind}, code {code});"
            " following its flows takes Open vSwitch 3.0"
        )

    def _hello(self, message: Message) -> None:
        theirs = wire.offered(message)
        usable = theirs if theirs == {wire.OF10} else theirs - {wire.OF10}
        version = next((version for version in self._versions if version in usable), None)
        if version is None:
            names = ", ".join(wire.VERSION_NAMES.get(v, f"{v:#x}") for v in sorted(theirs))
            raise ProtocolError(
                f"the switch speaks only OpenFlow {names}, in which its flows cannot be followed"
                " in full; add OpenFlow14 to the bridge's protocols"
            )
        self.version = version
        self._out.append(wire.hello(version, self._next()))
        self._handlers = {
            wire.EXPERIMENTER: self._experimenter,
            wire.GET_CONFIG_REPLY: self._config,
            wire.PORT_STATUS: self._port_status,
            wire.REQUESTFORWARD: self._forwarded,
            wire.barrier_reply(version): self._barrier_reply,
            wire.multipart_reply(version): self._multipart,
        }
        name = wire.VERSION_NAMES[version]
        self._events.append(Restart(missed=False, why=f"connected, with OpenFlow {name}"))
        self._ask_config()

    def _ask_config(self) -> None:
        self._config_asked = self._next()
        self._out.append(wire.pack(self._spoken, wire.GET_CONFIG_REQUEST, self._config_asked))

    def _config(self, message: Message) -> None:
        if message.xid != self._config_asked:
            return
        if len(message.body) < 4:
            raise ProtocolError("a switch's configuration is too short; is it OpenFlow?")
        self._config_asked = None
        flags, _ = struct.unpack_from("!HH", message.body)
        before, self._frags = self._frags, flags & wire.FRAGS
        if self._monitor == 0:
            self._begin(flags)
        elif self.synced and before != self._frags:
            self._events.append(Frags(self._frags))

    def _begin(self, flags: int) -> None:
        version = self._spoken
        if version == wire.OF10:
            self._out.append(wire.set_controller_id(version, self._next()))
        self._out.append(wire.set_async(version, self._next()))
        self._out.append(wire.set_config(version, self._next(), flags))
        self._ask_everything()

    def _ask_everything(self) -> None:
        version = self._spoken
        self.synced = False
        self._paused = False
        self._regroup, self._regroup_again = None, False
        if self._monitor:
            self._out.append(wire.cancel_monitor(version, self._next(), self._monitor))
        self._monitor += 1
        self._waiting.clear()
        self._out.append(wire.port_desc(version, self._wait("ports")))
        if version > wire.OF10:
            self._out.append(wire.group_desc(version, self._wait("groups")))
        self._flows_xid, self._following = self._wait("flows"), False
        self._out.append(wire.flow_monitor(version, self._flows_xid, self._monitor))
        self._barrier = self._next()
        self._out.append(wire.barrier(version, self._barrier))

    def _wait(self, part: str) -> int:
        xid = self._next()
        self._waiting[xid] = part
        return xid

    def _barrier_reply(self, message: Message) -> None:
        if message.xid != self._barrier:
            return
        self._barrier = None
        if self._paused:
            return
        if self._waiting:
            raise ProtocolError(f"the switch has not told its {', '.join(self._waiting.values())}")
        self.synced = True
        groups = self._spoken >= wire.OF14
        self._events.append(Synced(groups=groups, frags=self._frags, version=self._spoken))

    # what the switch has ------------------------------------------------------------------------

    def _multipart(self, message: Message) -> None:
        part, body, more = wire.read_multipart(message)
        if part == "flows":
            self._flows(message, body, more)
        elif part is not None and self._waiting.get(message.xid) == part:
            if part == "ports":
                self._events += map(PortSet, wire.read_ports(message.version, body))
            else:
                self._events += map(GroupSet, wire.read_groups(message.version, body))
            if not more:
                del self._waiting[message.xid]
        elif part == "groups" and message.xid == self._regroup:
            self._events += map(GroupSet, wire.read_groups(message.version, body))
            if not more:
                self._regroup = None
                if self._regroup_again:
                    self._ask_groups()

    def _flows(self, message: Message, body: bytes, more: bool) -> None:
        if message.xid == self._flows_xid:
            self._following = True  # what came before is part of what this tells
        for update in wire.read_updates(message.version, body):
            if update == "pause":
                self._pause()
            elif update == "resume":
                self._resume()
            elif self._following:
                self._events.append(update)
        if not more:
            self._waiting.pop(message.xid, None)

    def _experimenter(self, message: Message) -> None:
        if message.body[:8] in wire.PAUSES:
            self._pause()
        elif message.body[:8] in wire.RESUMES:
            self._resume()

    def _pause(self) -> None:
        if not self._paused:
            self._paused, self.synced, self._following = True, False, False
            why = "the switch left out changes, because we did not keep up"
            self._events.append(Restart(missed=True, why=why))

    def _resume(self) -> None:
        if self._paused:
            self._ask_everything()

    def _port_status(self, message: Message) -> None:
        gone, port = wire.read_port_status(message.version, message.body)
        if not self._paused:
            self._events.append(PortGone(port.port) if gone else PortSet(port))

    def _forwarded(self, message: Message) -> None:
        change = wire.read_group_mod(message.body)
        if change is None or self._paused:
            return
        if isinstance(change, GroupDesc):
            self._events.append(GroupSet(change))
            if change.kind == wire.CHANGED:
                self._ask_groups()
        else:
            self._events.append(GroupGone(None if change == wire.ALL_GROUPS else change))

    def _ask_groups(self) -> None:
        """Ask for all groups, at most once at a time; those that are gone are told anyway."""
        if self._regroup is not None:
            self._regroup_again = True
            return
        self._regroup_again = False
        self._regroup = self._next()
        self._out.append(wire.group_desc(self._spoken, self._regroup))
