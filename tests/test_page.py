"""The page in a real browser: each screen with data, empty and in error; live, by keyboard, and without JavaScript."""

import gzip
import re
import shutil
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, expect, sync_playwright

from passerby.service import kept
from passerby.service.accounts import accept, begin_session, invite
from passerby.service.app import create_app
from passerby.service.auth import COOKIE, authenticate, first_start, hash_password
from passerby.service.folder import import_folder
from passerby.service.live import CameraState, Live, Part
from passerby.service.rollups import refresh
from passerby.service.routes.login import login
from passerby.service.routes.pages import pages
from passerby.service.routes.texts import SCREENS
from passerby.service.store import Store
from passerby.shop import Crossing, Sighting, SightingKey, Stay, Visit
from passerby.site import Camera, Hours, LineSite, Queue, Site, ZoneSite, load_site
from passerby.vision.associate import Changes
from test_pipeline import SITE as SMALL
from test_pipeline import films, followed, reid  # noqa: F401  # fixtures

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; scripts/check installs it"),
]
NOW = datetime(2026, 3, 2, 12, 7, tzinfo=UTC)  # a Monday, 13:07 in Paris
DAY = timedelta(days=1)
SHOP = Site(
    "shop",
    (Camera("door", "rtsp://admin:hunter2@10.0.0.7/live"), Camera("aisle", "aisle.mp4")),
    time_zone="Europe/Paris",
    zones=(
        ZoneSite("wine", ((0.1, 0.1), (0.5, 0.1), (0.5, 0.9), (0.1, 0.9)), "aisle"),
        ZoneSite("till", ((0.6, 0.5), (0.9, 0.5), (0.9, 0.9)), "aisle"),
    ),
    lines=(LineSite("entry", (0.2, 0.5), (0.8, 0.5), "door"),),
    hours=Hours(
        **dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday"), ("09:00-19:00",))
    ),
    queues=(Queue("till"),),
    k=1,
)
JPEG = bytes.fromhex(  # one grey pixel
    "ffd8ffe000104a46494600010100000100010000ffdb004300080606070605080707070909080a0c140d0c0b0b0c1912130f141d1a1f1e1d1a1c1c20"
    "242e2720222c231c1c2837292c30313434341f27393d38323c2e333432ffc0000b080001000101011100ffc4001f0000010501010101010100000000"
    "000000000102030405060708090a0bffc400b5100002010303020403050504040000017d01020300041105122131410613516107227114328191a108"
    "2342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475"
    "767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2"
    "e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffda0008010100003f00fbd3ffd9"
)


def made(camera, track, start, *, seconds, stays=(), crossings=(), state="closed", revision=1, path=()):
    return Sighting(
        SightingKey("shop", camera, f"{start:%Y%m%d}", track),
        revision,
        state,
        start,
        start + timedelta(seconds=seconds),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        stays=tuple(Stay(z, start + timedelta(seconds=a), start + timedelta(seconds=b)) for z, a, b in stays),
        crossings=tuple(Crossing("entry", start + timedelta(seconds=s), way) for s, way in crossings),
        path=np.array(path, np.float32).reshape(-1, 3),
    )


def fill(store, day, visits):
    """People who come every ten minutes from 9:00 UTC on, look at wine for 30 s and more, and wait at the till for 20 s."""
    begin = day.replace(hour=9, minute=0)
    sightings, found = [], []
    for number in range(visits):
        start = begin + timedelta(minutes=10 * number)
        path = [(s, 0.2 + 0.002 * s, 0.5) for s in range(0, 60, 2)]
        one = made("door", 2 * number + 1, start, seconds=6, crossings=[(2, True)])
        two = made("aisle", number + 1, start + timedelta(seconds=10), seconds=100,
                   stays=[("wine", 5, 35 + number), ("till", 70, 90)], path=path)  # fmt: skip
        three = made("door", 2 * number + 2, start + timedelta(seconds=120), seconds=6, crossings=[(3, False)])
        sightings += [one, two, three]
        name = f"{day:%m%d}-{number}"
        found.append(Visit("shop", name, 1, (one.key, two.key, three.key), start, three.end, person=name, final=True))
    store.write(sightings=sightings, visits=found)


PASSWORD_HASH = hash_password("a long password")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.at = NOW

    def __call__(self):
        return self.at


