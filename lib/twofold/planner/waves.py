# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waves: which steps may run at once.

A node's call runs its steps in the plan's order, so a step waits for a later wave only where it needs another node's.
An `always` step cleans up, also after a call that died with the connection, so it comes in a call of its own; and those
that clean up after the same step do it at once, because each waits for the other's effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .document import Step


def assign(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps with their waves. Steps stand after what they need."""
    done: dict[str, Step] = {}
    for step in steps:
        wave = 0
        for need in step.needs:
            before = done[need]
            wave = max(wave, before.wave + (before.node != step.node or step.always))
        done[step.id] = replace(step, wave=wave)
    return tuple(done.values())
