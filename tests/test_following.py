"""What is made of what the vision worker says: visits, what is kept, what is shown, what a fault or a clock does to it."""

import threading
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from passerby.reid.calibration import Calibration, Curve
from passerby.service import kept
from passerby.service.alarms import Alarms
from passerby.service.analytics import Period, stretch_end
from passerby.service.drawing import Drawing, whole
from passerby.service.following import Following
from passerby.service.guests import Guests
from passerby.service.kept import Closing
from passerby.service.ledger import Ledger
from passerby.service.live import Live
from passerby.service.lookup import Lookup
from passerby.service.memory import Memory, finalize
from passerby.service.outages import Outages
from passerby.service.rollups import Hours
from passerby.service.run import Watch, settle
from passerby.service.store import Store, StoreReader
from passerby.service.vault import Vault
from passerby.shop import Crossing, Sighting, SightingKey, Stay
from passerby.site import Alert, Camera, LineSite, Queue, Site, ZoneSite
from passerby.types import PasserbyError
from passerby.vision.associate import Associator
from passerby.vision.readers import State
from passerby.vision.window import Drawn, Window
from passerby.vision.worker import Made, Opened, Shown, Watching

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
MAP = Calibration((((1, 1), Curve((0.0,), (20.0,), -10.0, 12.0, 10.0)),), "0" * 64, "fp32", "example")
LOOKS = np.eye(4, dtype=np.float32)
SHOP = Site(
    "shop",
    (Camera("door", "door.mp4"), Camera("till", "till.mp4")),
    zones=(ZoneSite("queue", ((0.1, 0.5), (0.9, 0.5), (0.9, 0.9)), camera="till"),),
    lines=(LineSite("entry", (0.1, 0.5), (0.9, 0.5), camera="door"),),
    queues=(Queue("queue"),),
    alerts=(Alert("long wait", 20, measure="waiting_s", zone="queue"),),
)
PATIENCE_S = 60.0


def at(seconds):
    return START + timedelta(seconds=seconds)


def seen(
    camera,
    track,
    since_s,
    until_s,
    person,
    *,
    crossed=None,
    state="closed",
    revision=1,
    session="s",
    stay_s=None,
    inwards=True,
):
    return Sighting(
        SightingKey("shop", camera, session, track),
        revision,
        state,
        at(since_s),
        at(until_s),
        LOOKS[[person]],
        np.ones(1, np.float32),
        np.ones(1, np.int64),
        "n",
        stays=() if stay_s is None else (Stay("queue", at(stay_s), None),),
        crossings=() if crossed is None else (Crossing("entry", at(crossed), inwards),),
    )


class Followed:
    """A shop that is followed into a store; its clock is that of the messages."""

    def __init__(self, folder, *, vault=None):
        self.store = Store(folder / "shop.sqlite")
        self.store.put_site(SHOP)
        self.now_s, self.parts, self.said, self.draws = 0.0, [], [], []
        self.live = Live(SHOP, clock=lambda: at(self.now_s))
        self.ledger = Ledger(self.store, site="shop", told=self.live.tell, wait_scale=0.0)
        self.ledger.start()
        self.outages = Outages(known=(), since={}, put=lambda gaps: self.ledger.note(gaps=gaps), alarm=self.live.alert)
        self.memory = Memory(self.store, SHOP, vault, say=self.said.append)
        settle(self.store, "shop")
        self.drawing = Drawing(
            SHOP,
            after=None if (span := self.store.span("shop")) is None else span[1],
            put=lambda draws: self.ledger.note(draws=draws),
            say=lambda phase, reason: self.draws.append((phase, reason)),
            most_an_hour=30,
        )
        if not self.memory.is_full:
            finalize(self.store, "shop")
        self.following = Following(
            SHOP,
            live=self.live,
            ledger=self.ledger,
            outages=self.outages,
            alarms=Alarms(SHOP, tell=self.live.alert),
            memory=self.memory,
            drawing=self.drawing,
            say=lambda phase, reason: self.parts.append((phase, reason)),
        )
        self.say(0, Opened(MAP, "n"))

    def say(self, second, message):
        self.now_s = second
        self.following.take(message, now=at(second), now_s=1000.0 + second)

    def made(self, second, *sightings):
        self.say(second, Made(at(second), sightings))

    def end(self):
        self.following.finish()
        return self.close()

    def close(self):
        self.drawing.stop()
        assert self.ledger.close(timeout_s=PATIENCE_S)
        self.visits, self.sightings = self.store.visits("shop"), self.store.sightings("shop")
        self.crossings = self.store.crossings("shop")
        self.drawn = {(each.start, each.length, each.what): each.values for each in kept.draws(self.store, "shop")}
        self.store.close()
        visits = [visit for visit in self.visits if visit.sightings]
        return [[(key.camera, key.track) for key in visit.sightings] for visit in visits]


