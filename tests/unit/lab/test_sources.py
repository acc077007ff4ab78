# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Package sources of the host, moved to another release."""

from __future__ import annotations

import pytest
from tests.lab import sources
from tests.lab.errors import LabError
from tests.lab.sources import Source

DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.invalid/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://other.invalid/
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/other.gpg

Types: deb
URIs: http://off.invalid/
Suites: bookworm
Components: main
Enabled: no
"""
LINES = """\
# deb http://comment.invalid/debian bookworm main
deb http://mirror.invalid/debian bookworm main non-free # trailing
deb [arch=amd64 signed-by=/etc/apt/keyrings/other.gpg] http://other.invalid/ bookworm main
deb-src http://mirror.invalid/debian bookworm main
deb http://mirror.invalid/tools tools-bookworm main
"""


def test_deb822_is_moved_and_strangers_are_left_out() -> None:
    moved = sources.for_release(sources.parse_deb822(DEB822), "bookworm", "trixie")
    assert [source.line() for source in moved] == [
        "deb http://mirror.invalid/debian trixie main",
        "deb http://mirror.invalid/debian trixie-updates main",
        "deb http://mirror.invalid/debian-security trixie-security main",
    ]


def test_one_line_sources() -> None:
    assert list(sources.parse_lines(LINES))[:2] == [
        Source("http://mirror.invalid/debian", "bookworm", ("main", "non-free")),
        Source("http://other.invalid/", "bookworm", ("main",), "/etc/apt/keyrings/other.gpg"),
    ]
    moved = sources.for_release(sources.parse_lines(LINES), "bookworm", "bookworm")
    assert [source.uri for source in moved] == ["http://mirror.invalid/debian"]


def test_code_name_of_the_host() -> None:
    assert sources.host_release("ID=debian\nVERSION_CODENAME=bookworm\n") == "bookworm"
    with pytest.raises(LabError, match="VERSION_CODENAME"):
        sources.host_release("ID=other\n")
