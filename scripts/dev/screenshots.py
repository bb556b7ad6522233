"""Take a picture of each screen into docs/screens, light, dark and as a phone shows it.

python scripts/dev/screenshots.py [SCREEN ...]. The shop is the sample shop on the last Saturday of its three simulated weeks at
15:40; its cameras show its clips, heads blurred.
"""

import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import uvicorn
from fastapi import FastAPI
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from passerby.service.app import create_app
from passerby.service.auth import Principal
from passerby.service.folder import import_folder
from passerby.service.live import CameraState, Live, Part
from passerby.service.rollups import refresh
from passerby.service.routes.login import login
from passerby.service.routes.pages import pages
from passerby.service.routes.texts import SCREENS
from passerby.service.store import Store
from passerby.site import Hours, Site, load_site
from passerby.vision.associate import Changes
from passerby.vision.blur import blur_heads
from passerby.vision.parquet import read_sightings, write_links, write_visits

ROOT = Path(__file__).parents[2]
DATA = ROOT / "src" / "passerby" / "simulate" / "data"
STYLE = ROOT / "src" / "passerby" / "service" / "static" / "page.css"
NOW = datetime(2026, 2, 28, 15, 40, tzinfo=UTC)
WHO = Principal("Anna", "administrator", None, "user")
ASKED = {
    "footfall": "?from=2026-02-28&to=2026-02-28&by=hour",
    "footfall-week": "?from=2026-02-16&to=2026-02-27",
    "zones": "?from=2026-02-23&to=2026-02-27",
    "journeys": "?from=2026-02-23&to=2026-02-27",
    "queues": "?from=2026-02-27&to=2026-02-27",
    "compare": "?from=2026-02-23&to=2026-02-27",
    "quality": "?from=2026-02-16&to=2026-02-27",
    "setup": "?camera=aisle%202",
    "replay": "?camera=entrance&at=2026-02-27T12:00",
}
MODES = {
    "light": {"viewport": {"width": 1280, "height": 800}},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}
EXACT = 96  # colours of a picture that are kept exactly
PICTURES_AT_S = {"entrance": 22.0, "aisle 1": 40.0, "aisle 2": 50.0, "checkout": 75.0}


def site() -> Site:
    """The sample shop with the hours of its simulated weeks."""
    found = load_site(DATA / "sample" / "site.toml")
    days = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
    open_ = replace(found, hours=Hours(**dict.fromkeys(days, ("09:00-20:00",))))
    object.__setattr__(open_, "folder", found.folder)
    return open_


def fill(store: Store, shop: Site, work: Path) -> None:
    """The simulated weeks up to now, taken into a store; of days that are over the figures are kept by the hour."""
    table = pq.read_table(DATA / "weeks" / "sightings.parquet")
    pq.write_table(table.filter(pc.less(table["end"], NOW)), work / "sightings.parquet")
    kept = {f"{r['camera']}/{r['session']}/{r['track']}" for r in pq.read_table(work / "sightings.parquet").to_pylist()}
    visits, links = (pq.read_table(DATA / "weeks" / f"{name}.parquet") for name in ("visits", "links"))
    here = [row for row in visits.to_pylist() if set(row["sightings"]) <= kept]
    write_visits(work / "visits.parquet", here)
    write_links(work / "links.parquet", [row for row in links.to_pylist() if {row["earlier"], row["later"]} <= kept])
    shutil.copy(DATA / "weeks" / "gaps.json", work)
    import_folder(work, store, shop)
    refresh(store, shop, now=NOW)


