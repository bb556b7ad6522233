"""What waits to be kept, and when cameras saw nothing: on real stores, also on a disk that is full or cannot be written to."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from passerby.service import kept
from passerby.service import store as room
from passerby.service.following import closed
from passerby.service.kept import Closing, Gap
from passerby.service.ledger import Batch, Ledger
from passerby.service.live import CameraState
from passerby.service.memory import finalize
from passerby.service.outages import Outages
from passerby.service.run import settle
from passerby.service.store import Store, StoreReader
from passerby.shop import Crossing, Link, Sighting, SightingKey, Stay, Visit
from passerby.site import Camera, Site
from passerby.types import StoreError
from passerby.vision.associate import Changes

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
SHOP = Site("shop", (Camera("door", "door.mp4"), Camera("aisle", "aisle.mp4")))
PATIENCE_S = 60.0


def at(seconds):
    return START + timedelta(seconds=seconds)


def key(track, camera="door"):
    return SightingKey("shop", camera, "s", track)


def seen(track, *, revision=1, state="open", until_s=5.0, stays=(), crossings=(), size=0):
    return Sighting(
        key(track),
        revision,
        state,
        at(0),
        at(until_s),
        np.zeros((0, 0), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        stays=stays,
        crossings=crossings,
        path=np.array([[s, 0.5, 0.5] for s in range(size)], np.float32).reshape(-1, 3),
    )


class Said:
    """Hears a ledger: what was told, in which order, and what was said of the store."""

    def __init__(self):
        self.told, self.reasons = [], []
        self.changed = threading.Condition()

    def tell(self, sightings, changes):
        with self.changed:
            self.told += sightings
            self.changed.notify_all()

    def say(self, reason):
        with self.changed:
            self.reasons.append(reason)
            self.changed.notify_all()

    def wait(self, what):
        with self.changed:
            assert self.changed.wait_for(what, PATIENCE_S), (self.told, self.reasons)


def ledger_of(store, said, **more):
    ledger = Ledger(store, site="shop", told=said.tell, said=said.say, wait_scale=0.1, **more)
    ledger.start()
    return ledger


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "shop.sqlite") as opened:
        opened.put_site(SHOP)
        yield opened


def test_what_is_added_is_kept_and_told_after_it_was_acknowledged(store):
    said, there = Said(), []
    ledger = ledger_of(store, said)
    ledger._told = lambda sightings, changes: (
        there.append(len(store.sightings("shop"))),
        said.tell(sightings, changes),
    )
    link = Link(key(1), key(2), 1, 0.9)
    visit = Visit("shop", "v", 1, (key(1), key(2)), at(0), at(5))
    ledger.add([seen(1), seen(2)], Changes(links=(link,), visits=(visit,)))
    ledger.note(gaps=[Gap("door", at(0), None, "down", "no frame")], closings=[Closing(at(9), 2)])
    assert ledger.close(timeout_s=PATIENCE_S)
    assert there == [2]
    assert [s.key for s in said.told] == [key(1), key(2)]
    assert store.links("shop") == {key(2): link}
    assert store.visits("shop") == [visit]
    assert [gap.camera for gap in kept.gaps(store, "shop")] == ["door"]
    assert kept.closings(store, "shop") == [Closing(at(9), 2)]


def test_of_what_waits_the_newest_revision_is_kept_and_links_taken_back_are_told():
    batch, link = Batch(), Link(key(1), key(2), 1, 0.9)
    batch.take([seen(1, revision=2), seen(1)], Changes(links=(link,)))
    later = Batch()
    later.take([seen(1, revision=3), seen(2)], Changes(unlinked=(key(2),)))
    both = batch.over(later)
    assert [(s.key.track, s.revision) for s in both.sightings.values()] == [(1, 3), (2, 1)]
    assert both.changes().unlinked == (key(2),)
    both.take([], Changes(links=(link,)))
    assert both.changes().unlinked == ()


def test_while_another_process_holds_the_store_all_waits_and_is_kept_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "WAIT_S", 0.1)
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(SHOP)
        said = Said()
        other = sqlite3.connect(tmp_path / "shop.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        ledger = ledger_of(store, said)
        ledger.add([seen(1)], Changes())
        said.wait(lambda: said.reasons)
        assert "database is locked; another program holds it" in said.reasons[0]
        assert "1 sightings wait in memory and are tried again" in said.reasons[0]
        assert said.told == []
        ledger.add([seen(1, revision=2, state="closed"), seen(2)], Changes())
        other.execute("ROLLBACK")
        said.wait(lambda: said.reasons[-1] is None)
        assert ledger.close(timeout_s=PATIENCE_S)
        assert [(s.key.track, s.revision, s.state) for s in store.sightings("shop")] == [
            (1, 2, "closed"),
            (2, 1, "open"),
        ]
        other.close()


def test_what_waits_is_bounded_and_what_is_lost_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "WAIT_S", 0.1)
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(SHOP)
        said = Said()
        other = sqlite3.connect(tmp_path / "shop.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        ledger = ledger_of(store, said, most=3)
        ledger.add([seen(1), seen(2)], Changes())
        said.wait(lambda: said.reasons)
        ledger.add([seen(1, revision=2), seen(3), seen(4), seen(5)], Changes())
        assert ledger.waiting == 3
        assert ledger.lost == 2
        said.wait(lambda: said.reasons[-1].endswith("; 2 more were lost"))
        other.execute("ROLLBACK")
        other.close()
        assert ledger.close(timeout_s=PATIENCE_S)
        assert [(s.key.track, s.revision) for s in store.sightings("shop")] == [(1, 2), (2, 1), (3, 1)]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path):
    with suppress(OSError), path.open("wb") as other:
        while True:
            other.write(bytes(4096))


def test_a_full_disk_is_said_and_all_is_kept_once_there_is_room(small_disk):
    with Store(small_disk / "shop.sqlite") as store:
        store.put_site(SHOP)
        store.write(sightings=[seen(1)])
        fill(small_disk / "other")
        said = Said()
        ledger = ledger_of(store, said)
        ledger.add([seen(track, size=300, until_s=300.0) for track in range(2, 52)], Changes())
        said.wait(lambda: said.reasons)
        assert "database or disk is full; make room; what was acknowledged is kept" in said.reasons[0]
        assert "50 sightings wait" in said.reasons[0]
        assert len(store.sightings("shop")) == 1  # reports go on
        (small_disk / "other").unlink()
        said.wait(lambda: said.reasons[-1] is None)
        assert ledger.close(timeout_s=PATIENCE_S)
        assert len(store.sightings("shop")) == 51


LIMITED = """
import resource, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_ledger import *

