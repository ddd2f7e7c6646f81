# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

run_directory = click.option(
    "--rundir", type=click.Path(path_type=Path), help="Run directory; default: HIGHWAY_RUNDIR."
)


def output_format(text: str = "How to print it.") -> Callable[[F], F]:
    """Return the option `--format`, whose value is the argument `output`."""
    return click.option(
        "--format",
        "output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help=text,
    )
