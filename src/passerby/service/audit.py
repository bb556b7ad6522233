"""How far counts can be trusted: against people who counted, and against two lists at the door; no SQL, no clock."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np

from passerby.files import settings_hash
from passerby.service import kept
from passerby.service.analytics import NORMAL_90
from passerby.service.kept import Audited
from passerby.service.store import StoreReader
from passerby.site import LineSite, Site
from passerby.types import Interval
from passerby.vision.visits import VisitRow

QUARTER = timedelta(minutes=15)
SCATTER, SCATTER_WEIGHT = (
    0.05,
    4.0,
)  # the variance that each person counted adds, before audits tell: as if from so many
CERTIFIED_QUARTERS, CERTIFIED = 8, 0.05  # so many quarter hours, and a factor known to so much either way
State = Literal["drawn", "tuned", "audited", "certified"]


@dataclass(frozen=True, slots=True)
class Factor:
    """What a line's count is multiplied by: normal in its logarithm. `scatter` is the variance that each person adds."""

    log: float = 0.0
    deviation: float = 0.15
    scatter: float = SCATTER
    audits: int = 0

    @property
    def interval(self) -> Interval:
        """The factor with its 90 % interval."""
        low, high = (math.exp(self.log + side * NORMAL_90 * self.deviation) for side in (-1, 1))
        return Interval(math.exp(self.log), low, high)


PRIOR = Factor()  # of lines that nobody audited


@dataclass(frozen=True, slots=True)
class Pair:
    """One audit in one direction: how many a person counted, and how many the line did."""

    person: int
    line: int


def pairs(audited: Iterable[Audited], *, inwards: bool) -> list[Pair]:
    """What a person and what the line counted in one direction, for each audit."""
    if inwards:
        return [Pair(each.audit.entries, each.entries) for each in audited]
    return [Pair(each.audit.exits, each.exits) for each in audited]


def factor(audited: Sequence[Pair], *, prior: Factor = PRIOR) -> Factor:
    """What a line's counts are to be multiplied by, from its audits, shrunk to the prior.

    The logarithm of the ratio of all that people counted to all that the line counted has the variance `scatter` by the
    number counted. The scatter is that of the audits among each other, shrunk as if four more had shown 0.05, and what chance
    alone makes of a line that misses so many: one that counts 1 for each `r` people scatters by `r` - 1 at least.
    """
    people, counted = sum(pair.person for pair in audited), sum(pair.line for pair in audited)
    if not people and not counted:
        return Factor(prior.log, prior.deviation, prior.scatter, len(audited))
    log = math.log((people + 0.5) / (counted + 0.5))
    expected = math.exp(log)
    off = [(pair.person - expected * pair.line) ** 2 / (pair.person + expected * pair.line + 1) * 2 for pair in audited]
    before = prior.scatter + abs(expected - 1)
    scatter = (SCATTER_WEIGHT * before + sum(off)) / (SCATTER_WEIGHT + len(audited) - 1)
    variance = scatter / (counted + 0.5)
    weight, trust = 1 / variance, 1 / prior.deviation**2
    return Factor(
        (weight * log + trust * prior.log) / (weight + trust), 1 / math.sqrt(weight + trust), scatter, len(audited)
    )


def prior_of(lines: Iterable[Sequence[Pair]], *, prior: Factor = PRIOR, weight: float = 4.0) -> Factor:
    """What the audits of other lines say of one that has none: the mean of their factors and how far they lie apart.

    Both are shrunk to the given prior, as if so many lines had shown that.
    """
    each = [factor(audited, prior=Factor(prior.log, 1.0, prior.scatter)) for audited in lines if audited]
    if not each:
        return prior
    logs, variances = np.array([f.log for f in each]), np.array([f.deviation**2 for f in each])
    mean = (logs.sum() + weight * prior.log) / (len(each) + weight)
    apart = np.maximum((logs - mean) ** 2 - variances, 0.0).sum()
    deviation = math.sqrt((apart + weight * prior.deviation**2) / (len(each) + weight))
    return Factor(float(mean), deviation, float(np.mean([f.scatter for f in each])), 0)


def corrected(counted: Interval, by: Factor) -> Interval:
    """A count as the audits have it, with a 90 % interval: of the factor, of chance in this count, of what it had before."""
    value = counted.value * math.exp(by.log)
    if counted.value <= 0:
        return Interval(0.0, 0.0, (counted.high or 0.0) * by.interval.value)
    variance = by.deviation**2 + by.scatter / counted.value
    if counted.low is not None and counted.high is not None and counted.low > 0:
        variance += (math.log(counted.high / counted.low) / (2 * NORMAL_90)) ** 2
    width = NORMAL_90 * math.sqrt(variance)
    return Interval(value, value * math.exp(-width), value * math.exp(width))


