# SPDX-License-Identifier: Apache-2.0
"""What the demo shows, step by step. Everything it claims is measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway.demo import openflow
from ovs_highway.demo.chain import BRIDGE, HOPS, HTTP, SINK, SOURCE, WEB
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from ovs_highway.demo.chain import Chain, Counts
    from ovs_highway.demo.screen import Screen

SECONDS: Final = 3.0
_WHILE: Final = 1.0
_PACKET_OUTS: Final = 5
_PACKET_OUT_LENGTH: Final = 99
_SPLIT_PRIORITY: Final = 40000
_FIRST_RULE: Final = f"in_port={SOURCE}"
_WEB_RULE: Final = f"udp,in_port={SOURCE},tp_dst={HTTP}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the demo has measured; `counters` tells whether all counters agree to the packet."""

    mpps_normal: float
    mpps_bypass: float
    flow_packets: int
    vnf_packets: int
    counters: bool
    packet_out: bool
    split: bool
    removed: bool

    def problems(self) -> list[str]:
        """Return what does not hold."""
        found = []
        if self.mpps_normal <= 0 or self.mpps_bypass <= 0:
            found.append("no packets reached the sink")
        if self.flow_packets != self.vnf_packets or not self.counters:
            found.append("the switch's counters are not what the VNFs sent")
        if not self.packet_out:
            found.append("a packet-out did not reach the sink")
        if not self.split:
            found.append("the rule that splits the traffic was not honoured")
        if not self.removed:
            found.append("traffic stayed on the bypass without a rule")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class HopCounts:
    """One hop in a measured interval, in packets: what the VNFs and what the switch counted."""

    hop: str
    sent: int
    rule: int
    port_rx: int
    port_tx: int
    received: int
    dropped: int

    @property
    def agree(self) -> bool:
        """Whether all say the same; what the switch dropped on the way, it has to say so."""
        return (
            self.sent == self.rule == self.port_rx == self.port_tx + self.dropped
            and self.port_tx == self.received
        )


def hop_counts(before: Counts, after: Counts) -> list[HopCounts]:
    """Return what was counted between two times, hop by hop."""
    found = []
    for sender, receiver in HOPS:
        rule = f"in_port={sender}"
        old, new = before.ports, after.ports
        found.append(
            HopCounts(
                hop=f"{sender} → {receiver}",
                sent=after.sent[sender] - before.sent[sender],
                rule=after.rules[rule] - before.rules[rule],
                port_rx=new[sender].rx_packets - old[sender].rx_packets,
                port_tx=new[receiver].tx_packets - old[receiver].tx_packets,
                received=after.received[receiver] - before.received[receiver],
                dropped=new[receiver].tx_dropped - old[receiver].tx_dropped,
            )
        )
    return found


def tell(chain: Chain, screen: Screen) -> Outcome:
    """Run the whole demo.

    Raises:
        SandboxError: a program does not do what it should.
    """
    _wire(chain, screen)
    normal = _normal(chain, screen)
    bypass = _bypass(chain, screen)
    hops = _counters(chain, screen)
    packet_out = _packet_out(chain, screen)
    split = _split(chain, screen)
    removed = _removed(chain, screen)
    return Outcome(
        mpps_normal=round(normal, 3),
        mpps_bypass=round(bypass, 3),
        flow_packets=hops[0].rule,
        vnf_packets=hops[0].sent,
        counters=all(hop.agree for hop in hops),
        packet_out=packet_out,
        split=split,
        removed=removed,
    )


def _wire(chain: Chain, screen: Screen) -> None:
    screen.title("Four dpdk-testpmd processes on one Open vSwitch, and the flowmods of a chain")
    screen.say("source ─ fw0 [firewall] fw1 ─ nat0 [nat] nat1 ─ sink")
    for vnf in chain.vnfs:
        screen.say(f"{vnf.name}: pid {vnf.pid}, {vnf.command_line[0]}, unmodified")
    screen.say(f"five polling threads, with that of the switch, on {chain.cores} cores")
    for sender, receiver in HOPS:
        chain.ofctl("add-flow", BRIDGE, f"in_port={sender},actions=output:{receiver}")


def _normal(chain: Chain, screen: Screen) -> float:
    screen.title(
        "Throughput with the bypass off: every packet goes through the switch, three times"
    )
    chain.highway("off", "--all")
    with chain.sending():
        chain.await_flow(SINK)
        rate = screen.watch("at the sink", SECONDS, lambda: chain.received(SINK))
    screen.say(f"normal channel: {rate:.2f} Mpps")
    return rate


def _bypass(chain: Chain, screen: Screen) -> float:
    screen.title("Throughput with the bypass on: the same programs, the same flowmods")
    chain.highway("on", "--all")
    with chain.sending():
        chain.await_bypass(*(sender for sender, _ in HOPS))
        rate = screen.watch("at the sink", SECONDS, lambda: chain.received(SINK))
        chain.highway("links")
    screen.say(f"bypass channel: {rate:.2f} Mpps")
    return rate


