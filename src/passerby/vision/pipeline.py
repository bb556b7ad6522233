"""From frames to visits: one camera's stages, and all cameras together; composition only."""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from passerby.files import file_hash, settings_hash, write_text
from passerby.reid.calibration import Calibration
from passerby.reid.embedder import Embedder
from passerby.shop import Detections, Frame, Link, Point, Sighting, SightingKey, Visit, Zone, current
from passerby.site import Camera, Site
from passerby.types import Float32, SightingError
from passerby.vision.associate import Associator, Changes
from passerby.vision.crops import Album, Crop, looks_of, visible
from passerby.vision.detect import Detector
from passerby.vision.floor import Plane, Pose, Projection, contains
from passerby.vision.parquet import (
    SightingWriter,
    count_sightings,
    read_sightings,
    write_draws,
    write_links,
    write_visits,
)
from passerby.vision.sightings import Sightings
from passerby.vision.stillness import StillSpots
from passerby.vision.track import Tracked, Tracker
from passerby.vision.video import Reading, frames
from passerby.vision.visits import VisitRow, visit_rows
from passerby.vision.window import Window

AT_EDGE = 0.01  # of the picture's height: a box that ends so near to the lower edge has its feet below it
NO_VECTORS, NO_QUALITY = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
NO_PICTURES = np.zeros(0, np.int64)
GAP_S = 0.8  # a track that is lost for longer ends: whether it goes on is the associator's to say, with how probable that is
GONE_S = 5.0  # a camera without a frame for so long, while others have some, sees nobody any more
DRAWN_EVERY = timedelta(minutes=15)  # of the sightings' time, from one look of a window to the next
SHOWN_EVERY = 200  # revisions, from one step of a progress bar to the next
LOOKS = "osnet_x0_25"  # what tells people of one camera apart, where their boxes are near
TALL_M = 1.7  # where feet are out of the picture, a person is taken to be so tall


@dataclass(frozen=True, slots=True)
class Due:
    """A crop to be embedded, and the album of the track that it belongs to."""

    album: Album
    crop: Crop


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in one frame: every box, and those that are of a track."""

    frame: Frame
    found: Detections
    tracks: tuple[Tracked, ...]


class CameraLine:
    """One camera's stages behind the detector: still spots, tracks, crops, presence, sightings.

    `look` takes in a frame with its detections and gives the crops to embed; once their vectors are in their albums,
    `revisions` gives the sightings that have become known. `looks` is the network that the tracker asks where boxes are
    ambiguous, `embedder` the one whose vectors sightings carry.
    """

    def __init__(self, site: Site, camera: Camera, *, session: str, embedder: Embedder, looks: Embedder) -> None:
        self.name, self._camera, self._looks = camera.name, camera, looks
        self._spots, self._tracker = StillSpots(), Tracker(max_gap_s=GAP_S)
        self._masks = [Zone("mask", mask, camera=camera.name) for mask in camera.masks]
        self._floor: Projection | Plane | None = None
        self._size: tuple[int, ...] = ()
        self.sightings = Sightings(
            site=site.name,
            camera=camera.name,
            session=session,
            network=f"{embedder.file_sha256}:{embedder.precision}",
            zones=site.zones_of(camera),
            lines=site.lines_of(camera),
            on_floor=camera.on_floor,
        )

    def look(self, frame: Frame, found: Detections) -> tuple[list[Due], list[Tracked]]:
        """Take in a frame: the crops that are due, and the tracks seen in it."""
        if frame.picture.shape != self._size:
            self._size = frame.picture.shape
            self._floor = floor_of(self._camera, width=self._size[1], height=self._size[0])
        found = self._unmasked(self._spots(frame.time, found))
        seen, ended = self._tracker.update(
            frame.time, found, embed=lambda rows: looks_of(self._looks, frame.picture, found.boxes_xyxy[list(rows)])
        )
        shown = visible(found.boxes_xyxy, (self._size[0], self._size[1]))
        due = []
        for one in seen:
            for time, box, score in (*one.before, (frame.time, one.box_xyxy, one.score)):
                picture, floor = self._feet(box)
                height = float(box[3] - box[1]) / self._size[0]
                watched = self.sightings.see(
                    one.track,
                    time,
                    score=score,
                    seen=0.0 if time < frame.time else float(shown[one.row]),
                    picture=picture,
                    height=height,
                    floor=floor,
                )
            crop = watched.album.offer(
                frame.time, frame.picture, one.box_xyxy, score=one.score, seen=float(shown[one.row])
            )
            if crop is not None:
                due.append(Due(watched.album, crop))
        return due + self._over(ended), seen

    def finish(self) -> list[Due]:
        """The end of a recording: every track has ended."""
        return self._over(self._tracker.finish())

    def _over(self, ended: Iterable[int]) -> list[Due]:
        due = []
        for track in ended:
            album = self.sightings[track].album
            if (crop := album.rest()) is not None:
                due.append(Due(album, crop))
            self.sightings.end(track)
        return due

    def _unmasked(self, found: Detections) -> Detections:
        if not self._masks or not len(found):
            return found
        feet = [self._fractions(box) for box in found.boxes_xyxy]
        kept = [not any(contains(mask, point) for mask in self._masks) for point in feet]
        return Detections(found.boxes_xyxy[kept], found.scores[kept])

    def _fractions(self, box: Float32) -> Point:
        """Where a box's feet are, in fractions of the picture."""
        return float(box[0] + box[2]) / 2 / self._size[1], float(box[3]) / self._size[0]

    def _feet(self, box: Float32) -> tuple[Point, Point | None]:
        """Where a box's feet are: in fractions of the picture, and on the floor where that is known.

        Feet below the lower edge are found from the head, where the camera's mount is known.
        """
        height, width = self._size[:2]
        picture = self._fractions(box)
        if isinstance(self._floor, Projection):
            if box[3] > (1 - AT_EDGE) * height and box[1] > AT_EDGE * height:
                place = self._floor.floor(np.array([[picture[0] * width, float(box[1])]]), height_m=TALL_M)[0]
            else:
                place = self._floor.floor(np.array([[picture[0] * width, float(box[3])]]))[0]
        elif self._floor is not None:
            place = self._floor.floor(np.array([picture]))[0]
        else:
            return picture, None
        return picture, (float(place[0]), float(place[1])) if np.isfinite(place).all() else None


