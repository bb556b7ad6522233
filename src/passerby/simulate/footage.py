"""Clips of a simulated shop, one for each camera, with the truth and a detector's boxes in MOTChallenge form."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from passerby.files import write_text
from passerby.simulate.cameras import Views
from passerby.simulate.people import Trip, visits
from passerby.simulate.plan import Shop
from passerby.simulate.recording import FILMED, Truth
from passerby.simulate.scene import Atlas, Box, Look, Scene, crowd, draw_look
from passerby.simulate.watching import BRIDGE_S, InView, false_sightings, miss_probability
from passerby.types import Float64, SimulationError, UInt8
from passerby.vision.floor import Projection, contains
from passerby.vision.video import ClipWriter

CRF = 29  # x264's constant rate factor: about what a shop's recorder keeps
SEEN = 0.2  # the part of a body in sight from which somebody is seen
WATCHED = 0.5  # the part of a zone that cameras see, from which it is one of the site's
PLAIN = 0.5  # the part from which a detector finds somebody as surely as a whole body


def film(
    shop: Shop,
    folder: Path,
    atlas: Atlas,
    *,
    seed: int,
    duration_s: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Film a time from opening with every camera of the shop; returns how many people were seen.

    Writes `CAMERA.mp4`, `site.toml` (`site_toml`), `detections/CAMERA.txt` (see `Detections`), and into `truth/` the visits,
    stays, entries, presence in the zones (`filmed_presence`) and times in view (`Lookout`), and for each camera
    `CAMERA.txt` with the lines frame, visit, left, top, width, height, 1, 1, visible: frames count from 1, boxes are of the
    whole body in pixels, cut at the picture's edges, `visible` the part that nothing hides. `progress` is called with
    (frames, all frames).
    """
    if len({camera.fps for camera in shop.cameras}) > 1:
        raise SimulationError("video: the cameras of a filmed shop need one frame rate; give all the same fps")
    fps = shop.cameras[0].fps
    times = np.arange(int(duration_s * fps)) / fps
    if not len(times):
        raise SimulationError(f"video: {duration_s:g} s at {fps:g} fps is not one frame; film for longer")
    lookout = Lookout()
    detections = [Detections(shop, number, seed=seed, until_s=duration_s) for number in range(len(shop.cameras))]
    for part in ("truth", "detections"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        truth = stack.enter_context(Truth(shop, folder / "truth", tables=FILMED))
        came = list(visits(shop, Views(shop), seed=seed, duration_s=duration_s))
        for visit in came:
            truth.visit(visit)
        for number, inside in filmed_presence(shop, came, times).items():
            truth.presence(number, inside)
        clips = [
            stack.enter_context(
                ClipWriter(folder / f"{c.name}.mp4", width=c.width_px, height=c.height_px, fps=fps, crf=CRF)
            )
            for c in shop.cameras
        ]
        lines, found = (
            [stack.enter_context((folder / part / f"{c.name}.txt").open("w")) for c in shop.cameras]
            for part in ("truth", "detections")
        )
        for number, seen in enumerate(frames(shop, came, atlas, seed=seed, times=times)):
            progress(number, len(times))
            for camera, (picture, boxes) in enumerate(seen):
                clips[camera].write(picture)
                lines[camera].writelines(mot_line(number + 1, box) for box in boxes)
                found[camera].writelines(detections[camera].lines(number + 1, times[number], boxes))
                lookout.see(camera, times[number], boxes)
        in_view = lookout.times_in_view()
        for view in in_view:
            truth.in_view(view)
    progress(len(times), len(times))
    write_text(folder / "site.toml", site_toml(shop))
    (folder / "run.json").write_text(
        json.dumps(
            {
                "shop": shop.name,
                "shop_sha256": shop.sha256,
                "seed": seed,
                "begins": shop.opens.isoformat(),
                "duration_s": duration_s,
                "fps": fps,
            },
            indent=1,
        )
        + "\n"
    )
    return len({view.person for view in in_view})


def site_toml(shop: Shop) -> str:
    """The site that a filmed shop is, as `passerby.site` reads it: its cameras with their mounts, its doors, and its zones.

    A zone that no camera sees half of is left out. Queues form at checkouts, staff is where staff goes, and nothing is hidden
    (k = 1), since its people are drawn.
    """
    views = Views(shop)
    watched = []
    for zone in shop.zones:
        x0, y0, x1, y1 = zone.area
        x, y = np.meshgrid(np.linspace(x0, x1, 12)[1:-1], np.linspace(y0, y1, 12)[1:-1])
        seen = views.at(np.column_stack([x.ravel(), y.ravel()]))
        if seen.any(axis=1).mean() >= WATCHED:
            watched.append((zone, _left_to(shop, seen)))
    staff = [zone.name for zone, _ in watched if zone.kind == "staff"]
    lines = [
        f"# The simulated shop {shop.name}, as it was filmed; passerby follow site.toml",
        f"name = {json.dumps(shop.name)}",
        'time_zone = "UTC"',
        "simulated = true",
        "k = 1  # personal detail is hidden of no group: its people are nobody",
    ]
    if staff:
        lines.append(f"staff_zones = {json.dumps(staff)}")
    if shop.overlaps:
        lines.append(f"overlaps = {json.dumps(shop.overlaps)}")
    for camera in shop.cameras:
        lines += [
            "",
            "[[cameras]]",
            f"name = {json.dumps(camera.name)}",
            f"source = {json.dumps(camera.name + '.mp4')}",
            f"begins = {shop.opens.isoformat()}",
            f"mount = {{ position = {list(camera.position)}, height_m = {camera.height_m}, heading_deg = "
            f"{camera.heading_deg}, tilt_deg = {camera.tilt_deg}, fov_deg = {camera.fov_deg} }}",
        ]
    for zone, cameras in watched:
        corners = [list(corner) for corner in zone.zone.corners]
        lines += ["", "[[zones]]", f"name = {json.dumps(zone.name)}", f"corners = {corners}", *cameras]
        if zone.kind == "checkout":
            lines += ["", "[[queues]]", f"zone = {json.dumps(zone.name)}"]
    for line in shop.lines:
        ends = [f"start = {list(line.start)}", f"end = {list(line.end)}"]
        seen = views.at(np.linspace(line.start, line.end, 12)[1:-1])
        lines += ["", "[[lines]]", f"name = {json.dumps(line.name)}", *ends, *_left_to(shop, seen)]
    return "\n".join(lines) + "\n"


def _left_to(shop: Shop, seen: NDArray[np.bool_]) -> list[str]:
    """The line of a site's file that leaves a place to cameras none of which overlap; `seen` (points, cameras) is by which.

    The ones that see most of it are taken first. There is no such line where no camera overlaps.
    """
    if not shop.overlaps:
        return []
    pairs = [{*pair} for pair in shop.overlaps]
    left_to: list[str] = []
    for number in np.argsort(-seen.sum(axis=0), kind="stable").tolist():
        name = shop.cameras[number].name
        if not any({name, other} in pairs for other in left_to):
            left_to.append(name)
    return [f"seen_by = {json.dumps(sorted(left_to))}"]


def frames(
    shop: Shop, came: Sequence[Trip], atlas: Atlas, *, seed: int, times: Float64
) -> Iterator[list[tuple[UInt8, list[Box]]]]:
    """At each of `times`, rising seconds from opening, what every camera sees: (picture (height, width, 3) RGB, truth).

    While a camera is out its picture is black and has no truth. The same arguments give the same frames.
    """
    scenes = [Scene(shop, number, atlas, seed=seed) for number in range(len(shop.cameras))]
    worn = wardrobe(shop, came, atlas, seed=seed)
    people = {visit.number: visit.person for visit in came}
    coats = {visit.number: visit.coat_off_s for visit in came if visit.coat_off_s is not None}
    for number, standing in enumerate(crowd(shop, came, times)):
        at = float(times[number])
        for wearer in [visit for visit, off_s in coats.items() if at >= off_s]:
            worn[wearer] = _without_coat(worn[wearer])
            del coats[wearer]
        made = []
        for scene in scenes:
            picture, boxes = scene.frame(number, standing, worn, people)
            if any(start <= at < end for start, end in scene.camera.outages):
                picture, boxes = np.zeros_like(picture), []
            made.append((picture, boxes))
        yield made


def filmed_presence(shop: Shop, came: Sequence[Trip], times: Float64) -> dict[int, list[tuple[int, float, float]]]:
    """When each visit's person stands inside each zone's polygon, at `times`: (zone, from, to), pushed aside or not."""
    zones = [zone.zone for zone in shop.zones]
    found: dict[int, list[tuple[int, float, float]]] = {visit.number: [] for visit in came}
    last: dict[tuple[int, int], int] = {}  # of a visit and a zone, its newest row
    before = -math.inf
    for at, standing in zip(times.tolist(), crowd(shop, came, times), strict=True):
        for visit, stands in standing.items():
            mine = found[visit]
            for number, zone in enumerate(zones):
                if contains(zone, stands.place):
                    row = last.get((visit, number))
                    if row is not None and mine[row][2] == before:
                        mine[row] = (number, mine[row][1], at)
                    else:
                        last[visit, number] = len(mine)
                        mine.append((number, at, at))
        before = at
    return found


class Lookout:
    """Who was in which camera's view from when to when, by the truth of the frames.

    Somebody is in view where a fifth of the body or more is seen, in two frames at least; gaps of less than a second are
    bridged.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], list[InView]] = {}

    def see(self, camera: int, at_s: float, boxes: Sequence[Box]) -> None:
        """Take in one frame; those of a camera come in order of time."""
        seen = [box for box in boxes if box.visible >= SEEN]
        for box in seen:
            mine = self._found.setdefault((camera, box.visit), [])
            if not mine or at_s - mine[-1].end_s >= BRIDGE_S:
                others = len(seen) - 1
                mine.append(InView(camera, at_s, at_s, box.distance_m, box.person, box.visit, others=others))
            mine[-1].end_s = at_s
            mine[-1].distance_m = min(mine[-1].distance_m, box.distance_m)

    def times_in_view(self) -> list[InView]:
        """Everything that was seen, in order of its start."""
        every = [(each.start_s, *key, each) for key, mine in self._found.items() for each in mine]
        return [each for *_, each in sorted(every, key=lambda row: row[:3]) if each.end_s > each.start_s]


class Detections:
    """What a detector would find in one camera's frames: people missed, boxes moved, and boxes of nobody.

    In each frame anew, somebody is missed as `cameras.miss_probability` says of a sighting, more often where less than half
    of the body is seen, always under a fifth; the edges of a box are moved by `box_noise`. Boxes of nobody stay for
    1 to 6 s. The score is the probability of having been found; of nobody 0.1 to 0.6. `until_s` is when the film ends.
    """

    def __init__(self, shop: Shop, camera: int, *, seed: int, until_s: float) -> None:
        self._camera = shop.cameras[camera]
        self._rng = np.random.default_rng([seed, 23, camera])
        across, down = self._camera.width_px, self._camera.height_px
        self._nobody: list[tuple[InView, Float64, float]] = []  # when, box, score
        for each in false_sightings([self._camera], self._rng, duration_s=until_s):
            height = 1.7 * Projection(self._camera.pose).focal_px / each.distance_m
            x, y = self._rng.uniform([0, 0.3 * down], [across, down])
            box = np.array([x - 0.2 * height, y - height, x + 0.2 * height, y])
            self._nobody.append((each, box, float(self._rng.uniform(0.1, 0.6))))

    def lines(self, frame: int, at_s: float, boxes: Sequence[Box]) -> list[str]:
        """One frame's lines: frame, -1, left, top, width, height, score, -1, -1, -1; in pixels, cut at the edges."""
        seen = [box for box in boxes if box.visible >= SEEN]
        found = []
        for box in seen:
            missed = miss_probability(self._camera, box.distance_m, len(seen) - 1)
            score = (1 - missed) * min(1.0, box.visible / PLAIN)
            if self._rng.random() < score:
                found.append((np.array(box.xyxy), score))
        found += [(box, score) for each, box, score in self._nobody if each.start_s <= at_s <= each.end_s]
        lines = []
        for xyxy, score in found:
            moved = xyxy + self._rng.normal(0, self._camera.box_noise * (xyxy[3] - xyxy[1]), 4)
            x0, y0, x1, y1 = np.clip(moved, 0, [self._camera.width_px, self._camera.height_px] * 2)
            if x1 - x0 >= 1 and y1 - y0 >= 1:
                lines.append(f"{frame},-1,{x0:.1f},{y0:.1f},{x1 - x0:.1f},{y1 - y0:.1f},{score:.2f},-1,-1,-1\n")
        return lines


def wardrobe(shop: Shop, came: Sequence[Trip], atlas: Atlas, *, seed: int) -> dict[int, Look]:
    """What everyone wears, for each visit; look-alikes wear what somebody before them wears, with another bag and shoes."""
    of_person: dict[int, Look] = {}
    for person in sorted({visit.person for visit in came}, key=lambda number: (number < 0, abs(number))):
        rng = np.random.default_rng([seed, 22, abs(person), int(person < 0)])
        look = draw_look(atlas, rng, staff=person < 0)
        if person > 1 and rng.random() < shop.looks.look_alikes and of_person:
            other = of_person[sorted(of_person)[int(rng.integers(len(of_person)))]]
            colours = (*look.colours[:2], *other.colours[2:4], *look.colours[4:6], other.colours[6])
            look = replace(other, colours=colours)
        of_person[person] = look
    return {visit.number: of_person[visit.person] for visit in came}


def mot_line(frame: int, box: Box) -> str:
    """A line of MOTChallenge ground truth; frames count from 1."""
    x0, y0, x1, y1 = box.xyxy
    return f"{frame},{box.visit},{x0:.0f},{y0:.0f},{x1 - x0:.0f},{y1 - y0:.0f},1,1,{box.visible:.2f}\n"


def _without_coat(look: Look) -> Look:
    skin, hair, _, bottom, shoes, bag, _ = look.colours
    return replace(look, print_="plain", colours=(skin, hair, look.second, bottom, shoes, bag, look.second))
