"""The page in Chromium, on loopback: how heavy it is, when it is first seen, how late it shows an event, and its memory.

    python benchmarks/page.py --answers
    python benchmarks/page.py --minutes 6

With `--answers` each screen is asked for in this process, without a browser, each time in another minute, so that nothing is
kept of the ask before: the processor time of the service alone.

The shop is that of `scripts/dev/screenshots.py`: the sample shop on a Saturday of its simulated weeks. *Weight* is the sum of
what a screen loads, each file gzipped (the service sends them as they are, which is the second number); *first paint* is
Chromium's first-contentful-paint with an empty cache; beside it stands the processor time of the service, with that of what
drives the browser, until the page has loaded. *Event to page* is from the call that tells of an entry to the frame in which
the number has changed. *Hours*: eight hours of that Saturday, second by second (people come, stay and go, each camera shows a
new picture every second), are told within the given minutes, with the pause between two fragments of the stream taken away,
and the day's chart asked for anew after each minute that was told; memory is that after garbage collection, and of the
browser's process for the page (RSS), at the end of each hour. This browser compiles no script: the compiler finds more worth it
for hours, and what it makes (0.3 MB) hides what a page keeps.
"""

import argparse
import asyncio
import gzip
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import numpy as np
from playwright.sync_api import Browser, Page, Response, sync_playwright

from passerby.service.live import CameraState, Live
from passerby.service.routes import pages
from passerby.service.routes.texts import SCREENS
from passerby.shop import Crossing, Sighting, SightingKey
from passerby.site import Site
from passerby.vision.associate import Changes
from passerby.vision.parquet import read_sightings

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "dev"))
from screenshots import ASKED, DATA, NOW, opened, picture, serving

EIGHT = datetime(2026, 2, 28, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOURS = 8
PICTURES = 7  # different ones of each camera, shown in turn


def address_of(name: str) -> str:
    """The address of a screen as the screenshots have it."""
    return ("/" if name == "now" else f"/{name.split('-')[0]}") + ASKED.get(name, "")


def answers() -> None:
    """Print what answering each screen takes of the processor: the first of six asks, and the median of the others."""
    clock = [NOW]
    with opened(lambda: clock[0]) as (app, _, _):

        async def seconds(path: str) -> float:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
                began_s = time.process_time()
                (await client.get(path)).raise_for_status()
                return time.process_time() - began_s

        print("screen         processor ms: first, median of 5")
        for name in sorted({*SCREENS, *ASKED}):
            took = []
            for _ in range(6):
                clock[0] += 60 * SECOND
                took.append(1000 * asyncio.run(seconds(address_of(name))))
            print(f"{name:13}  {took[0]:.0f}, {np.median(took[1:]):.0f}", flush=True)


def weigh(browser: Browser, address: str) -> None:
    """Print what each screen loads, and when it is first seen, over five loads with an empty cache."""
    print("screen    gzipped kB  as sent kB  files  first paint ms: median (worst of 5)  processor s: first, median")
    for name in (*SCREENS, "replay"):
        paints, sizes, took = [], dict[str, tuple[int, int]](), []
        for _ in range(5):
            context = browser.new_context()
            page = context.new_page()
            answers: dict[str, Response] = {}

            def keep(answer: Response, found: dict[str, Response] = answers) -> None:
                found.setdefault(answer.url, answer)

            page.on("response", keep)
            began_s = time.process_time()
            page.goto(address + address_of(name))
            took.append(time.process_time() - began_s)
            page.wait_for_timeout(700)
            for answer in answers.values():
                if "/stream" not in answer.url and answer.status == 200:
                    body = answer.body()  # empty where a script fetched it: pictures, which gzip makes no smaller
                    length = int(answer.headers.get("content-length", len(body)))
                    sizes[answer.url.split("?")[0]] = len(gzip.compress(body)) if body else length, length
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            context.close()
        zipped, sent = (sum(each[kind] for each in sizes.values()) / 1000 for kind in (0, 1))
        paint = f"{np.median(paints):.0f} ({max(paints):.0f})"
        print(
            f"{name:9} {zipped:10.0f}  {sent:10.0f}  {len(sizes):5}  {paint:>35}  {took[0]:.2f}, {np.median(took):.2f}",
            flush=True,
        )


def entry(number: int, at: datetime) -> Sighting:
    """Somebody who crosses the door."""
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    key = SightingKey("sample", "entrance", "page", number)
    return Sighting(key, 1, "open", at, at + SECOND, *none, crossings=(Crossing("door", at, True),))


def lateness(browser: Browser, address: str, live: Live, events: int) -> None:
    """Print how long an event takes to the changed number on the page."""
    page = browser.new_page()
    page.goto(address)
    page.wait_for_timeout(1500)
    took, pause_s = [], np.random.default_rng(0)
    for number in range(1, events + 1):
        page.evaluate(
            """() => { const old = document.getElementById('entries').textContent;
            window.seen = new Promise((done) => { const look = () => document.getElementById('entries').textContent !== old
            ? done(performance.timeOrigin + performance.now()) : requestAnimationFrame(look); look(); }); }"""
        )
        began_s = time.time()
        live.tell([entry(number, NOW - timedelta(seconds=1))], Changes())
        took.append(page.evaluate("window.seen") / 1000 - began_s)
        time.sleep(pause_s.uniform(0.0, 0.6))  # an event may fall into the calm after the one before
    page.close()
    late = f"median {np.median(took):.2f}, 95 % {np.quantile(took, 0.95):.2f}, most {max(took):.2f}"
    print(f"event to page, s, {events} events: {late}", flush=True)


def hours_of(site: Site) -> Iterator[tuple[datetime, list[Sighting]]]:
    """Each second of eight hours, with the revisions of sightings that it tells of: open each 2 s, then closed."""
    known = [
        each
        for each in read_sightings(DATA / "weeks" / "sightings.parquet")
        if EIGHT <= each.start < EIGHT + HOURS * 3600 * SECOND
    ]
    told: dict[int, list[Sighting]] = {}
    for each in known:
        lasts = int((each.end - each.start).total_seconds())
        first = int((each.start - EIGHT).total_seconds())
        for revision, passed in enumerate(range(1, lasts, 2), 1):
            end = each.start + passed * SECOND
            stays = tuple(replace(s, end=None if (s.end or end) > end else s.end) for s in each.stays if s.start <= end)
            crossings = tuple(c for c in each.crossings if c.at <= end)
            now = replace(
                each, revision=revision, state="open", end=end, stays=stays, crossings=crossings, path=each.path[:0]
            )
            told.setdefault(first + passed, []).append(now)
        told.setdefault(first + lasts + 1, []).append(replace(each, revision=10**6))
    for second in range(HOURS * 3600):
        yield EIGHT + second * SECOND, told.get(second, [])


def rss_mb(marker: str) -> float:
    """The memory of the largest process of Chromium that draws a page, in MB."""
    found = [0.0]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                b"--type=renderer" in (folder / "cmdline").read_bytes()
                and marker.encode() in (folder / "cmdline").read_bytes()
            ):
                found.append(int((folder / "statm").read_text().split()[1]) * 4096 / 1e6)
        except OSError:
            continue
    return max(found)


