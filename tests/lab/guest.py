# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest images for tests: a small real Linux with a boot loader, and a guest of one boot sector.

lab-guest is a disk of 64 MiB: an MBR, a FAT partition with syslinux, Debian's cloud kernel and an initramfs that stays
the root (busybox, dropbear), and an ext4 partition labelled 'labstate', mounted on /state, for all that must persist.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import struct
import tempfile
from pathlib import Path

from . import archive, kernel, tiny_guest
from .command import locked, run
from .errors import LabError
from .image import debian
from .paths import cache_dir, digest, file_digest, write_atomically
from .progress import Progress
from .recipe import tree_digest

VERSION = 1
RELEASE = "trixie"
PACKAGES = ("linux-image-cloud-amd64", "dropbear-bin")
MODULES = (
    "virtio_blk", "virtio_net", "virtio_scsi", "virtio_rng", "virtio_balloon", "ahci", "sd_mod", "sr_mod", "isofs",
    "vfat", "nls_ascii", "nls_cp437", "nls_utf8", "evdev", "button", "crc32c_generic", "ext4",
)  # fmt: skip
PROGRAMS = ("usr/sbin/dropbear", "usr/bin/dropbearkey")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
FILES = Path(__file__).with_name("guestfs")
MBR = Path("/usr/lib/syslinux/mbr/mbr.bin")
MIB = 1 << 20
# Partition: first MiB, size in MiB.
BOOT, STATE = (1, 38), (39, 25)
DISK_MIB = 64
SYSLINUX = """DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
  KERNEL vmlinuz
  INITRD initramfs
  APPEND console=ttyS0 quiet mitigations=off random.trust_cpu=on net.ifnames=0 panic=5
"""
PASSWD = "root:x:0:0:root:/root:/bin/sh\n"
NAMES = ("lab-guest.raw", "lab-guest.qcow2", "tiny-guest.raw")


def guests_dir() -> Path:
    return cache_dir() / "guests"


def key() -> str:
    """Hash of what the guest images are made of."""
    return digest(
        {
            "version": VERSION,
            "packages": [RELEASE, PACKAGES, MODULES, PROGRAMS],
            "layout": [BOOT, STATE, DISK_MIB, SYSLINUX],
            "files": tree_digest(FILES),
            "tiny": hashlib.sha256(tiny_guest.disk()).hexdigest(),
        }
    )


def build(quiet: bool = False) -> Path:
    """Return the directory of the guest images, built first if their recipe has changed."""
    directory = guests_dir()
    with locked(directory / ".lock", "guest images: somebody else builds them; waiting"):
        stamp = directory / ".key"
        if not (stamp.exists() and stamp.read_text() == key() and all((directory / name).exists() for name in NAMES)):
            _build(directory, Progress("guest images", quiet))
            write_atomically(stamp, key())
    return directory


def _build(directory: Path, progress: Progress) -> None:
    if not MBR.exists() or not shutil.which("syslinux"):
        raise LabError("syslinux: not found; install the packages syslinux and syslinux-common")
    with tempfile.TemporaryDirectory(prefix=".building-", dir=directory) as temporary:
        work = Path(temporary)
        progress.say("extract kernel and dropbear")
        debian(RELEASE, PACKAGES, work / "tree", work / "apt.log", ["--variant=extract"])
        progress.say("make the disks")
        _lab_guest(work / "tree", work)
        (work / NAMES[2]).write_bytes(tiny_guest.disk())
        sums = "".join(f"{file_digest(work / name)}  {name}\n" for name in NAMES)
        for name in NAMES:
            (work / name).rename(directory / name)
        write_atomically(directory / "SHA256SUMS", sums)
    progress.say(f"built {directory}")


