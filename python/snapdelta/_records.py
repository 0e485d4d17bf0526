"""How the core reads pydantic's models and zones, dataclasses, msgspec's Structs, numpy's scalars.

The core asks once a class. Nothing is imported here that the caller has not imported.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal

Reader = Callable[[Any], Any]

_NUMPY_SCALARS = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "longlong",
    "ulonglong",
    "float16",
    "float32",
    "float64",
    "str_",
    "bytes_",
)

# What may be in the parts of a core schema that say how a model is serialized. With anything else the model
# is dumped: a later pydantic may have new ways.
_MODEL_KEYS = {
    *("type", "cls", "schema", "config", "custom_init", "root_model", "post_init", "revalidate_instances"),
    *("strict", "frozen", "extra_behavior", "ref", "metadata", "generic_origin"),
}
_FIELDS_KEYS = {
    *("type", "fields", "computed_fields", "model_name", "extra_behavior", "strict", "from_attributes"),
    *("ref", "metadata"),
}
_FIELD_KEYS = {"type", "schema", "metadata", "validation_alias", "serialization_alias", "frozen"}
# Their serializers hand a scalar out as it is.
_SCALARS = {
    *("none", "bool", "int", "float", "str", "bytes", "date", "datetime", "time", "timedelta", "decimal"),
    *("uuid", "enum", "literal", "any"),
}
# These validate; the schema inside serializes.
_WRAPPERS = {"nullable", "default", "function-before", "function-after", "function-wrap"}


def kind_of(cls: type) -> tuple[Literal["numpy", "record", "model", "zone", "unknown"], object]:
    """The kind of a class, and what reads its objects.

    That is a function for a record; its serializer and field names for a model that is read in place.
    """
    if _is_numpy_scalar(cls):
        return "numpy", None
    if cls is getattr(sys.modules.get("pydantic_core"), "TzInfo", None):
        return "zone", None
    pydantic = sys.modules.get("pydantic")
    # models of pydantic 1 have no `model_dump`
    if pydantic is not None and issubclass(cls, pydantic.BaseModel) and hasattr(cls, "model_dump"):
        names = _plain_fields(cls)
        if names is None:
            return "record", _dump
        return "model", (cls.__pydantic_serializer__, names)  # type: ignore[attr-defined]
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(cls, msgspec.Struct):
        return "record", _by_names(tuple(cls.__struct_fields__))  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(cls):
        if "__pydantic_serializer__" in vars(cls):
            return "record", _dump_dataclass
        return "record", _by_names(tuple(field.name for field in dataclasses.fields(cls)))
    return "unknown", None


def _is_numpy_scalar(cls: type) -> bool:
    """True for the scalars of numpy whose `item()` is exact."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    # `bool_` is `bool` in numpy 2
    names = (*_NUMPY_SCALARS, "bool_")
    return any(cls is getattr(numpy, name, None) for name in names)


def _by_names(names: tuple[str, ...]) -> Reader:
    def read(record: Any) -> dict[str, Any]:
        try:
            return {name: getattr(record, name) for name in names}
        except AttributeError as error:
            missing = [name for name in names if not hasattr(record, name)]
            raise TypeError(f"no value for {', '.join(missing) or error}") from error

    return read


def _dump(model: Any) -> Any:
    return model.model_dump()


def _dump_dataclass(record: Any) -> Any:
    # what a model that holds it gives
    try:
        return type(record).__pydantic_serializer__.to_python(record)
    except AttributeError as error:
        raise TypeError(str(error)) from error


def _plain_fields(cls: Any) -> tuple[str, ...] | None:
    """The names of a model's fields, if its serializer hands scalars in them out as they are; else None."""
    if cls.model_dump is not sys.modules["pydantic"].BaseModel.model_dump:
        return None
    schema = cls.__pydantic_core_schema__
    definitions: dict[str, Any] = {}
    # what encloses the model: definitions, its validators
    while type(schema) is dict and "serialization" not in schema and schema["type"] != "model":
        if schema["type"] == "definitions":
            definitions = {entry["ref"]: entry for entry in schema["definitions"]}
        elif schema["type"] not in _WRAPPERS:
            return None
        schema = schema["schema"]
    # a class that is not complete yet has another kind of mapping
    if type(schema) is not dict or schema.get("cls") is not cls or not _is_plain_model(schema):
        return None
    fields = schema["schema"]["fields"]
    plain = all(
        field.keys() <= _FIELD_KEYS and _is_plain(field["schema"], definitions) for field in fields.values()
    )
    return tuple(fields) if plain else None


def _is_plain_model(schema: Mapping[str, Any]) -> bool:
    fields, config = schema["schema"], schema.get("config", {})
    return (
        schema.keys() <= _MODEL_KEYS
        and not schema.get("root_model")
        and fields["type"] == "model-fields"
        and fields.keys() <= _FIELDS_KEYS
        and not fields.get("computed_fields")
        and "allow"
        not in (
            schema.get("extra_behavior"),
            fields.get("extra_behavior"),
            config.get("extra_fields_behavior"),
        )
        and not any(value for key, value in config.items() if key.startswith("serialize"))
    )


def _is_plain(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> bool:
    """True if scalars of this schema are serialized as they are."""
    kind = schema["type"]
    if "serialization" in schema:
        return False
    if kind == "definition-ref":
        # only a class can refer to itself, and that is not plain
        entry = definitions.get(schema["schema_ref"])
        return entry is not None and entry["type"] in _SCALARS and _is_plain(entry, definitions)
    if kind == "union":
        choices = (choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"])
        return all(_is_plain(choice, definitions) for choice in choices)
    if kind in _WRAPPERS:
        return _is_plain(schema["schema"], definitions)
    return kind in _SCALARS