class Shop:
    """A served shop: its address, its store, what it shows live."""

    def __init__(self, folder, site=SHOP):
        self.clock, self.site = Clock(), site
        self.store = Store(folder / "shop.sqlite")
        self.store.put_site(site)
        self.live = Live(site, clock=self.clock)
        self.link = first_start(self.store, now=NOW)[0]
        self.administrator = None
        door = pages(site=site, store=self.store, live=self.live, clock=self.clock)
        door.include_router(login(store=self.store, clock=self.clock))
        app = create_app(
            site=site,
            store=self.store,
            live=self.live,
            authenticate=lambda request: authenticate(self.store, request, clock=self.clock),
            clock=self.clock,
            pages=door,
            rate=1000.0,
            burst=1000.0,
        )
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        (port,) = {s.getsockname()[1] for each in self.server.servers for s in each.sockets}
        self.address = f"http://127.0.0.1:{port}"

    def user(self, name, role):
        link = invite(self.store, name, role=role, sites=None, now=NOW)
        accept(self.store, link, password=PASSWORD_HASH, now=NOW)

    def show(self):
        """Both cameras live, one with a picture."""
        for part in ("vision", "associator", "store", "web"):
            self.live.part(Part(part, "live", "", NOW))
        self.live.show("door", JPEG, NOW)
        self.live.cameras(
            [
                CameraState("door", "live", "", NOW, NOW, 5.0, 0.2, 100, 0, 0, 0),
                CameraState("aisle", "stalled", "no frame for 40 s, reconnecting", NOW, NOW, 0.0, None, 100, 0, 0, 1),
            ]
        )

    def enters(self, number, at):
        """Somebody comes in now, and the store has acknowledged it."""
        sighting = made("door", 1000 + number, at, seconds=1, crossings=[(0, True)], state="open")
        self.live.tell([sighting], Changes())

    def close(self):
        self.live.close()
        self.server.should_exit = True
        self.thread.join(10)
        self.store.close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"Chromium does not start: {error}")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A Monday with 15 visits until now, beside 24 on the Monday before, and a camera that was off for half an hour."""
    found = Shop(tmp_path_factory.mktemp("shop"))
    fill(found.store, NOW - 7 * DAY, 24)
    fill(found.store, NOW, 15)
    nine, ten = (NOW.replace(hour=hour, minute=0) for hour in (9, 10))
    half, quarter = timedelta(minutes=30), timedelta(minutes=15)
    kept.put_gaps(found.store, "shop", [kept.Gap("door", ten, ten + half, "down", "no frame")])
    kept.put_audits(found.store, "shop", [kept.Audit("entry", nine, nine + quarter, 3, 1, by="Ina")])
    found.live.begin(found.store.crossings("shop", since=NOW.replace(hour=0)), ())
    found.show()
    for role in ("manager", "auditor"):
        found.user(role, role)
    found.user("admin 2", "administrator")
    yield found
    found.close()


@pytest.fixture
def enter(browser, request):
    """A page of somebody who has logged in; whatever the browser complains of fails the test."""
    complaints = []
    contexts = []

    def entered(shop, name="admin 2", **options):
        context = browser.new_context(locale="en-GB", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        session = begin_session(shop.store, name, now=shop.clock())
        context.add_cookies([{"name": COOKIE, "value": session, "url": shop.address}])
        return page

    entered.complaints = complaints
    yield entered
    for context in contexts:
        context.close()
    # what is missing or refused on purpose is no complaint of the page's own
    known = ("the server responded with a status", "htmx:sse:error", "ERR_")
    assert [each for each in complaints if not any(words in each for words in known)] == []


def address_of(name):
    return "/" if name == "now" else f"/{name}"


def test_the_first_start_s_link_makes_the_administrator_who_then_sees_now(browser, tmp_path):
    shop = Shop(tmp_path)
    try:
        page = browser.new_page()
        page.goto(shop.address + "/")
        assert page.url.startswith(shop.address + "/login")
        page.goto(shop.address + shop.link)
        page.get_by_label("Password").fill("correct horse battery")
        page.get_by_label("The same again").fill("correct horse battery")
        page.get_by_role("button").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Now")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
        page.get_by_label("Name").fill("administrator")
        page.get_by_label("Password").fill("correct horse batterie")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("Password").fill("correct horse battery")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Now")
        page.goto(shop.address + shop.link)
        expect(page.get_by_role("heading", level=1)).to_have_text("This link no longer works")
        page.context.close()
    finally:
        shop.close()


@pytest.mark.parametrize("name", SCREENS)
def test_each_screen_shows_its_data(shop, enter, name):
    page = enter(shop)
    page.goto(shop.address + address_of(name))
    expect(page.get_by_role("heading", level=1)).to_contain_text(SCREENS[name])
    expect(page.locator("nav [aria-current=page]")).to_have_text(SCREENS[name])
    expected = {
        "now": ["15", "door", "no frame for 40 s", "last Monday up to 13:07: 19"],
        "footfall": ["Entries", "before 19", "so far", "door: 50.0 % unseen", "Why persons do not add up"],
        "zones": ["wine", "0:37", "till", "0:20"],
        "journeys": ["wine › till", "15"],
        "queues": ["Queue: till", "Waiting, median"],
        "compare": ["Entries", "no comparable data", "Mon"],
        "quality": ["door", "no frame", "3 / 2", "Ina", "somebody counted before it was moved"],
        "privacy": ["30 days after the visit", "hides no small group (k = 1)", "Nobody is identified."],
        "setup": ["rtsp://10.0.0.7/live", "entry", "door"],
    }[name]
    for words in expected:
        expect(page.locator("main")).to_contain_text(words)
    assert "hunter2" not in page.content()
    assert page.locator(".plot canvas").count() == page.locator("[data-chart]").count()


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    found = Shop(tmp_path_factory.mktemp("empty"))
    found.user("admin 2", "administrator")
    yield found
    found.close()


@pytest.mark.parametrize(
    "name", ["now", "footfall", "zones", "journeys", "queues", "compare", "quality", "privacy", "setup"]
)
def test_each_screen_says_what_to_do_where_nothing_is_known(empty, enter, name):
    page = enter(empty)
    page.goto(empty.address + address_of(name))
    words = {"now": "No camera has reported yet", "setup": "No picture yet"}.get(
        name, "Nothing is known of this site yet"
    )
    expect(page.locator("main")).to_contain_text(words)


def test_a_day_without_anybody_says_what_is_known_and_leads_there(shop, enter):
    page = enter(shop)
    page.goto(shop.address + "/footfall?from=2025-01-01&to=2025-01-01")
    expect(page.locator(".empty")).to_contain_text(
        "Nothing was seen in this period. The store knows of Mon 23 Feb 2026 10:00"
    )
    page.get_by_role("link", name="Show the newest day").click()
    expect(page.locator("h1")).to_contain_text("Mon 2 Mar 2026")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("/footfall?from=yesterday", "from: expected a day such as 2026-03-02, got 'yesterday'"),
        ("/footfall?from=2026-03-02&to=2026-03-01", "The first day, 2026-03-02, comes after the last one, 2026-03-01"),
        ("/zones?zone=cellar", "There is no zone 'cellar'; there are wine, till"),
        ("/setup?camera=roof", "There is no camera 'roof'"),
    ],
)
def test_what_cannot_be_is_said_in_words(shop, enter, asked, said):
    page = enter(shop)
    answer = page.goto(shop.address + asked)
    assert answer.status == 400
    expect(page.locator("main")).to_contain_text(said)
    page.get_by_role("link", name="Back to").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Now")


def test_a_store_that_does_not_answer_is_an_error_page(shop, enter, monkeypatch):
    from passerby.types import StoreError

    page = enter(shop)

    def broken(*args, **more):
        raise StoreError("shop.sqlite: disk image is malformed; the file is damaged")

    monkeypatch.setattr(shop.store, "rows_with_earlier", broken)
    answer = page.goto(shop.address + "/journeys")
    assert answer.status == 503
    expect(page.locator("main")).to_contain_text("The store does not answer")


def test_a_role_without_the_permission_is_told_so_and_does_not_see_the_way_there(shop, enter):
    page = enter(shop, "auditor")
    expect(page.get_by_role("navigation").get_by_role("link", name="Set-up")).to_have_count(0)
    answer = page.goto(shop.address + "/setup")
    assert answer.status == 403
    expect(page.locator("main")).to_contain_text("Your role may not see this")
    assert page.goto(shop.address + "/journeys").status == 403
    assert page.goto(shop.address + "/footfall").status == 200
    expect(page.get_by_role("link", name="CSV")).to_have_count(0)


def test_a_live_count_moves_when_somebody_comes_in(tmp_path, enter):
    shop = Shop(tmp_path)
    try:
        shop.user("admin 2", "administrator")
        shop.show()
        page = enter(shop)
        page.goto(shop.address + "/")
        expect(page.locator("#entries")).to_have_text("0")
        took = []
        for number in range(1, 21):
            # measured in the page: from the call that tells of an entry to the changed text
            page.evaluate(
                """wanted => { window.seen = new Promise((done, fail) => {
                const shown = () => document.getElementById('entries').textContent;
                const look = () => shown() === wanted ? done(performance.timeOrigin + performance.now()) : setTimeout(look, 5);
                setTimeout(() => fail(new Error(`${shown()} is shown, not ${wanted}`)), 30000); look(); }) }""",
                str(number),
            )
            before = time.time()
            shop.enters(number, NOW + timedelta(seconds=number))
            took.append(page.evaluate("window.seen") / 1000 - before)
        expect(page.locator("#inside")).to_have_text("20")
        print(f"event to page, s: median {np.median(took):.2f}, 95 % {np.quantile(took, 0.95):.2f}")
        shop.live.cameras([CameraState("door", "failed", "no route to host", NOW, NOW, 0.0, None, 0, 0, 0, 9)])
        expect(page.locator(".wall")).to_contain_text("no route to host")
        shop.live.close()
        shop.server.should_exit = True
        shop.thread.join(10)
        expect(page.locator("#lost")).to_contain_text(
            "The connection to the service is lost. What you see is from 13:07"
        )
    finally:
        shop.close()


def test_a_slow_script_or_a_first_connection_that_fails_does_not_leave_the_page_still(tmp_path, enter):
    shop = Shop(tmp_path)
    try:
        shop.user("admin 2", "administrator")
        page = enter(shop)
        tries = []

        def late(route):
            time.sleep(1)
            route.continue_()

        def refused_at_first(route):
            tries.append(route)
            route.fulfill(status=503, body="not yet") if len(tries) == 1 else route.continue_()

        page.route("**/hx-sse.min.js*", late)
        page.goto(shop.address + "/")
        shop.enters(1, NOW)
        expect(page.locator("#entries")).to_have_text("1")
        page.route("**/now/stream", refused_at_first)
        page.reload()
        expect(page.locator("#lost")).to_contain_text("The connection to the service is lost")
        shop.enters(2, NOW + timedelta(seconds=1))
        expect(page.locator("#entries")).to_have_text("2")
        expect(page.locator("#lost")).to_be_hidden()
    finally:
        shop.close()


def test_of_a_chart_that_was_replaced_nothing_stays_in_the_browser(shop, enter):
    page = enter(shop)
    page.goto(shop.address + "/")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def kept():
        canvas = session.send("Runtime.evaluate", {"expression": "HTMLCanvasElement.prototype"})["result"]["objectId"]
        found = session.send("Runtime.queryObjects", {"prototypeObjectId": canvas})["objects"]["objectId"]
        said = {"objectId": found, "functionDeclaration": "function () { return this.length }", "returnByValue": True}
        many = session.send("Runtime.callFunctionOn", said)["result"]["value"]
        session.send("Runtime.releaseObject", {"objectId": found})  # else it keeps them
        return many

    for _ in range(20):
        page.evaluate("htmx.ajax('GET', '/now/chart', { target: '#today', swap: 'innerHTML' })")
    expect(page.locator("#today canvas")).to_have_count(1)
    for _ in range(40):  # of a busy machine, where the browser lets go of what was replaced in its own time
        if kept() <= 4:
            break
        page.wait_for_timeout(250)
    assert kept() <= 4  # the one that is shown, and the last ones before it, as the collector pleases


def test_a_cameras_newest_picture_is_drawn_and_without_javascript_it_is_an_image(tmp_path, enter):
    shop = Shop(tmp_path)
    try:
        shop.user("admin 2", "administrator")
        shop.show()
        page = enter(shop)
        page.goto(shop.address + "/")
        script = "document.querySelector('.wall canvas').getContext('2d').getImageData(320, 180, 1, 1).data.join()"

        def middle(so):
            """The colour in the middle of the first camera's picture, once it is so."""
            while not so(found := page.evaluate(script)):
                page.wait_for_timeout(50)
            return found

        assert middle(lambda found: found != "0,0,0,0") != "255,255,255,255"
        white = cv2.imencode(".jpg", np.full((90, 160, 3), 255, np.uint8))[1].tobytes()
        shop.live.show("door", white, NOW + timedelta(seconds=1))
        shop.enters(1, NOW)  # something that the stream tells
        middle(lambda found: found == "255,255,255,255")
        page = enter(shop, java_script_enabled=False)
        page.goto(shop.address + "/")
        expect(page.get_by_alt_text("door, heads blurred")).to_be_visible()
    finally:
        shop.close()


