# SPDX-License-Identifier: Apache-2.0
"""The driver's classifier (tests/apps/classifier_check.c), compiled for this machine and loaded."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import cffi
import pytest

from .ovs_model import Depth, Match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ovs_items import Item

ROOT: Final = Path(__file__).resolve().parents[2]
DRIVER: Final = ROOT / "drivers/net/highway"
SOURCES: Final = (
    ROOT / "tests/apps/classifier_check.c",
    DRIVER / "highway_class.c",
    DRIVER / "highway_pattern.c",
)
ISAS: Final = {"base": [], "avx2": ["-mavx2", "-DHIGHWAY_WITH_AVX2"]}
"""As in the driver's meson.build."""

NONE, CONFLICT = -1, -2
_WRONG_ALONE = -4
UNLINKED: Final = 255
REFUSED: Final = "refused"

_HEADER: Final = (DRIVER / "highway_shm.h").read_text(encoding="utf-8")
_KEY: Final = _HEADER[_HEADER.index("struct highway_key {") : _HEADER.index("enum highway_rule_fl")]
ffi: Final = cffi.FFI()
ffi.cdef(
    _KEY
    + """
    struct rte_flow_item { int type; const void *spec; const void *last; const void *mask; };
    struct highway_classifier;
    int highway_pattern_parse(const struct rte_flow_item *, struct highway_key *,
                              struct highway_key *, bool *);
    int check_item(const char *, size_t *);
    struct highway_classifier *check_build(const struct highway_key *, const struct highway_key *,
                                           const uint32_t *, uint32_t, uint64_t);
    void check_free(struct highway_classifier *);
    uint32_t check_groups(const struct highway_classifier *);
    int check_depth(const struct highway_classifier *);
    bool check_plain(const struct highway_classifier *);
    uint32_t check_longest_walk(const struct highway_classifier *);
    bool check_twins(const struct highway_classifier *, const struct highway_key *, uint32_t *);
    int check_lookup(const struct highway_classifier *, const uint8_t *, uint32_t, uint32_t);
    bool check_extract(const uint8_t *, uint32_t, uint32_t, int, struct highway_key *);
    double check_cost(const struct highway_classifier *, const uint8_t *, uint32_t, uint32_t,
                      uint32_t);
    double check_build_cost(const struct highway_key *, const struct highway_key *,
                            const uint32_t *, uint32_t);
    """
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as the driver read it: `struct highway_key` twice."""

    key: bytes
    mask: bytes
    usable: bool
    """Fragments never take the bypass."""


def compile_driver(folder: Path, isa: str) -> Path:
    """Compile the driver's classifier as meson.build does; skip the test if that cannot be."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler; run 'make setup' as root")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "libdpdk"], capture_output=True, text=True, check=False
    )
    if flags.returncode != 0:
        pytest.skip("no DPDK headers; run 'make setup' as root")
    target = folder / f"classifier_{isa}.so"
    options = ["-shared", "-fPIC", "-O3", "-g", "-std=gnu11", "-D_GNU_SOURCE", f"-I{DRIVER}"]
    options += ["-Wall", "-Wextra", "-Werror", "-Wno-error=cpp", *shlex.split(flags.stdout)]
    options += ISAS[isa]
    libraries = ["-lrte_mbuf"]
    subprocess.run([compiler, *options, *map(str, SOURCES), *libraries, "-o", target], check=True)
    return target


