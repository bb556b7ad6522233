"""Guests who enrolled: nobody without a consent, nobody after it; how they look is kept apart, and goes with it."""

import importlib
import shutil
import sqlite3
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from passerby.service import accounts, auth
from passerby.service.guests import AWAY, Guests, _unpacked, safe_of
from passerby.service.live import Live
from passerby.service.lookup import Looks, Lookup, found
from passerby.service.run import BEAT_S, Watch, application
from passerby.service.store import Store
from passerby.service.vault import Safe
from passerby.site import Site, load_site
from passerby.types import PasserbyError, PrivacyError
from test_auth import browse  # noqa: F401  # a fixture

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "dev"))
example_shop = importlib.import_module("http_examples")

NOW, SHOP = example_shop.NOW, example_shop.SHOP
LAST = date(2026, 3, 31)
FORM = {"guest": "card 17", "purpose": "greeting", "consent": "signed form 17", "ends": LAST.isoformat()}


@pytest.fixture
def store(url):
    with Store(url) as opened:
        example_shop.fill(opened)
        yield opened


@pytest.fixture
def safe(tmp_path):
    return Safe(tmp_path / "guests")


@pytest.fixture
def lookup():
    return example_shop.lookup()


@pytest.fixture
def guests(store, safe, lookup):
    return Guests(store, SHOP, safe, lookup)


class Desk:
    """The real application, and its clock."""

    def __init__(self, store, site, safe, browse):  # noqa: F811
        self.now, self.lookup = NOW, example_shop.lookup()
        self.live = Live(site, clock=lambda: self.now)
        self.guests = Guests(store, site, safe, self.lookup)
        app = application(site, store, self.live, lambda: self.now, lookup=self.lookup, guests=self.guests)
        self.client = browse(app)
        self.keys = {
            role: accounts.add_key(store, role, role=role, sites=None, now=NOW) for role in ("administrator", "manager")
        }

    def ask(self, method, path, *, role="administrator", **more):
        return self.client.request(method, f"/api/v1/guests{path}", headers={"X-API-Key": self.keys[role]}, **more)

    def enrol(self, **form):
        said = {name: value for name, value in (FORM | form).items() if value is not None}
        files = None if "visit" in said else {"picture": ("crop.png", example_shop.crop(), "image/png")}
        return self.ask("POST", "", data=said, files=files)

    def seen(self):
        return [(each["guest"], each["visit"]) for each in self.ask("GET", "/seen").json()["guests"]]

    def withdraw(self, guest="card 17"):
        return self.ask("POST", "/withdrawals", json={"guest": guest})

    def erase(self, guest="card 17"):
        return self.ask("POST", "/erasures", json={"guest": guest})


@pytest.fixture
def desk(store, safe, browse):  # noqa: F811
    return Desk(store, SHOP, safe, browse)


def enrol(guests, store, name="card 17", *, ends=LAST, visit="s1-3", now=NOW):
    return guests.enrol(
        store,
        name,
        lambda: guests.look_of(visit),
        purpose="greeting",
        consent="signed form",
        ends=ends,
        by="paula",
        now=now,
    )


def names(guests, *, now=NOW):
    return [each.guest for each in guests.seen(now=now)]


# Off by default


def test_guests_are_off_unless_the_sites_file_allows_them(store, safe, browse, tmp_path):  # noqa: F811
    (tmp_path / "site.toml").write_text('name = "shop"\n[[cameras]]\nname = "door"\nsource = "door.mp4"\n')
    assert load_site(tmp_path / "site.toml").guests is False
    desk = Desk(store, replace(SHOP, guests=False), safe, browse)
    for answer in (desk.enrol(), desk.ask("GET", "/seen")):
        assert answer.status_code == 409
        assert "`guests = true` in the site's file" in answer.json()["detail"]
    assert desk.ask("GET", "").json() == []
    assert safe.names() == set()


def test_where_guests_are_off_again_nothing_is_kept_of_how_they_look(store, safe, lookup, guests):
    enrol(guests, store)
    off = Guests(store, replace(SHOP, guests=False), safe, lookup)
    assert safe.names() == set()
    assert [(guest.name, kept) for guest, kept in off.listed()] == [("card 17", False)]
    assert off.withdraw(store, "card 17", now=NOW)
    assert off.erase(store, "card 17", now=NOW)


