"""Links between real walks, with drawn vectors: the associator beside naive linkers and perfect appearance.

python benchmarks/real_links.py              # both of these, Rank-1 of 0.8, seeds 101 to 105 of the vectors
python benchmarks/real_links.py --count 5    # Grand Central's people by draws, in stretches of 5 minutes

Grand Central: 80 minutes under the six virtual cameras of `real_walks.py`, which share no floor; the first 40 minutes are for
learning: naive linkers and the oracle learn times there from the truth, the associator by itself. WILDTRACK: 200 s under seven
cameras that all see one square, pairs declared as overlaps; there is nothing else to learn times from, so that the others know
them from the very truth that they are scored on. Trackers make no errors in either.
"""

import argparse
import csv
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations, groupby, pairwise
from pathlib import Path
from statistics import median

import numpy as np

from counts import HEAD, Row, hour, kept, told
from passerby.shop import Sighting, SightingKey
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.benchmark import (
    BAR,
    LINKERS,
    NAIVE,
    Scored,
    arrays,
    link,
    listen,
    probabilities,
    scorer,
    true_links,
)
from passerby.simulate.plan import Looks
from passerby.simulate.recording import Witnessed, in_order
from passerby.simulate.tracking import Piece, Track
from passerby.simulate.watching import InView
from passerby.vision.associate import Associator
from passerby.vision.transit import learn_transit
from passerby.vision.window import Window
from real_walks import CAMERAS, WALKS, Seen, real_sightings
from shared import SHARED

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
SQUARE = SHARED / "tracking" / "wildtrack" / "annotations.csv"
FRAME_S, BRIDGE_S = 0.5, 1.0  # WILDTRACK has two annotated frames a second
LOOKS = Looks(rank1=0.8, correlation=0.6, look_alikes=0.05)


def square_sightings(path: Path = SQUARE) -> list[Seen]:
    """What WILDTRACK's cameras see of its people, in order of its start; who is not annotated for a second is bridged."""
    with path.open() as file:
        rows = [(int(r["camera"]), int(r["person"]), int(r["frame"])) for r in csv.DictReader(file)]
    step = min(b - a for a, b in pairwise(sorted({frame for *_, frame in rows})))
    found: list[Seen] = []
    for (camera, person), mine in groupby(sorted(rows), key=lambda row: row[:2]):
        last: Seen | None = None
        for *_, frame in mine:
            at_s = frame / step * FRAME_S
            if last is not None and at_s - last.end_s <= FRAME_S + BRIDGE_S:
                found.pop()
                last = last._replace(end_s=at_s)
            else:
                last = Seen(camera, at_s, at_s + FRAME_S / 2, person)
            found.append(last)
    return sorted(found, key=lambda seen: (seen.start_s, seen.camera, seen.person))


def witnessed(seen: Iterable[Seen], names: Sequence[str], vectors: DrawnVectors) -> list[Witnessed]:
    """Those times as perfect trackers' sightings with drawn vectors."""
    tracks = []
    for each in seen:
        view = InView(each.camera, each.start_s, each.end_s, 1.0, each.person + 1, each.person + 1)
        tracks.append(Track(each.camera, each.start_s, pieces=[Piece(view, each.start_s, each.end_s)]))
    return [
        Witnessed(
            track,
            Sighting(
                SightingKey("real", names[track.camera], "s", number),
                1,
                "closed",
                START + timedelta(seconds=track.start_s),
                START + timedelta(seconds=track.end_s),
                *dress,
                vectors.network,
            ),
        )
        for number, (track, dress) in enumerate(zip(tracks, vectors(tracks), strict=True), 1)
    ]


