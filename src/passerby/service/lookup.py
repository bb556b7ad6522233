"""Who a picture shows, of those who are not forgotten yet. Nothing of a picture is kept; no SQL, no clock."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

import numpy as np

from passerby.reid.calibration import Calibration, search_posterior
from passerby.reid.evidence import Sides, chained, evidence, side
from passerby.reid.inference import ReIDInference
from passerby.reid.pictures import quality
from passerby.site import Site
from passerby.types import Float32, Float64, PasserbyError, UInt8

ABSENT = 0.5  # the probability, before looking, that a picture shows nobody who is remembered
TOP = 5  # visits in an answer, at most
ASKED, WITHIN = 10, timedelta(minutes=1)  # pictures of one caller
CALLERS = 1000  # of whom it is known how often they asked


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """How each person looked who is remembered: the visit, a side of all its sightings, and how `many` (n,) these are.

    `network` made the vectors, and `calibration` says what their similarities mean.
    """

    network: str
    calibration: Calibration
    visits: tuple[str, ...]
    sides: Sides
    many: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """How one person looked: a side of one row, of so `many` sightings, whose vectors `network` made."""

    network: str
    side: Sides
    many: float = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """The likeliest visits of whom a look shows, each with its posterior, and that of nobody who is remembered."""

    visits: tuple[tuple[str, float], ...]
    unknown: float
    among: int


class Lookup:
    """Searches by a picture among `looks`.

    `embed` gives a picture's vectors (n, length), and the network that made them; `site_network` is that of a site.
    """

    def __init__(self, looks: Callable[[], Looks | None], *, embed: Callable[[UInt8], tuple[Float32, str]]) -> None:
        self._looks, self._embed, self._lock = looks, embed, Lock()
        self._asked: OrderedDict[str, list[datetime]] = OrderedDict()

    def wait_s(self, who: str, now: datetime) -> float:
        """How long somebody must wait, who asks now; 0 where the question is taken, and counted."""
        with self._lock:
            lately = [at for at in self._asked.pop(who, []) if now - at < WITHIN]
            wait_s = (lately[0] + WITHIN - now).total_seconds() if len(lately) >= ASKED else 0.0
            self._asked[who] = lately if wait_s else [*lately, now]
            while len(self._asked) > CALLERS:
                self._asked.popitem(last=False)
        return wait_s

    def find(self, picture: UInt8) -> Found:
        """Who a crop of one person (height, width, 3), RGB, shows.

        Raises PasserbyError where nobody is followed, or not by the network that the site's file names.
        """
        return found(self.looks(), self.look(picture))

    def looks(self) -> Looks:
        """How those look who are remembered. Raises PasserbyError where nobody is followed."""
        looks = self._looks()
        if looks is None:
            raise PasserbyError("Nobody is followed yet: the cameras' networks are being opened, or failed.")
        return looks

    def look(self, picture: UInt8) -> Look:
        """How a crop of one person (height, width, 3), RGB, looks, by the network of the site's file."""
        vectors, network = self._embed(picture)
        return Look(network, side(vectors, quality(picture)))


def found(looks: Looks, one: Look, *, absent: float = ABSENT) -> Found:
    """Who of those that are remembered `one` is, if the probability is `absent`, before looking, that it is none of them.

    Raises PasserbyError where another network made its vectors.
    """
    if one.network != looks.network:
        raise PasserbyError("The site's model was changed after the cameras were opened; start passerby again.")
    if not looks.visits:
        return Found((), 1.0, 0)
    ratios = evidence(looks.calibration, one.side, looks.sides)  # (1, people)
    people, nobody = search_posterior(chained(ratios, one.many, looks.many), absent)
    best = np.argsort(-people[0], kind="stable")[:TOP]
    return Found(
        tuple((looks.visits[place], float(people[0, place])) for place in best), float(nobody[0]), len(looks.visits)
    )


def site_network(site: Site) -> Callable[[UInt8], tuple[Float32, str]]:
    """The network with which a site's people are compared, opened when it is first needed; for any thread."""
    opened, lock = list[ReIDInference](), Lock()

    def embed(picture: UInt8) -> tuple[Float32, str]:
        with lock:
            if not opened:
                opened.append(ReIDInference(mode=site.mode, model=site.model, precision=site.precision, threads=1))
            embedder = opened[0].embedder
            return embedder.embed([picture]), f"{embedder.file_sha256}:{embedder.precision}"

    return embed
