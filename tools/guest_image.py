# SPDX-License-Identifier: Apache-2.0
"""Build the guest of the VM tests and the demo, from distribution packages only.

A kernel of Debian's cloud flavour and an initramfs with busybox, the unmodified testpmd with all
that it links to, the driver, and the test program `traffic`. Nothing is installed: packages are
unpacked into build/. See guest/init for what the guest does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from steps import BUILD, PLUGIN, ROOT, StepError, digest, run, say, stamp_matches, write_stamp

FOLDER: Final = BUILD / "guest"
KERNEL: Final = FOLDER / "vmlinuz"
INITRAMFS: Final = FOLDER / "initramfs"
TRAFFIC: Final = BUILD / "meson/tests/apps/traffic/traffic"
INIT: Final = ROOT / "tests/vm/guest/init"
META: Final = "linux-image-cloud-amd64"
MODULES: Final = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
)
# DPDK loads them by name, so no program links to them.
PLUGINS: Final = ("bus_pci", "bus_vdev", "mempool_ring", "net_null", "net_ring")


def ensure() -> None:
    """Make kernel and initramfs unless they are there and up to date.

    Raises:
        StepError: a package cannot be had, or a program is missing.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    testpmd = _which("dpdk-testpmd")
    busybox = _which("busybox")
    inputs = [PLUGIN, TRAFFIC, INIT, testpmd, busybox, Path(__file__)]
    key = digest(*(f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}" for path in inputs))
    stamp = FOLDER / ".complete"
    if stamp_matches(stamp, key) and KERNEL.exists() and INITRAMFS.exists():
        return
    unpacked = _kernel()
    root = FOLDER / "root"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "run", "var"):
        (root / name).mkdir(parents=True)
    (root / "var/run").symlink_to("/run")
    (root / "usr/lib").mkdir(parents=True)
    for name in ("lib", "lib64"):
        if Path("/", name).is_symlink():
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).symlink_to(Path("usr", name))
            (root / "usr" / name).mkdir(exist_ok=True)
    shutil.copy2(busybox, root / "bin/busybox")
    shutil.copy2(INIT, root / "init")
    (root / "init").chmod(0o755)
    (root / "etc/modules").write_text("".join(f"{name}\n" for name in MODULES))
    (root / "lib/modules").mkdir(parents=True)
    for name in MODULES:
        found = next(unpacked.glob(f"lib/modules/**/{name}.ko*"), None)
        if found is None:
            raise StepError(f"the kernel package {META} has no module {name}; use another one")
        shutil.copy2(found, root / "lib/modules" / found.name)
    _programs(root, testpmd)
    _pack(root)
    shutil.rmtree(root)
    write_stamp(stamp, key)
    say("guest", f"built {INITRAMFS.relative_to(ROOT)}, {INITRAMFS.stat().st_size >> 20} MiB")


def _which(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise StepError(f"{name} is missing; run 'make guest-image' as root")
    return Path(found).resolve()


def _kernel() -> Path:
    """Unpack the newest cloud kernel; return the folder."""
    unpacked = FOLDER / "kernel"
    if KERNEL.exists() and unpacked.exists():
        return unpacked
    depends = run(["apt-cache", "depends", META], doing="asking apt for the guest's kernel")
    match = re.search(r"Depends: (linux-image-\S+)", depends)
    if match is None:
        raise StepError(f"apt knows no package {META}; run 'apt-get update' as root")
    say("guest", f"fetching {match[1]}")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    # apt downloads as another user, who may not be able to write here: it then warns only.
    subprocess.run(
        ["apt-get", "-qq", "download", match[1]],
        cwd=unpacked,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    package = next(unpacked.glob("*.deb"), None)
    if package is None:
        raise StepError(f"{match[1]} cannot be downloaded; run 'apt-get update', check the network")
    run(["dpkg", "-x", package, unpacked], doing="unpacking the guest's kernel")
    package.unlink()
    shutil.copy2(next(unpacked.glob("boot/vmlinuz-*")), KERNEL)
    return unpacked


def _libraries(program: Path) -> set[Path]:
    """Return what a program links to, as it is named there."""
    text = run(["ldd", program], doing=f"looking at {program.name}")
    return {Path(name) for name in re.findall(r"(/\S+) \(0x", text)}


def _programs(root: Path, testpmd: Path) -> None:
    """Put programs and their libraries where they lie here; plugins are links to libraries."""
    shutil.copy2(testpmd, root / "bin/dpdk-testpmd")
    shutil.copy2(TRAFFIC, root / "bin/traffic")
    libraries = _libraries(testpmd) | _libraries(TRAFFIC) | _libraries(PLUGIN)
    plugins = next(iter(Path("/usr/lib").glob("*-linux-gnu/dpdk/pmds-*")), None)
    if plugins is None:
        raise StepError("DPDK's plugin folder is missing; run 'make setup' as root")
    named = {path for name in PLUGINS for path in plugins.glob(f"librte_{name}.so*")}
    named |= libraries | {path for name in libraries | named for path in _libraries(name)}
    # glibc loads it when a thread ends.
    named |= set(Path("/lib").glob("*-linux-gnu/libgcc_s.so.1"))
    for path in named:
        _put(root, path)
    shutil.copy2(PLUGIN, root / str(plugins).lstrip("/") / PLUGIN.name)


def _put(root: Path, path: Path) -> None:
    """Copy a library, and have every name of it lead to the one copy: two would be loaded twice."""
    real = path.resolve()
    target = root / str(real).lstrip("/")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(real, target)
    # /lib is /usr/lib in the guest too.
    link = root / str(path.parent.resolve() / path.name).lstrip("/")
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(real)


def _pack(root: Path) -> None:
    """Pack the folder as the kernel wants it; not compressed, which starts faster."""
    names = "\0".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    with INITRAMFS.open("wb") as target:
        done = subprocess.run(
            ["cpio", "--quiet", "--null", "-o", "-H", "newc", "-R", "0:0"],
            cwd=root,
            input=names.encode(),
            stdout=target,
            stderr=subprocess.PIPE,
            check=False,
        )
    if done.returncode != 0:
        raise StepError(f"packing the guest failed: {done.stderr.decode().strip()}")