def test_beside_a_database_nobody_can_enrol(store, lookup):
    assert safe_of("postgresql://shop@db/shop") is None
    with pytest.raises(PrivacyError, match="need a store in a file"):
        enrol(Guests(store, SHOP, None, lookup), store)


# Consent


@pytest.mark.parametrize(
    ("missing", "where"),
    [
        ({"purpose": None}, "purpose"),
        ({"purpose": " "}, "purpose"),
        ({"consent": None}, "consent"),
        ({"ends": None}, "ends"),
        ({"ends": "2026-03-01"}, "ends"),
        ({"ends": "2028-03-04"}, "ends"),
        ({"guest": None}, "guest"),
    ],
)
def test_without_a_consent_nobody_is_enrolled(desk, safe, missing, where):
    answer = desk.enrol(**missing)
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, f"body: {where}")
    assert (desk.ask("GET", "").json(), safe.names(), desk.seen()) == ([], set(), [])


def test_a_guest_is_enrolled_by_a_picture_or_by_a_visit_and_is_seen(desk):
    made = desk.enrol().json()
    assert (made["guest"], made["purpose"], made["consent"], made["state"], made["kept"]) == (
        "card 17",
        "greeting",
        "signed form 17",
        "current",
        True,
    )
    assert (made["ends"], made["by"]) == ("2026-04-01T00:00:00+02:00", "administrator")
    assert desk.enrol(guest="card 18", visit="s1-1").json()["kept"]
    assert desk.seen() == [("card 17", "s1-3"), ("card 18", "s1-1")]
    (first, _) = desk.ask("GET", "/seen", role="manager").json()["guests"]
    assert (first["camera"], first["last"]) == ("door", "2026-03-02T11:25:05+01:00")
    assert 0.9 < first["probability"] < 1
    assert desk.ask("POST", "", role="manager", data=FORM).status_code == 403


def test_what_cannot_be_enrolled_is_refused_and_leaves_nothing(desk, safe):
    assert desk.enrol(visit="s1-2").status_code == 404  # not remembered
    assert desk.ask("POST", "", data=FORM).status_code == 422  # neither a picture nor a visit
    nothing = {"picture": ("crop.png", b"nobody", "image/png")}
    assert desk.ask("POST", "", data=FORM, files=nothing).status_code == 422
    assert (desk.ask("GET", "").json(), safe.names()) == ([], set())
    assert desk.enrol().status_code == 200
    assert desk.enrol().status_code == 422  # that name is taken


def test_the_probability_is_that_of_a_search_with_another_prior(guests, store, lookup):
    enrol(guests, store)
    (seen,) = guests.seen(now=NOW)
    searched = found(lookup.looks(), guests.look_of("s1-3"), absent=AWAY)
    assert (seen.visit, seen.probability) == searched.visits[0]


def test_who_resembles_nobody_is_not_named(guests, store, lookup, safe):
    enrol(guests, store)
    looks = lookup.looks()
    others = Looks(looks.network, looks.calibration, looks.visits[1:], looks.sides.take([1, 2]), looks.many[1:])
    assert names(Guests(store, SHOP, safe, Lookup(lambda: others, embed=None))) == []
    another = Looks("another network", looks.calibration, looks.visits, looks.sides, looks.many)
    assert names(Guests(store, SHOP, safe, Lookup(lambda: another, embed=None))) == []
    nobody = Looks(looks.network, looks.calibration, (), looks.sides.take([]), looks.many[:0])
    assert names(Guests(store, SHOP, safe, Lookup(lambda: nobody, embed=None))) == []
    with pytest.raises(PasserbyError, match="Nobody is followed yet"):
        Guests(store, SHOP, safe, Lookup(lambda: None, embed=None)).seen(now=NOW)


def test_a_guest_is_known_again_after_a_restart(guests, store, tmp_path, lookup):
    enrol(guests, store)
    assert names(Guests(store, SHOP, Safe(tmp_path / "guests"), lookup)) == ["card 17"]


# The end of a consent


