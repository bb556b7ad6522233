"""The span that an associator has to cross, and how much of it ours does: naive linkers, `vision.associate`, and a linker
with perfect appearance, on a simulated shop."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from passerby.reid.calibration import Calibration, search_posterior
from passerby.reid.evidence import Sides, evidence, joined, nobody, side
from passerby.shop import Link, Sighting, SightingKey
from passerby.simulate.appearance import Dress
from passerby.simulate.cameras import Views
from passerby.simulate.plan import Shop
from passerby.simulate.recording import Source, Witnessed, in_order, witness
from passerby.simulate.tracking import Track
from passerby.types import Float64, SimulationError
from passerby.vision.associate import EVERY_S, WATERMARK_S, Associator
from passerby.vision.links import (
    IdentityScores,
    LinkScores,
    Pair,
    consecutive_pairs,
    score_identities,
    score_links,
    score_transitions,
    transitions,
    whole_paths,
)
from passerby.vision.transit import OVERLAP_S, Transit, learn_transit, log_density

Naive = Literal["appearance", "time gate", "transit", "oracle"]
Linker = Literal["appearance", "time gate", "transit", "online", "refined", "oracle"]
NAIVE: tuple[Naive, ...] = ("appearance", "time gate", "transit", "oracle")
LINKERS: tuple[Linker, ...] = ("appearance", "time gate", "transit", "online", "refined", "oracle")
LEARNING_SEED = 1_000_000  # added to a seed: what linkers know of times is learnt on other visits
LEARNING_S = 4 * 3600.0
COLD_S = 3600.0  # in which our associator, which begins without any knowledge of times, learns them
HORIZON_S = 3600.0  # who was last seen longer ago is not looked for
BAR = 0.5  # the posterior from which a link is said
SURE = 30.0  # of perfect appearance: a log-likelihood ratio


@dataclass(frozen=True, slots=True)
class SightingRows:
    """Sightings as arrays, in order of their start: keys, what is known of each, times in seconds, cameras (n,).

    `person` is the truth: who holds most of the track, 0 for nobody.
    """

    keys: tuple[SightingKey, ...]
    sides: Sides
    start_s: Float64
    end_s: Float64
    camera: NDArray[np.int64]
    person: NDArray[np.int64]


def arrays(witnessed: Sequence[Witnessed], *, length: int) -> SightingRows:
    """The sightings of what was witnessed, at the cameras' own clocks; `length` is that of their vectors."""
    rows = sorted(
        ((w.sighting, w.track) for w in witnessed if w.sighting is not None),
        key=lambda row: (row[0].start, row[0].key),
    )
    return SightingRows(
        tuple(sighting.key for sighting, _ in rows),
        joined([side(s.prototypes, s.quality, s.pictures) for s, _ in rows]) if rows else nobody(length),
        np.array([sighting.start.timestamp() for sighting, _ in rows]),
        np.array([sighting.end.timestamp() for sighting, _ in rows]),
        np.array([track.camera for _, track in rows], np.int64),
        np.array([track.person or 0 for _, track in rows], np.int64),
    )


