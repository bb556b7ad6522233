"""Draws over the open window: other ways to share the sightings out among people, and the counts that follow from them.

In the best links whoever cannot be linked for certain counts as somebody new, and so does a sighting of nobody. Here ways to
link are drawn instead, each as often as it is probable (`vision.matchings`), and what is not known exactly is drawn along: the
calibration's slope and offset at this site, who comes and goes where, how often nobody is taken for somebody. Nothing here
knows of pictures, nor looks at a clock.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from passerby.reid.calibration import Calibration
from passerby.shop import Partition, SightingKey
from passerby.types import Float32, Float64, Int64
from passerby.vision.linking import SLACK_S, Remembered
from passerby.vision.matchings import Matchings, Odds, levels, ratios
from passerby.vision.transit import OVERLAP_S

DRAWS = 100
WINDOW_S = 3600.0  # how long a link is drawn anew: longer than the best one is revised, until rates are known well
SWEEPS, TRIES = 6, 24.0  # of a look: how often rates are drawn anew, and proposals a sighting in between
HELD = 0.6  # the part of the sweeps in which rates stay as they were
AIM_AT = (0, 2)  # sweeps before which it is found out which links are not sure
LAGS = (0.5, 0.38, 0.33, 0.4)  # what looks count between sightings one link from each other, two, three and four, times
MOST_WEIGHT, LESS, LEAST_WEIGHT, HIGHEST = (
    1.85,
    0.2,
    0.9,
    1.5,
)  # a weight: the first, less so much for each unit that looks
USUAL = 1.2  # say in the mean against people who are two, in bounds; and before that is known
SHARED_BEFORE, OTHERS_BEFORE = 1.0, 50.0  # links from a track that goes on with somebody else, before anything is known
MOMENTS = 5  # of such a track at which its first holder may have left it
MIXED = 0.03  # the part of tracks that show somebody else most of the time, of whose looks a calibration knows nothing
# Of those who seem to begin or end where no door was crossed, a part truly do, and the others were not linked. Nothing tells
# that part: it is drawn from this beta distribution.
DOUBT = (6.0, 10.0)
SELDOM = 0.02  # of those in view without crossing a door are seen for the last time, to begin with
LEAST_ODDS, MOST_LINKS = -3.0, 40  # log odds under which a link is not proposed; and links to one sighting
AGAIN = 7.0  # under these, where somebody may have come again: whole chains of looks speak for that, or against
BINS = 1024  # of the cosine
SLOPE_BEFORE = (
    0.3  # standard deviation of the logarithm of a calibration's factor at a new site, before it is estimated
)
TOGETHER_S = 1.0  # who is in two cameras for so long at once is two people
FEWEST, MOST_PAIRS = 100, 100_000  # pairs of such people that say something about a calibration; and that are kept
LONE_BEFORE, LONE_BEFORE_S = 0.5, 900.0  # sightings of nobody, in all cameras together, before anything is known
ALIKE_CAMERAS = 8.0  # how much a camera's rate of them is held to be that of all: as many as it would have seen of them

Length = Literal["hour", "day", "week"]
What = Literal["persons", "visits"]
LENGTHS: tuple[Length, ...] = ("day", "hour", "week")
LEAST_FACTOR = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One count of a stretch of time in each of the draws: `values` (draws,), whole numbers.

    `start` is the stretch's beginning in the site's time zone. "persons" are the distinct people whom any camera saw, staff and
    passers-by included; who comes again after the re-entry time is another one. "visits" are those that began then; where there
    are doors, only those that a door saw come or go, or both: without passers-by, and without pieces of others.
    """

    start: datetime
    length: Length
    what: What
    values: Int64

    def interval(self) -> tuple[float, float, float]:
        """The median of the draws, and the bounds between which 90 % of them lie."""
        low, middle, high = np.quantile(self.values, [0.05, 0.5, 0.95]).tolist()
        return middle, low, high