def _counters(chain: Chain, screen: Screen) -> list[HopCounts]:
    screen.title("OpenFlow counters: the switch has not seen these packets, and knows them all")
    before = chain.settle()
    bypassed = chain.bypassed(SOURCE)
    with chain.sending():
        screen.watch("at the sink", _WHILE, lambda: chain.received(SINK))
    after = chain.settle()
    bypassed = chain.bypassed(SOURCE) - bypassed
    chain.show_rules()
    chain.ofctl("dump-ports", BRIDGE)
    hops = hop_counts(before, after)
    columns = ["in this interval", "VNF sent", "n_packets", "port rx", "port tx", "VNF received"]
    rows: list[list[str | int]] = [
        [h.hop, h.sent, h.rule, h.port_rx, h.port_tx, h.received] for h in hops
    ]
    screen.table(columns, rows)
    screen.say(f"the source sent {bypassed:,} of them over the bypass")
    good = all(hop.agree for hop in hops) and hops[0].sent > 0
    screen.verdict(good, "rules and ports agree with the VNFs, to the packet")
    return hops


def _packet_out(chain: Chain, screen: Screen) -> bool:
    screen.title("A packet-out reaches the sink while its traffic is on the bypass")
    packet = openflow.frame("packet-out", _PACKET_OUT_LENGTH).hex()
    with chain.sending():
        chain.await_bypass(HOPS[-1][0])
        time.sleep(_WHILE)
        before = chain.xstats(SINK)
        request = f"in_port=CONTROLLER,packet={packet},actions=output:{SINK}"
        shown = f"in_port=CONTROLLER,packet={packet[:28]}…,actions=output:{SINK}"
        screen.command(f"ovs-ofctl packet-out {BRIDGE} {shown}   # {_PACKET_OUTS} times")
        for _ in range(_PACKET_OUTS):
            chain.sandbox.ofctl("packet-out", BRIDGE, request)

        def arrived() -> tuple[int, int]:
            now = chain.xstats(SINK)
            keys = ("rx_normal_packets", "rx_normal_bytes")
            packets, octets = (now[key] - before[key] for key in keys)
            return packets, octets

        wanted = (_PACKET_OUTS, _PACKET_OUTS * _PACKET_OUT_LENGTH)
        came = wait_until(lambda: arrived() == wanted, 5)
        bypassed = chain.xstats(SINK)["rx_bypass_packets"] - before["rx_bypass_packets"]
        packets, octets = arrived()
    good = came and bypassed > 0
    screen.verdict(
        good,
        f"the sink received {packets} packets of {octets} bytes on the normal channel,"
        f" and {bypassed:,} on the bypass meanwhile",
    )
    return good


def _split(chain: Chain, screen: Screen) -> bool:
    screen.title(f"A second rule splits the traffic: UDP port {HTTP} goes to port web")
    rule = f"priority={_SPLIT_PRIORITY},in_port={SOURCE},udp,tp_dst={HTTP},actions=output:{WEB}"
    with chain.sending():
        chain.await_bypass(SOURCE)
        chain.ofctl("add-flow", BRIDGE, rule)
        chain.await_flow(WEB)
        _drained(chain, SINK)
        http = _both(chain)
        screen.say(f"in {_WHILE:.0f} s: web {http[WEB]:,} packets, sink {http[SINK]:,}")
    chain.settle()
    screen.say("now the source sends to UDP ports of its flowgen mode instead")
    chain.source.set_fwd("flowgen")
    with chain.sending():
        chain.await_flow(SINK)
        _drained(chain, WEB)
        other = _both(chain)
        screen.say(f"in {_WHILE:.0f} s: web {other[WEB]:,} packets, sink {other[SINK]:,}")
        links = chain.xstats(SOURCE)
    chain.source.set_fwd("txonly")
    chain.settle()
    both_bypassed = all(
        links.get(f"tx_bypass_packets_to_{peer}", 0) > 0 for peer in (WEB, HOPS[0][1])
    )
    good = http[WEB] > 0 == http[SINK] and other[SINK] > 0 == other[WEB] and both_bypassed
    screen.verdict(good, "each packet went where its rule says, on a bypass of its own")
    return good


def _removed(chain: Chain, screen: Screen) -> bool:
    screen.title("Without its rule, traffic leaves the bypass")
    with chain.sending():
        chain.await_bypass(SOURCE)
        chain.ofctl("--strict", "del-flows", BRIDGE, f"priority={_SPLIT_PRIORITY},{_WEB_RULE}")
        chain.await_flow(SINK)
        _drained(chain, WEB)
        screen.say(f"port {HTTP} is back on the chain")
        chain.ofctl("--strict", "del-flows", BRIDGE, _FIRST_RULE)
        _drained(chain, SINK)
        before = chain.xstats(SOURCE)
        gone = _both(chain)
        after = chain.xstats(SOURCE)
    bypassed = after["tx_bypass_packets"] - before["tx_bypass_packets"]
    normal = after["tx_normal_packets"] - before["tx_normal_packets"]
    screen.say(
        f"in {_WHILE:.0f} s: {bypassed:,} packets over the bypass, {normal:,} to the switch,"
        f" which has no rule for them; sink {gone[SINK]:,}, web {gone[WEB]:,}"
    )
    good = bypassed == 0 < normal and gone == {SINK: 0, WEB: 0}
    screen.verdict(good, "nothing is on the bypass, and the switch decides again")
    return good


def _both(chain: Chain) -> dict[str, int]:
    """Return how many packets arrive at sink and web within a second."""
    before = {port: chain.received(port) for port in (SINK, WEB)}
    time.sleep(_WHILE)
    return {port: chain.received(port) - before[port] for port in (SINK, WEB)}


def _drained(chain: Chain, port: str) -> bool:
    """Wait until nothing arrives at a port any more; what follows tells whether it does."""
    last = -1

    def quiet() -> bool:
        nonlocal last
        previous, last = last, chain.received(port)
        return previous == last

    return wait_until(quiet, 5, interval=0.3)
