# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a resource's file says, read with the product's own parser."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ansible_collections.twofold.cluster.plugins.module_utils._drbd_parse import parse_config


@dataclass(frozen=True)
class Host:
    """One side: its address with the port, and by volume minor, data device and metadata device."""

    address: str
    volumes: dict[int, tuple[int, str, str]]


@dataclass(frozen=True)
class Config:
    """A resource: sides by host name, options without the secret."""

    hosts: dict[str, Host]
    options: dict[str, str] = field(default_factory=dict)


@lru_cache(4096)
def read(text: str) -> Config:
    """The configuration of a file."""
    ((_words, block),) = parse_config(text)
    hosts: dict[str, Host] = {}
    options: dict[str, str] = {}
    for words, inner in block or ():
        if words[0] == "on":
            hosts[words[1]] = _host(inner)
        else:
            options |= {option[0]: option[1] for option, _none in inner if option[0] != "shared-secret"}
    return Config(hosts, options)


def _host(block: list[Any]) -> Host:
    address, volumes = "", {}
    for words, inner in block:
        if words[0] == "address":
            address = words[-1]
        elif words[0] == "volume":
            facts = {line[0]: line[-1] for line, _none in inner}
            volumes[int(words[1])] = (int(facts["device"]), facts["disk"], facts["flexible-meta-disk"])
    return Host(address, volumes)
