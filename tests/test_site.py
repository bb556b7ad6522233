from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from passerby.simulate.scene import ATLAS
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


def test_a_place_on_the_floor_that_two_cameras_see_can_be_left_to_one(tmp_path):
    tied = CAMERAS + "mount = { position = [1, 1], height_m = 3.0, heading_deg = 0, tilt_deg = 30, fov_deg = 70 }\n"
    both = loaded(tmp_path, tied + ZONES)
    one = loaded(tmp_path, tied + ZONES + 'seen_by = ["till"]\n')
    assert [[line.name for line in both.lines_of(camera)] for camera in both.cameras] == [["door"], ["door"]]
    assert [[line.name for line in one.lines_of(camera)] for camera in one.cameras] == [[], ["door"]]
    assert one.sha256 != both.sha256
    for places in (
        ZONES + 'seen_by = ["cellar"]\n',
        ZONES.replace('camera = "till"', 'camera = "till"\nseen_by = ["till"]'),
    ):
        with pytest.raises(ConfigError, match="seen_by is of a place on the floor"):
            loaded(tmp_path, tied + places)


def test_a_place_on_the_floor_is_left_to_one_of_two_cameras_that_see_the_same_floor(tmp_path):
    """Else one person would be in the zone twice, and cross the line twice."""
    tied = CAMERAS + "mount = { position = [1, 1], height_m = 3.0, heading_deg = 0, tilt_deg = 30, fov_deg = 70 }\n"
    tied = 'overlaps = [["till", "entrance"]]\n' + tied
    zone = '[[zones]]\nname = "wine"\ncorners = [[0, 0], [1, 0], [1, 1]]\n'
    line = '[[lines]]\nname = "aisle"\nstart = [0, 0]\nend = [1, 0]\n'
    for place, name in ((zone, "wine"), (line, "aisle")):
        for watched in ("", 'seen_by = ["entrance", "till"]\n'):
            with pytest.raises(ConfigError, match=f"{name}: till and entrance see the same floor"):
                loaded(tmp_path, tied + place + watched)
    site = loaded(tmp_path, tied + zone + 'seen_by = ["till"]\n')
    assert [[zone.name for zone in site.zones_of(camera)] for camera in site.cameras] == [[], ["wine"]]


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


# What a site that is kept says besides

KEPT = """
holidays = [2026-03-29, 2026-12-25]
retention_days = 14
k = 5
mode = "visitor-counting"
staff_zones = ["shelf"]
"""
HOURS = """
[hours]
saturday = ["09:00-12:30", "14:00-18:00"]
sunday = ["11:00-17:00"]
friday = ["18:00-02:00"]

[[queues]]
zone = "queue"
staff_zone = "shelf"

[[alerts]]
name = "long queue"
zone = "queue"
above = 4
for_s = 30

[[alerts]]
name = "long wait"
measure = "waiting_s"
zone = "queue"
above = 300
"""


def test_hours_and_the_like_change_nothing_of_how_cameras_are_watched(tmp_path):
    plain, kept = loaded(tmp_path, CAMERAS + ZONES), loaded(tmp_path, KEPT + CAMERAS + ZONES + HOURS)
    assert kept.sha256 == plain.sha256
    assert (kept.retention_days, kept.k, kept.mode, kept.holidays[0]) == (14, 5, "visitor-counting", date(2026, 3, 29))
    assert (plain.retention_days, plain.k, plain.mode, plain.hours) == (30, 10, "customer-journey", None)


def test_the_sample_shops_keys_are_those_of_the_versions_before():
    sample = load_site(ATLAS.with_name("sample") / "site.toml")
    assert sample.sha256.startswith("860501dff4129c3d")


def clock(*when):
    return datetime(*when, tzinfo=ZoneInfo("Europe/Paris")).astimezone(UTC)


def test_a_site_is_open_by_its_own_clock_with_a_break_past_midnight_and_not_on_a_holiday(tmp_path):
    site = loaded(tmp_path, KEPT + CAMERAS + ZONES + HOURS)
    assert site.openings(clock(2026, 3, 20), clock(2026, 3, 23)) == [  # from Friday to Sunday
        (clock(2026, 3, 20, 18), clock(2026, 3, 21, 2)),
        (clock(2026, 3, 21, 9), clock(2026, 3, 21, 12, 30)),
        (clock(2026, 3, 21, 14), clock(2026, 3, 21, 18)),
        (clock(2026, 3, 22, 11), clock(2026, 3, 22, 17)),
    ]
    assert site.openings(clock(2026, 3, 29), clock(2026, 3, 30)) == []  # Sunday, a holiday
    assert site.openings(clock(2026, 3, 21, 1), clock(2026, 3, 21, 10)) == [  # begun on the day before, and cut off
        (clock(2026, 3, 21, 1), clock(2026, 3, 21, 2)),
        (clock(2026, 3, 21, 9), clock(2026, 3, 21, 10)),
    ]
    assert site.closings(clock(2026, 3, 21, 2), clock(2026, 3, 21, 18)) == [
        clock(2026, 3, 21, 12, 30),
        clock(2026, 3, 21, 18),
    ]


