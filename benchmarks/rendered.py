"""Rendered people before networks that learnt from real ones: are they found, and are they told apart?

    python benchmarks/rendered.py found --seconds 240 --sheet docs/rendered_people.jpg
    python benchmarks/rendered.py reid --out runs/rendered     # then: passerby evaluate --data market1501:runs/rendered ...

`found` runs person-detection-retail-0013 over the sample shop and counts people of 64 px and more whom nothing hides and the
picture's edge does not cut: found by a box of score above 0.5 and an overlap (IoU) of 0.5 or more. The sheet shows the misses,
framed in red, and then those whom it was least sure of.
`reid` makes a set of 200 people in 4 cameras, 8 crops each, in Market-1501's layout: people 1-20 wear one uniform, 21-60 are
pairs in like clothes; person 201 is alone in the training part. Each --model is measured on it: Rank-1 of the three groups.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from passerby.config import load_toml
from passerby.simulate.cameras import Views
from passerby.simulate.footage import wardrobe
from passerby.simulate.people import visits
from passerby.simulate.plan import Shop
from passerby.simulate.scene import ATLAS, Atlas, Look, Scene, Standing, crowd, draw_look
from passerby.types import Float64, UInt8
from shared import PEER, SHARED, dataset_vectors, rows

DETECTOR = SHARED / "models" / "person-detection-retail-0013"
SHOP = ATLAS.with_name("sample_shop.toml")
LEAST_PX = 64
PEOPLE = 200  # of the re-ID set
SHEET = (3, 12)  # rows and columns of people


def detector(folder: Path) -> Callable[[UInt8], tuple[Float64, Float64]]:
    """A function from an RGB picture to (boxes (n, 4) in pixels, their scores (n,) above 0.5)."""
    import openvino

    compiled = openvino.Core().compile_model(next(folder.rglob("*.xml")), "CPU")

    def detect(picture: UInt8) -> tuple[Float64, Float64]:
        small = cv2.resize(picture[..., ::-1], (544, 320)).transpose(2, 0, 1)[None].astype(np.float32)
        found = compiled(small)[0].reshape(-1, 7)
        height, width = picture.shape[:2]
        found = found[found[:, 2] > 0.5]
        return found[:, 3:] * [width, height, width, height], found[:, 2]

    return detect


def overlap(box: Float64, boxes: Float64) -> Float64:
    """Intersection over union of one box (4,) with others (n, 4)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    shared: Float64 = both / (np.prod(box[2:] - box[:2]) + area - both)
    return shared


