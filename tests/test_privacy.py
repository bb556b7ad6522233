"""What is shown of few people, how long people are kept, and that one who is erased is gone to the last byte."""

import ast
import re
import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sqlalchemy import text

from passerby.service import accounts, privacy
from passerby.service import store as room
from passerby.service.erasure import mark
from passerby.service.folder import import_folder
from passerby.service.memory import Memory, Snapshot
from passerby.service.privacy import Shown, suppressed
from passerby.service.store import Store, StoreReader
from passerby.service.vault import Vault
from passerby.shop import Crossing, Link, Sighting, SightingKey, Stay, Visit
from passerby.site import Camera, Site, load_site
from passerby.types import PrivacyError, StoreError
from passerby.vision.parquet import read_sightings
from test_pipeline import Opened, films, followed  # noqa: F401  # films is a fixture

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
SHOP = Site("shop", (Camera("door", "door.mp4"), Camera("aisle", "aisle.mp4")), time_zone="Europe/Paris")


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def key(camera, track):
    return SightingKey("shop", camera, "session-4711", track)


def path_of(track, points=40):
    """A walk that no other track has."""
    chance = np.random.default_rng(track)
    return np.column_stack([np.arange(points), chance.random((points, 2))]).astype(np.float32)


def seen(camera, track, since_s, until_s, *, revision=1, **more):
    return Sighting(
        key(camera, track),
        revision,
        "closed",
        at(since_s),
        at(until_s),
        np.zeros((0, 0), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        **{"path": path_of(track, min(40, until_s - since_s)), **more},
    )


def person(number, *, since_s=0, name=None, revision=1, **more):
    """Somebody at the door and in the aisle: two sightings, their link, their visit."""
    door, aisle = 2 * number, 2 * number + 1
    return {
        "sightings": [
            seen(
                "door",
                door,
                since_s,
                since_s + 50,
                revision=revision,
                crossings=(Crossing("entry", at(since_s + 17.5), True),),
            ),
            seen(
                "aisle",
                aisle,
                since_s + 60,
                since_s + 120,
                revision=revision,
                stays=(Stay("wine", at(since_s + 61), at(since_s + 90)),),
            ),
        ],
        "links": [Link(key("door", door), key("aisle", aisle), revision, 0.9)],
        "visits": [
            Visit(
                "shop",
                name or f"visit-{number:05}",
                revision,
                (key("door", door), key("aisle", aisle)),
                at(since_s),
                at(since_s + 120),
                person=f"person-{number:05}",
                **more,
            )
        ],
    }


@pytest.fixture
def store(url):
    with Store(url) as opened:
        opened.put_site(SHOP)
        yield opened


def erase(store, name="visit-00001"):
    return privacy.erase(store, "shop", name, who="paula", kind="user", now=at(1000))


def everything(store):
    return (
        [(s.key, s.revision, s.stays, s.crossings, s.path.tolist()) for s in store.sightings("shop")],
        store.links("shop"),
        store.visits("shop"),
    )


TABLES = ("tracks", "sightings", "stays", "crossings", "links", "visits", "members")


def rows_of(store):
    with store.reading() as connection:
        return {table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in TABLES}


# What is kept


def test_following_writes_no_picture_and_the_store_no_vector(films, tmp_path):  # noqa: F811
    """Every file that following and importing leave, byte by byte."""
    out = tmp_path / "out"
    followed(films, out, Opened())
    with Store(tmp_path / "shop.sqlite") as store:
        import_folder(out, store, load_site(films / "site.toml"))
    names = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert names <= {".json", ".jsonl", ".parquet", ".sqlite", ".lock", ".csv", ".toml", ""}
    beginnings = (b"\xff\xd8\xff", b"\x89PNG", b"ftyp", b"\x1aE\xdf\xa3", b"RIFF")  # JPEG, PNG, MP4, WebM, WebP and AVI
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(content.startswith(each) or content[4:].startswith(each) for each in beginnings), path.name
            assert b"\xff\xd8\xff\xe0\x00\x10JFIF" not in content
    vectors = [row for s in read_sightings(out / "sightings.parquet") for row in s.prototypes if s.prototypes.size]
    assert vectors
    kept = (tmp_path / "shop.sqlite").read_bytes()
    assert not any(
        vector[place : place + 2].tobytes() in kept for vector in vectors for place in range(len(vector) - 1)
    )


def test_each_promise_names_a_test_that_exists():
    page = (ROOT / "docs" / "privacy.md").read_text()
    promises = [
        line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "|---"))
    ]
    assert len(promises) > 15
    for promise in promises:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", promise.rsplit(" | ", 1)[1])
        assert named, promise
        for file, name in named:
            tests = {node.name for node in ast.parse((ROOT / "tests" / file).read_text()).body if hasattr(node, "name")}
            assert name in tests, f"docs/privacy.md names {file}::{name}"