def scores(
    seen: Sequence[Seen], names: Sequence[str], *, seed: int, learn_s: float, overlaps: Sequence[tuple[str, str]] = ()
) -> dict[str, Scored]:
    """The scores of each linker after `learn_s`; with 0 times are known from what is scored."""
    vectors = DrawnVectors(LOOKS, seed=seed, cameras=len(names))
    calibration = vectors.calibration()
    shown = witnessed(seen, names, vectors)
    run = arrays(shown, length=vectors.length)
    past = run.start_s < START.timestamp() + (learn_s or np.inf)
    rows = np.flatnonzero(past)
    transit = learn_transit(
        run.start_s[rows],
        run.end_s[rows],
        run.camera[rows],
        true_links(run.person[rows]),
        cameras=len(names),
        duration_s=learn_s or float(run.end_s.max() - run.start_s.min()),
    )
    associator = Associator(
        site="real", cameras=names, calibration=calibration, threshold=BAR, overlaps=overlaps, reentry_s=3600
    )
    heard = listen(associator, in_order(shown, refresh=True))
    said: dict[str, set[tuple[SightingKey, SightingKey]]] = {
        name: {(run.keys[a], run.keys[b]) for a, b in link(run, calibration, transit, name)} for name in NAIVE
    }
    told = {name: dict.fromkeys(pairs, 1.0) for name, pairs in said.items()}
    told |= {"online": probabilities(heard.online), "refined": probabilities(heard.refined)}
    scored = scorer(run, learnt_from=START + timedelta(seconds=learn_s))
    return {name: scored(told[name]) for name in LINKERS}


def counted(seen: Sequence[Seen], names: Sequence[str], *, seed: int, draws: int) -> Row:
    """How many people there are in a stretch by the draws, which begin without any knowledge, beside the truth."""
    vectors = DrawnVectors(LOOKS, seed=seed, cameras=len(names))
    calibration, shown = vectors.calibration(), witnessed(seen, names, vectors)
    associator = Associator(
        site="real", cameras=names, calibration=calibration, threshold=BAR, reentry_s=3600, for_draws=True
    )
    begins = START + timedelta(seconds=seen[0].start_s)
    window = Window(site=f"real {seed}", calibration=calibration, draws=draws)
    return kept(hour(associator, begins, shown, window), 0, LOOKS.rank1, 1, seed, draws)


def main() -> None:
    """Print a row for each place and linker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--only", choices=("grand central", "wildtrack"))
    parser.add_argument("--minutes", type=float, default=80.0, help="of Grand Central; half of them are for learning")
    parser.add_argument("--count", type=float, metavar="MINUTES", help="count Grand Central's people in such stretches")
    parser.add_argument("--draws", type=int, default=50, help="of each stretch that is counted")
    arguments = parser.parse_args()
    hall = [seen for seen in real_sightings(WALKS) if seen.end_s < 60 * arguments.minutes]
    square_names = [f"camera {number}" for number in range(1, 8)]
    places = {
        "grand central": (hall, list(CAMERAS), 30 * arguments.minutes, []),
        "wildtrack": (square_sightings(), square_names, 0.0, list(combinations(square_names, 2))),
    }
    if arguments.count is not None:
        print(HEAD + "\n" + "|---" * 12 + "|")
        stretches = []
        for number in range(int(arguments.minutes / arguments.count)):
            since_s, until_s = (60 * arguments.count * (number + more) for more in (0, 1))
            stretch = [seen for seen in hall if since_s <= seen.start_s < until_s]
            stretches.append(counted(stretch, list(CAMERAS), seed=arguments.first_seed + number, draws=arguments.draws))
            print(told(f"from minute {since_s / 60:g}", stretches[-1:]), flush=True)
        print(told("all", stretches))
        return
    print("| place | linker | F1 | precision | recall | IDF1 |")
    print("|---|---|---|---|---|---|")
    for place, (seen, names, learn_s, overlaps) in places.items():
        if arguments.only in (None, place):
            seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
            made = [scores(seen, names, seed=seed, learn_s=learn_s, overlaps=overlaps) for seed in seeds]
            for linker in LINKERS:
                rows = [each[linker] for each in made]
                figures = [[getattr(row.learnt, name) for row in rows] for name in ("f1", "precision", "recall")]
                cells = [*figures, [row.identities.idf1 for row in rows]]
                print(
                    f"| {place} | {linker} | "
                    + " | ".join(f"{100 * median(c):.1f} ({100 * min(c):.1f} - {100 * max(c):.1f})" for c in cells)
                    + " |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
