# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is derived from the cluster's secret, so that nobody has to remember it: MACs, UUIDs, DRBD secrets."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from typing import TYPE_CHECKING, Any

from .errors import DocumentError

if TYPE_CHECKING:
    from .model import Desired

# The key of an argument that is filled in at apply.
FILLED_IN = "$secret"


def derive(secret: str, purpose: str) -> bytes:
    """32 bytes that nobody can know without the secret, the same each time."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()


def mac(secret: str, instance: str, index: int) -> str:
    """The MAC address of an instance's interface: locally administered, unicast."""
    raw = bytearray(derive(secret, f"mac/{instance}/{index}")[:6])
    raw[0] = raw[0] & 0xFC | 0x02
    return ":".join(f"{byte:02x}" for byte in raw)


def instance_uuid(secret: str, instance: str) -> str:
    """The UUID of an instance."""
    return str(uuid.UUID(bytes=derive(secret, f"uuid/{instance}")[:16], version=4))


def drbd_secret(secret: str, instance: str) -> str:
    """The shared secret of an instance's DRBD resource: 48 hexadecimal digits (DRBD takes 64 characters)."""
    return derive(secret, f"drbd/{instance}").hex()[:48]


def text_digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a value that JSON can hold, whatever the order of its keys."""
    return text_digest(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True))


def resolve(desired: Desired, key: str) -> str:
    """What a plan calls `drbd/NAME` or `user-data/NAME`. Raises DocumentError for any other key."""
    purpose, _ignored, name = key.partition("/")
    if purpose == "drbd" and name:
        return drbd_secret(desired.cluster.secret, name)
    if purpose == "user-data" and name in desired.instances:
        from .render import seed

        return seed.user_data(desired.instances[name])
    raise DocumentError(f"the plan asks for a secret {key!r} that does not exist")


def used(value: Any) -> set[str]:
    """The keys of all secrets in a step's arguments."""
    if isinstance(value, dict):
        if set(value) == {FILLED_IN}:
            return {str(value[FILLED_IN])}
        return set().union(*(used(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(used(item) for item in value))
    return set()
