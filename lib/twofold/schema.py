# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON schema of the inventory's variables, for editors: it holds for a file of group_vars or host_vars."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from . import variables
from .model import Cluster, Instance, Node

TEMPLATE = {"$ref": "#/$defs/template"}


def document() -> dict[str, Any]:
    """The schema, made of the model: every variable with its type, default and description.

    Variables of others are let alone; one that starts with `twofold_` and is not ours is an error. Wherever a value may
    stand, a Jinja template may stand too.
    """
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for model in (Cluster, Node, Instance):
        properties |= _properties(model, definitions)
    for name, text in variables.RUN.items():
        properties[name] = {"description": text, "type": "string"}
    for name in variables.BOOTSTRAP - properties.keys():
        properties[name] = {"description": "See the role twofold.cluster.node"}
    for group in variables.GROUPS.values():
        definitions.pop(group.__name__, None)
    for definition in definitions.values():
        definition["properties"] = {name: _templated(part) for name, part in definition["properties"].items()}
    definitions["template"] = {"type": "string", "pattern": r"\{[{%]"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Variables of Twofold",
        "type": "object",
        "propertyNames": {"anyOf": [{"not": {"pattern": f"^{variables.PREFIX}"}}, {"enum": sorted(properties)}]},
        "properties": {name: _templated(properties[name]) for name in sorted(properties)},
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def _properties(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    schema = model.model_json_schema()
    found = schema.pop("$defs", {})
    definitions |= found
    result = {}
    for name, (field, *parts) in variables.of(model).items():
        owner = schema if not parts else found[variables.GROUPS[field].__name__]
        part = dict(owner["properties"][parts[0] if parts else field])
        part.pop("title", None)
        part.pop("variable", None)
        result[name] = part
    return result


def _templated(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, or a template in its place; in the elements of lists and mappings too."""
    inner = {key: value for key, value in schema.items() if key not in {"description", "default", "title"}}
    outer = {key: value for key, value in schema.items() if key in {"description", "default"}}
    for key in ("items", "additionalProperties"):
        if isinstance(inner.get(key), dict):
            inner[key] = _templated(inner[key])
    options = inner["anyOf"] if inner.keys() == {"anyOf"} else [inner]
    return {**outer, "anyOf": [*options, TEMPLATE]} if inner else outer
