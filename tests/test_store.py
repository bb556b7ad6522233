"""The store: one test body for SQLite and PostgreSQL; what is kept, what changes nothing, what outlives a crash."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, delete, inspect, text

from passerby.service import store as room
from passerby.service.schema import METADATA, VISITS
from passerby.service.store import Store, StoreReader, Written
from passerby.shop import Crossing, Link, Sighting, SightingKey, Stay, Visit, current
from passerby.site import Camera, LineSite, Site, ZoneSite
from passerby.types import StoreError

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
SHOP = Site("shop", (Camera("door", "door.mp4"), Camera("aisle", "aisle.mp4")), time_zone="Europe/Paris")


def shop_of(*, zones=("wine",), lines=(("entry", "door", True),), **more):
    """A site of two cameras, with zones in the aisle, and lines: name, camera, whether it is a door."""
    return Site(
        "shop",
        (Camera("door", "door.mp4"), Camera("aisle", "aisle.mp4")),
        time_zone="Europe/Paris",
        zones=tuple(ZoneSite(zone, ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9)), "aisle") for zone in zones),
        lines=tuple(LineSite(name, (0.2, 0.5), (0.8, 0.5), camera, door=door) for name, camera, door in lines),
        **more,
    )


def at(seconds):
    return START + timedelta(seconds=seconds)


def key(camera, track=1, site="shop"):
    return SightingKey(site, camera, "s", track)


def seen(
    camera, since_s, until_s, *, track=1, revision=1, state="closed", stays=(), crossings=(), path=(), site="shop"
):
    return Sighting(
        key(camera, track, site),
        revision,
        state,
        at(since_s),
        at(until_s),
        np.eye(1, 4, dtype=np.float32),
        np.ones(1, np.float32),
        np.ones(1, np.int64),
        network="net:fp32",
        stays=tuple(Stay(zone, at(a), None if b is None else at(b)) for zone, a, b in stays),
        crossings=tuple(Crossing(line, at(second), inwards) for line, second, inwards in crossings),
        path=np.array(path, np.float32).reshape(-1, 3),
    )


def visit(name, *keys, revision=1, since_s=0, until_s=60, **more):
    return Visit("shop", name, revision, keys, at(since_s), at(until_s), **more)


@pytest.fixture
def store(url):
    with Store(url) as opened:
        opened.put_site(SHOP)
        yield opened


def everything(store, site="shop"):
    """All that a store says of a site, in full."""
    return (
        [
            (s.key, s.revision, s.state, s.start, s.end, s.network, s.stays, s.crossings, s.path.tolist(), s.path_on)
            for s in store.sightings(site)
        ],
        store.links(site),
        store.visits(site),
        store.crossings(site),
    )


# What is kept


def test_a_sighting_comes_back_as_it_went_in_but_for_its_embeddings(store):
    given = seen(
        "door", 0, 9, stays=[("mat", 1, 3)], crossings=[("entry", 2, True)], path=[(0, 0.5, 0.25), (1.5, 0.6, 0.75)]
    )
    assert store.write(sightings=[given]) == Written(1, 0, 0)
    (back,) = store.sightings("shop")
    assert back == given
    for name in ("state", "start", "end", "network", "stays", "crossings", "path_on"):
        assert getattr(back, name) == getattr(given, name)
    assert back.path.tolist() == given.path.tolist()
    assert len(back.prototypes) == 0


def test_times_are_kept_to_the_microsecond_and_come_out_in_utc(store):
    paris = timezone(timedelta(hours=1))
    begins = datetime(2026, 3, 2, 11, 0, 0, 123457, tzinfo=paris)
    store.write(visits=[Visit("shop", "v", 1, (key("door"),), begins, begins)])
    (back,) = store.visits("shop")
    assert back.start == begins
    assert back.start.tzinfo is UTC


def test_the_newest_revision_replaces_the_older_ones(store):
    store.write(sightings=[seen("aisle", 0, 5, state="open", stays=[("wine", 1, None), ("beer", 2, 3)])])
    store.write(sightings=[seen("aisle", 0, 9, revision=2, stays=[("wine", 1, 8)])])
    (back,) = store.sightings("shop")
    assert (back.revision, back.state, back.end, back.stays) == (2, "closed", at(9), (Stay("wine", at(1), at(8)),))


def test_what_is_older_or_known_changes_nothing(store):
    newest = seen("door", 0, 9, revision=3, crossings=[("entry", 2, True)])
    link = Link(key("door"), key("aisle"), 2, 0.9, key("door", 2), 0.05)
    came = visit("v", key("door"), revision=2, person="p")
    store.write(sightings=[newest], links=[link], visits=[came])
    before = everything(store)
    assert store.write(sightings=[newest], links=[link], visits=[came]) == Written(0, 0, 0)
    older = [seen("door", 0, 4, revision=2, crossings=[("entry", 2, False)])]
    assert store.write(
        sightings=older, links=[replace(link, revision=1, probability=0.7)], visits=[replace(came, revision=1)]
    ) == Written(0, 0, 0)
    assert everything(store) == before
    assert before[1] == {key("aisle"): link}
    assert before[2] == [came]


def test_in_one_batch_too_the_newest_revision_wins(store):
    revisions = [seen("door", 0, number, revision=number) for number in (1, 3, 2)]
    assert store.write(sightings=revisions) == Written(1, 0, 0)
    assert [s.revision for s in store.sightings("shop")] == [3]


def test_a_visit_that_another_absorbed_is_kept_and_not_counted(store):
    store.write(
        sightings=[seen("door", 0, 5), seen("aisle", 10, 20)],
        visits=[visit("v", key("door")), visit("w", key("aisle"))],
    )
    merged = [visit("v", key("door"), key("aisle"), revision=2), visit("w", revision=2, merged_into="v")]
    store.write(visits=merged, links=[Link(key("door"), key("aisle"), 1, 0.8)])
    assert [(v.name, v.merged_into) for v in store.visits("shop")] == [("v", None), ("w", "v")]
    (row,) = store.rows("shop", doors=["entry"])
    assert (row.visit, row.cameras, row.probability) == ("v", ("door", "aisle"), 0.8)
    again = [visit("v", key("door"), revision=3), visit("w", key("aisle"), revision=3, split_from="v")]
    store.write(visits=again)
    assert [row.visit for row in store.rows("shop", doors=["entry"])] == ["v", "w"]


def test_rows_from_memory_are_those_of_the_newest_revisions(store):
    ask = {"doors": ["entry"], "since": at(0), "until": at(600)}

    def same():
        found = store.rows_with_earlier("shop", **ask, again=True)
        assert found == store.rows_with_earlier("shop", **ask)
        return found

    seconds = [seen("door", 30, 40, track=2), seen("aisle", 50, 60, track=2)]
    link = Link(key("door"), key("aisle"), 1, 0.8)
    store.write(
        sightings=[seen("door", 0, 5, crossings=[("entry", 2, True)]), seen("aisle", 10, 20, state="open"), *seconds],
        links=[link],
        visits=[visit("v", key("door"), key("aisle"), person="a"), visit("w", key("door", 2), since_s=30)],
    )
    first = same()
    assert [a is b for a, b in zip(same(), first, strict=True)] == [True, True]
    for changed in (
        {"sightings": [seen("aisle", 10, 25, revision=2, stays=[("wine", 11, 24)])]},
        {"links": [replace(link, revision=2, probability=0.7)]},
        {"visits": [visit("v", key("door"), key("aisle"), revision=2, person="b", until_s=70)]},
        {"visits": [visit("w", key("door", 2), key("aisle", 2), revision=2, since_s=30)]},
        {"sightings": [seen("door", 30, 40, track=2, revision=2, state="withdrawn")]},
    ):
        before = same()
        store.write(**changed)
        after = same()
        assert [a is b for a, b in zip(after, before, strict=True)].count(False) == 1
        assert after != before
    store.erase("shop", "v", now=at(700))
    assert not store._made  # nothing of whom was erased stays there
    assert [row.visit for row in same()] == ["w"]


def test_a_withdrawn_sighting_counts_for_nothing(store):
    store.write(
        sightings=[seen("door", 0, 5, crossings=[("entry", 2, True)])],
        visits=[visit("v", key("door"))],
    )
    assert len(store.crossings("shop")) == len(store.rows("shop", doors=["entry"])) == 1
    store.write(sightings=[seen("door", 0, 5, revision=2, state="withdrawn", crossings=[("entry", 2, True)])])
    assert store.crossings("shop") == store.rows("shop", doors=["entry"]) == []
    assert [s.state for s in store.sightings("shop")] == ["withdrawn"]
    assert store.span("shop") is None


def test_walks_are_the_paths_of_one_frame_and_of_sightings_that_count(store):
    picture, metres = seen("door", 0, 5, path=[(0, 0.5, 0.5)]), np.array([(0, 3, 4), (1, 3, 5)], np.float32)
    store.write(
        sightings=[
            picture,
            replace(seen("aisle", 1, 6), path=metres, path_on="floor"),
            seen("door", 7, 9, track=2),
            seen("door", 7, 9, track=3, state="withdrawn", path=[(0, 0.5, 0.5)]),
        ]
    )
    (walk,) = store.walks("shop", camera="door", since=at(0), until=at(60))
    assert (walk.key, walk.start, walk.end, walk.path.tolist()) == (key("door"), at(0), at(5), picture.path.tolist())
    assert [each.path.tolist() for each in store.walks("shop", camera=None, since=at(0), until=at(60))] == [
        [[0, 3, 4], [1, 3, 5]]
    ]
    assert store.walks("shop", camera="aisle", since=at(0), until=at(60)) == []
    assert store.walks("shop", camera="door", since=at(6), until=at(60)) == []


def test_a_period_takes_in_what_touches_it(store):
    store.write(
        sightings=[seen("door", 0, 5, crossings=[("entry", 2, True)]), seen("aisle", 50, 70)],
        visits=[visit("v", key("door"), until_s=5), visit("w", key("aisle"), since_s=50, until_s=70)],
    )

    def names(since_s, until_s):
        return [row.visit for row in store.rows("shop", doors=["entry"], since=at(since_s), until=at(until_s))]

    assert names(0, 50) == ["v"]
    assert names(0, 51) == ["v", "w"]
    assert names(5, 60) == ["v", "w"]
    assert names(6, 60) == ["w"]
    assert store.crossings("shop", since=at(2), until=at(3)) == [Crossing("entry", at(2), True)]
    assert store.crossings("shop", since=at(0), until=at(2)) == []
    assert [s.key.camera for s in store.sightings("shop", since=at(60))] == ["aisle"]
    assert store.span("shop") == (at(0), at(70))


def test_two_sites_in_one_store_do_not_mix(store):
    store.put_site(replace(SHOP, name="other", time_zone="UTC"))
    store.write(sightings=[seen("door", 0, 5), seen("door", 0, 5, site="other")])
    assert [s.key.site for s in store.sightings("shop")] == ["shop"]
    assert store.sites() == {"shop": ("Europe/Paris", ["aisle", "door"]), "other": ("UTC", ["aisle", "door"])}


def test_a_camera_that_is_added_to_a_site_is_made_known(store):
    store.put_site(Site("shop", (Camera("door", "x"), Camera("till", "y")), time_zone="Europe/Rome"))
    assert store.sites() == {"shop": ("Europe/Rome", ["aisle", "door", "till"])}


def test_a_batch_of_which_one_record_cannot_be_kept_is_not_kept_at_all(store):
    with pytest.raises(StoreError, match="no camera 'cellar'; known: aisle, door"):
        store.write(sightings=[seen("door", 0, 5), seen("cellar", 0, 5)])
    with pytest.raises(StoreError, match="no site 'other'; known: shop"):
        store.write(
            sightings=[seen("door", 0, 5)], visits=[Visit("other", "v", 1, (key("door", site="other"),), at(0), at(1))]
        )
    assert store.sightings("shop") == []


KEYS = [key(camera, track) for camera in ("door", "aisle") for track in (1, 2)]
EVENTS = st.lists(
    st.one_of(
        st.builds(
            lambda which, revision, gone: seen(
                KEYS[which].camera,
                0,
                10 + revision,
                track=KEYS[which].track,
                revision=revision,
                state="withdrawn" if gone else "closed",
                crossings=[("entry", revision, revision % 2 == 0)],
            ),
            st.integers(0, 3),
            st.integers(1, 4),
            st.booleans(),
        ),
        st.builds(
            lambda name, revision, members: (
                visit(name, *members, revision=revision) if members else visit(name, revision=revision, merged_into="z")
            ),
            st.sampled_from("vw"),
            st.integers(1, 4),
            st.lists(st.sampled_from(KEYS), unique=True),
        ),
        st.builds(
            lambda revision, probability: Link(KEYS[0], KEYS[2], revision, probability),
            st.integers(1, 4),
            st.floats(0.5, 1.0),
        ),
    ),
    max_size=12,
)


def identity(record):
    if isinstance(record, Sighting):
        return record.key, record.revision
    return (record.name if isinstance(record, Visit) else record.later), record.revision


@pytest.fixture
def emptied(store):
    """Empties the store between examples."""

    def empty():
        with store._connection.begin():
            for table in METADATA.sorted_tables[::-1]:
                if table.name not in ("sites", "cameras"):
                    store._connection.execute(delete(table))
        return store

    return empty


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, chance=st.randoms(use_true_random=False))
def test_any_order_with_any_repeats_ends_in_the_newest_revisions(emptied, events, chance):
    there = list({identity(event): event for event in events}.values())  # a revision has one content
    delivered = there + [chance.choice(there) for _ in there]
    chance.shuffle(delivered)
    store = emptied()
    while delivered:
        cut = chance.randint(1, 4)
        batch, delivered = delivered[:cut], delivered[cut:]
        store.write(
            sightings=[e for e in batch if isinstance(e, Sighting)],
            links=[e for e in batch if isinstance(e, Link)],
            visits=[e for e in batch if isinstance(e, Visit)],
        )
    newest = {}
    for event in sorted(there, key=lambda e: e.revision):
        newest[type(event), identity(event)[0]] = event
    kept = sorted(everything(store)[0])
    wanted = sorted((e.key, e.revision, e.state) for e in newest.values() if isinstance(e, Sighting))
    assert [row[:3] for row in kept] == wanted
    assert list(store.links("shop").values()) == [e for e in newest.values() if isinstance(e, Link)]
    visits = [e for e in newest.values() if isinstance(e, Visit)]
    assert store.visits("shop") == sorted(visits, key=lambda v: v.name)
    with_somebody = {e.key for e in newest.values() if isinstance(e, Sighting) and e.state == "closed"}
    rows = store.rows("shop", doors=["entry"])
    assert [row.visit for row in rows] == [v.name for v in current(visits) if with_somebody & set(v.sightings)]
    crossings = [c for e in newest.values() if isinstance(e, Sighting) and e.state == "closed" for c in e.crossings]
    assert sorted(store.crossings("shop"), key=lambda c: c.at) == sorted(crossings, key=lambda c: c.at)


# Who may read and write


def test_reading_does_not_wait_for_a_batch_that_is_being_written(store, url):
    store.write(visits=[visit("v", key("door"))])
    with StoreReader(url) as reader, store._connection.begin():
        store._connection.execute(delete(VISITS))
        assert [v.name for v in reader.visits("shop")] == [v.name for v in store.visits("shop")] == ["v"]


def test_several_threads_write_one_batch_after_the_other(store):
    def write(camera):
        for track in range(1, 21):
            store.write(
                sightings=[seen(camera, 0, 5, track=track)], visits=[visit(f"{camera}{track}", key(camera, track))]
            )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, ["door", "aisle", "door", "aisle"]))
    assert len(store.sightings("shop")) == len(store.visits("shop")) == 40


def test_a_second_writer_is_refused_with_who_the_first_one_is(store, url):
    with pytest.raises(StoreError, match=rf"{os.getpid()}.* writes to it already; stop that one first"):
        Store(url)
    store.close()
    Store(url).close()


def test_a_reader_finds_no_store_where_there_is_none(url, tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        StoreReader(url)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_writes_nothing(store, url):
    with (
        StoreReader(url) as reader,
        pytest.raises(StoreError, match=r"readonly|read-only"),
        reader.reading() as connection,
    ):
        connection.execute(delete(VISITS))


@pytest.mark.parametrize("url", ["mysql://x@y/z", "postgresql:/x://"])
def test_other_databases_are_refused(url):
    with pytest.raises(StoreError, match=r"expected a file, or a URL such as postgresql://"):
        Store(url)


def test_a_password_is_not_shown():
    with pytest.raises(StoreError) as told:
        StoreReader("postgresql://me:secret@127.0.0.1:1/shop")
    assert "127.0.0.1" in str(told.value)
    assert "secret" not in str(told.value)


# Versions


def plain(url):
    """An engine of the test's own."""
    return create_engine(room._address(url))


