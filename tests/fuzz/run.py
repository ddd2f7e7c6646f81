# SPDX-License-Identifier: Apache-2.0
"""Run the fuzzers and record what they did: `make fuzz`, or `python -m tests.fuzz.run --help`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ovs_highway.bench import machine
from ovs_highway.bench.record import write_json

from . import seeds, target

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD: Final = ROOT / "build/fuzz"
PROGRAMS: Final = BUILD / "tests/fuzz"
STATE: Final = ROOT / "build/fuzz-state"
"""What the fuzzers have found interesting so far, and what ended them."""

NAMES: Final = (*seeds.C_NAMES, *target.NAMES)
_LONGEST: Final = 160
"""Bytes of an input: longer ones find little more, and take longer."""
_SANITIZERS: Final = {
    "ASAN_OPTIONS": "quarantine_size_mb=8:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one fuzzer did.

    Attributes:
        executions: inputs that were tried.
        crashes: inputs that ended it: 0 or 1 in one run, since it stops there.
        edges: branches that were taken; of ovs_highway's Python, or of everything in C.
        said: the end of its output.
    """

    name: str
    executions: int
    seconds: float
    crashes: int
    edges: int
    said: str = ""


def command(name: str) -> list[str]:
    """Return the command that runs a fuzzer, without options."""
    if name in seeds.C_NAMES:
        return [str(PROGRAMS / f"fuzz_{name}")]
    return [sys.executable, "-m", "tests.fuzz.target", name]


def built() -> bool:
    """Tell whether the fuzzers that need a compiler are there."""
    return all((PROGRAMS / f"fuzz_{name}").exists() for name in seeds.C_NAMES)


def fuzz(name: str, *options: str, state: Path, seconds: int = 0, runs: int = 0) -> Result:
    """Run one fuzzer for so many seconds or executions, from its seeds and what `state` has.

    Args:
        state: a folder that keeps what is interesting, and an input that ended it.
    """
    corpus, beginning = state / "corpus" / name, state / "seeds" / name
    corpus.mkdir(parents=True, exist_ok=True)
    seeds.write(name, beginning)
    words = [*command(name), f"-max_len={_LONGEST}", "-print_final_stats=1", "-timeout=20"]
    words += [f"-artifact_prefix={state}/{name}-", *options]
    words += [f"-max_total_time={seconds}"] if seconds else [f"-runs={runs}"]
    began = time.monotonic()
    done = subprocess.run(
        [*words, str(corpus), str(beginning)],
        cwd=ROOT,
        env={**os.environ, **_SANITIZERS},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    counted = re.search(r"number_of_executed_units:\s*(\d+)", done.stdout)
    edges = re.findall(r"^#\d+.*\bcov: (\d+)", done.stdout, re.MULTILINE)
    return Result(
        name=name,
        executions=int(counted[1]) if counted else 0,
        seconds=round(time.monotonic() - began, 1),
        crashes=int(done.returncode != 0),
        edges=max(map(int, edges), default=0),
        said=done.stdout[-20000:],
    )


def record(results: list[Result], before: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a run, together with that of an earlier one."""
    fuzzers: dict[str, dict[str, Any]] = before.get("fuzzers", {})
    for result in results:
        facts = asdict(result)
        del facts["said"], facts["name"]
        old = fuzzers.get(result.name, {})
        for key in ("executions", "seconds", "crashes"):
            facts[key] = round(facts[key] + old.get(key, 0), 1)
        facts["edges"] = max(facts["edges"], old.get("edges", 0))
        facts["language"] = "C" if result.name in seeds.C_NAMES else "Python"
        fuzzers[result.name] = facts
    return {
        "benchmark": "fuzz",
        "executions": sum(facts["executions"] for facts in fuzzers.values()),
        "seconds": round(sum(facts["seconds"] for facts in fuzzers.values()), 1),
        "crashes": sum(facts["crashes"] for facts in fuzzers.values()),
        "fuzzers": dict(sorted(fuzzers.items())),
        "compiler": _compiler(),
        "atheris": importlib.metadata.version("atheris"),
        "machine": machine.gather().json(),
    }


def _compiler() -> str:
    """Return what the fuzzers were built with."""
    done = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].strip()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the fuzzers.")
    parser.add_argument("names", nargs="*", metavar="FUZZER", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=int, default=10, help="for each (10)")
    parser.add_argument("--runs", type=int, default=0, help="executions of each, instead")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at once (all cores)")
    parser.add_argument("--json", type=Path, help="write a record")
    parser.add_argument("--add", action="store_true", help="to what the record says already")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs found")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no such fuzzer: {', '.join(sorted(unknown))}")
    return options


def main(arguments: list[str]) -> int:
    """Run what is asked for; return 1 if something was found."""
    options = _options(arguments)
    if not built():
        print("fuzz: the fuzzers are not built; run 'make fuzzers' as root", file=sys.stderr)
        return 2
    before: dict[str, Any] = {}
    if options.add and options.json and options.json.exists():
        before = json.loads(options.json.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        state = Path(folder) if options.fresh else STATE
        length = {"runs": options.runs} if options.runs else {"seconds": options.seconds}
        todo = [pool.submit(fuzz, name, state=state, **length) for name in options.names or NAMES]
        results = []
        for future in todo:
            results.append(future.result())
            _tell(results[-1])
    found = record(results, before)
    print(f"fuzz: {found['executions']:,} executions, {found['crashes'] or 'no'} crashes")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, found)
    return int(any(result.crashes for result in results))


def _tell(result: Result) -> None:
    print(
        f"fuzz: {result.name}: {result.executions:,} executions in {result.seconds:.0f} s, "
        f"{result.edges} edges" + (", CRASHED:" if result.crashes else ""),
        flush=True,
    )
    if result.crashes:
        print(result.said)
        print(f"fuzz: again: {' '.join(command(result.name))} FILE (docs/fuzzing.md)")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
