# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tags mean to the placement engine: exclusion, location, desired location, migration and stand-by tags."""

from __future__ import annotations

from collections.abc import Iterable

EXCLUSION = "htools:iextags:"
LOCATION = "htools:nlocation:"
DESIRED_LOCATION = "htools:desiredlocation:"
MIGRATION = "htools:migration:"
ALLOW_MIGRATION = "htools:allowmigration:"
STANDBY = "htools:standby:"


def _suffixes(prefix: str, tags: Iterable[str]) -> list[str]:
    return [tag[len(prefix) :] for tag in tags if tag.startswith(prefix)]


def exclusion_prefixes(cluster_tags: Iterable[str]) -> list[str]:
    """Prefixes of instance tags that exclude each other on one primary."""
    return [rest for rest in _suffixes(EXCLUSION, cluster_tags) if rest]


def desired_location_prefixes(cluster_tags: Iterable[str]) -> list[str]:
    """Prefixes of instance tags that name wished locations."""
    return [rest for rest in _suffixes(DESIRED_LOCATION, cluster_tags) if rest]


def matching(prefixes: Iterable[str], tags: Iterable[str]) -> tuple[str, ...]:
    """The tags that start with one of the prefixes, in their order."""
    prefixes = tuple(prefixes)
    return tuple(tag for tag in tags if tag.startswith(prefixes)) if prefixes else ()


def _namespaced(prefix: str, cluster_tags: Iterable[str], node_tags: Iterable[str]) -> frozenset[str]:
    spaces = tuple(rest + ":" for rest in _suffixes(prefix, cluster_tags))
    return frozenset(tag for tag in node_tags if spaces and tag.startswith(spaces))


def locations(cluster_tags: Iterable[str], node_tags: Iterable[str]) -> frozenset[str]:
    """The failure domains of a node."""
    return _namespaced(LOCATION, cluster_tags, node_tags)


def migration_source(cluster_tags: Iterable[str], node_tags: Iterable[str]) -> frozenset[str]:
    """The tags that a node's instances carry along when they migrate away."""
    return _namespaced(MIGRATION, cluster_tags, node_tags)


def migration_target(cluster_tags: Iterable[str], node_tags: Iterable[str]) -> frozenset[str]:
    """The migration tags that a node accepts: its own, and those allowed to become one of its own."""
    cluster_tags = list(cluster_tags)
    own = migration_source(cluster_tags, node_tags)
    pairs = [rest.split("::") for rest in _suffixes(ALLOW_MIGRATION, cluster_tags)]
    allowed = {pair[0] for pair in pairs if len(pair) == 2 and pair[1] in own}
    return own | allowed


def is_standby(node_tags: Iterable[str]) -> bool:
    """Whether a node was switched off to save power and may be switched on again."""
    return any(tag.startswith(STANDBY) for tag in node_tags)
