"""Counts of people over a time, drawn many times from what links may be wrong."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from passerby.types import Int64

Length = Literal["hour", "day", "week"]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """How many `persons` or `visits` began in an hour, a day or a week from `start` on: (draws,), as likely as each other."""

    start: datetime
    length: Length
    what: Literal["persons", "visits"]
    values: Int64