@dataclass(frozen=True, slots=True, eq=False)
class _Rates:
    """What one draw takes for true, for each draw: how often people and others come, a second, and where they go.

    `new` (draws, states), `share` (draws, states, states) and `end` (draws, states) as in `Passages`; `nobody` and `passer_by`
    (draws, cameras) are sightings alone of nobody, and of people whom no camera sees again; `shared` (draws,) is the part of
    links from a track that goes on with somebody else.
    """

    new: Float64
    share: Float64
    end: Float64
    nobody: Float64
    passer_by: Float64
    shared: Float64


@dataclass(frozen=True, slots=True, eq=False)
class _Tally:
    """What rates are learnt from, counted in each draw; fields as in `_Rates`."""

    new: Int64
    share: Int64
    end: Int64
    nobody: Int64
    passer_by: Int64
    shared: Int64

    def __add__(self, other: "_Tally") -> "_Tally":
        return _Tally(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


class Window:
    """Ways to link one site's sightings, drawn side by side; each `look` moves those links that are still open.

    A link is open until `window_s` after its later sighting began. What a look draws follows from the
    site's name, the time of the look and what the associator remembers; so the same sightings, looked at at the same times,
    give the same counts. `calibration` is the associator's; how far its slope is off here is estimated from people in two
    cameras at once, who are surely two.
    """

    def __init__(
        self,
        *,
        site: str,
        calibration: Calibration,
        time_zone: str = "UTC",
        window_s: float = WINDOW_S,
        draws: int = DRAWS,
    ) -> None:
        self.site, self.draws, self.window_s = site, draws, window_s
        self._calibration, self._zone = calibration, ZoneInfo(time_zone)
        self._normal = _generator(site, 0.0).standard_normal((2, draws))  # of the calibration's error
        self._real = _generator(site, 1.0).beta(*DOUBT, (draws, 1))  # see DOUBT
        self._apart: list[Float32] = []  # what looks say of people who are surely two
        self._compared = 0.0  # up to when such people were looked for
        self.factor = (0.0, math.inf)  # of the calibration's slope here: logarithm, standard deviation
        self.weight = USUAL  # of looks, see `weight_of`
        self._known: Remembered | None = None
        self._doors = False  # whether any camera has seen a door
        self._rates: _Rates | None = None
        self._gone: _Tally | None = None  # of what is forgotten
        self._totals: dict[tuple[Length, datetime, What], Int64] = {}
        # Of each sighting that is remembered, in each draw (draws, n):
        self._before: Int64 = np.zeros((draws, 0), np.int64)  # the row that it follows, -1 for none or one forgotten
        self._since: Float64 = np.zeros((draws, 0))  # when that one began, NaN where there is none
        self._out: NDArray[np.bool_] = np.zeros((draws, 0), bool)  # whether that one went out of a door
        self._taken: NDArray[np.bool_] = np.zeros((draws, 0), bool)  # whether it is followed by one that is forgotten
        self._lone: NDArray[np.bool_] = np.zeros((draws, 0), bool)  # whether it is alone as nobody is, or a passer-by
        self._nobody: NDArray[np.bool_] = np.zeros((draws, 0), bool)  # whether it is nobody
        self._shared: NDArray[np.bool_] = np.zeros((draws, 0), bool)  # whether that one goes on with somebody else
        self._last: NDArray[np.bool_] = np.zeros(
            (draws, 0), bool
        )  # whether it is a person's last, if none is known to follow it

    @property
    def since_s(self) -> float:
        """From which beginning on the next look asks for links, in seconds since 1970: of what may be new, or was open."""
        return -math.inf if self._known is None else self._known.looked_s - self.window_s

    def look(self, known: Remembered, *, sweeps: int = SWEEPS) -> None:
        """Take in what an associator remembers now, and draw the open links anew."""
        rng = _generator(self.site, known.looked_s)
        fresh = self._take_over(known)
        n = len(known.keys)
        self._known, self._last = known, np.zeros((self.draws, n), bool)
        self._doors |= bool(known.outside.any())
        if not n:
            return
        first = int(np.searchsorted(known.start_s, known.looked_s - self.window_s))
        first = min([first, *fresh[:1].tolist()])
        ratio = _ratio(self._calibration, known, first)
        self._learn_factor(known, first, ratio)
        passages = known.passages
        rates = self._rates or self._first_rates(known)
        later = passages.later(known.origin, known.looked_s - known.end_s)
        way, rare, new, unseen, lone = self._rated(known, rates, later)
        every = Odds(
            *_links(known, first),
            levels(ratio),
            self._said(),
            tuple(self.weight * lag for lag in LAGS),
            known.origin,
            known.target,
            way,
            rare,
            new,
            unseen,
            lone,
            self._taken,
        )
        again = (known.origin[every.earlier] % 2 == 1) & (known.target[every.later] % 2 == 1)
        odds = every.likely(np.where(again, LEAST_ODDS - AGAIN, LEAST_ODDS), MOST_LINKS)
        matchings = Matchings(odds, np.where(self._before < 0, n, self._before), rng)
        matchings.begin(fresh, known.follows)
        follows = ~np.isnan(self._since) & (self._before < 0)  # one that is forgotten
        for sweep in range(sweeps):
            if sweep in AIM_AT:
                matchings.aim()
            matchings.sweep(TRIES)
            before, after = matchings.before, matchings.after
            alone = (before == n) & (after == n)
            self._lone = alone & (rng.random(alone.shape) < -np.expm1(-odds.lone))
            share = rates.nobody / (rates.nobody + rates.passer_by)
            self._nobody = self._lone & (rng.random(alone.shape) < share[:, known.camera])
            self._before, self._shared = np.where(before < n, before, -1), matchings.shared
            self._since = np.where(follows, self._since, np.where(before < n, known.start_s[before % n], np.nan))
            self._out = np.where(follows, self._out, (before < n) & (known.origin[before % n] % 2 == 1))
            seen_last = rng.random(alone.shape) < rates.end[:, known.origin] / np.exp(odds.unseen)
            tally = self._tally(known, seen_last)
            self._last = seen_last
            if sweep < HELD * sweeps:
                continue
            rates = self._drawn_rates(known, tally if self._gone is None else tally + self._gone, rng)
            way, rare, new, unseen, lone = self._rated(known, rates, later)
            odds = replace(odds, way=way, rare=rare, new=new, unseen=unseen, lone=lone)
            matchings.set_rates(odds)
        self._rates = rates

    def counts(self) -> list[Drawn]:
        """The counts of all that was looked at: persons and visits of each hour, day and week in which anybody was seen."""
        totals = dict(self._totals)
        if self._known is not None:
            _add(totals, self._counted(np.ones(len(self._known.keys), bool)))
        return [Drawn(start, length, what, totals[length, start, what]) for length, start, what in sorted(totals)]

    def forget(self, before: datetime) -> None:
        """Let go of the counts of stretches that began before a time, as far as nobody of them is remembered any more."""
        self._totals = {at: values for at, values in self._totals.items() if at[1] >= before}

    def partition(self, draw: int) -> Partition:
        """One of the draws: the people among the sightings that are remembered."""
        chains: list[list[SightingKey]] = []
        chain_of: dict[int, list[SightingKey]] = {}
        false = []
        for row, (key, before) in enumerate(
            zip(self._known.keys if self._known else (), self._before[draw].tolist(), strict=True)
        ):
            if self._nobody[draw, row]:
                false.append(key)
                continue
            if before < 0:
                chains.append([])
            chain_of[row] = chain_of[before] if before >= 0 else chains[-1]
            chain_of[row].append(key)
        return Partition(tuple(map(tuple, chains)), tuple(false))

    def _take_over(self, known: Remembered) -> Int64:
        """Bring what is drawn into the order of what is remembered now; the rows that are new."""
        was, n = self._known, len(known.keys)
        keys = was.keys if was is not None else ()
        row = {key: number for number, key in enumerate(known.keys)}
        place = np.array([row.get(key, -1) for key in keys], np.int64)  # of each old one
        gone = place < 0
        if was is not None and gone.any():
            gone &= was.start_s < was.looked_s - self.window_s  # the others were withdrawn
            _add(self._totals, self._counted(gone))
            tally = self._tally(was, self._last, of=gone)
            self._gone = tally if self._gone is None else self._gone + tally
        stays = np.flatnonzero(place >= 0)
        moved = np.append(place, -1)[self._before[:, stays]]  # whom each follows now
        lost = (self._before[:, stays] >= 0) & ((moved < 0) | (moved >= place[stays]))
        lost &= ~np.append(gone, False)[self._before[:, stays]]
        taken = self._taken.copy()
        draw, later = np.nonzero((self._before >= 0) & gone)
        taken[draw, self._before[draw, later]] = True
        found = np.where(lost, -1, moved), np.where(lost, np.nan, self._since[:, stays]), self._out[:, stays] & ~lost
        values = (*found, *(of[:, stays] for of in (taken, self._lone, self._nobody, self._shared)))
        names = ("_before", "_since", "_out", "_taken", "_lone", "_nobody", "_shared")
        for name, value, empty in zip(names, values, (-1, np.nan, *[False] * 5), strict=True):
            whole = np.full((self.draws, n), empty, value.dtype)
            whole[:, place[stays]] = value
            setattr(self, name, whole)
        return np.setdiff1d(np.arange(n), place)

    def _learn_factor(self, known: Remembered, first: int, ratio: Float32) -> None:
        """Estimate by what factor the calibration is off: e to the ratio is 1 in the mean over pairs of two people."""
        ended = (known.end_s > self._compared) & (known.end_s <= known.looked_s) & (np.arange(len(known.keys)) >= first)
        self._compared = known.looked_s
        for row in np.flatnonzero(ended).tolist():
            both = np.minimum(known.end_s, known.end_s[row]) - np.maximum(known.start_s, known.start_s[row])
            two = (both[:row] > TOGETHER_S) & ~known.both[known.camera[:row], known.camera[row]]
            two &= known.camera[:row] != known.camera[row]
            values = ratio[:row, row - first][two]
            values = values[values != 0]
            if len(values):
                self._apart.append(values)
        while sum(map(len, self._apart)) > MOST_PAIRS:
            del self._apart[: len(self._apart) // 10 + 1]
        self.weight = weight_of(self._apart)
        before = math.hypot(SLOPE_BEFORE, self._calibration.error[0])
        found, deviation = factor_of(self._apart)
        trust = before**2 / (before**2 + deviation**2)
        self.factor = trust * found, before * math.sqrt(1 - trust)

    def _said(self) -> Float32:
        """What each level of looks says in each draw, as far off as the calibration may be here: (draws, levels)."""
        factor = np.exp(self.factor[0] + self.factor[1] * self._normal[0])
        drawn = factor[:, None] * ratios() + self._calibration.error[1] * self._normal[1][:, None]
        mixed = np.log((1 - MIXED) * np.exp(drawn) + MIXED)
        mixed[:, 0] = 0.0
        said: Float32 = mixed.astype(np.float32)
        return said

    def _rated(
        self, known: Remembered, rates: _Rates, later: Float64
    ) -> tuple[Float32, Float32, Float32, Float32, Float32]:
        """`way`, `rare`, `new`, `unseen` and `lone` of `Odds`; `later` (n, states) as `Passages.later` gives it."""
        states = rates.new.shape[1]
        way = np.zeros((self.draws, states + 1, states + 1), np.float32)
        way[:, :states, :states] = np.log(rates.share)
        unseen = np.empty((self.draws, len(known.keys)), np.float32)
        for state in range(states):
            mine = np.flatnonzero(known.origin == state)
            unseen[:, mine] = rates.end[:, [state]] + rates.share[:, state] @ later[mine].T
        new = rates.new[:, known.target]
        lone = (rates.nobody + rates.passer_by)[:, known.camera] / (new * unseen)
        somebody = known.crossed | self._taken | ~np.isnan(np.where(self._before < 0, self._since, np.nan))
        lone = np.where(somebody, 0.0, np.log1p(lone))
        rare = np.log(rates.shared).astype(np.float32)
        return way, rare, np.log(new).astype(np.float32), np.log(unseen), lone.astype(np.float32)

    def _tally(self, known: Remembered, seen_last: NDArray[np.bool_], *, of: NDArray[np.bool_] | None = None) -> _Tally:
        """Count what rates are learnt from, of all or of some sightings (n,), and of the links of these."""
        mine = np.ones(len(known.keys), bool) if of is None else of
        states, cameras = len(known.passages.new), len(known.both)
        draw, later = np.nonzero(self._before >= 0)
        earlier = self._before[draw, later]
        followed = self._taken.copy()
        followed[draw, earlier] = True
        counted = mine[earlier] | mine[later]
        pair = known.origin[earlier] * states + known.target[later]

        def count(which: NDArray[np.bool_], what: Int64, size: int) -> Int64:
            draw, row = np.nonzero(which & mine)
            return np.bincount(draw * size + what[row], minlength=self.draws * size).reshape(self.draws, size)

        went = np.bincount(draw[counted] * states**2 + pair[counted], minlength=self.draws * states**2)
        return _Tally(
            count(np.isnan(self._since) & ~self._lone, known.target, states),
            went.reshape(self.draws, states, states),
            count(~followed & ~self._lone & seen_last, known.origin, states),
            count(self._nobody, known.camera, cameras),
            count(self._lone & ~self._nobody, known.camera, cameras),
            (self._shared & mine & (self._before >= 0)).sum(axis=1),
        )

    def _first_rates(self, known: Remembered) -> _Rates:
        """Rates to begin with: as the associator has them; where there are doors hardly anybody begins or ends elsewhere."""
        passages, inner = known.passages, self._beside_doors(known)
        lasted_s = max(1.0, known.looked_s - known.began_s)
        new = np.where(inner, 1 / (passages.NEW_EVERY_S + lasted_s), np.exp(passages.log_new()))
        share, end = passages.share(), passages.end(np.arange(len(inner)))
        fewer = np.where(inner, np.minimum(end, SELDOM), end)
        share = share * ((1 - fewer) / (1 - end))[:, None]
        few = np.full((self.draws, len(known.both)), LONE_BEFORE / LONE_BEFORE_S)
        new, share, fewer = (np.tile(each, (self.draws, *[1] * each.ndim)) for each in (new, share, fewer))
        shared = np.full(self.draws, SHARED_BEFORE / (SHARED_BEFORE + OTHERS_BEFORE))
        return _Rates(new, share, fewer, few, few, shared)

    def _beside_doors(self, known: Remembered) -> NDArray[np.bool_]:
        """Which ways to begin or end (states,) are rare, since people come and go by doors: none where no camera sees one."""
        inner: NDArray[np.bool_] = np.arange(len(known.passages.new)) % 2 == 0
        return inner if self._doors else np.zeros_like(inner)

    def _drawn_rates(self, known: Remembered, tally: _Tally, rng: np.random.Generator) -> _Rates:
        """Rates drawn from what was counted and what is known before."""
        passages, lasted_s = known.passages, max(1.0, known.looked_s - known.began_s)
        real = np.where(self._beside_doors(known), self._real, 1.0)
        share = rng.gamma(tally.share + passages.GOES_ON / len(passages.new)) + 1e-9
        end = rng.gamma(real * tally.end + passages.ends_before())
        total = share.sum(axis=2) + end
        doors = np.bincount(known.camera, known.outside, minlength=len(known.both)) > 0
        inner = ~doors if not doors.all() else doors
        usual = rng.gamma(LONE_BEFORE + tally.nobody[:, inner].sum(axis=1)) / (LONE_BEFORE_S + inner.sum() * lasted_s)
        nobody = rng.gamma(ALIKE_CAMERAS + tally.nobody) / (ALIKE_CAMERAS / usual[:, None] + lasted_s)
        passer_by = rng.gamma(1 + tally.passer_by) / (passages.NEW_EVERY_S + lasted_s)
        new = rng.gamma(1 + real * tally.new) / (passages.NEW_EVERY_S + lasted_s)
        others = tally.share.sum(axis=(1, 2)) - tally.shared
        shared = rng.beta(SHARED_BEFORE + tally.shared, OTHERS_BEFORE + np.maximum(others, 0))
        return _Rates(new, share / total[:, :, None], end / total, nobody, np.where(doors, passer_by, 0.0), shared)

    def _counted(self, of: NDArray[np.bool_]) -> dict[tuple[Length, datetime, What], Int64]:
        """What some sightings (n,) add to each count, in each draw."""
        known = self._known
        assert known is not None
        found: dict[tuple[Length, datetime, What], Int64] = {}
        begins = np.isnan(self._since) | self._out
        through = self._through(known)
        for length in LENGTHS:
            starts, names = self._stretches(known.start_s, length)
            since, _ = self._stretches(np.unique(self._since[~np.isnan(self._since)]), length)
            order = np.unique(self._since[~np.isnan(self._since)])
            earlier = np.full(self._since.shape, -np.inf)
            there = ~np.isnan(self._since)
            earlier[there] = since[np.searchsorted(order, self._since[there])]
            first = ~self._nobody & (earlier < starts)
            visit = ~self._nobody & begins & through
            for start in np.unique(starts[of]).tolist():
                mine = of & (starts == start)
                found[length, names[start], "persons"] = first[:, mine].sum(axis=1)
                found[length, names[start], "visits"] = visit[:, mine].sum(axis=1)
        return found

    def _through(self, known: Remembered) -> NDArray[np.bool_]:
        """Whether a door sees somebody come or go, from each sighting on to the end of its visit: (draws, n).

        Everybody is held to, where no camera has seen a door.
        """
        through = np.tile(known.crossed | (not self._doors), (self.draws, 1))
        for row in range(len(known.keys) - 1, -1, -1):
            draw = np.flatnonzero((self._before[:, row] >= 0) & ~self._out[:, row] & through[:, row])
            through[draw, self._before[draw, row]] = True
        return through

    def _stretches(self, times_s: Float64, length: Length) -> tuple[Float64, dict[float, datetime]]:
        """The beginning of each time's hour, day or week, in seconds since 1970; and what that is in the site's time zone."""
        hours, back = np.unique(
            np.floor(times_s / 900), return_inverse=True
        )  # time zones differ by quarters of an hour
        starts, names = [], {}
        for quarter in hours.tolist():
            at = datetime.fromtimestamp(quarter * 900, UTC).astimezone(self._zone)
            if length == "hour":
                begin = (at.astimezone(UTC) - timedelta(minutes=at.minute)).astimezone(self._zone)
            else:
                begin = at.replace(hour=0, minute=0) - timedelta(days=at.weekday() if length == "week" else 0)
            starts.append(begin.timestamp())
            names[starts[-1]] = begin
        return np.array(starts, np.float64)[back], names


def factor_of(apart: Sequence[Float32 | Float64]) -> tuple[float, float]:
    """By what factor log-likelihood ratios are off, from those of pairs of different people: its logarithm, and its deviation.

    Under the hypothesis of two people a likelihood ratio is 1 in the mean: the factor is where e to the factor times the ratio
    is. `apart` holds an array for each sighting, whose pairs stand or fall together. (0, infinity) where too few are known, or
    no factor does it.
    """
    every = np.concatenate([np.zeros(0), *apart])
    if len(every) < FEWEST or every.max() <= 0:
        return 0.0, math.inf
    low, high = math.log(LEAST_FACTOR), -math.log(LEAST_FACTOR)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if np.exp(math.exp(middle) * every).mean() > 1 else (middle, high)
    factor = math.exp(low)
    off = np.array([np.expm1(factor * each).sum() for each in apart])
    slope = factor * float((every * np.exp(factor * every)).sum())
    return low, math.sqrt(2 * float((off**2).sum())) / slope if slope > 0 else math.inf


def weight_of(apart: Sequence[Float32 | Float64]) -> float:
    """What looks count in a chain, from the log-likelihood ratios of pairs of different people.

    Where one look says little, most of what is uncertain is its own, and more looks say much more; where one says much, it is
    the person's.
    """
    every = np.concatenate([np.zeros(0), *apart])
    if len(every) < FEWEST:
        return USUAL
    return float(np.clip(MOST_WEIGHT + LESS * every.mean(), LEAST_WEIGHT, HIGHEST))


def _links(known: Remembered, first: int) -> tuple[Int64, Int64, Float64, NDArray[np.bool_]]:
    """The possible links to sightings from row `first` on: earlier, later, and the logarithm of how probable the time is.

    That is a second, of those who go from the one to the other; with what place says. Last comes whether the earlier one goes
    on, with somebody else.
    """
    passages, mine = known.passages, known.later >= first
    i, j = known.earlier[mine], known.later[mine]
    origin, target = known.origin[i], known.target[j]
    at_once_s = np.where(known.both[known.camera[i], known.camera[j]], OVERLAP_S, SLACK_S)
    density = passages.log_density(origin, target, known.start_s[j] - known.end_s[i], at_once_s=at_once_s)
    density += known.place[mine] - np.log(passages.share())[origin, target]
    one, two, said = _of_shared(known, first)
    shared = np.repeat([False, True], [len(i), len(one)])
    return np.concatenate([i, one]), np.concatenate([j, two]), np.concatenate([density, said]), shared


def _of_shared(known: Remembered, first: int) -> tuple[Int64, Int64, Float64]:
    """The same for sightings that begin while the earlier one goes on: its first holder left it at some time, unseen."""
    start, end, camera = known.start_s, known.end_s, known.camera
    i, j = np.nonzero(end[:, None] > start[None, first:] + SLACK_S)
    j += first
    once = (i < j) & ~known.both[camera[i], camera[j]]
    i, j = i[once], j[once]
    origin, target, passages = known.origin[i], known.target[j], known.passages
    lasted_s, ago_s = end[i] - start[i], start[j] - start[i]
    left = np.zeros(len(i))
    for moment in range(MOMENTS):
        since_s = np.maximum(ago_s * (moment + 0.5) / MOMENTS, 0.1)
        left += np.exp(passages.log_density(origin, target, since_s, at_once_s=SLACK_S)) / MOMENTS
    left *= ago_s / lasted_s / passages.share()[origin, target]
    return i, j, np.log((np.where(camera[i] == camera[j], 0.0, left) + 1 / lasted_s) / 2)


def _ratio(calibration: Calibration, known: Remembered, first: int) -> Float32:
    """The log-likelihood ratio of each sighting (n,) against each from row `first` on, both of one person or of two."""
    centres = np.linspace(-1, 1, BINS, endpoint=False) + 1 / BINS
    table = np.stack([curve.at(centres) for _, curve in calibration.curves]).astype(np.float32)
    sides, n = known.sides, len(known.keys)
    result = np.empty((n, n - first), np.float32)
    for start in range(0, n, 512):
        rows = slice(start, start + 512)
        cosine = sides.means[rows] @ sides.means[first:].T
        bins = np.clip(((cosine + 1) * (BINS / 2)).astype(np.int32), 0, BINS - 1)
        a, b = sides.pictures[rows, None], sides.pictures[None, first:]
        fewer, more = np.minimum(a, b), np.maximum(a, b)
        curve = np.zeros(cosine.shape, np.int8)
        for number, ((one, other), _) in enumerate(calibration.curves):
            curve[(fewer >= one) & (more >= other)] = number
        result[rows] = table[curve, bins] * np.minimum(sides.quality[rows, None], sides.quality[None, first:])
    return result


def _add(totals: dict[tuple[Length, datetime, What], Int64], more: dict[tuple[Length, datetime, What], Int64]) -> None:
    for at, values in more.items():
        totals[at] = totals[at] + values if at in totals else values


def _generator(site: str, at_s: float) -> np.random.Generator:
    """Chance that follows from a site and a time alone."""
    digest = hashlib.sha256(f"{site}\x00{at_s!r}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))
