"""Rendered people for a detector to learn from (COCO) and a tracker to be tuned on (MOTChallenge); no film of a whole shop."""

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from passerby.reid.pictures import read_picture
from passerby.simulate.cameras import Views
from passerby.simulate.footage import SEEN, Detections, frames, mot_line
from passerby.simulate.people import visits
from passerby.simulate.plan import CHEST_M, Arrivals, CameraPlan, Obstacle, Shop, ZonePlan
from passerby.simulate.scene import Atlas, Scene, Standing, blocked, draw_look
from passerby.types import SimulationError, UInt8
from passerby.vision.floor import Projection

VALIDATION = 0.1  # the share of pictures, and of photos behind them, that are `val`
LONGEST_PX = 640  # of a photo's sides
MOST_PEOPLE = 20  # in a picture
FPS = 12.0
PARTIES_PER_HOUR = {
    "quiet-1": 240,
    "quiet-2": 300,
    "quiet-3": 360,
    "quiet-4": 420,
    "crowded-1": 1400,
    "crowded-2": 1800,
}
LEAST_SEEN = 0.45  # of a drawn shop's spots by its camera
FILL_S = 120.0  # how long people come before a sequence begins


def write_pictures(
    folder: Path,
    atlas: Atlas,
    *,
    pictures: int,
    seed: int,
    photos: Sequence[Path] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write `images/NNNNNN.jpg` and `persons.json`, COCO with the one category "person"; returns the number of people.

    Each picture has a shop, a camera and a light of its own; with `photos` (of places without people) about half have one
    of those behind them. An image also has `split` ("train" or "val", which share no photo) and `source`; an annotation
    `visibility`, 0..1 of the whole body. Boxes are of the whole body, cut at the picture's edges; who is not seen at all
    has none, and of whom less than a fifth is seen is `iscrowd`, so that nobody is judged by it. The same arguments give
    the same bytes.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    mixed = [photos[i] for i in np.random.default_rng([seed, 30]).permutation(len(photos))]
    held_out = round(VALIDATION * len(mixed))
    behind = {"val": mixed[:held_out], "train": mixed[held_out:]}
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, pictures + 1):
        progress(number - 1, pictures)
        rng = np.random.default_rng([seed, 31, number])
        split = "val" if rng.random() < VALIDATION else "train"
        source, photo = "drawn shop", None
        if behind[split] and rng.random() < 0.5:
            path = behind[split][int(rng.integers(len(behind[split])))]
            source, photo = path.name, _fitted(path, mirrored=bool(rng.random() < 0.5))
        shop = draw_shop(rng) if photo is None else _open_floor(rng, photo)
        scene = Scene(shop, 0, atlas, seed=int(rng.integers(2**31)), photo=photo)
        standing = _people(rng, shop)
        looks = {person: draw_look(atlas, rng) for person in standing}
        picture, boxes = scene.frame(0, standing, looks, {person: person for person in standing})
        name = f"{number:06d}.jpg"
        _write_jpeg(folder / "images" / name, picture, quality=int(rng.integers(60, 96)))
        height, width = picture.shape[:2]
        images.append(
            {"id": number, "file_name": name, "width": width, "height": height, "split": split, "source": source}
        )
        for box in boxes:
            if box.visible > 0:
                x0, y0, x1, y1 = box.xyxy
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": int(box.visible < SEEN),
                        "visibility": box.visible,
                    }
                )
    progress(pictures, pictures)
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "persons.json").write_text(json.dumps(coco) + "\n")
    return len(annotations)


