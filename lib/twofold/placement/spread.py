# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How one metric, a standard deviation over the nodes, changes when an instance changes nodes.

With x the metric's value per node, centred on the mean, and d the change of each:
n * variance' = n * variance + sum(d * (2x + d)) - sum(d)**2 / n.
"""

from __future__ import annotations

import numpy as np

from .pairs import Targets
from .state import Floats, Ints


class Spread:
    """Where the nodes stand in one metric, and how instances shift them.

    needs hold what instances change, slopes what a node divides that by (inverted; must be zero for offline nodes,
    which no spread counts). flat says that all instances in question need the same: then what a move does depends on
    its nodes alone, and one table answers for all instances.
    """

    __slots__ = ("centred2", "flat", "needs", "share", "slopes", "total", "weight")

    def __init__(
        self,
        weight: float,
        share: float,
        centred: Floats,
        *,
        total: float,
        needs: list[Floats],
        slopes: list[Floats],
        flat: bool = False,
    ) -> None:
        """share is one node's of a mean, weight that of the root of total; centred are values less their mean."""
        self.weight, self.share = weight, share
        self.centred2, self.total = 2.0 * centred, total
        self.needs = needs
        self.slopes = slopes
        self.flat = flat

    def base(self) -> float:
        """The metric as it is, weighted."""
        return float(self.weight * np.sqrt(self.total))

    def _shift(self, which: Ints, slopes: list[Floats]) -> Floats:
        """Change of x when the instances arrive where the slopes are: a row of nodes, or a column of one node each."""
        parts = [need[which][:, None] * slope for need, slope in zip(self.needs, slopes, strict=True)]
        return sum(parts[1:], start=parts[0])

    def _shift_at(self, which: Ints, at: Ints) -> Floats:
        """Change of x when each instance arrives on its node: a column."""
        return self._shift(which, [slope[at][:, None] for slope in self.slopes])

    def after(self, total: Floats, change: Floats) -> Floats:
        """The weighted spread after a change of sum(d), and of n * variance before its correction (overwritten)."""
        total -= (self.share * change) * change
        # Below zero it can only be by rounding.
        np.abs(total, out=total)
        np.sqrt(total, out=total)
        total *= self.weight
        return total

    def moved(self, which: Ints, source: Ints, targets: Targets) -> Floats:
        """The metric after each instance left its source for every target: a matrix (instance, target)."""
        left = self._shift_at(which, source)
        arrives = self._shift(which, [targets.row(slope) for slope in self.slopes])
        total = targets.row(self.centred2) + arrives
        total *= arrives
        total += self.total - left * (self.centred2[source][:, None] - left)
        return self.after(total, arrives - left)

    def moved_to(self, which: Ints, source: Ints, target: Ints) -> Floats:
        """The metric after each instance left its source for its target: a column."""
        left, arrives = self._shift_at(which, source), self._shift_at(which, target)
        total = arrives * (self.centred2[target][:, None] + arrives) + self.total
        total -= left * (self.centred2[source][:, None] - left)
        return self.after(total, arrives - left)


class Spreads:
    """Metrics that change together, because the same part of an instance moves."""

    def __init__(self, metrics: list[Spread], example: int) -> None:
        """example is any instance that flat metrics hold for."""
        self.metrics, self._example = metrics, example
        self._table: Floats | None = None

    def base(self) -> float:
        """The metrics as they are, weighted and added up."""
        return sum(metric.base() for metric in self.metrics)

    def moved(self, which: Ints, source: Ints, targets: Targets, *, same: bool = True) -> Floats:
        """Their sum after each instance left its source for every target; same: flat metrics hold for all of which."""
        table = same and len(which) >= len(targets)
        parts = [metric.moved(which, source, targets) for metric in self.metrics if not (table and metric.flat)]
        if table and any(metric.flat for metric in self.metrics):
            parts.append(self._flat_table(targets)[source])
        return sum(parts[1:], start=parts[0])

    def moved_to(self, which: Ints, source: Ints, target: Ints) -> Floats:
        """Their sum after each instance left its source for its target: a column."""
        parts = [metric.moved_to(which, source, target) for metric in self.metrics]
        return sum(parts[1:], start=parts[0])

    def _flat_table(self, targets: Targets) -> Floats:
        """The flat metrics after any instance goes from one node (row) to a target (column)."""
        if self._table is None:
            nodes = np.arange(len(self.metrics[0].centred2))
            which = np.full(len(nodes), self._example)
            parts = [metric.moved(which, nodes, targets) for metric in self.metrics if metric.flat]
            self._table = sum(parts[1:], start=parts[0])
        return self._table
