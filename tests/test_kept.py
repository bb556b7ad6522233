"""What stands beside people, on SQLite and PostgreSQL: it comes back as it went in, and what is put twice is there once."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import text

from passerby.service import kept
from passerby.service import store as room
from passerby.service.kept import Audit, Closing, Counted, Gap, QueueEvent, Sales
from passerby.service.store import Store, StoreReader
from passerby.types import StoreError
from passerby.vision.window import Drawn
from test_store import SHOP, at, plain, store  # noqa: F401  # store is a fixture


def drawn(hour, values, *, what="persons", length="hour"):
    return Drawn(at(3600 * hour), length, what, np.array(values, np.int64))


PUT = {  # two records of each kind, one of them over an hour later
    "gaps": (Gap("door", at(0), at(60), "down", "no frame"), Gap("aisle", at(4000), None, "moved", "the view changed")),
    "queue_events": (QueueEvent("till", at(0), at(90), "long", 6.0), QueueEvent("till", at(4000), None, "slow", 320.5)),
    "audits": (Audit("entry", at(0), at(900), 41, 37, "a1", "kim"), Audit("entry", at(4000), at(4900), 0, 2)),
    "counts": (Counted("street", at(0), at(3600), 120), Counted("street", at(4000), at(7600), 3, 5)),
    "sales": (Sales(at(0), at(3600), 14), Sales(at(4000), at(7600), 9, till="two")),
    "closings": (Closing(at(0), 3), Closing(at(4000), 0)),
}


@pytest.mark.parametrize("name", PUT)
def test_what_is_put_comes_back_in_order_of_time(store, name):  # noqa: F811
    early, late = PUT[name]
    put, get = getattr(kept, f"put_{name}"), getattr(kept, name)
    put(store, "shop", [late, early])
    assert get(store, "shop") == [early, late]
    assert get(store, "shop", until=at(4000)) == get(store, "shop", since=at(0), until=at(1)) == [early]
    assert get(store, "shop", since=at(3700)) == [late]


@pytest.mark.parametrize("name", PUT)
def test_what_is_put_twice_is_there_once_and_a_site_sees_its_own(store, name):  # noqa: F811
    early, late = PUT[name]
    put, get = getattr(kept, f"put_{name}"), getattr(kept, name)
    store.put_site(replace(SHOP, name="other"))
    put(store, "shop", [early, late])
    put(store, "shop", [late, early])
    put(store, "shop", [])
    assert get(store, "shop") == [early, late]
    assert get(store, "other") == []
    with pytest.raises(StoreError, match="no site 'nowhere'; known: other, shop"):
        put(store, "nowhere", [early])


def test_a_gap_that_lasts_touches_all_that_comes_until_it_is_closed(store):  # noqa: F811
    lasting = Gap("door", at(0), None, "down", "no frame for 40 s")
    kept.put_gaps(store, "shop", [lasting])
    assert kept.gaps(store, "shop", since=at(10**6)) == [lasting]
    closed = replace(lasting, end=at(60))
    kept.put_gaps(store, "shop", [closed])
    kept.put_gaps(store, "shop", [lasting])  # told again after a restart
    assert kept.gaps(store, "shop") == [closed]
    assert kept.gaps(store, "shop", since=at(60)) == []
    kept.put_gaps(store, "shop", [Gap("aisle", at(0), None, "down", ""), Gap("aisle", at(0), at(5), "down", "")])
    assert [(gap.camera, gap.end) for gap in kept.gaps(store, "shop")] == [("aisle", at(5)), ("door", at(60))]


def test_a_later_record_replaces_the_earlier_one_and_only_new_ones_count_as_new(store):  # noqa: F811
    assert kept.put_counts(store, "shop", [Counted("street", at(0), at(3600), 120)]) == 1
    again = [Counted("street", at(0), at(3600), 121), Counted("street", at(3600), at(7200), 9)]
    assert kept.put_counts(store, "shop", again) == 1
    assert kept.put_counts(store, "shop", again) == 0
    assert kept.counts(store, "shop") == again
    assert kept.put_sales(store, "shop", [Sales(at(0), at(60), 1), Sales(at(0), at(60), 2, till="two")]) == 2


def test_draws_come_back_whole(store):  # noqa: F811
    put = [drawn(0, [3, 4, 2**40]), drawn(0, [3, 3, 5], what="visits"), drawn(1, [0]), drawn(0, [9], length="day")]
    kept.put_draws(store, "shop", put)
    kept.put_draws(store, "shop", put)
    found = {(each.start, each.length, each.what): each.values.tolist() for each in kept.draws(store, "shop")}
    assert found == {(each.start, each.length, each.what): each.values.tolist() for each in put}
    assert [each.values.tolist() for each in kept.draws(store, "shop", since=at(3600))] == [[0]]
    kept.put_draws(store, "shop", [drawn(1, [7, 8])])
    assert [each.values.tolist() for each in kept.draws(store, "shop", since=at(3600))] == [[7, 8]]


def test_a_reader_sees_what_was_put(store, url):  # noqa: F811
    kept.put_closings(store, "shop", [Closing(at(5), 1)])
    with StoreReader(url) as reader:
        assert kept.closings(reader, "shop") == [Closing(at(5), 1)]


@pytest.mark.parametrize(
    "made",
    [
        lambda: Gap("door", at(5), at(5), "down", ""),
        lambda: Gap("door", datetime(2026, 3, 2), None, "down", ""),
        lambda: Audit("entry", at(0), at(900), -1, 0),
        lambda: Counted("street", at(0), at(900), 0, -1),
        lambda: Sales(at(9), at(0), 1),
    ],
)
def test_what_contradicts_itself_is_refused(made):
    with pytest.raises(StoreError, match="expected"):
        made()


def test_a_store_of_the_first_version_gets_the_tables(url, tmp_path, monkeypatch):
    old = tmp_path / "first"
    old.mkdir()
    shutil.copy(room.MIGRATIONS / "v1_visits.py", old)
    with monkeypatch.context() as patched:
        patched.setattr(room, "MIGRATIONS", old)
        Store(url).close()
    engine = plain(url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO sites VALUES (1, 'shop', 'Europe/Paris')"))
    engine.dispose()
    said = []
    with Store(url, tell=said.append) as store:  # noqa: F811
        kept.put_gaps(store, "shop", [PUT["gaps"][0]])
        assert kept.gaps(store, "shop") == [PUT["gaps"][0]]
        assert all(getattr(kept, name)(store, "shop") == [] for name in PUT if name != "gaps")
    assert any("brought to version 2" in line for line in said)


def test_times_come_out_in_utc(store):  # noqa: F811
    kept.put_gaps(store, "shop", [Gap("door", at(0) + timedelta(microseconds=7), None, "down", "")])
    (gap,) = kept.gaps(store, "shop")
    assert gap.start.tzinfo is UTC
    assert gap.start == at(0) + timedelta(microseconds=7)
