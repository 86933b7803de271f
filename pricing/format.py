"""The format number that every file carries, so that one release can read the files of another.

* `format` is the number of the format in which a file was written. A file without it has format 1.
* `readable_from` is the oldest format whose readers understand the file. A file without it has that of its `format`.
* A release that only adds fields raises `format` and writes the old number as `readable_from`. Older releases ignore
  the added fields.
* A release that removes or renames a field, changes its meaning, or writes a value that older releases do not know (a
  scope, an arm) raises both. Older releases refuse the file, with both numbers and what to do.

tests/test_formats.py reads the next format of each file.
"""

from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

INVALID: Final = "invalid_format"
UNREADABLE: Final = "unreadable_format"
"""Type of the error for a file that only later releases can read."""


class Part(BaseModel):
    """A part of a file. Unknown fields are those of a later release and are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Stored(Part):
    """A file, or a line of one. A format that this release cannot read is refused before any field is looked at."""

    NEWEST: ClassVar[int] = 1
    """The number of the format that this release writes, and the newest that it knows."""

    format: int = 1
    # Not written if it is the same as the format: releases before this rule refuse a field that they do not know.
    readable_from: int | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="before")
    @classmethod
    def _is_readable(cls, found: object) -> object:
        if isinstance(found, dict):
            check_format(found, cls.NEWEST)
        return found


def check_format(found: dict[str, object], newest: int) -> None:
    """Raise PydanticCustomError for numbers that are not valid, and for a format that this release cannot read."""
    number = found.get("format", 1)
    oldest = number if found.get("readable_from") is None else found["readable_from"]
    for value in (number, oldest):
        if type(value) is not int or value < 1:
            raise PydanticCustomError(INVALID, "observed format {value}, expected a whole number from 1", _told(value))
    if oldest > newest:  # type: ignore[operator]  # both are whole numbers
        raise PydanticCustomError(
            UNREADABLE,
            "observed format {number}, which needs a release that reads format {oldest}, but this release reads up to "
            "format {newest}; use the release that wrote it, or a newer one",
            {"number": number, "oldest": oldest, "newest": newest},
        )


def _told(value: object) -> dict[str, object]:
    return {"value": repr(value)[:50]}


def reason_of(error: ValidationError, whole: str = "whole file") -> str:
    """The first thing that is wrong, and where, without any of the input: `keys.0.id: Field required`."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg']}"


def is_of_a_later_release(error: ValidationError) -> bool:
    """Whether the file is not damaged but has a format that only later releases can read."""
    return error.errors(include_url=False, include_input=False)[0]["type"] == UNREADABLE