@pytest.fixture
def followed(tmp_path):
    return Followed(tmp_path)


def test_sightings_become_visits_that_are_kept_and_people_that_are_counted(followed):
    followed.made(5, seen("door", 1, 0, 4, 0, crossed=2))
    followed.made(40, seen("till", 1, 20, 30, 0), seen("till", 2, 20, 30, 1))
    assert followed.end() == [[("door", 1), ("till", 1)], [("till", 2)]]
    assert followed.live.now().entries == 1
    assert ("live", "links sightings to visits") in followed.parts


def test_a_visit_ends_also_where_no_camera_says_anything_any_more(followed):
    followed.made(5, seen("door", 1, 0, 4, 0, crossed=2))
    for hours in range(1, 5):
        followed.following.idle(now_s=1000.0 + 3600 * hours)
    followed.close()
    (visit,) = followed.visits
    assert visit.final


def test_whom_nobody_looked_at_before_the_time_jumped_is_final_too(followed):
    followed.made(5, seen("door", 1, 0, 4, 0, crossed=2))
    followed.made(12 * 3600)  # the machine slept
    followed.close()
    (visit,) = followed.visits
    assert visit.final


def test_whom_a_worker_saw_that_is_gone_is_seen_no_more(followed):
    followed.made(
        5, seen("door", 1, 0, 4, 0, crossed=2, state="open"), seen("till", 1, 0, 5, 1, state="open", stay_s=1)
    )
    followed.say(6, (Watching(State("door", "live", "live", 9, 0, 0, 0, 0, 0.0, at(6), "arrival"), 5.0, 0.1),))
    followed.following.lose("failed", "its process ended", now=at(7))
    followed.end()
    kept = followed.sightings
    assert [(sighting.state, sighting.revision, sighting.end) for sighting in kept] == [
        ("closed", 2, at(4)),
        ("closed", 2, at(5)),
    ]
    assert kept[1].stays == (Stay("queue", at(1), at(5)),)
    (camera,) = followed.live.now().cameras
    assert (camera.phase, camera.reason, camera.since, camera.newest) == ("failed", "its process ended", at(7), at(6))


def test_where_the_clock_was_set_back_visits_begin_anew_and_everybody_is_counted(followed):
    followed.made(3600, seen("door", 1, 3590, 3595, 0, crossed=3592))
    followed.made(3610, seen("till", 1, 3600, 3605, 0))
    followed.made(10, seen("door", 2, 0, 5, 1, crossed=2, session="t"))  # an hour back: the worker was started again
    followed.made(40, seen("till", 2, 20, 25, 1, session="t"))
    assert sorted(followed.end()) == [[("door", 1), ("till", 1)], [("door", 2), ("till", 2)]]
    assert len(followed.crossings) == 2


def test_a_small_step_back_changes_nothing(followed):
    followed.made(100, seen("door", 1, 90, 95, 0, crossed=92))
    followed.made(95)
    followed.made(140, seen("till", 1, 110, 120, 0))
    assert followed.end() == [[("door", 1), ("till", 1)]]


def test_a_fault_of_the_associator_is_shown_and_counting_goes_on(followed, monkeypatch):
    followed.made(5, seen("door", 1, 0, 4, 0, crossed=2))
    with monkeypatch.context() as patched:
        patched.setattr(Associator, "advance", lambda self, now: 1 / 0)
        followed.made(20, seen("door", 2, 10, 14, 1, crossed=12))
    assert followed.parts[-1] == ("failed", "ZeroDivisionError: division by zero; visits begin anew")
    followed.made(60, seen("door", 3, 50, 54, 2, crossed=52), seen("till", 1, 56, 58, 2))
    assert followed.parts[-1][0] == "live"
    assert [("door", 3), ("till", 1)] in followed.end()
    assert len(followed.crossings) == 3


