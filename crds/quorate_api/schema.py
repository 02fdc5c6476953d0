"""CRD manifests from the pydantic models.

pydantic emits JSON Schema with references, titles and null branches; the API server wants a structural schema: one tree,
no references, nothing it cannot prune. A keyword this module does not know is an error, so that a new kind of constraint
in a model is never silently left out of the CRD.
"""

from collections.abc import Mapping
from typing import Any

from quorate_api.base import CATEGORY, GROUP, VERSION
from quorate_api.failover import Failover
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool
from quorate_api.protectedvm import ProtectedVM

Json = dict[str, Any]
Kind = type[HAPool] | type[HAHost] | type[ProtectedVM] | type[Failover]

KINDS: tuple[Kind, ...] = (HAPool, HAHost, ProtectedVM, Failover)

_KEPT = frozenset(
    {"type", "description", "default", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
    | {"maxProperties", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations"}
)
_DROPPED = frozenset({"title"})
_WIDE_INTEGERS = ("Bytes", "Bytes[]", "blocks[]", "eneration")  # sizes and generations are 64-bit, counts fit 32


class NotStructural(ValueError):
    """A model uses something that a CRD cannot say."""


def crd(model: Kind) -> Json:
    """The CustomResourceDefinition of one kind."""
    singular = model.KIND.lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{model.PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if model.NAMESPACED else "Cluster",
            "names": {
                "kind": model.KIND,
                "listKind": f"{model.KIND}List",
                "plural": model.PLURAL,
                "singular": singular,
                "shortNames": list(model.SHORT_NAMES),
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": structural(model)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {
                            "name": column.name,
                            "type": column.type,
                            "jsonPath": column.path,
                            "description": column.description,
                            "priority": 1 if column.wide else 0,
                        }
                        for column in model.COLUMNS
                    ],
                }
            ],
        },
    }


def structural(model: Kind) -> Json:
    """The structural OpenAPI schema of one kind; raises NotStructural for what a CRD cannot say."""
    source = model.model_json_schema(by_alias=True, mode="validation")
    definitions = source.pop("$defs", {})
    # The API server owns these three; a schema may only restrict metadata.name and generateName.
    for owned in ("apiVersion", "kind", "metadata"):
        source["properties"].pop(owned)
    tree = _convert(source, definitions, model.KIND)
    tree["properties"] = {
        "apiVersion": {"type": "string", "description": f"Always {GROUP}/{VERSION}."},
        "kind": {"type": "string", "description": f"Always {model.KIND}."},
        "metadata": {"type": "object"},
    } | tree["properties"]
    tree["properties"]["status"].pop("default", None)
    return tree


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Json], path: str) -> Json:
    """One node of the tree, with references inlined and null branches dropped: an absent field is Quorate's null."""
    node = _resolved(node, definitions, path)
    result: Json = {}
    for keyword, value in node.items():
        if keyword in _KEPT:
            result[keyword] = value
        elif keyword == "const":
            result["enum"] = [value]
        elif keyword == "properties":
            result["properties"] = {name: _property(child, definitions, f"{path}.{name}") for name, child in value.items()}
        elif keyword == "items":
            result["items"] = _convert(value, definitions, f"{path}[]")
        elif keyword == "additionalProperties" and isinstance(value, Mapping):
            result["additionalProperties"] = _convert(value, definitions, f"{path}.*")
        elif keyword not in _DROPPED:
            raise NotStructural(f"{path}: a CRD cannot say {keyword}: {value!r}")
    if "type" not in result:
        raise NotStructural(f"{path}: has no type")
    if result["type"] == "array":
        result.setdefault("x-kubernetes-list-type", "atomic")
    if result["type"] == "integer":
        result["format"] = "int64" if path.endswith(_WIDE_INTEGERS) else "int32"
    return _sorted(result)


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Json], path: str) -> Json:
    """The node without `$ref` and without the null branch of `anyOf`; what stands beside them wins over what they bring."""
    merged = dict(node)
    while "$ref" in merged or "anyOf" in merged:
        if "$ref" in merged:
            brought = definitions[merged.pop("$ref").removeprefix("#/$defs/")]
        else:
            branches = [branch for branch in merged.pop("anyOf") if branch.get("type") != "null"]
            if len(branches) != 1:
                raise NotStructural(f"{path}: a CRD cannot say one of {len(branches)} types")
            brought = branches[0]
        both = [*brought.get("x-kubernetes-validations", ()), *merged.get("x-kubernetes-validations", ())]
        merged = {**brought, **merged}
        if both:
            merged["x-kubernetes-validations"] = both
    return merged


def _property(node: Mapping[str, Any], definitions: Mapping[str, Json], path: str) -> Json:
    """One property. The API server fills defaults only inside objects that are there: an object that may be left out, is not
    optional in the model and has defaults of its own defaults to `{}`."""
    result = _convert(node, definitions, path)
    if result.get("default", ...) is None:
        del result["default"]
    elif (
        "default" not in result and "required" not in result and any("default" in child for child in result.get("properties", {}).values())
    ):
        result["default"] = {}
    return _sorted(result)


def _sorted(node: Json) -> Json:
    return {key: node[key] for key in sorted(node, key=_reading_order)}


def _reading_order(keyword: str) -> tuple[int, str]:
    first = ("type", "description", "default", "enum", "format")
    last = ("required", "properties", "items", "additionalProperties")
    if keyword in first:
        return first.index(keyword), keyword
    return len(first) + 1 + (last.index(keyword) + 1 if keyword in last else 0), keyword
