"""What is shown of groups that are small, how long people are kept, and how one visit is erased; no SQL, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappop, heappush
from math import inf
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from passerby.service import accounts
from passerby.service.analytics import Way
from passerby.service.erasure import mark
from passerby.service.store import Erased, Store
from passerby.service.vault import Vault
from passerby.site import Site
from passerby.types import Int64, PrivacyError

Bool = NDArray[np.bool_]
REST = "…"  # where those went on to who are too few to say; no place has this name


@dataclass(frozen=True, slots=True)
class Shown:
    """A table of counts of people as it may be shown.

    `cells` (rows, columns), `rows` (rows,) and `columns` (columns,) are the counts and their totals, None where one is
    withheld; `total` is the sum of all, which is never withheld.
    """

    cells: tuple[tuple[int | None, ...], ...]
    rows: tuple[int | None, ...]
    columns: tuple[int | None, ...]
    total: int


def suppressed(counts: Int64, *, k: int) -> Shown:
    """A table of counts (rows, columns), 0 or more, with its totals, as it may be shown: none of 1 to k - 1 people.

    More is withheld until nobody can work out what was, from the rest and from the total, which is public: each withheld
    number could also be k higher or lower, or another one at least where the table has no room for that. What has no people
    is shown as 0 while that gives nothing away. The numbers withheld beside are those that lose least (Dijkstra's shortest way
    round a cycle of numbers that can change together). Raises PrivacyError for other counts.

    >>> suppressed(np.array([[20, 3], [30, 40]]), k=10).cells
    ((None, None), (None, None))
    >>> suppressed(np.array([[20, 13], [30, 40]]), k=10).rows
    (33, 70)
    """
    if counts.ndim != 2 or not counts.size or counts.dtype.kind not in "iu" or (counts < 0).any() or k < 1:
        raise PrivacyError(
            f"table: expected whole counts (rows, columns) from 0, and k from 1, got {counts.tolist()}, {k}"
        )
    values = np.zeros((counts.shape[0] + 1, counts.shape[1] + 1), np.int64)
    values[:-1, :-1] = counts
    values[:-1, -1], values[-1, :-1], values[-1, -1] = counts.sum(1), counts.sum(0), counts.sum()
    public = np.zeros(values.shape, bool)  # the total, and what is the same number under another name
    public[np.ix_([-1, 0] if len(counts) == 1 else [-1], [-1, 0] if counts.shape[1] == 1 else [-1])] = True
    hidden = (values > 0) & (values < k) & ~public
    for room in dict.fromkeys((k, 1)):
        _hide_more(values, hidden, room)
    open_ = [place for place in zip(*np.nonzero(hidden), strict=True) if not _free(values, hidden, place, 1)]
    if open_ or values[-1, -1] < k:  # no number has room to change: nothing but the total is shown
        hidden = ~public & (values[-1, -1] > 0)

    def said(row: int, columns: slice) -> tuple[int | None, ...]:
        return tuple(None if h else int(v) for v, h in zip(values[row, columns], hidden[row, columns], strict=True))

    inner = slice(0, -1)
    return Shown(
        tuple(said(row, inner) for row in range(len(counts))),
        tuple(None if h else int(v) for v, h in zip(values[:-1, -1], hidden[:-1, -1], strict=True)),
        said(-1, inner),
        int(values[-1, -1]),
    )


def _hide_more(values: Int64, hidden: Bool, room: int) -> None:
    """Hide what must be hidden beside, so that each hidden number can change by `room`, where the table allows it."""
    for place in sorted(zip(*np.nonzero(hidden), strict=True), key=lambda at: int(values[at])):
        if not _free(values, hidden, place, room):
            ways = [way for way in (_cycle(values, hidden, place, room, up) for up in (True, False)) if way is not None]
            if ways:
                for at in min(ways)[1]:
                    hidden[at] = True


def _free(values: Int64, hidden: Bool, place: tuple[int, int], room: int) -> bool:
    """Whether a hidden number could be higher or lower by `room`, all that is shown being as it is."""
    return any(
        way is not None and way[0] == 0 for way in (_cycle(values, hidden, place, room, up) for up in (True, False))
    )


def _cycle(
    values: Int64, hidden: Bool, place: tuple[int, int], room: int, up: bool
) -> tuple[float, list[tuple[int, int]]] | None:
    """The cheapest numbers that change by `room`, up or down, together with the one at `place`, and what hiding them loses.

    Each row and column is a node, each number an edge; the sum at a node stays 0 with totals taken as negative. The grand total
    never changes. None where there is no way.
    """
    height, width = values.shape
    sign = np.ones(values.shape, np.int64)
    sign[-1, :] *= -1
    sign[:, -1] *= -1

    def moves(at: tuple[int, int], more: bool) -> bool:
        """Whether the number can be changed: so that, with its sign, its row's sum grows (`more`) or shrinks."""
        if at == (height - 1, width - 1):
            return False
        return bool((sign[at] > 0) == more or values[at] >= room)

    if not moves(place, up):
        return None
    row, column = place
    start, goal = (height + column, row) if up else (row, height + column)
    costs, came = {start: 0.0}, dict[int, tuple[int, tuple[int, int]]]()
    queue: list[tuple[float, int]] = [(0.0, start)]
    while queue:
        cost, node = heappop(queue)
        if node == goal:
            break
        if cost > costs[node]:
            continue
        for other in range(width) if node < height else range(height):
            at = (node, other) if node < height else (other, node - height)
            if at == place or not moves(at, node < height):
                continue
            following = height + other if node < height else other
            further = cost + (0.0 if hidden[at] else 1.0 + float(values[at]))
            if further < costs.get(following, inf):
                costs[following], came[following] = further, (node, at)
                heappush(queue, (further, following))
    if goal not in came:
        return None
    way, node = [], goal
    while node != start:
        node, at = came[node]
        way.append(at)
    return costs[goal], way