def found(sheet: Path | None, seconds: float) -> None:
    """Print the share that is found."""
    shop, atlas, detect = load_toml(SHOP, Shop), Atlas(), detector(DETECTOR)
    came = list(visits(shop, Views(shop), seed=5, duration_s=seconds))
    looks, people = wardrobe(shop, came, atlas, seed=5), {visit.number: visit.person for visit in came}
    scenes = [Scene(shop, number, atlas, seed=5) for number in range(len(shop.cameras))]
    shown: list[tuple[float, np.ndarray]] = []  # how sure it is of a person, 0 for a miss, and the person
    for number, standing in enumerate(crowd(shop, came, np.arange(0, seconds, 0.5))):
        if number % 4:
            continue
        for scene in scenes:
            picture, truth = scene.frame(number, standing, looks, people)
            across, down = scene.projection.size
            boxes, scores = detect(picture)
            for box in truth:
                x0, y0, x1, y1 = box.xyxy
                if y1 - y0 < LEAST_PX or box.visible < 0.99 or min(x0, y0) <= 0 or x1 >= across or y1 >= down:
                    continue
                hits = scores[overlap(np.array(box.xyxy), boxes) >= 0.5]
                crop = picture[max(0, int(y0) - 20) : int(y1) + 20, max(0, int(x0) - 20) : int(x1) + 20]
                shown.append((float(hits.max(initial=0)), cv2.resize(crop, (96, 192))))
    total, seen = len(shown), sum(score > 0 for score, _ in shown)
    print(f"found {seen} of {total} people of {LEAST_PX} px and more, unhidden: {100 * seen / max(1, total):.1f} %")
    if sheet is not None:
        down, across = SHEET
        least = sorted(shown, key=lambda each: each[0])[: down * across]
        print(f"on the sheet: scores from {least[0][0]:.2f} to {least[-1][0]:.2f}")
        tiles = [crop if score else cv2.rectangle(crop, (1, 1), (94, 190), (255, 0, 0), 3) for score, crop in least]
        tiles += [np.zeros_like(tiles[0])] * (down * across - len(tiles))
        lines = [np.concatenate(tiles[i : i + across], axis=1) for i in range(0, len(tiles), across)]
        cv2.imwrite(str(sheet), np.concatenate(lines)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def make_set(folder: Path) -> None:
    """Write the re-ID set."""
    shop, atlas = load_toml(SHOP, Shop), Atlas()
    open_floor = replace(shop, obstacles=())
    scenes = [Scene(open_floor, number, atlas, seed=6) for number in range(len(shop.cameras))]
    looks: dict[int, Look] = {}
    for person in range(1, PEOPLE + 2):
        rng = np.random.default_rng([6, person])
        look = draw_look(atlas, rng, staff=person <= 20)
        if 1 < person <= 20:  # a whole uniform, bag and all
            look = replace(look, colours=(*look.colours[:2], *looks[1].colours[2:]))
        if 20 < person <= 60 and person % 2 == 0:  # the pair's other half: like clothes, another body and head
            before = looks[person - 1]
            look = replace(
                look,
                colours=(*look.colours[:2], *before.colours[2:]),
                print_=before.print_,
                second=before.second,
            )
        looks[person] = look
        for number, scene in enumerate(scenes):
            kept = 0
            while kept < 8:
                place = rng.uniform([1, 1], [shop.size_m[0] - 1, shop.size_m[1] - 1])
                x0, y0, x1, y1 = scene.projection.box(place, height_m=1.1 * look.height_m)
                across, down = scene.projection.size
                if not (x0 > 0 and y0 > 0 and x1 < across and y1 < down and y1 - y0 >= LEAST_PX):
                    continue
                stands = Standing(
                    (float(place[0]), float(place[1])), float(rng.uniform(0, 360)), float(rng.uniform(0, 9)), 1.0
                )
                picture, (box,) = scene.frame(kept, {person: stands}, looks, {person: person})
                x0, y0, x1, y1 = box.xyxy
                shift = rng.normal(0, 0.03 * (y1 - y0), 4)
                a, b, c, d = (
                    int(v) for v in np.clip(np.array([x0, y0, x1, y1]) + shift, 0, [across, down, across, down])
                )
                part = "query" if kept == 0 else "bounding_box_test"
                if person > PEOPLE:
                    part = "bounding_box_train"  # one person: the layout has no empty folder
                path = folder / part / f"{person:04d}_c{number + 1}s1_{kept:06d}_00.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), picture[b:d, a:c, ::-1])
                kept += 1


def reid(folder: Path, models: list[str]) -> None:
    """Rank-1 of each model, for everyone and for the groups, and whom the wrong answers are."""
    from passerby.reid.datasets import read_dataset
    from passerby.reid.embedder import Embedder

    if not folder.exists():
        make_set(folder)
    data = read_dataset("market1501", folder)
    print(
        "| network | Rank-1 | uniform | like clothes | others | wrong: uniform for uniform | pair for pair |\n|"
        + 7 * "---|"
    )
    for model in models:
        vectors = dataset_vectors(Embedder(model, precision="fp32"), data)
        similarity = rows(vectors, data.query) @ rows(vectors, data.gallery).T
        right: dict[str, list[bool]] = {"uniform": [], "like": [], "other": []}
        wrong: Counter[str] = Counter()
        for row, picture in enumerate(data.query):
            allowed = np.array([g.camera != picture.camera for g in data.gallery])
            best = data.gallery[int(np.where(allowed, similarity[row], -2).argmax())]
            person, answer = (int(p.person.split(":")[1]) for p in (picture, best))
            group = "uniform" if person <= 20 else "like" if person <= 60 else "other"
            right[group].append(person == answer)
            if person != answer:
                wrong["uniform"] += person <= 20 and answer <= 20
                wrong["pair"] += 20 < person <= 60 and (person - 1) // 2 == (answer - 1) // 2
        every = [value for values in right.values() for value in values]
        cells = " | ".join(f"{100 * np.mean(right[group]):.1f}" for group in ("uniform", "like", "other"))
        print(
            f"| {Path(model).stem} | {100 * np.mean(every):.1f} | {cells} | {wrong['uniform']} | {wrong['pair']} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=("found", "reid"))
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--out", type=Path, default=Path("runs/rendered"))
    parser.add_argument("--model", action="append")
    arguments = parser.parse_args()
    if arguments.figure == "found":
        found(arguments.sheet, arguments.seconds)
    else:
        reid(arguments.out, arguments.model or ["osnet_x0_75", str(PEER)])
