"""How the core reads pydantic's models and zones, dataclasses, msgspec's Structs, numpy's scalars.

The core asks once a class. Nothing is imported here that the caller has not imported.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from types import MemberDescriptorType
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

    That is a function for a record. A model that is read in place has its serializer, the names of its
    fields, and for each field the class of the models in it.
    """
    if _is_numpy_scalar(cls):
        return "numpy", None
    if cls is getattr(sys.modules.get("pydantic_core"), "TzInfo", None):
        return "zone", None
    pydantic = sys.modules.get("pydantic")
    # models of pydantic 1 have no `model_dump`
    if pydantic is not None and issubclass(cls, pydantic.BaseModel) and hasattr(cls, "model_dump"):
        fields = _plain_fields(cls, {})
        if fields is None:
            return "record", _dump
        return "model", (cls.__pydantic_serializer__, tuple(fields), tuple(fields.values()))  # type: ignore[attr-defined]
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


def slots_of(cls: type) -> tuple[tuple[str, object], ...] | None:
    """Name and member descriptor of each field, if all fields are slots; else None."""
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(cls, msgspec.Struct):
        names = tuple(cls.__struct_fields__)  # type: ignore[attr-defined]
    elif dataclasses.is_dataclass(cls) and "__pydantic_serializer__" not in vars(cls):
        names = tuple(field.name for field in dataclasses.fields(cls))
    else:
        return None
    reads: Any = cls.__getattribute__
    if reads is not object.__getattribute__:
        return None
    found = [next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None) for name in names]
    slots = all(type(member) is MemberDescriptorType for member in found)
    return tuple(zip(names, found, strict=True)) if slots else None


def _dump(model: Any) -> Any:
    return model.model_dump()


def _dump_dataclass(record: Any) -> Any:
    # what a model that holds it gives
    try:
        return type(record).__pydantic_serializer__.to_python(record)
    except AttributeError as error:
        raise TypeError(str(error)) from error


Fields = dict[str, type | None]


def _plain_fields(cls: Any, known: dict[int, Fields | None]) -> Fields | None:
    """A model's fields, if its serializer hands scalars in them out as they are; else None.

    A field of models, in turn such, has their class. `known` is what was found of classes, by their ids.
    """
    if id(cls) not in known:
        known[id(cls)] = None  # models of a class within each other have no end
        known[id(cls)] = _find_plain_fields(cls, known)
    return known[id(cls)]


def _find_plain_fields(cls: Any, known: dict[int, Fields | None]) -> Fields | None:
    base = sys.modules["pydantic"].BaseModel
    if cls.model_dump is not base.model_dump or cls.__getattribute__ is not object.__getattribute__:
        return None
    if any("__dict__" in vars(above) for above in cls.__mro__ if above not in base.__mro__):
        return None
    serializer, schema = cls.__pydantic_serializer__, cls.__pydantic_core_schema__
    # another may have been put in the place of the serializer that was made from the schema
    if type(serializer) is not sys.modules["pydantic_core"].SchemaSerializer:
        return None
    if serializer.__reduce__()[1][0] is not schema:
        return None
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
    return _CoreSchema(definitions, known).fields_of(schema)


class _CoreSchema:
    """The core schema of a class. Each model in it is judged once, however often it is referred to."""

    def __init__(self, definitions: Mapping[str, Any], known: dict[int, Fields | None]) -> None:
        self._definitions = definitions
        self._known = known
        self._judged: dict[int, Fields | None] = {}

    def fields_of(self, model: Mapping[str, Any]) -> Fields | None:
        if id(model) not in self._judged:
            self._judged[id(model)] = None  # it may be within itself
            self._judged[id(model)] = self._find_fields(model)
        return self._judged[id(model)]

    def _find_fields(self, model: Mapping[str, Any]) -> Fields | None:
        found: Fields = {}
        for name, field in model["schema"]["fields"].items():
            if not field.keys() <= _FIELD_KEYS:
                return None
            inner = _model_in(field["schema"], self._definitions)
            if inner is not None:
                # as the class has it by itself
                fields = self.fields_of(inner) if _is_plain_model(inner) else None
                if fields is None or fields != _plain_fields(inner["cls"], self._known):
                    return None
                found[name] = inner["cls"]
            elif _is_plain(field["schema"], self._definitions):
                found[name] = None
            else:
                return None
        return found


def _model_in(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of the models that a field has, None beside them."""
    while "serialization" not in schema:
        if schema["type"] == "model":
            return schema
        if schema["type"] == "definition-ref" and schema["schema_ref"] in definitions:
            schema = definitions[schema["schema_ref"]]
        elif schema["type"] in _WRAPPERS:
            schema = schema["schema"]
        else:
            return None
    return None


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