def floor_of(camera: Camera, *, width: int, height: int) -> Projection | Plane | None:
    """What ties a camera's picture to the floor, for pictures of that size; None where nothing does."""
    if camera.mount is not None:
        mount = camera.mount
        return Projection(
            Pose(mount.position, mount.height_m, mount.heading_deg, mount.tilt_deg, mount.fov_deg, width, height)
        )
    if camera.floor_points:
        return Plane(
            np.array([point.picture for point in camera.floor_points]),
            np.array([point.floor for point in camera.floor_points]),
        )
    return None


class Line:
    """All cameras of a site: frames in, sightings out, with the detector and the embedder batched over all of them.

    `looks` is the network that the trackers ask, a small one where there is one; `embedder` does without it.
    """

    def __init__(
        self,
        site: Site,
        *,
        detector: Detector,
        embedder: Embedder,
        sessions: dict[str, str],
        looks: Embedder | None = None,
    ) -> None:
        self._detector, self._embedder = detector, embedder
        self._last: dict[str, datetime] = {}  # the newest frame of each camera whose tracks may last
        self.cameras = {
            camera.name: CameraLine(
                site, camera, session=sessions[camera.name], embedder=embedder, looks=looks or embedder
            )
            for camera in site.cameras
        }

    def look(self, frames: Sequence[Frame]) -> tuple[list[Sighting], list[Seen]]:
        """Take in frames of different cameras: the revisions of sightings, and what was seen in each frame."""
        due, seen = [], []
        for frame, found in zip(frames, self._detector([frame.picture for frame in frames]), strict=True):
            crops, tracks = self.cameras[frame.camera].look(frame, found)
            due += crops
            seen.append(Seen(frame, found, tuple(tracks)))
            self._last[frame.camera] = frame.time
        now = max(self._last.values())
        gone = [name for name, last in self._last.items() if (now - last).total_seconds() > GONE_S]
        due += [each for name in gone for each in self.cameras[name].finish()]
        self._embed(due)
        looked = [*(frame.camera for frame in frames), *gone]
        made = [r for name in looked for r in self.cameras[name].sightings.revisions(self._last[name])]
        for name in gone:
            del self._last[name]
        return made, seen

    def finish(self) -> list[Sighting]:
        """The end: every track has ended."""
        self._embed([due for camera in self.cameras.values() for due in camera.finish()])
        return [r for name, last in self._last.items() for r in self.cameras[name].sightings.revisions(last)]

    def _embed(self, due: Sequence[Due]) -> None:
        if due:
            vectors = self._embedder.embed_arrays([each.crop.picture for each in due])
            for each, vector in zip(due, vectors, strict=True):
                each.album.add(vector, each.crop)


