# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is on a disk, as far as it matters: which numbered records it holds."""

from __future__ import annotations


class Content:
    """A state of a disk: the one before it and what was written then."""

    __slots__ = ("depth", "label", "parent")

    def __init__(self, label: str, parent: Content | None = None) -> None:
        self.label = label
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0

    def holds(self, other: Content) -> bool:
        """Whether everything that was written up to the other state is here."""
        here: Content | None = self
        while here is not None and here.depth > other.depth:
            here = here.parent
        return here is other

    def __repr__(self) -> str:
        return self.label


ZEROS = Content("zeros")


def garbage() -> Content:
    """Whatever was there before."""
    return Content("garbage")


def partial(source: Content) -> Content:
    """Neither the old nor the new: a copy or a writing that was begun."""
    return Content(f"part of {source.label}")