def test_how_cameras_are_and_what_they_show_is_passed_on_and_alerts_are_watched(followed):
    followed.made(30, seen("till", 1, 0, 25, 1, state="open", stay_s=4))
    followed.say(31, Shown("till", at(30), b"jpeg"))
    followed.say(
        31, (Watching(State("till", "stalled", "no frame", 9, 1, 2, 0, 3, 0.0, at(30), "arrival"), 0.5, 0.25),)
    )
    (camera,) = followed.live.now().cameras
    assert (camera.phase, camera.rate, camera.lag_s, camera.dropped, camera.reconnects) == ("stalled", 0.5, 0.25, 1, 3)
    assert followed.live.picture("till") == (b"jpeg", at(30))
    assert [alarm.text for alarm in followed.live.now().alerts] == [
        "long wait: somebody has waited for 21 s in queue, above 20"
    ]
    followed.made(40, seen("till", 1, 0, 28, 1, revision=2))
    followed.say(41, (Watching(State("till", "live", "live", 9, 1, 2, 0, 3, 0.0, at(40), "arrival"), 0.5, 0.25),))
    assert followed.live.now().alerts == ()
    followed.close()


# A restart in the middle of a stay


def stopped(followed, folder):
    """The run ends in order: its last snapshot is in the vault."""
    followed.following.pause()
    followed.memory.save(followed.following.snapshot(), today=START.date())
    followed.close()
    return Followed(folder, vault=Vault(folder / "vault"))


def killed(followed, folder):
    """The run ends as with kill -9: the last snapshot is what there was before."""
    followed.close()
    return Followed(folder, vault=Vault(folder / "vault"))


def ended(followed):
    """Ways of all visits that there are, and nothing more comes."""
    ways = followed.end()
    assert all(visit.final for visit in followed.visits)
    return ways


def test_who_is_inside_while_passerby_is_started_again_makes_one_visit(tmp_path):
    first = Followed(tmp_path, vault=Vault(tmp_path / "vault"))
    first.made(5, seen("door", 1, 0, 4, 0, crossed=2), seen("door", 2, 1, 5, 1, crossed=3))
    second = stopped(first, tmp_path)
    second.made(100, seen("till", 1, 60, 90, 0, session="t"))
    assert ended(second) == [[("door", 1), ("till", 1)], [("door", 2)]]
    assert second.said == []


def test_what_came_after_the_last_snapshot_is_in_the_store_and_nothing_is_doubled(tmp_path):
    first = Followed(tmp_path, vault=Vault(tmp_path / "vault"))
    first.made(5, seen("door", 1, 0, 4, 0, crossed=2))
    first.made(12, seen("till", 1, 10, 12, 0, state="open", stay_s=11))
    first.memory.save(first.following.snapshot(), today=START.date())
    first.made(
        30, seen("till", 1, 10, 29, 0, state="open", revision=2, stay_s=11), seen("door", 2, 20, 24, 1, crossed=22)
    )
    second = killed(first, tmp_path)
    second.made(100, seen("door", 3, 60, 64, 0, session="t"))
    ways = ended(second)
    assert ways == [[("door", 1), ("till", 1), ("door", 3)], [("door", 2)]]
    (at_the_till,) = [each for each in second.sightings if each.key.camera == "till"]
    assert (at_the_till.state, at_the_till.end, at_the_till.stays[0].end) == ("closed", at(29), at(29))
    assert len(second.crossings) == 2


def test_overnight_those_of_the_day_before_become_final(tmp_path):
    first = Followed(tmp_path, vault=Vault(tmp_path / "vault"))
    first.made(5, seen("door", 1, 0, 4, 0, crossed=2))
    second = stopped(first, tmp_path)
    second.made(12 * 3600, seen("door", 1, 12 * 3600 - 5, 12 * 3600 - 1, 0, crossed=12 * 3600 - 3, session="t"))
    second.following.pause()
    second.close()
    assert sorted(visit.final for visit in second.visits) == [False, True]
    assert len({visit.person for visit in second.visits}) == 2