def together(sources: Sequence[Iterator[Frame]]) -> Iterator[list[Frame]]:
    """The frames of several sources in order of time, in batches with one frame of a camera at most.

    >>> from datetime import UTC, datetime, timedelta
    >>> black, start = np.zeros((2, 2, 3), np.uint8), datetime(2026, 3, 2, tzinfo=UTC)
    >>> def filmed(camera, *seconds):
    ...     return iter([Frame(camera, start + timedelta(seconds=s), black) for s in seconds])
    >>> batches = together([filmed("a", 0, 1, 2), filmed("b", 0.5, 2.5)])
    >>> [[frame.camera for frame in batch] for batch in batches]
    [['a', 'b'], ['a'], ['a', 'b']]
    """
    batch: list[Frame] = []
    for frame in heapq.merge(*sources, key=lambda frame: (frame.time, frame.camera)):
        if any(frame.camera == each.camera for each in batch):
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch


def follow(
    line: Line,
    associator: Associator,
    batches: Iterable[list[Frame]],
    *,
    see: Callable[[Sequence[Seen]], None] = lambda seen: None,
    tell: Callable[[Sequence[Sighting], Changes], None] = lambda sightings, changes: None,
) -> None:
    """Follow people until the batches end; `see` gets what was seen in each, `tell` all that becomes known."""
    for batch in batches:
        if not batch:
            continue
        made, seen = line.look(batch)
        see(seen)
        for sighting in made:
            associator.take(sighting)
        tell(made, associator.advance(max(frame.time for frame in batch)))
    made = line.finish()
    for sighting in made:
        associator.take(sighting)
    tell(made, associator.finish())


def associator_of(site: Site, *, calibration: Calibration, threshold: float, for_draws: bool = False) -> Associator:
    """An associator for a site, as its file describes it."""
    return Associator(
        site=site.name,
        cameras=[camera.name for camera in site.cameras],
        calibration=calibration,
        threshold=threshold,
        doors=site.doors,
        overlaps=site.overlaps,
        reentry_s=site.reentry_h * 3600,
        for_draws=for_draws,
    )


def session_of(source_sha256: str, site: Site, settings: Sequence[object]) -> str:
    """A file's session: the same for the same content and settings, so that a second run gives the same keys."""
    return settings_hash([source_sha256, site.sha256, [str(each) for each in settings]])[:16]


class Recording(Iterator[Frame]):
    """A camera's recording, at the site's time: the camera's clock may be off. `frames` tells what was met on the way."""

    def __init__(self, camera: Camera, frames: Reading) -> None:
        self.camera, self.frames = camera, frames
        self._ahead = timedelta(seconds=camera.clock_offset_s)

    def __next__(self) -> Frame:
        frame = next(self.frames)
        return replace(frame, time=frame.time - self._ahead) if self._ahead else frame


def recordings(
    site: Site, *, rate: float | None, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Recording]:
    """The recordings of a site's cameras, `rate` frames a second of each, or each camera's own.

    `progress` is called with (done, all) milliseconds of all of them.
    """
    done = dict.fromkeys((camera.name for camera in site.cameras), (0, 0))

    def report(name: str) -> Callable[[int, int], None]:
        def tell(part: int, whole: int) -> None:
            done[name] = part, whole
            progress(sum(part for part, _ in done.values()), sum(whole for _, whole in done.values()))

        return tell

    return [
        Recording(
            camera,
            frames(
                site.source(camera),
                camera=camera.name,
                begins=camera.begins,
                rate=rate or camera.rate,
                progress=report(camera.name),
            ),
        )
        for camera in site.cameras
    ]


@dataclass(frozen=True, slots=True)
class Followed:
    """What following gave: visits, links, and the newest revision of each sighting, withdrawn ones too, without its vectors.

    `frames` are each camera's: how many there were, and how many could not be used.
    """

    visits: list[VisitRow]
    links: list[Link]
    sightings: dict[SightingKey, Sighting]
    frames: dict[str, tuple[int, int]]