def picture(shop: Site, camera: str, later_s: float = 0.0) -> bytes:
    """A frame of the camera's clip, heads blurred where the film's truth has people."""
    film = cv2.VideoCapture(shop.source(shop.camera(camera)))
    number = round((PICTURES_AT_S[camera] + later_s) * film.get(cv2.CAP_PROP_FPS))
    film.set(cv2.CAP_PROP_POS_FRAMES, number)
    _, frame = film.read()
    truth = np.loadtxt(DATA / "sample" / "truth" / f"{camera}.txt", delimiter=",")
    boxes = truth[truth[:, 0] == number + 1][:, 2:6]
    boxes[:, 2:] += boxes[:, :2]
    blurred = blur_heads(np.ascontiguousarray(frame[:, :, ::-1]), boxes.astype(np.float32))
    return bytes(cv2.imencode(".jpg", blurred[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())


def show(live: Live, store: Store, shop: Site, work: Path) -> None:
    """What the shop shows now: cameras, one of them in trouble, and who is inside."""
    for part in ("vision", "associator", "store", "web"):
        live.part(Part(part, "live", "", NOW - timedelta(hours=6)))
    for camera in shop.cameras:
        live.show(camera.name, picture(shop, camera.name), NOW)
    start = NOW.replace(hour=0, minute=0)
    live.begin(store.crossings(shop.name, since=start, until=NOW), ())
    table = pq.read_table(DATA / "weeks" / "sightings.parquet")
    now = table.filter(pc.and_(pc.less(table["start"], NOW), pc.greater_equal(table["end"], NOW)))
    pq.write_table(now, work / "now.parquet")
    here = []
    for each in read_sightings(work / "now.parquet"):
        stays = tuple(replace(stay, end=None) for stay in each.stays if stay.start <= NOW <= (stay.end or NOW))
        here.append(replace(each, state="open", end=NOW, stays=stays, crossings=(), path=each.path[:0], revision=9))
    live.tell(here, Changes())
    states = [
        CameraState(name, "live", "", NOW - timedelta(hours=6), NOW, rate, 0.2, 9000, 12, 0, 0)
        for name, rate in (("entrance", 5.0), ("aisle 1", 4.9), ("checkout", 5.0))
    ]
    reason = "no frame for 40 s, reconnecting"
    states.append(CameraState("aisle 2", "stalled", reason, NOW - timedelta(seconds=40), NOW, 0.0, None, 9000, 0, 0, 2))
    live.cameras(states)


def take(browser: Browser, address: str, name: str, mode: str, folder: Path) -> int:
    """One picture, in 256 colours; returns its bytes."""
    context = browser.new_context(locale="en-GB", **MODES[mode])  # type: ignore[arg-type]  # by Playwright's names
    page = context.new_page()
    page.set_default_timeout(300_000)  # a machine with other work takes its time
    screen = name.split("-")[0]
    if screen == "setup" and mode != "phone":
        page.set_viewport_size({"width": 1280, "height": 1300})
    page.goto(address + ("/" if screen == "now" else f"/{screen}") + ASKED.get(name, ""))
    page.wait_for_timeout(1200 if screen == "journeys" else 600)
    if screen == "replay":
        page.locator("[data-at]").fill("822")
        page.locator("h1").click()
    if screen == "setup" and mode != "phone":
        board = page.locator("#board").bounding_box()
        assert board is not None
        page.get_by_role("button", name="Zone", exact=True).click()
        for x, y in ((0.62, 0.52), (0.86, 0.52), (0.93, 0.86), (0.6, 0.86)):
            page.mouse.click(board["x"] + x * board["width"], board["y"] + y * board["height"])
        page.keyboard.press("Enter")
        page.get_by_label("Name").fill("offers")
        page.get_by_label("Name").press("Tab")
    seen = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
    context.close()
    path = folder / f"{name}-{mode}.png"
    # the page's own colours stay as they are, those of pictures are made few
    packed = np.array(seen).astype(np.int64) @ [65536, 256, 1]
    colours, counts = np.unique(packed, return_counts=True)
    styled = [int(each, 16) for each in re.findall(r"#([0-9a-f]{6})\b", STYLE.read_text())]
    common = colours[np.argsort(-counts)].tolist()
    exact = np.sort(list(dict.fromkeys([*(c for c in styled if c in set(common)), *common]))[:EXACT])
    few = seen.quantize(256 - EXACT, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    places = np.array(few).astype(np.int64) + len(exact)
    at = np.searchsorted(exact, packed).clip(max=len(exact) - 1)
    places[exact[at] == packed] = at[exact[at] == packed]
    made = Image.fromarray(places.astype(np.uint8), "P")
    flat = [part for colour in exact.tolist() for part in (colour >> 16, colour >> 8 & 255, colour & 255)]
    made.putpalette([*flat, *(few.getpalette() or [])][:768])
    made.save(path, optimize=True)
    return path.stat().st_size


@contextmanager
def opened(clock: Callable[[], datetime] = lambda: NOW) -> Iterator[tuple[FastAPI, Live, Site]]:
    """The shop's application, what it shows live, and its site."""
    shop = site()
    with TemporaryDirectory() as scratch, Store(Path(scratch) / "shop.sqlite") as store:
        fill(store, shop, Path(scratch))
        live = Live(shop, clock=clock)
        show(live, store, shop, Path(scratch))
        door = pages(site=shop, store=store, live=live, clock=clock)
        door.include_router(login(store=store, clock=clock))
        app = create_app(
            site=shop,
            store=store,
            live=live,
            authenticate=lambda request: WHO,
            clock=clock,
            pages=door,
            rate=1e6,
            burst=1e6,
        )
        try:
            yield app, live, shop
        finally:
            live.close()


@contextmanager
def serving(clock: Callable[[], datetime] = lambda: NOW) -> Iterator[tuple[str, Live, Site]]:
    """The shop, served: its address, what it shows live, its site."""
    with opened(clock) as (app, live, shop):
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        (port,) = {each.getsockname()[1] for one in server.servers for each in one.sockets}
        try:
            yield f"http://127.0.0.1:{port}", live, shop
        finally:
            live.close()
            server.should_exit = True
            thread.join()


def main(wanted: list[str]) -> None:
    """Serve the shop, and take them all."""
    folder = ROOT / "docs" / "screens"
    folder.mkdir(parents=True, exist_ok=True)
    screens = (*SCREENS, "replay", "login")
    names = [name for screen in screens for name in (screen, *(n for n in ASKED if n.startswith(f"{screen}-")))]
    with serving() as (address, _, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        size = sum(
            take(browser, address, name, mode, folder)
            for name in names
            if not wanted or name in wanted
            for mode in MODES
        )
        browser.close()
    print(json.dumps({"pictures": len(list(folder.glob("*.png"))), "bytes": size}))


if __name__ == "__main__":
    main(sys.argv[1:])
