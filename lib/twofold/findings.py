# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings: what is wrong, with its object, cause and remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

ERROR = "error"
WARNING = "warning"
INFO = "info"
SEVERITIES = (ERROR, WARNING, INFO)
# So many names stand in one sentence.
SHOWN = 5


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong.

    `severity` is error (it stops something), warning (somebody should look) or info; `code` is stable and for
    programs; `object` is "instance web1", "node node1" or "cluster"; `remedy` says what to do.
    """

    severity: str
    code: str
    object: str
    message: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """The finding as it stands in a document."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Finding:
        """The finding of a document."""
        names = ("severity", "code", "object", "message", "remedy")
        return cls(**{name: str(data.get(name, "")) for name in names})

    @property
    def text(self) -> str:
        """One line for people."""
        line = f"{self.object}: {self.message}"
        return f"{line} ({self.remedy})" if self.remedy else line


def listing(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, the worst first, then by object."""
    unique = dict.fromkeys(findings)
    return sorted(unique, key=lambda f: (SEVERITIES.index(f.severity), f.object, f.code, f.message))


def tally(findings: Iterable[Finding]) -> str:
    """How many there are of each severity: `1 error, 2 warnings`."""
    count = Counter(finding.severity for finding in findings)
    words = {ERROR: "error", WARNING: "warning", INFO: "note"}
    return ", ".join(f"{count[s]} {words[s]}{'s' if count[s] > 1 else ''}" for s in SEVERITIES if count[s])


def exit_status(findings: Iterable[Finding]) -> int:
    """0 when nothing is wrong, 1 with warnings, 2 with errors."""
    found = {f.severity for f in findings}
    return 2 if ERROR in found else 1 if WARNING in found else 0
