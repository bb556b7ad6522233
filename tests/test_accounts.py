"""Users, keys, sessions and the audit log: one test body for SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from passerby.service import accounts
from passerby.service.store import Desk, Store, StoreReader
from passerby.types import AccessError, StoreError

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)


def after(**more):
    return NOW + timedelta(**more)


@pytest.fixture
def store(url):
    with Store(url) as opened:
        yield opened


def made(store, name="anna", role="manager", sites=None, password="HASH"):
    secret = accounts.invite(store, name, role=role, sites=sites, now=NOW)
    return accounts.accept(store, secret, password=password, now=NOW)


def everything(store):
    """All that the tables of version 3 hold, as text."""
    with store.reading() as connection:
        tables = ("users", "api_keys", "sessions", "invitations", "tries", "audit")
        return str([connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables])


# Users


def test_a_link_makes_a_user_once(store):
    secret = accounts.invite(store, "anna", role="analyst", sites=["shop"], now=NOW)
    assert accounts.users(store) == []
    assert accounts.invited(store, secret, now=NOW) == "anna"
    assert accounts.accept(store, secret, password="HASH", now=after(hours=1)) == accounts.user(store, "anna")
    (anna,) = accounts.users(store)
    assert (anna.name, anna.role, anna.sites, anna.password) == ("anna", "analyst", frozenset({"shop"}), "HASH")
    assert anna.created == after(hours=1)
    assert accounts.invited(store, secret, now=NOW) is None
    with pytest.raises(AccessError, match="used already, or is too old"):
        accounts.accept(store, secret, password="OTHER", now=NOW)
    assert secret not in everything(store)


def test_a_link_is_too_old_after_a_day_and_a_newer_one_takes_its_place(store):
    first = accounts.invite(store, "anna", role="analyst", sites=None, now=NOW)
    second = accounts.invite(store, "anna", role="manager", sites=None, now=NOW)
    with pytest.raises(AccessError, match="used already, or is too old"):
        accounts.accept(store, first, password="HASH", now=NOW)
    with pytest.raises(AccessError, match="used already, or is too old"):
        accounts.accept(store, second, password="HASH", now=after(days=1))
    assert accounts.accept(store, second, password="HASH", now=after(hours=23)).role == "manager"


def test_a_new_password_ends_the_sessions_of_the_old_one(store):
    made(store)
    session = accounts.begin_session(store, "anna", now=NOW)
    secret = accounts.invite(store, "anna", role="manager", sites=None, now=NOW)
    assert accounts.session_user(store, session, now=NOW).password == "HASH"
    accounts.accept(store, secret, password="NEW", now=after(minutes=1))
    assert accounts.session_user(store, session, now=after(minutes=1)) is None
    assert accounts.user(store, "anna").created == NOW


def test_a_role_and_sites_change_at_once(store):
    made(store)
    session = accounts.begin_session(store, "anna", now=NOW)
    accounts.change_user(store, "anna", role="auditor", sites=["a", "b"])
    found = accounts.session_user(store, session, now=NOW)
    assert (found.role, found.sites) == ("auditor", frozenset({"a", "b"}))
    with pytest.raises(AccessError, match="'ben': there is none"):
        accounts.change_user(store, "ben", role="auditor", sites=None)


def test_who_is_removed_has_no_session_and_no_link_left(store):
    made(store)
    session = accounts.begin_session(store, "anna", now=NOW)
    secret = accounts.invite(store, "anna", role="manager", sites=None, now=NOW)
    accounts.remove_user(store, "anna")
    assert accounts.users(store) == []
    assert accounts.session_user(store, session, now=NOW) is None
    assert accounts.invited(store, secret, now=NOW) is None
    with pytest.raises(AccessError, match="'anna': there is none"):
        accounts.remove_user(store, "anna")


def test_the_last_administrator_of_all_sites_stays_one(store):
    made(store, role="administrator")
    made(store, "ben", role="administrator", sites=["shop"])
    with pytest.raises(AccessError, match="the last administrator"):
        accounts.remove_user(store, "anna")
    with pytest.raises(AccessError, match="the last administrator"):
        accounts.change_user(store, "anna", role="administrator", sites=["shop"])
    with pytest.raises(AccessError, match="the last administrator"):
        made(store, "anna", role="manager")
    accounts.change_user(store, "ben", role="administrator", sites=None)
    accounts.remove_user(store, "anna")
    assert [user.name for user in accounts.users(store)] == ["ben"]


@pytest.mark.parametrize("name", ["", " anna", "anna ", "a\nb", "x" * 65])
def test_names_that_cannot_be_are_refused(store, name):
    with pytest.raises(AccessError, match="1 to 64 printable characters"):
        accounts.invite(store, name, role="manager", sites=None, now=NOW)


def test_roles_that_are_none_are_refused(store):
    with pytest.raises(AccessError, match=r"expected one of administrator, manager, .*got 'king'"):
        accounts.invite(store, "anna", role="king", sites=None, now=NOW)


def test_users_are_changed_beside_the_process_that_owns_the_store(store, url):
    with Desk(url) as desk:
        made(desk)
        assert accounts.user(store, "anna").role == "manager"

        def write(to):
            for number in range(10):
                accounts.record(to, who="x", kind="user", action=str(number), now=NOW)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(write, [desk, store]))
    assert accounts.verify(store)[:2] == ([], 20)


# API keys


def test_a_key_is_shown_once_and_kept_as_a_hash(store):
    secret = accounts.add_key(store, "till", role="analyst", sites=["shop"], now=NOW)
    found = accounts.key_of(store, secret, now=NOW)
    assert (found.name, found.role, found.sites) == ("till", "analyst", frozenset({"shop"}))
    kept = everything(store)
    assert secret.split("_")[2] not in kept
    assert secret.split("_")[1] in kept  # what is no secret


def test_what_is_nearly_a_key_opens_nothing(store):
    secret = accounts.add_key(store, "till", role="analyst", sites=None, now=NOW)
    other = accounts.add_key(store, "door", role="analyst", sites=None, now=NOW)
    _, number, rest = secret.split("_")
    wrong = ["", "pb_", number, f"pb_{number}_", f"pb_{number}_{rest[:-1]}0{rest[-1]}", f"{secret} ", secret.upper()]
    for said in [*wrong, f"pb_{number}_{other.split('_')[2]}", f"pb_{number}_{'0' * 64}"]:
        assert accounts.key_of(store, said, now=NOW) is None


def test_a_key_ends_and_is_revoked(store):
    ending = accounts.add_key(store, "guest", role="auditor", sites=None, now=NOW, ends=after(days=1))
    lasting = accounts.add_key(store, "till", role="auditor", sites=None, now=NOW)
    assert accounts.key_of(store, ending, now=after(hours=23)) is not None
    assert accounts.key_of(store, ending, now=after(days=1)) is None
    accounts.revoke_key(store, "till")
    assert accounts.key_of(store, lasting, now=NOW) is None
    with pytest.raises(AccessError, match="'till': there is none"):
        accounts.revoke_key(store, "till")
    with pytest.raises(AccessError, match="an end after now"):
        accounts.add_key(store, "late", role="auditor", sites=None, now=NOW, ends=NOW)


def test_two_keys_do_not_share_a_name_and_each_tells_when_it_was_used(store):
    secret = accounts.add_key(store, "till", role="auditor", sites=None, now=NOW)
    with pytest.raises(AccessError, match="there is one of that name"):
        accounts.add_key(store, "till", role="auditor", sites=None, now=NOW)
    used = []
    for minutes in (1, 2, 6):
        accounts.key_of(store, secret, now=after(minutes=minutes))
        used.append(accounts.keys(store)[0].used)
    assert used == [after(minutes=1), after(minutes=1), after(minutes=6)]  # not written down at each use


# Sessions


def test_a_session_ends_after_eight_hours_unused_and_after_a_week_in_any_case(store):
    made(store)
    session = accounts.begin_session(store, "anna", now=NOW)
    assert accounts.session_user(store, session, now=after(hours=7, minutes=59)).name == "anna"
    assert accounts.session_user(store, session, now=after(hours=15, minutes=58)).name == "anna"
    assert accounts.session_user(store, session, now=after(hours=24)) is None
    session = accounts.begin_session(store, "anna", now=NOW)
    for hours in range(7, 7 * 24, 7):
        assert accounts.session_user(store, session, now=after(hours=hours)) is not None
    assert accounts.session_user(store, session, now=after(days=7)) is None
    assert session not in everything(store)


def test_a_login_clears_away_sessions_that_have_ended(store):
    made(store)
    for hours in (0, 1, 9):
        accounts.begin_session(store, "anna", now=after(hours=hours))
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM sessions")).scalar_one() == 1


def test_a_session_is_ended(store):
    made(store)
    session, other = (accounts.begin_session(store, "anna", now=NOW) for _ in range(2))
    accounts.end_session(store, session)
    assert accounts.session_user(store, session, now=NOW) is None
    assert accounts.session_user(store, other, now=NOW).name == "anna"


# Failed logins


def test_five_failures_keep_a_name_out_for_a_quarter_of_an_hour_from_every_address(store):
    for number in range(4):
        accounts.failed(store, "anna", f"10.0.0.{number}", now=after(minutes=number))
    assert accounts.kept_out(store, "anna", "10.0.0.9", now=after(minutes=4)) is None
    accounts.failed(store, "anna", "10.0.0.4", now=after(minutes=4))
    assert accounts.kept_out(store, "anna", "10.0.0.9", now=after(minutes=4)) == after(minutes=15)
    assert accounts.kept_out(store, "ben", "10.0.0.1", now=after(minutes=4)) is None
    assert accounts.kept_out(store, "anna", "10.0.0.9", now=after(minutes=15)) is None


def test_twenty_failures_keep_an_address_out_for_every_name(store):
    for number in range(20):
        accounts.failed(store, f"user{number}", "10.0.0.1", now=NOW)
    assert accounts.kept_out(store, "anna", "10.0.0.1", now=NOW) == after(minutes=15)
    assert accounts.kept_out(store, "anna", "10.0.0.2", now=NOW) is None


def test_a_login_forgets_the_failures_of_the_name_and_not_those_of_the_address(store):
    for number in range(19):
        accounts.failed(store, "anna" if number < 4 else f"user{number}", "10.0.0.1", now=NOW)
    accounts.succeeded(store, "anna")
    accounts.failed(store, "anna", "10.0.0.1", now=NOW)
    assert accounts.kept_out(store, "anna", "10.0.0.2", now=NOW) is None
    assert accounts.kept_out(store, "anna", "10.0.0.1", now=NOW) == after(minutes=15)


def test_failures_are_counted_anew_after_their_time_and_take_no_room_then(store):
    for minutes in (0, 1, 2, 3, 16, 17):
        accounts.failed(store, "anna", "10.0.0.1", now=after(minutes=minutes))
    assert accounts.kept_out(store, "anna", "10.0.0.1", now=after(minutes=17)) is None
    accounts.failed(store, "ben", "10.0.0.2", now=after(hours=1))
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM tries")).scalar_one() == 2


# The audit log


@pytest.fixture
def logged(store):
    """A log of six rows."""
    for number in range(1, 7):
        accounts.record(
            store,
            who="anna" if number % 2 else "ben",
            kind="user",
            action="export",
            site="shop" if number < 4 else None,
            detail={"rows": number},
            now=after(minutes=number),
        )
    return store


def test_the_log_says_who_did_what_when_the_newest_first(logged):
    (newest, *_, oldest) = accounts.log(logged)
    assert (newest.number, newest.who, newest.at, newest.detail) == (6, "ben", after(minutes=6), '{"rows": 6}')
    assert (oldest.number, oldest.who, oldest.action, oldest.site) == (1, "anna", "export", "shop")
    assert [row.number for row in accounts.log(logged, before=4, limit=2)] == [3, 2]
    assert [row.number for row in accounts.log(logged, sites=["other"])] == [6, 5, 4]
    assert newest.at.tzinfo is UTC


def test_a_whole_log_verifies(logged):
    (newest, *_) = accounts.log(logged)
    assert accounts.verify(logged) == ([], 6, newest.hash)
    assert accounts.hash_of(logged, 6) == newest.hash
    assert accounts.hash_of(logged, 7) is None


def test_an_empty_log_verifies(store):
    assert accounts.verify(store) == ([], 0, accounts.FIRST)


def test_a_time_of_another_zone_is_the_same_time(store):
    accounts.record(store, who="anna", kind="user", action="x", now=NOW.astimezone(timezone(timedelta(hours=5))))
    assert accounts.verify(store)[0] == []
    assert accounts.log(store)[0].at == NOW


def rehashed(store, number, **changed):
    """A row as somebody would write it who knows how hashes are made."""
    from dataclasses import replace

    entry = next(row for row in accounts.log(store) if row.number == number)
    entry = replace(entry, **changed)
    return replace(entry, hash=accounts.chained(entry))


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("UPDATE audit SET who = 'nobody' WHERE number = 3", ["row 3: changed after it was written"]),
        ("UPDATE audit SET at = at + 1 WHERE number = 1", ["row 1: changed after it was written"]),
        ("UPDATE audit SET kind = 'key' WHERE number = 6", ["row 6: changed after it was written"]),
        ("UPDATE audit SET action = 'login' WHERE number = 2", ["row 2: changed after it was written"]),
        ("UPDATE audit SET site = NULL WHERE number = 2", ["row 2: changed after it was written"]),
        ("UPDATE audit SET detail = '{}' WHERE number = 4", ["row 4: changed after it was written"]),
        ("DELETE FROM audit WHERE number = 4", ["row 4: missing"]),
        ("DELETE FROM audit WHERE number IN (1, 2)", ["rows 1 to 2: missing"]),
        ("DELETE FROM audit WHERE number IN (2, 5)", ["row 2: missing", "row 5: missing"]),
    ],
)
def test_tampering_is_found_at_the_very_row(logged, said, wrong):
    with logged.writing() as connection:
        connection.execute(text(said))
    assert accounts.verify(logged)[0] == wrong


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_row_that_was_changed_with_its_hash_is_found_too(logged, number):
    forged = rehashed(logged, number, who="nobody")
    with logged.writing() as connection:
        said = text("UPDATE audit SET who = :who, hash = :hash WHERE number = :number")
        connection.execute(said, {"who": forged.who, "hash": forged.hash, "number": number})
    assert accounts.verify(logged)[0] == [f"row {number}: changed, with its hash"]


def test_what_the_store_cannot_know_a_noted_hash_tells(logged):
    """The newest row rewritten with its hash: the chain is whole, but not what was noted."""
    noted = accounts.verify(logged)[2]
    forged = rehashed(logged, 6, who="nobody")
    with logged.writing() as connection:
        said = text("UPDATE audit SET who = :who, hash = :hash WHERE number = 6")
        connection.execute(said, {"who": forged.who, "hash": forged.hash})
    assert accounts.verify(logged)[0] == []
    assert accounts.hash_of(logged, 6) != noted


def test_several_threads_write_one_chain(store):
    def write(who):
        for number in range(10):
            accounts.record(store, who=who, kind="user", action=str(number), now=NOW)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, "abcd"))
    assert accounts.verify(store)[:2] == ([], 40)


def test_a_reader_may_look_and_not_write(logged, url):
    with StoreReader(url) as reader:
        assert len(accounts.log(reader)) == 6
        assert accounts.verify(reader)[0] == []
    with pytest.raises((StoreError, AttributeError)):
        accounts.record(reader, who="x", kind="user", action="y", now=NOW)