def test_without_a_snapshot_that_fits_visits_are_final_and_begin_anew(tmp_path):
    first = Followed(tmp_path, vault=Vault(tmp_path / "vault"))
    first.made(5, seen("door", 1, 0, 4, 0, crossed=2))
    first.following.pause()
    first.memory.save(first.following.snapshot(), today=START.date())
    first.close()
    file = tmp_path / "vault" / "snapshot"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    second = Followed(tmp_path, vault=Vault(tmp_path / "vault"))
    assert "who is inside is not known again: " in second.said[0]
    second.made(100, seen("till", 1, 60, 90, 0, session="t"))
    assert ended(second) == [[("door", 1)], [("till", 1)]]


def test_nothing_of_who_was_erased_comes_back_with_a_snapshot(tmp_path):
    first = Followed(tmp_path, vault=Vault(tmp_path / "vault"))
    first.made(5, seen("door", 1, 0, 4, 0, crossed=2), seen("door", 2, 1, 4, 1, crossed=3))
    first.made(30)
    first.memory.save(first.following.snapshot(), today=START.date())
    first.ledger.kept(first.ledger.added, timeout_s=PATIENCE_S)
    name = next(visit.name for visit in first.store.visits("shop") if visit.sightings[0].track == 1)
    first.memory.erase(first.store, "shop", name, who="me", kind="user", now=at(31))
    first.memory.save(first.following.snapshot(), today=START.date())
    assert Vault(tmp_path / "vault").load() is None
    first.close()
    assert [sighting.key.track for sighting in first.sightings] == [2]
    assert len(first.crossings) == 2  # counts stay


def test_a_fault_of_the_associator_leaves_no_visit_open_for_ever(tmp_path, monkeypatch):
    first = Followed(tmp_path, vault=Vault(tmp_path / "vault"))
    first.made(5, seen("door", 1, 0, 4, 0, crossed=2))
    first.made(20)
    with monkeypatch.context() as patched:
        patched.setattr(Associator, "advance", lambda self, now: 1 / 0)
        first.made(40)
    second = stopped(first, tmp_path)
    second.made(100, seen("till", 1, 60, 90, 0, session="t"))
    assert ended(second) == [[("door", 1)], [("till", 1)]]


# Draws


def shoppers(followed, since_s, persons, *, session="s"):
    """So many people come in, go to the till and out again, a minute apart."""
    for number in range(persons):
        t, who = since_s + 60 * number, number % 4
        followed.made(
            t + 50,
            seen("door", 10 * t + 1, t, t + 4, who, crossed=t + 2, session=session),
            seen("till", 10 * t + 2, t + 20, t + 30, who, session=session),
            seen("door", 10 * t + 3, t + 40, t + 44, who, crossed=t + 42, inwards=False, session=session),
        )


def wait(followed, *minutes):
    """Time goes on, and each look has the time that it takes."""
    for minute in minutes:
        followed.made(60 * minute)
        assert followed.drawing.wait(timeout_s=PATIENCE_S)


def test_an_hour_that_is_over_has_draws_of_its_visits(followed):
    shoppers(followed, 60, 4)
    wait(followed, 17, 32, 47, 62)
    followed.ledger.kept(followed.ledger.added, timeout_s=PATIENCE_S)
    assert kept.draws(followed.store, "shop") == []  # the hour has only just ended
    wait(followed, 77, 92)
    followed.close()
    assert sorted(key[1:] for key in followed.drawn) == [("hour", "persons"), ("hour", "visits")]
    visits = followed.drawn[START, "hour", "visits"]
    assert (len(visits), np.median(visits)) == (100, 4)
    assert followed.drawing.skipped == 0
    assert [phase for phase, _ in followed.draws] == ["starting"] + ["live"] * 6


def test_an_hour_with_a_restart_in_its_middle_has_no_draws_and_the_next_one_has(tmp_path):
    first = Followed(tmp_path, vault=Vault(tmp_path / "vault"))
    shoppers(first, 60, 4)
    wait(first, 17, 32, 47, 62, 77)
    shoppers(first, 78 * 60, 2)
    second = stopped(first, tmp_path)
    shoppers(second, 90 * 60, 2, session="t")
    wait(second, 107, 122)
    shoppers(second, 125 * 60, 3, session="t")
    wait(second, 138, 153, 168, 183, 198)
    second.close()
    assert {start: np.median(values) for (start, _, what), values in second.drawn.items() if what == "visits"} == {
        START: 4,  # as the first run drew it
        at(7200): 3,
    }


