"""Who of a gallery somebody is, or nobody: sides and a gallery in, posteriors out; pictures are not opened here."""

import numpy as np

from passerby.reid.calibration import Calibration, search_posterior
from passerby.reid.evidence import Sides, weighed
from passerby.reid.gallery import Candidates, Gallery
from passerby.types import Float64, Identification, Match, PasserbyError

CANDIDATES = 256  # people of a gallery above 100,000 whose likelihood is taken one by one


def search(
    queries: Sides, gallery: Gallery, calibration: Calibration, *, threshold: float, absent: float = 0.5, top: int = 5
) -> list[Identification]:
    """Who of the gallery each of `queries` shows; any vectors of the gallery's model, see `evidence.side`.

    `threshold` is the posterior from which somebody is named, `absent` the probability, before looking, that a query is
    nobody of the gallery; `top` how many matches an answer has. A query that shows nothing is never named. Raises
    GalleryError for vectors of another length, PasserbyError for a `top` under 1.
    """
    if not isinstance(top, int) or top < 1:
        raise PasserbyError(f"top: expected a number of at least 1, got {top!r}")
    found = gallery.candidates(queries.means, max(top, CANDIDATES))
    if not found.people:
        return [Identification(None, (), 1.0) for _ in range(len(queries))]
    worst = np.minimum(queries.quality[:, None], found.quality[found.rows])  # (queries, candidates)
    ratios = weighed(
        calibration,
        found.similarities,
        pictures=(queries.pictures[:, None], found.pictures[found.rows]),
        quality=worst,
    )
    probabilities, unknown = search_posterior(
        ratios,
        absent,
        others=found.people - ratios.shape[1],
        mean_ratio=_mean_ratio(queries, found, calibration),
    )
    answers = []
    for row in range(len(queries)):
        best = np.argsort(-probabilities[row], kind="stable")[:top]
        matches = tuple(
            Match(
                found.names[found.rows[row, i]],
                float(probabilities[row, i]),
                float(found.similarities[row, i]),
                float(ratios[row, i]),
                float(worst[row, i]),
            )
            for i in best.tolist()
            if found.rows[row, i] >= 0
        )
        named = matches and matches[0].probability >= threshold and matches[0].quality > 0
        answers.append(Identification(matches[0].person if named else None, matches, float(unknown[row])))
    return answers


def _mean_ratio(queries: Sides, found: Candidates, calibration: Calibration) -> Float64:
    """The mean likelihood ratio (queries,) of the people who are no candidates, from cosines with some of them."""
    drawn = ~np.isnan(found.others)
    ratios = weighed(
        calibration,
        np.where(drawn, found.others, 0),
        pictures=(queries.pictures[:, None], 1),
        quality=queries.quality[:, None],
    )
    sums = np.where(drawn, np.exp(ratios), 0).sum(axis=1)
    result: Float64 = sums / np.maximum(drawn.sum(axis=1), 1)
    return result
