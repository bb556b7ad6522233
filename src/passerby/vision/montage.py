"""A followed site for people to look at: all cameras in one video, a colour a person; its places in one picture."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from passerby.files import write_bytes
from passerby.shop import Frame
from passerby.site import Camera, Site
from passerby.types import Float32, UInt8
from passerby.vision.blur import blur_heads
from passerby.vision.detect import Detector
from passerby.vision.overlay import GREY, colour_of, draw_people, draw_places, tiled, write
from passerby.vision.pipeline import Seen, floor_of, recordings, together
from passerby.vision.readers import latest
from passerby.vision.video import ClipWriter
from passerby.vision.visits import VisitRow

TILE = (640, 360)  # px, width and height of a camera's part of the video


class Montage:
    """Remembers where people were seen while a site is followed; `write` films it once it is known who they were.

    `rate` is the analysed frames a second of every camera, None for each one's own.
    """

    def __init__(self, site: Site, *, rate: float | None) -> None:
        self._site, self._rate = site, rate
        self._seen: dict[tuple[str, datetime], tuple[Float32, list[tuple[int, Float32]]]] = {}

    def see(self, seen: Sequence[Seen]) -> None:
        """Take in what was seen in frames; every box is kept, since a head is blurred whoever's it is."""
        for each in seen:
            tracks = [(one.track, one.box_xyxy) for one in each.tracks]
            self._seen[each.frame.camera, each.frame.time] = each.found.boxes_xyxy, tracks

    def write(
        self, path: Path, visits: Sequence[VisitRow], *, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Path:
        """Read the recordings again and film them, each person in one colour and with one number; returns the file written.

        Tracks that belong to no visit are grey.
        """
        people: dict[str | None, int] = {}
        who = {
            (key.camera, key.track): people.setdefault(visit.person, len(people) + 1)
            for visit in visits
            for key in visit.sightings
        }
        names = [camera.name for camera in self._site.cameras]
        shown: dict[str, UInt8] = {name: np.full((TILE[1], TILE[0], 3), 24, np.uint8) for name in names}
        width, height = (
            side - side % 2 for side in reversed(tiled([*shown.values()], width=TILE[0], height=TILE[1]).shape[:2])
        )
        readings = recordings(self._site, rate=self._rate, progress=progress)
        fps = self._rate or max(camera.rate for camera in self._site.cameras)
        with ClipWriter(path, width=width, height=height, fps=fps) as clip:
            for batch in together(readings):
                for frame in batch:
                    shown[frame.camera] = self._drawn(frame, who)
                clip.write(tiled([shown[name] for name in names], width=TILE[0], height=TILE[1]))
        return clip.path

    def _drawn(self, frame: Frame, who: dict[tuple[str, int], int]) -> UInt8:
        everybody, seen = self._seen[frame.camera, frame.time]
        picture = blur_heads(frame.picture, everybody, masks=self._site.camera(frame.camera).masks)
        boxes = np.array([box for _, box in seen], np.float32).reshape(-1, 4)
        people = [who.get((frame.camera, track)) for track, _ in seen]
        labels = ["" if person is None else str(person) for person in people]
        draw_people(picture, boxes, labels, [GREY if person is None else colour_of(person) for person in people])
        write(picture, f"{frame.camera}  {frame.time:%H:%M:%S}", (6, picture.shape[0] - 4))
        return picture


def draw_in(picture: UInt8, site: Site, camera: Camera) -> list[str]:
    """Draw the places of a site into a picture of one of its cameras; returns the names of those that lie in it."""
    floor = floor_of(camera, width=picture.shape[1], height=picture.shape[0])
    return draw_places(picture, site.zones_of(camera), site.lines_of(camera), floor)


def draw_site(site: Site, path: Path, *, detector: Detector, seen_by: Mapping[str, UInt8] | None = None) -> list[str]:
    """Draw a picture of each camera with its places into one PNG; returns the places that lie in none of them.

    It is a recording's first picture, and what a live camera shows now; or what `seen_by` has of it: then cameras that are not
    in it are left out.
    """
    import cv2

    pictures, found = [], set()
    for camera in site.cameras:
        if seen_by is not None and camera.name not in seen_by:
            continue
        seen = latest(site.source(camera)) if seen_by is None else seen_by[camera.name]
        picture = blur_heads(seen, detector([seen])[0].boxes_xyxy, masks=camera.masks)
        found |= set(draw_in(picture, site, camera))
        write(picture, camera.name, (6, picture.shape[0] - 4))
        pictures.append(picture)
    whole = tiled(pictures, width=960, height=540)
    _, png = cv2.imencode(".png", whole[:, :, ::-1])
    write_bytes(path, png.tobytes())
    names = [*(zone.name for zone in site.zones), *(line.name for line in site.lines)]
    return [name for name in names if name not in found]
