"""What a visit amounts to: when somebody came and went, which way they took, and where they stayed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from passerby.shop import Crossing, Link, Sighting, SightingKey, Stay, Visit

JOINED_S = 5.0  # stays in one zone that lie no further apart are one: a track broke, or somebody stepped aside
AWAY_S = 60.0  # so are those no further apart than this, if the person was lost and found in the zone, and in no other between
LOST_S = 1.0  # so near to the end or the start of a sighting, a stay ends or starts with it
TURNED_S = 2.0  # who is back over a line so soon has not passed it


@dataclass(frozen=True, slots=True)
class VisitRow:
    """A visit with what its sightings say.

    `entered` and `left` are when a door was crossed, None where no camera saw it: the first crossing of all has to lead in,
    the last one out. `cameras` are those that saw the person, in order. `probability` is that of its least certain link, None
    where there is none.
    """

    site: str
    visit: str
    person: str | None
    start: datetime
    end: datetime
    entered: datetime | None
    left: datetime | None
    cameras: tuple[str, ...]
    stays: tuple[Stay, ...]
    sightings: tuple[SightingKey, ...]
    probability: float | None

    def to_dict(self) -> dict[str, Any]:  # Any: text, numbers, times, lists
        """The row in plain types; a sighting is "camera/session/track"."""
        row = asdict(self)
        row["cameras"] = list(self.cameras)
        row["stays"] = [{"zone": stay.zone, "start": stay.start, "end": stay.end} for stay in self.stays]
        row["sightings"] = [f"{key.camera}/{key.session}/{key.track}" for key in self.sightings]
        return row

    def dwell_s(self) -> dict[str, float]:
        """The seconds in each zone, in order of the first stay; a stay that goes on lasts to the visit's end."""
        found: dict[str, float] = {}
        for stay in self.stays:
            found[stay.zone] = found.get(stay.zone, 0.0) + ((stay.end or self.end) - stay.start).total_seconds()
        return found


def visit_rows(
    visits: Iterable[Visit],
    sightings: Mapping[SightingKey, Sighting],
    links: Mapping[SightingKey, Link],
    *,
    doors: Iterable[str],
) -> list[VisitRow]:
    """A row for each visit, in order; `links` are by their later sighting, `doors` the names of lines that are doors."""
    known = frozenset(doors)
    rows = []
    for visit in visits:
        seen = [sightings[key] for key in visit.sightings]
        rows.append(
            visit_row(
                (visit.site, visit.name, visit.person, visit.start, visit.end),
                visit.sightings,
                [
                    (crossing.at, crossing.inwards)
                    for each in seen
                    for crossing in passages(each.crossings)
                    if crossing.line in known
                ],
                [(stay, each.start, each.end) for each in seen for stay in each.stays],
                [links[key].probability for key in visit.sightings[1:] if key in links],
            )
        )
    return rows


def visit_row(
    visit: tuple[str, str, str | None, datetime, datetime],
    sightings: tuple[SightingKey, ...],
    crossings: Iterable[tuple[datetime, bool]],
    stays: Iterable[tuple[Stay, datetime, datetime]],
    probabilities: Sequence[float],
) -> VisitRow:
    """The row of one `visit`: its site, name, person, start and end.

    `crossings` are those of doors, each with whether it leads in, and `stays` those of its sightings in order, each with when
    its sighting starts and ends; `probabilities` are those of the links between them.
    """
    known = list(stays)
    ways = sorted(crossings)
    came = [at for at, inwards in ways[:1] if inwards]
    went = [at for at, inwards in ways[-1:] if not inwards]
    return VisitRow(
        *visit,
        came[0] if came else None,
        went[0] if went else None,
        tuple(camera for camera, _ in groupby(key.camera for key in sightings)),
        joined_stays(
            [stay for stay, _, _ in known],
            lost={stay for stay, _, end in known if stay.end is not None and _apart_s(stay.end, end) <= LOST_S},
            found={stay for stay, start, _ in known if _apart_s(start, stay.start) <= LOST_S},
        ),
        sightings,
        min(probabilities, default=None),
    )


def passages(crossings: Iterable[Crossing], *, turned_s: float = TURNED_S) -> tuple[Crossing, ...]:
    """How often one track passed each line: there and back within `turned_s` is none, there, back and there again is one.

    >>> from datetime import UTC, timedelta
    >>> start = datetime(2026, 3, 2, tzinfo=UTC)
    >>> ways = [Crossing("door", start + timedelta(seconds=s), inwards) for s, inwards in [(1, True), (2, False), (3, True)]]
    >>> [(crossing.at.second, crossing.inwards) for crossing in passages(ways)]
    [(1, True)]
    """
    runs: dict[str, list[list[Crossing]]] = {}
    for crossing in sorted(crossings, key=lambda each: each.at):
        of_line = runs.setdefault(crossing.line, [])
        last = of_line[-1][-1] if of_line else None
        if last and last.inwards != crossing.inwards and (crossing.at - last.at).total_seconds() <= turned_s:
            of_line[-1].append(crossing)
        else:
            of_line.append([crossing])
    passed = [run[0] for of_line in runs.values() for run in of_line if len(run) % 2]
    return tuple(sorted(passed, key=lambda each: (each.at, each.line)))


def as_path(places: Iterable[str]) -> str:
    """The places that somebody went to, as tables show them.

    >>> as_path(["entrance", "till"])
    'entrance > till'
    """
    return " > ".join(places)


def joined_stays(
    stays: Iterable[Stay], *, lost: Collection[Stay] = (), found: Collection[Stay] = ()
) -> tuple[Stay, ...]:
    """Stays in order of their start, those in one zone that one stay was broken into made one.

    That is where they touch, or nearly; or where nobody saw the person for no longer than `AWAY_S`: the one is among the
    `lost`, which end with their sighting, the other among the `found`, which start with theirs, and no stay in another zone
    began in between.
    """
    joined: list[Stay] = []
    ends_lost: list[bool] = []
    for stay in sorted(stays, key=lambda each: (each.start, each.zone)):
        before = next((i for i in reversed(range(len(joined))) if joined[i].zone == stay.zone), None)
        if before is None:
            joined.append(stay)
            ends_lost.append(stay in lost)
            continue
        end = joined[before].end
        if end is None:  # what goes on holds the other
            continue
        elsewhere = any(other.start >= end for other in joined[before + 1 :])
        unseen = ends_lost[before] and stay in found and not elsewhere
        if _apart_s(end, stay.start) > (AWAY_S if unseen else JOINED_S):
            joined.append(stay)
            ends_lost.append(stay in lost)
        elif stay.end is None or stay.end > end:
            joined[before] = Stay(stay.zone, joined[before].start, stay.end)
            ends_lost[before] = stay in lost
    return tuple(joined)


def _apart_s(earlier: datetime, later: datetime) -> float:
    return (later - earlier).total_seconds()
