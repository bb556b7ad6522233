"""What is live: counts of today, people in zones, and the changes that listeners hear of."""

import asyncio
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from threading import Thread
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.service import analytics
from passerby.service import live as room
from passerby.service.live import Alarm, CameraState, Live, Part, health
from passerby.shop import Crossing
from passerby.site import Hours
from passerby.vision.associate import Changes
from passerby.vision.visits import passages
from test_store import START, at, key, seen, shop_of, visit

NOTHING = Changes()
SHOP = shop_of(zones=("wine", "beer"), lines=(("entry", "door", True), ("shelf", "aisle", False)))


class Clock:
    def __init__(self, at):
        self.at = at

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return Clock(START)


@pytest.fixture
def live(clock):
    return Live(SHOP, clock=clock)


def went(track, second, *, inwards=True, revision=1, state="closed", line="entry"):
    return seen(
        "door", second - 2, second + 2, track=track, revision=revision, state=state, crossings=[(line, second, inwards)]
    )


def heard(live, act, *, last=None, count=1):
    """The first events of a stream; `act` is called from another thread, once the first has come."""

    async def listening():
        found = []
        async for event in live.events(last):
            found.append(event)
            if len(found) == 1:
                thread = Thread(target=act)
                thread.start()
            if len(found) == count:
                break
        await asyncio.to_thread(thread.join)
        return found

    return asyncio.run(asyncio.wait_for(listening(), 10))


# Counts


def test_who_came_and_went_today_is_counted(live):
    live.tell([went(1, 10), went(2, 20), went(3, 90, inwards=False)], NOTHING)
    now = live.now()
    assert (now.entries, now.exits, now.occupancy) == (2, 1, 1)


def test_a_line_that_is_no_door_does_not_count(live):
    live.tell([went(1, 10, line="shelf")], NOTHING)
    assert (live.now().entries, live.now().occupancy) == (0, 0)


def test_a_revision_counts_once_and_the_newest_one(live):
    live.tell([went(1, 10, state="open")], NOTHING)
    live.tell([went(1, 10, state="open")], NOTHING)
    live.tell([went(1, 10, revision=2)], NOTHING)
    assert live.now().entries == 1
    live.tell([replace(went(1, 10), revision=3, crossings=())], NOTHING)
    live.tell([went(1, 10, revision=2)], NOTHING)
    assert live.now().entries == 0


def test_who_was_nobody_is_taken_back(live):
    live.tell([went(1, 10, state="open")], NOTHING)
    live.tell([went(1, 10, revision=2, state="withdrawn")], NOTHING)
    assert (live.now().entries, live.now().occupancy) == (0, 0)


def test_occupancy_is_never_negative(live):
    live.tell([went(1, 10, inwards=False), went(2, 20)], NOTHING)
    assert (live.now().exits, live.now().occupancy) == (1, 1)


def test_a_restart_does_not_begin_at_0_and_counts_nobody_twice(live):
    again = [went(1, 10), went(2, 20, state="open")]
    live.begin(
        [Crossing("entry", at(5), True), Crossing("entry", at(10), True), Crossing("entry", at(20), True)], again
    )
    assert live.now().entries == 3
    live.tell([went(2, 20, revision=2)], NOTHING)
    assert (live.now().entries, live.now().occupancy) == (3, 2)  # of the first nothing more is known


def test_at_midnight_of_the_site_counts_begin_anew(live, clock):
    live.begin([Crossing("entry", at(-30), True)], [])
    live.tell([went(1, 10)], NOTHING)
    clock.at = datetime(2026, 3, 2, 22, 59, 59, tzinfo=UTC)  # 23:59:59 in Paris
    assert live.now().entries == 2
    clock.at += timedelta(seconds=1)
    assert (live.now().entries, live.now().occupancy, live.now().day) == (0, 0, clock.at)
    live.tell([went(1, 10, revision=2)], NOTHING)  # of the day before
    assert live.now().entries == 0


def test_yesterday_is_not_counted(live):
    live.begin([Crossing("entry", at(-86400), True)], [])
    live.tell([went(1, -86400)], NOTHING)
    assert live.now().entries == 0


