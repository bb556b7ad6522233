import pytest

from passerby.site import load_site
from passerby.types import ConfigError

CAMERAS = """
name = "corner shop"
time_zone = "Europe/Paris"

[[cameras]]
name = "entrance"
source = "films/entrance.mp4"
begins = 2026-03-02T10:00:00Z
floor_points = [
  { picture = [0.1, 0.9], floor = [0.0, 0.0] },
  { picture = [0.9, 0.9], floor = [4.0, 0.0] },
  { picture = [0.7, 0.4], floor = [4.0, 6.0] },
  { picture = [0.3, 0.4], floor = [0.0, 6.0] },
]

[[cameras]]
name = "till"
source = "rtsp://user:secret@10.0.0.3/stream"
"""
ZONES = """
[[zones]]
name = "shelf"
corners = [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]

[[zones]]
name = "queue"
camera = "till"
corners = [[0.1, 0.5], [0.9, 0.5], [0.9, 0.9]]

[[lines]]
name = "door"
start = [0.0, 1.0]
end = [4.0, 1.0]
"""


def loaded(tmp_path, text):
    (tmp_path / "site.toml").write_text(text)
    return load_site(tmp_path / "site.toml")


def test_a_place_on_the_floor_is_watched_by_every_camera_that_is_tied_to_it(tmp_path):
    site = loaded(tmp_path, CAMERAS + ZONES)
    entrance, till = site.cameras
    assert [zone.name for zone in site.zones_of(entrance)] == ["shelf"]
    assert [zone.name for zone in site.zones_of(till)] == ["queue"]
    assert [line.name for line in site.lines_of(entrance)] == ["door"]
    assert site.lines_of(till) == []
    assert site.doors == {"door"}


def test_a_relative_file_is_looked_for_beside_the_site_and_a_stream_is_left_as_it_is(tmp_path):
    site = loaded(tmp_path, CAMERAS)
    assert site.source(site.camera("entrance")) == str(tmp_path / "films" / "entrance.mp4")
    assert site.source(site.camera("till")) == "rtsp://user:secret@10.0.0.3/stream"
    assert [camera.live for camera in site.cameras] == [False, True]


def test_what_decides_how_cameras_are_watched_has_one_hash_wherever_the_file_lies(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = loaded(tmp_path / "a", CAMERAS + ZONES), loaded(tmp_path / "b", CAMERAS + ZONES)
    assert one.sha256 == other.sha256
    assert loaded(tmp_path, CAMERAS + ZONES.replace("2.0, 2.0", "2.0, 2.5")).sha256 != one.sha256


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "till"', 'name = "entrance"', "two cameras have the name 'entrance'"),
        ("2026-03-02T10:00:00Z", "2026-03-02T10:00:00", "begins needs its zone"),
        ("Europe/Paris", "Paris", "expected a name such as Europe/Paris"),
        ("begins", "began", "did you mean 'begins'"),
        ('camera = "till"', 'camera = "tail"', "its camera 'tail' is none of entrance, till"),
        ("[0.1, 0.9]", "[1.1, 0.9]", "expected fractions 0 to 1"),
        ("  { picture = [0.3, 0.4], floor = [0.0, 6.0] },\n", "", "4 floor_points or more"),
        ("[2.0, 0.0], [2.0, 2.0]", "[2.0, 0.0]", "3 corners or more"),
        ('name = "shelf"', 'name = "door"', "two places have the name 'door'"),
        ('source = "films/entrance.mp4"', 'source = ""', "expected a name and a source"),
    ],
)
def test_a_site_that_cannot_be_says_what_is_wrong(tmp_path, old, new, said):
    assert old in CAMERAS + ZONES
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, (CAMERAS + ZONES).replace(old, new))


def test_a_place_on_the_floor_needs_a_camera_that_is_tied_to_it(tmp_path):
    start = CAMERAS.index("floor_points")
    without = CAMERAS[:start] + CAMERAS[CAMERAS.index("]\n\n[[cameras]]") + 2 :]
    with pytest.raises(ConfigError, match="lies on the floor, but no camera has a mount"):
        loaded(tmp_path, without + ZONES)


def test_overlaps_name_cameras(tmp_path):
    with pytest.raises(ConfigError, match="overlaps: expected pairs of entrance, till"):
        loaded(tmp_path, 'overlaps = [["entrance", "entrance"]]\n' + CAMERAS)