# Erasing one visit


def test_one_call_takes_a_visit_out_of_every_table_and_leaves_the_others(store):
    for number in (1, 2, 3):
        store.write(**person(number))
    before = everything(store)
    gone = erase(store, "visit-00002")
    assert gone.visits == ("visit-00002",)
    assert gone.sightings == (key("aisle", 5), key("door", 4))
    assert rows_of(store) == dict(zip(TABLES, (4, 4, 2, 3, 2, 2, 4), strict=True))  # a crossing stays, of nobody
    left = [[each for each in part if "00002" not in str(each) and each[0].track not in (4, 5)] for part in before[:1]]
    assert everything(store)[0] == left[0]
    assert [visit.name for visit in store.visits("shop")] == ["visit-00001", "visit-00003"]
    assert [row.visit for row in store.rows("shop", doors=["entry"])] == ["visit-00001", "visit-00003"]


def test_counts_at_the_door_stay_as_they_were_and_no_longer_say_the_second(store):
    for number in (1, 2):
        store.write(**person(number, since_s=100 * number))
    erase(store)
    assert store.crossings("shop") == [
        Crossing("entry", at(60), True),  # 10:01:57.5, to the minute
        Crossing("entry", at(217.5), True),
    ]


def test_a_visit_that_is_not_there_is_refused_and_one_that_is_gone_may_be_erased_again(store):
    store.write(**person(1))
    with pytest.raises(StoreError, match="site 'shop' has no visit 'nobody'"):
        erase(store, "nobody")
    with pytest.raises(StoreError, match="no site 'other'"):
        privacy.erase(store, "other", "visit-00001", who="paula", kind="user", now=NOW)
    erase(store)
    assert erase(store).visits == ()


def test_what_is_told_again_of_an_erased_visit_is_not_taken(store):
    store.write(**person(1))
    store.write(**person(2, since_s=500))
    erase(store)
    store.write(**person(1, revision=2))  # a replay, or a track that goes on
    taken_over = Visit("shop", "visit-00002", 2, (key("door", 2), key("door", 4), key("aisle", 5)), at(0), at(620))
    store.write(
        visits=[taken_over, Visit("shop", "new", 1, (key("aisle", 3),), at(60), at(120))],
        links=[
            Link(key("door", 4), key("aisle", 5), 2, 0.6, key("door", 2), 0.3),
            Link(key("aisle", 3), key("door", 4), 1, 1.0),
        ],
    )
    assert [s.key.track for s in store.sightings("shop")] == [5, 4]
    (left,) = store.visits("shop")
    assert left.sightings == (key("door", 4), key("aisle", 5))
    assert store.links("shop") == {key("aisle", 5): Link(key("door", 4), key("aisle", 5), 2, 0.6)}


def test_it_is_still_not_taken_after_a_restart(url):
    with Store(url) as store:
        store.put_site(SHOP)
        store.write(**person(1))
        erase(store)
    with Store(url) as store:
        store.write(**person(1, revision=2))
        assert store.sightings("shop") == store.visits("shop") == []