@given(
    st.lists(
        st.tuples(
            st.integers(1, 4), st.integers(1, 5), st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=3)
        ),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=200)
def test_whatever_order_revisions_come_in_the_doors_count_as_if_counted_at_the_end(revisions):
    live = Live(replace(SHOP, cameras=SHOP.cameras[:1], zones=(), lines=SHOP.lines[:1]), clock=Clock(START))
    newest = {}
    for track, revision, crossed in revisions:
        crossings = [("entry", second, inwards) for second, inwards in crossed]
        sighting = seen("door", 0, 9, track=track, revision=revision, crossings=crossings)
        live.tell([sighting], NOTHING)
        if track not in newest or newest[track].revision < revision:
            newest[track] = sighting
        crossings = [crossing for each in newest.values() for crossing in passages(each.crossings)]
        steps = analytics.occupancy(crossings, doors={"entry"})
        now = live.now()
        assert now.occupancy == (steps[-1].people if steps else 0)
        assert (now.entries, now.exits) == tuple(sum(c.inwards == way for c in crossings) for way in (True, False))


# Who is inside


def test_by_doors_alone_where_no_camera_sees_the_inside(clock):
    live = Live(replace(SHOP, cameras=SHOP.cameras[:1], zones=(), lines=SHOP.lines[:1]), clock=clock)
    live.tell([went(1, 10), went(2, 20), went(3, 90, inwards=False)], NOTHING)
    clock.at = at(7200)
    assert live.now().occupancy == 1


def test_who_was_not_seen_to_leave_is_inside_for_ten_minutes(live, clock):
    live.tell([went(1, 10)], NOTHING)  # seen until 12
    clock.at = at(612)
    assert live.now().occupancy == 1
    clock.at = at(613)
    assert (live.now().occupancy, live.now().entries) == (0, 1)


def test_who_was_not_seen_to_enter_is_inside_once_seen(live, clock):
    clock.at = at(70)
    live.tell([inside(1, 69)], NOTHING)
    assert live.now().occupancy == 1
    live.tell([went(2, 75, inwards=False)], Changes(visits=(visit("v", key("aisle"), key("door", 2)),)))
    assert (live.now().occupancy, live.now().exits) == (0, 1)


def test_one_that_was_lost_goes_on_in_another_that_begins_inside(live):
    live.tell([went(1, 10), went(2, 20)], NOTHING)
    assert live.now().occupancy == 2
    live.tell([seen("aisle", 60, 70, state="open")], NOTHING)
    assert live.now().occupancy == 2  # one of the two, of whom it is not known yet
    live.tell([], Changes(visits=(visit("v", key("door", 1), key("aisle")), visit("w", key("door", 2)))))
    assert live.now().occupancy == 2


def test_who_was_only_seen_at_the_door_and_crossed_nothing_is_not_inside(live):
    live.tell([seen("door", 0, 9, state="open")], NOTHING)
    assert (live.now().occupancy, live.now().seen) == (0, 1)


def test_who_comes_again_after_leaving_is_inside_again(live):
    live.tell([went(1, 10), went(2, 90, inwards=False), went(3, 300)], NOTHING)
    live.tell([], Changes(visits=(visit("v", *(key("door", n) for n in (1, 2, 3))),)))
    assert live.now().occupancy == 1


def test_nobody_is_inside_after_closing_who_was_not_seen_since(clock):
    site = replace(SHOP, hours=Hours(monday=("09:00-11:02",)))  # a Monday; START is 11:00
    live = Live(site, clock=clock)
    live.tell([went(1, 10), went(2, 20)], NOTHING)
    live.tell([seen("aisle", 60, 130, track=3, state="open")], NOTHING)
    clock.at = at(131)
    assert live.now().occupancy == 1


DOORS = replace(  # all that its cameras see are doors, so that these alone tell who is inside
    SHOP, cameras=SHOP.cameras[:1], zones=(), lines=SHOP.lines[:1], hours=Hours(*[("18:00-03:00",)] * 7)
)


def through(track, when, *, inwards=True):
    crossed = Crossing("entry", when, inwards)
    return replace(seen("door", 0, 4, track=track), start=when, end=when, crossings=(crossed,))


