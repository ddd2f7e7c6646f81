# SPDX-License-Identifier: Apache-2.0
"""Every fuzzer, for a moment, from its seeds; `make fuzz` runs them for longer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from . import run, seeds

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", run.NAMES)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    """Fuzz for about a second.

    Verify: it got through all executions, its seeds among them, and no input ended it.
    """
    in_c = name in seeds.C_NAMES
    if in_c and not run.built():
        if os.environ.get("CI_STRICT"):
            pytest.fail("the fuzzers are not built; run 'make fuzzers' as root")
        pytest.skip("the fuzzers are not built; run 'make fuzzers' as root")
    runs = 15_000 if in_c else 800
    result = run.fuzz(name, "-seed=1", state=tmp_path, runs=runs)
    assert result.crashes == 0, result.said
    assert result.executions >= runs > len(list((tmp_path / "seeds" / name).iterdir()))
    assert result.edges > 0