def test_the_address_holds_the_whole_state_and_back_works(shop, enter):
    page = enter(shop)
    page.goto(shop.address + "/footfall")
    page.get_by_label("From").fill("2026-02-23")
    page.get_by_label("By").select_option("day")
    page.get_by_role("button", name="Show").click()
    assert "from=2026-02-23" in page.url
    assert "by=day" in page.url
    expect(page.locator("h1")).to_contain_text("Mon 23 Feb to Mon 2 Mar 2026")
    page.get_by_role("link", name="Mon 23 Feb", exact=True).click()
    expect(page.locator("h1")).to_contain_text("Mon 23 Feb 2026")
    assert "by=hour" in page.url
    page.go_back()
    expect(page.locator("h1")).to_contain_text("Mon 23 Feb to Mon 2 Mar 2026")
    page.goto(shop.address + "/zones")
    page.get_by_role("link", name="till", exact=True).click()
    expect(page.get_by_role("heading", name="How long stays in till took")).to_be_visible()
    assert "zone=till" in page.url


def test_a_table_downloads_as_csv(shop, enter):
    page = enter(shop)
    page.goto(shop.address + "/footfall?from=2026-02-23&to=2026-02-23&by=day")
    with page.expect_download() as started:
        page.get_by_role("link", name="CSV").click()
    text = started.value.path().read_text()
    header, row = text.splitlines()[:2]
    columns = dict(zip(header.split(","), row.split(","), strict=False))
    assert columns["entries"] == "24"
    assert columns["from"] == "2026-02-23T00:00:00+01:00"


