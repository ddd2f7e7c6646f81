# SPDX-License-Identifier: Apache-2.0
"""What the report says of each benchmark: functions from its result to a section of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench.report import figures
from ovs_highway.bench.report.interval import estimate
from ovs_highway.bench.report.style import NAMES

if TYPE_CHECKING:
    from pathlib import Path

_LOADS: Final = ("10 %", "50 %", "90 %", "common")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes:
        draw: writes its figure to the files of a base name.
        lines: Markdown below the figure.
    """

    title: str
    shows: str
    lines: Sequence[str]
    draw: Callable[[Path], list[Path]] | None = None
    notes: Sequence[str] = field(default_factory=tuple)


Make = Callable[[Mapping[str, Any], Mapping[str, Any]], Section]
"""From a benchmark's result, and all results by benchmark, to a section."""


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return a Markdown table; numbers are to the right."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'|'.join(['---', *['---:'] * (len(head) - 1)])}|",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def chain(result: Mapping[str, Any], _: Mapping[str, Any]) -> Section:
    """Figure 3(a) of the paper."""
    return Section(
        title="Chains, memory only",
        shows="The paper's figure 3(a): 64-byte frames in both directions at once, the first and"
        " the last VNF being source and sink.",
        lines=[
            *_by_length(result, ("ratio", "bound")),
            "",
            "*ratio*: direct to the faster of the two ways through the switch, measured; *bound*:"
            " the same ratio as the cycles of the parts would allow.",
            "",
            *_model(result["model"]),
        ],
        draw=lambda base: figures.lengths(result, base),
        notes=result["notes"],
    )