def test_who_withdraws_is_recognised_no_more(desk, safe):
    desk.enrol()
    desk.enrol(guest="card 18", visit="s1-1")
    assert desk.seen() == [("card 17", "s1-3"), ("card 18", "s1-1")]
    said = desk.withdraw().json()
    assert (said["state"], said["kept"], said["withdrawn"]) == ("withdrawn", False, "2026-03-02T13:30:00+01:00")
    assert desk.seen() == [("card 18", "s1-1")]
    assert len(safe.names()) == 1
    desk.now += timedelta(hours=1)
    assert desk.withdraw().json()["withdrawn"] == "2026-03-02T13:30:00+01:00"  # as it was
    assert desk.withdraw("nobody").status_code == 404


def test_a_consent_that_ended_is_as_one_that_was_withdrawn(desk, safe):
    desk.enrol(ends="2026-03-02")
    desk.now = datetime(2026, 3, 2, 22, 59, 59, tzinfo=UTC)  # the last second of the day in Paris
    assert desk.seen() == [("card 17", "s1-3")]
    desk.now += timedelta(seconds=1)
    assert desk.seen() == []
    desk.guests.watch(now=desk.now, tell=lambda alarm: None)
    assert safe.names() == set()
    assert [(each["state"], each["kept"]) for each in desk.ask("GET", "").json()] == [("ended", False)]


def test_looks_and_consent_are_erased_separately(desk, safe, store):
    desk.enrol()
    refused = desk.erase()
    assert (refused.status_code, "withdraw it first" in refused.json()["detail"]) == (409, True)
    desk.withdraw()
    assert safe.names() == set()
    (kept,) = desk.ask("GET", "").json()
    assert kept["consent"] == "signed form 17"
    assert desk.erase().status_code == 200
    assert desk.ask("GET", "").json() == []
    assert desk.erase().status_code == 404
    assert desk.enrol().status_code == 200  # the name is free again


def test_looks_without_a_consent_are_used_for_nobody_and_destroyed(guests, store, safe):
    from sqlalchemy import text

    enrol(guests, store)
    with store.writing() as connection:
        connection.execute(text("DELETE FROM guests"))
    assert names(guests) == []
    guests.sweep(now=NOW)
    assert safe.names() == set()


def test_what_ended_is_destroyed_within_a_minute(guests, store, safe):
    """The loop that looks after everything sweeps too, this often."""
    assert BEAT_S <= 30
    enrol(guests, store, ends=NOW.date())

    class Quiet:
        def __getattr__(self, name):
            return lambda *words, **more: None

    live, now = Live(SHOP, clock=lambda: NOW), NOW + timedelta(days=1)
    more = {"ledger": Quiet(), "following": Quiet(), "memory": Quiet(), "tell": print}
    watch = Watch(SHOP, "postgresql://none", store=store, live=live, guests=guests, began=now, **more)
    watch._expire_s = watch._save_s = watch._roll_s = float("inf")
    watch.look_after(1000.0, now)
    assert safe.names() == set()


def test_a_guest_who_cannot_be_read_any_more_is_said_and_stops_nothing(guests, store, safe, tmp_path):
    enrol(guests, store)
    (sealed,) = (tmp_path / "guests").glob("*.sealed")
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"?")
    with pytest.raises(PrivacyError, match="was changed since it was written"):
        guests.seen(now=NOW)
    guests.watch(now=NOW, tell=lambda alarm: None)


# What lies there


def test_how_a_guest_looks_lies_there_encrypted_and_no_copy_opens_after_the_withdrawal(guests, store, safe, tmp_path):
    enrol(guests, store)
    enrol(guests, store, "card 18", visit="s1-1")
    (name,) = [name for name in safe.names() if _unpacked(safe.get(name)).many == 3]
    vector = guests.look_of("s1-3").side.means.tobytes()
    for path in (tmp_path / "guests").rglob("*"):
        assert path.is_dir() or not any(part in path.read_bytes() for part in (vector, b"card 17", b"example"))
    copy = tmp_path / "copied"
    shutil.copytree(tmp_path / "guests", copy, ignore=shutil.ignore_patterns("keys"))
    key = (tmp_path / "guests" / "keys" / f"{name}.key").read_bytes()
    guests.withdraw(store, "card 17", now=NOW)
    shutil.copytree(copy, tmp_path / "guests", dirs_exist_ok=True)  # a backup is put back
    again = Safe(tmp_path / "guests")
    assert again.get(name) is None
    assert names(guests) == ["card 18"]
    assert key not in b"".join(path.read_bytes() for path in (tmp_path / "guests").rglob("*.key"))
    guests.sweep(now=NOW)
    assert name not in again.names()


