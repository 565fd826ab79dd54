"""JSON that fits a schema: the least interesting instance, the same for the same schema.

Knows what the schemas of tools and structured outputs use: types, `enum`, `const`, properties and
what of them is required, items and their number, bounds of numbers and lengths, the usual formats,
`anyOf`/`oneOf`/`allOf`, `default`, and `$ref` into the schema itself. Patterns are not looked at.
"""

from collections.abc import Mapping
from typing import Any

_FORMATS = {
    "date": "2026-11-25",
    "date-time": "2026-11-25T10:00:00Z",
    "time": "10:00:00Z",
    "duration": "PT1M",
    "email": "quiet@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_MAX_DEPTH = 16
_MAX_ITEMS = 64
_MAX_CHARACTERS = 65_536
_CHARACTERS = 8
"""Of what stands around each value."""
_WORD = "river"


def instance_of(schema: object) -> Any:
    """A value that the schema allows, as far as it is understood and not too large."""
    return _Maker(schema).make(schema, 0)


class _Maker:
    """Makes one value, and ends it when it becomes too large: lists of lists of lists would."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._left = _MAX_CHARACTERS

    def make(self, schema: object, depth: int) -> Any:
        """A value for a part of the schema."""
        self._left -= _CHARACTERS
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH or self._left < 0:
            return _WORD if schema is True else None
        given = [schema[keyword] for keyword in ("const", "default") if keyword in schema]
        given += schema.get("enum") or []
        if given:
            return self._spent(given[0])
        chosen = _chosen(schema, self._root)
        if chosen is not None:
            return self.make(chosen, depth + 1)
        kind = _type(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        return self._spent(_scalar(kind, schema))

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        names = [*properties, *(n for n in schema.get("required", ()) if n not in properties)]
        made = {}
        for name in names:
            if self._left < 0:
                break
            made[name] = self.make(properties.get(name, True), depth + 1)
            self._left -= len(name)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        most = int(schema.get("maxItems", _MAX_ITEMS))
        size = min(int(schema.get("minItems", 1)), most, _MAX_ITEMS)
        made: list[Any] = []
        while len(made) < size and self._left >= 0:
            made.append(self.make(schema.get("items", True), depth + 1))
        return made

    def _spent(self, value: Any) -> Any:
        self._left -= len(str(value))
        return value


def _chosen(schema: Mapping[str, Any], root: object) -> object:
    """The schema that stands for this one; None when it stands for itself."""
    if "$ref" in schema:
        return _resolved(str(schema["$ref"]), root) or {}
    for keyword in ("anyOf", "oneOf"):
        if isinstance(schema.get(keyword), list) and schema[keyword]:
            found: object = schema[keyword][0]
            return found
    if isinstance(schema.get("allOf"), list) and schema["allOf"]:
        return _merged(schema["allOf"], root)
    return None


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "items" in schema:
        return "array"
    return "object" if "properties" in schema else "string"


def _scalar(kind: str, schema: Mapping[str, Any]) -> Any:
    match kind:
        case "integer" | "number":
            return _number(kind, schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _text(schema)


def _number(kind: str, schema: Mapping[str, Any]) -> float:
    step = schema.get("multipleOf", 1)
    if "minimum" in schema:
        least = schema["minimum"]
    elif "exclusiveMinimum" in schema:
        least = schema["exclusiveMinimum"] + step
    else:
        least = min(schema.get("maximum", 7), schema.get("exclusiveMaximum", 8) - step, 7)
    value = -(-least // step) * step
    return int(value) if kind == "integer" else value


def _text(schema: Mapping[str, Any]) -> str:
    found = _FORMATS.get(str(schema.get("format")), _WORD)
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    while len(found) < min(least, 1000):
        found += " " + _WORD
    return found if most is None else found[: int(most)]


def _resolved(reference: str, root: object) -> object:
    """What `#/$defs/Name` points at; None where it points at nothing."""
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if not part:
            continue
        if not isinstance(found, Mapping):
            return None
        found = found.get(part.replace("~1", "/").replace("~0", "~"))
    return found


def _merged(schemas: list[Any], root: object) -> dict[str, Any]:
    """One schema that asks for what all of them ask for, as far as objects go."""
    whole: dict[str, Any] = {}
    for schema in schemas:
        one = schema
        if isinstance(one, Mapping) and "$ref" in one:
            one = _resolved(str(one["$ref"]), root)
        if isinstance(one, Mapping):
            properties = {**whole.get("properties", {}), **one.get("properties", {})}
            required = [*whole.get("required", ()), *one.get("required", ())]
            whole |= {**one, "required": required}
            if properties:
                whole["properties"] = properties
    return whole