def test_who_counted_at_a_door_enters_it_beside_what_was_counted(shop, enter):
    page = enter(shop, "manager")
    page.goto(shop.address + "/quality?from=2026-03-02")
    page.get_by_label("A quarter of an hour from").fill("2026-03-02T12:00")  # 11:00 UTC
    page.get_by_label("Entries").fill("4")
    page.get_by_label("Exits").fill("2")
    page.get_by_label("Counted by").fill("Otto")
    page.get_by_role("button", name="Keep").click()
    row = page.get_by_role("row").filter(has_text="Otto")
    expect(row).to_contain_text("Mon 2 Mar 2026 12:00")
    expect(row).to_contain_text("4 / 2")
    page = enter(shop, "auditor")
    page.goto(shop.address + "/quality?from=2026-03-02")
    expect(page.get_by_role("button", name="Keep")).to_have_count(0)
    form = {"line": "entry", "at": "2026-03-02T12:00", "entries": "4", "exits": "2"}
    assert page.request.post(shop.address + "/quality/audits", form=form).status in (401, 403)


@pytest.fixture(scope="module")
def shy(tmp_path_factory):
    """A shop where k is 10, with 35 visits on the Monday before and 15 until now."""
    found = Shop(tmp_path_factory.mktemp("shy"), replace(SHOP, k=10, guests=True))
    fill(found.store, NOW - 7 * DAY, 35)
    fill(found.store, NOW, 15)
    refresh(found.store, found.site, now=NOW)
    found.user("admin 2", "administrator")
    yield found
    found.close()


