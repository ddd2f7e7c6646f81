# SPDX-License-Identifier: Apache-2.0
"""Get DPDK's driver headers, which distributions leave out of their development package.

A driver is built against headers of exactly the installed version, since what they declare has no
stable ABI. They are looked for in the folder that `DPDK_DRIVER_SDK` names, in the source package
of the installed version, and in `../shared/dpdk-driver-sdk/<version>/` beside the checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from steps import (
    BUILD,
    ROOT,
    StepError,
    digest,
    dpdk_version,
    pkg_config,
    run,
    say,
    stamp_matches,
    write_stamp,
)

WANTED: Final = (
    "bus_driver.h",
    "bus_pci_driver.h",
    "bus_vdev_driver.h",
    "dev_driver.h",
    "ethdev_driver.h",
    "ethdev_pci.h",
    "ethdev_vdev.h",
)
_INCLUDE: Final = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*[<"]([\w./-]+)[>"]', re.MULTILINE)
_SOURCE_DIRS: Final = re.compile(r"^[^/]+/(lib/[^/]+(/include)?|drivers/bus/[^/]+)/[^/]+\.h$")


def sdk_dir(version: str) -> Path:
    """Return where the headers of one DPDK version are kept."""
    return BUILD / "dpdk-sdk" / version


def ensure() -> Path:
    """Make sure that the driver headers of the installed DPDK are there; return their folder.

    Raises:
        StepError: no source has them.
    """
    version = dpdk_version()
    target = sdk_dir(version)
    named = os.environ.get("DPDK_DRIVER_SDK", "")
    key = digest(version, named, *WANTED)
    if stamp_matches(target / ".complete", key):
        return target
    failures: list[str] = []
    if named:
        files = _from_folder(Path(named).expanduser(), version)
        origin = named
    else:
        files, origin = {}, ""
        for name, source in (("source package", _from_source_package), ("", _from_neighbour)):
            try:
                files = source(version)
                origin = name or "the folder beside the checkout"
                break
            except StepError as error:
                say("headers", f"not from the {name}: {error}" if name else str(error))
                failures.append(str(error))
    if not files:
        reasons = "; ".join(failures)
        raise StepError(
            f"no driver headers for DPDK {version} ({reasons}); set DPDK_DRIVER_SDK to a folder"
            f" with {', '.join(WANTED)} of exactly this version"
        )
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for name, data in files.items():
        (target / name).write_bytes(data)
    write_stamp(target / ".complete", key)
    say("headers", f"{len(files)} driver headers of DPDK {version} from {origin}")
    return target


def select(tree: dict[str, bytes], installed: set[str]) -> dict[str, bytes]:
    """Pick the wanted headers and what they include, as far as it is not installed already.

    Raises:
        StepError: a wanted header is neither in the tree nor installed.
    """
    chosen: dict[str, bytes] = {}
    queue = list(WANTED)
    while queue:
        name = queue.pop()
        if name in chosen or name in installed:
            continue
        if name not in tree:
            if name in WANTED:
                raise StepError(f"{name} is not there")
            continue
        chosen[name] = tree[name]
        queue += [Path(found.decode()).name for found in _INCLUDE.findall(tree[name])]
    return chosen


def _installed_headers() -> set[str]:
    """Return the names of the headers that the development package brings."""
    folders = [Path(word[2:]) for word in pkg_config("--cflags").split() if word.startswith("-I")]
    folders.append(Path("/usr/include/dpdk"))
    return {file.name for folder in folders for file in folder.glob("*.h")}


def _from_folder(folder: Path, version: str) -> dict[str, bytes]:
    """Take the headers from a plain folder, or from one with a sub-folder per version."""
    for place in (folder / version, folder):
        if (place / "ethdev_driver.h").is_file():
            tree = {file.name: file.read_bytes() for file in place.glob("*.h")}
            return select(tree, _installed_headers())
    raise StepError(f"{folder} holds no ethdev_driver.h; DPDK_DRIVER_SDK must name a folder of it")


def _from_neighbour(version: str) -> dict[str, bytes]:
    folder = ROOT.parent / "shared/dpdk-driver-sdk" / version
    if not folder.is_dir():
        raise StepError("no folder of headers beside the checkout")
    return _from_folder(folder, version)


def _from_source_package(version: str) -> dict[str, bytes]:
    """Download the source package of the installed version, with apt's own checks.

    Apt gets a private configuration with `deb-src` enabled; the machine's is only read.
    """
    if shutil.which("apt-get") is None:
        raise StepError("no apt-get")
    full = subprocess.run(
        ["dpkg-query", "-W", "-f", "${source:Version}", "libdpdk-dev"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if upstream_version(full) != version:
        raise StepError(f"package libdpdk-dev {full or '(none)'} is not DPDK {version}")
    work = BUILD / "dpdk-source"
    shutil.rmtree(work, ignore_errors=True)
    (work / "lists/partial").mkdir(parents=True)
    (work / "cache/archives/partial").mkdir(parents=True)
    texts = source_entries(_machine_sources(), _archives_of(full))
    if not texts:
        raise StepError("apt has no archive to ask")
    parts = work / "sources.list.d"
    parts.mkdir()
    for suffix, text in texts.items():
        (parts / f"source{suffix}").write_text(text)
    options = [
        f"-oDir::Etc::sourcelist={work / 'none'}",
        f"-oDir::Etc::sourceparts={parts}",
        f"-oDir::State::lists={work / 'lists'}",
        f"-oDir::Cache={work / 'cache'}",
        "-oAPT::Sandbox::User=root",
        "-oAcquire::Retries=2",
    ]
    say("headers", f"downloading the source package dpdk {full} (16 MB)")
    try:
        run(["apt-get", "-qq", *options, "update"], doing="reading source indexes", timeout=300)
        command = ["apt-get", "-qq", *options, "source", "--download-only", f"dpdk={full}"]
        run(command, doing=f"downloading the source of dpdk {full}", cwd=work, timeout=600)
        tarballs = sorted(work.glob("dpdk_*.orig.tar.*"))
        tarballs = [path for path in tarballs if path.suffix != ".asc"]
        if len(tarballs) != 1:
            raise StepError("the source package has no single upstream archive")
        found, tree = _read_tarball(tarballs[0])
        if found != version:
            raise StepError(f"the source package is DPDK {found}, installed is {version}")
        return select(tree, _installed_headers())
    finally:
        shutil.rmtree(work, ignore_errors=True)


def upstream_version(debian: str) -> str:
    """Return the upstream part of a Debian version: `1:22.11.11-0+deb12u1` is `22.11.11`."""
    return re.sub(r"[~+].*$", "", debian.split(":", 1)[-1].rsplit("-", 1)[0])


def _archives_of(version: str) -> set[str]:
    """Return the addresses of the archives that offer this version; empty when none does."""
    table = subprocess.run(
        ["apt-cache", "madison", "libdpdk-dev"], capture_output=True, text=True, check=False
    ).stdout
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    return {
        row[2].split()[0].rstrip("/")
        for row in rows
        if len(row) == 3 and row[1] == version and row[2]
    }


def _machine_sources() -> list[Path]:
    folder = Path("/etc/apt/sources.list.d")
    files = [Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list"))]
    return [path for path in [*files, *sorted(folder.glob("*.sources"))] if path.is_file()]


def source_entries(files: list[Path], archives: set[str]) -> dict[str, str]:
    """Turn the machine's apt sources into `deb-src` ones, those of `archives` only if given.

    Returns the text of a one-line file under `.list` and of a deb822 file under `.sources`, each
    only if it has entries (sources.list(5)).
    """
    lines: list[str] = []
    stanzas: list[str] = []
    for file in files:
        text = file.read_text(errors="replace")
        if file.suffix == ".sources":
            stanzas += [
                made
                for stanza in re.split(r"\n[ \t]*\n", text)
                if (made := _source_stanza(stanza, archives)) is not None
            ]
            continue
        for line in text.splitlines():
            match = re.match(r"\s*deb(?:-src)?\s+(\[[^]]*\]\s+)?(\S+)\s+(.*)", line)
            if match and (not archives or match[2].rstrip("/") in archives):
                lines.append(f"deb-src {match[1] or ''}{match[2]} {match[3]}")
    texts = {".list": "\n".join(dict.fromkeys(lines)), ".sources": "\n\n".join(stanzas)}
    return {suffix: text + "\n" for suffix, text in texts.items() if text}


def _source_stanza(stanza: str, archives: set[str]) -> str | None:
    """Turn one deb822 stanza into a `deb-src` one, or None if it is not wanted."""
    lines = [line for line in stanza.splitlines() if line.strip() and not line.startswith("#")]
    fields = {
        key.strip().lower(): value.strip()
        for key, found, value in (line.partition(":") for line in lines if line[0] not in " \t")
        if found
    }
    addresses = fields.get("uris", "").split()
    if not addresses or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
        return None
    if archives and not any(address.rstrip("/") in archives for address in addresses):
        return None
    kept = [line for line in lines if not line.lower().startswith(("types:", "enabled:"))]
    return "\n".join(["Types: deb-src", *kept])


def _read_tarball(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return the version an upstream archive says it is, and its headers by name."""
    version = ""
    tree: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            is_version = re.fullmatch(r"[^/]+/VERSION", member.name) is not None
            if not member.isfile() or not (is_version or _SOURCE_DIRS.match(member.name)):
                continue
            stream = archive.extractfile(member)
            data = stream.read() if stream is not None else b""
            if is_version:
                version = data.decode().strip()
            else:
                tree.setdefault(Path(member.name).name, data)
    return version, tree
