# SPDX-License-Identifier: Apache-2.0
"""An os-ken learning switch for OpenFlow 1.3.

Flows match input port and both addresses, and idle out. It prints a line of JSON for each packet-in
and each flow that goes.
"""

from __future__ import annotations

import json
from typing import Any

from os_ken.base.app_manager import OSKenApp
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3

IDLE = 1


class LearningSwitch(OSKenApp):  # type: ignore[misc]
    """Learns from packet-ins where each address is, and adds a flow for each pair of addresses."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - os-ken's
        super().__init__(*args, **kwargs)
        self.ports: dict[str, int] = {}

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def attached(self, event: Any) -> None:  # noqa: ANN401 - os-ken's
        """Have the switch send what matches no flow."""
        datapath = event.msg.datapath
        of, parser = datapath.ofproto, datapath.ofproto_parser
        actions = [parser.OFPActionOutput(of.OFPP_CONTROLLER, of.OFPCML_NO_BUFFER)]
        self.add_flow(datapath, 0, parser.OFPMatch(), actions)

    def add_flow(
        self,
        datapath: Any,  # noqa: ANN401 - os-ken's
        priority: int,
        match: Any,  # noqa: ANN401 - os-ken's
        actions: list[Any],
        idle: int = 0,
    ) -> None:
        """Send a flowmod."""
        of, parser = datapath.ofproto, datapath.ofproto_parser
        datapath.send_msg(
            parser.OFPFlowMod(
                datapath=datapath,
                priority=priority,
                match=match,
                idle_timeout=idle,
                flags=of.OFPFF_SEND_FLOW_REM if idle else 0,
                instructions=[parser.OFPInstructionActions(of.OFPIT_APPLY_ACTIONS, actions)],
            )
        )

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def packet_in(self, event: Any) -> None:  # noqa: ANN401 - os-ken's
        """Learn, add a flow if the destination is known, and send the packet on."""
        message = event.msg
        datapath = message.datapath
        of, parser = datapath.ofproto, datapath.ofproto_parser
        in_port = message.match["in_port"]
        frame = packet.Packet(message.data).get_protocol(ethernet.ethernet)
        print(json.dumps({"packet_in": in_port}), flush=True)
        self.ports[frame.src] = in_port
        out_port = self.ports.get(frame.dst, of.OFPP_FLOOD)
        actions = [parser.OFPActionOutput(out_port)]
        if out_port != of.OFPP_FLOOD:
            match = parser.OFPMatch(in_port=in_port, eth_dst=frame.dst, eth_src=frame.src)
            self.add_flow(datapath, 1, match, actions, IDLE)
        datapath.send_msg(
            parser.OFPPacketOut(
                datapath=datapath,
                buffer_id=of.OFP_NO_BUFFER,
                in_port=in_port,
                actions=actions,
                data=message.data,
            )
        )

    @set_ev_cls(ofp_event.EventOFPFlowRemoved, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def removed(self, event: Any) -> None:  # noqa: ANN401 - os-ken's
        """Tell what a flow had matched when it went."""
        message = event.msg
        gone = {"removed": message.match["in_port"], "packets": message.packet_count}
        print(json.dumps(gone), flush=True)