path = Path({path!r})
with Store(path) as store:
    store.put_site(SHOP)
    store.write(sightings=[seen(1)])
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("shop.sqlite-wal").stat().st_size + 20_000, hard))
    said = Said()
    ledger = ledger_of(store, said)
    ledger.add([seen(track, size=300, until_s=300.0) for track in range(2, 52)], Changes())
    said.wait(lambda: said.reasons)
    assert len(store.sightings("shop")) == 1, "reports go on"
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    said.wait(lambda: said.reasons[-1] is None)
    assert ledger.close(timeout_s=PATIENCE_S)
    print(said.reasons[0], len(store.sightings("shop")))
"""


def test_a_file_that_may_grow_no_more_is_said_and_all_is_kept_once_it_may(tmp_path):
    """A quota: it needs no right to mount a disk."""
    script = LIMITED.format(tests=str(Path(__file__).parent), path=str(tmp_path / "shop.sqlite"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "disk I/O error; the disk is full, broken, or gone; what was acknowledged is kept" in done.stdout
    assert "50 sightings wait in memory" in done.stdout
    assert done.stdout.split()[-1] == "51"


def test_a_damaged_page_is_said_with_what_to_do_and_a_restored_backup_takes_in_what_waited(tmp_path):
    path, backup = tmp_path / "shop.sqlite", tmp_path / "backup.sqlite"
    with Store(path) as store:
        store.put_site(SHOP)
        store.write(sightings=[seen(track, size=50, until_s=50.0) for track in range(1, 300)])
        store.backup(backup)
    with sqlite3.connect(path) as damaged:
        (root,) = damaged.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sightings'").fetchone()
        (size,) = damaged.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    with Store(path) as store:
        said = Said()
        ledger = ledger_of(store, said)
        ledger.add([seen(300), seen(301)], Changes())  # the cameras go on
        said.wait(lambda: said.reasons)
        assert "malformed; the file is damaged; `passerby restore` takes a backup in" in said.reasons[0]
        assert "2 sightings wait in memory and are tried again" in said.reasons[0]
        ledger.add([seen(302)], Changes())
        assert said.told == []
        store.restore(backup)
        said.wait(lambda: said.reasons[-1] is None)
        assert ledger.close(timeout_s=PATIENCE_S)
        assert [sighting.key.track for sighting in store.sightings("shop")] == list(range(1, 303))


def test_a_store_that_turns_read_only_is_said_and_all_is_kept_once_it_can_be_written_to(store):
    said = Said()
    store._connection.exec_driver_sql("PRAGMA query_only=ON")
    store._connection.rollback()
    ledger = ledger_of(store, said)
    ledger.add([seen(1)], Changes())
    said.wait(lambda: said.reasons)
    assert "attempt to write a readonly database; the file or its folder may not be written to" in said.reasons[0]
    with store._lock:
        store._connection.exec_driver_sql("PRAGMA query_only=OFF")
        store._connection.rollback()
    said.wait(lambda: said.reasons[-1] is None)
    assert ledger.close(timeout_s=PATIENCE_S)
    assert len(store.sightings("shop")) == 1


def test_a_read_only_disk_is_refused_at_the_start(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="Read-only file system; the folder must be writable"):
        Store(small_disk / "shop.sqlite")


def test_a_connection_to_postgresql_that_breaks_is_made_again_and_still_only_one_writes(postgresql):
    psycopg, url = pytest.importorskip("psycopg"), postgresql()
    with Store(url) as store:
        store.put_site(SHOP)
        said = Said()
        ledger = ledger_of(store, said)
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'passerby%'"
            )
        ledger.add([seen(1)], Changes())
        said.wait(lambda: said.told)
        assert "terminating connection" in said.reasons[0]
        with pytest.raises(StoreError, match="writes to it already"):
            Store(url)
        assert ledger.close(timeout_s=PATIENCE_S)
        assert len(store.sightings("shop")) == 1


# What a run that ended in the middle leaves


def test_what_was_left_open_ends_when_it_was_last_seen_and_only_once(store):
    stay = Stay("queue", at(1), None)
    store.write(
        sightings=[
            seen(1, revision=4, stays=(stay,), crossings=(Crossing("door", at(2), True),)),
            seen(2, state="closed"),
        ],
        visits=[
            Visit("shop", "v", 3, (key(1),), at(0), at(5)),
            Visit("shop", "w", 1, (key(2),), at(0), at(5), final=True),
        ],
    )
    assert (settle(store, "shop"), finalize(store, "shop")) == (1, 1)
    left, other = store.sightings("shop")
    assert (left.revision, left.state, left.end) == (5, "closed", at(5))
    assert left.stays == (Stay("queue", at(1), at(5)),)
    assert left.crossings == (Crossing("door", at(2), True),)
    assert other.revision == 1
    assert [(v.name, v.revision, v.final) for v in store.visits("shop")] == [("v", 4, True), ("w", 1, True)]
    assert (settle(store, "shop"), finalize(store, "shop")) == (0, 0)


def test_a_sighting_is_closed_at_its_last_sight():
    given = seen(1, stays=(Stay("a", at(1), at(2)), Stay("b", at(3), None)))
    assert closed(given).stays == (Stay("a", at(1), at(2)), Stay("b", at(3), at(5)))


# When cameras saw nothing


def state(camera, newest_s, *, phase="live", reason="live"):
    newest = None if newest_s is None else at(newest_s)
    return CameraState(camera, phase, reason, at(0), newest, 5.0, 0.1, 1, 0, 0, 0)


def watched(*, known=(), since=None):
    gaps = {}
    outages = Outages(
        known=known, since=since or {}, put=lambda found: gaps.update({(gap.camera, gap.start): gap for gap in found})
    )
    return outages, gaps


def test_a_camera_without_a_frame_for_ten_seconds_is_a_gap_from_its_last_frame_to_its_next():
    outages, gaps = watched()
    for second in (0, 1, 2):
        outages.see([state("door", second), state("aisle", second)], at(second))
    for second in range(3, 12):
        outages.see([state("door", 2), state("aisle", second)], at(second))
    assert gaps == {}
    outages.see([state("door", 2, phase="failed", reason="door: nothing answers"), state("aisle", 13)], at(13))
    assert gaps == {("door", at(2)): Gap("door", at(2), None, "down", "door: nothing answers")}
    outages.see([state("door", 40), state("aisle", 40)], at(40))
    assert gaps == {("door", at(2)): Gap("door", at(2), at(40), "down", "door: nothing answers")}


def test_a_camera_that_is_late_but_goes_on_is_no_gap():
    outages, gaps = watched()
    for second in range(30):
        outages.see([state("door", second / 2)], at(second))
    assert gaps == {}


def test_the_time_in_which_nothing_ran_is_a_gap_that_ends_with_each_cameras_first_frame():
    stopped = Gap("door", at(0), None, "down", "door: passerby was stopped")
    outages, gaps = watched(known=[stopped], since={"door": at(1), "aisle": at(1)})
    assert gaps == {("aisle", at(1)): Gap("aisle", at(1), None, "down", "aisle: passerby was not running")}
    outages.see([state("door", 60), state("aisle", None)], at(60))
    outages.see([state("door", 61), state("aisle", 90)], at(90))
    assert gaps["door", at(0)] == replace(stopped, end=at(60))
    assert gaps["aisle", at(1)].end == at(90)


def test_a_run_that_ends_leaves_a_gap_open_from_the_last_frame_on():
    outages, gaps = watched()
    outages.see([state("door", 5)], at(6))
    outages.stop()
    assert gaps == {("door", at(5)): Gap("door", at(5), None, "down", "door: passerby was stopped")}


def test_a_gap_whose_end_lies_before_its_start_since_the_clock_was_set_back_ends_at_once():
    outages, gaps = watched(since={"door": at(3600)})
    outages.see([state("door", 0)], at(0))
    (gap,) = gaps.values()
    assert gap.end == at(3600) + timedelta(milliseconds=1)


def test_a_camera_that_was_moved_is_a_gap_and_an_alert_until_it_is_back():
    gaps, alarms = {}, []
    outages = Outages(
        known=[Gap("aisle", at(0), None, "moved", "aisle: moved")],
        since={},
        put=lambda found: gaps.update({(gap.camera, gap.start): gap for gap in found}),
        alarm=lambda alarm: alarms.append((alarm.name, alarm.on, alarm.text)),
    )
    outages.look({"door": None, "aisle": ("moved", "aisle: moved")}, at(5))
    assert gaps == {}
    outages.look({"door": ("moved", "door: moved"), "aisle": None}, at(10))
    outages.look({"door": ("moved", "door: moved"), "aisle": None}, at(11))
    outages.look({"door": ("degraded", "door: dark")}, at(20))
    outages.look({"door": None}, at(30))
    assert list(gaps.values()) == [
        Gap("door", at(10), at(20), "moved", "door: moved"),
        Gap("aisle", at(0), at(10), "moved", "aisle: moved"),
        Gap("door", at(20), at(30), "degraded", "door: dark"),
    ]
    assert [(name, on) for name, on, _ in alarms if name == "view: door"] == [
        ("view: door", True),
        ("view: door", False),
        ("view: door", True),
        ("view: door", False),
    ]


def test_gaps_are_kept_in_a_store_and_found_again(store):
    outages = Outages(known=(), since={"door": at(0)}, put=lambda gaps: kept.put_gaps(store, "shop", gaps))
    outages.see([state("door", 20)], at(20))
    with StoreReader(store.name) as reader:
        (gap,) = kept.gaps(reader, "shop")
    assert (gap.start, gap.end) == (at(0), at(20))
