"""From frames to visits, on small films of coloured figures; fakes find what is not grey and tell people by their colour."""

import json
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest

from passerby.reid.calibration import Calibration, Curve
from passerby.shop import Detections
from passerby.site import load_site
from passerby.types import VideoError
from passerby.vision.montage import Montage, draw_site
from passerby.vision.parquet import read_sightings
from passerby.vision.pipeline import follow_recordings
from passerby.vision.video import ClipWriter, timed_pictures

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
GREY, RED, GREEN = (120, 120, 120), (200, 40, 40), (30, 160, 60)
FPS = 10
SITE = """
name = "small"

[[cameras]]
name = "door"
source = "door.mp4"
begins = 2026-03-02T10:00:00Z

[[cameras]]
name = "aisle"
source = "aisle.mp4"
begins = 2026-03-02T10:00:00Z

[[zones]]
name = "shelf"
camera = "aisle"
corners = [[0.3, 0.5], [0.7, 0.5], [0.7, 1.0], [0.3, 1.0]]

[[lines]]
name = "entry"
camera = "door"
start = [0.5, 1.0]
end = [0.5, 0.0]
"""
# (colour, from, to, first x, last x) in seconds and pixels: who walks through each camera's picture
WALKS = {
    "door": [(RED, 0.5, 3.5, 20, 140), (GREEN, 5.0, 8.0, 20, 140), (RED, 18.0, 21.0, 140, 20)],
    "aisle": [(RED, 7.0, 13.0, 80, 80), (GREEN, 14.0, 17.0, 80, 80)],
}


def found(pictures):
    """A detector: what is not grey, a box for each colour."""
    result = []
    for picture in pictures:
        boxes = []
        for colour in (RED, GREEN):
            y, x = np.nonzero((np.abs(picture.astype(int) - colour) < 40).all(axis=2))
            if len(x) > 100:
                boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
        result.append(Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.9, np.float32)))
    return result


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for camera, walks in WALKS.items():
        with ClipWriter(folder / f"{camera}.mp4", width=160, height=120, fps=FPS, crf=12) as clip:
            for frame in range(22 * FPS):
                picture = np.full((120, 160, 3), GREY, np.uint8)
                for colour, since, until, first, last in walks:
                    if since <= frame / FPS < until:
                        x = round(first + (frame / FPS - since) / (until - since) * (last - first))
                        cv2.rectangle(picture, (x - 10, 40), (x + 10, 105), colour, -1)
                        cv2.circle(picture, (x, 45), 5, (230, 200, 180), -1)
                clip.write(picture)
    (folder / "site.toml").write_text(SITE)
    return folder


