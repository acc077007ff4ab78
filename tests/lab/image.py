# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build and cache the image that nodes boot from: a read-only ext4 file system, a kernel and an initramfs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import kernel, sources
from .command import give_to_owner, locked, run
from .errors import LabError
from .paths import cache_dir
from .progress import Progress
from .recipe import (
    DISABLED_UNITS,
    ENABLED_UNITS,
    HOST_KEY_NUMBERS,
    KEPT_GENERATORS,
    MASKED_UNITS,
    PATH_EXCLUDES,
    PRUNED_MODULES,
    ROOT_SIZE_GIB,
    ROOTFS,
    Recipe,
)

# Keeps the kernel's package from making an initramfs, which takes as long as all the rest and is thrown away.
NO_INITRAMFS = os.environ | {"INITRD": "No"}
MIRROR_URL = "http://192.0.2.1/"


@dataclass(frozen=True)
class Image:
    """A built image; key identifies its contents."""

    key: str
    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root.ext4"

    @property
    def kernel(self) -> Path:
        return self.directory / "kernel"

    @property
    def initramfs(self) -> Path:
        return self.directory / "initramfs"


def ssh_key() -> Path:
    """The private key that opens every machine of the lab, made once for each cache."""
    path = cache_dir() / "ssh" / "id_ed25519"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent / "lock"):
            if not path.exists():
                run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "twofold-lab", "-f", path])
                give_to_owner(path.parent, path, path.with_suffix(".pub"))
    return path


def public_key() -> str:
    return ssh_key().with_suffix(".pub").read_text().strip()


def debs_dir(release: str) -> Path:
    """Every .deb that was downloaded for a release; feeds later builds and the lab's package mirror."""
    path = cache_dir() / "debs" / release
    path.mkdir(parents=True, exist_ok=True)
    return path


def find(release: str = "trixie", bare: bool = False) -> Image | None:
    """The image if it is already built."""
    image = _image(Recipe(release, bare, public_key()))
    return image if image.directory.exists() else None


def build(release: str = "trixie", bare: bool = False, quiet: bool = False) -> Image:
    """Return the image, built first if its recipe has changed."""
    recipe = Recipe(release, bare, public_key())
    image = _image(recipe)
    if image.directory.exists():
        return image
    images = image.directory.parent
    with locked(images / f"{recipe.label}.lock", f"image {recipe.label}: somebody else builds it; waiting"):
        if not image.directory.exists():
            _build(recipe, image, Progress(f"image {recipe.label}", quiet))
    return image


def _image(recipe: Recipe) -> Image:
    return Image(recipe.key, cache_dir() / "images" / recipe.key)


def _build(recipe: Recipe, image: Image, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=image.directory.parent) as temporary:
        work = Path(temporary)
        tree, result = work / "tree", work / "result"
        result.mkdir(mode=0o755)
        progress.say(f"install {len(recipe.packages)} packages and what they need (a minute or two)")
        _bootstrap(recipe, tree, work / "apt.log")
        progress.say("configure the image")
        modules = _unpack_modules(tree)
        _customize(recipe, tree)
        progress.say("make the kernel, the initramfs and the file system")
        _kernel(tree, modules, result)
        _file_system(tree, result / "root.ext4")
        (result / "recipe.json").write_text(json.dumps(recipe.document(), indent=1))
        result.rename(image.directory)
    progress.say(f"built {image.key}")


def _bootstrap(recipe: Recipe, tree: Path, log: Path) -> None:
    options = ["--variant=minbase", *(f"--dpkgopt=path-exclude={pattern}" for pattern in PATH_EXCLUDES)]
    debian(recipe.release, recipe.packages, tree, log, options)


def debian(release: str, packages: Sequence[str], tree: Path, log: Path, options: Sequence[str]) -> None:
    """Install or extract packages of a release, from the host's mirror, into a directory."""
    debs = debs_dir(release)
    argv = ["mmdebstrap", "--mode=root", "--format=directory", *options]
    # What was downloaded stays in the cache: the next build and the mirror for bare nodes use it.
    argv += ["--skip=download/empty", "--skip=essential/unlink"]
    argv += ['--setup-hook=mkdir -p "$1"/var/cache/apt/archives']
    argv += [f"--setup-hook=sync-in {debs} /var/cache/apt/archives"]
    argv += [f"--customize-hook=sync-out /var/cache/apt/archives {debs}"]
    argv += ['--aptopt=Acquire::Languages "none"', *(f"--aptopt={line}" for line in sources.apt_settings())]
    argv += [f"--include={','.join(packages)}", release, str(tree), "-"]
    with log.open("w") as output, locked(debs.parent / f"{release}.lock"):
        text = "\n".join(sources.lines_for(release)) + "\n"
        try:
            done = subprocess.run(
                argv, check=False, input=text, text=True, stdout=output, stderr=subprocess.STDOUT, env=NO_INITRAMFS
            )
        except FileNotFoundError:
            raise LabError("mmdebstrap: not installed; install the packages in tests/lab/packages.txt") from None
    if done.returncode != 0:
        tail = "\n  ".join(log.read_text().splitlines()[-12:])
        raise LabError(f"image of {release}: mmdebstrap failed; check the host's apt sources:\n  {tail}")


