# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Colouring a graph with few colours, by three greedy orders: largest first, DSATUR (Brelaz 1979), coloured degree."""

from __future__ import annotations

from collections.abc import Callable

Neighbours = list[list[int]]
"""Per vertex its neighbours; one that is joined several times counts several times towards the degree."""


def fewest_colours(graph: Neighbours) -> list[list[int]]:
    """The vertices of each colour, of the order that needs the fewest colours (the first such order)."""
    colourings = [_classes(colour(graph)) for colour in (_largest_first, _saturation, _coloured_degree)]
    return min(colourings, key=len)


def _classes(colours: dict[int, int]) -> list[list[int]]:
    result: dict[int, list[int]] = {}
    for vertex in sorted(colours):
        result.setdefault(colours[vertex], []).append(vertex)
    return [result[colour] for colour in sorted(result)]


def _free_colour(graph: Neighbours, colours: dict[int, int], vertex: int) -> int:
    taken = {colours[n] for n in graph[vertex] if n in colours}
    return next(colour for colour in range(len(graph) + 1) if colour not in taken)


def _largest_first(graph: Neighbours) -> dict[int, int]:
    colours: dict[int, int] = {}
    # Of equal degree, the last vertex goes first.
    for vertex in sorted(range(len(graph)), key=lambda v: (-len(graph[v]), -v)):
        colours[vertex] = _free_colour(graph, colours, vertex)
    return colours


def _dynamic(graph: Neighbours, rank: Callable[[dict[int, int], int], tuple[int, int]]) -> dict[int, int]:
    """Colour next the vertex of the highest rank, the last one of equals."""
    colours: dict[int, int] = {}
    left = list(range(len(graph)))
    while left:
        chosen = max(left, key=lambda v: (*rank(colours, v), v))
        colours[chosen] = _free_colour(graph, colours, chosen)
        left.remove(chosen)
    return colours


def _saturation(graph: Neighbours) -> dict[int, int]:
    return _dynamic(graph, lambda c, v: (len({c[n] for n in graph[v] if n in c}), len(graph[v])))


def _coloured_degree(graph: Neighbours) -> dict[int, int]:
    return _dynamic(graph, lambda c, v: (sum(1 for n in graph[v] if n in c), len(graph[v])))