class ByColour:
    """An embedder: the mean colour of a picture against grey, at unit length."""

    length, precision, file_sha256 = 3, "fp32", "0" * 64

    def embed_arrays(self, pictures):
        means = np.array([picture.reshape(-1, 3).mean(axis=0) - 120 for picture in pictures], np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


class Opened:
    embedder, threshold = ByColour(), 0.5
    calibration = Calibration((((1, 1), Curve((0.0,), (12.0,), -6.0, 12.0, 10.0)),), "0" * 64, "fp32", "example")


@pytest.fixture(scope="module")
def reid():
    return Opened()


def followed(films, out, reid, *, site=None, **settings):
    return follow_recordings(
        site or load_site(films / "site.toml"),
        out,
        detector=found,
        embedder=reid.embedder,
        calibration=reid.calibration,
        threshold=reid.threshold,
        **settings,
    )


def test_people_are_followed_from_camera_to_camera_through_zones_and_doors(films, reid, tmp_path):
    result = followed(films, tmp_path, reid)
    red, green = sorted(result.visits, key=lambda visit: -len(visit.cameras))
    assert red.cameras == ("door", "aisle", "door")
    assert green.cameras == ("door", "aisle")
    assert red.entered - START == pytest.approx(timedelta(seconds=2.0), abs=timedelta(seconds=0.3))
    assert red.left - START == pytest.approx(timedelta(seconds=19.5), abs=timedelta(seconds=0.3))
    assert red.dwell_s()["shelf"] == pytest.approx(6.0, abs=0.5)
    assert green.dwell_s()["shelf"] == pytest.approx(3.0, abs=0.5)
    assert result.frames == {"door": (220, 0), "aisle": (220, 0)}


def test_what_is_written_is_what_was_found(films, reid, tmp_path):
    import pyarrow.parquet as pq

    result = followed(films, tmp_path, reid)
    rows = [json.loads(line) for line in (tmp_path / "visits.jsonl").read_text().splitlines()]
    assert [row["visit"] for row in rows] == [visit.visit for visit in result.visits]
    assert pq.read_table(tmp_path / "visits.parquet").num_rows == 2
    written = list(read_sightings(tmp_path / "sightings.parquet"))
    assert {each.key for each in written} == set(result.sightings)
    assert {each.network for each in written if len(each.prototypes)} == {
        f"{reid.embedder.file_sha256}:{reid.embedder.precision}"
    }
    links = [json.loads(line) for line in (tmp_path / "links.jsonl").read_text().splitlines()]
    assert len(links) == 3
    assert all(0.5 <= link["probability"] <= 1 for link in links)


def test_a_second_run_gives_the_same_bytes_and_other_settings_other_keys(films, reid, tmp_path):
    followed(films, tmp_path / "a", reid, settings=["x"])
    followed(films, tmp_path / "b", reid, settings=["x"])
    for name in ("sightings.parquet", "visits.jsonl", "visits.parquet", "links.jsonl", "links.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    other = followed(films, tmp_path / "c", reid, settings=["y"])
    first = {key.session for key in followed(films, tmp_path / "d", reid, settings=["x"]).sightings}
    assert first.isdisjoint(key.session for key in other.sightings)


def test_a_camera_whose_clock_is_ahead_is_put_right(films, reid, tmp_path):
    ahead = SITE.replace('source = "door.mp4"', 'source = "door.mp4"\nclock_offset_s = 60.0')
    (films / "ahead.toml").write_text(ahead)
    result = followed(films, tmp_path, reid, site=load_site(films / "ahead.toml"))
    entered = [visit.entered for visit in result.visits if visit.entered]
    assert min(entered) < START - timedelta(seconds=57)


def test_nobody_is_followed_behind_a_mask(films, reid, tmp_path):
    masked = SITE.replace(
        'source = "aisle.mp4"', 'source = "aisle.mp4"\nmasks = [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]]'
    )
    (films / "masked.toml").write_text(masked)
    result = followed(films, tmp_path, reid, site=load_site(films / "masked.toml"))
    assert {key.camera for key in result.sightings} == {"door"}


def test_progress_comes_to_the_end_and_never_goes_back(films, reid, tmp_path):
    told = []
    followed(films, tmp_path, reid, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == 44000
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_recording_that_is_missing_is_named(films, reid, tmp_path):
    (films / "gone.toml").write_text(SITE.replace("door.mp4", "no such.mp4"))
    with pytest.raises(VideoError, match=r"no such\.mp4"):
        followed(films, tmp_path, reid, site=load_site(films / "gone.toml"))


def test_the_montage_shows_all_cameras_a_colour_a_person_and_no_head(films, reid, tmp_path):
    montage = Montage(load_site(films / "site.toml"), rate=None)
    result = followed(films, tmp_path, reid, see=montage.see)
    path = montage.write(tmp_path / "film.mp4", result.visits)
    pictures = [picture for _, picture in timed_pictures(path)]
    assert pictures[0].shape == (360, 1280, 3)
    heads = [(np.abs(picture.astype(int) - (230, 200, 180)) < 25).all(axis=2).sum() for picture in pictures]
    assert max(heads) < 10  # a head is 300 px of the montage where it is not blurred
    raw = [picture for _, picture in timed_pictures(films / "door.mp4")]
    assert (np.abs(raw[15].astype(int) - (230, 200, 180)) < 25).all(axis=2).sum() > 20


def test_places_are_drawn_into_each_cameras_picture_and_those_that_no_camera_sees_are_named(films, tmp_path):
    seen = draw_site(load_site(films / "site.toml"), tmp_path / "zones.png", detector=found)
    assert seen == []
    picture = cv2.imread(str(tmp_path / "zones.png"))
    assert picture.shape == (540, 1920, 3)
    assert (picture.max(axis=2) - picture.min(axis=2) > 60).any()
