"""The fields of a request, read from its JSON schema. Pure functions."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from bit_transformer.server.dashboard.formatting import help_of, label_of

Kind = Literal["boolean", "integer", "number", "string", "choice", "list", "secret"]
_TYPES: dict[str, type | tuple[type, ...]] = {
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "string": str,
    "list": list,
}


@dataclass(frozen=True)
class FieldSpec:
    """One field of a request or of a section nested in it."""

    path: str
    """Names of the sections and of the field, joined by dots."""
    kind: Kind
    default: Any
    help: str
    options: tuple[Any, ...] = ()
    items: str = "string"
    """Type of the items of a list."""
    nullable: bool = False
    required: bool = False

    @property
    def label(self) -> str:
        """Label of the field on a page."""
        return label_of(self.path.rpartition(".")[2])

    def accepts(self, value: Any) -> bool:
        """Return whether a value has the kind of the field. The request class checks the bounds."""
        if value is None:
            return self.nullable
        if self.kind == "choice":
            return value in self.options
        if self.kind == "secret":
            return False
        is_bool = isinstance(value, bool)
        return is_bool == (self.kind == "boolean") and isinstance(value, _TYPES[self.kind])

    def from_widget(self, value: Any) -> Any:
        """Convert the value of a widget to the value of this field."""
        if value in ("", None):
            return "" if self.kind == "string" and not self.nullable and value == "" else None
        if self.kind == "integer" and isinstance(value, float) and value.is_integer():
            return int(value)
        if self.kind == "list":
            items = [str(item).strip() for item in value if str(item).strip()]
            integers = self.items == "integer"
            return [int(x) if integers and x.lstrip("-").isdigit() else x for x in items]
        return value


@functools.cache
def fields_of(request: type[BaseModel]) -> Mapping[str, FieldSpec]:
    """Return all fields of a request by path, in the order of the class."""
    schema = request.model_json_schema()
    return {spec.path: spec for spec in _walk(schema, schema.get("$defs", {}), "", None)}


def _walk(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str, base: Any
) -> Iterator[FieldSpec]:
    required = schema.get("required", ())
    for name, described in schema.get("properties", {}).items():
        field = _resolved(described, definitions)
        default = base.get(name) if isinstance(base, Mapping) else field.get("default")
        if field.get("type") == "object":
            yield from _walk(field, definitions, f"{prefix}{name}.", default)
        else:
            yield _spec(f"{prefix}{name}", field, default, name in required)


def _resolved(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a field with references and `X | None` resolved."""
    if "$ref" in field:
        return {**_resolved(definitions[field["$ref"].rpartition("/")[2]], definitions), **field}
    for one in field.get("anyOf", ()):
        if one.get("type") != "null":
            others = {key: value for key, value in field.items() if key != "anyOf"}
            return {**_resolved(one, definitions), **others, "nullable": True}
    return dict(field)


def _spec(path: str, field: Mapping[str, Any], default: Any, required: bool) -> FieldSpec:
    kind: Kind = {"boolean": "boolean", "integer": "integer", "number": "number"}.get(  # type: ignore[assignment]
        field.get("type", ""), "string"
    )
    if "enum" in field:
        kind = "choice"
    elif field.get("type") == "array":
        kind = "list"
    elif field.get("format") == "password":
        kind = "secret"
    if kind == "list" and default is None and not field.get("nullable"):
        # Such a list has a default factory, which a JSON schema does not contain.
        default = []
    return FieldSpec(
        path=path,
        kind=kind,
        default=default,
        help=help_of(field.get("description", "")),
        options=tuple(field.get("enum", ())),
        items=field.get("items", {}).get("type", "string"),
        nullable=bool(field.get("nullable")),
        required=required,
    )
