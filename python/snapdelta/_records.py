"""How records that are no dicts are read: pydantic models, dataclasses, msgspec Structs; and numpy's scalars.

The core asks once a class. Nothing is imported here that the caller has not imported.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import sys
import uuid
from collections.abc import Callable
from typing import Any

Reader = Callable[[Any], dict[str, Any]]

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

# field types whose value `model_dump()` hands out as it is
_PLAIN = {
    bool,
    int,
    float,
    str,
    bytes,
    type(None),
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
}


def is_numpy_scalar(cls: type) -> bool:
    """True for the scalars of numpy whose `item()` is exact."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    # `bool_` is `bool` in numpy 2
    names = (*_NUMPY_SCALARS, "bool_")
    return any(cls is getattr(numpy, name, None) for name in names)


def reader_of(cls: type) -> Reader | None:
    """A function from an object of this class to a dict of its fields; None if it is no kind of record."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return _fields_of(cls) if _is_plain_model(cls) else _dump
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(cls, msgspec.Struct):
        return _by_names(tuple(cls.__struct_fields__))  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(cls):
        return _by_names(tuple(field.name for field in dataclasses.fields(cls)))
    return None


def _by_names(names: tuple[str, ...]) -> Reader:
    return lambda record: {name: getattr(record, name) for name in names}


def _fields_of(cls: Any) -> Reader:
    count = len(cls.model_fields)

    def read(model: Any) -> dict[str, Any]:
        fields: dict[str, Any] = model.__dict__
        # a cached property lives there too
        return fields if len(fields) == count else _dump(model)

    return read


def _dump(model: Any) -> dict[str, Any]:
    fields: dict[str, Any] = model.model_dump()
    return fields


def _is_plain_model(cls: Any) -> bool:
    """True if `__dict__` holds what `model_dump()` gives: nothing serialized, computed, excluded or extra."""
    decorators = cls.__pydantic_decorators__
    config = cls.model_config
    return (
        not cls.__pydantic_root_model__
        and not decorators.field_serializers
        and not decorators.model_serializers
        and not cls.model_computed_fields
        and not config.get("json_encoders")
        and not config.get("serialize_by_alias")
        and config.get("extra") != "allow"
        and cls.model_dump is sys.modules["pydantic"].BaseModel.model_dump
        and all(_is_plain_field(field) for field in cls.model_fields.values())
    )


def _is_plain_field(field: Any) -> bool:
    # constraints do no harm; anything else in the metadata may be a serializer
    return (
        not field.exclude
        and all(type(entry).__module__ == "annotated_types" for entry in field.metadata)
        and _is_plain_type(field.annotation)
    )


def _is_plain_type(annotation: Any) -> bool:
    arguments = getattr(annotation, "__args__", ())
    if arguments:
        origin = getattr(annotation, "__origin__", None)
        # a union has no __origin__ or is typing.Union; containers may hold models, and are dumped
        if origin is None or "Union" in str(origin):
            return all(_is_plain_type(argument) for argument in arguments)
        return False
    return annotation in _PLAIN or (isinstance(annotation, type) and issubclass(annotation, enum.Enum))
