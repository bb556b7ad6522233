"""What the vision worker says, made of it: visits by the associator, what is kept, what is shown. No clock, no SQL."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from threading import RLock
from zoneinfo import ZoneInfo

from passerby.reid.calibration import Calibration
from passerby.reid.inference import threshold_of
from passerby.service.alarms import Alarms
from passerby.service.drawing import Drawing
from passerby.service.ledger import Ledger
from passerby.service.live import CameraState, Live, Phase
from passerby.service.lookup import Looks
from passerby.service.memory import Memory, Snapshot, snapshot_of
from passerby.service.outages import Outages
from passerby.shop import Sighting, SightingKey, Visit
from passerby.site import Site
from passerby.vision.associate import Associator, Changes
from passerby.vision.pipeline import associator_of
from passerby.vision.worker import Made, Message, Opened, Shown, Watching

SET_BACK = timedelta(minutes=1)  # from which on a step back of the cameras' time begins a new association
STEP, MOST_STEPS = timedelta(minutes=1), 2000  # of time, where it jumps ahead
LATE = timedelta(seconds=15)  # after which all that came has been looked at
IDLE_S = 10.0  # without anything new, after which the cameras' time is taken to go on
PHASES: dict[str, Phase] = {"connecting": "starting", "live": "live", "stalled": "stalled", "failed": "failed"}

log = logging.getLogger("passerby")


class Following:
    """Takes what the vision worker says; `say` hears how the associator is, as (phase, reason)."""

    def __init__(
        self,
        site: Site,
        *,
        live: Live,
        ledger: Ledger,
        outages: Outages,
        alarms: Alarms,
        memory: Memory,
        drawing: Drawing | None = None,
        say: Callable[[Phase, str], None],
    ) -> None:
        self._site, self._live, self._ledger, self._outages, self._say = site, live, ledger, outages, say
        self._alarms, self._memory, self._drawing = alarms, memory, drawing
        self._lock = RLock()  # of the associator: who searches asks from another thread
        self._calibration: Calibration | None = None
        self._network = ""
        self._associator: Associator | None = None
        self._open: dict[SightingKey, Sighting] = {}  # the newest revision of each that lasts
        self._visits: dict[str, Visit] = {}  # and of each visit that is not final
        self._states: dict[str, CameraState] = {}
        self._advanced: datetime | None = None  # up to when the associator has looked
        self._at: datetime | None = None  # the cameras' time,
        self._at_s = self._idled_s = 0.0  # when it was told, and when it was last taken to go on
        say("starting", "waits for the vision worker")

    def take(self, message: Message, *, now: datetime, now_s: float) -> None:
        """Take in a message of the worker; `now_s` is of a clock that never jumps."""
        if isinstance(message, Made):
            self._made(message, now_s)
        elif isinstance(message, Shown):
            self._live.show(message.camera, message.jpeg, message.at)
        elif isinstance(message, Opened):
            if message.network != self._network or self._associator is None:
                self._calibration, self._network = message.calibration, message.network
                self._begin()
        elif isinstance(message, tuple):
            self._see([self._state(each, now) for each in message], now)
            faults = [(each.state.camera, each.fault) for each in message]
            self._outages.look({name: None if each is None else (each.kind, each.reason) for name, each in faults}, now)
            there = self._live.now()
            self._alarms.see(now, inside=there.occupancy, zones=there.zones, waiting_s=self._waiting_s())

    def idle(self, *, now_s: float) -> None:
        """Let the cameras' time go on where nothing new has come for a while: visits end all the same."""
        if self._at is not None and now_s - max(self._at_s, self._idled_s) >= IDLE_S:
            self._idled_s = now_s
            self._associate((), self._at + timedelta(seconds=now_s - self._at_s))

    def lose(self, phase: Phase, reason: str, *, now: datetime) -> None:
        """The worker is gone: whom it saw is seen no more, and no camera is watched."""
        gone = [closed(sighting) for sighting in self._open.values()]
        if gone and self._at is not None:
            self._associate(gone, self._at)
        self._open.clear()
        self._see(
            [
                self._changed(replace(state, phase=phase, reason=reason, rate=0.0, lag_s=None), now)
                for state in self._states.values()
            ],
            now,
        )

    def finish(self) -> None:
        """The end: all that is open is looked at for the last time, and every visit is final."""
        if self._associator is not None:
            try:
                with self._lock:
                    self._tell((), self._associator.finish())
            except Exception:
                log.exception("associator: visits could not be made final")
            self._abandon()

    def pause(self) -> None:
        """The end of this run: what has come is looked at; a snapshot then says from where the next run goes on."""
        if self._at is not None:
            self._associate((), self._at + LATE)

    def looks(self) -> Looks | None:
        """How those look who are remembered and not erased; None before the cameras' networks are opened. From any thread."""
        with self._lock:
            if self._associator is None or self._calibration is None:
                return None
            people, sides, many = self._associator.looks()
            there = [
                (place, visit) for place, (key, visit) in enumerate(people) if visit and not self._memory.is_erased(key)
            ]
            places = [place for place, _ in there]
            visits = tuple(visit for _, visit in there)
            return Looks(self._network, self._calibration, visits, sides.take(places), many[places])

    def snapshot(self) -> Snapshot | None:
        """What is known now, for the next run; None where there is nothing yet, or where it fails."""
        if self._associator is None or self._at is None:
            return None
        zone = ZoneInfo(self._site.time_zone)
        try:
            return snapshot_of(self._associator, self._open.values(), self._visits.values(), at=self._at, zone=zone)
        except Exception:
            log.exception("associator: no snapshot could be made")
            return None

    def _made(self, made: Made, now_s: float) -> None:
        if self._at is not None and made.at < self._at - SET_BACK:
            log.warning("the cameras' time went back from %s to %s; visits begin anew", self._at, made.at)
            self.finish()
        for sighting in made.sightings:
            if sighting.state == "open":
                self._open[sighting.key] = sighting
            else:
                self._open.pop(sighting.key, None)
        self._at, self._at_s = made.at, now_s
        self._associate(made.sightings, made.at)

    def _associate(self, sightings: Sequence[Sighting], at: datetime) -> None:
        changes = Changes()
        if self._associator is not None:
            try:
                with self._lock:
                    for sighting in sightings:
                        self._associator.take(sighting)
                    for then in self._steps(at):
                        self._tell((), self._associator.advance(then))
                    changes = self._associator.advance(at)
                if self._drawing is not None:
                    self._drawing.look(self._associator, at)
                off = [
                    f"the clock of {name} is {s:+.0f} s off, corrected" for name, s in self._associator.ahead_s.items()
                ]
                self._say("live", "; ".join(["links sightings to visits", *off]))
            except Exception as error:  # a fault of ours: counting goes on, and visits begin anew
                log.exception("associator: failed, and begins anew")
                self._abandon()
                self._say("failed", f"{type(error).__name__}: {error}; visits begin anew")
        self._tell(sightings, changes)

    def _steps(self, at: datetime) -> Iterator[datetime]:
        """The times on the way to a time that is far ahead, as after a night: who has left is forgotten one after the other."""
        before, self._advanced = self._advanced or at, at
        step = max(STEP, (at - before) / MOST_STEPS)
        while at - before > step:
            before += step
            yield before

    def _tell(self, sightings: Sequence[Sighting], changes: Changes) -> None:
        for visit in changes.visits:
            if visit.final or not visit.sightings:
                self._visits.pop(visit.name, None)
            else:
                self._visits[visit.name] = visit
        if sightings or changes.links or changes.visits or changes.unlinked:
            self._ledger.add(sightings, changes)

    def _begin(self) -> None:
        """A new associator; the first one goes on where that of the last run was."""
        self._associator, visits, self._advanced = self._memory.resume(self._made_associator)
        self._visits = {visit.name: visit for visit in visits}
        self._begin_draws()

    def _abandon(self) -> None:
        """A new associator, which knows nobody: the visits that were not over are final, as they stand."""
        final = [replace(visit, revision=visit.revision + 1, final=True) for visit in self._visits.values()]
        self._tell((), Changes(visits=tuple(final)))
        self._associator, self._advanced = self._made_associator(), None
        self._begin_draws()

    def _begin_draws(self) -> None:
        assert self._calibration is not None
        if self._drawing is not None:
            self._drawing.begin(self._calibration, self._at)

    def _made_associator(self) -> Associator:
        assert self._calibration is not None
        threshold = threshold_of(None, self._site.mode)
        return associator_of(
            self._site, calibration=self._calibration, threshold=threshold, for_draws=self._drawing is not None
        )

    def _waiting_s(self) -> dict[str, float]:
        """How long whoever is in a zone longest has been there, in seconds."""
        longest: dict[str, float] = {}
        for sighting in self._open.values():
            for stay in sighting.stays:
                if stay.end is None:
                    waited_s = (sighting.end - stay.start).total_seconds()
                    longest[stay.zone] = max(waited_s, longest.get(stay.zone, 0.0))
        return longest

    def _state(self, watching: Watching, now: datetime) -> CameraState:
        state = watching.state
        return self._changed(
            CameraState(
                camera=state.camera,
                phase=PHASES[state.phase],
                reason=state.reason if watching.fault is None else watching.fault.reason,
                since=now,
                newest=state.newest,
                rate=watching.rate,
                lag_s=watching.lag_s,
                frames=state.frames,
                dropped=state.dropped,
                skipped=state.skipped,
                reconnects=state.reconnects,
            ),
            now,
        )

    def _changed(self, state: CameraState, now: datetime) -> CameraState:
        """A state with the time since when the camera is in its phase."""
        known = self._states.get(state.camera)
        return replace(state, since=known.since if known is not None and known.phase == state.phase else now)

    def _see(self, states: Sequence[CameraState], now: datetime) -> None:
        self._states |= {state.camera: state for state in states}
        self._live.cameras(states)
        self._outages.see(states, now)


def closed(sighting: Sighting) -> Sighting:
    """The next revision of an open sighting whose end nobody saw: it ends, and its stays, when it was last seen."""
    stays = tuple(stay if stay.end is not None else replace(stay, end=sighting.end) for stay in sighting.stays)
    return replace(sighting, revision=sighting.revision + 1, state="closed", stays=stays)
