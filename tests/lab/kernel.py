# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine boots: the kernel, unpacked for a faster start, and a small initramfs of our own."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import struct
import subprocess
from pathlib import Path

from . import archive
from .errors import LabError

BUSYBOX = Path("/bin/busybox")
NODE_MODULES = ("crc32c_generic", "virtio_pci", "virtio_blk", "ext4", "virtio_net", "virtio_rng")
# Said on the serial port by a machine that was started only to see whether KVM works.
PROBE_MARKER = "twofold-lab: kvm works"
NODE_INIT = f"""#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t devtmpfs dev /dev
if busybox grep -q labprobe /proc/cmdline; then
    busybox grep -qwE 'svm|vmx' /proc/cpuinfo && echo '{PROBE_MARKER}'
    busybox poweroff -f
fi
for module in /modules/*; do busybox insmod $module; done
until [ -b /dev/vda ]; do busybox usleep 20000; done
busybox mount -t ext4 -o noatime /dev/vda /newroot || busybox poweroff -f
busybox umount /proc
busybox mount -o move /dev /newroot/dev
exec busybox switch_root /newroot /sbin/init
"""


def unpack(image: bytes) -> bytes | None:
    """The ELF kernel inside a bzImage, or None if its compression is not known."""
    if image[0x202:0x206] != b"HdrS":
        return None
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    elf = _decompress(image[start : start + length])
    return elf if elf and elf[:4] == b"\x7fELF" else None


def _decompress(payload: bytes) -> bytes | None:
    if payload[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(payload)
    if payload[:2] == b"\x1f\x8b":
        return gzip.decompress(payload)
    if payload[:4] == b"\x28\xb5\x2f\xfd" and shutil.which("zstd"):
        # The last 4 bytes are the unpacked size, which zstd would take for rubbish.
        done = subprocess.run(["zstd", "-dcq"], check=False, input=payload[:-4], capture_output=True)
        return done.stdout if done.returncode == 0 else None
    return None


def with_dependencies(wanted: tuple[str, ...], modules_dep: str) -> list[str]:
    """Paths of modules in the order in which they can be loaded, from the text of modules.dep."""
    needs: dict[str, list[str]] = {}
    paths: dict[str, str] = {}
    for line in modules_dep.splitlines():
        path, _ignored, rest = line.partition(":")
        needs[path] = rest.split()
        paths[_module_name(path)] = path
    ordered: list[str] = []

    def add(path: str) -> None:
        for need in needs.get(path, []):
            add(need)
        if path not in ordered:
            ordered.append(path)

    for name in wanted:
        if name in paths:  # absent: built into the kernel
            add(paths[name])
    return ordered


def read_module(path: Path) -> bytes:
    """A kernel module, unpacked."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def dependencies(module_dir: Path, names: list[str]) -> str:
    """What depmod would write to modules.dep (direct dependencies alone), from the modules' own 'depends='."""
    paths = {_module_name(name): name for name in names}
    lines = []
    for name in names:
        match = re.search(rb"\0depends=([^\0]*)\0", read_module(module_dir / name))
        needed = match.group(1).decode().replace("-", "_").split(",") if match and match.group(1) else []
        lines.append(f"{name}: {' '.join(paths[need] for need in needed if need in paths)}")
    return "\n".join(lines)


def _module_name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")


def busybox_tree() -> list[archive.Entry]:
    """The directories and the shell that every initramfs of the lab starts from."""
    if not BUSYBOX.exists():
        raise LabError(f"{BUSYBOX}: not found; install the package busybox-static")
    return [
        *(archive.directory(name) for name in ("bin", "dev", "proc", "sys", "newroot", "modules")),
        archive.character("dev/console", 5, 1),
        archive.file("bin/busybox", BUSYBOX.read_bytes(), 0o755),
        archive.link("bin/sh", "busybox"),
    ]


def node_initramfs(module_dir: Path) -> bytes:
    """The initramfs of a node: mounts /dev/vda and starts its init. module_dir holds unpacked modules."""
    entries = busybox_tree()
    order = with_dependencies(NODE_MODULES, (module_dir / "modules.dep").read_text())
    for number, path in enumerate(order):
        entries.append(archive.file(f"modules/{number:02}.ko", (module_dir / path).read_bytes()))
    entries.append(archive.file("init", NODE_INIT.encode(), 0o755))
    return archive.cpio(entries)
