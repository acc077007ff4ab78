# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ansible inventory of a lab's nodes that works from an ordinary shell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .topology import OUTSIDER, Machine

if TYPE_CHECKING:
    from .core import Lab


def text(lab: Lab) -> str:
    """The inventory of a lab that is up, as YAML."""
    return render(lab.machines(), lab.directory)


def render(machines: list[Machine], directory: Path) -> str:
    """YAML for the group 'nodes', with all that ssh needs to get into the lab's network."""
    lines = ["---", "nodes:", "  hosts:"]
    for machine in machines:
        if machine.name != OUTSIDER:
            lines.append(f"    {machine.name}:")
            lines.append(f"      ansible_host: {machine.management}")
            lines.append(f"      twofold_replication_address: {machine.replication}")
    lines += ["  vars:", "    ansible_user: root", "    ansible_python_interpreter: /usr/bin/python3"]
    lines += ["all:", "  vars:", f"    ansible_ssh_common_args: -F {directory / 'ssh_config'}"]
    # Labs side by side have the same addresses, so each keeps its own connections.
    lines += [f"    ansible_control_path_dir: {directory / 'cp'}"]
    return "\n".join(lines) + "\n"
