# SPDX-License-Identifier: Apache-2.0
"""An os-ken application that connects ports 1 and 2 with each other.

It reads statistics and sends packet-outs of LENGTH bytes to port 2 all the time. With each SIGUSR1
it begins, or ceases, to rewrite packets from port 1; with the last of STEPS it sends no more
packet-outs. What it sees it prints, a line of JSON each.
"""

from __future__ import annotations

import json
import signal
from typing import Any

from os_ken.base.app_manager import OSKenApp
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_3

STEPS = 7
LENGTH = 100


class PointToPoint(OSKenApp):  # type: ignore[misc]
    """Two flows, one each way."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - os-ken's
        super().__init__(*args, **kwargs)
        self.wanted = 0
        signal.signal(signal.SIGUSR1, self.step)

    def step(self, *_: object) -> None:
        """Want one step more."""
        self.wanted += 1

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def attached(self, event: Any) -> None:  # noqa: ANN401 - os-ken's
        """Push the flows, and begin."""
        datapath = event.msg.datapath
        command = datapath.ofproto.OFPFC_ADD
        self.flow_mod(datapath, command, 1, rewrite=False)
        self.flow_mod(datapath, command, 2, rewrite=False)
        hub.spawn(self.work, datapath)

    def flow_mod(self, datapath: Any, command: int, port: int, *, rewrite: bool) -> None:  # noqa: ANN401 - os-ken's
        """Send a flowmod for what comes from a port."""
        of, parser = datapath.ofproto, datapath.ofproto_parser
        actions = [parser.OFPActionOutput(3 - port)]
        if rewrite:
            actions.insert(0, parser.OFPActionSetField(eth_dst="02:00:00:00:00:77"))
        datapath.send_msg(
            parser.OFPFlowMod(
                datapath=datapath,
                command=command,
                cookie=port,
                match=parser.OFPMatch(in_port=port),
                instructions=[parser.OFPInstructionActions(of.OFPIT_APPLY_ACTIONS, actions)],
            )
        )

    def work(self, datapath: Any) -> None:  # noqa: ANN401 - os-ken's
        """Do what the module says."""
        of, parser = datapath.ofproto, datapath.ofproto_parser
        steps = packet_outs = 0
        while True:
            hub.sleep(0.05)
            if steps < STEPS:
                datapath.send_msg(
                    parser.OFPPacketOut(
                        datapath=datapath,
                        buffer_id=of.OFP_NO_BUFFER,
                        in_port=of.OFPP_CONTROLLER,
                        actions=[parser.OFPActionOutput(2)],
                        data=bytes(LENGTH),
                    )
                )
                packet_outs += 1
            if steps < min(self.wanted, STEPS):
                steps += 1
                if steps < STEPS:
                    self.flow_mod(datapath, of.OFPFC_MODIFY, 1, rewrite=steps % 2 == 1)
                print(json.dumps({"step": steps, "packet_outs": packet_outs}), flush=True)
            self.ask(datapath)

    def ask(self, datapath: Any) -> None:  # noqa: ANN401 - os-ken's
        """Ask for flow and port statistics."""
        of, parser = datapath.ofproto, datapath.ofproto_parser
        datapath.send_msg(parser.OFPFlowStatsRequest(datapath))
        datapath.send_msg(parser.OFPPortStatsRequest(datapath, 0, of.OFPP_ANY))

    @set_ev_cls(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def flow_stats(self, event: Any) -> None:  # noqa: ANN401 - os-ken's
        """Print packets and bytes per cookie."""
        flows = {str(one.cookie): [one.packet_count, one.byte_count] for one in event.msg.body}
        print(json.dumps({"flows": flows}), flush=True)

    @set_ev_cls(ofp_event.EventOFPPortStatsReply, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def port_stats(self, event: Any) -> None:  # noqa: ANN401 - os-ken's
        """Print packets and bytes received and sent per port."""
        ports = {
            str(one.port_no): [one.rx_packets, one.rx_bytes, one.tx_packets, one.tx_bytes]
            for one in event.msg.body
        }
        print(json.dumps({"ports": ports}), flush=True)