def memory(page: Page) -> tuple[float, int]:
    """What the page's script holds after garbage collection, in MB, and how many nodes there are."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    found = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return found["JSHeapUsedSize"] / 1e6, int(found["Nodes"])


def over_hours(browser: Browser, minutes: float) -> None:
    """Print the page's memory, and the service's, at the end of each of eight hours."""
    clock = [EIGHT]
    pages.CALM_S = 0.0
    with serving(lambda: clock[0]) as (address, live, site):
        jpegs = {camera.name: [picture(site, camera.name, n * 1.5) for n in range(PICTURES)] for camera in site.cameras}
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(address)
        page.evaluate(
            "window.swaps = 0; document.addEventListener('htmx:sse:after:message', () => { window.swaps += 1; })"
        )
        page.wait_for_timeout(1000)
        began_s, each_s = time.monotonic(), minutes * 60 / (HOURS * 3600)
        print("hour  page heap MB  nodes  page process MB  service and driver MB  fragments shown", flush=True)
        rows = []
        for number, (at, sightings) in enumerate(hours_of(site), 1):
            clock[0] = at
            live.tell(sightings, Changes())
            for camera in site.cameras:
                live.show(camera.name, jpegs[camera.name][number % PICTURES], at)
            live.cameras(
                [
                    CameraState(c.name, "live", "", EIGHT, at, 5.0 - number % 3 / 10, 0.2, 5 * number, 0, 0, 0)
                    for c in site.cameras
                ]
            )
            if (wait_s := began_s + number * each_s - time.monotonic()) > 0:
                page.wait_for_timeout(1000 * wait_s)
            if number % 60 == 0:
                page.evaluate("htmx.ajax('GET', '/now/chart', { target: '#today', swap: 'innerHTML' })")
            if number % 3600 == 0:
                heap_mb, nodes = memory(page)
                own_mb = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
                rows.append((heap_mb, rss_mb("--type=renderer"), own_mb))
                swaps = page.evaluate("window.swaps")
                print(
                    f"{number // 3600:4}  {heap_mb:12.2f}  {nodes:5}  {rows[-1][1]:15.0f}  {own_mb:21.0f}  {swaps:15}",
                    flush=True,
                )
        first, last = rows[0], rows[-1]
        for name, place in (("page heap", 0), ("page process", 1), ("service", 2)):
            print(
                f"{name}: {100 * (last[place] / first[place] - 1):+.1f} % from the end of the first hour to that of the last"
            )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6.0, help="that eight hours are told in; 0 leaves them out")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--answers", action="store_true", help="only what answering takes of the processor")
    options = parser.parse_args()
    if options.answers:
        answers()
        return
    with sync_playwright() as playwright:
        launched = partial(playwright.chromium.launch, executable_path=shutil.which("chromium"))
        browser = launched(args=["--no-sandbox"])
        print(json.dumps({"Chromium": browser.version}))
        with serving() as (address, live, _):
            weigh(browser, address)
            lateness(browser, address, live, options.events)
        browser.close()
        if options.minutes:
            browser = launched(args=["--no-sandbox", "--js-flags=--jitless"])
            over_hours(browser, options.minutes)
            browser.close()


if __name__ == "__main__":
    main()