def test_draws_that_lack_who_came_later_are_taken_back(tmp_path):
    first = Followed(tmp_path)
    shoppers(first, 60, 2)
    early = Drawn(START, "hour", "visits", np.array([2, 2]))
    first.ledger.note(draws=[early])
    first.close()
    assert first.drawn[START, "hour", "visits"].tolist() == [2, 2]
    second = Followed(tmp_path)
    shoppers(second, 900, 2, session="t")
    wait(second, 33)
    second.close()
    assert second.drawn == {}


def test_of_recordings_draws_are_kept_where_the_store_knows_of_nobody_else(followed):
    shoppers(followed, 60, 2)
    shoppers(followed, 3700, 1, session="t")
    assert followed.ledger.kept(followed.ledger.added, timeout_s=PATIENCE_S)
    mine = {each.key for each in followed.store.sightings("shop") if each.key.session == "s"}
    assert len(mine) == 6
    day = START.replace(hour=0)
    drawn = [Drawn(START, "hour", "visits", np.array([2, 3])), Drawn(day, "day", "visits", np.array([2, 3]))]
    kept.put_draws(followed.store, "shop", drawn)  # as they were before those of session t came
    kept.put_draws(followed.store, "shop", whole(followed.store, SHOP, drawn, seen=mine))
    followed.close()
    assert {key: values.tolist() for key, values in followed.drawn.items()} == {(START, "hour", "visits"): [2, 3]}


def test_a_day_ends_by_the_clock_of_the_site_also_where_it_has_23_hours():
    night = datetime(2026, 3, 28, 23, tzinfo=UTC)  # midnight in Paris, before clocks go forward
    paris = ZoneInfo("Europe/Paris")
    assert stretch_end(night, "day", paris) - night == timedelta(hours=23)
    assert stretch_end(night, "hour", paris) - night == timedelta(hours=1)
    assert stretch_end(START.replace(hour=0), "week", ZoneInfo("UTC")) == datetime(2026, 3, 9, tzinfo=UTC)


