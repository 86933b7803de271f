"""The page before its scripts have asked: the form of the contract, from the OpenAPI document."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class FormField(NamedTuple):
    """A field of the form."""

    name: str
    label: str
    hint: str
    unit: str
    minimum: float | None
    maximum: float | None
    step: float | str
    """`any`, as HTML calls it, where fractions are taken."""
    example: float


def facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of the template, by the document that describes this service."""
    schemas, paths = document["components"]["schemas"], document["paths"]
    house, rows = schemas["OneHouse"], schemas["Houses"]["properties"]["houses"]
    parameters = {found["name"]: found["schema"] for found in paths["/predict"]["post"]["parameters"]}
    return {
        "fields": [_field(name, house["properties"][name]) for name in house["required"]],
        "level": parameters["confidence"],
        "parameters": parameters,
        "max_rows": rows["maxItems"],
        "has_report": "/model/report" in paths,
    }


def _field(name: str, schema: Mapping[str, Any]) -> FormField:
    unit = schema["x-unit"]
    label, _, hint = schema["description"].removesuffix(f", in {unit}.").partition("; ")
    return FormField(
        name,
        label,
        hint,
        unit,
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum"),
        schema.get("multipleOf", "any"),
        schema["examples"][0],
    )
