# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What DRBD's tools say, in one vocabulary for DRBD 8.4 and 9."""

from __future__ import annotations

import re
from typing import Any, Union

from ._errors import ParseFailed

# DRBD 8.4's words for the connection, in DRBD 9's.
CONNECTIONS = {"WFConnection": "Connecting", "WFReportParams": "Connecting"}
# 8.4 puts the state of replication into the connection.
REPLICATING = {
    "SyncSource", "SyncTarget", "StartingSyncS", "StartingSyncT", "WFBitMapS", "WFBitMapT", "WFSyncUUID",
    "VerifyS", "VerifyT", "PausedSyncS", "PausedSyncT", "Ahead", "Behind",
}  # fmt: skip
TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([{};])|([^\s{};"#]+)|#[^\n]*')
# DRBD's own blocks are four deep.
DEPTH = 16
Statement = tuple[list[str], Union[list[Any], None]]


def parse_events(text: str) -> dict[str, dict[str, Any]]:
    """Reads `drbdsetup events2 --now`: resources with role, connection, volumes."""
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "exists" or words[1] == "-":
            continue
        facts = dict(word.split(":", 1) for word in words[2:] if ":" in word)
        if "name" not in facts:
            raise ParseFailed("drbdsetup events2", line, "no name")
        one = found.setdefault(
            facts["name"], {"role": None, "peer_role": None, "connection": "StandAlone", "volumes": {}}
        )
        try:
            _event(one, words[1], facts)
        except (KeyError, ValueError) as error:
            raise ParseFailed("drbdsetup events2", line, f"{type(error).__name__}: {error}") from error
    return found


def _event(one: dict[str, Any], kind: str, facts: dict[str, str]) -> None:
    if kind == "resource":
        one["role"] = facts["role"]
    elif kind == "connection":
        one["connection"] = connection(facts["connection"])
        one["peer_role"] = facts["role"]
    elif kind == "device":
        volume = _volume(one, int(facts["volume"]))
        volume["minor"] = int(facts["minor"])
        volume["disk"] = facts["disk"]
    elif kind == "peer-device":
        volume = _volume(one, int(facts["volume"]))
        volume["peer_disk"] = facts["peer-disk"]
        volume["replication"] = facts.get("replication")
        if "done" in facts:
            volume["done"] = _share(facts["done"])


def _volume(one: dict[str, Any], number: int) -> dict[str, Any]:
    empty = {
        "volume": number, "minor": None, "disk": None, "peer_disk": "DUnknown", "done": None, "replication": None,
    }  # fmt: skip
    volume: dict[str, Any] = one["volumes"].setdefault(number, empty)
    return volume


def _share(text: str) -> float:
    """Percent."""
    share = float(text)
    if not 0 <= share <= 100:
        raise ValueError(f"{text}%")
    return share


def connection(word: str) -> str:
    """The state of a connection in DRBD 9's words."""
    return "Connected" if word in REPLICATING else CONNECTIONS.get(word, word)


def parse_proc(text: str) -> dict[int, float]:
    """Reads /proc/drbd of 8.4: how far a minor's resync is, in percent."""
    minor, done = None, {}
    for line in text.splitlines():
        start = re.match(r"\s*(\d{1,7}): cs:", line)
        if start:
            minor = int(start.group(1))
        share = re.search(r"(?:sync'ed|verified):\s*(\d{1,3}(?:\.\d{1,3})?)%", line)
        if share and minor is not None:
            done[minor] = float(share.group(1))
    return done


def parse_equal(text: str) -> set[int]:
    """Reads /proc/drbd of 8.4: the minors of two connected Primaries whose peer has everything."""
    equal = re.compile(r"\s*(\d{1,7}): cs:Connected ro:Primary/Primary ds:(?:UpToDate|Diskless)/UpToDate ")
    return {int(found.group(1)) for found in map(equal.match, text.splitlines()) if found}


def parse_out_of_sync(text: str) -> dict[int, int]:
    """Reads /proc/drbd of 8.4: how much of a minor differs from the peer, in bytes."""
    minor, found = None, {}
    for line in text.splitlines():
        start = re.match(r"\s*(\d{1,7}): cs:", line)
        if start:
            minor = int(start.group(1))
        amount = re.search(r"\boos:(\d{1,18})\b", line)
        if amount and minor is not None:
            found[minor] = int(amount.group(1)) * 1024
    return found


def parse_config(text: str) -> list[Statement]:
    """Reads DRBD's configuration language: statements of words, each with a block or without."""
    stack: list[list[Any]] = [[]]
    words: list[str] = []
    position = 0
    for match in TOKEN.finditer(text):
        if text[position : match.start()].strip():
            raise ParseFailed("the DRBD configuration", text[position : match.start()], "not a word")
        position = match.end()
        quoted, mark, word = match.groups()
        if mark == "{":
            if len(stack) > DEPTH:
                raise ParseFailed("the DRBD configuration", " ".join(words), "it is nested too deeply")
            block: list[Any] = []
            stack[-1].append((words, block))
            stack.append(block)
            words = []
        elif mark == "}":
            if len(stack) == 1 or words:
                raise ParseFailed("the DRBD configuration", " ".join(words), "unexpected }")
            stack.pop()
        elif mark == ";":
            stack[-1].append((words, None))
            words = []
        elif quoted is not None:
            words.append(re.sub(r"\\(.)", r"\1", quoted))
        elif word is not None:
            words.append(word)
    if len(stack) != 1 or words or text[position:].strip():
        raise ParseFailed("the DRBD configuration", text[-200:], "it ends in the middle")
    return stack[0]


def parse_show(text: str) -> dict[str, dict[str, Any]]:
    """Reads `drbdsetup show`: by resource the running options, backing devices and the peer's address; no secret."""
    found: dict[str, dict[str, Any]] = {}
    for words, block in parse_config(text):
        if len(words) == 2 and words[0] == "resource" and block is not None:
            options: dict[str, str] = {}
            backing: dict[int, str] = {}
            _show_block(block, options, backing, None)
            found[words[1]] = {"options": options, "backing": backing, "peer_address": _peer_address(block)}
    return found


def _peer_address(block: list[Any]) -> str | None:
    """The address that a resource connects to, like `ipv4 198.51.100.12:7000`; None if it is StandAlone."""
    for words, inner in block:
        if words == ["_remote_host"]:
            return next((" ".join(line[1:]) for line, _no_block in inner or () if line[:1] == ["address"]), None)
        found = None if inner is None else _peer_address(inner)
        if found is not None:
            return found
    return None


def _show_block(block: list[Any], options: dict[str, str], backing: dict[int, str], volume: int | None) -> None:
    for words, inner in block:
        name = words[0] if words else ""
        if inner is None:
            if name == "disk" and volume is not None and len(words) == 2:
                backing[volume] = words[1]
            continue
        if name in ("options", "net", "disk"):
            for option, _no_block in inner:
                if option and option[0] not in ("shared-secret", "_name", "size"):
                    options[option[0]] = option[1] if len(option) > 1 else "yes"
        elif name == "volume":
            _show_block(inner, options, backing, _number(words))
        else:
            _show_block(inner, options, backing, volume)


def _number(words: list[str]) -> int:
    if len(words) != 2 or re.fullmatch("[0-9]{1,5}", words[1]) is None:
        raise ParseFailed("drbdsetup show", " ".join(words), "no number of a volume")
    return int(words[1])


SECRET = re.compile(r'(\bshared-secret\s+)(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')
PLACEHOLDER = "@SECRET@"


def take_secret(config: str) -> tuple[str, str | None]:
    """The configuration with its secret replaced, and the secret."""
    match = SECRET.search(config)
    if not match:
        return config, None
    secret = match.group(2) if match.group(2) is not None else match.group(3)
    return SECRET.sub(rf'\1"{PLACEHOLDER}"', config), re.sub(r"\\(.)", r"\1", secret)


def put_secret(config: str, secret: str | None) -> str:
    """The configuration with its secret in it."""
    if secret is None:
        return config
    quoted = secret.replace("\\", "\\\\").replace('"', '\\"')
    return config.replace(PLACEHOLDER, quoted)
