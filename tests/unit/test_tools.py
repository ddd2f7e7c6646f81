# SPDX-License-Identifier: Apache-2.0
"""The build's own tools: apt sources, header selection, the check of the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import check_tree
import driver_sdk
from steps import StepError

if TYPE_CHECKING:
    from pathlib import Path

ARCHIVE = "http://deb.example.org/debian"


@pytest.mark.parametrize(
    ("debian", "upstream"),
    [
        ("22.11.11-0+deb12u1", "22.11.11"),
        ("22.11.7-1~deb12u1", "22.11.7"),
        ("1:24.11.4-2", "24.11.4"),
        ("", ""),
    ],
)
def test_debian_versions_have_an_upstream_part(debian: str, upstream: str) -> None:
    assert driver_sdk.upstream_version(debian) == upstream


def test_one_line_sources_become_source_entries(tmp_path: Path) -> None:
    file = tmp_path / "sources.list"
    file.write_text(
        f"# a comment\ndeb [signed-by=/k.gpg] {ARCHIVE}/ bookworm main contrib\n"
        f"deb-src {ARCHIVE} bookworm main\ndeb http://other.example.org/x y z\n"
    )
    assert driver_sdk.source_entries([file], {ARCHIVE}) == {
        ".list": f"deb-src [signed-by=/k.gpg] {ARCHIVE}/ bookworm main contrib\n"
        f"deb-src {ARCHIVE} bookworm main\n"
    }


def test_deb822_sources_become_source_entries(tmp_path: Path) -> None:
    file = tmp_path / "debian.sources"
    file.write_text(
        f"Types: deb\n# note\nURIs: {ARCHIVE}\nSuites: bookworm\n  bookworm-updates\n"
        "Components: main\nSigned-By: /k.gpg\n\n"
        "Types: deb\nURIs: http://other.example.org/x\nSuites: y\nComponents: z\n\n"
        f"Types: deb\nEnabled: no\nURIs: {ARCHIVE}\nSuites: off\nComponents: main\n"
    )
    assert driver_sdk.source_entries([file], {ARCHIVE}) == {
        ".sources": f"Types: deb-src\nURIs: {ARCHIVE}\nSuites: bookworm\n  bookworm-updates\n"
        "Components: main\nSigned-By: /k.gpg\n"
    }


def test_headers_are_taken_with_what_they_include() -> None:
    tree = {name: b"" for name in driver_sdk.WANTED}
    tree["ethdev_driver.h"] = b'#include <rte_ethdev.h>\n# include "inner.h"\n'
    tree["inner.h"] = b"#include <stdint.h>\n"
    chosen = driver_sdk.select(tree, {"rte_ethdev.h"})
    assert set(chosen) == {*driver_sdk.WANTED, "inner.h"}


def test_a_missing_header_is_named() -> None:
    tree = {name: b"" for name in driver_sdk.WANTED if name != "ethdev_vdev.h"}
    with pytest.raises(StepError, match=r"ethdev_vdev\.h"):
        driver_sdk.select(tree, set())


APACHE = "SPDX-License-Identifier: Apache-2.0"
BSD = "SPDX-License-Identifier: BSD-3-Clause"


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("src/a.py", f"# {APACHE}\n", 0),
        ("src/a.py", "import os\n", 1),
        ("src/a.py", f"# {BSD}\n", 1),
        ("drivers/net/highway/a.c", f"/* {BSD} */\n", 0),
        ("drivers/net/highway/a.c", f"/* {APACHE} */\n", 1),
        ("src/a.h", f"/* {APACHE} */\n", 1),
        ("tests/apps/a.c", f"/* {APACHE} */\n", 0),
        ("docs/a.md", f"<!-- {APACHE} -->\nsee /" + "work/x\n", 1),
        ("docs/a.md", f"<!-- {APACHE} -->\nsee /run/" + "work/x\n", 0),
        ("LICENSES/a", "text\n", 0),
    ],
)
def test_the_tree_check_finds_what_is_wrong(name: str, text: str, number: int) -> None:
    assert len(check_tree.faults(name, text)) == number