def follow_recordings(
    site: Site,
    folder: Path,
    *,
    detector: Detector,
    embedder: Embedder,
    calibration: Calibration,
    threshold: float,
    looks: Embedder | None = None,
    rate: float | None = None,
    settings: Sequence[object] = (),
    see: Callable[[Sequence[Seen]], None] = lambda seen: None,
    keep: Callable[[Sequence[Sighting], Changes], None] = lambda made, changes: None,
    window: Window | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Followed:
    """Follow people through the recordings of a site's cameras, as fast as they can be read, and write what was found.

    Into `folder`, which is made: `sightings.parquet` with every revision, visits and links as JSONL and as Parquet.
    `rate` is the analysed frames a second of every camera, in place of each one's own. `settings` are what else changes
    what is found: they make the session, so that the same files and settings give the same keys and bytes. `keep` gets
    every revision as it becomes known. A `window` looks at what is remembered every quarter of an hour and at the end.
    `progress` is called with (done, all) milliseconds of all recordings.
    """
    readings = recordings(site, rate=rate, progress=progress)
    line = Line(
        site,
        detector=detector,
        embedder=embedder,
        looks=looks,
        sessions={
            camera.name: session_of(content_hash(Path(site.source(camera))), site, [*settings, rate])
            for camera in site.cameras
        },
    )
    associator = associator_of(site, calibration=calibration, threshold=threshold, for_draws=window is not None)
    looked: datetime | None = None
    with Book(site, folder, length=embedder.length, keep=keep) as book:

        def tell(made: Sequence[Sighting], changes: Changes) -> None:
            nonlocal looked
            book.tell(made, changes)
            now = max((sighting.end for sighting in made), default=None)
            looked = looked or now
            if window is not None and now is not None and looked is not None and now - looked >= DRAWN_EVERY:
                window.look(associator.remembered(since_s=window.since_s))
                looked = now

        follow(line, associator, together(readings), see=see, tell=tell)
    if window is not None:
        window.look(associator.remembered(since_s=window.since_s))
    return book.written({reading.camera.name: (reading.frames.seen, reading.frames.skipped) for reading in readings})


def follow_live(
    site: Site,
    folder: Path,
    batches: Iterable[list[Frame]],
    *,
    session: str,
    detector: Detector,
    embedder: Embedder,
    calibration: Calibration,
    threshold: float,
    looks: Embedder | None = None,
    see: Callable[[Sequence[Seen]], None] = lambda seen: None,
    keep: Callable[[Sequence[Sighting], Changes], None] = lambda made, changes: None,
    tell: Callable[[Changes], None] = lambda changes: None,
) -> Followed:
    """Follow people through batches of live frames until these end, and write what `follow_recordings` writes.

    `keep` gets every revision as it becomes known, then `tell` those of links and visits. `session` is a name that never
    comes again (`readers.new_session`), so that keys do not repeat after a restart.
    """
    sessions = {camera.name: session for camera in site.cameras}
    line = Line(site, detector=detector, embedder=embedder, looks=looks, sessions=sessions)
    associator = associator_of(site, calibration=calibration, threshold=threshold)
    with Book(site, folder, length=embedder.length, keep=keep) as book:

        def write(made: Sequence[Sighting], changes: Changes) -> None:
            book.tell(made, changes)
            tell(changes)

        follow(line, associator, batches, see=see, tell=write)
    return book.written({})


class Book:
    """What is found while people are followed, kept and written to a folder; use it in a `with` block, then `written`."""

    def __init__(
        self,
        site: Site,
        folder: Path,
        *,
        length: int,
        keep: Callable[[Sequence[Sighting], Changes], None] = lambda made, changes: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._site, self._folder, self._keep = site, folder, keep
        self._writer = SightingWriter(folder / "sightings.parquet", length=length)
        self._newest: dict[SightingKey, Sighting] = {}
        self._links: dict[SightingKey, Link] = {}
        self._visits: dict[str, Visit] = {}  # the newest revision of each

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def tell(self, made: Sequence[Sighting], changes: Changes) -> None:
        """Take in revisions of sightings, links and visits; `keep` gets them first."""
        if made or changes.links or changes.visits:
            self._keep(made, changes)
        for sighting in made:
            self._writer.write(sighting)
            self._newest[sighting.key] = replace(
                sighting, prototypes=NO_VECTORS, quality=NO_QUALITY, pictures=NO_PICTURES
            )
        _note(changes, self._links, self._visits)

    def written(self, frames: dict[str, tuple[int, int]]) -> Followed:
        """Write visits and links as they stand now."""
        rows, links = write_found(
            self._folder, self._visits.values(), self._links, self._newest, doors=self._site.doors
        )
        return Followed(rows, links, self._newest, frames)


def write_found(
    folder: Path,
    visits: Iterable[Visit],
    links: Mapping[SightingKey, Link],
    sightings: Mapping[SightingKey, Sighting],
    *,
    doors: Iterable[str],
) -> tuple[list[VisitRow], list[Link]]:
    """Write visits (the newest revision of each, or all) and `links`, by their later sighting, as JSONL and as Parquet."""
    rows = visit_rows(there := current(visits), sightings, links, doors=doors)
    person = {key: visit.person for visit in there for key in visit.sightings}
    kept = [
        link
        for _, link in sorted(links.items())
        if link.later in person and person.get(link.earlier) == person[link.later]
    ]
    lines = [json.dumps(row.to_dict(), default=datetime.isoformat) for row in rows]
    write_text(folder / "visits.jsonl", "".join(line + "\n" for line in lines))
    write_text(folder / "links.jsonl", "".join(json.dumps(_link_row(link)) + "\n" for link in kept))
    write_visits(folder / "visits.parquet", [row.to_dict() for row in rows])
    write_links(folder / "links.parquet", [_link_row(link) for link in kept])
    return rows, kept


@dataclass(frozen=True, slots=True)
class Described:
    """What a file of sightings holds: its site's name, its cameras, the lines that were crossed, the networks, revisions."""

    site: str
    cameras: tuple[str, ...]
    lines: tuple[str, ...]
    networks: tuple[str, ...]
    revisions: int


def describe_sightings(path: Path) -> Described:
    """What a file of sightings holds. Raises SightingError where it holds none, or those of several sites or networks."""
    found: dict[str, set[str]] = {name: set() for name in ("site", "cameras", "lines", "networks")}
    for sighting in read_sightings(path):
        found["site"].add(sighting.key.site)
        found["cameras"].add(sighting.key.camera)
        found["lines"].update(crossing.line for crossing in sighting.crossings)
        if sighting.network:
            found["networks"].add(sighting.network)
    for name in ("site", "networks"):
        if len(found[name]) > 1 or not found["site"]:
            raise SightingError(f"{path}: expected sightings of one {name.rstrip('s')}, got {sorted(found[name])}")
    (site,) = found["site"]
    cameras, lines, networks = (tuple(sorted(found[name])) for name in ("cameras", "lines", "networks"))
    return Described(site, cameras, lines, networks, count_sightings(path))


def link_sightings(
    path: Path,
    folder: Path,
    associator: Associator,
    *,
    doors: Iterable[str],
    revisions: int,
    window: Window | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Followed:
    """Link the sightings of a file, in its order, and write visits and links into `folder`, which is made.

    A `window` looks at what the associator remembers every quarter of an hour and at the end, and its counts are written, too.
    `progress` is called with (done, all) of its `revisions`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    newest: dict[SightingKey, Sighting] = {}
    links: dict[SightingKey, Link] = {}
    visits: dict[str, Visit] = {}
    now: datetime | None = None
    drawn_at: datetime | None = None
    for done, sighting in enumerate(read_sightings(path)):
        known = newest.get(sighting.key)
        if known is None or known.revision < sighting.revision:
            newest[sighting.key] = sighting
        associator.take(sighting)
        now = sighting.end if now is None else max(now, sighting.end)
        _note(associator.advance(now), links, visits)
        drawn_at = drawn_at or now
        if window is not None and now - drawn_at >= DRAWN_EVERY:
            window.look(associator.remembered(since_s=window.since_s))
            drawn_at = now
        if done % SHOWN_EVERY == 0:
            progress(done, revisions)
    _note(associator.finish(), links, visits)
    if window is not None and now is not None:
        window.look(associator.remembered(since_s=window.since_s))
        drawn = [
            {"start": row.start, "length": row.length, "what": row.what, "values": row.values.tolist()}
            for row in window.counts()
        ]
        lines = [json.dumps(row, default=datetime.isoformat) + "\n" for row in drawn]
        write_text(folder / "draws.jsonl", "".join(lines))
        write_draws(folder / "draws.parquet", drawn)
    progress(revisions, revisions)
    return Followed(*write_found(folder, visits.values(), links, newest, doors=doors), newest, {})


def _note(changes: Changes, links: dict[SightingKey, Link], visits: dict[str, Visit]) -> None:
    """Take in what has become known: the newest revision of each visit, and the links that hold."""
    changes.update(links)
    visits.update({visit.name: visit for visit in changes.visits})


def content_hash(source: Path) -> str:
    """SHA-256 of a recording: of a file, or of the files of a folder in order."""
    return file_hash(*(sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else [source]))


def _link_row(link: Link) -> dict[str, object]:
    def name(key: SightingKey | None) -> str | None:
        return key and f"{key.camera}/{key.session}/{key.track}"

    return {
        "earlier": name(link.earlier),
        "later": name(link.later),
        "probability": link.probability,
        "runner_up": name(link.runner_up),
        "runner_up_probability": link.runner_up_probability,
    }
