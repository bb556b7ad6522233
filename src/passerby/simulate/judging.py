"""How well what was followed agrees with a film's truth: visits, doors, links and dwell."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from passerby.shop import Link, Sighting, SightingKey
from passerby.types import Float32, Float64, SimulationError
from passerby.vision.detect import overlaps
from passerby.vision.links import LinkScores, consecutive_pairs, score_links
from passerby.vision.pipeline import Seen
from passerby.vision.visits import VisitRow

SAME_BOX = 0.3  # IoU from which a track's box is on somebody
NEAR_S = 2.0  # a crossing that was found so near to a true one is that one


class Witness:
    """Sees each frame with its tracks while a film is followed, and knows from the truth whom each track is on."""

    def __init__(self, film: Path) -> None:
        run = json.loads((film / "run.json").read_text())
        self._fps, self._begins = float(run["fps"]), datetime.fromisoformat(run["begins"])
        self._truth: dict[str, dict[int, tuple[list[int], Float32]]] = {}
        for path in sorted((film / "truth").glob("*.txt")):
            rows = np.loadtxt(path, delimiter=",", ndmin=2).reshape(-1, 9)
            frames = self._truth.setdefault(path.stem, {})
            for frame in np.unique(rows[:, 0]).astype(int).tolist():
                mine = rows[rows[:, 0] == frame]
                boxes = np.concatenate([mine[:, 2:4], mine[:, 2:4] + mine[:, 4:6]], axis=1).astype(np.float32)
                frames[frame] = mine[:, 1].astype(int).tolist(), boxes
        self._on: dict[tuple[str, int], Counter[int | None]] = defaultdict(Counter)

    def see(self, seen: Sequence[Seen]) -> None:
        """Take in what was seen in frames."""
        for each in seen:
            frame = each.frame
            number = round((frame.time - self._begins).total_seconds() * self._fps) + 1
            visits, boxes = self._truth[frame.camera].get(number, ([], np.zeros((0, 4), np.float32)))
            for one in each.tracks:
                shared = overlaps(one.box_xyxy[None], boxes)[0] if visits else np.zeros(0, np.float32)
                best = int(shared.argmax()) if len(shared) else -1
                self._on[frame.camera, one.track][visits[best] if best >= 0 and shared[best] >= SAME_BOX else None] += 1

    def visit_of(self, key: SightingKey) -> int | None:
        """The true visit that most of a sighting's boxes are on; None where that is nobody's."""
        counts = self._on.get((key.camera, key.track))
        return counts.most_common(1)[0][0] if counts else None


@dataclass(frozen=True, slots=True)
class Dwell:
    """The seconds that somebody was in a zone, truly and as found."""

    visit: int
    zone: str
    true_s: float
    found_s: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found beside the truth; times are compared while cameras saw the person.

    `visits` and `true_visits` count everybody, staff too. `right` are true visits that one found visit has alone, whole, and
    with nobody else in it. `entries` and `exits` are (true, found, of these right). `rows` gives each found visit the true one
    that holds most of its sightings.
    """

    visits: int
    true_visits: int
    right: int
    entries: tuple[int, int, int]
    exits: tuple[int, int, int]
    links: LinkScores
    dwells: tuple[Dwell, ...]
    rows: tuple[int | None, ...]

    @property
    def dwell_errors_s(self) -> Float64:
        """How far each dwell time is off, in seconds."""
        return np.array([abs(dwell.found_s - dwell.true_s) for dwell in self.dwells])


def judge(
    film: Path,
    witness: Witness,
    *,
    visits: Sequence[VisitRow],
    links: Iterable[Link],
    sightings: Mapping[SightingKey, Sighting],
    zones: Iterable[str],
) -> Judgement:
    """Compare what was followed with the truth of the film in folder `film`; `zones` are those whose dwell is compared."""
    truth = {name: _table(film / "truth" / f"{name}.jsonl") for name in ("visits", "entries", "in_view", "presence")}
    seen = {row["visit"] for row in truth["in_view"]}
    person_of = {row["visit"]: row["person"] for row in truth["visits"]}
    kept = {key: each for key, each in sightings.items() if each.state != "withdrawn"}
    labels = {key: witness.visit_of(key) for key in kept}
    people = [None if labels[key] is None else person_of[labels[key]] for key in kept]
    there = consecutive_pairs([(key, each.start) for key, each in kept.items()], people)
    said = {(link.earlier, link.later) for link in links if link.earlier.camera != link.later.camera}
    holders: dict[int, set[str]] = defaultdict(set)  # of a true visit, the found visits that hold some of it
    rows: list[int | None] = []
    mixed: dict[str, set[int]] = {}
    for row in visits:
        counts = Counter(labels.get(key) for key in row.sightings)
        rows.append(counts.most_common(1)[0][0])
        mixed[row.visit] = {each for each in counts if each is not None}
        for each in mixed[row.visit]:
            holders[each].add(row.visit)
    right = sum(len(names) == 1 and mixed[next(iter(names))] == {visit} for visit, names in holders.items())
    until = max((each.end for each in kept.values()), default=None)
    doors = []
    for inwards in (True, False):
        true = [_time(row["at"]) for row in truth["entries"] if row["inwards"] == inwards]
        true = [at for at in true if until is not None and at <= until]
        found = [c.at for each in kept.values() for c in each.crossings if c.inwards == inwards]
        doors.append((len(true), len(found), _matched(true, found)))
    return Judgement(
        len(visits),
        len(seen),
        right,
        doors[0],
        doors[1],
        score_links(said, there),
        tuple(_dwells(truth["presence"], visits, rows, seen=seen, zones=set(zones))),
        tuple(rows),
    )


def _dwells(
    presence: Sequence[dict[str, Any]],
    visits: Sequence[VisitRow],
    rows: Sequence[int | None],
    *,
    seen: set[int],
    zones: set[str],
) -> list[Dwell]:  # Any: JSON
    true: dict[tuple[int, str], float] = defaultdict(float)
    for row in presence:
        if row["zone"] in zones and row["visit"] in seen:
            true[row["visit"], row["zone"]] += (_time(row["end"]) - _time(row["start"])).total_seconds()
    found: dict[tuple[int, str], float] = defaultdict(float)
    for visit, who in zip(visits, rows, strict=True):
        if who is not None:
            for zone, seconds in visit.dwell_s().items():
                found[who, zone] += seconds
    keys = sorted({*true, *found})
    return [Dwell(visit, zone, true.get((visit, zone), 0.0), found.get((visit, zone), 0.0)) for visit, zone in keys]


def _matched(true: Sequence[datetime], found: Sequence[datetime]) -> int:
    """How many of the true times have a found one of their own within NEAR_S; both in order of time."""
    left, count = sorted(found), 0
    for at in sorted(true):
        near = [other for other in left if abs((other - at).total_seconds()) <= NEAR_S]
        if near:
            left.remove(near[0])
            count += 1
    return count


def _table(path: Path) -> list[dict[str, Any]]:  # Any: JSON
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except OSError as error:
        raise SimulationError(f"{path}: cannot be read ({error.strerror}); is this the folder of a film?") from None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
