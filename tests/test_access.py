"""The commands of access and privacy, and the documents that they write."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from passerby.__main__ import app
from passerby.service import accounts, auth
from passerby.service.documents import documents
from passerby.service.store import Store, StoreReader
from passerby.site import Camera, LineSite, Site, ZoneSite
from passerby.types import PasserbyError
from test_privacy import SHOP, person

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
SITE = """
name = "shop"
time_zone = "Europe/Paris"
retention_days = 14
[[cameras]]
name = "door"
source = "rtsp://admin:hunter2@10.0.0.5/live"
[[cameras]]
name = "aisle"
source = "aisle.mp4"
masks = [[[0.0, 0.0], [0.2, 0.0], [0.2, 0.2]]]
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with a site and its store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.toml").write_text(SITE)
    with Store("shop.sqlite") as opened:
        opened.put_site(SHOP)
        for number in (1, 2):
            opened.write(**person(number))
    return tmp_path


def run(*words):
    """What a command prints; its error is raised."""
    result = CliRunner().invoke(app, [*words], env={"COLUMNS": "200"}, catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_users_are_invited_changed_and_removed(shop):
    link = run("users", "invite", "anna", "--store", "shop.sqlite", "--role", "administrator").strip()
    assert re.fullmatch(r"/first\?link=[\w-]{43}", link)
    with Store("shop.sqlite") as store:  # as the service does
        accounts.accept(
            store, link.partition("=")[2], password=auth.hash_password("a long sentence"), now=datetime.now(UTC)
        )
        assert "administrator" in run("users", "list", "--store", "shop.sqlite")  # beside the service
        with pytest.raises(PasserbyError, match="the last administrator"):
            run("users", "remove", "anna", "--store", "shop.sqlite")
    with Store("shop.sqlite") as store:
        link = accounts.invite(store, "ben", role="administrator", sites=None, now=datetime.now(UTC))
        accounts.accept(store, link, password="HASH", now=datetime.now(UTC))
    said = run(
        "users", "change", "anna", "--store", "shop.sqlite", "--role", "privacy officer", "--at", "shop", "--at", "b"
    )
    assert said == "anna: privacy officer, sites: b, shop\n"
    run("users", "remove", "anna", "--store", "shop.sqlite")
    assert "anna" not in run("users", "list", "--store", "shop.sqlite")
    listed = run("audit", "list", "--store", "shop.sqlite")
    for action in ("user invited", "user changed", "user removed"):
        assert action in listed


def test_a_key_is_printed_once_and_opens_until_it_is_revoked(shop):
    secret = run(
        "keys", "add", "till", "--store", "shop.sqlite", "--role", "analyst", "--at", "shop", "--days", "30"
    ).strip()
    with Store("shop.sqlite") as store:
        found = accounts.key_of(store, secret, now=datetime.now(UTC))
        assert (found.role, found.sites) == ("analyst", frozenset({"shop"}))
        assert found.ends is not None
    listed = run("keys", "list", "--store", "shop.sqlite")
    assert f"pb_{found.id}" in listed
    assert secret not in listed
    assert secret.encode() not in (shop / "shop.sqlite").read_bytes()
    run("keys", "revoke", "till", "--store", "shop.sqlite")
    with Store("shop.sqlite") as store:
        assert accounts.key_of(store, secret, now=datetime.now(UTC)) is None


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(PasserbyError, match="there is no store"):
        run("users", "invite", "anna", "--store", str(tmp_path / "no.sqlite"), "--role", "auditor")
    assert list(tmp_path.iterdir()) == []


def test_a_visit_is_erased_with_its_backups(shop):
    run("backup", "shop.sqlite", "kept.sqlite")
    said = run("erase", "visit-00001", "--site", "site.toml", "--store", "shop.sqlite")
    assert said == "visit-00001: erased (1 visits, 2 sightings, 1 backups cleaned)\n"
    for name in ("shop.sqlite", "kept.sqlite"):
        with StoreReader(name) as reader:
            assert [visit.name for visit in reader.visits("shop")] == ["visit-00002"]
    with pytest.raises(PasserbyError, match="no visit 'visit-00003'"):
        run("erase", "visit-00003", "--site", "site.toml", "--store", "shop.sqlite")


def test_erasing_asks_the_running_service_to_stop_first(shop):
    with Store("shop.sqlite"), pytest.raises(PasserbyError, match="writes to it already; stop that one first"):
        run("erase", "visit-00001", "--site", "site.toml", "--store", "shop.sqlite")


def test_the_audit_log_is_verified_and_tampering_named(shop):
    for name in ("a", "b", "c"):
        run("keys", "add", name, "--store", "shop.sqlite", "--role", "auditor")
    whole = run("audit", "verify", "--store", "shop.sqlite")
    noted = re.fullmatch(r"shop.sqlite: 3 rows, whole. To be noted elsewhere: (3:[0-9a-f]{64})\n", whole)[1]
    assert run("audit", "verify", "--store", "shop.sqlite", "--noted", noted) == whole
    with pytest.raises(PasserbyError, match="row 2: not the one that was noted"):
        run("audit", "verify", "--store", "shop.sqlite", "--noted", "2:" + "0" * 64)
    with pytest.raises(PasserbyError, match="expected ROW:HASH, got 'x'"):
        run("audit", "verify", "--store", "shop.sqlite", "--noted", "x")
    with Store("shop.sqlite") as store, store.writing() as connection:
        connection.execute(text("UPDATE audit SET who = 'nobody' WHERE number = 2"))
    with pytest.raises(PasserbyError, match=r"the audit log was tampered with: row 2: changed after it was written$"):
        run("audit", "verify", "--store", "shop.sqlite")


# Documents


def test_the_documents_are_filled_in_from_the_site(shop):
    run(
        "privacy",
        "documents",
        "site.toml",
        "--out",
        "papers",
        "--controller",
        "Shop Ltd",
        "--contact",
        "dpo@shop.example",
    )
    papers = {path.name: path.read_text() for path in (shop / "papers").iterdir()}
    assert set(papers) == {"sign.html", "record.md", "assessment.md"}
    for name, paper in papers.items():
        for said in ("Shop Ltd", "dpo@shop.example", "14 days", "3 hours", "2 cameras: door, aisle"):
            assert said in paper, (name, said)
        for secret in ("hunter2", "rtsp", "10.0.0.5"):
            assert secret not in paper, name
    assert "fewer than 10 people" in papers["record.md"]
    assert "masks in aisle" in papers["record.md"]
    assert "k is 1" not in papers["assessment.md"]


def test_what_the_software_cannot_know_is_left_open():
    papers = documents(site_of(k=1))
    assert papers["assessment.md"].count("[to be filled in]") > 5
    assert "**k is 1: small groups are shown." in papers["assessment.md"]
    assert "1 zone (wine), 1 line (entry); no camera has a mask" in papers["record.md"]


def site_of(**more):
    corners = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9))
    return Site(
        "<shop & son>",
        (Camera("door", "door.mp4"),),
        zones=(ZoneSite("wine", corners, camera="door"),),
        lines=(LineSite("entry", (0.1, 0.5), (0.9, 0.5), camera="door"),),
        **more,
    )


def test_the_sign_is_one_page_that_loads_nothing_and_takes_no_name_for_html():
    sign = documents(site_of())["sign.html"]
    assert "&lt;shop &amp; son&gt;" in sign
    tags = []

    class Reading(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append((tag, dict(attrs)))

    Reading().feed(sign)
    assert not {"script", "img", "link", "iframe", "shop"} & {tag for tag, _ in tags}
    assert not any({"src", "href"} & set(attrs) for _, attrs in tags)


def test_the_documents_speak_of_guests_where_they_are_recognised():
    on, off = documents(site_of(guests=True)), documents(site_of())
    assert "Nobody is identified." in off["sign.html"]
    assert "Nobody is identified." not in on["sign.html"]
    for name in on:
        assert "uest" in on[name], name
        assert "uest" not in off[name], name
    assert "| Data of guests |" in on["record.md"]
    assert "| somebody else is taken for a guest |" in on["assessment.md"]