def test_the_migrations_make_the_tables_that_the_code_has(store, url):
    engine = plain(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_a_store_of_a_newer_version_is_refused(store, url):
    store.close()
    engine = plain(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '99'"))
    engine.dispose()
    for opened in (Store, StoreReader):
        with pytest.raises(StoreError, match="version 99, written by a newer passerby"):
            opened(url)


def test_a_database_with_other_tables_is_refused(url):
    engine = plain(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE recipes (name TEXT)"))
    engine.dispose()
    with pytest.raises(StoreError, match="expected a store or nothing, got other tables: recipes"):
        Store(url)


FIRST = [  # rows as the first version wrote them
    "INSERT INTO sites VALUES (1, 'shop', 'Europe/Paris')",
    "INSERT INTO cameras VALUES (1, 1, 'door')",
    "INSERT INTO tracks VALUES (1, 1, 's', 7)",
    "INSERT INTO sightings VALUES (1, 1, 2, 'closed', 1772445600000000, 1772445605000000, '', 'picture', '')",
    "INSERT INTO crossings VALUES (1, 0, 1, 'entry', 1772445602000000, true)",
    "INSERT INTO visits VALUES (1, 1, 'v', 1, 1772445600000000, 1772445605000000, 'p', NULL, NULL, true)",
    "INSERT INTO members VALUES (1, 0, 1)",
]


@pytest.fixture
def first(url, monkeypatch, tmp_path):
    """A store as the first version made it, with its rows."""
    with monkeypatch.context() as patched:
        old = tmp_path / "first"
        old.mkdir()
        shutil.copy(room.MIGRATIONS / "v1_visits.py", old)
        patched.setattr(room, "MIGRATIONS", old)
        Store(url).close()
    engine = plain(url)
    with engine.begin() as connection:
        for line in FIRST:
            connection.execute(text(line))
    engine.dispose()
    return url


def test_a_store_of_the_first_version_is_read_by_this_one(first):
    with Store(first) as store:
        (row,) = store.rows("shop", doors=["entry"])
        assert (row.visit, row.person, row.start, row.entered) == ("v", "p", START, at(2))
        assert row.sightings == (key("door", 7),)
        assert store.write(sightings=[seen("door", 0, 6, track=7, revision=3)]) == Written(1, 0, 0)


NEXT = '''
"""The version after this one, for the test: visits have a note."""

import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{newest}"


def upgrade():
    op.add_column("visits", sa.Column("note", sa.Text))
    {more}
'''


@pytest.fixture
def later(monkeypatch, tmp_path):
    """Gives the code a version more."""

    def with_next(more=""):
        folder = tmp_path / "migrations"
        shutil.copytree(room.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        newest = room._migrations().get_current_head()
        (folder / "next.py").write_text(NEXT.format(newest=newest, more=more))
        monkeypatch.setattr(room, "MIGRATIONS", folder)

    return with_next


@pytest.mark.parametrize("opened", [Store, StoreReader])
def test_an_older_store_is_brought_up_and_in_sqlite_a_copy_of_it_is_kept(first, later, opened):
    later()
    said = []
    with opened(first, tell=said.append) as store:
        assert [v.name for v in store.visits("shop")] == ["v"]
    assert "brought to version next" in said[-1]
    engine = plain(first)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT note FROM visits")).all() == [(None,)]
    engine.dispose()
    if "://" not in first:
        with sqlite3.connect(f"{first}.v1.backup") as kept:
            assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [("1",)]
        kept.close()
        assert ".v1.backup" in said[0]


def test_a_migration_that_fails_leaves_the_store_as_it_was(first, later, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(room, "MIGRATIONS", room.MIGRATIONS)
        later('op.execute("SELECT missing FROM nowhere")')
        with pytest.raises(StoreError, match="nowhere"):
            Store(first)
    monkeypatch.undo()
    with Store(first) as store:
        assert [v.name for v in store.visits("shop")] == ["v"]
    engine = plain(first)
    with engine.connect() as connection:
        assert "note" not in {column["name"] for column in inspect(connection).get_columns("visits")}
    engine.dispose()


# Backups


@pytest.fixture
def kept(tmp_path):
    """A store in SQLite."""
    with Store(tmp_path / "shop.sqlite") as opened:
        opened.put_site(SHOP)
        yield opened


def test_a_backup_is_one_moment_of_the_store_and_restore_takes_it_back(kept, tmp_path):
    kept.write(sightings=[seen("door", 0, 5)], visits=[visit("v", key("door"))])
    before = everything(kept)
    with StoreReader(tmp_path / "shop.sqlite") as reader:
        reader.backup(tmp_path / "backup.sqlite")
        kept.write(visits=[visit("w", key("aisle"))])
        saved = kept.restore(tmp_path / "backup.sqlite")
        assert everything(kept) == everything(reader) == before
    with StoreReader(saved) as reader:
        assert [v.name for v in reader.visits("shop")] == ["v", "w"]
    assert kept.write(visits=[visit("w", key("aisle"))]) == Written(0, 0, 1)


def test_a_backup_of_an_older_version_is_brought_up_on_its_way_in(kept, later, tmp_path):
    kept.write(sightings=[seen("door", 0, 5)], visits=[visit("v", key("door"))])
    kept.backup(tmp_path / "backup.sqlite")
    before = (tmp_path / "backup.sqlite").read_bytes()
    kept.close()
    later()
    with Store(tmp_path / "shop.sqlite") as store:
        store.restore(tmp_path / "backup.sqlite")
        assert [v.name for v in store.visits("shop")] == ["v"]
        assert store._connection.exec_driver_sql("SELECT version_num, note FROM alembic_version, visits").all() == [
            ("next", None)
        ]
    assert (tmp_path / "backup.sqlite").read_bytes() == before


def test_a_store_is_not_copied_over_itself(kept, tmp_path):
    for name in ("shop.sqlite", "../" + tmp_path.name + "/shop.sqlite"):
        with pytest.raises(StoreError, match="it is the store itself"):
            kept.backup(tmp_path / name)
    with pytest.raises(StoreError, match="there is no such file"):
        kept.restore(tmp_path / "absent.sqlite")


def test_a_damaged_backup_is_refused_and_the_store_stays(kept, tmp_path):
    kept.write(sightings=[seen("door", 0, 5, track=track, path=[(0, 0.5, 0.5)]) for track in range(1, 300)])
    kept.backup(tmp_path / "backup.sqlite")
    content = bytearray((tmp_path / "backup.sqlite").read_bytes())
    content[8192:-4096] = bytes(b ^ 0x5A for b in content[8192:-4096])
    (tmp_path / "damaged.sqlite").write_bytes(content)
    (tmp_path / "text.sqlite").write_text("no database" * 1000)
    for name in ("damaged", "text", "absent"):
        with pytest.raises(StoreError, match=f"{name}.sqlite"):
            kept.restore(tmp_path / f"{name}.sqlite")
    assert len(kept.sightings("shop")) == 299
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"{name}.sqlite" for name in ("shop", "backup", "damaged", "text")),
        *(f"shop.sqlite{end}" for end in (".lock", "-wal", "-shm", ".copies")),
    }


def test_a_damaged_store_says_so(tmp_path):
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(SHOP)
        store.write(sightings=[seen("door", 0, 5, track=track) for track in range(1, 300)])
    with (tmp_path / "shop.sqlite").open("r+b") as file:
        file.seek(8192)
        file.write(bytes(30 * 4096))
    with StoreReader(tmp_path / "shop.sqlite") as reader, pytest.raises(StoreError, match="passerby restore"):
        everything(reader)


def test_a_disk_that_is_full_keeps_what_was_acknowledged(kept):
    kept.write(visits=[visit("v", key("door"))])
    with kept._connection.begin():
        kept._connection.exec_driver_sql("PRAGMA max_page_count = 60")
    many = [seen("door", 0, 5, track=track) for track in range(1, 5000)]
    with pytest.raises(StoreError, match=r"disk is full; make room; what was acknowledged is kept"):
        kept.write(sightings=many)
    assert [v.name for v in kept.visits("shop")] == ["v"]
    with kept._connection.begin():
        kept._connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert kept.write(sightings=[seen("door", 0, 5, track=9999)]).sightings == 1


def test_postgresql_is_backed_up_by_its_own_tools(postgresql, tmp_path):
    with Store(postgresql()) as store:
        with pytest.raises(StoreError, match="pg_dump postgresql://tests@/"):
            store.backup(tmp_path / "x")
        with pytest.raises(StoreError, match="psql"):
            store.restore(tmp_path / "x")


# Crashes

WRITER = """
import sys
sys.path.insert(0, {tests!r})
from test_store import SHOP, Store, key, seen, visit

with Store(sys.argv[1]) as store:
    store.put_site(SHOP)
    for number in range(int(sys.argv[2]), 1_000_000):
        track = number // 2 + 1  # each twice: a first revision, and one that replaces it
        store.write(
            sightings=[seen("door", 0, 5 + number % 2, track=track, revision=number % 2 + 1,
                            crossings=[("entry", 1, True)])],
            visits=[visit(f"v{{track:05}}", key("door", track), revision=number % 2 + 1)],
        )
        print(number, flush=True)
"""


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_or_doubled_when_the_writer_is_killed(url):
    chance, acknowledged = random.Random(5), -1
    script = WRITER.format(tests=str(Path(__file__).parent))
    for _ in range(5):
        again = max(0, acknowledged - 20)  # what it is not sure of is told again
        with subprocess.Popen(
            [sys.executable, "-c", script, url, str(again)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            assert first
            time.sleep(chance.uniform(0.0, 0.3))
            writer.send_signal(signal.SIGKILL)
            lines = [first, *writer.stdout]
        acknowledged = max(acknowledged, int([line for line in lines if line.endswith("\n")][-1]))
        with StoreReader(url) as reader:
            found = {s.key.track: s.revision for s in reader.sightings("shop")}
            wanted = {number // 2 + 1: number % 2 + 1 for number in range(acknowledged + 1)}
            extra = {number // 2 + 1: number % 2 + 1 for number in range(acknowledged + 2)}  # written, not yet told
            assert found in (wanted, extra)
            names = [v.name for v in reader.visits("shop")]
            assert names == [f"v{track:05}" for track in sorted(found)]
            assert len(reader.crossings("shop")) == len(found)
    assert acknowledged > 5


# A page of visits, and one sighting's story


def page(store, *, after=None, most=2):
    rows, following = store.visit_page("shop", doors=(), since=at(0), until=at(100), after=after, most=most)
    return [row.visit for row in rows], following


def test_visits_come_a_page_at_a_time_in_order_of_start_and_name(store):
    starts = {"b": 5, "a": 5, "d": 0, "c": 99, "late": 100}
    tracks = {name: number for number, name in enumerate(starts, 1)}
    store.write(
        sightings=[seen("door", second, second, track=tracks[name]) for name, second in starts.items()],
        visits=[
            *(visit(name, key("door", tracks[name]), since_s=s, until_s=s) for name, s in starts.items()),
            visit("gone", merged_into="a", since_s=5, until_s=5),
        ],
    )
    names, following = page(store)
    assert (names, following) == (["d", "a"], (at(5), "a"))
    assert page(store, after=following) == (["b", "c"], None)
    assert page(store, most=4) == (["d", "a", "b", "c"], None)
    assert store.begun("shop", since=at(0), until=at(100)) == 4
    assert store.begun("shop", since=at(5), until=at(99)) == 2


def test_a_sighting_s_story_is_what_is_known_of_it(store):
    link = Link(key("door"), key("aisle"), 2, 0.9, key("door", 2), 0.05)
    sightings = [seen("door", 0, 9), seen("aisle", 20, 60)]
    came = visit("v", key("door"), key("aisle"))
    store.write(sightings=sightings, links=[link], visits=[came, visit("w", merged_into="v")])
    story = store.story(key("aisle"))
    assert (story.sighting, story.link, story.visit, story.absorbed) == (sightings[1], link, came, ("w",))
    assert store.story(key("door")).link is None
    assert store.story(key("door", 2)) == (None, None, None, ())  # named by a link only
    assert store.story(key("door", 3)) is None
    assert store.story(key("roof")) is None
