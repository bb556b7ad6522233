"""Sightings of all cameras to links and visits, online; nothing here knows of pictures, nor looks at a clock."""

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from passerby.files import settings_hash
from passerby.reid.calibration import Calibration
from passerby.reid.evidence import Sides
from passerby.shop import Link, Sighting, SightingKey, Visit
from passerby.types import Float32, Float64, SightingError
from passerby.vision.clocks import REACH_S, SEEN_S, Clocks
from passerby.vision.linking import EVERY_S, IMPOSSIBLE, Linking, Remembered, edge_marginals, matching_marginals
from passerby.vision.snapshot import (
    Arrays,
    Json,
    Vectors,
    key_of,
    link_entry,
    link_of,
    packed,
    sighting_entry,
    sighting_of,
    unpacked,
)

__all__ = ["EVERY_S", "WATERMARK_S", "Associator", "Changes", "edge_marginals", "matching_marginals"]

log = logging.getLogger("passerby")

WATERMARK_S = 5.0  # how long a late sighting is waited for
SURE = 0.99  # of links that are settled as good as certain so many are right: others are in a track, look alike, or are nobody
STEP_S = 10.0  # from one look at what can no longer change to the next
SETTLE_S = 60.0  # from one look at everything to the next, which settles links
YOUNG = (
    (600.0, 10.0),
    (3600.0, 30.0),
)  # up to so many seconds after a site's first sighting nearer, when much is learnt
WINDOW_S = 900.0  # a sighting may come so late; then a link may be revised for so long
LOST_S = 60.0  # a track of which nothing was heard for so long has ended, though nobody said so
LAST_LOOKS = 5  # with which a recording ends
LINK = tuple(field.name for field in fields(Link) if field.name != "revision")
VISIT = tuple(field.name for field in fields(Visit) if field.name not in ("revision", "split_from"))


@dataclass(frozen=True, slots=True)
class Changes:
    """What has become known: the new revisions of links and of visits, and the later sightings of links taken back."""

    links: tuple[Link, ...] = ()
    visits: tuple[Visit, ...] = ()
    unlinked: tuple[SightingKey, ...] = ()

    def update(self, links: dict[SightingKey, Link]) -> None:
        """Bring the links that hold, by their later sightings, up to date."""
        links.update((link.later, link) for link in self.links)
        for key in self.unlinked:
            links.pop(key, None)


class Known(NamedTuple):
    """What visits are made of: when a sighting was, and whether somebody crossed a door in it, and last went out of one."""

    key: SightingKey
    start: datetime
    end: datetime
    crossed: bool
    left: bool


