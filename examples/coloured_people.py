"""Draw a small re-ID data set of coloured figures in Market-1501's layout, to try passerby without anyone's picture.

python examples/coloured_people.py OUT --people 40
"""

import argparse
from pathlib import Path

import cv2
import numpy as np


def draw(person: int, camera: int, take: int) -> np.ndarray:
    """One figure (128, 64, 3) BGR: clothes follow from the person, light and place from the camera, the pose from the take."""
    looks = np.random.default_rng((1, person))
    skin, hair, top, trousers, bag = (looks.integers(30, 226, 3).tolist() for _ in range(5))
    stripes, has_bag = looks.random() < 0.4, looks.random() < 0.5
    view = np.random.default_rng((2, person, camera, take))
    backdrop = np.random.default_rng((3, camera)).integers(90, 170, 3)
    picture = np.full((128, 64, 3), backdrop, np.uint8)
    x, y = 32 + int(view.integers(-5, 6)), int(view.integers(-4, 5))
    stride = int(view.integers(2, 9))
    cv2.line(picture, (x, 76 + y), (x - stride, 120 + y), trousers, 9)
    cv2.line(picture, (x, 76 + y), (x + stride, 120 + y), trousers, 9)
    cv2.ellipse(picture, (x, 54 + y), (14, 27), 0, 0, 360, top, -1)
    if stripes:
        for row in range(36, 76, 8):
            cv2.line(picture, (x - 12, row + y), (x + 12, row + y), trousers, 2)
    if has_bag:
        cv2.rectangle(picture, (x + 9, 58 + y), (x + 19, 74 + y), bag, -1)
    cv2.circle(picture, (x, 20 + y), 9, skin, -1)
    cv2.ellipse(picture, (x, 17 + y), (9, 7), 0, 180, 360, hair, -1)
    if view.random() < 0.5:
        picture = picture[:, ::-1]
    light = np.array([0.8, 1.0, 1.2])[camera % 3] * view.uniform(0.9, 1.1)
    noisy = picture * light + view.normal(0, 8, picture.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def make(out: Path, *, people: int = 40, test_people: int = 20, cameras: int = 3, takes: int = 4) -> None:
    """Write `bounding_box_train`, `query` and `bounding_box_test` below `out`; people 1..people train, the rest test."""
    for person in range(1, people + test_people + 1):
        for camera in range(1, cameras + 1):
            for take in range(takes):
                part = "bounding_box_train" if person <= people else "query" if take == 0 else "bounding_box_test"
                path = out / part / f"{person:04d}_c{camera}s1_{take * 25 + camera:06d}_00.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), draw(person, camera, take))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", type=int, default=40, help="people to train on; 20 more to test on")
    arguments = parser.parse_args()
    make(arguments.out, people=arguments.people)
    print(f"drew {arguments.people + 20} people in 3 cameras under {arguments.out}")
