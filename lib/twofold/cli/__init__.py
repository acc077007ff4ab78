# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command "twofold": the placement engine on files."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from ..placement.errors import PlacementError
from .options import parser

if TYPE_CHECKING:
    from argparse import Namespace

    from .balance import Json

# The engine's matrices are small: threads that multiply them would cost the start more than they ever save.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    # What a run makes is needed to its end: looking for garbage would be work for nothing.
    gc.disable()
    try:
        given = sys.argv[1:] if arguments is None else arguments
        options = parser(given).parse_args(given)
        # Only the verb that is asked for is loaded: an allocation must not wait for what fills clusters.
        output, status = getattr(import_module(f".{options.module}", __package__), options.command)(options)
        _print(options, output)
        sys.stdout.flush()
    except PlacementError as error:
        print(f"twofold: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output wants no more of it; neither may Python, when it ends, try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"twofold: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return 1
    finally:
        gc.enable()
    return int(status)


def _print(options: Namespace, output: Json | str) -> None:
    if isinstance(output, str):
        sys.stdout.write(output)
    elif options.json:
        # In one piece: standard output without a buffer would pay for each of the thousands that dump() makes.
        sys.stdout.write(json.dumps(output, indent=2) + "\n")
    else:
        # Only people need tables: a program that asks for JSON does not wait for the library that draws them.
        from . import tables

        tables.show(options.command, output)