def _lab_guest(tree: Path, work: Path) -> None:
    boot, state, raw = work / "boot.fat", work / "state.ext4", work / NAMES[0]
    (work / "vmlinuz").write_bytes(next((tree / "boot").glob("vmlinuz-*")).read_bytes())
    (work / "initramfs").write_bytes(initramfs(tree))
    (work / "syslinux.cfg").write_text(SYSLINUX)
    run(["mkfs.vfat", "-F", "16", "-n", "LABBOOT", "-i", "2f01ab01", "-C", boot, str(BOOT[1] * 1024)])
    run(["mcopy", "-i", boot, *(work / name for name in ("vmlinuz", "initramfs", "syslinux.cfg")), "::"])
    run(["mke2fs", "-q", "-t", "ext4", "-m", "0", "-L", "labstate", "-J", "size=4", state, f"{STATE[1]}M"])
    with raw.open("wb") as disk:
        disk.truncate(DISK_MIB * MIB)
        disk.write(mbr(MBR.read_bytes()))
        for (first, _size), part in ((BOOT, boot), (STATE, state)):
            disk.seek(first * MIB)
            disk.write(part.read_bytes())
    run(["syslinux", "--install", "--offset", str(BOOT[0] * MIB), raw])
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, work / NAMES[1]])


def mbr(loader: bytes) -> bytes:
    """The first sector: boot loader and partition table."""
    sectors = MIB // 512
    table = b""
    for (first, size), kind, flag in ((BOOT, 0x0E, 0x80), (STATE, 0x83, 0)):
        # The cylinder fields say 'look at the sector numbers'.
        table += struct.pack("<B3sB3sII", flag, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", first * sectors, size * sectors)
    signature = struct.pack("<IH", 0x2F01AB02, 0)
    return loader[:440].ljust(440, b"\0") + signature + table.ljust(64, b"\0") + b"\x55\xaa"


def initramfs(tree: Path) -> bytes:
    """The guest's root: busybox, dropbear with its libraries, drivers, and the files in guestfs."""
    entries = kernel.busybox_tree()
    names = ("etc", "lib", "lib64", "sbin", "tmp", "usr", "usr/bin", "usr/sbin", "usr/lib", LIBRARIES, "var", "var/run")
    entries += [archive.directory(name) for name in names]
    entries += _drivers(tree)
    for name in (*PROGRAMS, *_libraries(tree)):
        entries.append(archive.file(name, (tree / name).read_bytes(), 0o755))
    entries.append(archive.file("lib64/ld-linux-x86-64.so.2", (tree / LOADER).read_bytes(), 0o755))
    for name, text in (("passwd", PASSWD), ("group", "root:x:0:\n"), ("shells", "/bin/sh\n"), ("hosts", "")):
        entries.append(archive.file(f"etc/{name}", text.encode()))
    return archive.cpio(entries + _tree(FILES))


def _tree(root: Path) -> list[archive.Entry]:
    entries = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        executable = 0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644
        entries.append(archive.directory(name) if path.is_dir() else archive.file(name, path.read_bytes(), executable))
    return entries


def _drivers(tree: Path) -> list[archive.Entry]:
    modules = next((tree / "usr/lib/modules").iterdir())
    # The packages were extracted without their installation scripts, so the list of dependencies is missing.
    names = [str(path.relative_to(modules)) for path in modules.rglob("*.ko*")]
    order = kernel.with_dependencies(MODULES, kernel.dependencies(modules, names))
    return [
        archive.file(f"modules/{number:02}.ko", kernel.read_module(modules / name))
        for number, name in enumerate(order)
    ]  # fmt: skip


def _libraries(tree: Path) -> list[str]:
    """Paths in the tree of the shared libraries that the programs need."""
    found: set[str] = set()
    for program in PROGRAMS:
        listed = run([tree / LOADER, "--library-path", tree / LIBRARIES, "--list", tree / program]).stdout
        for line in listed.splitlines():
            _name, arrow, rest = line.partition(" => ")
            path = rest.split(" (")[0]
            if arrow and path.startswith(str(tree / LIBRARIES)):
                found.add(str(Path(path).relative_to(tree)))
    return sorted(found)