class Driver:
    """The compiled classifier."""

    def __init__(self, library: Path) -> None:
        self.c: Any = ffi.dlopen(str(library), os.RTLD_LOCAL | os.RTLD_NOW)

    def item_type(self, kind: str) -> tuple[int, int]:
        """Return an item's type and the bytes of its spec."""
        size = ffi.new("size_t *")
        found = self.c.check_item(kind.encode(), size)
        assert kind == "end" or found > 0 or kind == "void", kind
        return found, size[0]

    def parse(self, items: Sequence[Item]) -> Rule | None:
        """Read a pattern; None if it is refused."""
        raw = ffi.new("struct rte_flow_item[]", len(items))
        alive = []
        for place, item in zip(raw, items, strict=True):
            place.type, size = self.item_type(item.kind)
            for name in ("spec", "mask", "last"):
                if (data := getattr(item, name)) is not None:
                    assert len(data) == size, f"{item.kind}: {len(data)} instead of {size} bytes"
                    alive.append(ffi.new("char[]", data))
                    setattr(place, name, alive[-1])
        key, mask = ffi.new("struct highway_key *"), ffi.new("struct highway_key *")
        usable = ffi.new("bool *")
        if self.c.highway_pattern_parse(raw, key, mask, usable) != 0:
            return None
        return Rule(bytes(ffi.buffer(key)), bytes(ffi.buffer(mask)), usable[0])

    def extract(self, frame: bytes, depth: Depth, first: int | None = None) -> Any:  # noqa: ANN401
        """Return a frame's `struct highway_key`; None if it cannot be parsed for certain."""
        key = ffi.new("struct highway_key *")
        size = len(frame)
        found = self.c.check_extract(frame, size, size if first is None else first, depth, key)
        return key if found else None

    def table(self, rules: Sequence[Rule], links: Sequence[int], seed: int = 1) -> Table:
        """Build a classifier."""
        return Table(self, rules, links, seed)


class Table:
    """A classifier of some rules; as a context manager."""

    def __init__(
        self, driver: Driver, rules: Sequence[Rule], links: Sequence[int], seed: int
    ) -> None:
        self.driver = driver
        self.keys = ffi.from_buffer("struct highway_key[]", b"".join(rule.key for rule in rules))
        self.masks = ffi.from_buffer("struct highway_key[]", b"".join(rule.mask for rule in rules))
        self.links = ffi.new("uint32_t[]", list(links))
        self.n = len(rules)
        self.raw = driver.c.check_build(self.keys, self.masks, self.links, self.n, seed)
        assert self.raw != ffi.NULL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.c.check_free(self.raw)

    def lookup(self, frame: bytes, first: int | None = None) -> int:
        """Return the index of the rule for a frame, NONE or CONFLICT.

        `first` is the length of the mbuf's first segment, if it is not all of the frame.
        """
        size = len(frame)
        verdict: int = self.driver.c.check_lookup(
            self.raw, frame, size, size if first is None else first
        )
        assert verdict != _WRONG_ALONE, "the short cut for an only rule disagrees"
        assert verdict >= CONFLICT, "the verdict depends on bytes behind the frame"
        return verdict

    @property
    def depth(self) -> Depth:
        """How far frames are parsed."""
        return Depth(self.driver.c.check_depth(self.raw))

    @property
    def plain(self) -> bool:
        """Whether the fast way is taken."""
        return bool(self.driver.c.check_plain(self.raw))

    @property
    def groups(self) -> int:
        """How many masks there are."""
        return int(self.driver.c.check_groups(self.raw))

    @property
    def longest_walk(self) -> int:
        """The most entries of one group that a look-up may pass."""
        return int(self.driver.c.check_longest_walk(self.raw))

    def twins(self, key: bytes) -> tuple[int, int]:
        """Return two IPv4 sources that only a comparison of keys of the first mask tells apart."""
        found = ffi.new("uint32_t[2]")
        assert self.driver.c.check_twins(
            self.raw, ffi.from_buffer("struct highway_key *", key), found
        )
        return found[0], found[1]

    def cost(self, frames: Sequence[bytes], rounds: int) -> float:
        """Return nanoseconds per look-up of frames of the same length; -1 if one has no rule."""
        raw = b"".join(frames)
        return float(self.driver.c.check_cost(self.raw, raw, len(frames[0]), len(frames), rounds))

    def build_cost(self) -> float:
        """Return nanoseconds to build this classifier once more."""
        return float(self.driver.c.check_build_cost(self.keys, self.masks, self.links, self.n))


def peers_of(matches: Sequence[Match], peers: Sequence[int], flow: Any) -> set[int]:  # noqa: ANN401
    """Return where OVS's flows would send a packet: brute force."""
    return {peer for match, peer in zip(matches, peers, strict=True) if match.covers(flow)}
