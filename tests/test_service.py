"""From small films to a report: what was followed goes into a store, and the figures are what a hand counts."""

import csv
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from passerby.__main__ import app
from passerby.service import analytics, report
from passerby.service.folder import import_folder
from passerby.service.store import Store, StoreReader, Written
from passerby.shop import Link, Visit
from passerby.site import load_site
from passerby.types import SightingError, StoreError
from test_pipeline import Opened, films, followed  # noqa: F401  # films is a fixture
from test_store import everything, key, seen

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
DAY = analytics.Period(datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "120"})


@pytest.fixture(scope="module")
def folder(films, tmp_path_factory):  # noqa: F811
    """What `follow` writes: red comes at 2 s, is 6 s at the shelf, goes at 19.5 s; green comes at 6.5 s, and does not go."""
    out = tmp_path_factory.mktemp("followed")
    followed(films, out, Opened())
    return out


@pytest.fixture(scope="module")
def site(films):  # noqa: F811
    return load_site(films / "site.toml")


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "shop.sqlite") as opened:
        yield opened


# Taking in


def test_a_folder_that_was_followed_is_taken_in_once(folder, site, store):
    assert import_folder(folder, store, site) == Written(sightings=5, links=3, visits=2)
    before = everything(store, "small")
    assert import_folder(folder, store, site) == Written(0, 0, 0)
    assert everything(store, "small") == before


def test_the_store_gives_the_visits_that_were_followed(films, folder, site, store, tmp_path):  # noqa: F811
    import_folder(folder, store, site)
    rows = store.rows("small", doors=site.doors)
    assert rows == followed(films, tmp_path / "again", Opened()).visits


def test_what_is_kept_while_following_is_what_is_taken_in_afterwards(films, folder, site, store, tmp_path):  # noqa: F811
    store.put_site(site)

    def keep(made, changes):
        store.write(sightings=made, links=changes.links, visits=changes.visits)

    followed(films, tmp_path / "out", Opened(), keep=keep)
    kept = store.rows("small", doors=site.doors)
    assert import_folder(folder, store, site) == Written(0, 0, 0)
    with Store(tmp_path / "other.sqlite") as other:
        import_folder(folder, other, site)
        assert other.rows("small", doors=site.doors) == kept


