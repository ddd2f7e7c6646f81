# SPDX-License-Identifier: Apache-2.0
"""Run one of the Python fuzzers: `python -m tests.fuzz.target NAME [libFuzzer's options]`.

A fuzzer is a module of tests/fuzz/python with `one_input(data)`, which raises if something does not
hold, and `seeds()`. atheris, which is libFuzzer for Python, follows branches in ovs_highway only.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

NAMES: Final = ("messages", "requests", "regions", "machines")


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer's options say to stop; the process ends then."""
    import atheris

    name = arguments.pop(1)
    with atheris.instrument_imports(include=["ovs_highway"]):
        fuzzer = importlib.import_module(f"tests.fuzz.python.{name}")
    atheris.Setup(arguments, fuzzer.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
