"""Who comes to a shop and what they do there: parties, plans, walks, queues, staff; every visit exact to the second."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from typing import NamedTuple

import numpy as np

from passerby.simulate.cameras import Views
from passerby.simulate.plan import MEMBER_LAG_S, Checkout, Shop, along, length_m
from passerby.types import Float64

STAFF_ROUND_S = 900.0  # staff are simulated in rounds of about so long
SLOWEST_M_S, FASTEST_M_S = 0.5, 2.2


class Part(NamedTuple):
    """A piece of a way: along the path from spot `start` to spot `end`, between two distances; standing if they are one."""

    start: int
    end: int
    from_m: float
    to_m: float
    since_s: float
    until_s: float


@dataclass(slots=True)
class Queue:
    """One wait at the checkout, in seconds from opening: joined, served from, served until."""

    joined_s: float
    served_s: float
    left_s: float


@dataclass(slots=True)
class Trip:
    """One person's time in the shop, exactly as it was; seconds from opening.

    `plan` are the numbers of the shelf zones in order; `reentry` says that the person was here before. `member`
    counts from 0 within the party, which pays as one. `coat_off_s` is when the coat came off.
    """

    number: int
    person: int
    party: int
    member: int
    enters_s: float
    leaves_s: float
    speed_m_s: float
    plan: tuple[int, ...]
    staff: bool = False
    bounced: bool = False
    reentry: bool = False
    coat_off_s: float | None = None
    queue: Queue | None = None
    parts: list[Part] = field(default_factory=list)
    stays: list[tuple[int, float, float]] = field(default_factory=list)
    crossings: list[tuple[int, float, bool]] = field(default_factory=list)


@dataclass(slots=True)
class _Party:
    """A party, or a member of staff, on the way through the shop."""

    number: int
    rng: np.random.Generator
    people: tuple[int, ...]
    enters_s: float
    now_s: float
    spot: int
    speed_m_s: float
    plan: tuple[int, ...] = ()
    staff: bool = False
    bounced: bool = False
    reentry: bool = False
    queue: Queue | None = None
    done: bool = False
    parts: list[Part] = field(default_factory=list)
    stays: list[tuple[int, float, float]] = field(default_factory=list)
    crossings: list[tuple[int, float, bool]] = field(default_factory=list)


def visits(shop: Shop, views: Views, *, seed: int, duration_s: float, reentries: bool = True) -> Iterator[Trip]:
    """Everyone who comes within `duration_s` of opening, in order of their entry; the same seed gives the same visits.

    Streams: only the parties who are in the shop are held. Shoppers are numbered from 1, staff from -1 downwards.
    `reentries` False leaves out who comes again.
    """
    return _Day(shop, views, seed=seed, duration_s=duration_s, reentries=reentries).run()


class _Day:
    """The events of one day in order of time, on one heap: arrivals, joining the queue, the next round of staff."""

    def __init__(self, shop: Shop, views: Views, *, seed: int, duration_s: float, reentries: bool) -> None:
        self.shop, self.views, self.seed, self.duration_s, self.reentries = shop, views, seed, duration_s, reentries
        entrance = shop.zone_of_kind("entrance")
        assert entrance is not None  # checked by Shop
        self.entrance = entrance
        self.checkout = shop.zone_of_kind("checkout")
        self.shelves = np.array([i for i, zone in enumerate(shop.zones) if zone.kind == "shelves"])
        weights = np.array([shop.zones[i].weight for i in self.shelves])
        self.weights = weights / weights.sum()
        self.edges = {frozenset(edge.zones): (math.log(edge.median_s), edge.log_deviation) for edge in shop.edges}
        self.tills = [0.0] * shop.checkout.tills  # when each is free
        heapify(self.tills)
        self.events: list[tuple[float, int, str, _Party | None]] = []
        self.serial = 0
        self.last_person = self.last_visit = self.last_party = 0
        self.inside: deque[_Party] = deque()

    def run(self) -> Iterator[Trip]:
        arrivals = self._arrivals()
        self._arrive(arrivals)
        for number in range(1, self.shop.staff + 1):
            self._start_staff(number)
        while self.events:
            at, _, what, party = heappop(self.events)
            if what == "arrival":
                self._arrive(arrivals)
                party = self._new_party(at)
            assert party is not None
            if what in ("arrival", "again"):
                self.inside.append(party)
                self._shop(party)
            elif what == "round":
                self.inside.append(party)
                self._staff_round(party)
            else:
                self._pay(party)
                self._leave(party)
            while self.inside and self.inside[0].done:
                yield from self._members(self.inside.popleft())

    def _push(self, at: float, what: str, party: _Party | None) -> None:
        self.serial += 1
        heappush(self.events, (at, self.serial, what, party))

    def _arrivals(self) -> Iterator[float]:
        """Arrivals of a Poisson process with the daily profile: unit exponential gaps of the summed intensity, turned back."""
        rng = np.random.default_rng([self.seed, 1])
        per_hour = self.shop.arrivals.per_hour
        hour, at, left = 0, 0.0, float(rng.exponential())
        while at < self.duration_s:
            rate = per_hour[min(hour, len(per_hour) - 1)] / 3600
            end = (hour + 1) * 3600.0 if hour < len(per_hour) - 1 else math.inf
            if rate == 0 and end == math.inf:
                return
            if rate * (end - at) <= left:
                left -= rate * (end - at)
                at, hour = end, hour + 1
                continue
            at += left / rate
            left = float(rng.exponential())
            if at < self.duration_s:
                yield at

    def _arrive(self, arrivals: Iterator[float]) -> None:
        at = next(arrivals, None)
        if at is not None:
            self._push(at, "arrival", None)

    def _speed(self, rng: np.random.Generator, people: int) -> float:
        """The slowest of a party's desired speeds."""
        s = self.shop.shoppers
        return min(truncated_normal(rng, s.speed_m_s, s.speed_deviation) for _ in range(people))

    def _new_party(self, at: float) -> _Party:
        self.last_party += 1
        rng = np.random.default_rng([self.seed, 2, self.last_party])
        size = 1 + _draw(rng, self.shop.arrivals.party_sizes)
        people = tuple(range(self.last_person + 1, self.last_person + size + 1))
        self.last_person += size
        return self._party(self.last_party, rng, people, at)

    def _party(self, number: int, rng: np.random.Generator, people: tuple[int, ...], at: float) -> _Party:
        spot = int(rng.choice(self.shop.floor.spots_in(self.entrance)))
        return _Party(number, rng, people, at, at, spot, self._speed(rng, len(people)))

    def _shop(self, party: _Party) -> None:
        rng, habits = party.rng, self.shop.shoppers
        party.bounced = bool(rng.random() < habits.bounce)
        if party.bounced:
            self._stay(party, self.entrance, float(rng.exponential(habits.bounce_s)))
            self._leave(party)
            return
        stops = min(1 + _draw(rng, habits.stops), int((self.weights > 0).sum()))
        party.plan = tuple(rng.choice(self.shelves, size=stops, replace=False, p=self.weights).tolist())
        for number in party.plan:
            self._go(party, number)
            self._look(party, number)
            if habits.turn_back and rng.random() < habits.turn_back and self._turn_back(party, number):
                self._look(party, number)
        if self.checkout is not None and rng.random() < habits.pay:
            self._go(party, self.checkout)
            self._push(party.now_s, "pay", party)
        else:
            self._leave(party)

    def _pay(self, party: _Party) -> None:
        assert self.checkout is not None
        joined = party.now_s
        served = max(joined, self.tills[0])
        left = served + service_time(self.shop.checkout, party.rng)
        heapreplace(self.tills, left)
        party.queue = Queue(joined, served, left)
        self._stay(party, self.checkout, left - joined)

    def _leave(self, party: _Party) -> None:
        self._go(party, self.entrance)
        party.done = True
        habits = self.shop.shoppers
        if self.reentries and not (party.bounced or party.reentry) and party.rng.random() < habits.reenter:
            at = party.now_s + float(party.rng.exponential(habits.reenter_after_s)) + 30
            if at < self.duration_s:
                self.last_party += 1
                rng = np.random.default_rng([self.seed, 2, self.last_party])
                other = self._party(self.last_party, rng, party.people, at)
                other.speed_m_s = party.speed_m_s
                other.reentry = True
                self._push(at, "again", other)

    def _start_staff(self, number: int) -> None:
        zone = self.shop.zone_of_kind("staff")
        assert zone is not None  # checked by Shop
        rng = np.random.default_rng([self.seed, 3, number])
        spot = int(rng.choice(self.shop.floor.spots_in(zone)))
        self.last_party += 1
        party = _Party(self.last_party, rng, (-number,), 0.0, 0.0, spot, self._speed(rng, 1), staff=True)
        self._push(0.0, "round", party)

    def _staff_round(self, party: _Party) -> None:
        """From zone to zone, more than half of the time in the staff's own or at the checkout."""
        homes = [i for i, zone in enumerate(self.shop.zones) if zone.kind in ("staff", "checkout")]
        until = min(party.enters_s + STAFF_ROUND_S, self.duration_s)
        while party.now_s < until:
            rng = party.rng
            number = int(rng.choice(homes)) if rng.random() < 0.6 else int(rng.choice(self.shelves))
            self._go(party, number)
            self._stay(party, number, float(min(rng.exponential(90.0), max(1.0, until - party.now_s))))
        party.done = True
        if party.now_s < self.duration_s:
            self.last_party += 1
            after = _Party(
                self.last_party,
                party.rng,
                party.people,
                party.now_s,
                party.now_s,
                party.spot,
                party.speed_m_s,
                staff=True,
            )
            self._push(after.enters_s, "round", after)

    def _stay(self, party: _Party, zone: int, seconds: float) -> None:
        until = party.now_s + seconds
        party.parts.append(Part(party.spot, party.spot, 0.0, 0.0, party.now_s, until))
        party.stays.append((zone, party.now_s, until))
        party.now_s = until

    def _look(self, party: _Party, number: int) -> None:
        zone = self.shop.zones[number]
        seconds = float(party.rng.lognormal(math.log(zone.dwell_median_s), zone.dwell_log_deviation))
        self._stay(party, number, seconds)

    def _turn_back(self, party: _Party, number: int) -> bool:
        """Walk towards other shelves until no camera looks, linger, and come back; False where no such way is.

        Who is out of sight for a short time turns soon; for longer they linger in the middle of the stretch that is not seen.
        """
        habits, floor, others = self.shop.shoppers, self.shop.floor, self.shelves[self.shelves != number]
        if not len(others):
            return False
        here, there = party.spot, int(party.rng.choice(floor.spots_in(int(party.rng.choice(others)))))
        away_s = float(party.rng.lognormal(math.log(habits.turn_back_s), habits.turn_back_log_deviation))
        unseen = self.views.unseen_m(here, there)
        if unseen is None:
            return False
        from_m, to_m = unseen
        turn_m = min(from_m + away_s / 2 * party.speed_m_s, (from_m + to_m) / 2)
        start, walk_s = party.now_s, turn_m / party.speed_m_s
        rest = away_s - 2 * (turn_m - from_m) / party.speed_m_s
        back = start + walk_s + rest
        total = length_m(floor.path(there, here))
        party.parts += [
            Part(here, there, 0.0, turn_m, start, start + walk_s),
            Part(here, there, turn_m, turn_m, start + walk_s, back),
            Part(there, here, total - turn_m, total, back, back + walk_s),
        ]
        passed = [(at_m, line, inwards) for at_m, line, inwards in self.views.crossings(here, there) if at_m < turn_m]
        party.crossings += [(line, start + at_m / party.speed_m_s, inwards) for at_m, line, inwards in passed]
        party.crossings += [
            (line, back + walk_s - at_m / party.speed_m_s, not inwards) for at_m, line, inwards in reversed(passed)
        ]
        party.now_s = back + walk_s
        return True

    def _go(self, party: _Party, zone: int) -> None:
        """Walk to a spot of a zone; where an edge says how long that takes, linger on the way, out of all cameras' sight."""
        floor = self.shop.floor
        here, there = party.spot, int(party.rng.choice(floor.spots_in(zone)))
        if here == there:
            return
        total = length_m(floor.path(here, there))
        walk_s = total / party.speed_m_s
        names = frozenset(self.shop.zones[i].name for i in (int(floor.zone_of[here]), zone))
        rest, pause_m = 0.0, total
        if names in self.edges:
            rest = max(0.0, float(party.rng.lognormal(*self.edges[names])) - walk_s)
            pause_m = self.views.quiet_m(here, there)
        start, reached = party.now_s, party.now_s + pause_m / party.speed_m_s
        party.parts.append(Part(here, there, 0.0, pause_m, start, reached))
        if rest > 0:
            party.parts.append(Part(here, there, pause_m, pause_m, reached, reached + rest))
        if pause_m < total:
            party.parts.append(Part(here, there, pause_m, total, reached + rest, start + walk_s + rest))
        for at_m, line, inwards in self.views.crossings(here, there):
            late = rest if at_m > pause_m else 0.0
            party.crossings.append((line, start + at_m / party.speed_m_s + late, inwards))
        party.now_s, party.spot = start + walk_s + rest, there

    def _members(self, party: _Party) -> Iterator[Trip]:
        """One visit for each member, the others a little behind the first."""
        for member, person in enumerate(party.people):
            lag = member * MEMBER_LAG_S
            self.last_visit += 1
            queue = party.queue
            yield Trip(
                number=self.last_visit,
                person=person,
                party=party.number,
                member=member,
                enters_s=party.enters_s + lag,
                leaves_s=party.now_s + lag,
                speed_m_s=party.speed_m_s,
                plan=party.plan,
                staff=party.staff,
                bounced=party.bounced,
                reentry=party.reentry,
                coat_off_s=self._coat_off(party, person),
                queue=queue and Queue(queue.joined_s + lag, queue.served_s + lag, queue.left_s + lag),
                parts=[p._replace(since_s=p.since_s + lag, until_s=p.until_s + lag) for p in party.parts],
                stays=[(zone, since + lag, until + lag) for zone, since, until in party.stays],
                crossings=[(line, at + lag, inwards) for line, at, inwards in party.crossings],
            )

    def _coat_off(self, party: _Party, person: int) -> float | None:
        """When a person's coat comes off; it follows from the person, so that it stays off at a second visit."""
        if party.staff or np.random.default_rng([self.seed, 4, person]).random() >= self.shop.shoppers.coat_off:
            return None
        return party.enters_s if party.reentry else (party.enters_s + party.now_s) / 2


