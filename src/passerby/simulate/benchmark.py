"""The span that an associator has to cross: three naive linkers and one with perfect appearance, on a simulated shop."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from passerby.reid.calibration import Calibration, search_posterior
from passerby.reid.evidence import Sides, evidence, joined, nobody, side
from passerby.shop import SightingKey
from passerby.simulate.appearance import Dress
from passerby.simulate.cameras import Views
from passerby.simulate.plan import Shop
from passerby.simulate.recording import Source, Witnessed, witness
from passerby.simulate.tracking import Track
from passerby.types import Float64, SimulationError
from passerby.vision.links import LinkScores, consecutive_pairs, score_links
from passerby.vision.transit import OVERLAP_S, Transit, learn_transit, log_density

Linker = Literal["appearance", "time gate", "transit", "oracle"]
LINKERS: tuple[Linker, ...] = ("appearance", "time gate", "transit", "oracle")
LEARNING_SEED = 1_000_000  # added to a seed: what linkers know of times is learnt on other visits
LEARNING_S = 4 * 3600.0
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


def link(seen: SightingRows, calibration: Calibration, transit: Transit, linker: Linker) -> list[tuple[int, int]]:
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


def benchmark(
    shop: Shop,
    source: Callable[[int], Source],
    *,
    seeds: Sequence[int],
    duration_s: float,
    reentries: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Linker, list[LinkScores]]:
    """The scores of each linker for each seed; `source(seed)` makes the vectors.

    Only links between different cameras are scored, see `vision.links.consecutive_pairs`. Times are learnt on visits of
    another seed for each.
    """
    scores: dict[Linker, list[LinkScores]] = {linker: [] for linker in LINKERS}
    views = Views(shop)
    for done, seed in enumerate(seeds):
        progress(done, len(seeds))
        dressed = source(seed)
        calibration = dressed.calibration()
        if calibration is None:
            raise SimulationError("benchmark: the model has no calibration; make one with passerby calibrate")
        run = arrays(
            list(witness(shop, dressed, seed=seed, duration_s=duration_s, views=views, reentries=reentries)),
            length=dressed.length,
        )
        known = witness(
            shop, _Blank(), seed=seed + LEARNING_SEED, duration_s=LEARNING_S, views=views, reentries=reentries
        )
        past = arrays(list(known), length=1)
        transit = learn_transit(
            past.start_s,
            past.end_s,
            past.camera,
            true_links(past.person),
            cameras=len(shop.cameras),
            duration_s=LEARNING_S,
        )
        starts = [datetime.fromtimestamp(start, UTC) for start in run.start_s]
        there = consecutive_pairs(
            list(zip(run.keys, starts, strict=True)), [person or None for person in run.person.tolist()]
        )
        for linker in LINKERS:
            pairs = link(run, calibration, transit, linker)
            said = {(run.keys[a], run.keys[b]) for a, b in pairs if run.camera[a] != run.camera[b]}
            scores[linker].append(score_links(said, there))
    progress(len(seeds), len(seeds))
    return scores


class _Blank:
    """Vectors that show nothing, where only times are wanted."""

    length, network = 1, ""

    def __call__(self, tracks: Sequence[Track]) -> list[Dress]:
        return [(np.ones((1, 1), np.float32), np.ones(1, np.float32), np.ones(1, np.int64)) for _ in tracks]

    def calibration(self) -> None:
        return None
