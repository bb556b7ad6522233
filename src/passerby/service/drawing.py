"""Draws of the counts of a site that is served: looks now and then, in a thread of their own. No clock, no SQL."""

import logging
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from passerby.reid.calibration import Calibration
from passerby.service.analytics import stretch_end
from passerby.service.live import Phase
from passerby.service.store import StoreReader
from passerby.shop import SightingKey
from passerby.site import Site
from passerby.vision.associate import Associator
from passerby.vision.linking import Remembered
from passerby.vision.pipeline import DRAWN_EVERY
from passerby.vision.window import WINDOW_S, Drawn, Window

MOST_AN_HOUR = 1000  # sightings: some 110 arrivals in the reference shop; how good draws are was measured at 100 alone
MOST = 5000  # sightings that are remembered, for which a look has the memory
LATEST_S = 86_400.0  # after a stretch's end, when its draws have long been the same
REMEMBERED = timedelta(days=15)  # counts of stretches that began then: a week, and what comes late
NO_DRAWS = np.zeros(0, np.int64)
SHORTEST_S = 1800.0  # of a re-entry window, in which two looks and the links between them still have room

log = logging.getLogger("passerby")


class Drawing:
    """Looks every quarter of an hour of the cameras' time at what an associator remembers, and draws the counts.

    `put` gets, from the thread of a look, the draws of each hour, day and week that is over for a quarter of an hour, and was
    watched from its beginning: none that began by `after`, when the last thing was seen that an earlier run kept. Of one in
    which somebody was seen before and after that, draws that there were are taken back. `begin` starts anew, as a restart does.

    `say` hears how that is, as (phase, reason): more than `most_an_hour` sightings in an hour, or `most` that are remembered,
    are too many, and there are no draws until they are fewer. `skipped` counts looks that were due while one lasted.
    """

    def __init__(
        self,
        site: Site,
        *,
        after: datetime | None,
        put: Callable[[Sequence[Drawn]], None],
        say: Callable[[Phase, str], None],
        most_an_hour: int = MOST_AN_HOUR,
        most: int = MOST,
    ) -> None:
        self._site, self._zone, self._put, self._say = site, ZoneInfo(site.time_zone), put, say
        self._after, self._most_an_hour, self._most = after, most_an_hour, most
        reentry_s = site.reentry_h * 3600
        self._window_s = min(WINDOW_S, reentry_s / 2)
        self._every = min(DRAWN_EVERY, timedelta(seconds=reentry_s / 4))
        # From one look to the next: after that, people may have been forgotten whom no look has counted for good.
        self._longest = timedelta(seconds=reentry_s - self._window_s)
        self._calibration: Calibration | None = None
        self._window: Window | None = None
        self._looked: datetime | None = None  # up to when nobody was missed
        self._due: datetime | None = None
        self._thread: threading.Thread | None = None
        self._failed = threading.Event()
        self._stopped, self._putting = False, threading.Lock()
        self.skipped = 0
        if reentry_s < SHORTEST_S:
            say(
                "stalled",
                f"visits get no interval: they take a re-entry window of half an hour, not {site.reentry_h:g} h",
            )
        else:
            say("starting", "the first look is a quarter of an hour after the first sighting")

    def begin(self, calibration: Calibration, at: datetime | None) -> None:
        """Begin anew with an associator that is new: what began by `at` has no draws but those that there are."""
        self._calibration, self._window, self._due, self._looked = calibration, None, None, None
        self._failed.clear()
        if at is not None:
            self._after = at if self._after is None else max(self._after, at)

    def look(self, associator: Associator, at: datetime) -> None:
        """Look, if it is time to; returns before the look is over."""
        if self._calibration is None or self._site.reentry_h * 3600 < SHORTEST_S:
            return
        try:
            self._look_at(associator, at)
        except Exception as error:  # a fault of ours: whoever asks goes on
            self._fail(error)

    def _look_at(self, associator: Associator, at: datetime) -> None:
        assert self._calibration is not None
        if self._looked is None or self._due is None:
            self._looked, self._due = at, at + self._every
        if self._failed.is_set() or at - self._looked >= self._longest:
            self.begin(self._calibration, at)
            return
        if at < self._due:
            return
        self._due = at + self._every
        if self._thread is not None and self._thread.is_alive():
            self.skipped += 1
            return
        if associator.sightings > self._most:
            self._off(f"{associator.sightings:,} sightings are remembered, more than {self._most:,}", at)
            return
        window = self._window or Window(
            site=self._site.name,
            calibration=self._calibration,
            time_zone=self._site.time_zone,
            window_s=self._window_s,
        )
        known = associator.remembered(since_s=window.since_s)
        lately = int((known.start_s > known.looked_s - 3600).sum())
        if lately > self._most_an_hour:
            self._off(f"{lately:,} sightings in an hour, more than {self._most_an_hour:,}", at)
            return
        self._window, self._looked = window, at
        self._thread = threading.Thread(target=self._draw, args=(window, known, self._after), name="draws", daemon=True)
        self._thread.start()

    def wait(self, *, timeout_s: float) -> bool:
        """Whether the look that lasts, if any, is over within that time."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def stop(self) -> None:
        """The end: a look that lasts is not waited for, and puts nothing any more."""
        with self._putting:
            self._stopped = True

    def _off(self, reason: str, at: datetime) -> None:
        assert self._calibration is not None
        self._say("stalled", f"visits get no interval until there are fewer people: {reason}")
        self.begin(self._calibration, at)

    def _draw(self, window: Window, known: Remembered, after: datetime | None) -> None:
        """One look; in a thread."""
        try:
            window.look(known)
            found = list(self._told(window.counts(), known, after))
            with self._putting:
                if found and not self._stopped:
                    self._put(found)
            looked = datetime.fromtimestamp(known.looked_s, self._zone)
            window.forget(looked - REMEMBERED)
            self._say("live", "draws the counts every quarter of an hour")
        except Exception as error:  # a fault of ours: counts go on without an interval
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        log.exception("draws: a look failed; they begin anew")
        self._failed.set()
        self._say("stalled", f"visits get no interval: {type(error).__name__}: {error}; draws begin anew")

    def _told(self, rows: Sequence[Drawn], known: Remembered, after: datetime | None) -> Iterator[Drawn]:
        """What is to be kept of a look: stretches that are over and were watched in whole; others are taken back."""
        for row in rows:
            end_s = stretch_end(row.start, row.length, self._zone).timestamp()
            since_s = known.looked_s - end_s
            if after is None or row.start > after:
                if self._every.total_seconds() <= since_s < LATEST_S:
                    yield row
            elif ((known.start_s > after.timestamp()) & (known.start_s < end_s)).any():
                yield replace(row, values=NO_DRAWS)


def whole(store: StoreReader, site: Site, draws: Sequence[Drawn], *, seen: Container[SightingKey]) -> list[Drawn]:
    """Draws of recordings as they are to be kept: of stretches in which the store has no other sightings than those `seen`.

    Of the others, draws that there are lack somebody, too: they are taken back.
    """
    zone, found = ZoneInfo(site.time_zone), []
    for row in draws:
        there = store.sightings(site.name, since=row.start, until=stretch_end(row.start, row.length, zone))
        found.append(row if all(each.key in seen for each in there) else replace(row, values=NO_DRAWS))
    return found
