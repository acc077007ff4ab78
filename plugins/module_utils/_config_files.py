# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files, blocks in files of others, directories and credentials of a node."""

from __future__ import annotations

import os
import stat
from typing import Any

from ._config_host import Change, Host

BEGIN, END = "# BEGIN twofold", "# END twofold"
MARK = "Written by Twofold"
BACKUP = ".before-twofold"


class FileItem:
    """A file that is ours as a whole. What was there before us is kept beside it."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.path: str = item["path"]
        self.content: str = item["content"]
        self.mode = int(item["mode"], 8)

    def changes(self, host: Host) -> list[Change]:
        before = host.read(self.path)
        if before == self.content:
            return attributes(host, self.path, self.mode, 0)
        message = "is missing" if before is None else "has other contents"
        return [Change(f"file {self.path}", message, diff(self.path, before, self.content))]

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        before = host.read(self.path)
        foreign = before is not None and before != self.content and MARK not in before
        if foreign and not host.exists(self.path + BACKUP):
            host.write(self.path + BACKUP, before or "", 0o600)
        host.write(self.path, self.content, self.mode)
        own(host, self.path, 0)
        host.forget()


class GoneItem:
    """A file that an older version of ours wrote, and that nothing needs any more."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.path: str = item["path"]

    def changes(self, host: Host) -> list[Change]:
        before = host.read(self.path)
        if before is None or MARK not in before:
            return []
        return [Change(f"file {self.path}", "is of an older version", diff(self.path, before, ""))]

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        os.unlink(host.path(self.path))
        host.forget()


class BlockItem:
    """A marked block in a file that belongs to others."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.path: str = item["path"]
        self.block = f"{BEGIN}\n{item['content']}{END}\n"

    def changes(self, host: Host) -> list[Change]:
        before = host.read(self.path)
        after = self.wanted(before or "")
        if before == after:
            return []
        message = "lacks our block" if BEGIN not in (before or "") else "has other contents in our block"
        return [Change(f"file {self.path}", message, diff(self.path, before, after))]

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        before = host.read(self.path)
        mode = 0o644 if before is None else stat.S_IMODE(os.stat(host.path(self.path)).st_mode)
        host.write(self.path, self.wanted(before or ""), mode)

    def wanted(self, text: str) -> str:
        """The text with our block in its place, or at the end."""
        start = text.find(f"{BEGIN}\n")
        end = text.find(f"{END}\n", start)
        if start >= 0 and end >= 0:
            return text[:start] + self.block + text[end + len(END) + 1 :]
        return text + ("\n" if text and not text.endswith("\n") else "") + self.block


def outside_block(text: str) -> str:
    """What others wrote into a file with our block."""
    start = text.find(f"{BEGIN}\n")
    end = text.find(f"{END}\n", start)
    return text if start < 0 or end < 0 else text[:start] + text[end + len(END) + 1 :]


class DirectoryItem:
    """A directory of ours."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.path: str = item["path"]
        self.mode = int(item["mode"], 8)

    def changes(self, host: Host) -> list[Change]:
        if not host.exists(self.path):
            return [Change(f"directory {self.path}", "is missing")]
        return attributes(host, self.path, self.mode, 0)

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        os.makedirs(host.path(self.path), exist_ok=True)
        os.chmod(host.path(self.path), self.mode)
        own(host, self.path, 0)


class CredentialItem:
    """A certificate with its key, in every place where it is read. The keys come as a secret, when they are renewed."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.name: str = item["name"]
        self.certificates: list[str] = item["certificates"]
        self.keys: list[str] = item["keys"]
        self.group: str = item["group"]
        self.mode = int(item["mode"], 8)

    def state(self, host: Host) -> dict[str, Any]:
        """The public part, and what is wrong with the pair."""
        texts = [host.read(path) for path in self.certificates]
        return {"certificate": texts[0], "problem": self._problem(host, texts)}

    def _problem(self, host: Host, texts: list[str | None]) -> str | None:
        for path, text in zip(self.certificates, texts):
            if text is None:
                return f"{path} is missing"
            if text != texts[0]:
                return f"{path} is not the same as {self.certificates[0]}"
        for path in self.keys:
            if not host.exists(path):
                return f"{path} is missing"
            if not matches(host.path(self.certificates[0]), host.path(path)):
                return f"{path} does not belong to {self.certificates[0]}"
        return None

    def changes(self, host: Host) -> list[Change]:
        """Only what can be put right without a new key; the control host judges the rest."""
        group = group_id(self.group)
        if group is None:
            return []
        found = [attributes(host, path, self.mode, group) for path in self.keys if host.exists(path)]
        found += [attributes(host, path, 0o644, 0) for path in self.certificates if host.exists(path)]
        return [change for changes in found for change in changes]

    def apply(self, host: Host, secrets: dict[str, Any]) -> None:
        group = group_id(self.group)
        pair = secrets.get(self.name)
        if group is None:
            group = 0
        for path, part, mode, owner in [
            *((path, "key", self.mode, group) for path in self.keys),
            *((path, "certificate", 0o644, 0) for path in self.certificates),
        ]:
            if pair:
                host.write(path, pair[part], 0o600 if part == "key" else mode)
            if host.exists(path):
                own(host, path, owner)
                os.chmod(host.path(path), mode)


def matches(certificate: str, key: str) -> bool:
    """Whether a key belongs to a certificate."""
    import ssl

    def refuse() -> str:
        raise ValueError("the key is encrypted")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=refuse)
    except (OSError, ValueError):
        return False
    return True


def group_id(name: str) -> int | None:
    """The number of a group, None if there is no such group (yet)."""
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def attributes(host: Host, path: str, mode: int, group: int) -> list[Change]:
    """What is wrong with the mode and the owner of a file or directory."""
    found = os.stat(host.path(path))
    wrong = []
    if stat.S_IMODE(found.st_mode) != mode:
        wrong.append(f"has mode {stat.S_IMODE(found.st_mode):04o}, not {mode:04o}")
    if not host.root and (found.st_uid, found.st_gid) != (0, group):
        wrong.append(f"belongs to {found.st_uid}:{found.st_gid}, not to 0:{group}")
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
    return [Change(f"{kind} {path}", " and ".join(wrong))] if wrong else []


def own(host: Host, path: str, group: int) -> None:
    """Gives a file to root and a group; below another root nobody is root."""
    if not host.root:
        os.chown(host.path(path), 0, group)


def diff(path: str, before: str | None, after: str) -> dict[str, str]:
    """The change in Ansible's form: of a file that is not ours without its comments, and never with a password."""
    shown = before or ""
    if MARK not in shown and BEGIN not in after:
        shown = "".join(line for line in shown.splitlines(True) if line.strip() and not line.lstrip().startswith("#"))
    return {"before_header": path, "after_header": path, "before": redacted(shown), "after": redacted(after)}


def redacted(text: str) -> str:
    """A text without the values of settings that look like secrets."""
    import re

    return re.sub(r"(?im)^(\s*[\w.-]*(?:password|secret)[\w.-]*\s*=).*$", r"\1 @SECRET@", text)
