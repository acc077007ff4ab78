# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The NoCloud seed of an instance: a small ISO image, the same bytes for the same contents on every node."""

from __future__ import annotations

import os
from typing import Protocol

from ._errors import UsageError
from ._files import STATE, clear_unfinished, sync_folder
from ._names import digest, instance_name
from ._runner import Runner

FOLDER = f"{STATE}/seeds"
# Where the primary volume descriptor of ISO 9660 keeps the name of the volume set; the digest of the sources is there.
VOLUME_SET = (16 * 2048 + 190, 128)
EPOCH = "1600000000"
NAMES = ("meta-data", "network-config", "user-data", "vendor-data")


class Seeds(Protocol):
    """The seeds on a node."""

    def digests(self) -> dict[str, str]: ...

    def digest(self, name: str) -> str | None: ...

    def write(self, name: str, wanted: str, files: dict[str, str]) -> None: ...

    def remove(self, name: str) -> bool: ...


class SystemSeeds:
    """The real thing, made by xorriso."""

    def __init__(self, runner: Runner, folder: str = FOLDER) -> None:
        self.runner = runner
        self.folder = folder

    def path(self, name: str) -> str:
        return os.path.join(self.folder, instance_name(name) + ".iso")

    def digests(self) -> dict[str, str]:
        try:
            names = sorted(name[:-4] for name in os.listdir(self.folder) if name.endswith(".iso"))
        except FileNotFoundError:
            return {}
        return {name: self.digest(name) or "" for name in names}

    def digest(self, name: str) -> str | None:
        """The digest of the sources, read from the image itself; empty for an image that is not ours."""
        offset, length = VOLUME_SET
        try:
            with open(self.path(name), "rb") as file:
                file.seek(offset)
                return file.read(length).decode("ascii", "replace").strip(" \0")
        except FileNotFoundError:
            return None

    def write(self, name: str, wanted: str, files: dict[str, str]) -> None:
        """Makes the image beside, then renames; readable by root alone until libvirt hands it to a guest."""
        import shutil
        import tempfile

        path = self.path(name)
        os.makedirs(self.folder, mode=0o711, exist_ok=True)
        self._clear_unfinished(name)
        work = tempfile.mkdtemp(prefix=f".{name}.{os.getpid()}.", dir=self.folder)
        try:
            sources = self._sources(work, files)
            beside = os.path.join(work, "seed.iso")
            argv = ["xorriso", "-as", "genisoimage", "-quiet", "-output", beside, "-volid", "cidata"]
            argv += ["-volset", digest(wanted), "-joliet", "-rational-rock", sources]
            self.runner.run(argv, mutates=True, timeout=120, env={"SOURCE_DATE_EPOCH": EPOCH})
            os.chmod(beside, 0o600)
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            os.rename(beside, path)
            sync_folder(self.folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _clear_unfinished(self, name: str) -> None:
        """A process that was killed leaves the sources, which may hold passwords."""
        clear_unfinished(self.folder, f".{name}", "[^.]+")

    @staticmethod
    def _sources(work: str, files: dict[str, str]) -> str:
        folder = os.path.join(work, "files")
        os.mkdir(folder, 0o700)
        for name, text in sorted(files.items()):
            if name not in NAMES:
                raise UsageError(f"{name!r} is not a file of a NoCloud seed", f"use {', '.join(NAMES)}")
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o644)
            os.utime(path, (int(EPOCH), int(EPOCH)))
        os.chmod(folder, 0o700)
        os.utime(folder, (int(EPOCH), int(EPOCH)))
        return folder

    def remove(self, name: str) -> bool:
        try:
            os.unlink(self.path(name))
        except FileNotFoundError:
            return False
        self._clear_unfinished(name)
        return True