def true_links(person: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Rows (earlier, later) that follow each other in one person; `person` is (n,) in order of time, 0 is nobody."""
    last: dict[int, int] = {}
    links = []
    for row, who in enumerate(person.tolist()):
        if who:
            if who in last:
                links.append((last[who], row))
            last[who] = row
    return links


def link(seen: SightingRows, calibration: Calibration, transit: Transit, linker: Naive) -> list[tuple[int, int]]:
    """Link each sighting to the likeliest one before it, in order of their start: pairs of rows, earlier first.

    A sighting is followed by one other at most. "appearance" knows vectors alone and how often a sighting is a
    person's first; "time gate" also leaves out whom 98 % of times between the two cameras leave out; "transit" weighs
    each by the density of its time against that of a new person; "oracle" is "transit" with perfect appearance.
    """
    free = np.ones(len(seen.start_s), np.bool_)
    pairs = []
    for row in range(len(seen.start_s)):
        gap = seen.start_s[row] - seen.end_s[:row]
        candidates = np.flatnonzero(free[:row] & (gap < HORIZON_S) & (gap > -OVERLAP_S))
        origin, target = seen.camera[candidates], seen.camera[row]
        gap = gap[candidates]
        if linker == "time gate":
            inside = (gap >= transit.low[origin, target]) & (gap <= transit.high[origin, target])
            candidates, origin, gap = candidates[inside], origin[inside], gap[inside]
        if not len(candidates):
            continue
        if linker == "oracle":
            same = (seen.person[candidates] == seen.person[row]) & (seen.person[row] != 0)
            llr = np.where(same, SURE, -SURE)
        else:
            llr = evidence(calibration, seen.sides.take(candidates), seen.sides.take([row]))[:, 0]
        if linker in ("transit", "oracle"):
            odds = llr + log_density(transit, origin, int(target), gap) - math.log(transit.new_per_s[target])
            highest = max(0.0, float(odds.max()))
            weights = np.exp(odds - highest)
            probability = weights / (weights.sum() + math.exp(-highest))
        else:
            probability, _ = search_posterior(llr, absent=min(0.99, max(0.01, transit.first)))
        best = int(np.argmax(probability))
        if probability[best] >= BAR:
            pairs.append((int(candidates[best]), row))
            free[candidates[best]] = False
    return pairs


@dataclass(frozen=True, slots=True)
class Heard:
    """The links that an associator told, by their later sighting: as they stood when that had just ended, and at the last."""

    online: dict[SightingKey, Link]
    refined: dict[SightingKey, Link]


def listen(associator: Associator, sightings: Iterable[Sighting]) -> Heard:
    """Give an associator every revision of sightings in the order in which they became known, and the time every few seconds.

    It gets nothing else: it learns who goes where and how long it takes by itself.
    """
    links: dict[SightingKey, Link] = {}
    online: dict[SightingKey, Link] = {}
    ended: list[Sighting] = []
    now: datetime | None = None

    def advance(until: datetime) -> None:
        associator.advance(until).update(links)
        for sighting in [each for each in ended if each.end <= until - timedelta(seconds=WATERMARK_S)]:
            ended.remove(sighting)
            if sighting.key in links:
                online[sighting.key] = links[sighting.key]

    for sighting in sightings:
        now = now or datetime.fromtimestamp(
            sighting.end.timestamp() // EVERY_S * EVERY_S, UTC
        )  # looks are at these times
        while now < sighting.end:
            now += timedelta(seconds=EVERY_S)
            advance(now)
        associator.take(sighting)
        if sighting.state == "closed":
            ended.append(sighting)
    if now is not None:
        advance(now + timedelta(seconds=WATERMARK_S + EVERY_S))
    associator.finish().update(links)
    return Heard(online, links)


def probabilities(links: Mapping[SightingKey, Link]) -> dict[Pair, float]:
    """How probable each link was said to be, by (earlier, later)."""
    return {(each.earlier, each.later): each.probability for each in links.values()}


def associator_for(shop: Shop, calibration: Calibration, *, for_draws: bool = False) -> Associator:
    """An associator that knows of a shop what a site's file says: cameras, doors, overlaps."""
    return Associator(
        site=shop.name,
        cameras=[camera.name for camera in shop.cameras],
        calibration=calibration,
        threshold=BAR,
        doors=[line.name for line in shop.lines],
        overlaps=shop.overlaps,
        for_draws=for_draws,
    )


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of a linker: of links to sightings of the first hour, and of links to those after it.

    `identities`, `transitions` (how often people went from each camera to each other one) and `paths` (people of whom all
    sightings and no other are linked, and how many people there are) are of the sightings after it: people are the chains of
    links.
    """

    cold: LinkScores
    learnt: LinkScores
    identities: IdentityScores
    transitions: LinkScores
    paths: tuple[int, int]
    promises: "Promises"


@dataclass(frozen=True, slots=True)
class Promises:
    """How probable links were said to be (n,), and which of them join two sightings of one person (n,)."""

    probability: Float64
    right: NDArray[np.bool_]

    @property
    def promised(self) -> float:
        """How many false links the probabilities promise."""
        return float(np.sum(1 - self.probability))

    @property
    def seen(self) -> int:
        """How many false links there are."""
        return int(np.count_nonzero(~self.right))

    @property
    def error(self) -> float:
        """The calibration error: over steps of 0.05, how far the mean probability is from the part that is right."""
        if not len(self.right):
            return 0.0
        step = np.minimum((self.probability * 20).astype(np.int64), 19)
        off = np.bincount(step, self.probability) - np.bincount(step, self.right)
        return float(np.abs(off).sum() / len(self.right))


def pooled(scores: Sequence[Scored]) -> Promises:
    """The promises of several runs as one."""
    every = [each.promises for each in scores]
    return Promises(np.concatenate([e.probability for e in every]), np.concatenate([e.right for e in every]))


def benchmark(
    shop: Shop,
    source: Callable[[int], Source],
    *,
    seeds: Sequence[int],
    duration_s: float,
    reentries: bool = True,
    cold_s: float = COLD_S,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Linker, list[Scored]]:
    """The scores of each linker for each seed; `source(seed)` makes the vectors.

    Each seed is simulated for `cold_s` and then for `duration_s`. Only links between different cameras are scored, see
    `vision.links.consecutive_pairs`. Naive linkers and the oracle know times from visits of another seed, our associator
    learns its own.
    """
    scores: dict[Linker, list[Scored]] = {linker: [] for linker in LINKERS}
    views = Views(shop)
    for done, seed in enumerate(seeds):
        progress(done, len(seeds))
        dressed = source(seed)
        calibration = dressed.calibration()
        if calibration is None:
            raise SimulationError("benchmark: the model has no calibration; make one with passerby calibrate")
        witnessed = list(
            witness(shop, dressed, seed=seed, duration_s=cold_s + duration_s, views=views, reentries=reentries)
        )
        run = arrays(witnessed, length=dressed.length)
        transit = _transit(shop, seed, views, reentries)
        said: dict[Linker, set[Pair]] = {
            linker: {(run.keys[a], run.keys[b]) for a, b in link(run, calibration, transit, linker)} for linker in NAIVE
        }
        heard = listen(associator_for(shop, calibration), in_order(witnessed, refresh=True))
        told: dict[str, dict[Pair, float]] = {
            "online": probabilities(heard.online),
            "refined": probabilities(heard.refined),
        }
        scores_of = scorer(run, learnt_from=shop.opens + timedelta(seconds=cold_s))
        for linker in LINKERS:
            scores[linker].append(scores_of(told.get(linker) or dict.fromkeys(said[linker], 1.0)))
    progress(len(seeds), len(seeds))
    return scores


def closed(scores: Mapping[Linker, Sequence[Scored]], linker: Linker) -> list[float]:
    """The share of the gap in F1 between the best naive linker and the oracle that a linker closes, after the first hour."""
    naive = [max(scores[name][row].learnt.f1 for name in NAIVE[:-1]) for row in range(len(scores[linker]))]
    return [
        (mine.learnt.f1 - best) / (oracle.learnt.f1 - best)
        for mine, best, oracle in zip(scores[linker], naive, scores["oracle"], strict=True)
    ]


def scorer(run: SightingRows, *, learnt_from: datetime) -> Callable[[Mapping[Pair, float]], Scored]:
    """What scores links with their probabilities against the truth, those to sightings from a time on by themselves.

    Scores are of links between different cameras, promises of all.
    """
    who = dict(zip(run.keys, run.person.tolist(), strict=True))
    starts = [datetime.fromtimestamp(start, UTC) for start in run.start_s]
    began = dict(zip(run.keys, starts, strict=True))
    there = consecutive_pairs(
        list(zip(run.keys, starts, strict=True)), [person or None for person in run.person.tolist()]
    )

    def scored(said: Mapping[Pair, float]) -> Scored:
        between = {pair for pair in said if pair[0].camera != pair[1].camera}
        cold, learnt = (
            score_links(
                *({pair for pair in pairs if (began[pair[1]] >= learnt_from) == learnt} for pairs in (between, there))
            )
            for learnt in (False, True)
        )
        owner: list[SightingKey] = []
        before = {later: earlier for earlier, later in said}
        first: dict[SightingKey, SightingKey] = {}
        for key in run.keys:  # in order of time: whoever was before has an owner
            first[key] = first.get(before.get(key, key), key)
            owner.append(first[key])
        mine = [row for row, start in enumerate(starts) if start >= learnt_from]
        shown = [(run.keys[row], starts[row]) for row in mine]
        found, true = [owner[row] for row in mine], [int(run.person[row]) or None for row in mine]
        identities = score_identities([float(run.end_s[row] - run.start_s[row]) for row in mine], found, true)
        ways = score_transitions(transitions(shown, found), transitions(shown, true))
        later = [pair for pair in said if began[pair[1]] >= learnt_from]
        promises = Promises(
            np.array([said[pair] for pair in later]),
            np.array([who[a] == who[b] != 0 for a, b in later], np.bool_),
        )
        return Scored(cold, learnt, identities, ways, whole_paths(shown, found, true), promises)

    return scored


def _transit(shop: Shop, seed: int, views: Views, reentries: bool) -> Transit:
    """What naive linkers know of times: the truth of another seed's visits."""
    known = witness(shop, _Blank(), seed=seed + LEARNING_SEED, duration_s=LEARNING_S, views=views, reentries=reentries)
    past = arrays(list(known), length=1)
    return learn_transit(
        past.start_s, past.end_s, past.camera, true_links(past.person), cameras=len(shop.cameras), duration_s=LEARNING_S
    )


class _Blank:
    """Vectors that show nothing, where only times are wanted."""

    length, network = 1, ""

    def __call__(self, tracks: Sequence[Track]) -> list[Dress]:
        return [(np.ones((1, 1), np.float32), np.ones(1, np.float32), np.ones(1, np.int64)) for _ in tracks]

    def calibration(self) -> None:
        return None