def test_bars_of_few_stays_are_withheld(shy, enter):
    page = enter(shy)
    page.goto(shy.address + "/zones?zone=wine&from=2026-02-23&to=2026-02-23")  # stays of 30 to 64 s, five over a minute
    assert page.locator(".histogram .count").all_text_contents() == ["·", "·"]
    expect(page.locator("main")).to_contain_text("A dot is a number that is withheld: fewer than 10 stays")


def test_where_k_is_above_1_detail_is_of_days_that_are_over(shy, enter):
    page = enter(shy)
    for path in ("/zones", "/journeys"):
        page.goto(shy.address + path)
        expect(page.locator("main")).to_contain_text("Detail is told of whole days, some hours after their end")
        assert page.locator("main table, .sankey, .heat").count() == 0
        page.goto(shy.address + path + "?from=2026-02-23&to=2026-03-02")
        expect(page.locator("main")).to_contain_text("Of 7 of 8 days")
        expect(page.locator("main table").first).to_contain_text("35")
    assert "wine › till" in page.content()
    page.goto(shy.address + "/privacy")
    expect(page.locator("main")).to_contain_text("10 visits or more")
    expect(page.locator("main")).to_contain_text("Nobody is identified but guests")
    expect(page.locator("table")).to_contain_text("until the consent ends or is withdrawn")
    page.goto(shy.address + "/zones?from=2026-02-23&to=2026-02-23&view=aisle")
    assert page.locator(".heat rect[class^=h]").count() > 0