def service_time(checkout: Checkout, rng: np.random.Generator) -> float:
    """One service at a till, in seconds, with the mean `checkout.service_s`."""
    if checkout.service == "exponential":
        return float(rng.exponential(checkout.service_s))
    spread = checkout.service_log_deviation
    return float(rng.lognormal(math.log(checkout.service_s) - spread**2 / 2, spread))


def truncated_normal(rng: np.random.Generator, mean: float, deviation: float) -> float:
    """A desired speed in m/s: normal, drawn again outside SLOWEST_M_S to FASTEST_M_S."""
    while True:
        speed = float(rng.normal(mean, deviation))
        if SLOWEST_M_S <= speed <= FASTEST_M_S:
            return speed


def position(visit: Trip, shop: Shop, at_s: float) -> Float64 | None:
    """Where a visit's person is at a time, (2,) in metres; None before the entry and after the exit."""
    for part in visit.parts:
        if part.since_s <= at_s <= part.until_s:
            took = part.until_s - part.since_s
            share = (at_s - part.since_s) / took if took > 0 else 0.0
            way = part.from_m + share * (part.to_m - part.from_m)
            if part.start == part.end:
                way = 0.0
            result: Float64 = along(shop.floor.path(part.start, part.end), np.array([way]))[0]
            return result
    return None


def _draw(rng: np.random.Generator, shares: tuple[float, ...]) -> int:
    return int(np.searchsorted(np.cumsum(shares), rng.random() * sum(shares), side="right"))
