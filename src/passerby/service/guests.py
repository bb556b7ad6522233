"""Guests who enrolled: their consents, kept in the store, and how they look, sealed in a folder of its own. No clock."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import delete, insert, select, update

from passerby.reid.evidence import Sides
from passerby.reid.inference import threshold_of
from passerby.service import accounts
from passerby.service.accounts import Kind
from passerby.service.analytics import midnight
from passerby.service.erasure import mark
from passerby.service.live import Alarm
from passerby.service.lookup import Look, Lookup, found
from passerby.service.schema import GUESTS
from passerby.service.store import Store, StoreReader
from passerby.service.vault import Safe
from passerby.shop import Visit
from passerby.site import Site
from passerby.types import PasserbyError, PrivacyError

AWAY = 0.9  # the probability, before looking, that a guest is nobody who is remembered
LONGEST = timedelta(days=731)  # of a consent
HERE = timedelta(minutes=2)  # since a guest was seen last, in which they are held to be here
State = Literal["current", "ended", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Guest:
    """A consent to be recognised: of whom (a name that the site gives), for what, from whom it came, from when until when."""

    name: str
    purpose: str
    consent: str
    given: datetime
    ends: datetime
    withdrawn: datetime | None
    by: str

    def state(self, now: datetime) -> State:
        """Whether the consent holds."""
        return "withdrawn" if self.withdrawn is not None else "current" if now < self.ends else "ended"


@dataclass(frozen=True, slots=True)
class Seen:
    """A guest who is remembered: their visit, its camera and time of the last sight, and the probability that it is them."""

    guest: str
    visit: str
    camera: str
    start: datetime
    last: datetime
    probability: float


class Guests:
    """The guests of a site. Only those are recognised whose consent holds at that moment.

    `safe` keeps how they look; without one, as beside a database, nobody can enrol. `lookup` knows who is remembered. Where the
    site does not allow guests (`Site.guests`), how they look is destroyed when this begins.
    """

    def __init__(self, store: StoreReader, site: Site, safe: Safe | None, lookup: Lookup) -> None:
        self._store, self._site, self._safe, self._lookup = store, site, safe, lookup
        self._lock = Lock()  # from a consent's change to that of the safe
        self._here = False
        if not site.guests and safe is not None:
            for name in sorted(safe.names()):
                safe.destroy(name)

    def listed(self) -> list[tuple[Guest, bool]]:
        """All consents in order of name, and whether it is kept how their guest looks."""
        there = self._safe.names() if self._safe is not None else set()
        with self._store.reading() as connection:
            number = self._store.site_number(connection, self._site.name)
            columns = [column for column in GUESTS.c if column is not GUESTS.c.site_id]
            rows = connection.execute(select(*columns).where(GUESTS.c.site_id == number).order_by(GUESTS.c.name)).all()
        return [(Guest(*row), self._mark(row.name) in there) for row in rows]

    def enrol(
        self,
        store: Store,
        name: str,
        look: Callable[[], Look],
        *,
        purpose: str,
        consent: str,
        ends: date,
        by: str,
        now: datetime,
    ) -> Guest:
        """Write a consent down, which holds to the end of a day of the site's clock, and keep how its guest looks.

        `look` is asked for that once there is nothing against the consent.
        Raises PrivacyError where guests are off, a word of the consent is missing, its end is past or over two years away, or
        where there is a consent of that name.
        """
        safe = self._allowed()
        missing = [
            what for what, said in (("guest", name), ("purpose", purpose), ("consent", consent)) if not said.strip()
        ]
        if missing:
            raise PrivacyError(f"{missing[0]}: without it there is no consent; nobody was enrolled")
        until = midnight(ends + timedelta(days=1), ZoneInfo(self._site.time_zone))
        if not now < until <= now + LONGEST:
            raise PrivacyError(f"ends: expected a day from today on, within two years, got {ends}; nobody was enrolled")
        guest = Guest(name, purpose, consent, now, until, None, by)
        self._unused(name)
        packed = _packed(look())
        with self._lock:
            self._unused(name)
            with store.writing() as connection:
                row = {column: getattr(guest, column) for column in Guest.__slots__}
                number = store.site_number(connection, self._site.name)
                connection.execute(insert(GUESTS).values(site_id=number, **row))
            safe.put(self._mark(name), packed)
        return guest

    def withdraw(self, store: Store, name: str, *, now: datetime) -> bool:
        """End a consent, and destroy how its guest looks: from now on they are recognised no more. False for no such one.

        The consent stays, as it was given, with the time of its end; `erase` takes it out.
        """
        with self._lock:
            with store.writing() as connection:
                number = store.site_number(connection, self._site.name)
                mine = GUESTS.c.site_id == number, GUESTS.c.name == name
                there = connection.execute(select(GUESTS.c.name).where(*mine)).first() is not None
                connection.execute(update(GUESTS).where(*mine, GUESTS.c.withdrawn.is_(None)).values(withdrawn=now))
            if self._safe is not None:
                self._safe.destroy(self._mark(name))
        return there

    def erase(self, store: Store, name: str, *, now: datetime) -> bool:
        """Take out a consent that does not hold any more. False for no such one; raises PrivacyError for one that holds."""
        with self._lock:
            state = {guest.name: guest.state(now) for guest, _ in self.listed()}.get(name)
            if state == "current":
                raise PrivacyError(f"guest: the consent of {name!r} holds; withdraw it first")
            with store.writing() as connection:
                number = store.site_number(connection, self._site.name)
                connection.execute(delete(GUESTS).where(GUESTS.c.site_id == number, GUESTS.c.name == name))
            if self._safe is not None:
                self._safe.destroy(self._mark(name))
        return state is not None

    def sweep(self, *, now: datetime) -> list[Guest]:
        """Destroy how those look whose consent ended, was withdrawn, or is not there; the guests whose consent holds."""
        with self._lock:
            current = self._current(now)
            if self._safe is not None:
                for name in sorted(self._safe.names() - {self._mark(guest.name) for guest in current}):
                    self._safe.destroy(name)
        return current

    def seen(self, *, now: datetime) -> list[Seen]:
        """The guests of those who are remembered, each by their consent of this moment; in order of name.

        A guest is named where the posterior reaches the threshold of the site's mode. Raises PrivacyError where guests are off,
        PasserbyError where nobody is followed.
        """
        return self._recognised(self._current(now))

    def _current(self, now: datetime) -> list[Guest]:
        return [guest for guest, _ in self.listed() if guest.state(now) == "current"]

    def _recognised(self, current: Iterable[Guest]) -> list[Seen]:
        safe = self._allowed()
        looks, threshold = self._lookup.looks(), threshold_of(None, self._site.mode)
        best: dict[str, tuple[str, float]] = {}
        for guest in current:
            content = safe.get(self._mark(guest.name))
            one = None if content is None else _unpacked(content)
            if one is not None and one.network == looks.network:
                ((visit, probability), *_) = found(looks, one, absent=AWAY).visits or (("", 0.0),)
                if probability >= threshold:
                    best[guest.name] = visit, probability
        visits = {
            visit.name: visit for visit in self._store.named(self._site.name, [name for name, _ in best.values()])
        }
        return [
            self._seen(name, visits[visit], probability)
            for name, (visit, probability) in best.items()
            if visit in visits
        ]

    def watch(self, *, now: datetime, tell: Callable[[Alarm], None]) -> None:
        """Sweep, and tell when the first guest is here and when none is any more, but not who: that is `seen`.

        To be called every few seconds.
        """
        if not self._site.guests or self._safe is None:
            return  # nobody is enrolled
        current = self.sweep(now=now)
        try:
            here = any(now - each.last <= HERE for each in self._recognised(current))
        except PasserbyError:
            here = False  # nobody is followed yet
        if here != self._here:
            self._here = here
            tell(
                Alarm("guests", here, "A guest who enrolled is here" if here else "No guest who enrolled is here", now)
            )

    def look_of(self, visit: str) -> Look | None:
        """How whoever made a visit looked; None where they are not remembered."""
        looks = self._lookup.looks()
        if visit not in looks.visits:
            return None
        place = looks.visits.index(visit)
        return Look(looks.network, looks.sides.take([place]), float(looks.many[place]))

    def _unused(self, name: str) -> None:
        if name in {each.name for each, _ in self.listed()}:
            raise PrivacyError(f"guest: there is a consent of {name!r}; erase it first, or give another name")

    def _allowed(self) -> Safe:
        if not self._site.guests:
            raise PrivacyError(
                f"Guests who enrolled are not recognised at {self._site.name}: `guests = true` in the site's file allows it."
            )
        if self._safe is None:
            raise PrivacyError(
                "Guests need a store in a file (SQLite): a database has no place for their keys beside it."
            )
        return self._safe

    def _seen(self, guest: str, visit: Visit, probability: float) -> Seen:
        newest = visit.sightings[-1]
        story = self._store.story(newest)
        last = visit.end if story is None or story.sighting is None else max(visit.end, story.sighting.end)
        return Seen(guest, visit.name, newest.camera, visit.start, last, probability)

    def _mark(self, name: str) -> str:
        return mark(self._site.name, "guest", name)


def safe_of(url: str | Path) -> Safe | None:
    """Where it is kept how guests look: beside a store in SQLite; nowhere for a database."""
    return None if "://" in str(url) else Safe(Path(f"{url}.guests"))


def record(store: Store, site: str, name: str, action: str, *, who: str, kind: Kind, now: datetime) -> None:
    """Write down what was done with a consent, in the audit log, which names the guest by a hash alone."""
    accounts.record(
        store, who=who, kind=kind, action=action, site=site, detail={"guest": mark(site, "guest", name)}, now=now
    )


def _packed(look: Look) -> bytes:
    file = io.BytesIO()
    network = np.frombuffer(look.network.encode(), np.uint8)
    sides, many = look.side, np.array([look.many])
    np.savez(
        file,
        allow_pickle=False,
        network=network,
        many=many,
        means=sides.means,
        pictures=sides.pictures,
        quality=sides.quality,
    )
    return file.getvalue()


def _unpacked(content: bytes) -> Look:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        sides = Sides(file["means"], file["pictures"], file["quality"])
        return Look(file["network"].tobytes().decode(), sides, float(file["many"][0]))