def test_visits_that_it_absorbed_go_with_it_whichever_of_them_is_named(store):
    for named in ("visit-00001", "part", "part-of-part"):
        store.write(**person(1))
        store.write(
            visits=[
                Visit("shop", "part", 2, (), at(0), at(9), merged_into="visit-00001"),
                Visit("shop", "part-of-part", 2, (), at(0), at(9), merged_into="part"),
                Visit("shop", "cut", 1, (key("aisle", 99),), at(0), at(9), split_from="part"),
            ]
        )
        assert erase(store, named).visits == ("part", "part-of-part", "visit-00001")
        assert [(v.name, v.split_from) for v in store.visits("shop")] == [("cut", None)]
        with store.writing() as connection:  # as before, for the next name
            connection.execute(text("DELETE FROM erased"))
        store._erased.clear()


def test_other_visits_of_the_same_person_are_named(store):
    store.write(**person(1))
    later = person(2, since_s=900)
    store.write(**{**later, "visits": [replace(later["visits"][0], person="person-00001")]})
    assert erase(store).others == ("visit-00002",)


def test_the_log_says_that_it_was_done_and_not_whose_it_was(store):
    store.write(**person(1))
    erase(store)
    (entry,) = accounts.log(store)
    assert (entry.who, entry.action, entry.site) == ("paula", "visit erased", "shop")
    assert mark("shop", "visit-00001") in entry.detail
    assert "visit-00001" not in entry.detail


# To the last byte


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def needles(number):
    """What of a person could lie in a file."""
    walks = [path_of(track).astype("<f4").tobytes() for track in (2 * number, 2 * number + 1)]
    pieces = [walk[first : first + 24] for walk in walks for first in range(0, 12 * 38, 12)]
    return [f"visit-{number:05}".encode(), f"person-{number:05}".encode(), *pieces]


def found(number, folder):
    return sorted({name for name, content in files(folder).items() if any(n in content for n in needles(number))})


def busy(store, people=300):
    """A store in which much was written, replaced and removed."""
    for revision in (1, 2, 3):
        for first in range(1, people, 30):
            batch = [person(n, since_s=10 * n, revision=revision) for n in range(first, first + 30)]
            store.write(**{name: [each for one in batch for each in one[name]] for name in batch[0]})
    store.expire("shop", before=at(500))


def test_no_byte_of_an_erased_visit_is_left_in_the_store_its_journal_or_its_copies(tmp_path):
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(SHOP)
        busy(store)
        store.backup(tmp_path / "backup.sqlite")
        store.backup(tmp_path / "gone.sqlite")
        (tmp_path / "gone.sqlite").unlink()
        saved = store.restore(tmp_path / "backup.sqlite")
        store.write(**person(400, since_s=5000))
        assert len(found(200, tmp_path)) >= 3  # the store or its journal, and two copies
        gone = erase(store, "visit-00200")
        assert set(gone.copies) == {tmp_path / "backup.sqlite", saved}
        assert gone.missing == (tmp_path / "gone.sqlite",)
        assert found(200, tmp_path) == []
        assert {"shop.sqlite", "backup.sqlite", saved.name} <= {*found(201, tmp_path)}
        assert len(store.visits("shop")) > 200
    assert found(200, tmp_path) == []
    with StoreReader(tmp_path / "backup.sqlite") as reader:  # still a whole backup
        assert "visit-00201" in {visit.name for visit in reader.visits("shop")}


def test_the_scan_would_find_what_sqlite_leaves_behind_by_itself(tmp_path):
    """The same rows deleted without overwriting them are still in the file."""
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(SHOP)
        for number in range(1, 60):
            store.write(**person(number))
    with sqlite3.connect(tmp_path / "shop.sqlite") as plain:
        plain.execute("PRAGMA secure_delete=OFF")
        plain.execute("DELETE FROM visits WHERE name = 'visit-00030'")
        plain.execute("DELETE FROM sightings WHERE track_id > 20")
    plain.close()
    assert found(30, tmp_path) != []


