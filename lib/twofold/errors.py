# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the library raises. Whatever a user did wrong is a `Finding`, not an exception."""

from __future__ import annotations


class TwofoldError(Exception):
    """Base of everything raised on purpose by this library."""


class ValueProblem(TwofoldError, ValueError):
    """A value that cannot be understood; the message says what was expected."""


class DocumentError(TwofoldError):
    """A document (observed, definition, plan) that is not what its format says."""