def test_a_crash_between_key_and_content_leaves_nothing_for_long(guests, store, safe, tmp_path):
    enrol(guests, store)
    (tmp_path / "guests" / "keys" / f"{'0' * 64}.key").write_bytes(bytes(32))
    assert safe.get("0" * 64) is None
    guests.sweep(now=NOW)
    assert len(safe.names()) == 1


def test_where_a_guest_was_seen_is_written_nowhere(guests, store, tmp_path):
    def files():
        there = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".sqlite-shm"]
        return {path: path.read_bytes() for path in there}

    enrol(guests, store)
    before = files()
    for _ in range(3):
        assert names(guests) == ["card 17"]
        guests.watch(now=NOW, tell=lambda alarm: None)
    assert files() == before


def test_the_log_says_what_was_done_and_names_a_guest_by_a_hash(desk, store):
    desk.enrol()
    desk.seen()
    desk.withdraw()
    desk.erase()
    rows = accounts.log(store)
    assert [row.action for row in rows if row.action in ("guest enrolled", "consent withdrawn", "consent erased")] == [
        "consent erased",
        "consent withdrawn",
        "guest enrolled",
    ]
    assert "see guests" in {row.action for row in rows}
    assert "card 17" not in str(rows)
    assert auth.MAY["auditor"] & {"see guests", "enrol guests"} == set()


def test_an_erased_consent_is_gone_from_the_file(tmp_path, lookup, safe):
    with Store(tmp_path / "shop.sqlite") as store:
        store.put_site(SHOP)
        guests = Guests(store, SHOP, safe, lookup)
        enrol(guests, store, "a label that is nowhere else")
        guests.withdraw(store, "a label that is nowhere else", now=NOW)
        guests.erase(store, "a label that is nowhere else", now=NOW)
    with sqlite3.connect(tmp_path / "shop.sqlite") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert b"a label that is nowhere else" not in (tmp_path / "shop.sqlite").read_bytes()


# The alert


def test_an_alert_says_that_a_guest_is_here_and_not_who(guests, store):
    enrol(guests, store)
    (seen,) = guests.seen(now=NOW)
    alarms = []
    for later_s in (0, 60, 120, 121, 300):
        guests.watch(now=seen.last + timedelta(seconds=later_s), tell=alarms.append)
    assert [(alarm.name, alarm.on, (alarm.at - seen.last).total_seconds()) for alarm in alarms] == [
        ("guests", True, 0),
        ("guests", False, 121),
    ]
    assert not any("17" in alarm.text for alarm in alarms)


def test_a_round_reads_the_consents_once(guests, store, monkeypatch):
    enrol(guests, store)
    asked, listed = [], guests.listed
    monkeypatch.setattr(guests, "listed", lambda: asked.append(1) or listed())
    guests.watch(now=NOW, tell=lambda alarm: None)
    assert len(asked) == 1


def test_a_withdrawal_ends_the_alert(guests, store):
    enrol(guests, store)
    (seen,) = guests.seen(now=NOW)
    alarms = []
    guests.watch(now=seen.last, tell=alarms.append)
    guests.withdraw(store, "card 17", now=seen.last)
    guests.watch(now=seen.last + timedelta(seconds=10), tell=alarms.append)
    assert [alarm.on for alarm in alarms] == [True, False]


def test_two_sites_in_one_store_know_their_own_guests(store, safe, lookup, guests):
    other = Site("other", SHOP.cameras, guests=True)
    store.put_site(other)
    enrol(guests, store)
    assert np.isfinite(guests.seen(now=NOW)[0].probability)
    assert Guests(store, other, Safe(Path(safe._folder).with_name("others")), lookup).listed() == []