def test_what_an_older_version_left_behind_is_gone_when_the_store_is_brought_up(tmp_path, monkeypatch):
    old = tmp_path / "migrations"
    old.mkdir()
    shutil.copy(room.MIGRATIONS / "v1_visits.py", old)
    with monkeypatch.context() as patched:
        patched.setattr(room, "MIGRATIONS", old)
        Store(tmp_path / "shop.sqlite").close()
    with sqlite3.connect(tmp_path / "shop.sqlite") as plain:
        plain.execute("PRAGMA secure_delete=OFF")
        plain.execute("INSERT INTO sites VALUES (1, 'shop', 'UTC')")
        rows = [(number, 1, f"visit-{number:05}", 1, 0, 1, None, None, None, True) for number in range(1, 400)]
        plain.executemany("INSERT INTO visits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        plain.commit()
        plain.execute("DELETE FROM visits WHERE id > 10")
    plain.close()
    assert found(300, tmp_path) == ["shop.sqlite"]
    with Store(tmp_path / "shop.sqlite"):
        assert "shop.sqlite" not in found(300, tmp_path)
        assert "shop.sqlite-wal" not in found(300, tmp_path)


def test_what_expired_is_gone_to_the_last_byte_too(tmp_path):
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(SHOP)
        for number in range(1, 60):
            store.write(**person(number, since_s=100 * number))
        assert found(3, tmp_path) != []
        assert store.expire("shop", before=at(1000)) == 8
        assert found(3, tmp_path) == []
        assert found(20, tmp_path) != []


def test_a_backup_that_is_restored_brings_nobody_back(tmp_path):
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(SHOP)
        for number in (1, 2):
            store.write(**person(number))
        store.backup(tmp_path / "backup.sqlite")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (tmp_path / "backup.sqlite").rename(elsewhere / "tape.sqlite")  # where no erasure reaches it
        erase(store)
        assert found(1, elsewhere) == ["tape.sqlite"]
        store.restore(elsewhere / "tape.sqlite")
        assert [visit.name for visit in store.visits("shop")] == ["visit-00002"]
        assert len(store.sightings("shop")) == 2
        store.write(**person(1, revision=2))
        assert [visit.name for visit in store.visits("shop")] == ["visit-00002"]
        assert found(1, tmp_path) == []


def test_a_copy_that_cannot_be_cleaned_is_named(tmp_path):
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(SHOP)
        store.write(**person(1))
        store.backup(tmp_path / "backup.sqlite")
        (tmp_path / "backup.sqlite").write_bytes(b"no database at all" * 300)
        with pytest.raises(StoreError, match=r"erased, but not in these copies; mend or delete them: .*backup\.sqlite"):
            erase(store)
        assert store.visits("shop") == []
        (tmp_path / "backup.sqlite").unlink()
        assert erase(store).missing == (tmp_path / "backup.sqlite",)


def test_a_journal_that_somebody_still_reads_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("passerby.service.store.WAIT_S", 0.1)
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(SHOP)
        store.write(**person(1))
        with StoreReader(tmp_path / "shop.sqlite") as reader:
            with reader.reading() as connection:
                connection.execute(text("SELECT * FROM visits")).all()
                with pytest.raises(StoreError, match="a reader still holds the journal; erase again"):
                    erase(store)
            erase(store)
        assert found(1, tmp_path) == []


def test_its_keys_in_the_vault_go_too(store, tmp_path):
    vault = Vault(tmp_path / "vault")
    vectors = {
        key(camera, track): np.ones((1, 4), np.float32) for camera, track in (("door", 2), ("aisle", 3), ("door", 4))
    }
    visits = {key("door", 2): "visit-00001", key("aisle", 3): "part"}
    vault.save(b"state", vectors, visit_of=visits, day_of={}, today=NOW.date())
    store.write(**person(1))
    store.write(visits=[Visit("shop", "part", 2, (), at(0), at(9), merged_into="visit-00001")])
    privacy.erase(store, "shop", "visit-00001", who="paula", kind="user", now=at(1000), vault=vault)
    vault.save(b"state", {}, visit_of={}, day_of={}, today=NOW.date())
    assert vault.load() == (b"state", {})


def test_who_was_erased_does_not_come_back_with_the_next_snapshot_of_who_is_inside(store, tmp_path):
    """The associator knows the person until the window is over; no snapshot of it is kept meanwhile."""
    store.write(**person(1))
    rows = np.eye(2, 64, dtype=np.float32)
    vectors = {key("door", 2): rows, key("door", 4): rows}
    memory = Memory(store, SHOP, Vault(tmp_path / "vault"), say=print)
    memory.save(Snapshot(b"state", vectors, {key("door", 2): "visit-00001"}, {}), today=NOW.date())
    assert memory.vault.load()[1].keys() == vectors.keys()
    memory.erase(store, "shop", "visit-00001", who="paula", kind="user", now=NOW)
    memory.save(Snapshot(b"state", vectors, {}, {}), today=NOW.date())
    assert memory.vault.load() is None
    memory.save(Snapshot(b"state", {key("door", 4): rows}, {}, {}), today=NOW.date())  # it is forgotten there, too
    assert memory.vault.load()[1].keys() == {key("door", 4)}


# Expiry


def test_the_keys_of_a_day_go_when_its_visits_and_their_window_are_over(store, tmp_path):
    vault = Vault(tmp_path / "vault")
    vectors = {key("door", 2): np.ones((1, 4), np.float32)}
    vault.save(b"state", vectors, visit_of={key("door", 2): "v"}, day_of={"v": NOW.date()}, today=NOW.date())
    midnight = datetime(2026, 3, 2, 23, tzinfo=UTC)  # in Paris
    privacy.expire(store, SHOP, now=midnight + timedelta(days=1, hours=2, minutes=59), vault=vault)
    assert vault.load() is not None
    privacy.expire(store, SHOP, now=midnight + timedelta(days=1, hours=3), vault=vault)
    assert vault.load() is None


def test_visits_go_after_the_days_that_the_site_keeps_them_and_counts_stay(store):
    site = replace(SHOP, retention_days=30)
    for number, days in ((1, 0), (2, 10), (3, 20)):
        store.write(**person(number, since_s=86400 * days))
    store.write(sightings=[seen("door", 77, 5, 50)])  # nobody's visit
    store.write(sightings=[seen("door", 78, 86400 * 20, 86400 * 20 + 50)])
    assert privacy.expire(store, site, now=at(86400 * 30)) == 0  # it ended two minutes later
    assert privacy.expire(store, site, now=at(86400 * 30 + 121)) == 1
    assert [visit.name for visit in store.visits("shop")] == ["visit-00002", "visit-00003"]
    assert privacy.expire(store, site, now=at(86400 * 45)) == 1
    assert [visit.name for visit in store.visits("shop")] == ["visit-00003"]
    assert {s.key.track for s in store.sightings("shop")} == {6, 7, 78}
    assert len(store.crossings("shop")) == 3
    assert rows_of(store)["stays"] == rows_of(store)["links"] == 1
    assert [(row.who, row.detail) for row in accounts.log(store)] == [("expiry", '{"days": 30, "visits": 1}')] * 2


# Small groups


def flat(shown):
    return [*[cell for row in shown.cells for cell in row], *shown.rows, *shown.columns, shown.total]


def equations(rows, columns):
    """What everybody knows of a table: each total is the sum of its cells; unknowns as in `flat`."""
    size = rows * columns + rows + columns + 1
    lines = []
    for row in range(rows):
        line = np.zeros(size)
        line[row * columns : (row + 1) * columns], line[rows * columns + row] = 1, -1
        lines.append(line)
    for column in range(columns):
        line = np.zeros(size)
        line[column : rows * columns : columns], line[rows * columns + rows + column] = 1, -1
        lines.append(line)
    line = np.zeros(size)
    line[rows * columns : rows * columns + rows], line[-1] = 1, -1
    return np.array([*lines, line])


def recovered(shown):
    """The withheld numbers that can have one value only, by all that is shown and by none being below 0."""
    known = flat(shown)
    if None not in known:
        return []
    bounds = [(0, None) if value is None else (value, value) for value in known]
    system = equations(len(shown.rows), len(shown.columns))
    found = []
    for place, value in enumerate(known):
        if value is None:
            aim = np.zeros(len(known))
            aim[place] = 1
            least, most = (linprog(s * aim, A_eq=system, b_eq=np.zeros(len(system)), bounds=bounds) for s in (1, -1))
            assert least.status == 0
            if most.status == 0 and -most.fun - least.fun < 0.5:
                found.append(place)
    return found


def test_a_large_table_is_shown_whole():
    shown = suppressed(np.array([[20, 30], [40, 10]]), k=10)
    assert shown == Shown(((20, 30), (40, 10)), (50, 50), (60, 40), 100)


def test_k_of_one_withholds_nothing():
    assert suppressed(np.array([[1, 0], [2, 3]]), k=1) == Shown(((1, 0), (2, 3)), (1, 5), (3, 3), 6)


def test_a_small_cell_takes_three_others_with_it_the_smallest_that_will_do():
    counts = np.array([[50, 3, 60], [30, 40, 90], [20, 15, 80]])
    shown = suppressed(counts, k=10)
    assert shown.cells == ((None, None, 60), (30, 40, 90), (None, None, 80))
    assert (shown.rows, shown.columns) == ((113, 160, 115), (100, 58, 230))
    assert recovered(shown) == []


def test_what_one_would_get_back_by_taking_away_is_seen():
    """Only the small cell withheld: the row's total gives it away."""
    naive = Shown(((50, None), (30, 40)), (53, 70), (80, 43), 123)
    assert recovered(naive) == [1]
    assert recovered(suppressed(np.array([[50, 3], [30, 40]]), k=10)) == []


def test_two_empty_cells_do_not_hide_a_third():
    """Two withheld cells whose sum is 0 hide nothing; what is withheld beside has people in it."""
    naive = Shown(((None, None), (None, None)), (3, 0), (3, 0), 3)
    assert recovered(naive) == [0, 1, 2, 3]
    shown = suppressed(np.array([[3, 0, 40], [0, 0, 50], [60, 70, 80]]), k=10)
    assert shown.cells[0][0] is None
    assert recovered(shown) == []


def test_a_table_of_few_people_shows_their_number_and_no_more():
    assert suppressed(np.array([[3, 0], [2, 1]]), k=10) == Shown(
        ((None, None), (None, None)), (None, None), (None, None), 6
    )
    assert suppressed(np.array([[0, 0]]), k=10) == Shown(((0, 0),), (0,), (0, 0), 0)


def test_a_single_row_is_withheld_in_pairs():
    shown = suppressed(np.array([[25, 3, 40, 0, 12]]), k=10)
    assert shown.cells == ((25, None, 40, 0, None),)
    assert shown.total == 80


@pytest.mark.parametrize("counts", [np.array([1, 2]), np.array([[-1]]), np.zeros((0, 2), int), np.array([[0.5]])])
def test_what_is_no_table_of_counts_is_refused(counts):
    with pytest.raises(PrivacyError, match="expected whole counts"):
        suppressed(counts, k=10)


TABLES_OF_COUNTS = st.integers(1, 5).flatmap(
    lambda rows: st.integers(2, 5).flatmap(
        lambda columns: st.lists(
            st.lists(st.one_of(st.just(0), st.integers(0, 12), st.integers(0, 60)), min_size=columns, max_size=columns),
            min_size=rows,
            max_size=rows,
        )
    )
)


@settings(max_examples=80, deadline=None)
@given(counts=TABLES_OF_COUNTS, k=st.sampled_from([2, 5, 10]))
def test_nobody_works_out_a_withheld_number(counts, k):
    """A linear programme, which knows nothing of how numbers were chosen, finds two values or more for each."""
    counts = np.array(counts)
    shown = suppressed(counts, k=k)
    assert recovered(shown) == []
    true = flat(suppressed(counts, k=1))
    for value, was in zip(flat(shown)[:-1], true[:-1], strict=True):
        assert value is None or (value == was and (not 0 < was < k or 1 in counts.shape))
    if counts.shape[0] > 1:
        assert not any(0 < (row or 0) < k for row in shown.rows)
    assert not any(0 < (cell or 0) < k for row in shown.cells for cell in row)
    assert shown.total == counts.sum()


@settings(max_examples=60, deadline=None)
@given(counts=TABLES_OF_COUNTS, k=st.sampled_from([5, 10]))
def test_no_more_is_withheld_than_one_call_for_it(counts, k):
    """A table without a small number is shown whole."""
    counts = np.where(np.array(counts) > 0, np.array(counts) + k, 0)
    assert None not in flat(suppressed(counts, k=k))
