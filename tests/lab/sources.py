# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian package sources of this host, rewritten for another release.

Nothing here knows a mirror: the host's own apt configuration says where packages come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .command import run
from .errors import LabError

# Settings of the host that decide whether its mirror can be reached at all.
APT_SETTINGS = re.compile(
    r'Acquire::(https?::|Check-Valid-Until|Check-Date|Retries|ForceIPv4|ForceIPv6)[^ ]* ".+";$', re.IGNORECASE
)


@dataclass(frozen=True)
class Source:
    """One archive line: where, which suite, which components."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""

    def line(self) -> str:
        return f"deb {self.uri} {self.suite} {' '.join(self.components)}"


def parse_deb822(text: str) -> Iterator[Source]:
    """Sources in the .sources format."""
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, tuple(fields.get("components", "").split()), fields.get("signed-by", ""))


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    key = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace() and key:
            fields[key] += " " + line.strip()
        elif ":" in line:
            key, _ignored, value = line.partition(":")
            key = key.strip().lower()
            fields[key] = value.strip()
    return fields


def parse_lines(text: str) -> Iterator[Source]:
    """Sources in the one-line .list format."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+?)\s*(?:#.*)?$", line)
        if match:
            options, uri, suite, components = match.groups()
            signed = re.search(r"signed-by=(\S+)", options or "")
            yield Source(uri, suite, tuple(components.split()), signed.group(1) if signed else "")


def for_release(sources: Iterable[Source], host: str, release: str) -> list[Source]:
    """The host's Debian sources with its code name replaced; third-party archives are left out."""
    suites = {host, f"{host}-updates", f"{host}-security"}
    chosen: list[Source] = []
    for source in sources:
        keyring = Path(source.signed_by).name
        foreign = bool(source.signed_by) and not keyring.startswith("debian-archive")
        if source.suite not in suites or foreign or "main" not in source.components:
            continue
        moved = Source(source.uri, source.suite.replace(host, release, 1), ("main",))
        if moved not in chosen:
            chosen.append(moved)
    return chosen


def host_release(os_release: str) -> str:
    """The code name in the text of /etc/os-release."""
    match = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', os_release, re.MULTILINE)
    if not match:
        raise LabError("/etc/os-release: has no VERSION_CODENAME; the lab builds its images on a Debian release")
    return match.group(1)


def host_sources() -> list[Source]:
    """Every source that this host's apt knows."""
    found: list[Source] = []
    apt = Path("/etc/apt")
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix == ".sources":
            found += parse_deb822(path.read_text())
        elif path.suffix == ".list" and path.exists():
            found += parse_lines(path.read_text())
    return found


def lines_for(release: str) -> list[str]:
    """sources.list lines for a Debian release, from this host's mirror."""
    host = host_release(Path("/etc/os-release").read_text())
    lines = [source.line() for source in for_release(host_sources(), host, release)]
    if not lines:
        raise LabError(f"/etc/apt: no source for Debian {host}/main that {release} could be derived from; add one")
    return lines


def apt_settings() -> list[str]:
    """The host's apt options that a download needs (proxies, clock checks)."""
    dump = run(["apt-config", "dump"]).stdout
    settings = [line for line in dump.splitlines() if APT_SETTINGS.match(line)]
    if any(Path("/etc/apt/auth.conf.d").glob("*")):
        settings.append('Dir::Etc::netrcparts "/etc/apt/auth.conf.d";')
    return settings
