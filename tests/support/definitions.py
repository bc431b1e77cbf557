"""Checks a manifest against a Kubernetes definition (CustomResourceDefinition) as the API server would.

The schema is OpenAPI in its structural form: JSON Schema, but for `nullable`, for numbers or text
(`x-kubernetes-int-or-string`), and for fields that it does not name, which a server drops or refuses and which are
faults here. Lists that are maps (`x-kubernetes-list-map-keys`) may hold a key once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPEN = "x-kubernetes-preserve-unknown-fields"


def read_definition(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    return loaded


def faults(manifest: Mapping[str, Any], definition: Mapping[str, Any]) -> list[str]:
    """What is wrong with a manifest, a line each: `spec.headGroupSpec: 'template' is a required property`."""
    names = definition["spec"]["names"]
    group, _, version = manifest["apiVersion"].partition("/")
    if (group, manifest["kind"]) != (definition["spec"]["group"], names["kind"]):
        return [f"{manifest['apiVersion']} {manifest['kind']} is not what the definition is of"]
    served = {
        each["name"]: each["schema"]["openAPIV3Schema"] for each in definition["spec"]["versions"] if each["served"]
    }
    if version not in served:
        return [f"apiVersion: {version} is not served; {', '.join(served)}"]
    schema = served[version]
    validator = jsonschema.Draft202012Validator(_as_json_schema(schema, root=True))
    found = [f"{_place(error.absolute_path)}: {error.message}" for error in validator.iter_errors(manifest)]
    return found + list(_beyond_json_schema(manifest, schema, ""))


def _as_json_schema(schema: Mapping[str, Any], root: bool = False) -> dict[str, Any]:
    made = {name: value for name, value in schema.items() if not name.startswith("x-") and name != "nullable"}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable") and "type" in made:
        made["type"] = [made["type"], "null"]
    if "properties" in schema:
        made["properties"] = {name: _as_json_schema(below) for name, below in schema["properties"].items()}
        if root:
            made["required"] = ["apiVersion", "kind", "metadata", "spec"]
            made["properties"]["metadata"] = {"type": "object", "required": ["name"]}
        if not schema.get(_OPEN) and "additionalProperties" not in schema:
            made["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = _as_json_schema(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = _as_json_schema(schema["items"])
    return made


def _beyond_json_schema(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    """Keys that stand twice in a list that is a map, and rules in CEL, which nothing here can judge."""
    if "x-kubernetes-validations" in schema:
        yield f"{place}: the definition has a rule in CEL for this field, which this check cannot judge"
    if isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", ())
        seen = [tuple(item.get(key) for key in keys) for item in value] if keys else []
        yield from (f"{place}: {key} stands there twice" for key in dict.fromkeys(seen) if seen.count(key) > 1)
        for number, item in enumerate(value):
            yield from _beyond_json_schema(item, schema.get("items", {}), f"{place}[{number}]")
    elif isinstance(value, dict):
        for name, below in value.items():
            more = schema.get("additionalProperties")
            inside = schema.get("properties", {}).get(name, more if isinstance(more, dict) else {})
            yield from _beyond_json_schema(below, inside, f"{place}.{name}".lstrip("."))


def _place(path: Any) -> str:
    return ".".join(str(part) for part in path) or "manifest"