def test_a_quarter_of_an_hour_is_played_back_and_each_track_says_why_it_was_counted(shop, enter):
    page = enter(shop)
    page.goto(shop.address + "/quality?from=2026-03-02")
    page.get_by_role("row").filter(has_text="Ina").get_by_role("link", name="Replay").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("door, Mon 2 Mar 2026 10:00 to 10:15")
    counts = page.get_by_role("region", name="Counted in this quarter of an hour")
    expect(counts.get_by_role("row", name="entry 2 2")).to_be_visible()
    expect(counts.get_by_role("row", name="entry, counted by Ina 3 1")).to_be_visible()
    page.get_by_role("button", name="10:02:00").click()  # the first one leaves three seconds later
    expect(page.locator("[data-counts]")).to_have_text("entry: 1 in, 1 out")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("row").filter(has_text="10:00:00").get_by_role("link", name="Why?").click()
    expect(page.get_by_role("heading", name="Counted: door/20260302/1")).to_be_visible()
    expect(page.locator(".sentences")).to_contain_text("It crossed 'entry' inwards at 2026-03-02 10:00:02 +0100")
    page.goto(shop.address + "/replay?camera=aisle&at=2026-03-02T10:00")
    page.locator("[data-at]").fill("15")
    expect(page.locator(".head")).to_have_count(1)  # between two points of its path
    assert page.locator(".head").get_attribute("cx") == "336"  # 1600 * (0.2 + 0.002 * 5 s)
    page.goto(shop.address + "/replay?camera=aisle&at=2026-03-02T03:00")
    expect(page.locator(".empty")).to_contain_text("This camera saw nobody")
    assert enter(shop, "auditor").goto(shop.address + "/replay").status == 403


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("at=noon", "at: expected a time such as 2026-03-02T10:00, got 'noon'"),
        ("camera=roof", "There is no camera 'roof'"),
        ("track=door", "track: expected camera/session/number, got 'door'"),
        ("track=door/x/99", "Nothing is known of door/x/99"),
    ],
)
def test_a_replay_of_what_cannot_be_is_said_in_words(shop, enter, asked, said):
    page = enter(shop)
    page.goto(f"{shop.address}/replay?{'at=2026-03-02T10:00&' if 'at=' not in asked else ''}{asked}")
    expect(page.locator("main")).to_contain_text(said)


def test_an_alert_is_tried_on_a_day_that_is_known(shop, enter):
    page = enter(shop)
    page.goto(shop.address + "/setup?camera=aisle")
    page.get_by_label("Zone").select_option("wine")
    page.get_by_label("Above").fill("0")
    page.get_by_label("For seconds").fill("40")
    page.get_by_role("button", name="Try").click()
    # stays of 30 to 44 s: four were longer than 40 s
    expect(page.locator("#try")).to_contain_text("On Mon 2 Mar 2026 it would have been raised 4 times.")
    expect(page.locator("#try")).to_contain_text("for_s = 40")
    assert "above=0" in page.url
    page.get_by_label("Above").fill("9")
    page.get_by_role("button", name="Try").click()
    expect(page.locator("#try")).to_contain_text("it would not have been raised")


def test_detail_of_few_visits_is_hidden(tmp_path, enter):
    shop = Shop(tmp_path, replace(SHOP, k=10))
    try:
        fill(shop.store, NOW, 9)
        fill(shop.store, NOW - DAY, 9)
        refresh(shop.store, shop.site, now=NOW)
        shop.user("admin 2", "administrator")
        page = enter(shop)
        for path in ("/zones", "/journeys"):
            for days in ("", "?from=2026-03-01&to=2026-03-01", "?from=2026-03-01&to=2026-03-02"):
                page.goto(shop.address + path + days)
                expect(page.locator("main")).to_contain_text("in groups of 10 visits or more")
                assert page.locator("main table, .sankey, .heat").count() == 0
                assert "wine › till" not in page.content()
        page.goto(shop.address + "/replay?camera=aisle&at=2026-03-02T10:00")
        expect(page.locator("main")).to_contain_text("the ways of single people are not shown")
        assert page.locator(".trail").count() == 0
        page.goto(shop.address + "/footfall")
        expect(page.locator(".tiles")).to_contain_text("9")  # counts at a line are shown
    finally:
        shop.close()


