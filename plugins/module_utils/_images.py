# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of operating systems: a cache by content on each node, and writing one to a block device.

An image comes from outside and is not trusted: only raw and qcow2, and no qcow2 that refers to another file, since
reading it would read that file of the node's.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Protocol

from . import _json
from ._errors import ParseFailed, Refused, TwofoldError, UsageError
from ._files import STATE, clear_unfinished, sync_folder
from ._names import digest
from ._runner import Runner

FOLDER = f"{STATE}/images"
FORMATS = ("raw", "qcow2")
BLOCK = 1024 * 1024
Report = Callable[[int, int], None]


class Images(Protocol):
    """The cache of images of a node."""

    def cached(self) -> list[str]: ...

    def adopt(self, sha256: str, uploaded: str, report: Report) -> None: ...

    def fetch(self, sha256: str, url: str, report: Report) -> None: ...

    def remove(self, sha256: str) -> bool: ...

    def virtual_size(self, path: str, image_format: str) -> int: ...

    def path(self, sha256: str) -> str: ...

    def write(self, path: str, image_format: str, device: str, zeroed: bool) -> None: ...


class SystemImages:
    """The real thing."""

    def __init__(self, runner: Runner, folder: str = FOLDER) -> None:
        self.runner = runner
        self.folder = folder

    def path(self, sha256: str) -> str:
        return os.path.join(self.folder, digest(sha256))

    def cached(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.folder) if len(name) == 64 and "." not in name)
        except FileNotFoundError:
            return []

    def adopt(self, sha256: str, uploaded: str, report: Report) -> None:
        """Takes in a file that was uploaded to the node."""
        self._take(sha256, uploaded, "file://" + os.path.abspath(uploaded), report)
        _discard(uploaded)

    def fetch(self, sha256: str, url: str, report: Report) -> None:
        """Downloads."""
        self._take(sha256, url, url, report)

    def _take(self, sha256: str, name: str, url: str, report: Report) -> None:
        """Copies, adds up while it does, and keeps only what has the right sum."""
        import hashlib
        from http.client import HTTPException

        os.makedirs(self.folder, mode=0o755, exist_ok=True)
        clear_unfinished(self.folder, digest(sha256), "part")
        part = f"{self.path(sha256)}.{os.getpid()}.part"
        seen = hashlib.sha256()
        try:
            with open_url(url) as source, open(part, "wb") as target:
                total = int(source.headers.get("Content-Length") or 0)
                _pump(source.read, seen, target.write, total, report)
                target.flush()
                os.fsync(target.fileno())
            self._accept(part, sha256, seen.hexdigest(), name)
        except (OSError, HTTPException, ValueError) as error:
            message = f"{name} cannot be fetched: {_reason(error)}"
            raise TwofoldError(message, "check the address, and what answers there, from this node") from error
        finally:
            _discard(part)

    def _accept(self, part: str, wanted: str, found: str, source: str) -> None:
        if found != digest(wanted):
            message = f"the image {source} has the wrong checksum: it is {found}, wanted was {wanted}"
            raise Refused(message, "correct the checksum if the image was changed on purpose; nothing was kept")
        os.chmod(part, 0o644)
        os.rename(part, self.path(wanted))
        sync_folder(self.folder)

    def remove(self, sha256: str) -> bool:
        try:
            os.unlink(self.path(sha256))
        except FileNotFoundError:
            return False
        return True

    def virtual_size(self, path: str, image_format: str) -> int:
        """The size of the disk in an image; refuses what refers to other files."""
        known_format(image_format)
        argv = ["qemu-img", "info", "--output", "json", "-f", image_format, path]
        info = parse_info(self.runner.run(argv, mutates=False, timeout=60).stdout)
        refuse_references(path, info)
        return int(info["virtual-size"])

    def write(self, path: str, image_format: str, device: str, zeroed: bool) -> None:
        """Copies the contents to a block device, which keeps its own size."""
        argv = ["qemu-img", "convert", "-n", "-f", known_format(image_format), "-O", "raw", "-t", "none", "-T", "none"]
        if zeroed:
            argv.append("--target-is-zero")
        self.runner.run([*argv, path, device], mutates=True, timeout=4 * 3600)


def _pump(read: Callable[[int], bytes], seen: Any, write: Callable[[bytes], Any], total: int, report: Report) -> None:
    done = 0
    while block := read(BLOCK):
        seen.update(block)
        write(block)
        done += len(block)
        report(done, total)
    if done < total:
        raise ConnectionError(f"it ended after {done} of {total} bytes")


def _reason(error: Exception) -> str:
    """What went wrong; what is no error of the system often says too little without its name."""
    said = str(getattr(error, "reason", None) or error)
    return said if isinstance(error, OSError) else f"{type(error).__name__}: {said}"


def _discard(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)


def open_url(url: str) -> Any:
    """A file or something on the web; nothing else that urllib might know."""
    from urllib.request import build_opener

    if url.startswith("/"):
        url = "file://" + url
    if not url.startswith(("http://", "https://", "file:///")):
        raise UsageError(f"images cannot be fetched from {url!r}", "use http://, https:// or a path on the node")
    return build_opener().open(url, timeout=60)


def known_format(image_format: str) -> str:
    if image_format not in FORMATS:
        raise UsageError(f"{image_format!r} is not a format of images", f"use one of {', '.join(FORMATS)}")
    return image_format


def parse_info(text: str) -> dict[str, Any]:
    """Reads `qemu-img info --output json`."""
    try:
        info = _json.read(text)
        int(info["virtual-size"])
    except (ValueError, KeyError, TypeError) as error:
        raise ParseFailed("qemu-img info", text, f"{type(error).__name__}: {error}") from error
    found: dict[str, Any] = info
    return found


def refuse_references(path: str, info: dict[str, Any]) -> None:
    """A qcow2 may name a backing file or an external data file; such an image is not self-contained and not safe."""
    specific = (info.get("format-specific") or {}).get("data") or {}
    other = info.get("backing-filename") or info.get("full-backing-filename") or specific.get("data-file")
    if other:
        message = f"the image {path} refers to another file ({other})"
        raise Refused(message, "flatten it with 'qemu-img convert' where it was made")
