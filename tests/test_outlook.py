"""Whether a camera was moved or covered: people, light and noise change nothing, a turn of the camera does."""

import cv2
import numpy as np
import pytest

from passerby.simulate.scene import ATLAS
from passerby.vision.outlook import Outlook
from passerby.vision.video import frames

SAMPLE = ATLAS.with_name("sample")


@pytest.fixture(scope="module")
def film():
    """Two minutes of the sample shop's entrance, a picture a second: ten people walk in and out."""
    from datetime import UTC, datetime

    reading = frames(SAMPLE / "entrance.mp4", camera="a", begins=datetime(2026, 3, 2, tzinfo=UTC), rate=1.0)
    return [frame.picture for frame, _ in zip(reading, range(120), strict=False)]


def states(pictures):
    """The states of a camera after each second, where they change."""
    outlook, found = Outlook(), ["fine"]
    for second, picture in enumerate(pictures):
        outlook.see(1000.0 + second, picture)
        if outlook.state != found[-1]:
            found.append(outlook.state)
    return found[1:]


def turned(picture, part):
    """What the camera would see if it were turned by a part of the picture's width."""
    height, width = picture.shape[:2]
    shift = np.float32([[1, 0, part * width], [0, 1, 0]])
    return cv2.warpAffine(picture, shift, (width, height), borderMode=cv2.BORDER_REFLECT)


def test_people_who_come_and_go_move_no_camera(film):
    assert states(film) == []


@pytest.mark.parametrize(
    "light",
    [
        lambda picture: (0.4 * picture).astype(np.uint8),
        lambda picture: (255 * (picture / 255) ** 2).astype(np.uint8),
        lambda picture: np.clip(picture + np.random.default_rng(1).normal(0, 20, picture.shape), 0, 255).astype(
            np.uint8
        ),
    ],
    ids=["dimmed", "gamma", "noise"],
)
def test_another_light_moves_no_camera(film, light):
    assert states([*film[:60], *map(light, film[60:])]) == []


def test_a_camera_that_is_turned_by_a_tenth_of_its_picture_has_moved_and_is_back_when_it_is_turned_back(film):
    assert states([*film[:40], *(turned(picture, 0.1) for picture in film)]) == ["moved"]
    assert states([*film[:40], *(turned(picture, 0.1) for picture in film), *film]) == ["moved", "fine"]


def test_a_knock_that_is_put_right_within_half_a_minute_is_no_move(film):
    assert states([*film[:40], *(turned(picture, 0.2) for picture in film[40:60]), *film[60:]]) == []


def test_a_covered_lens_is_dark_and_neither_moved_nor_forgotten(film):
    black = [np.full_like(film[0], 3)] * 50
    assert states([*film[:40], *black, *film[40:]]) == ["dark", "fine"]
    assert states([*black, *film]) == ["dark", "fine"]