def paris(text):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Paris")).astimezone(UTC)


@pytest.mark.parametrize("night", ["2026-03-02", "2026-03-28", "2026-10-24"])  # the clock changes in two of them
def test_who_is_inside_stays_so_past_midnight_and_until_the_site_closes(night):
    evening = paris(f"{night}T23:00")
    morning = paris(f"{night}T12:00") + timedelta(days=1)
    closing = DOORS.closings(evening, morning)[0]
    clock = Clock(evening)
    live = Live(DOORS, clock=clock)
    live.tell([through(n, evening + timedelta(seconds=n)) for n in range(1, 6)], NOTHING)
    assert (live.now().occupancy, live.now().entries) == (5, 5)
    clock.at = evening + timedelta(hours=1, seconds=1)  # a new day
    live.tell([through(9, clock.at, inwards=False)], NOTHING)
    assert (live.now().occupancy, live.now().entries, live.now().exits) == (4, 0, 1)
    clock.at = closing - timedelta(seconds=2)
    assert live.now().occupancy == 4
    again = Live(DOORS, clock=clock)  # passerby is started again
    known = [Crossing("entry", evening + timedelta(seconds=n), True) for n in range(1, 6)]
    again.begin([*known, Crossing("entry", evening + timedelta(hours=1, seconds=1), False)], [])
    assert (again.now().occupancy, again.now().entries, again.now().exits) == (4, 0, 1)
    clock.at = closing + timedelta(seconds=1)
    for one in (live, again):
        assert (one.now().occupancy, one.now().exits) == (0, 1)
        assert one.left_at(closing) == 4
    live.tell([through(10, clock.at)], NOTHING)
    assert live.now().occupancy == 1


def test_a_crossing_of_before_the_closing_that_comes_late_leaves_nobody_inside():
    closing = paris("2026-03-03T03:00")
    clock = Clock(closing + timedelta(seconds=5))
    live = Live(DOORS, clock=clock)
    live.tell([through(1, closing - timedelta(seconds=1))], NOTHING)
    assert (live.now().occupancy, live.now().entries) == (0, 1)


def test_a_closing_that_the_store_knows_counts_as_one_of_the_site_s_hours(clock):
    site = replace(DOORS, hours=Hours(*[("09:00-22:00",)] * 7))  # changed since: it had closed at 10:30
    live = Live(site, clock=clock)
    live.begin([Crossing("entry", at(-3600), True)], [], closings=[at(-1800)])
    assert (live.now().occupancy, live.now().entries) == (0, 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 47 * 60), st.booleans()), max_size=20), st.integers(1, 47 * 60))
def test_who_is_inside_now_is_what_the_hours_say_afterwards(passed, until):
    start = paris("2026-03-27T12:00")  # over the night in which an hour is left out
    clock = Clock(start)
    live = Live(DOORS, clock=clock)
    for track, (minute, inwards) in enumerate(sorted(each for each in passed if each[0] <= until), 1):
        clock.at = start + timedelta(minutes=minute)
        live.tell([through(track, clock.at, inwards=inwards)], NOTHING)
    clock.at = start + timedelta(minutes=until)
    before = [Crossing("entry", start + timedelta(minutes=m), inwards) for m, inwards in passed if m <= until]
    closings = DOORS.closings(start - timedelta(days=2), clock.at)
    day = analytics.midnight(clock.at.astimezone(ZoneInfo("Europe/Paris")).date(), ZoneInfo("Europe/Paris"))
    since = max(at for at in closings if at <= day)
    steps = analytics.occupancy([c for c in before if c.at >= since], doors=["entry"], closings=closings)
    assert live.now().occupancy == ([step.people for step in steps if step.at <= clock.at] or [0])[-1]


def test_visits_of_before_a_restart_are_known(live):
    live.begin([], [went(1, 10), went(2, 90, inwards=False), went(3, 95)], [visit("v", key("door", 1), key("door", 2))])
    assert live.now().occupancy == 1


