"""Alerts: when they begin, when they end, and what is kept of them."""

from datetime import UTC, datetime, timedelta

from passerby.service.alarms import Alarms
from passerby.service.kept import QueueEvent
from passerby.site import Alert, Camera, Queue, Site, ZoneSite

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
CORNERS = ((0.1, 0.5), (0.9, 0.5), (0.9, 0.9))
ZONES = tuple(ZoneSite(name, CORNERS, camera="till") for name in ("till", "shelf"))


def at(seconds):
    return START + timedelta(seconds=seconds)


class Watched:
    """An alert of a shop, and all that it says and keeps."""

    def __init__(self, rule):
        self.said, self.kept = [], []
        site = Site("shop", (Camera("till", "till.mp4"),), zones=ZONES, queues=(Queue("till"),), alerts=(rule,))
        self._alarms = Alarms(
            site,
            tell=lambda alert: self.said.append(((alert.at - START).total_seconds(), alert.on, alert.text)),
            note=self.kept.extend,
        )

    def see(self, second, *, inside=0, waiting_s=0.0, **zones):
        self._alarms.see(at(second), inside=inside, zones=zones, waiting_s={"till": waiting_s})


def test_an_alert_begins_when_it_has_lasted_and_ends_when_it_has_been_over_for_as_long():
    watched = Watched(Alert("long queue", 4, zone="till", for_s=30))
    for second, people in ((0, 5), (10, 4), (20, 5), (40, 7), (49, 6)):  # four are not more than four
        watched.see(second, till=people, shelf=9)
    assert watched.said == []
    watched.see(50, till=6)
    assert watched.said == [(50, True, "long queue: 6 people in till, above 4")]
    assert watched.kept == [QueueEvent("till", at(20), None, "long", 7)]
    for second, people in ((60, 8), (70, 3), (80, 5), (90, 4), (119, 0)):
        watched.see(second, till=people)
    assert len(watched.said) == 1
    watched.see(120, till=0)
    assert watched.said[1:] == [(120, False, "long queue: over")]
    assert watched.kept[1:] == [QueueEvent("till", at(20), at(90), "long", 8)]


def test_people_of_the_whole_site_are_counted_where_no_zone_is_named_and_nothing_of_a_queue_is_kept():
    watched = Watched(Alert("full", 100))
    watched.see(0, inside=100)
    watched.see(1, inside=101)
    watched.see(2, inside=99)
    assert [(second, on) for second, on, _ in watched.said] == [(1, True), (2, False)]
    assert watched.kept == []


def test_long_waiting_is_an_event_of_the_queue():
    watched = Watched(Alert("long wait", 300, measure="waiting_s", zone="till"))
    watched.see(0, waiting_s=299)
    watched.see(10, waiting_s=309)
    assert watched.said == [(10, True, "long wait: somebody has waited for 309 s in till, above 300")]
    watched.see(60, waiting_s=20)
    assert watched.kept[-1] == QueueEvent("till", at(10), at(60), "slow", 309)


def test_a_clock_that_is_set_back_begins_the_waiting_anew():
    watched = Watched(Alert("full", 4, for_s=30))
    watched.see(3600, inside=5)
    watched.see(0, inside=5)
    watched.see(29, inside=5)
    assert watched.said == []
    watched.see(30, inside=5)
    assert [second for second, _, _ in watched.said] == [30]
