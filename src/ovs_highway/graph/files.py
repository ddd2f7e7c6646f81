# SPDX-License-Identifier: Apache-2.0
"""Graphs in files: YAML of our own, or an NF-FG; read and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovs_highway.errors import GraphError
from ovs_highway.graph.check import check
from ovs_highway.graph.load import Document, parse
from ovs_highway.graph.nffg import is_nffg, parse_nffg

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path, *, bridge: str = "") -> Document:
    """Read a graph that makes sense.

    Args:
        bridge: of an NF-FG, which does not tell; not used for a graph of our own.

    Raises:
        GraphError: there is none, or it is wrong; with everything that is.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise GraphError(f"{path} cannot be read: {error.strerror}; name a graph file") from error
    except UnicodeDecodeError as error:
        raise GraphError(f"{path} is not UTF-8; name a graph file") from error
    if is_nffg(text):
        if not bridge:
            raise GraphError(f"{path} is an NF-FG, which names no bridge; give one")
        document = parse_nffg(text, str(path), bridge=bridge)
    else:
        document = parse(text, str(path))
    document.refuse(check(document.graph))
    return document