def test_missed_exits_do_not_add_up_over_a_day(live, clock):
    """One comes each minute and stays for 290 s; of 33 who leave, the door misses one. By the doors alone 22 would be left."""
    told = []  # (when it is told, sightings, visits)
    for n in range(12 * 60):
        comes, goes = 60 * n, 60 * n + 290
        keys = key("door", 2 * n + 1), key("aisle", n + 1), key("door", 2 * n + 2)
        entry, shown, leaves = went(2 * n + 1, comes + 2), seen("aisle", comes + 10, goes - 10, track=n + 1), []
        told += [
            (comes + 4, [entry], ()),
            (comes + 20, [], (visit(f"v{n}", *keys[:1], since_s=comes, until_s=comes + 4),)),
        ]
        told.append((comes + 10, [replace(shown, state="open", end=shown.start)], ()))
        told.append((goes - 10, [replace(shown, revision=2)], ()))
        if n % 33:
            leaves = [went(2 * n + 2, goes - 2, inwards=False)]
        chain = keys if n % 33 else keys[:2]
        told.append((goes, leaves, ()))
        told.append((goes + 10, [], (visit(f"v{n}", *chain, revision=2, since_s=comes, until_s=goes),)))
    people = {}
    for second, sightings, visits in sorted(told, key=lambda each: each[0]):
        clock.at = at(second)
        live.tell(sightings, Changes(visits=visits))
        people[second] = live.now().occupancy
    day = [count for second, count in people.items() if 3600 <= second <= 12 * 3600]
    assert 4 <= sorted(day)[len(day) // 2] <= 6  # five are there
    assert max(day) <= 8
    assert min(day) >= 3
    assert live.now().entries - live.now().exits == 22  # what the doors alone would say


# People in zones


def inside(track, until_s, *, camera="aisle", zone="wine", revision=1, state="open"):
    stays = [(zone, 0, None if state == "open" else until_s)]
    return seen(camera, 0, until_s, track=track, revision=revision, state=state, stays=stays)


def test_a_zone_holds_who_is_seen_in_it(live, clock):
    live.tell([inside(1, 4), inside(2, 4), inside(3, 4, zone="beer")], NOTHING)
    clock.at = at(5)
    assert live.now().zones == {"wine": 2, "beer": 1}
    assert live.now().seen == 3
    live.tell([inside(1, 6, revision=2, state="closed")], NOTHING)
    assert live.now().zones == {"wine": 1, "beer": 1}


def test_a_zone_does_not_stay_at_1_after_someone_vanished(live, clock):
    live.tell([inside(1, 4)], NOTHING)
    clock.at = at(14)
    assert live.now().zones["wine"] == 1
    clock.at = at(14.1)
    assert (live.now().zones["wine"], live.now().seen) == (0, 0)


def test_a_zone_is_not_empty_because_the_machine_lags_behind(live, clock):
    aisle = CameraState("aisle", "live", "frames come", START, at(5), 5.0, 40.0, 10, 0, 0, 0)
    live.tell([inside(1, 4)], NOTHING)
    clock.at = at(45)
    assert live.now().zones["wine"] == 0
    live.cameras([aisle])  # its pictures of 40 s ago are looked at now
    assert live.now().zones["wine"] == 1
    live.cameras([replace(aisle, newest=at(15))])  # and show him no more
    assert live.now().zones["wine"] == 0
    live.cameras([replace(aisle, phase="stalled")])
    assert live.now().zones["wine"] == 0


def test_one_person_seen_by_two_cameras_at_once_is_one(live, clock):
    clock.at = at(5)
    both = [inside(1, 4), inside(1, 4, camera="door")]
    live.tell(both, NOTHING)
    assert live.now().zones["wine"] == 2
    live.tell([], Changes(visits=(visit("v", key("aisle"), key("door")),)))
    assert (live.now().zones["wine"], live.now().seen) == (1, 1)
    parted = (visit("v", key("aisle"), revision=2), visit("w", key("door"), split_from="v"))
    live.tell([], Changes(visits=parted))
    assert live.now().zones["wine"] == 2


# What listeners hear


def test_a_listener_hears_the_whole_state_first_and_then_the_changes(live):
    first, crossing, counts = heard(live, lambda: live.tell([went(1, 10)], NOTHING), count=3)
    assert (first.kind, first.data["entries"]) == ("state", 0)
    assert first.data == asdict(live.now()) | {"entries": 0, "occupancy": 0}
    assert crossing.kind == "crossing"
    assert crossing.data == {"camera": "door", "door": True, "line": "entry", "at": at(10), "inwards": True}
    assert (counts.kind, counts.data["entries"], counts.data["occupancy"]) == ("counts", 1, 1)


def test_who_comes_back_hears_what_he_missed(live):
    first, *_ = heard(live, lambda: live.tell([went(1, 10)], NOTHING), count=3)
    live.tell([went(2, 20)], NOTHING)
    missed = heard(live, lambda: None, last=first.id, count=4)
    assert [event.kind for event in missed] == ["crossing", "counts"] * 2
    assert missed[-1].data["entries"] == 2
    (rest,) = heard(live, lambda: None, last=missed[2].id, count=1)
    assert rest == missed[3]


@pytest.mark.parametrize("last", ["other-1", "", "garbage", "{run}-99999", "{run}-", "{run}-0"])
def test_who_was_away_too_long_or_names_no_event_of_ours_hears_the_whole_state(live, clock, monkeypatch, last):
    monkeypatch.setattr(room, "KEPT", 3)
    live = Live(SHOP, clock=clock)
    live.tell([went(n, 10 + n) for n in range(1, 6)], NOTHING)
    (now,) = heard(live, lambda: None)
    (event,) = heard(live, lambda: None, last=last.format(run=now.id.partition("-")[0]))
    assert (event.kind, event.data["entries"]) == ("state", 5)


def test_a_slow_listener_holds_nothing_back_and_nothing_grows(live, clock, monkeypatch):
    monkeypatch.setattr(room, "KEPT", 3)
    live = Live(SHOP, clock=clock)

    async def listening():
        stream = live.events()
        kinds = [(await anext(stream)).kind]
        live.tell([went(n, 10 + n) for n in range(1, 6)], NOTHING)  # six changes, three kept
        kinds.append((await anext(stream)).kind)
        await stream.aclose()
        return kinds

    assert asyncio.run(listening()) == ["state", "state"]
    assert live.listeners == 0


def test_closing_ends_every_stream(live):
    async def listening():
        return [event.kind async for event in live.events()]

    async def both():
        streams = [asyncio.create_task(listening()) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.to_thread(live.close)
        return await asyncio.wait_for(asyncio.gather(*streams), 10)

    assert asyncio.run(both()) == [["state"], ["state"]]


def test_what_did_not_change_is_not_said(live):
    part = Part("vision", "live", "frames come", START)
    door = CameraState("door", "live", "frames come", START, START, 5.0, 0.4, 10, 0, 0, 0)

    def act():
        for _ in range(2):
            live.part(part)
            live.cameras([door])
            live.alert(Alarm("queue: till", True, "4 people wait at the till", START))
        live.alert(Alarm("queue: till", False, "the queue at the till is gone", START))
        live.alert(Alarm("queue: till", False, "the queue at the till is gone", START))
        live.part(replace(part, phase="failed", reason="killed"))

    _, *events = heard(live, act, count=6)
    assert [event.kind for event in events] == ["part", "cameras", "alert", "alert", "part"]
    assert live.now().alerts == ()


def test_a_picture_is_the_newest_one(live):
    assert live.picture("door") is None
    live.show("door", b"one", at(1))
    live.show("door", b"two", at(2))
    assert live.picture("door") == (b"two", at(2))


# Health


def test_health_follows_the_frames(live, clock):
    def states(*newest):
        names = ("door", "aisle")
        live.cameras(
            [CameraState(n, "live", "", START, t, 5.0, 0.4, 1, 0, 0, 0) for n, t in zip(names, newest, strict=True)]
        )
        return health(live.now())[0]

    assert health(live.now())[0] == "failed"
    assert states(at(0), at(0)) == "ok"
    clock.at = at(60)
    assert states(at(60), at(-1)) == "degraded"
    assert states(at(-1), None) == "failed"
    live.part(Part("store", "failed", "disk full", START))
    assert states(at(60), at(60)) == "failed"
