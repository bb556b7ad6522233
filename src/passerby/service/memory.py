"""What is known of the people who are inside, kept over a restart: an encrypted snapshot, and what the store has beside it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from threading import Lock
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from passerby.service.accounts import Kind
from passerby.service.privacy import erase, expire
from passerby.service.store import Erased, Store
from passerby.service.vault import Vault
from passerby.shop import Sighting, SightingKey, Visit
from passerby.site import Site
from passerby.types import Float32, PrivacyError, SightingError
from passerby.vision.associate import Associator

BEFORE = timedelta(hours=1)  # a snapshot, from which on the store's sightings are given to the associator again


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one moment: `state` without vectors, vectors (n, length) of sightings, whose they are and since when."""

    state: bytes
    vectors: Mapping[SightingKey, Float32]
    visit_of: Mapping[SightingKey, str]
    day_of: Mapping[str, date]


def snapshot_of(
    associator: Associator, lasting: Iterable[Sighting], visits: Iterable[Visit], *, at: datetime, zone: ZoneInfo
) -> Snapshot:
    """A snapshot of an associator at a time, and of the sightings that last, whose vectors it may not have yet.

    `visits` are the newest revisions of those that are not over.
    """
    state, of = associator.snapshot()
    vectors, open_ = dict(of), []
    for sighting in lasting:
        if len(sighting.prototypes):
            before = vectors.get(sighting.key)
            place = 0 if before is None else len(before)
            rows = sighting.prototypes if before is None else np.concatenate([before, sighting.prototypes])
            vectors[sighting.key] = rows
            of_pictures = [sighting.quality.tolist(), sighting.pictures.tolist(), sighting.network]
            open_.append([list(sighting.key), place, *of_pictures])
    every = list(visits)
    return Snapshot(
        json.dumps({"at": at.isoformat(), "open": open_}).encode() + b"\n" + state,
        vectors,
        {key: visit.name for visit in every for key in visit.sightings if key in vectors},
        {visit.name: visit.start.astimezone(zone).date() for visit in every},
    )


class Memory:
    """Keeps snapshots in a vault, and makes an associator go on from the last one; without a `vault` nothing is remembered.

    `say` hears, in a line, where that cannot be.
    """

    def __init__(self, store: Store, site: Site, vault: Vault | None, *, say: Callable[[str], None]) -> None:
        self.vault, self._store, self._site, self._say = vault, store, site, say
        self._lock = Lock()  # of the vault
        self._erased: set[SightingKey] = set()  # since the start: the associator may still know them
        self._loaded: tuple[bytes, dict[SightingKey, Float32]] | None = None
        if vault is not None:
            try:
                self._loaded = vault.load()
            except PrivacyError as error:
                say(f"who is inside is not known again: {error}")

    @property
    def is_full(self) -> bool:
        """Whether there is something to go on from."""
        return self._loaded is not None

    def resume(self, made: Callable[[], Associator]) -> tuple[Associator, Sequence[Visit], datetime | None]:
        """A new associator that `made` gives, which goes on where the last one was; the visits that are not over; since when.

        Where it cannot, those visits are made final in the store.
        """
        associator, loaded, self._loaded = made(), self._loaded, None
        if loaded is None:
            return associator, (), None
        _, visits = self._store.unfinished(self._site.name)
        head, _, state = loaded[0].partition(b"\n")
        try:
            header = json.loads(head)
            at = datetime.fromisoformat(header["at"])
            links = self._store.links(self._site.name, since=at - BEFORE)
            associator.restore(state, loaded[1], links=links.values(), visits=visits)
            for sighting in self._since(at - BEFORE, header["open"], loaded[1]):
                associator.take(sighting)
        except (SightingError, ValueError, KeyError) as error:
            self._say(f"who is inside is not known again: {error}")
            finalize(self._store, self._site.name)
            return made(), (), None
        return associator, visits, at

    def save(self, snapshot: Snapshot, *, today: date) -> None:
        """Keep a snapshot in place of the last one. Raises OSError where it cannot be written.

        One that knows somebody who was erased is not kept, nor any after it until that one is forgotten by himself.
        """
        with self._lock:
            if self.vault is not None and not self._erased & snapshot.vectors.keys():
                self.vault.save(
                    snapshot.state, snapshot.vectors, visit_of=snapshot.visit_of, day_of=snapshot.day_of, today=today
                )

    def expire(self, *, now: datetime) -> None:
        """Forget who left longer ago than the site keeps people, in the store and the vault."""
        with self._lock:
            expire(self._store, self._site, now=now, vault=self.vault)

    def erase(self, store: Store, site: str, visit: str, *, who: str, kind: Kind, now: datetime) -> Erased:
        """`privacy.erase`, in the vault, too."""
        with self._lock:
            gone = erase(store, site, visit, who=who, kind=kind, now=now, vault=self.vault)
            self._erased.update(gone.sightings)
        return gone

    def is_erased(self, sighting: SightingKey) -> bool:
        """Whether a sighting was erased since the start, which the associator may still know."""
        with self._lock:
            return sighting in self._erased

    def _since(
        self,
        since: datetime,
        lasted: Iterable[Any],
        vectors: Mapping[SightingKey, Float32],  # Any: JSON
    ) -> Iterator[Sighting]:
        """The store's sightings since a time; those that lasted at the snapshot have the vectors that they had then."""
        known = {SightingKey(*key): rest for key, *rest in lasted}
        for sighting in self._store.sightings(self._site.name, since=since):
            if sighting.key in known and sighting.state != "withdrawn":
                place, quality, pictures, network = known[sighting.key]
                yield replace(
                    sighting,
                    prototypes=vectors[sighting.key][place : place + len(quality)],
                    quality=np.array(quality, np.float32),
                    pictures=np.array(pictures, np.int64),
                    network=network,
                )
            else:
                yield sighting


def finalize(store: Store, site: str) -> int:
    """Make the visits final that a run left, and whom nobody follows any more; how many there were."""
    _, visits = store.unfinished(site)
    store.write(visits=[replace(visit, revision=visit.revision + 1, final=True) for visit in visits])
    return len(visits)
