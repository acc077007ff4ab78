# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the tables of docs/playbooks/verify.md anew: ``python -m tools.codes``, in the environment of tools/setup."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs/playbooks/verify.md"
MARK = "<!-- What follows is written by python -m tools.codes. -->\n"


def tables() -> str:
    """Return all codes by subject, and Ganeti's error types with ours beside them."""
    sys.path.insert(0, str(ROOT / "lib"))
    from twofold import codes

    lines = ["## The codes", ""]
    ganeti: dict[str, list[str]] = defaultdict(list)
    for subject, found in codes.SUBJECTS.items():
        lines += [f"### {subject}", "", "| code | severity | what is wrong | what to do |", "| --- | --- | --- | --- |"]
        for name, code in sorted(found.items()):
            remedy = f"{code.remedy}; *mended*" if code.mended else code.remedy
            lines.append(f"| `{name}` | {code.severity} | {code.meaning} | {remedy} |")
            for theirs in code.ganeti:
                ganeti[theirs].append(f"`{name}`")
        lines.append("")
    lines += ["## For those who know Ganeti's", "", "| Ganeti | Twofold |", "| --- | --- |"]
    rows = {name: ", ".join(sorted(ours)) for name, ours in ganeti.items()} | codes.NO_COUNTERPART
    lines += [f"| {name} | {text} |" for name, text in sorted(rows.items())]
    return "\n".join(lines) + "\n"


def text(page: str) -> str:
    """Return the page with its tables as they are to be."""
    return page.partition(MARK)[0] + MARK + "\n" + tables()


if __name__ == "__main__":
    TARGET.write_text(text(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
