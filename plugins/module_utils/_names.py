# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that end up in paths, volume names and configuration: checked before anything is done with them."""

from __future__ import annotations

import re

from ._errors import UsageError

INSTANCE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}\Z")
VOLUME = re.compile(r"[a-zA-Z0-9_+.][a-zA-Z0-9_+.-]{0,126}\Z")
DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def instance_name(value: str) -> str:
    """A name of an instance, a resource or a domain."""
    if not INSTANCE.match(value) or ".." in value:
        raise UsageError(f"{value!r} cannot be a name", "use letters, digits, '-', '_' and '.', at most 63 characters")
    return value


def volume_name(value: str) -> str:
    """A name of a volume group or a logical volume."""
    if not VOLUME.match(value) or value in (".", ".."):
        raise UsageError(f"{value!r} cannot be the name of a volume", "use letters, digits and +_.-")
    return value


def digest(value: str) -> str:
    """A SHA-256 sum in hexadecimal."""
    lowered = value.lower()
    if not DIGEST.match(lowered):
        raise UsageError(f"{value!r} is not a SHA-256 sum", "give 64 hexadecimal digits")
    return lowered
