# SPDX-License-Identifier: Apache-2.0
"""How the demo looks: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, TextIO

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BAR: Final = 30
_TICK: Final = 0.25
_PLAIN_TICK: Final = 1.0


class Screen:
    """Prints steps, command lines, rates and findings to a stream, by default standard output."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.live = self._stream.isatty()
        self._console = Console(file=self._stream, highlight=False, soft_wrap=True)
        self._fastest = 0.0

    def _print(self, plain: str, styled: Text | None = None) -> None:
        if self.live and styled is not None:
            self._console.print(styled)
        else:
            print(plain, file=self._stream, flush=True)

    def title(self, text: str) -> None:
        """Begin a step."""
        self._print(f"\n== {text}", Text.assemble("\n", ("▸ ", "bold cyan"), (text, "bold")))

    def command(self, line: str, answer: str = "") -> None:
        """Show a command line that is run, and what it printed."""
        self._print(f"   $ {line}", Text.assemble("  ", ("$ ", "cyan"), (line, "cyan")))
        for each in answer.strip().splitlines():
            self._print(f"     {each}", Text(f"    {each}", style="dim"))

    def say(self, text: str) -> None:
        """Explain something."""
        self._print(f"   {text}", Text(f"  {text}"))

    def verdict(self, holds: bool, text: str) -> None:
        """Tell whether what was claimed holds."""
        mark, style = ("✓", "bold green") if holds else ("✗", "bold red")
        word = "ok" if holds else "WRONG"
        self._print(f"   {word}: {text}", Text.assemble("  ", (f"{mark} ", style), text))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
        """Show a table: the first column to the left, numbers to the right."""
        if self.live:
            table = Table(box=None, pad_edge=False, header_style="dim")
            for number, name in enumerate(columns):
                table.add_column(name, justify="right" if number else "left")
            for row in rows:
                table.add_row(*(_cell(cell) for cell in row))
            self._console.print(Padding(table, (0, 0, 0, 4), expand=False))
            return
        lines = [list(columns), *([_cell(cell) for cell in row] for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        for line in lines:
            cells = [line[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
            self._print("   " + "  ".join(cells).rstrip())

    def watch(self, label: str, seconds: float, count: Callable[[], int]) -> float:
        """Show for some seconds how fast a counter of packets grows; return its mean rate in Mpps.

        The counter is read with the time before and after it, so that its own time does no harm.
        """
        first_at, first = _timed(count)
        at, packets = first_at, first
        tick = _TICK if self.live else _PLAIN_TICK
        with (
            Live(console=self._console, transient=True, auto_refresh=False)
            if self.live
            else nullcontext() as live
        ):
            while seconds - (at - first_at) > tick / 10:
                time.sleep(min(tick, max(0.0, first_at + seconds - at)))
                now_at, now = _timed(count)
                rate = (now - packets) / (now_at - at) / 1e6
                at, packets = now_at, now
                self._fastest = max(self._fastest, rate)
                if live is not None:
                    live.update(self._bar(label, rate, at - first_at, seconds), refresh=True)
                else:
                    self._print(f"   {at - first_at:4.1f} s  {label}  {rate:6.2f} Mpps")
        return (packets - first) / (at - first_at) / 1e6

    def _bar(self, label: str, rate: float, passed: float, seconds: float) -> Text:
        length = round(_BAR * rate / self._fastest) if self._fastest else 0
        return Text.assemble(
            f"  {label} ",
            ("█" * length, "green"),
            ("░" * (_BAR - length), "dim"),
            (f" {rate:6.2f} Mpps", "bold"),
            (f"  {min(passed, seconds):.1f} of {seconds:.0f} s", "dim"),
        )


def _cell(cell: str | int) -> str:
    return f"{cell:,}" if isinstance(cell, int) else cell


def _timed(count: Callable[[], int]) -> tuple[float, int]:
    began = time.monotonic()
    packets = count()
    return (began + time.monotonic()) / 2, packets
