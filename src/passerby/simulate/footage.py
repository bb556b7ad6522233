"""Clips of a simulated shop, one for each camera, with the truth in MOTChallenge form."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from passerby.simulate.cameras import Views
from passerby.simulate.people import Visit, visits
from passerby.simulate.plan import Shop
from passerby.simulate.recording import Truth
from passerby.simulate.scene import Atlas, Box, Look, Scene, crowd, draw_look
from passerby.types import SimulationError
from passerby.vision.video import ClipWriter


def film(
    shop: Shop,
    folder: Path,
    atlas: Atlas,
    *,
    seed: int,
    duration_s: float,
    quality: int = 23,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Film a time from opening with every camera of the shop; returns how many people were seen.

    Writes `CAMERA.mp4`, and into `truth/` the visits, stays and entries, and for each camera `CAMERA.txt` with the lines
    frame, visit, left, top, width, height, 1, 1, visible: frames count from 1, boxes are of the whole body in pixels, cut
    at the picture's edges, `visible` the part that nothing hides. `progress` is called with (frames, all frames).
    """
    if len({camera.fps for camera in shop.cameras}) > 1:
        raise SimulationError("video: the cameras of a filmed shop need one frame rate; give all the same fps")
    views = Views(shop)
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    with Truth(shop, folder / "truth") as truth:
        came = []
        for visit in visits(shop, views, seed=seed, duration_s=duration_s):
            truth.visit(visit)
            came.append(visit)
    fps = shop.cameras[0].fps
    scenes = [Scene(shop, number, atlas, seed=seed) for number in range(len(shop.cameras))]
    times = np.arange(int(duration_s * fps)) / fps
    looks = wardrobe(shop, came, atlas, seed=seed)
    people = {visit.number: visit.person for visit in came}
    coats: dict[int, tuple[float, Look]] = {}  # when a coat comes off, and what is worn from then on
    for each in came:
        if each.coat_off_s is not None:
            look = looks[each.number]
            coats[each.number] = (each.coat_off_s, replace(look, print_="plain", colours=_without_coat(look)))
    seen: set[int] = set()
    with ExitStack() as stack:
        clips = [
            stack.enter_context(
                ClipWriter(folder / f"{c.name}.mp4", width=c.width_px, height=c.height_px, fps=fps, quality=quality)
            )
            for c in shop.cameras
        ]
        lines = [stack.enter_context((folder / "truth" / f"{c.name}.txt").open("w")) for c in shop.cameras]
        for number, standing in enumerate(crowd(shop, came, times)):
            progress(number, len(times))
            worn = dict(looks)
            for wearer, (off_s, look) in coats.items():
                if times[number] >= off_s:
                    worn[wearer] = look
            for scene, clip, file in zip(scenes, clips, lines, strict=True):
                picture, boxes = scene.frame(number, standing, worn, people)
                if any(start <= times[number] < end for start, end in scene.camera.outages):
                    picture, boxes = np.zeros_like(picture), []
                clip.write(picture)
                for box in boxes:
                    file.write(mot_line(number + 1, box))
                    seen.add(box.person)
        progress(len(times), len(times))
    (folder / "run.json").write_text(
        json.dumps(
            {"shop": shop.name, "shop_sha256": shop.sha256, "seed": seed, "duration_s": duration_s, "fps": fps},
            indent=1,
        )
        + "\n"
    )
    return len(seen)


def wardrobe(shop: Shop, came: list[Visit], atlas: Atlas, *, seed: int) -> dict[int, Look]:
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


def _without_coat(look: Look) -> tuple[tuple[int, int, int], ...]:
    skin, hair, _, bottom, shoes, bag, _ = look.colours
    return (skin, hair, look.second, bottom, shoes, bag, look.second)