def test_following_again_after_a_crash_ends_where_it_would_have_ended(films, site, store, tmp_path):  # noqa: F811
    store.put_site(site)
    batches = []

    def keep(made, changes):
        batches.append({"sightings": made, "links": changes.links, "visits": changes.visits})

    rows = followed(films, tmp_path / "out", Opened(), keep=keep).visits
    for batch in batches[: len(batches) // 2] + batches:
        store.write(**batch)
    assert store.rows("small", doors=site.doors) == rows


def test_a_folder_followed_with_other_settings_is_refused_and_nothing_is_taken_in(folder, site, store, tmp_path):
    import_folder(folder, store, site)
    before = everything(store, "small")
    other = tmp_path / "other"
    other.mkdir()
    (other / "sightings.parquet").write_bytes((folder / "sightings.parquet").read_bytes())
    rows = [json.loads(line) for line in (folder / "visits.jsonl").read_text().splitlines()]
    rows[0]["sightings"], cut = rows[0]["sightings"][:1], rows[0]["sightings"][1:]
    rows.append({**rows[0], "visit": "another", "sightings": cut})
    (other / "visits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (other / "links.jsonl").write_text("")
    with pytest.raises(StoreError, match="followed with other settings"):
        import_folder(other, store, site)
    assert everything(store, "small") == before


def test_a_folder_that_is_none_or_of_another_site_is_named(folder, films, store, tmp_path):  # noqa: F811
    with pytest.raises(SightingError, match=r"expected a folder that `passerby follow` wrote, without visits\.jsonl"):
        import_folder(tmp_path, store, load_site(films / "site.toml"))
    (tmp_path / "site.toml").write_text((films / "site.toml").read_text().replace('"small"', '"large"', 1))
    with pytest.raises(SightingError, match="it is of site 'small', the site's file of 'large'"):
        import_folder(folder, store, load_site(tmp_path / "site.toml"))
    assert store.sites() == {}


# Figures


def test_the_figures_of_the_films_are_what_a_hand_counts(folder, site, store):
    import_folder(folder, store, site)
    found = report.report_of(store, site, DAY, parts=analytics.hours, now=DAY.end)
    totals = {total.name: total.value.value for total in found.totals}
    assert (totals["entries"], totals["exits"], totals["visits"], totals["persons"]) == (2, 1, 2, 2)
    assert (totals["re-entry share"], totals["bounce (under 2 min)"]) == (0, 1)
    assert totals["visit, 90 %"] == pytest.approx(
        0.9 * 17.5 + 0.1 * 10.5, abs=0.6
    )  # red 2 to 19.5 s, green 6.5 to 17 s
    assert [each.entries.value for each in found.footfall] == [0] * 10 + [2] + [0] * 13
    assert found.occupancy[10].most.value == 2
    # green was never seen to leave: who was not seen for ten minutes has gone
    assert found.occupancy[10].mean.value * 3600 == pytest.approx((19.5 - 2) + (17 + 600 - 6.5), abs=1)
    assert found.occupancy[11].most.value == 0
    (shelf,) = found.dwell
    assert (shelf.zone, shelf.visits.value, shelf.stays.count) == ("shelf", 1, 1)  # green's 3 s are too short
    assert shelf.stays.median_s.value == pytest.approx(6, abs=0.5)
    assert [(path.places, path.visits.value) for path in found.paths] == [
        (("door", "aisle"), 1),
        (("door", "aisle", "door"), 1),
    ]
    moves = {(each.origin, each.target): (each.count.value, each.share.value) for each in found.transitions}
    assert moves[None, "door"] == (2, 1.0)
    assert moves["aisle", "door"] == (1, 0.5)
    assert found.before is None


def test_a_period_is_compared_with_the_same_day_a_week_before_up_to_the_same_minute(site, store):
    store.put_site(site)
    weeks = timedelta(days=7).total_seconds()
    came = [(1, 0), (2, 7200), (3, -weeks), (4, -weeks + 60), (5, -weeks + 7200)]
    store.write(
        sightings=[
            seen("door", at_s, at_s + 5, track=track, site="small", crossings=[("entry", at_s + 1, True)])
            for track, at_s in came
        ]
    )
    noon = START + timedelta(hours=1)
    found = report.report_of(store, site, DAY, parts=analytics.hours, now=noon)
    entries = found.totals[0]
    assert (entries.name, entries.value.value) == ("entries", 1)
    assert (entries.change.now.value, entries.change.before.value, entries.change.relative.value) == (1, 2, -0.5)
    assert found.before == analytics.Period(DAY.start - timedelta(days=7), noon - timedelta(days=7))


def test_who_did_not_leave_yesterday_is_not_inside_today(site, store):
    store.put_site(site)
    store.write(sightings=[seen("door", 0, 5, site="small", crossings=[("entry", 1, True)])])
    tomorrow = analytics.Period(DAY.end, DAY.end + timedelta(days=1))
    found = report.report_of(store, site, tomorrow, parts=analytics.days, now=tomorrow.end)
    assert [each.most.value for each in found.occupancy] == [0]


def test_who_came_before_the_asked_hour_is_inside_in_it(site, store):
    store.put_site(site)
    came = Visit("small", "v", 1, (key("door", site="small"),), START, START + timedelta(hours=3))
    store.write(sightings=[seen("door", 0, 10800, site="small", crossings=[("entry", 1, True)])], visits=[came])
    later = analytics.Period(START + timedelta(hours=2), START + timedelta(hours=3))
    found = report.report_of(store, site, later, parts=analytics.hours, now=later.end)
    assert [(each.mean.value, each.most.value) for each in found.occupancy] == [(1.0, 1)]
    assert [each.entries.value for each in found.footfall] == [0]


def test_a_stay_that_a_crash_left_open_lasts_to_the_last_sight(site, store):
    store.put_site(site)
    came = Visit("small", "v", 1, (key("aisle", site="small"),), START, START + timedelta(seconds=40))
    left_open = seen("aisle", 0, 40, state="open", stays=[("shelf", 5, None)], site="small")
    store.write(sightings=[left_open], visits=[came])
    found = report.report_of(store, site, DAY, parts=analytics.hours, now=DAY.end)
    assert [(each.zone, each.stays.median_s.value) for each in found.dwell] == [("shelf", 35.0)]


# Commands


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_from_a_folder_to_a_report_in_two_commands(films, folder, tmp_path, request, kind):  # noqa: F811
    place = tmp_path / "shop.sqlite" if kind == "sqlite" else request.getfixturevalue("postgresql")()
    words = ["--site", films / "site.toml", "--store", place]
    taken = run("import-visits", folder, *words)
    assert taken.exit_code == 0, taken.output
    assert "5 sightings, 3 links, 2 visits were new" in taken.output
    assert "all of it was there" in run("import-visits", folder, *words).output
    told = run("report", *words, "--csv", tmp_path / "csv", "--html", tmp_path / "report.html")
    assert told.exit_code == 0, told.output
    assert "small: 2026-03-02 00:00 +0000 to 2026-03-03 00:00 +0000 (UTC)" in told.output
    assert re.search(r"entries\s*│\s*2 │", told.output)
    assert "Persons do not add up" in told.output
    tables = {path.stem: list(csv.DictReader(path.read_text().splitlines())) for path in (tmp_path / "csv").iterdir()}
    assert set(tables) == {"summary", "footfall", "dwell", "paths", "transitions"}
    assert tables["footfall"][10] | {"inside, mean": ""} == {
        "from": "2026-03-02T10:00:00+00:00",
        "to": "2026-03-02T11:00:00+00:00",
        "entries": "2",
        "exits": "1",
        "visits": "2",
        "persons": "2",
        "inside, mean": "",
        "inside, most": "2",
    }
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "(UTC)" in page
    assert not re.search(r"<script|https?://|@import|url\(", page)


def test_a_report_speaks_the_sites_time(films, folder, tmp_path):  # noqa: F811
    (tmp_path / "site.toml").write_text('time_zone = "Asia/Tokyo"\n' + (films / "site.toml").read_text())
    words = ["--site", tmp_path / "site.toml", "--store", tmp_path / "shop.sqlite"]
    assert run("import-visits", folder, *words).exit_code == 0
    told = run("report", *words, "--by", "hour", "--from", "2026-03-02T18:00", "--to", "2026-03-02T20:00")
    assert "2026-03-02 18:00 +0900 to 2026-03-02 20:00 +0900 (Asia/Tokyo)" in told.output
    assert re.search(r"2026-03-02 19:00 \+0900 │ 2026-03-02 20:00 \+0900 │\s+2 │", told.output)


def test_an_empty_period_says_so_and_what_is_known(films, folder, tmp_path):  # noqa: F811
    words = ["--site", films / "site.toml", "--store", tmp_path / "shop.sqlite"]
    assert run("import-visits", folder, *words).exit_code == 0
    told = run("report", *words, "--from", "2026-04-01", "--to", "2026-04-02", "--html", tmp_path / "empty.html")
    assert told.exit_code == 0
    assert (
        "Nothing was seen in this period, and no camera was off. The store knows of 2026-03-02 10:00 +0000"
        in " ".join(told.output.split())
    )
    page = (tmp_path / "empty.html").read_text()
    assert "Nothing was seen in this period" in page
    assert "<svg" not in page


def test_a_site_of_which_nothing_is_known_says_how_to_begin(site, films, tmp_path):  # noqa: F811
    words = ["--site", films / "site.toml", "--store", tmp_path / "shop.sqlite"]
    assert "there is no store; `passerby import-visits`" in str(run("report", *words).exception)
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(site)
    told = run("report", *words)
    assert told.exit_code == 0
    assert "Nothing is known of this site yet" in told.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "yesterday"], "--from: expected 2026-03-02 or 2026-03-02T09:30, got 'yesterday'"),
        (["--from", "2026-03-05", "--to", "2026-03-04"], "expected --from before --to"),
    ],
)
def test_a_period_that_is_none_is_refused(films, folder, tmp_path, words, said):  # noqa: F811
    place = ["--site", films / "site.toml", "--store", tmp_path / "shop.sqlite"]
    run("import-visits", folder, *place)
    told = run("report", *place, *words)
    assert told.exit_code == 1
    assert said in str(told.exception)


