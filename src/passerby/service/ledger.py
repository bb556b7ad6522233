"""What is to be kept in a store, written by one thread; it waits, within bounds, while the store cannot be written to."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from passerby.service.kept import Closing, Gap, QueueEvent, put_closings, put_draws, put_gaps, put_queue_events
from passerby.service.store import Store
from passerby.shop import Link, Sighting, SightingKey, Visit
from passerby.types import StoreError
from passerby.vision.associate import Changes
from passerby.vision.window import Drawn

TOGETHER_S = 0.5  # what comes within it is written at once: each writing waits for the disk
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 15.0  # between two tries to write, doubled from the one to the other
MOST = 50_000  # sightings that may wait, about 100 MB with their embeddings: a busy day of a shop

log = logging.getLogger("passerby")


@dataclass(slots=True)
class Batch:
    """What waits to be kept, of each record the newest revision."""

    sightings: dict[SightingKey, Sighting] = field(default_factory=dict)
    links: dict[SightingKey, Link] = field(default_factory=dict)  # by the later sighting
    visits: dict[str, Visit] = field(default_factory=dict)
    unlinked: set[SightingKey] = field(default_factory=set)  # later sightings of links taken back
    gaps: dict[tuple[str, datetime], Gap] = field(default_factory=dict)
    closings: list[Closing] = field(default_factory=list)
    queues: dict[tuple[str, datetime, str], QueueEvent] = field(default_factory=dict)
    draws: dict[tuple[datetime, str, str], Drawn] = field(default_factory=dict)

    def __len__(self) -> int:
        beside = len(self.gaps) + len(self.closings) + len(self.queues) + len(self.draws)
        return len(self.sightings) + len(self.links) + len(self.visits) + beside

    def take(self, sightings: Sequence[Sighting], changes: Changes) -> None:
        """Take in what has become known."""
        for sighting in sightings:
            known = self.sightings.get(sighting.key)
            if known is None or known.revision < sighting.revision:
                self.sightings[sighting.key] = sighting
        for link in changes.links:
            self.links[link.later] = link
            self.unlinked.discard(link.later)
        self.unlinked.update(changes.unlinked)
        self.visits.update({visit.name: visit for visit in changes.visits})

    def over(self, later: "Batch") -> "Batch":
        """This one, which could not be written, with what came in the meantime."""
        self.take(list(later.sightings.values()), later.changes())
        self.gaps.update(later.gaps)
        self.closings += later.closings
        self.queues.update(later.queues)
        self.draws.update(later.draws)
        return self

    def changes(self) -> Changes:
        """Its links and visits, as the associator tells them."""
        return Changes(tuple(self.links.values()), tuple(self.visits.values()), tuple(sorted(self.unlinked)))


class Ledger:
    """Writes to a store what `add` and `note` are given, in a thread of its own, from `start` to `close`.

    `told` is called once the store has acknowledged sightings and changes. While it cannot be written to (a full disk,
    another process), everything waits and is tried again; `said` hears why, and None when it goes on. At most `most` sightings
    wait; those that come on top are lost, and `lost` counts them.
    """

    def __init__(
        self,
        store: Store,
        *,
        site: str,
        told: Callable[[Sequence[Sighting], Changes], None] = lambda sightings, changes: None,
        said: Callable[[str | None], None] = lambda reason: None,
        most: int = MOST,
        wait_scale: float = 1.0,
    ) -> None:
        self._store, self._site, self._told, self._said = store, site, told, said
        self._most, self._wait_scale = most, wait_scale
        self.lost = 0
        self.failing: str | None = None  # why nothing can be written now
        self._batch = Batch()
        self._writing = 0  # sightings that are being written
        self._added = self._kept = 0  # how often something was added, and how much of that is acknowledged
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def add(self, sightings: Sequence[Sighting], changes: Changes) -> None:
        """Keep what has become known; returns at once."""
        with self._changed:
            room = self._most - self._writing - len(self._batch.sightings)
            taken = []
            for sighting in sightings:
                known = sighting.key in self._batch.sightings
                if known or room > 0:
                    taken.append(sighting)
                    room -= not known
            self.lost += len(sightings) - len(taken)
            self._added += 1
            self._batch.take(taken, changes)
            self._changed.notify_all()

    def note(
        self,
        *,
        gaps: Sequence[Gap] = (),
        closings: Sequence[Closing] = (),
        queues: Sequence[QueueEvent] = (),
        draws: Sequence[Drawn] = (),
    ) -> None:
        """Keep gaps, closings, what happened at queues, and draws of counts; returns at once."""
        with self._changed:
            self._batch.gaps.update({(gap.camera, gap.start): gap for gap in gaps})
            self._batch.closings += closings
            self._batch.queues.update({(event.zone, event.start, event.kind): event for event in queues})
            self._batch.draws.update({(drawn.start, drawn.length, drawn.what): drawn for drawn in draws})
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many sightings are not acknowledged yet."""
        with self._changed:
            return self._writing + len(self._batch.sightings)

    @property
    def added(self) -> int:
        """How often something was added: `kept` says when all of that is acknowledged."""
        with self._changed:
            return self._added

    def kept(self, added: int, *, timeout_s: float) -> bool:
        """Whether all that was added up to then is acknowledged within that time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._kept >= added, timeout_s)

    def close(self, *, timeout_s: float) -> bool:
        """Write what waits, and end; whether all was acknowledged within that time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._batch

    def _run(self) -> None:
        tries = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or len(self._batch))
                if not self._closing:
                    pause_s = TOGETHER_S if not tries else min(FIRST_WAIT_S * 2 ** min(tries - 1, 10), LONGEST_WAIT_S)
                    self._changed.wait_for(lambda: self._closing, pause_s * self._wait_scale)
                last = self._closing
                batch, self._batch = self._batch, Batch()
                self._writing, added = len(batch.sightings), self._added
            error = self._failure(batch)
            with self._changed:
                self._writing = 0
                if error is not None:
                    self._batch = batch.over(self._batch)
                else:
                    self._kept = added
                    self._changed.notify_all()
            if error is not None:
                tries, self.failing = tries + 1, error
                self._said(self._reason(error))
                if last:
                    return
                continue
            if tries:
                tries, self.failing = 0, None
                self._said(None)
            self._tell(batch)
            if last and not len(self._batch):
                return

    def _failure(self, batch: Batch) -> str | None:
        """Write a batch, or say why it could not be written."""
        try:
            self._write(batch)
        except StoreError as error:
            return str(error)
        except Exception as error:  # a fault of ours: what waits is not given up for it
            log.exception("store: a batch could not be written")
            return f"{type(error).__name__}: {error}"
        return None

    def _tell(self, batch: Batch) -> None:
        if batch.sightings or batch.links or batch.visits or batch.unlinked:
            try:
                self._told(list(batch.sightings.values()), batch.changes())
            except Exception:  # whoever listens must not stop the writing
                log.exception("store: what was kept could not be told")

    def _write(self, batch: Batch) -> None:
        if batch.sightings or batch.links or batch.visits:
            self._store.write(
                sightings=batch.sightings.values(), links=batch.links.values(), visits=batch.visits.values()
            )
        if batch.gaps:
            put_gaps(self._store, self._site, list(batch.gaps.values()))
        if batch.closings:
            put_closings(self._store, self._site, batch.closings)
        if batch.queues:
            put_queue_events(self._store, self._site, list(batch.queues.values()))
        if batch.draws:
            put_draws(self._store, self._site, list(batch.draws.values()))

    def _reason(self, error: str) -> str:
        waiting = self.waiting
        lost = f"; {self.lost} more were lost" if self.lost else ""
        return f"{error}; {waiting} sightings wait in memory and are tried again{lost}"
