"""One video file followed: real files of the sample shop, found by a function or by the bundled detector."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from passerby import simulate
from passerby.shop import Detections
from passerby.vision.film import follow, render
from passerby.vision.mot import clear, compare, identity, read_tracks
from passerby.vision.overlay import colour_of, draw
from passerby.vision.track import Tracker
from passerby.vision.video import ClipWriter, timed_pictures

SAMPLE = Path(next(iter(simulate.__path__))) / "data" / "sample"
SIZE = (120, 160)


@pytest.fixture
def clip(tmp_path):
    """Three seconds at 10 frames a second; somebody of 20 x 60 walks from left to right, 4 pixels a frame."""
    path = tmp_path / "clip.mp4"
    with ClipWriter(path, width=SIZE[1], height=SIZE[0], fps=10.0, crf=1) as file:
        for number in range(30):
            picture = np.full((*SIZE, 3), 90, np.uint8)
            picture[40:100, 4 * number : 4 * number + 20] = (255, 0, 0)
            picture[40:52:2, 4 * number : 4 * number + 20] = 255  # stripes on the head
            file.write(picture)
    return path


def red_people(pictures):
    """A detector of whoever is red."""
    found = []
    for picture in pictures:
        columns = np.flatnonzero((picture[80, :, 0] > 180) & (picture[80, :, 1] < 60))
        boxes = np.array([[columns[0], 40, columns[-1] + 1, 100]] if len(columns) else np.zeros((0, 4)), np.float32)
        found.append(Detections(boxes, np.full(len(boxes), 0.8, np.float32)))
    return found


def test_everybody_is_followed_in_every_frame(clip):
    followed = follow(clip, red_people, tracker=Tracker())
    assert followed.tracks.frames.tolist() == list(range(1, 31))
    assert set(followed.tracks.tracks.tolist()) == {1}
    np.testing.assert_allclose(followed.tracks.boxes_xyxy[:, 0], 4 * np.arange(30), atol=1)
    assert followed.duration_s == pytest.approx(2.9)


def test_frames_keep_their_numbers_at_a_lower_rate_and_gaps_can_be_filled(clip):
    followed = follow(clip, red_people, tracker=Tracker(), rate=5.0)
    assert followed.tracks.frames.tolist() == list(range(1, 31, 2))
    whole = followed.filled(0.3)
    assert whole.frames.tolist() == list(range(1, 30))
    np.testing.assert_allclose(whole.boxes_xyxy[:, 0], 4 * np.arange(29), atol=1)
    assert followed.filled(0.0).frames.tolist() == followed.tracks.frames.tolist()


def striped(path):
    """How much neighbouring rows of the head differ, in each frame."""
    return [
        float(np.abs(np.diff(picture[42:50, 4 * n + 6 : 4 * n + 14, 1].astype(int), axis=0)).mean())
        for n, (_, picture) in enumerate(timed_pictures(path))
    ]


def test_a_film_shows_no_head_not_even_where_a_person_was_missed(clip, tmp_path):
    def misses(pictures):
        (found,) = red_people(pictures)
        blind = 40 <= found.boxes_xyxy[0, 0] <= 50
        return [Detections(found.boxes_xyxy[:0], found.scores[:0]) if blind else found]

    followed = follow(clip, misses, tracker=Tracker())
    assert len(followed.tracks) < 30
    render(clip, tmp_path / "film.mp4", followed)
    assert len(striped(tmp_path / "film.mp4")) == 30
    assert min(striped(clip)) > 100
    assert max(striped(tmp_path / "film.mp4")) < 25
    render(clip, tmp_path / "heads.mp4", followed, heads=True)
    assert min(striped(tmp_path / "heads.mp4")) > 100


def test_colours_stay_and_neighbours_differ():
    assert colour_of(7) == colour_of(7)
    colours = np.array([colour_of(number) for number in range(1, 30)])
    assert np.abs(np.diff(colours, axis=0)).max(1).min() > 60


def test_a_box_and_its_number_are_drawn_inside_the_picture():
    picture = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[20, 30, 50, 90], [-10, -10, 10, 40]], np.float32)
    drawn = draw(picture, [1, 2], boxes)
    assert tuple(drawn[60, 20]) == colour_of(1)
    assert (drawn[18:29, 20:26] == colour_of(1)).all(-1).any()  # the label
    assert (drawn[0:12, 0:8] == colour_of(2)).all(-1).any()
    assert not picture.any()
    assert not drawn[60, 25:45].any()


def passerby(*words):
    return subprocess.run(
        [sys.executable, "-m", "passerby", *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_track_and_evaluate_tracks_on_the_sample_shop(tmp_path):
    video, truth = SAMPLE / "checkout.mp4", SAMPLE / "truth" / "checkout.txt"
    ran = passerby(
        "track", video, "--rate", 4, "--fill", 1, "--out", tmp_path / "till.txt", "--render", tmp_path / "till.mp4"
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"checkout.mp4: \d+ tracks, 720 frames in 179.8 s", ran.stdout)
    assert len(list(timed_pictures(tmp_path / "till.mp4"))) == 720
    film = compare(read_tracks(truth, truth=True, least_seen=0.2), read_tracks(tmp_path / "till.txt"))
    assert clear(film).mota > 0.9
    assert identity(film).idf1 > 0.85
    ran = passerby("evaluate-tracks", truth, tmp_path / "till.txt", "--least-seen", 0.2, "--json", "-")
    figures = json.loads(ran.stdout)["films"]
    assert figures["till"]["mota"] == clear(film).mota
    again = passerby("track", video, "--rate", 4, "--fill", 1, "--out", tmp_path / "again.txt")
    assert again.returncode == 0
    assert (tmp_path / "again.txt").read_bytes() == (tmp_path / "till.txt").read_bytes()


def written(folder, **files):
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


LINES = "1,1,10,10,20,60,1,-1,-1,-1\n2,1,12,10,20,60,1,-1,-1,-1\n"


def test_folders_of_films_are_listed_and_taken_together(tmp_path):
    truth = written(tmp_path / "truth", east=LINES, west=LINES)
    tracks = written(tmp_path / "tracks", east=LINES, west=LINES.replace("2,1,", "2,7,"))
    ran = passerby("evaluate-tracks", truth, tracks)
    rows = [re.findall(r"[\w.]+", line) for line in ran.stdout.splitlines()]
    rows = {row[0]: row[4:] for row in rows if row and row[0] in ("east", "west", "together")}
    assert rows == {
        "east": ["100.0", "100.0", "0", "0", "0"],  # MOTA, IDF1, switches, false, missed
        "west": ["50.0", "50.0", "1", "0", "0"],
        "together": ["75.0", "75.0", "1", "0", "0"],
    }


def test_motchallenges_folders_are_read(tmp_path):
    (tmp_path / "truth" / "north" / "gt").mkdir(parents=True)
    (tmp_path / "truth" / "north" / "gt" / "gt.txt").write_text(LINES)
    ran = passerby("evaluate-tracks", tmp_path / "truth", written(tmp_path / "tracks", north=LINES), "--json", "-")
    assert json.loads(ran.stdout)["films"]["north"]["idf1"] == 1.0


def test_what_does_not_fit_together_is_refused(tmp_path):
    truth = written(tmp_path / "truth", east=LINES)
    tracks = written(tmp_path / "tracks", west=LINES)
    for words, message in (
        ((truth,), "expected pairs TRUTH TRACKS, got 1 paths"),
        ((truth, tracks / "west.txt"), "expected two files or two folders, got one of each"),
        ((truth, tracks), "expected the same films in both, got east and west"),
        ((truth / "east.txt", tracks / "west.txt") * 2, "two films are called west"),
    ):
        ran = passerby("evaluate-tracks", *words)
        assert (ran.returncode, message in ran.stderr) == (1, True), ran.stderr
    ran = passerby("track", "clip.mp4")
    assert "give --out FILE.txt, --render FILE.mp4 or both" in ran.stderr