def test_names_in_a_page_are_text_and_nothing_else(site, store, tmp_path):
    bad = replace(site, cameras=(replace(site.cameras[0], name="<b>door</b>"), *site.cameras[1:]), zones=(), lines=())
    store.put_site(bad)
    store.write(
        sightings=[seen("<b>door</b>", 0, 60, site="small", stays=[("<i>wine</i>", 0, 50)])],
        visits=[Visit("small", "v", 1, (key("<b>door</b>", site="small"),), START, START + timedelta(minutes=1))],
    )
    found = report.report_of(store, bad, DAY, parts=analytics.hours, now=DAY.end)
    report.write_page(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text()
    assert "&lt;i&gt;wine" in page
    assert "<b>" not in page
    assert "<i>" not in page


def test_backup_and_restore_from_the_shell(films, folder, tmp_path):  # noqa: F811
    words = ["--site", films / "site.toml", "--store", tmp_path / "shop.sqlite"]
    run("import-visits", folder, *words)
    told = run("backup", tmp_path / "shop.sqlite", tmp_path / "kept.sqlite")
    assert told.exit_code == 0, told.output
    with Store(tmp_path / "shop.sqlite") as store:
        store.write(links=[Link(key("door", 90, "small"), key("aisle", 91, "small"), 1, 0.9)])
        held = run("restore", tmp_path / "kept.sqlite", tmp_path / "shop.sqlite")
        assert "writes to it already" in str(held.exception)
    told = run("restore", tmp_path / "kept.sqlite", tmp_path / "shop.sqlite")
    assert told.exit_code == 0, told.output
    assert "before-restore-1" in told.output.replace("\n", "")
    with StoreReader(tmp_path / "shop.sqlite") as store:
        assert len(store.links("small")) == 3


def test_a_table_of_the_footfall_over_the_night_when_clocks_go_back(site, store):
    paris = replace(site, time_zone="Europe/Paris")
    store.put_site(paris)
    night = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    off = (night - START).total_seconds()
    store.write(
        sightings=[
            seen(
                "door",
                off + 3600 * n,
                off + 3600 * n + 9,
                track=n + 1,
                site="small",
                crossings=[("entry", off + 3600 * n + 1, True)],
            )
            for n in (0, 1)
        ]
    )
    zone = ZoneInfo("Europe/Paris")
    day = analytics.Period(*(analytics.midnight(datetime(2026, 10, d).date(), zone) for d in (25, 26)))
    found = report.report_of(store, paris, day, parts=analytics.hours, now=day.end)
    footfall = next(sheet for sheet in report.sheets(found) if sheet.name == "footfall")
    rows = report.table(footfall, "Europe/Paris")
    assert len(rows) == 25
    assert [row[0] for row in rows if row[2] == "1"] == ["2026-10-25 02:00 +0200", "2026-10-25 02:00 +0100"]