def _by_length(result: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    ways = result["ways"]
    lengths = next(iter(ways.values()))["lengths"]
    rows = [
        [
            n,
            *(estimate(way["lengths"][n]["mpps"]["values"]).text(3) for way in ways.values()),
            *(_number(result[f"{key}_{n}"]) for key in keys),
        ]
        for n in lengths
    ]
    head = ["VNFs", *(f"{NAMES[name]} ({way['label']})" for name, way in ways.items()), *keys]
    return table(head, rows)


def _model(model: Mapping[str, Any]) -> list[str]:
    said = []
    for way, found in model.items():
        errors = " and ".join(f"{error:+.0%} at {n}" for n, error in found["errors"].items())
        printed = "its curve is printed" if found["holds"] else "it is not printed"
        said.append(f"{NAMES[way]}: {errors} VNFs, so {printed}")
    return [f"The model beside what was measured: {'; '.join(said)}."] if said else []


def chain_vm(result: Mapping[str, Any], _: Mapping[str, Any]) -> Section:
    """Figure 3(a) with VMs."""
    rows = [
        [
            f"{one['from']} to {one['to']}",
            *(f"{one[key]:,}" for key in ("sent", "received", "flow")),
        ]
        for one in result["counts"]
    ]
    direct = "all direct" if result["direct"] else "NOT all direct"
    exact = "exact" if result["exact"] else "NOT exact"
    return Section(
        title="Chains of VMs",
        shows=f"{result['length']} VMs in a row, both directions at once ({result['label']}):"
        f" {result['links']} links, {direct}; counters {exact}.",
        lines=[
            *table(["hop", "sent", "received", "the flow's counter"], rows),
            "",
            f"{result['mpps']:.3f} Mpps at both ends ({result['label']}). The guest's SHA-256:"
            f" `{result['image_sha256']}`.",
        ],
    )


def nic(result: Mapping[str, Any], _: Mapping[str, Any]) -> Section:
    """Figure 3(b) of the paper."""
    verdicts = {
        True: "coincide within their spread",
        False: "do not coincide within their spread",
        None: "were not measured",
    }
    return Section(
        title="Chains between two ports of 10 GbE",
        shows="The paper's figure 3(b): frames enter and leave through ports that stand in for 10"
        " GbE. No network card took part.",
        lines=[
            *_by_length(result, ("ratio",)),
            "",
            "With one VNF all hops pass the switch in every way: direct and through our ports"
            f" {verdicts[result['coincide']]}.",
        ],
        draw=lambda base: figures.lengths(result, base),
        notes=result["notes"],
    )


def latency(result: Mapping[str, Any], _: Mapping[str, Any]) -> Section:
    """How long frames are under way."""
    rows = []
    for way, found in result["ways"].items():
        for path in ("one_way", "round_trip"):
            hop = found["pinned"][path]
            for load in _LOADS:
                point = hop[load]
                rows.append(
                    [
                        f"{NAMES[way]}, {path.replace('_', ' ')}",
                        load if load != "common" else "fixed",
                        f"{point['rate'] / 1e6:.2f}",
                        *(_us(point[f"p{percent}_ns"]) for percent in ("50", "99", "99.9")),
                    ]
                )
    shared = []
    ways = result["ways"]
    for n in next(iter(ways.values()))["shared"]:
        cells = []
        for found in ways.values():
            one = found["shared"][n]["one_way"]
            cells.append(f"{_us(one['p50_ns'])} / {_us(one['p99_ns'])}")
            cells.append(f"{one['switches_per_s']:.0f}")
        shared.append([n, *cells])
    head = [word for way in ways for word in (f"{NAMES[way]}, p50 / p99 µs", "switches per s")]
    less = result["model"]["less"]
    return Section(
        title="Latency",
        shows="One hop of a VNF with a core of its own, at shares of what each way can carry"
        " (measured); chains on one core (measured); chains of VNFs with cores of their own"
        " (modelled).",
        lines=[
            *table(["one hop", "load", "Mpps", "p50 µs", "p99 µs", "p99.9 µs"], rows),
            "",
            "Chains on one core, one way: the time is above all that until each VNF has its turn.",
            "",
            *table(["VNFs", *head], shared),
            "",
            "Modelled, a core for every VNF: "
            + "; ".join(f"{share:.0%} less than {NAMES[way]}" for way, share in less.items())
            + " at any length (the paper: 80 % less at 8 VMs).",
        ],
        draw=lambda base: figures.latency(result, base),
        notes=result["notes"],
    )


def setup(result: Mapping[str, Any], others: Mapping[str, Any]) -> Section:
    """How fast the bypass is used and left."""
    vm_result = others.get("vm")
    sides = {"with the detector": result, "without": result["without_detector"]}
    rows = [
        [
            name,
            *(f"{side[f'{kind}_p{p}_ms']:.0f}" for kind in ("setup", "withdraw") for p in (50, 99)),
        ]
        for name, side in sides.items()
    ]
    return Section(
        title="Set-up",
        shows="From a flowmod to the first packet over the bypass, and to the last (measured,"
        f" processes, {result['tries']} tries each, under {result['rate_pps']} packets per second)."
        " The paper: about 100 ms with VMs.",
        lines=table(["ms", "set-up p50", "set-up p99", "withdrawal p50", "withdrawal p99"], rows),
        draw=lambda base: figures.setup(result, base, vm_result),
    )


def switchover(result: Mapping[str, Any], _: Mapping[str, Any]) -> Section:
    """Whether changes of channel lose anything."""
    runs = {"as it is": result, "order switched off": result["naive"]}
    keys = ("switchovers", "packets", "lost", "doubled", "reordered")
    rows = [[name, *(f"{run[key]:,}" for key in keys)] for name, run in runs.items()]
    return Section(
        title="Switchover",
        shows="Changes of channel under full load: nothing may be lost, doubled or reordered"
        " (measured). The second row is the same without what keeps the order: the test has to"
        " find it.",
        lines=table(["", *keys], rows),
        notes=result["notes"],
    )


def peers(result: Mapping[str, Any], _: Mapping[str, Any]) -> Section:
    """One hop beside the peers."""
    sizes = [str(size) for size in result["sizes"]]

    def cell(found: Mapping[str, Any]) -> str:
        return "-" if found["mpps"] is None else estimate(found["mpps"]["values"]).text()

    rows = [
        [name, *(cell(each["sizes"][size]) for size in sizes), each["what"]]
        for name, each in result["alternatives"].items()
    ]
    return Section(
        title="One hop beside the peers",
        shows="Million packets per second from core to core, or through the switch and back"
        " (measured); *bare loop*: the machine's own limit.",
        lines=table(["", *(f"{size} B" for size in sizes), "what"], rows),
        draw=lambda base: figures.peers(result, base),
        notes=result["notes"],
    )


def keyed(title: str, shows: str, key: str) -> Make:
    """Return a section of figures by name, as `cycles`, `rules`, `links` and `queues` have them."""

    def make(result: Mapping[str, Any], _: Mapping[str, Any]) -> Section:
        rows = [[name, _number(value)] for name, value in result[key].items() if _is_number(value)]
        return Section(
            title=title, shows=shows, lines=table(["key", "median"], rows), notes=result["notes"]
        )

    return make


def detector(result: Mapping[str, Any], _: Mapping[str, Any]) -> Section:
    """How fast the detector is."""
    rows = [
        ["reading 100,000 flows, s", _number(result["sync_100k_s"])],
        ["memory for them, MiB", _number(result["sync_100k_mib"])],
        ["flowmods followed per second", f"{result['flowmods_per_s']:,}"],
        ["decision p50, ms", _number(result["decision_p50_ms"])],
        ["decision p99, ms", _number(result["decision_p99_ms"])],
    ]
    return Section(
        title="Detector",
        shows="How fast p-2-p links are found in large flow tables (measured).",
        lines=table(["", "median"], rows),
    )


def vm(result: Mapping[str, Any], _: Mapping[str, Any]) -> Section:
    """Links between virtual machines."""
    rows = [[name, found["p50"], found["p99"]] for name, found in result["set_up"].items()]
    rates = ", ".join(f"{name} {found['median']:.3f}" for name, found in result["mpps"].items())
    return Section(
        title="Virtual machines",
        shows=f"How long a link between two VMs takes to make ({result['label']}).",
        lines=[
            *table(["ms", "p50", "p99"], rows),
            "",
            f"Mpps at the receiver, {result['label']}: {rates}.",
        ],
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _us(ns: float | None) -> str:
    return "-" if ns is None else f"{ns / 1000:,.2f}"


SECTIONS: Final[Mapping[str, Make]] = {
    "chain": chain,
    "chain_vm": chain_vm,
    "nic": nic,
    "latency": latency,
    "setup": setup,
    "switchover": switchover,
    "peers": peers,
    "cycles": keyed(
        "Cycles",
        "Cycles per packet in the driver's burst calls, across two cores (measured).",
        "cycles",
    ),
    "rules": keyed(
        "Rules",
        "Cycles per packet to send, by the number of rules and of their masks (measured).",
        "rules",
    ),
    "links": keyed(
        "Links", "Cycles per packet to receive, by the number of links (measured).", "links"
    ),
    "queues": keyed("Queues", "Cycles and rates by the number of queues (measured).", "queues"),
    "detector": detector,
    "vm": vm,
}
"""In the order of the page."""