def enough(people: int, *, k: int) -> bool:
    """Whether a figure about a group may be shown that is no count, such as a median: of k people or more."""
    return people >= k


# A day's tables, in groups of k people or more: whatever is added up of them tells no more


def classes(ways: Mapping[Way, int], *, k: int) -> dict[Way, Way]:
    """Under which way each is told: its own, or its beginning and REST, so that k visits or more are told under each.

    Those who go on to places that fewer than k go on to are told together; if these are still fewer, with the smallest class
    of those who begin alike. Nothing is told of fewer than k in all.

    >>> classes({("wine", "till"): 5, ("wine",): 2, ("wine", "beer"): 1, ("beer",): 1}, k=3)
    {('beer',): ('…',), ('wine',): ('…',), ('wine', 'beer'): ('…',), ('wine', 'till'): ('wine', 'till')}
    """
    if sum(ways.values()) < k:
        return {}
    found = _classes(ways, (), k)
    return dict(sorted((way, name) for name, members in found.items() for way in members))


def _classes(ways: Mapping[Way, int], begin: Way, k: int) -> dict[Way, list[Way]]:
    """The classes of ways that all begin so, of k visits or more, each with its members."""
    parts: dict[Way, dict[Way, int]] = {}
    for way, often in ways.items():
        parts.setdefault(way[: len(begin) + 1], {})[way] = often
    found: dict[Way, list[Way]] = {}
    rare: list[Way] = []
    for part, of in parts.items():
        if sum(of.values()) < k:
            rare += of
        else:
            found |= {part: [part]} if part == begin else _classes(of, part, k)
    if rare and found and sum(ways[way] for way in rare) < k:
        smallest = min(found, key=lambda name: (sum(ways[way] for way in found[name]), name))
        rare += found.pop(smallest)
    return found | ({(*begin, REST): rare} if rare else {})


def sizes_told(groups: Mapping[int, int], *, k: int) -> dict[int, int]:
    """How many groups had so many people, of sizes that k people or more had; the others are nobody, or k people or more.

    >>> sizes_told({1: 30, 2: 20, 3: 2}, k=10)
    {2: 20}
    """
    people = {size: size * often for size, often in groups.items() if often}
    told = sorted((size for size in people if people[size] >= k), key=lambda size: (-people[size], size))
    while told and 0 < sum(people.values()) - sum(people[size] for size in told) < k:
        told.pop()
    return {size: groups[size] for size in sorted(told)}


def split_well(part: int, whole: int, *, k: int) -> bool:
    """Whether both a part of a group and the rest of it are nobody, or k people or more."""
    return all(number == 0 or number >= k for number in (part, whole - part))


# How long people are kept


def expire(store: Store, site: Site, *, now: datetime, vault: Vault | None = None) -> int:
    """Take out of the store the visits that ended `retention_days` ago; returns how many. Counts stay.

    Of the `vault` the keys of days are destroyed whose visits, of a day at most, are over and whose re-entry window is too.
    """
    if vault is not None:
        over = now - timedelta(days=1, hours=site.reentry_h)
        vault.expire(before=over.astimezone(ZoneInfo(site.time_zone)).date())
    gone = store.expire(site.name, before=now - timedelta(days=site.retention_days))
    if gone:
        detail = {"visits": gone, "days": site.retention_days}
        accounts.record(store, who="expiry", kind="service", action="expired", site=site.name, detail=detail, now=now)
    return gone


def erase(
    store: Store, site: str, visit: str, *, who: str, kind: accounts.Kind, now: datetime, vault: Vault | None = None
) -> Erased:
    """Take one visit out for good, as `Store.erase` says, with its keys in the vault; the audit log keeps its hash only.

    Whoever follows people at the moment must be told that its sightings are withdrawn, or their vectors come back into the
    vault with the next snapshot; the store takes nothing of it any more.
    """
    if vault is not None:
        vault.erase(site, visit)
    gone = store.erase(site, visit, now=now)
    if vault is not None:
        for name in gone.visits:
            vault.erase(site, name, gone.sightings)
    detail = {"visits": [mark(site, name) for name in gone.visits], "sightings": len(gone.sightings)}
    accounts.record(store, who=who, kind=kind, action="visit erased", site=site, detail=detail, now=now)
    return gone
