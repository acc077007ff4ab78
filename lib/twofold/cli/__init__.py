# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command "twofold": the placement engine on files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module

from ..placement.errors import PlacementError
from .options import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        # Only the verb that is asked for is loaded: an allocation must not wait for what fills clusters.
        output, status = getattr(import_module(f".{options.module}", __package__), options.command)(options)
    except PlacementError as error:
        print(f"twofold: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"twofold: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if isinstance(output, str):
        sys.stdout.write(output)
    elif options.json:
        json.dump(output, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        # Only people need tables: a program that asks for JSON does not wait for the library that draws them.
        from . import tables

        tables.show(options.command, output)
    return int(status)
