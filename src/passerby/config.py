"""TOML files become checked, frozen dataclasses; no setting has its home here."""

import difflib
import json
import tomllib
from datetime import date, time
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from passerby.types import ConfigError

T = TypeVar("T")

STRICT = ConfigDict(
    extra="forbid", strict=True
)  # goes on each dataclass that is read from TOML, as __pydantic_config__


def load_toml(path: Path, kind: type[T]) -> T:
    """Read a TOML file into the dataclass `kind`, which may hold further dataclasses.

    A number is a number and a text a text: neither "2" nor true passes for 2. Paths and times may be given as text.

    Raises ConfigError that names file, key, what was expected and what was found; for an unknown key also the nearest
    known one.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    try:
        # as JSON, since strict reading of Python values takes no list for a tuple and no text for a path
        return TypeAdapter(kind).validate_json(json.dumps(values, default=_as_text), strict=True)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(_sentence(kind, dict(e)) for e in error.errors())) from None


def _as_text(value: date | time) -> str:
    return value.isoformat()


def _sentence(kind: type, error: dict[str, object]) -> str:
    location = error["loc"]
    assert isinstance(location, tuple)
    name = ".".join(str(part) for part in location)
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = sorted(_keys(kind))
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        return f"unknown key {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")
    if error["type"] in ("missing", "missing_argument"):
        return f"{name!r} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    got = error.get("input")
    if not name or isinstance(got, (dict, list)):  # a whole table, which may hold a camera's password
        return f"{name}: {message}" if name else message
    return f"{name}: {message}, got {got!r}"


def _keys(kind: object) -> set[str]:
    """Every key that the dataclass and those within it know."""
    found: set[str] = set()
    seen: list[object] = [kind]
    while seen:
        entry = seen.pop()
        seen.extend(getattr(entry, "__args__", ()))
        for name, field in getattr(entry, "__dataclass_fields__", {}).items():
            found.add(name)
            seen.append(field.type)
    return found