def write_sequences(
    folder: Path,
    atlas: Atlas,
    *,
    seed: int,
    duration_s: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write six sequences as MOTChallenge has them, `quiet-1` to `-4` and `crowded-1` and `-2`, each of a shop of its own.

    In each folder `img1/NNNNNN.jpg`, `gt/gt.txt` (see `footage.film`), `det/det.txt` (see `footage.Detections`) and
    `seqinfo.ini`. The same arguments give the same bytes.
    """
    length = int(duration_s * FPS)
    if not length:
        raise SimulationError(f"sequences: {duration_s:g} s at {FPS:g} fps is not one frame; make them longer")
    for number, (name, parties) in enumerate(PARTIES_PER_HOUR.items()):
        own = np.random.default_rng([seed, 32, number])
        shop = draw_shop(own, parties_per_hour=parties)
        camera = shop.cameras[0]
        for part in ("img1", "gt", "det"):
            (folder / name / part).mkdir(parents=True, exist_ok=True)
        until_s = FILL_S + duration_s
        drawn = int(own.integers(2**31))
        came = list(visits(shop, Views(shop), seed=drawn, duration_s=until_s))
        times = FILL_S + np.arange(length) / FPS
        detections = Detections(shop, 0, seed=drawn, until_s=until_s)
        truth, found = [], []
        for frame, ((picture, boxes),) in enumerate(frames(shop, came, atlas, seed=drawn, times=times), 1):
            progress(number * length + frame - 1, len(PARTIES_PER_HOUR) * length)
            _write_jpeg(folder / name / "img1" / f"{frame:06d}.jpg", picture, quality=90)
            truth += [mot_line(frame, box) for box in boxes]
            found += detections.lines(frame, float(times[frame - 1]), boxes)
        (folder / name / "gt" / "gt.txt").write_text("".join(truth))
        (folder / name / "det" / "det.txt").write_text("".join(found))
        (folder / name / "seqinfo.ini").write_text(
            f"[Sequence]\nname={name}\nimDir=img1\nframeRate={FPS:g}\nseqLength={length}\n"
            f"imWidth={camera.width_px}\nimHeight={camera.height_px}\nimExt=.jpg\n"
        )
    progress(len(PARTIES_PER_HOUR) * length, len(PARTIES_PER_HOUR) * length)


def empty_photos(folder: Path) -> list[Path]:
    """The pictures of a folder, sorted; where it holds a COCO file and `images/`, those of its training part without boxes.

    Raises SimulationError where there is none.
    """
    files = sorted(folder.glob("*.json"))
    if files:
        try:
            coco = json.loads(files[0].read_text())
            taken = {annotation["image_id"] for annotation in coco["annotations"]}
            names = [
                image["file_name"]
                for image in coco["images"]
                if image["id"] not in taken and image.get("split", "train") == "train"
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise SimulationError(f"{files[0]}: expected COCO with images and annotations, got {error!r}") from None
        found = sorted(folder / "images" / name for name in names)
    else:
        found = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise SimulationError(f"{folder}: expected pictures without people (.jpg or .png, or COCO), found none")
    return found


def draw_shop(rng: np.random.Generator, *, parties_per_hour: float = 60.0) -> Shop:
    """A shop like no other: rows of shelves, aisles between them, and one camera that sees almost half of the floor's spots."""
    while True:
        width, depth = float(rng.uniform(9, 18)), float(rng.uniform(8, 14))
        shelves: list[Obstacle] = []
        x = float(rng.uniform(1.6, 2.6))
        while x < width - 2.4:
            thick = float(rng.uniform(0.5, 1.0))
            area = (x, float(rng.uniform(2.2, 4.0)), x + thick, depth - float(rng.uniform(0, 1.5)))
            shelves.append(Obstacle(area, float(rng.uniform(0.9, 2.1))))
            x += thick + float(rng.uniform(1.6, 3.0))
        sides = [(0.0, shelves[0].area[0]), (shelves[-1].area[2], width)]
        sides += [(a.area[2], b.area[0]) for a, b in pairwise(shelves)]
        middle = depth / 2 + 1
        zones = [ZonePlan("door", "entrance", (width / 2 - 1, 0.3, width / 2 + 1, 1.2))]
        zones += [
            ZonePlan(f"aisle {n} {part}", "shelves", (low + 0.4, y0, high - 0.4, y1), dwell_median_s=20.0)
            for n, (low, high) in enumerate(sides, 1)
            for part, y0, y1 in (("front", 2.0, middle), ("back", middle, depth - 0.4))
        ]
        walls = ((0.2, rng.uniform(1, depth)), (width - 0.2, rng.uniform(1, depth)))
        ends = ((rng.uniform(0.2, width - 0.2), 0.2), (rng.uniform(0.2, width - 0.2), depth - 0.2))
        x, y = (*walls, *ends)[int(rng.integers(4))]
        shown = zones[int(rng.integers(1, len(zones)))].area
        to_x, to_y = (shown[0] + shown[2]) / 2 - x, (shown[1] + shown[3]) / 2 - y
        height = float(rng.uniform(2.2, 3.3))
        tilt = math.degrees(math.atan2(height - CHEST_M, math.hypot(to_x, to_y))) + float(rng.uniform(-5, 10))
        camera = CameraPlan(
            "camera",
            (float(x), float(y)),
            height,
            math.degrees(math.atan2(to_y, to_x)),
            min(tilt, 60.0),
            fov_deg=float(rng.uniform(60, 95)),
            fps=FPS,
            light=_light(rng),
        )
        shop = Shop(
            "drawn", (width, depth), tuple(zones), (camera,), Arrivals((parties_per_hour,)), obstacles=tuple(shelves)
        )
        if Views(shop).at(shop.floor.spots).mean() >= LEAST_SEEN:
            return shop


def _open_floor(rng: np.random.Generator, photo: UInt8) -> Shop:
    """An empty floor under a photo, seen from its middle by a camera as the photo's might have been."""
    height, width = photo.shape[:2]
    camera = CameraPlan(
        "camera",
        (20.0, 20.0),
        float(rng.uniform(1.4, 3.4)),
        float(rng.uniform(0, 360)),
        float(rng.uniform(0, 30)),
        fov_deg=float(rng.uniform(50, 85)),
        width_px=width,
        height_px=height,
        light=_light(rng),
    )
    zones = (ZonePlan("door", "entrance", (1.0, 1.0, 2.0, 2.0)), ZonePlan("floor", "shelves", (2.0, 2.0, 38.0, 38.0)))
    return Shop("photo", (40.0, 40.0), zones, (camera,), Arrivals((1.0,)))


def _light(rng: np.random.Generator) -> tuple[float, float, float]:
    red, green, blue = (rng.uniform(0.6, 1.2) * rng.uniform(0.92, 1.08, 3)).tolist()
    return (red, green, blue)


def _people(rng: np.random.Generator, shop: Shop) -> dict[int, Standing]:
    """Up to MOST_PEOPLE about the floor in front of the shop's camera, a third of them close to somebody; sometimes nobody."""
    camera, projection = shop.cameras[0], Projection(shop.cameras[0].pose)
    wanted = min(MOST_PEOPLE, int(rng.geometric(0.17)) - 1)
    places: list[np.ndarray] = []
    standing: dict[int, Standing] = {}
    for _ in range(30 * wanted):
        if len(standing) == wanted:
            break
        if places and rng.random() < 0.35:
            place = places[int(rng.integers(len(places)))] + rng.normal(0, 0.6, 2)
        else:
            place = np.array(camera.position) + rng.uniform(-camera.range_m, camera.range_m, 2)
        (pixel,), (depth,) = projection.pixels(np.array([[*place, CHEST_M]]))
        if not (1.2 < depth < camera.range_m and (pixel >= 0).all() and (pixel < projection.size).all()):
            continue
        if blocked(shop, place) or any(np.linalg.norm(place - other) < 0.4 for other in places):
            continue
        places.append(place)
        standing[len(places)] = Standing(
            (float(place[0]), float(place[1])),
            float(rng.uniform(0, 360)),
            float(rng.uniform(0, 9)),
            float(rng.choice([0.0, rng.uniform(0.6, 1.5)])),
        )
    return standing


def _fitted(path: Path, *, mirrored: bool) -> UInt8:
    photo = read_picture(path)
    height, width = photo.shape[:2]
    scale = LONGEST_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return np.ascontiguousarray(small[:, ::-1] if mirrored else small, np.uint8)


def _write_jpeg(path: Path, picture: UInt8, *, quality: int) -> None:
    if not cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise SimulationError(f"{path}: cannot be written")
