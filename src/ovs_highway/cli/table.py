# SPDX-License-Identifier: Apache-2.0
"""Tables: drawn by rich on a terminal, plain aligned columns elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their headings; columns of numbers are aligned to the right."""
    texts = [[_text(cell) for cell in row] for row in rows]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    if sys.stdout.isatty():
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, numbers in zip(columns, right, strict=True):
            table.add_column(name, justify="right" if numbers else "left", overflow="fold")
        for row in texts:
            table.add_row(*row)
        Console().print(table, markup=False)
        return
    widths = [max(len(line[i]) for line in [list(columns), *texts]) for i in range(len(columns))]
    for line in [list(columns), *texts]:
        cells = [
            cell.rjust(width) if numbers else cell.ljust(width)
            for cell, width, numbers in zip(line, widths, right, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _text(cell: object) -> str:
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def rate(value: float, unit: str) -> str:
    """Return a rate with a prefix, such as `13.4 Mpps`."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}"
