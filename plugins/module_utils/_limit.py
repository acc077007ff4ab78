# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long an answer is waited for, and how to go on without one: what hangs must not hold up all other nodes."""

from __future__ import annotations

from typing import Callable, TypeVar

from ._errors import TwofoldError

T = TypeVar("T")

# Seconds for a look. Most take less than one, but the first answer of a libvirtd that was just started took more than
# half a minute on emulated nodes that others kept busy.
ANSWER = 90.0
# Seconds for a change that says nothing meanwhile: a large guest's memory takes minutes to be laid out.
CHANGE = 600.0


def within(seconds: float, function: Callable[[], T], late: TwofoldError) -> T:
    """What the function returns or raises; raises `late` if that takes too long.

    Nothing interrupts a thread that waits inside a library of C. So it is left behind, as a daemon, which does not keep
    the process.
    """
    import threading

    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(function())
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not returned:
        raise late
    return returned[0]