def test_opening_times_stay_where_they_are_when_the_clock_changes(tmp_path):
    text = "holidays = []\n" + CAMERAS + '[hours]\nsunday = ["00:00-09:00"]\nmonday = ["09:00-10:00"]\n'
    site = loaded(tmp_path, text)
    for day, hours in ((29, 8), (22, 9)):  # in the night to 29 March 2026 an hour is left out
        ((opens, closes),) = site.openings(clock(2026, 3, day), clock(2026, 3, day + 1))
        assert closes - opens == timedelta(hours=hours)
        assert closes.astimezone(ZoneInfo("Europe/Paris")).hour == 9
    ((opens, closes),) = site.openings(clock(2026, 10, 25), clock(2026, 10, 26))
    assert closes - opens == timedelta(hours=10)  # 02:00 to 03:00 comes twice
    assert site.closings(clock(2026, 10, 25, 10), clock(2026, 10, 26, 23)) == [clock(2026, 10, 26, 10)]


def test_a_site_without_hours_is_always_open_and_closes_at_midnight_for_a_moment(tmp_path):
    site = loaded(tmp_path, "holidays = [2026-12-25]\n" + CAMERAS)
    assert site.openings(clock(2026, 12, 24), clock(2026, 12, 27)) == [
        (clock(2026, 12, 24), clock(2026, 12, 25)),
        (clock(2026, 12, 26), clock(2026, 12, 27)),
    ]
    assert site.closings(clock(2026, 3, 28), clock(2026, 3, 30)) == [clock(2026, 3, 29), clock(2026, 3, 30)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("09:00-12:30", "9-12", "hours: saturday: expected times such as \"09:00-18:30\", got '9-12'"),
        ("09:00-12:30", "09:00-14:30", "saturday: expected times in order that do not overlap, got 09:00-14:30, 14:00"),
        ("sunday =", "sonntag =", "unknown key 'hours.sonntag'; did you mean"),
        (
            'zone = "queue"\nstaff_zone',
            'zone = "till"\nstaff_zone',
            r"queues: expected a zone \(shelf, queue\), got 'till'",
        ),
        ('staff_zone = "shelf"', 'staff_zone = "queue"', "'queue' is where staff stands, too"),
        (
            'measure = "waiting_s"\nzone = "queue"',
            'measure = "waiting_s"\nzone = "shelf"',
            "waiting is measured in queues",
        ),
        ('"long wait"', '"long queue"', "alerts: expected each once, got 'long queue' twice"),
        ("above = 4", "above = -1", "alert 'long queue': expected a name, above of 0 or more"),
        ('staff_zones = ["shelf"]', 'staff_zones = ["store"]', "staff_zones: expected a zone"),
        ("2026-12-25", "2026-03-29", "holidays: expected each once, got '2026-03-29' twice"),
        ("retention_days = 14", "retention_days = 0", "retention_days: expected days of 1 to 3660, got 0"),
        ("k = 5", "k = 0", "k: expected a number of people of 1 to 1000"),
        ('"visitor-counting"', '"counting"', "mode: Input should be 'visitor-counting', 'customer-journey'"),
    ],
)
def test_what_a_kept_site_cannot_be_is_said(tmp_path, old, new, said):
    text = KEPT + CAMERAS + ZONES + HOURS
    assert old in text
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, text.replace(old, new))


def test_lines_that_passers_by_cross_are_no_doors(tmp_path):
    street = '[[lines]]\nname = "street"\nstart = [0.0, 3.0]\nend = [4.0, 3.0]\ndoor = false\n'
    assert loaded(tmp_path, 'passing = ["street"]\n' + CAMERAS + ZONES + street).passing == ("street",)
    with pytest.raises(ConfigError, match=r"passing: expected lines that are no doors \(street\), got 'door'"):
        loaded(tmp_path, 'passing = ["door"]\n' + CAMERAS + ZONES + street)
