# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/schema/inventory.json anew: ``python -m tools.schema``, in the environment of tools/setup."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs/schema/inventory.json"


def text() -> str:
    """Return the schema as it is to be published."""
    sys.path.insert(0, str(ROOT / "lib"))
    from twofold import schema

    return json.dumps(schema.document(), indent=2) + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text(), encoding="utf-8")