def test_a_zone_and_a_line_are_drawn_with_the_mouse_undone_and_read_by_the_site(shop, enter):
    import tomllib

    page = enter(shop, viewport={"width": 1280, "height": 1300})
    page.goto(shop.address + "/setup?camera=aisle")
    expect(page.locator("#known text")).to_have_text(["wine", "till"])  # those that are there stay visible
    board = page.locator("#board").bounding_box()

    def click(x, y):
        page.mouse.click(board["x"] + x * board["width"], board["y"] + y * board["height"])

    page.get_by_role("button", name="Zone", exact=True).click()
    for corner in ((0.1, 0.2), (0.3, 0.2), (0.3, 0.6), (0.15, 0.9)):
        click(*corner)
    page.keyboard.press("Backspace")
    click(0.1, 0.6)
    page.keyboard.press("Enter")
    page.get_by_label("Name").fill("cheese")
    page.get_by_label("Name").press("Tab")
    page.get_by_label("cheese, 1: x").fill("0.12")
    page.get_by_label("cheese, 1: x").press("Tab")
    board = page.locator("#board").bounding_box()  # the list beside it takes room
    page.get_by_role("button", name="Line", exact=True).click()
    click(0.5, 0.5)
    click(0.9, 0.5)
    drawn = tomllib.loads(page.get_by_label("For the site").input_value())
    (zone,), (line,) = drawn["zones"], drawn["lines"]
    assert (zone["name"], zone["camera"]) == ("cheese", "aisle")
    assert np.abs(np.array(zone["corners"]) - [(0.12, 0.2), (0.3, 0.2), (0.3, 0.6), (0.1, 0.6)]).max() < 0.005
    assert np.abs(np.array([line["start"], line["end"]]) - [(0.5, 0.5), (0.9, 0.5)]).max() < 0.005
    ZoneSite(**zone | {"corners": tuple(map(tuple, zone["corners"]))})
    LineSite(**line | {"start": tuple(line["start"]), "end": tuple(line["end"])})
    for _ in range(3):
        page.get_by_role("button", name="Undo").click()
    assert "lines" not in tomllib.loads(page.get_by_label("For the site").input_value())


def test_a_zone_and_a_line_that_are_drawn_with_the_mouse_count_whoever_is_in_them(films, reid, tmp_path, enter):  # noqa: F811
    """Drawn in the browser, pasted into the site's file, followed on a film, and read on the page."""
    bare = "k = 1\n" + SMALL[: SMALL.index("[[zones]]")]
    file = films / "drawn.toml"
    file.write_text(bare)

    def served(name, site):
        (tmp_path / name).mkdir()
        opened = Shop(tmp_path / name, site)
        opened.user("admin 2", "administrator")
        return opened

    shop = served("before", load_site(file))
    try:
        page = enter(shop, viewport={"width": 1280, "height": 1300})
        for camera, kind, corners in (
            ("aisle", "Zone", ((0.3, 0.5), (0.7, 0.5), (0.7, 0.98), (0.3, 0.98))),
            ("door", "Line", ((0.5, 0.98), (0.5, 0.02))),
        ):
            page.goto(f"{shop.address}/setup?camera={camera}")
            board = page.locator("#board").bounding_box()
            page.get_by_role("button", name=kind, exact=True).click()
            for x, y in corners:
                page.mouse.click(board["x"] + x * board["width"], board["y"] + y * board["height"])
            page.keyboard.press("Enter")
            file.write_text(file.read_text() + "\n" + page.get_by_label("For the site").input_value() + "\n")
    finally:
        shop.close()
    site = load_site(file)
    followed(films, tmp_path / "visits", reid, site=site)
    shop = served("after", site)
    try:
        import_folder(tmp_path / "visits", shop.store, site)
        page = enter(shop)
        page.goto(shop.address + "/zones")
        row = page.get_by_role("row").filter(has_text="zone 1")
        expect(row.get_by_role("cell").first).to_have_text("1")  # one was in it for 6 s, the other for 3 s, too short
        expect(row).to_contain_text("0:06")
        page.goto(shop.address + "/footfall")
        tiles = page.locator(".tile")
        expect(tiles.filter(has_text="Entries").first).to_contain_text("2")
        expect(tiles.filter(has_text="Exits").first).to_contain_text("1")
    finally:
        shop.close()


