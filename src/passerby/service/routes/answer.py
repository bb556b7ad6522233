"""What every answer with figures says beside them: time zone, gaps, what is whole, what may still change."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from passerby.service import analytics, kept
from passerby.service.analytics import Missing, Period
from passerby.service.kept import Gap, GapKind
from passerby.service.routes.period import Asked, Length
from passerby.service.routes.served import Served
from passerby.vision.associate import WINDOW_S

D = TypeVar("D")
T = TypeVar("T")
State = Literal["live", "settled"]
UNKNOWN = (
    "Null where it is not known any more: the visits of that time are gone, and what is kept of them does not tell it"
)
STATE = "`live` until its visits are not revised any more: its end, and the time in which who left is known again"


class GapAnswer(BaseModel):
    """A time in which a camera saw nothing, or nothing that counts; `to` is null while it lasts."""

    camera: str
    start: datetime = Field(serialization_alias="from")
    end: datetime | None = Field(serialization_alias="to")
    kind: GapKind
    reason: str


class Parts(BaseModel):
    """How many intervals the answer has, and how many of them are over and without a gap."""

    count: int
    whole: int
    unfinished: int
    with_gaps: int


class Head(BaseModel):
    """What is said beside every figure."""

    site: str
    time_zone: str
    start: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")
    group_by: Length | None = None
    state: State = Field(description=STATE)
    intervals: Parts
    gaps: list[GapAnswer] = Field(description="When a camera saw nothing: figures over such a time are too low, not 0")
    notes: list[str] = []


class Row(BaseModel, Generic[T]):
    """A figure of one interval; `whole` where it is over and nothing of it is missing."""

    start: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")
    state: State
    whole: bool
    missing: float = Field(description="The part of its open time, 0 to 1, in which a camera saw nothing")
    value: T | None = Field(description=UNKNOWN)


class Before(BaseModel, Generic[T]):
    """The figure of the same weekdays before; of a period that has not ended, up to the same minute."""

    start: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")
    whole: bool
    value: T | None = Field(description=UNKNOWN)


class Series(Head, Generic[T]):
    """A metric: of the whole period, of its parts, and of the period before."""

    value: T | None = Field(description=UNKNOWN)
    rows: list[Row[T]] = Field([], description="By `group_by`; empty without it")
    before: Before[T] | None = Field(None, description="With `compare`")


def state_of(here: Served, end: datetime) -> State:
    """Whether what ended then may still change."""
    return "live" if here.clock() < end + timedelta(hours=here.site.reentry_h, seconds=WINDOW_S) else "settled"


def gaps_of(here: Served, period: Period) -> list[Gap]:
    """The gaps that touch a period, but for those in which there was nothing to see."""
    found = kept.gaps(here.store, here.site.name, since=period.start, until=period.end)
    return [gap for gap in found if gap.kind != "closed"]


def missing_of(here: Served, periods: Sequence[Period], gaps: Sequence[Gap], cameras: Collection[str]) -> list[Missing]:
    """Which part of the open time of each period those cameras did not see."""
    if not periods:
        return []
    opened = [Period(*each) for each in here.site.openings(periods[0].start, periods[-1].end)]
    return analytics.missing(gaps, periods, cameras=cameras, now=here.clock(), openings=opened)


def head(
    here: Served,
    period: Period,
    parts: Sequence[Period],
    *,
    cameras: Collection[str],
    group_by: Length | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:  # Any: the fields of Head
    """What is said beside the figures of a period and its parts, of which `cameras` tell."""
    gaps = gaps_of(here, period)
    missing = missing_of(here, parts, gaps, cameras)
    return {
        "site": here.site.name,
        "time_zone": here.site.time_zone,
        "start": here.by_clock(period.start),
        "end": here.by_clock(period.end),
        "group_by": group_by,
        "state": state_of(here, period.end),
        "intervals": Parts(
            count=len(parts),
            whole=sum(each.whole for each in missing),
            unfinished=sum(not each.ended for each in missing),
            with_gaps=sum(each.share > 0 for each in missing),
        ),
        "gaps": [gap_answer(here, gap) for gap in gaps],
        "notes": list(notes),
    }


def series(
    here: Served,
    asked: Asked,
    kind: type[T],
    load: Callable[[Period], D],
    figure: Callable[[D, list[Period]], list[T]],
    *,
    known: Callable[[D, Period], bool] = lambda data, period: True,
    cameras: Collection[str] | None = None,
    notes: Sequence[str] = (),
) -> Series[T]:
    """A metric as it is asked for: `load` reads what a period needs, `figure` makes a value of each of its parts.

    `known` says whether a part can be told: where not, its value is None. `cameras` are those whose gaps the figure feels: by
    default all.
    """

    def told(data: D, periods: list[Period]) -> list[T | None]:
        there = [period for period in periods if known(data, period)]
        values = dict(zip(there, figure(data, there) if there else [], strict=True))
        return [values.get(period) for period in periods]

    seeing = [camera.name for camera in here.site.cameras] if cameras is None else cameras
    now, data, gaps = here.clock(), load(asked.passed), gaps_of(here, asked.period)
    passed = [Period(part.start, min(part.end, now)) for part in asked.parts]
    missing = missing_of(here, asked.parts, gaps, seeing)
    earlier = None
    if asked.before is not None:
        (value,) = told(load(asked.before), [asked.before])
        (part,) = missing_of(here, [asked.before], gaps_of(here, asked.before), seeing)
        earlier = Before[kind](  # type: ignore[valid-type]  # pydantic makes the model
            start=here.by_clock(asked.before.start), end=here.by_clock(asked.before.end), whole=part.whole, value=value
        )
    said = head(here, asked.period, asked.parts or [asked.period], cameras=seeing, group_by=asked.group_by, notes=notes)
    return Series[kind](  # type: ignore[valid-type]
        **said,
        value=told(data, [asked.passed])[0],
        rows=[
            Row[kind](  # type: ignore[valid-type]
                start=here.by_clock(part.start),
                end=here.by_clock(part.end),
                state=state_of(here, part.end),
                whole=lost.whole,
                missing=lost.share,
                value=value,
            )
            for part, lost, value in zip(asked.parts, missing, told(data, passed), strict=True)
        ],
        before=earlier,
    )


def gap_answer(here: Served, gap: Gap) -> GapAnswer:
    """A gap by the site's clock."""
    return GapAnswer(
        camera=gap.camera,
        start=here.by_clock(gap.start),
        end=None if gap.end is None else here.by_clock(gap.end),
        kind=gap.kind,
        reason=gap.reason,
    )