def _unpack_modules(tree: Path) -> Path:
    """Drop drivers for absent hardware and unpack the rest: xz is slow under emulation."""
    directories = list((tree / "usr/lib/modules").iterdir())
    if len(directories) != 1:
        raise LabError(f"image: expected one kernel in /usr/lib/modules, found {len(directories)}")
    modules = directories[0]
    for name in PRUNED_MODULES:
        shutil.rmtree(modules / "kernel" / name, ignore_errors=True)
    packed = [str(path) for path in modules.rglob("*.ko.xz")]
    if packed:
        run(["xargs", "-0", "-n", "64", "-P", str(os.cpu_count() or 1), "unxz"], stdin="\0".join(packed))
    run(["chroot", tree, "depmod", modules.name])
    return modules


def _customize(recipe: Recipe, tree: Path) -> None:
    shutil.copytree(ROOTFS, tree, dirs_exist_ok=True, symlinks=True)
    shutil.copy2(kernel.BUSYBOX, tree / "usr/lib/twofold-lab/busybox")
    for name in ("etc/hostname", "etc/machine-id", "var/lib/dbus/machine-id", "etc/apt/apt.conf.d/99mmdebstrap"):
        (tree / name).unlink(missing_ok=True)
    (tree / "etc/machine-id").touch()
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
    (tree / "etc/fstab").write_text("/dev/vda / ext4 defaults,noatime 0 0\n")
    _apt_sources(recipe, tree)
    _units(tree)
    _keys(recipe, tree)
    for path in [*(tree / "boot").glob("initrd.img*"), *(tree / "var/log").glob("*.log")]:
        path.unlink()


def _apt_sources(recipe: Recipe, tree: Path) -> None:
    for path in [tree / "etc/apt/sources.list", *(tree / "etc/apt/sources.list.d").glob("*")]:
        path.unlink(missing_ok=True)
    if recipe.bare:
        line = f"deb [trusted=yes] {MIRROR_URL}{recipe.release}/ ./\n"
        (tree / "etc/apt/sources.list").write_text(line)


def _units(tree: Path) -> None:
    system = tree / "etc/systemd/system"
    for unit in MASKED_UNITS:
        path = system / unit
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/null")
    generators = tree / "etc/systemd/system-generators"
    generators.mkdir(exist_ok=True)
    for path in (tree / "usr/lib/systemd/system-generators").iterdir():
        if path.name not in KEPT_GENERATORS:
            (generators / path.name).symlink_to("/dev/null")
    for name in ("etc/.updated", "var/.updated"):  # else the first boot does ldconfig's and others' work again
        (tree / name).touch()
    run(["chroot", tree, "systemctl", "enable", *ENABLED_UNITS])
    for unit in DISABLED_UNITS:
        if (tree / "usr/lib/systemd/system" / unit).exists():
            (system / "multi-user.target.wants" / unit).unlink(missing_ok=True)


def _keys(recipe: Recipe, tree: Path) -> None:
    """Root's key, and ready-made host keys: making them on an emulated node takes seconds."""
    home = tree / "root/.ssh"
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "authorized_keys").write_text(recipe.public_key + "\n")
    (home / "authorized_keys").chmod(0o600)
    for path in (tree / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    for number in HOST_KEY_NUMBERS:
        directory = tree / "usr/lib/twofold-lab/hostkeys" / str(number)
        directory.mkdir(parents=True)
        key = directory / "ssh_host_ed25519_key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab-{number}", "-f", key])


def _kernel(tree: Path, modules: Path, result: Path) -> None:
    packed = (tree / "boot" / f"vmlinuz-{modules.name}").read_bytes()
    (result / "kernel").write_bytes(kernel.unpack(packed) or packed)
    (result / "bzImage").write_bytes(packed)
    (result / "initramfs").write_bytes(kernel.node_initramfs(modules))


def _file_system(tree: Path, target: Path) -> None:
    # With a journal, unlike a throw-away root: power cuts are what the lab is for.
    options = ["-t", "ext4", "-O", "^metadata_csum", "-J", "size=16", "-m", "0", "-q"]
    options += ["-E", "lazy_itable_init=0,lazy_journal_init=0", "-U", "5f1c1c2e-3b1f-4d0e-9d55-2f0f0d1ab001"]
    run(["mke2fs", *options, "-d", tree, target, f"{ROOT_SIZE_GIB}G"])
    target.chmod(0o444)
