# SPDX-License-Identifier: Apache-2.0
"""The layout that Python sees is the one that a C compiler gives the same header."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from ovs_highway import paths, shm
from ovs_highway.shm import ffi

if TYPE_CHECKING:
    from pathlib import Path


def structs() -> list[str]:
    text = paths.header().read_text(encoding="utf-8")
    return re.findall(r"^((?:struct|union) highway_\w+) \{", text, re.MULTILINE)


def test_sizes_and_offsets_are_those_of_a_c_compiler(tmp_path: Path) -> None:
    mine: dict[str, int] = {}
    lines = []
    for name in structs():
        mine[name] = ffi.sizeof(name)
        lines.append(f'printf("{name}|%zu\\n", sizeof({name}));')
        for field, _ in ffi.typeof(name).fields or ():
            mine[f"{name}.{field}"] = ffi.offsetof(name, field)
            lines.append(f'printf("{name}.{field}|%zu\\n", offsetof({name}, {field}));')
    source = tmp_path / "layout.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{paths.header()}"\n'
        f"int main(void) {{\n{chr(10).join(lines)}\nreturn 0; }}\n",
        encoding="utf-8",
    )
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "a C compiler is needed: apt-get install gcc"
    program = tmp_path / "layout"
    subprocess.run([compiler, "-Wall", "-Werror", "-o", program, source], check=True)
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    theirs = {
        name: int(value) for name, value in (line.split("|") for line in output.split("\n") if line)
    }
    assert len(mine) > 150
    assert theirs == mine


def test_constants_are_those_of_a_c_compiler(tmp_path: Path) -> None:
    text = paths.header().read_text(encoding="utf-8")
    names = re.findall(r"^\t(HIGHWAY_\w+) = ", text, re.MULTILINE)
    names += re.findall(r"^#define (HIGHWAY_\w+) 0x", text, re.MULTILINE)
    assert len(names) > 60
    body = "\n".join(f'printf("%llu\\n", (unsigned long long){name});' for name in names)
    source = tmp_path / "constants.c"
    source.write_text(
        f'#include <stdio.h>\n#include "{paths.header()}"\n'
        f"int main(void) {{\n{body}\nreturn 0; }}\n",
        encoding="utf-8",
    )
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "a C compiler is needed: apt-get install gcc"
    program = tmp_path / "constants"
    subprocess.run([compiler, "-o", program, source], check=True)
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert [shm.constant(name) for name in names] == [int(line) for line in output.split()]


def test_what_two_sides_write_lies_on_lines_of_its_own() -> None:
    """Neighbouring cache lines are fetched in pairs, so 128 bytes is the unit."""
    for field in ("gate", "vnf_state", "queue_stats"):
        assert ffi.offsetof("struct highway_port_region", field) % 128 == 0
    assert ffi.offsetof("struct highway_link_region", "end") % 128 == 0
    assert ffi.offsetof("struct highway_ring", "tail") == 128


def test_magics_spell_their_names() -> None:
    assert shm.PORT_MAGIC.to_bytes(8, "little") == b"HWYPORT1"
    assert shm.LINK_MAGIC.to_bytes(8, "little") == b"HWYLINK1"
    assert shm.MSG_MAGIC.to_bytes(4, "little") == b"HWYM"


def test_atomic_operations_change_the_word_and_return_the_old_value() -> None:
    word = ffi.new("uint32_t *", 0xFFFFFFFF)
    assert shm.atomic.add(word, 2) == 0xFFFFFFFF
    assert word[0] == 1
    assert shm.atomic.set_bits(word, 6) == 1
    assert shm.atomic.clear_bits(word, 5) == 7
    assert word[0] == 2