class Associator:
    """Links the sightings of one site to visits, each link with its probability; revised while its window is open.

    `take` gives it a revision of a sighting, `advance` the time. Looks are at times of their own, multiples of `EVERY_S`,
    whenever it is called. Links are chosen twice: as soon as possible, of what is known (`Changes` tells these), and once
    more, for good, of closed sightings in the order in which they ended, when all that comes within `window_s` has come.
    What is settled does not depend on the order of arrival within the window, nor on how often `advance` is called;
    times between cameras are learnt of it alone. What ended before the last look that settled is `late`, and left out.

    A sighting follows at most one other, and is followed by at most one, see `linking.Linking`. A visit ends where somebody
    goes out of a door, a line of `doors`. Who was seen by no camera but those at doors and crossed none has only passed by.
    `overlaps` are pairs of cameras in which one may be at once. A camera whose clock turns out to be off is corrected from
    then on (`clocks`): links and visits are by the right time, sightings stay as they came. A person not seen for `reentry_s`
    is forgotten, and so are, of who goes on coming, visits that were over so long ago. Time and memory follow from who is
    remembered; with `for_draws` that is every sighting of a person, as `remembered` needs it, else the last one alone.
    """

    def __init__(
        self,
        *,
        site: str,
        cameras: Sequence[str],
        calibration: Calibration,
        threshold: float,
        doors: Iterable[str] = (),
        overlaps: Iterable[tuple[str, str]] = (),
        reentry_s: float = 3 * 3600.0,
        window_s: float = WINDOW_S,
        watermark_s: float = WATERMARK_S,
        for_draws: bool = False,
    ) -> None:
        self.site, self._doors, overlaps = site, frozenset(doors), list(overlaps)
        self._reentry_s, self._window_s, self._watermark_s = reentry_s, window_s, watermark_s
        self._for_draws = for_draws
        number = {camera: number for number, camera in enumerate(cameras)}
        both = np.zeros((len(cameras), len(cameras)), bool)  # cameras in which one may be at once
        for one, other in overlaps:
            for a, b in ((one, other), (other, one)):
                both[number[a], number[b]] = True
        self._number, self._cameras = number, tuple(cameras)
        self.clocks = Clocks(len(cameras))
        self._judged_s = -math.inf  # sightings that ended by then have taught it
        self._corrected = 0  # so many of what it found are in the times between cameras
        self._sides: dict[SightingKey, tuple[int, Sides]] = {}
        self._online, self._settled = (
            Linking(
                cameras,
                calibration=calibration,
                threshold=threshold,
                doors=self._doors,
                both=both,
                reentry_s=reentry_s,
                sides=self._sides,
                sure=sure,
            )
            for sure in (1.0, SURE)
        )
        places = [site, *cameras, *sorted(self._doors), *sorted(map(list, overlaps))]
        self._settings = settings_hash(
            [places, calibration.to_dict(), threshold, reentry_s, window_s, watermark_s, for_draws]
        )
        self._newest: dict[SightingKey, int] = {}  # the newest revision of each sighting
        self._coming: dict[SightingKey, list[Sighting]] = {}  # revisions of what is not yet looked at online
        self._kept: dict[SightingKey, list[Sighting]] = {}  # and of what is not yet looked at to be settled
        self._ends: list[tuple[float, SightingKey]] = []  # when these are over, at the earliest
        self._known: dict[SightingKey, Known] = {}
        self._withdrawn: list[tuple[float, SightingKey]] = []  # when these had ended
        self._ages: list[tuple[float, SightingKey]] = []  # when known sightings had ended
        self._leaving: list[SightingKey] = []  # of people forgotten, whose visits are told once more
        self._persons: dict[SightingKey, str] = {}  # whose first sightings are forgotten: by the first that is not
        self._timers: list[tuple[float, SightingKey]] = []  # when a visit becomes final
        self._told_links: dict[SightingKey, Link] = {}
        self._standing: set[SightingKey] = set()  # those told and not taken back
        self._told_visits: dict[str, Visit] = {}
        self._holder: dict[SightingKey, str] = {}  # the visit that was told to hold a sighting
        self._doors_seen: set[str] = set()  # cameras at doors when visits were last told
        self._looked_s: float | None = None  # the last look, and the last that settled
        self._settled_s: float | None = None
        self.late = 0  # sightings that came after their window and were left out

    @property
    def people(self) -> int:
        """How many people are remembered, links as they stand now."""
        return len(self._known) - len(self._online.links)

    @property
    def sightings(self) -> int:
        """How many sightings are remembered."""
        return len(self._online.rows.row)

    @property
    def ahead_s(self) -> dict[str, float]:
        """By how many seconds each camera's clock was found to be ahead, of those that were."""
        found: dict[str, float] = {}
        for each in self.clocks.found:
            name = self._cameras[each.camera]
            found[name] = found.get(name, 0.0) + each.ahead_s
        return found

    def take(self, sighting: Sighting) -> None:
        """Take in a revision of a sighting; one that is older than what is known, or came after its window, changes nothing."""
        key = sighting.key
        known = self._newest.get(key, 0)
        if known == sighting.revision:
            return
        sighting = self.clocks.corrected(self._number[key.camera], sighting)
        if self._settled_s is not None and sighting.end.timestamp() <= self._settled_s:
            self.late += known < sighting.revision
            return
        kept = self._kept.setdefault(key, [])
        if sighting.state != "open":
            if all(each.revision != sighting.revision for each in kept):
                kept.append(sighting)
                heappush(self._ends, (_over_s(sighting), key))
        elif known < sighting.revision:
            if not kept:
                heappush(self._ends, (_over_s(sighting), key))
            kept[:] = [each for each in kept if each.state != "open"] + [sighting]
        if known < sighting.revision:
            self._newest[key] = sighting.revision
            self._coming.setdefault(key, []).append(sighting)

    def advance(self, now: datetime) -> Changes:
        """What has become known by the time `now`; nothing where the last look was a moment ago."""
        look_s = (now.timestamp() - self._watermark_s) // EVERY_S * EVERY_S
        if self._looked_s is not None and look_s <= self._looked_s:
            return Changes()
        self._looked_s = look_s
        self._settle_until(look_s - self._window_s)
        self._let_in(look_s)
        self._online.look(look_s, everything=self._at_everything(look_s))
        self._online.changed.update(self._leaving)
        changes = self._changes(look_s)
        self._let_go()
        return changes

    def finish(self) -> Changes:
        """The end of a recording: all is looked at for the last time, and every visit is final."""
        ends = [known.end for known in self._known.values()]
        ends += [each.end for waiting in self._kept.values() for each in waiting]
        if not ends:
            return Changes()
        last_s = max(ends).timestamp()
        self._let_in(last_s)
        self._settle_until(last_s + STEP_S)
        last_look_s = (last_s + LOST_S) // SETTLE_S * SETTLE_S + SETTLE_S
        self._take_ripe(last_look_s)
        for _ in range(LAST_LOOKS):  # what links teach of times changes links
            self._settled.look(last_look_s, everything=True, anew=True)
        self._fix(self._settled.settle(math.inf), last_look_s)
        return self._changes(last_s, final=True)

    def remembered(self, *, since_s: float = -math.inf, least: float = IMPOSSIBLE) -> Remembered:
        """All that is remembered, as it is known now, with possible links to those that begin from `since_s` on.

        It takes an associator made `for_draws`. Links whose way and time leave log odds under `least` are left out.
        """
        return self._online.remembered(
            since_s=since_s,
            least=least,
            looked_s=self._looked_s or 0.0,
            crossed=lambda key: key in self._known and self._known[key].crossed,
        )

    def looks(self) -> tuple[list[tuple[SightingKey, str | None]], Sides, Float64]:
        """How each person who is remembered looked: the last sighting and the visit that was told to hold it; see `Linking`."""
        keys, sides, many = self._online.looks()
        return [(key, self._holder.get(key)) for key in keys], sides, many

    def snapshot(self) -> tuple[bytes, dict[SightingKey, Float32]]:
        """All that is known, as bytes without vectors, and the vectors (n, length) of each sighting that still needs some.

        An associator of the same settings that takes them in with `restore`, and then what came after, ends as this one does.
        """
        vectors = Vectors()
        online, settled = self._online, self._settled
        waiting = [each for kept in (*self._coming.values(), *self._kept.values()) for each in kept]
        whole = {(each.key, each.revision): each for each in waiting}
        every = {(each.key, each.revision): each for of in (online, settled) for each in of.open.values()} | whole
        number = {name: place for place, name in enumerate(every)}

        def places(of: Iterable[Sighting]) -> list[int]:
            return [number[each.key, each.revision] for each in of]

        arrays: Arrays = {"clocks": self.clocks.overlaps}
        entry: Json = {}
        for name, of in (("online", online), ("settled", settled)):
            of_arrays, of_entry = of.dump(vectors)
            arrays |= {f"{name}_{part}": array for part, array in of_arrays.items()}
            entry[name] = of_entry | {"open": places(of.open.values())}
        return packed(
            arrays,
            entry
            | {
                "settings": self._settings,
                "sightings": [sighting_entry(s, vectors if name in whole else None) for name, s in every.items()],
                "coming": [places(kept) for kept in self._coming.values()],
                "kept": [places(kept) for kept in self._kept.values()],
                "newest": list(self._newest.items()),
                "known": [
                    [k.key, k.start.isoformat(), k.end.isoformat(), k.crossed, k.left] for k in self._known.values()
                ],
                "withdrawn": self._withdrawn,
                "persons": list(self._persons.items()),
                "timers": self._timers,
                "ages": self._ages,
                "told_links": [link_entry(link) for link in self._told_links.values()],
                "standing": sorted(self._standing),
                "told_visits": [
                    asdict(visit) | {"start": visit.start.isoformat(), "end": visit.end.isoformat()}
                    for visit in self._told_visits.values()
                ],
                "holder": list(self._holder.items()),
                "doors_seen": sorted(self._doors_seen),
                "looked_s": self._looked_s,
                "settled_s": self._settled_s,
                "late": self.late,
                "clocks": self.clocks.found,
                "judged_s": self._judged_s,
                "corrected": self._corrected,
            },
        ), vectors.all()

    def restore(
        self,
        state: bytes,
        vectors: Mapping[SightingKey, Float32],
        *,
        links: Iterable[Link] | None = None,
        visits: Iterable[Visit] = (),
    ) -> None:
        """Take in a snapshot; this associator must be new.

        `links` and `visits` are what stands where they are kept, all links and the newest revisions of visits that are not
        final: what was told since the snapshot may not come again, and is then taken back. Without them nothing was told since.

        Raises SightingError where the snapshot is damaged, of another version, or made with other settings, or where some of
        its vectors are missing: whoever erases a visit's vectors makes a new snapshot.
        """
        arrays, entry = unpacked(state)
        if entry["settings"] != self._settings:
            raise SightingError(
                f"snapshot: expected one made with the settings of {self.site}, got one of others; begin without it"
            )
        kept = Vectors(dict(vectors))
        every = [sighting_of(each, kept) for each in entry["sightings"]]
        for name, of in (("online", self._online), ("settled", self._settled)):
            mine = {part.removeprefix(f"{name}_"): a for part, a in arrays.items() if part.startswith(f"{name}_")}
            of.load(mine, entry[name], kept, [every[place] for place in entry[name]["open"]])
        self._online.passages = self._settled.passages
        for waiting, lists in ((self._coming, entry["coming"]), (self._kept, entry["kept"])):
            for places in lists:
                waiting[every[places[0]].key] = [every[place] for place in places]
        self._ends = [(_over_s(each), each.key) for kept in self._kept.values() for each in kept]
        heapify(self._ends)
        self._newest = {key_of(key): revision for key, revision in entry["newest"]}
        for key, start, end, crossed, left in entry["known"]:
            self._known[key_of(key)] = Known(
                key_of(key), datetime.fromisoformat(start), datetime.fromisoformat(end), crossed, left
            )
        self._withdrawn, self._timers, self._ages = (
            [(at_s, key_of(key)) for at_s, key in entry[name]] for name in ("withdrawn", "timers", "ages")
        )
        self._persons = {key_of(key): name for key, name in entry["persons"]}
        self._told_links = {link.later: link for link in map(link_of, entry["told_links"])}
        self._standing = set(map(key_of, entry["standing"]))
        for told in entry["told_visits"]:
            times = {name: datetime.fromisoformat(told[name]) for name in ("start", "end")}
            visit = Visit(**told | times | {"sightings": tuple(map(key_of, told["sightings"]))})
            self._told_visits[visit.name] = visit
        self._holder = {key_of(key): name for key, name in entry["holder"]}
        self._doors_seen = set(entry["doors_seen"])
        self._looked_s, self._settled_s, self.late = entry["looked_s"], entry["settled_s"], entry["late"]
        self.clocks.restore(entry["clocks"], arrays["clocks"])
        self._judged_s, self._corrected = entry["judged_s"], entry["corrected"]
        changed = self._online.changed
        if links is not None:
            stands = {link.later: link for link in links}
            changed.update(stands.keys() | self._standing)
            self._standing = stands.keys() - self._persons.keys()
            self._told_links |= stands
        for visit in visits:
            if visit.name not in self._told_visits or self._told_visits[visit.name].revision < visit.revision:
                self._told_visits[visit.name] = visit
                self._holder.update(dict.fromkeys(visit.sightings, visit.name))
                changed.update(visit.sightings)

    def _settle_until(self, until_s: float) -> None:
        """All looks that settle up to a time; times at which nobody is remembered are left out."""
        until_s = until_s // STEP_S * STEP_S
        if self._settled_s is None:
            if not self._kept:
                return
            first_s = min(each.end.timestamp() for kept in self._kept.values() for each in kept)
            self._settled_s = min(until_s, (first_s // STEP_S - 1) * STEP_S)
        while self._settled_s < until_s:
            if not self._kept and not self._settled.rows.row:
                self._settled_s = until_s
                return
            self._settled_s += STEP_S
            self._settle(self._settled_s)

    def _settle(self, now_s: float) -> None:
        """Take in all that had ended by `now_s`; now and then settle what had ended a window before."""
        settled, everything = self._settled, self._at_everything(now_s)
        for each in self.clocks.found[self._corrected :]:
            if each.since_s - self._window_s <= now_s:
                settled.passages.correct(each.camera, each.ahead_s)
                self._corrected += 1
        self._take_ripe(now_s)
        if everything:
            settled.look(now_s, everything=True)
            self._judge_clocks(now_s)
            self._fix(settled.settle(now_s - self._window_s), now_s)

    def _judge_clocks(self, now_s: float) -> None:
        """Learn of what ended since the last time how far clocks are off; what is found holds for what nobody has seen yet."""
        rows = self._settled.rows
        pairs = self._settled.alike(self._judged_s, now_s, within_s=SEEN_S)
        self._judged_s = now_s
        waits = np.array([self.clocks.waits_s(camera) for camera in range(len(self._number))])
        pairs = pairs[(rows.start[pairs] >= waits[rows.camera[pairs]]).all(axis=1)]
        self.clocks.learn(rows.camera[pairs], rows.start[pairs], rows.end[pairs])
        found = self.clocks.look(now_s + self._window_s + 2 * REACH_S)
        if found is not None:
            camera, off_s = self._cameras[found.camera], abs(found.ahead_s)
            way, since = "ahead of" if found.ahead_s > 0 else "behind", datetime.fromtimestamp(found.since_s, UTC)
            log.warning(
                "%s: the clock of %s is %.0f s %s the others; right from %s on", self.site, camera, off_s, way, since
            )

    def _at_everything(self, now_s: float) -> bool:
        """Whether that is the time to look at everything: often while ways are hardly known, then now and then."""
        first_s = self._settled.first_s
        age_s = 0.0 if first_s is None else now_s - first_s
        every_s = next((every_s for until_s, every_s in YOUNG if age_s < until_s), SETTLE_S)
        return now_s % every_s == 0

    def _fix(self, over: Sequence[SightingKey], now_s: float) -> None:
        self._online.follow(self._settled, over)
        self._settled.drop_followed(over)
        if not self._for_draws:
            self._online.drop_followed(over)
        self._forget(now_s)

    def _take_ripe(self, now_s: float) -> None:
        for sighting in self._ripe(now_s):
            if sighting.state == "withdrawn":
                self._settled.withdraw(sighting.key)
            else:
                self._settled.put(sighting)
            self._sides.pop(sighting.key, None)

    def _ripe(self, now_s: float) -> list[Sighting]:
        """The newest revisions of what had ended by a time, in order; tracks that were lost have."""
        ripe: list[Sighting] = []
        due: dict[SightingKey, None] = {}
        while self._ends and self._ends[0][0] <= now_s:
            due[heappop(self._ends)[1]] = None
        for key in due:
            kept = self._kept.get(key, [])
            ended = [each for each in kept if _over_s(each) <= now_s]
            if ended:
                ripe.append(max(ended, key=lambda each: each.revision))
                left = [each for each in kept if each.revision > ripe[-1].revision]
                if left:
                    self._kept[key] = left
                else:
                    del self._kept[key]
            elif kept and all(each.state == "open" for each in kept):
                heappush(self._ends, (_over_s(kept[-1]), key))  # it went on
        return sorted(ripe, key=lambda each: (each.start, each.key))

    def _let_in(self, until_s: float) -> None:
        """Of each sighting, the newest revision that ends by `until_s` takes the place of what was known."""
        newest: list[Sighting] = []
        for key, waiting in list(self._coming.items()):
            ready = [sighting for sighting in waiting if sighting.end.timestamp() <= until_s]
            if not ready:
                continue
            newest.append(max(ready, key=lambda sighting: sighting.revision))
            left = [s for s in waiting if s.revision > newest[-1].revision]
            if left:
                self._coming[key] = left
            else:
                del self._coming[key]
        for sighting in sorted(newest, key=lambda each: (each.start, each.key)):
            if sighting.state == "withdrawn":
                self._online.withdraw(sighting.key)
                if sighting.key not in self._online.settled:
                    self._known.pop(sighting.key, None)
                    heappush(self._withdrawn, (sighting.end.timestamp(), sighting.key))
            elif sighting.key not in self._online.settled:
                crossed = [crossing.inwards for crossing in sighting.crossings if crossing.line in self._doors]
                left_by_door = bool(crossed) and not crossed[-1]
                self._known[sighting.key] = Known(
                    sighting.key, sighting.start, sighting.end, bool(crossed), left_by_door
                )
                self._online.put(sighting)
                if sighting.state == "closed":
                    heappush(self._ages, (sighting.end.timestamp(), sighting.key))

    def _changes(self, until_s: float, *, final: bool = False) -> Changes:
        """The new revisions of links and visits since they were last told."""
        changed = self._online.changed
        while self._timers and self._timers[0][0] < until_s:
            _, key = heappop(self._timers)
            changed.add(key)
        if final or self._doors_seen != self._online.door_cameras:
            self._doors_seen = set(self._online.door_cameras)
            changed.update(self._known)
        links, unlinked = [], []
        for key in sorted(changed):
            link, known = self._online.links.get(key), self._told_links.get(key)
            if link is None:
                if key in self._standing:
                    self._standing.discard(key)
                    unlinked.append(key)
                continue
            if known is not None:
                if key in self._standing and _same(link, known, LINK):
                    continue
                link = replace(link, revision=known.revision + 1)
            self._told_links[key] = link
            self._standing.add(key)
            links.append(link)
        return Changes(tuple(links), self._changed_visits(until_s, final=final), tuple(unlinked))

    def _changed_visits(self, until_s: float, *, final: bool) -> tuple[Visit, ...]:
        changed = self._online.changed
        touched = {self._holder[key] for key in changed if key in self._holder}
        there: dict[str, Visit] = {}
        for chain in self._chains_of(key for key in changed if key not in self._online.parts):
            touched.update(self._holder[known.key] for known in chain if known.key in self._holder)
            for visit in self._visits(chain, until_s, final=final):
                there[visit.name] = visit
        holder = {key: visit.name for visit in there.values() for key in visit.sightings}
        for name in touched:
            told = self._told_visits.get(name)
            if told is None or name in there or not told.sightings or told.final:
                continue
            into = holder.get(told.sightings[0])
            gone = replace(told, sightings=(), split_from=None, final=final, merged_into=into, withdrawn=into is None)
            there[name] = gone  # absorbed; or withdrawn: its sightings were, or it was a passer-by's
        changed.clear()
        visits = []
        for name in sorted(there):
            visit, told_visit = there[name], self._told_visits.get(name)
            if told_visit is not None:
                split_from = visit.split_from
                if visit.merged_into is None:
                    split_from = told_visit.merged_into or told_visit.split_from
                if split_from == told_visit.split_from and _same(visit, told_visit, VISIT):
                    continue
                visit = replace(visit, split_from=split_from, revision=told_visit.revision + 1)
            self._told_visits[name] = visit
            self._holder.update(dict.fromkeys(visit.sightings, name))
            visits.append(visit)
        return tuple(visits)

    def _chains_of(self, keys: Iterable[SightingKey]) -> list[list[Known]]:
        """The chains of linked sightings that hold some of `keys`, each in order."""
        links, after = self._online.links, self._online.after
        heads = set()
        for key in keys:
            if key in self._known:
                while key in links:
                    key = links[key].earlier
                heads.add(key)
        chains = []
        for head in sorted(heads):
            chain, at = [], head
            while True:
                chain.append(self._known[at])
                if at not in after:
                    break
                at = after[at]
            chains.append(chain)
        return chains

    def _visits(self, chain: list[Known], until_s: float, *, final: bool) -> list[Visit]:
        """A person's visits: the chain, cut after each sighting in which they went out of a door."""
        parts: list[list[Known]] = [[]]
        for known in chain:
            parts[-1].append(known)
            if known.left:
                parts.append([])
        visits, person = [], self._person(chain[0].key)
        for part in parts:
            if not part or self._passed_by(part):
                continue
            start, end = part[0].start, max(known.end for known in part)
            settled = all(known.key not in self._online.open for known in part)
            over = part is not parts[-1] or end.timestamp() < (self._settled_s or 0.0) - self._reentry_s - SETTLE_S
            visits.append(
                Visit(
                    self.site,
                    _name(part[0].key),
                    1,
                    tuple(known.key for known in part),
                    start,
                    end,
                    person=person,
                    final=final or (settled and over),
                )
            )
        last_s, tail = max(known.end for known in chain).timestamp(), chain[-1].key
        final_s = last_s + self._reentry_s + self._window_s + 3 * SETTLE_S
        if final_s > until_s:
            heappush(self._timers, (final_s, tail))
        return visits

    def _passed_by(self, part: Sequence[Known]) -> bool:
        """Whether somebody was seen by no camera but those at doors, and crossed none."""
        return all(known.key.camera in self._doors_seen and not known.crossed for known in part)

    def _forget(self, now_s: float) -> None:
        """Forget people who have not been seen for longer than they are known again."""
        limit_s, online, settled = now_s - self._reentry_s - self._window_s - 4 * SETTLE_S, self._online, self._settled
        old: list[SightingKey] = []
        while self._ages and self._ages[0][0] < limit_s:
            old.append(heappop(self._ages)[1])
        gone: list[SightingKey] = []
        leaving = set(self._leaving)
        for whole in self._chains_of(old):  # a second track on somebody goes with the chain that it stands in
            chain = [known for known in whole if known.key not in leaving]
            if not chain:
                continue
            last_s = max(known.end.timestamp() for known in chain)
            if last_s < limit_s and all(known.key in online.settled for known in chain):
                gone += [known.key for known in chain]
                continue
            through = self._long_over(chain, limit_s)
            if through:  # who comes again and again is known by the first visit's name
                self._persons[chain[through].key] = self._person(chain[0].key)
                settled.cut(chain[through].key)
                gone += [known.key for known in chain[:through]]
            heappush(self._ages, (max(last_s, limit_s), chain[through].key))
        settled.forget(gone, learn=True)
        self._leaving += gone
        while self._withdrawn and self._withdrawn[0][0] < limit_s:
            self._newest.pop(heappop(self._withdrawn)[1], None)

    def _long_over(self, chain: Sequence[Known], limit_s: float) -> int:
        """How many sightings a person's first visits have that were over before a time; the last visit is not meant."""
        over, settled = 0, self._online.settled
        for place, (known, behind) in enumerate(pairwise(chain), 1):
            if known.end.timestamp() >= limit_s or known.key not in settled or behind.key not in settled:
                break
            if known.left:
                over = place
        return over

    def _person(self, head: SightingKey) -> str:
        """The name of the person whose chain begins with a sighting."""
        return self._persons.get(head) or _name(head)

    def _let_go(self) -> None:
        """Drop what was known of those who are forgotten, now that their visits have been told for the last time."""
        leaving = set(self._leaving)
        for later in [later for key in leaving if (later := self._online.after.get(key)) is not None]:
            if later not in leaving:
                self._online.cut(later)
                self._standing.discard(later)  # the link stays as it was told
        self._online.forget(self._leaving, learn=False)
        for key in self._leaving:
            self._told_visits.pop(_name(key), None)
            for kept in (self._newest, self._known, self._told_links, self._holder):
                kept.pop(key, None)
            self._standing.discard(key)
            self._persons.pop(key, None)
        self._leaving.clear()


def _over_s(sighting: Sighting) -> float:
    """When a sighting is over, as far as one knows: an open one when nothing has been heard of it for a while."""
    return sighting.end.timestamp() + (LOST_S if sighting.state == "open" else 0.0)


def _same(one: Link | Visit, other: Link | Visit, names: tuple[str, ...]) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in names)


@lru_cache(1 << 14)
def _name(key: SightingKey) -> str:
    return hashlib.sha256("\x00".join(map(str, key)).encode()).hexdigest()[:12]