def test_a_zone_can_be_drawn_by_keyboard_alone(shop, enter):
    page = enter(shop)
    page.goto(shop.address + "/setup?camera=aisle")
    page.get_by_role("button", name="Zone", exact=True).focus()
    page.keyboard.press("Enter")
    for keys in ([], ["Shift+ArrowRight"] * 3, ["Shift+ArrowDown"] * 3):
        for key in keys:
            page.keyboard.press(key)
        page.keyboard.press("Space")
    page.keyboard.press("Enter")
    corners = re.escape("corners = [[0.500, 0.500], [0.650, 0.500], [0.650, 0.650]]")
    expect(page.get_by_label("For the site")).to_have_value(re.compile(corners))


def test_everything_is_reached_by_keyboard(shop, enter):
    page = enter(shop)
    page.goto(shop.address + "/footfall")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("(document.activeElement.textContent || document.activeElement.name || '').trim()")
        )
        if page.evaluate("document.activeElement.matches('summary')"):
            break
        seen = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert seen != "none", f"focus on {reached[-1]!r} is not seen"
    for words in ("Skip to the content", "Journeys", "Show", "CSV", "Why persons do not add up"):
        assert words in reached
    page.goto(shop.address + "/footfall")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [*SCREENS, "replay"])
def test_axe_finds_nothing_serious(shop, enter, name, scheme):
    page = enter(shop, color_scheme=scheme, bypass_csp=True)  # axe brings its own script
    page.goto(shop.address + address_of(name))
    page.wait_for_timeout(200)
    found = Axe().run(page).response["violations"]
    serious = [
        (each["id"], each["nodes"][0]["html"][:200], each["nodes"][0]["failureSummary"])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("name", SCREENS)
def test_tables_and_figures_are_there_with_javascript_blocked(shop, enter, name):
    page = enter(shop, java_script_enabled=False)
    page.goto(shop.address + address_of(name))
    words = {"now": "15", "footfall": "before 19", "zones": "0:37", "journeys": "wine › till", "queues": "0:20"}
    expect(page.locator("main")).to_contain_text(words.get(name, SCREENS[name]))


def test_without_javascript_the_day_s_chart_leads_to_its_table(shop, enter):
    page = enter(shop, java_script_enabled=False)
    page.goto(shop.address + "/")
    page.get_by_role("link", name="Today by the hour, as a table").click()
    expect(page.get_by_role("row", name="13:00")).to_be_visible()


@pytest.mark.parametrize("width", [360, 390, 768])
@pytest.mark.parametrize("name", [*SCREENS, "replay"])
def test_nothing_is_wider_than_a_phone(shop, enter, name, width):
    page = enter(shop, viewport={"width": width, "height": 800})
    page.goto(shop.address + address_of(name))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("name", "most_kb"), [("now", 150), ("footfall", 150), ("journeys", 500)])
def test_a_page_is_light(shop, enter, name, most_kb):
    page = enter(shop)
    weights = {}
    page.on("response", lambda answer: weights.setdefault(answer.url, answer))
    page.goto(shop.address + address_of(name))
    page.wait_for_timeout(300)
    sizes = {
        url: len(gzip.compress(answer.body()))
        for url, answer in weights.items()
        if "/stream" not in url and answer.status == 200
    }
    assert sum(sizes.values()) < most_kb * 1000, sizes
    assert ("echarts" in " ".join(sizes)) == (name == "journeys")  # loaded only where it is shown
    assert all(url.startswith(shop.address) for url in weights)  # nothing from elsewhere


def test_no_page_holds_a_script_or_a_style_of_its_own(shop, enter):
    page = enter(shop)
    for name in SCREENS:
        answer = page.goto(shop.address + address_of(name))
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        text = answer.text()
        assert re.findall(r"<script(?![^>]* src=)", text) == []
        assert re.findall(r"<style|\sstyle=|\son\w+=", text) == []