def test_a_look_lets_nobody_wait_and_one_that_is_due_meanwhile_is_skipped(followed, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def look(window, known):
        begun.set()
        assert go_on.wait(PATIENCE_S)

    monkeypatch.setattr(Window, "look", look)
    shoppers(followed, 60, 2)
    followed.made(60 * 17)
    assert begun.wait(PATIENCE_S)
    shoppers(followed, 60 * 18, 1)  # is taken in while the look lasts
    followed.made(60 * 32)
    assert followed.drawing.skipped == 1
    go_on.set()
    assert followed.drawing.wait(timeout_s=PATIENCE_S)
    assert sum(map(len, followed.end())) == 9


def test_too_many_people_and_a_fault_leave_visits_without_an_interval_and_say_so(followed, monkeypatch):
    shoppers(followed, 60, 11)
    wait(followed, 17)
    assert followed.draws[-1] == (
        "stalled",
        "visits get no interval until there are fewer people: 33 sightings in an hour, more than 30",
    )
    with monkeypatch.context() as patched:
        patched.setattr(Associator, "remembered", lambda self, since_s: 1 / 0)
        wait(followed, 33, 49)
    assert "ZeroDivisionError" in followed.draws[-1][1]
    assert followed.parts[-1][0] == "live"  # the associator goes on
    wait(followed, 65, 81, 97, 113, 129, 145)
    assert followed.draws[-1][0] == "live"
    followed.close()
    assert followed.drawn == {}  # of an hour that was not watched


def test_where_nobody_was_looked_at_for_long_draws_begin_anew(followed):
    shoppers(followed, 60, 4)
    wait(followed, 17, 32)
    followed.made(60 * 300)  # the machine slept: whoever was forgotten meanwhile cannot be drawn
    wait(followed, 316, 331, 346)
    followed.close()
    assert followed.drawn == {}


# Search by picture


def test_who_is_remembered_can_be_looked_up_until_he_is_forgotten_or_erased(tmp_path):
    followed = Followed(tmp_path)
    for person in (0, 1):
        followed.made(1 + person, seen("door", 1 + person, 0, 1, person=person, crossed=1))
        followed.made(31 + person, seen("till", 1 + person, 20, 30, person=person))
    followed.made(60)
    followed.made(90)
    looks = followed.following.looks()
    assert (looks.network, looks.calibration, looks.many.tolist()) == ("n", MAP, [2.0, 2.0])
    assert followed.ledger.kept(followed.ledger.added, timeout_s=PATIENCE_S)
    lookup = Lookup(followed.following.looks, embed=lambda picture: (LOOKS[[1]], "n"))
    crop = np.random.default_rng(1).integers(0, 256, (128, 64, 3), np.uint8)
    found = lookup.find(crop)
    (visit,) = [visit for visit in followed.store.visits("shop") if any(key.track == 2 for key in visit.sightings)]
    assert (found.visits[0][0], found.among) == (visit.name, 2)
    assert found.visits[0][1] > 0.9
    other = Lookup(followed.following.looks, embed=lambda picture: (LOOKS[[1]], "another"))
    with pytest.raises(PasserbyError, match="model was changed"):
        other.find(crop)
    followed.memory.erase(followed.store, "shop", visit.name, who="me", kind="user", now=at(61))
    assert [name for name, _ in lookup.find(crop).visits] != [visit.name]
    assert lookup.find(crop).among == 1
    followed.made(60 + 5 * 3600)
    followed.made(60 + 6 * 3600)
    assert lookup.find(crop).visits == ()
    assert lookup.find(crop).unknown == 1.0
    followed.end()


def test_before_the_networks_are_opened_nobody_can_be_looked_up():
    with pytest.raises(PasserbyError, match="Nobody is followed yet"):
        Lookup(lambda: None, embed=lambda picture: (LOOKS[[1]], "n")).find(np.zeros((8, 8, 3), np.uint8))


# What is done now and then


def watch_of(followed, folder, began):
    return Watch(
        SHOP,
        folder / "shop.sqlite",
        store=followed.store,
        live=followed.live,
        ledger=followed.ledger,
        following=followed.following,
        memory=followed.memory,
        guests=Guests(
            followed.store, SHOP, None, Lookup(followed.following.looks, embed=lambda picture: (LOOKS[[1]], "n"))
        ),
        began=began,
        tell=followed.said.append,
    )


def test_figures_of_those_who_are_forgotten_stay(tmp_path):
    followed = Followed(tmp_path)
    followed.made(1, seen("door", 1, 0, 1, person=0, crossed=1))
    followed.made(31, seen("till", 1, 20, 30, person=0))
    followed.following.finish()
    assert followed.ledger.kept(followed.ledger.added, timeout_s=PATIENCE_S)
    day = Period(datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
    later = START + timedelta(days=SHOP.retention_days + 1)
    watch_of(followed, tmp_path, later)._expire(later)
    assert followed.store.visits("shop") == []
    hours = Hours(followed.store, SHOP, day, now=later)
    assert (hours.came(day)["visits"], hours.of("doors", day)) == (1, {"entry": {"in": 1, "out": 0}})
    followed.close()


def test_a_closing_is_kept_with_how_many_were_inside(tmp_path):
    followed, midnight = Followed(tmp_path), 14 * 3600  # seconds from START to the next day
    followed.now_s = midnight - 60
    watch = watch_of(followed, tmp_path, at(midnight - 60))
    for track in (1, 2):
        since_s = midnight - 60 + track
        followed.made(since_s + 2, seen("door", track, since_s, since_s + 1, person=track, crossed=since_s))
    assert followed.ledger.kept(followed.ledger.added, timeout_s=PATIENCE_S)
    followed.now_s = midnight + 3
    watch.look_after(1000.0, at(midnight + 3))
    assert followed.live.now().occupancy == 0
    watch.stop(at(midnight + 3))
    followed.close()
    with StoreReader(tmp_path / "shop.sqlite") as store:
        assert kept.closings(store, "shop") == [Closing(at(midnight), 2)]