def together(counts: Sequence[Interval]) -> Interval:
    """The sum of counts that err independently of each other, with a 90 % interval."""
    value = sum(each.value for each in counts)
    below, above = (
        math.sqrt(sum((each.value - (each.value if end is None else end)) ** 2 for each, end in ends))
        for ends in ([(each, each.low) for each in counts], [(each, each.high) for each in counts])
    )
    return Interval(value, max(0.0, value - below), value + above)


def place(line: LineSite) -> str:
    """What a line that is drawn otherwise does not have: a hash of where it lies."""
    return settings_hash(repr(line))[:16]


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a line's counts can be trusted: its state, and the factors of its entries and exits."""

    state: State
    entries: Factor
    exits: Factor


def trust(
    audited: Iterable[Audited], *, line: str, place: str, priors: tuple[Factor, Factor] = (PRIOR, PRIOR)
) -> Trust:
    """How far a line of one site can be trusted as it is drawn now, at `place`; `priors` are those of entries and exits.

    "drawn": nobody counted at it. "tuned": somebody did, before it was moved, so that these audits chose where it lies.
    "audited": somebody did since. "certified": for eight quarter hours or more, and both of its factors are known to 5 %.
    """
    mine = [each for each in audited if each.audit.line == line]
    since = [each for each in mine if each.audit.place == place]
    ways = [
        factor(pairs(since, inwards=inwards), prior=prior) for inwards, prior in zip((True, False), priors, strict=True)
    ]
    quarters = sum((each.audit.end - each.audit.start) / QUARTER for each in since)
    state: State = "audited"
    if not since:
        state = "tuned" if mine else "drawn"
    elif quarters >= CERTIFIED_QUARTERS and all(NORMAL_90 * each.deviation <= CERTIFIED for each in ways):
        state = "certified"
    return Trust(state, *ways)


def trusted(reader: StoreReader, site: Site) -> dict[str, Trust]:
    """How far each line of a site can be trusted, by its audits and by those that the store has of other sites.

    The latter make the prior, each line as it was drawn when somebody counted at it last.
    """
    mine, others = list[Audited](), dict[tuple[str, str], list[Audited]]()
    for each in kept.audited(reader):
        if each.site == site.name:
            mine.append(each)
        else:
            others.setdefault((each.site, each.audit.line), []).append(each)
    lines = [[each for each in line if each.audit.place == line[-1].audit.place] for line in others.values()]
    into, out = (prior_of(pairs(line, inwards=inwards) for line in lines) for inwards in (True, False))
    return {each.name: trust(mine, line=each.name, place=place(each), priors=(into, out)) for each in site.lines}


@dataclass(frozen=True, slots=True)
class TwoLists:
    """Who came in by a door, who was seen inside, and the linked among them, the people on both lists.

    `missed` is the share of those inside whom the door missed, `people` how many came in, each with a 90 % interval.
    """

    entries: int
    inside: int
    linked: int
    missed: Interval
    people: Interval


def two_lists(*, entries: int, inside: int, linked: int, wrong: float = 0.0, unlinked: float = 0.0) -> TwoLists | None:
    """How many a door missed, by who was seen inside (Chapman's estimator); None where nobody was seen inside.

    `wrong` is the share of links between the lists that join two people, `unlinked` that of people on both lists whom no link
    joins; both are known from a shop with truth, and the interval knows of their chance, not of their own error.
    """
    if not inside:
        return None
    true = min(linked * (1 - wrong) / (1 - unlinked), entries, inside)
    seen = true / inside
    chance = linked * wrong + true * unlinked * (1 - unlinked)
    deviation = math.sqrt(seen * (1 - seen) / inside + chance / ((1 - unlinked) * inside) ** 2)
    low, high = (min(1.0, max(0.0, 1 - seen + side * NORMAL_90 * deviation)) for side in (-1, 1))
    people = (entries + 1) * (inside + 1) / (true + 1) - 1
    ends = [entries / (1 - share) if share < 1 else math.inf for share in (low, high)]
    return TwoLists(
        entries,
        inside,
        linked,
        Interval(1 - seen, low, high),
        Interval(people, min(people, ends[0]), max(people, ends[1])),
    )


def lists(rows: Iterable[VisitRow], *, door_cameras: frozenset[str]) -> tuple[int, int, int]:
    """How many visits came in by a door, how many were seen by other cameras than those at doors, and how many both."""
    found = [(row.entered is not None, not door_cameras.issuperset(row.cameras)) for row in rows]
    return sum(came for came, _ in found), sum(seen for _, seen in found), sum(came and seen for came, seen in found)
