# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a boot the replication of every instance comes up, as secondary; no peer is waited for.

It runs from a unit on the node, without a control host, and as the steps do it: no secret gets onto a command line, and
each resource is configured from its own file, so one that is broken keeps down no other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from . import _stale_copies
from ._drbd import Replication
from ._errors import TwofoldError


def bring_up(copies: Replication) -> Iterator[str]:
    """Brings up every resource that has a file of ours; a line for each that did not come up."""
    for name in copies.names():
        try:
            if copies.state(name) is None:
                _stale_copies.mark_before_up(copies, name, copies.volumes(name))
            copies.adjust(name, dry=False)
        except (TwofoldError, OSError) as error:
            yield f"{name}: {error}"


def main() -> int:
    """As the unit calls it; it is tried again when one did not come up."""
    from ._node import this_node

    status = 0
    for line in bring_up(this_node().replication):
        # What comes after may take its time.
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        status = 1
    return status
