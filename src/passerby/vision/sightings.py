"""A track's revisions: a sighting opened, refreshed while the track lasts, closed, or withdrawn; one instance a camera."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from passerby.shop import NO_POINTS, THINNED_S, Line, Point, Sighting, SightingKey, State, Zone
from passerby.types import Float32
from passerby.vision.crops import Album
from passerby.vision.presence import Presence

REFRESH_S = 2.0  # at most this often is a sighting refreshed while it lasts
SURE = 0.5  # the score that some moment of a track reaches, if it is somebody
SHORTEST_S = 1.0  # a track that lasts less was nobody,
HURRY_S = 0.4  # unless it crossed a line
SEEN = 0.4  # the part of a person that some moment of a track shows; what stays behind others all the time is a part of them
FLOOR_M = 0.15  # how far off feet on the floor may be,
PICTURE = 0.12  # and in the picture, in heights of the box
BROKE_S = 1.5  # a track that begins so soon after another one was last seen,
NEAR_M, NEAR = 1.2, 0.15  # and so near to it, on the floor or in the picture, goes on with it over a line
SMOOTH = 0.5  # how much a new score moves the running mean of a track's scores


@dataclass(slots=True)
class Watched:
    """A track while it is watched: where it was, what it looked like, how sure the detector was of it."""

    start: datetime
    end: datetime
    on_picture: Presence
    on_floor: Presence
    album: Album = field(default_factory=Album)
    path: list[tuple[float, float, float]] = field(default_factory=list)
    score: float = 0.0  # a running mean of its scores,
    surest: float = 0.0  # and the highest that it was
    seen: float = 0.0  # the most of the person that was visible
    revision: int = 0
    feet: tuple[Point, Point | None] = ((0.0, 0.0), None)  # where they were last seen, in the picture and on the floor
    told: datetime | None = None  # up to when the rest of the system knows it


class Sightings:
    """The sightings of one camera's tracks.

    `see` is called for each track seen in a frame, `end` for each that the tracker gave up; `revisions` gives what is to be
    told. A track becomes a sighting once it has lasted `shortest_s` or crossed a line, its score was `sure`, and some of it
    was seen with nobody before it; one that never does is not told of. `on_floor` says that feet are known in metres: then
    paths are, too.
    """

    def __init__(
        self,
        *,
        site: str,
        camera: str,
        session: str,
        network: str = "",
        zones: Sequence[Zone] = (),
        lines: Sequence[Line] = (),
        on_floor: bool = False,
        refresh_s: float = REFRESH_S,
        sure: float = SURE,
        shortest_s: float = SHORTEST_S,
    ) -> None:
        self.site, self.camera, self.session, self.network = site, camera, session, network
        self.zones, self.lines, self.on_floor = zones, lines, on_floor
        self.refresh, self.sure, self.shortest = timedelta(seconds=refresh_s), sure, timedelta(seconds=shortest_s)
        self._tracks: dict[int, Watched] = {}
        self._ended: list[int] = []
        self._lost: list[tuple[datetime, Point, Point | None]] = []  # when and where ended tracks were last seen

    def __getitem__(self, track: int) -> Watched:
        """What is known of a track that lasts."""
        return self._tracks[track]

    def see(
        self,
        track: int,
        time: datetime,
        *,
        score: float,
        seen: float,
        picture: Point,
        height: float,
        floor: Point | None = None,
    ) -> Watched:
        """A track was seen: where its feet were, in fractions of the `picture` and, where that is known, on the `floor`.

        `seen` is the part of it that is visible, `height` that of its box as a fraction of the picture's.
        """
        watched = self._tracks.get(track)
        if watched is None:
            watched = Watched(time, time, self._presence(on_floor=False), self._presence(on_floor=True), score=score)
            self._go_on(watched, time, picture, floor)
            self._tracks[track] = watched
        watched.end = max(watched.end, time)
        watched.score += SMOOTH * (score - watched.score)
        watched.seen = max(watched.seen, seen)
        watched.surest = max(watched.surest, watched.score)
        watched.feet = picture, floor
        x, y = (min(max(value, 0.0), 1.0) for value in picture)
        watched.on_picture.see(time, (x, y), slack=PICTURE * height)
        if floor is not None:
            watched.on_floor.see(time, floor, slack=FLOOR_M)
        place = floor if self.on_floor else (x, y)
        seconds = (time - watched.start).total_seconds()
        if place is not None and (not watched.path or seconds - watched.path[-1][0] >= THINNED_S):
            watched.path.append((seconds, *place))
        return watched

    def end(self, track: int) -> None:
        """The tracker gave a track up: its sighting is closed with the next `revisions`."""
        self._ended.append(track)

    def revisions(self, now: datetime) -> Iterator[Sighting]:
        """What has become known by `now`, the time of a frame: sightings opened, refreshed, closed and withdrawn."""
        for number in self._ended:
            watched = self._tracks.pop(number)
            self._lost.append((watched.end, *watched.feet))
            if self._somebody(watched):
                yield self._revision(number, watched, "closed", now)
            elif watched.revision:
                yield self._revision(number, watched, "withdrawn", now)
        self._ended = []
        self._lost = [each for each in self._lost if (now - each[0]).total_seconds() <= 2 * BROKE_S]
        for number, watched in self._tracks.items():
            if self._somebody(watched) and (watched.told is None or now - watched.told >= self.refresh):
                yield self._revision(number, watched, "open", now)

    def _go_on(self, watched: Watched, time: datetime, picture: Point, floor: Point | None) -> None:
        """Let a new track go on from where one was lost just before, near by: it may have crossed a line in between."""
        lost = [*self._lost, *((other.end, *other.feet) for other in self._tracks.values())]
        near = []
        for when, its_picture, its_floor in lost:
            if 0 < (time - when).total_seconds() <= BROKE_S:
                if floor is not None and its_floor is not None:
                    off = math.dist(floor, its_floor) / NEAR_M
                else:
                    off = math.dist(picture, its_picture) / NEAR
                if off <= 1:
                    near.append((off, when, its_picture, its_floor))
        if near:
            _, when, its_picture, its_floor = min(near, key=lambda each: each[0])
            watched.on_picture.after(when, its_picture)
            if its_floor is not None:
                watched.on_floor.after(when, its_floor)

    def _presence(self, *, on_floor: bool) -> Presence:
        return Presence(
            [zone for zone in self.zones if (zone.camera is None) == on_floor],
            [line for line in self.lines if (line.camera is None) == on_floor],
        )

    def _somebody(self, watched: Watched) -> bool:
        if watched.surest < self.sure or watched.seen < SEEN:
            return False
        lasted = watched.end - watched.start
        if lasted >= self.shortest:
            return True
        crossed = watched.on_picture.crossings(ended=True) + watched.on_floor.crossings(ended=True)
        return lasted.total_seconds() >= HURRY_S and bool(crossed)

    def _revision(self, number: int, watched: Watched, state: State, now: datetime) -> Sighting:
        watched.revision += 1
        watched.told = now
        over, album = state != "open", watched.album
        stays = watched.on_picture.stays(ended=over) + watched.on_floor.stays(ended=over)
        crossings = watched.on_picture.crossings(ended=over) + watched.on_floor.crossings(ended=over)
        none = np.zeros((0, 0 if album.vectors is None else album.vectors.shape[1]), np.float32)
        vectors: Float32 = none if album.vectors is None else album.vectors
        return Sighting(
            SightingKey(self.site, self.camera, self.session, number),
            watched.revision,
            state,
            watched.start,
            watched.end,
            vectors,
            album.quality,
            album.pictures,
            self.network if len(vectors) else "",
            tuple(sorted(stays, key=lambda stay: (stay.start, stay.zone))),
            tuple(sorted(crossings, key=lambda crossing: (crossing.at, crossing.line))),
            np.array(watched.path, np.float32) if watched.path else NO_POINTS,
            "floor" if self.on_floor else "picture",
        )
