# SPDX-License-Identifier: Apache-2.0
"""Results on disk: JSON files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovs_highway import paths
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_writable(path: Path) -> None:
    """Check, before hours of measuring, that a file can be written.

    Raises:
        CommandError: its folder is missing or not writable, or it is no plain file.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise CommandError(f"there is no folder {folder}; make it first, or name another file")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"cannot write in {folder}; name a file elsewhere")
    if path.exists() and not path.is_file():
        raise CommandError(f"{path} is no plain file; name another one")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically: a reader sees the old file or the whole new one.

    Paths in the source tree are written as from there.

    Raises:
        CommandError: it cannot be written.
        ValueError: a number is not finite.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    text = text.replace(f"{paths.checkout()}/", "")
    folder = path.absolute().parent
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
        part = Path(name)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                os.fchmod(number, 0o644)
                file.write(text)
                file.flush()
                os.fsync(number)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}; name another file") from error
