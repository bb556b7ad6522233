"""The store and the figures made of it at the size of many shops: ingest, each metric's answers, kills, and DuckDB beside.

    python benchmarks/service.py --sightings 60000 --shops 5 --days 30
    python benchmarks/service.py --sightings 10000000 --shops 50 --days 30 --store big.sqlite --minutes 11
    python benchmarks/service.py --sightings 134000 --shops 2 --days 10 --asks 20 --today
    python benchmarks/service.py --sightings 12000 --shops 2 --days 2 --kills 20

Made-up visits, the same each time: each of three sightings (door, aisle, till), with paths, stays, crossings and links, a
fifth of the people twice a day. They go through `Store.write` in batches, each visit in two revisions, and figures by the hour
are made of the days that are over, as `serve` does, in the shops that are asked (`--asks` of them). Then each metric of the API
is asked for in this process, JSON and all, as a page asks for it: a day by the hour, a week by the day, 4 weeks by the day, of
several shops and ends; and `report_of`. DuckDB then answers some of the same from the same rows in memory, in SQL, and SQLite
the same SQL. With `--today` the last day is not over: it is asked for by the hour, a minute before its end, each time after
five more visits came in; the first time apart, when nothing of it is in memory.

`--kills` fills a store in a process of its own that is killed (SIGKILL) so many times at random moments and goes on after
the last batch whose end it has noted, and compares every table, row by row, with that of an undisturbed run. `--store` keeps
the store in that file, or takes the one that is there; with `--minutes` it is filled for so long,
by whole days: ask again until it is full.
"""

import argparse
import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import httpx
import numpy as np
import pyarrow as pa

from passerby.service import analytics, kept
from passerby.service.analytics import Period
from passerby.service.app import create_app
from passerby.service.auth import Principal
from passerby.service.kept import Audit, Gap
from passerby.service.live import Live
from passerby.service.report import report_of
from passerby.service.rollups import refresh
from passerby.service.schema import METADATA
from passerby.service.store import NO_VECTORS, Store
from passerby.shop import Crossing, Link, Sighting, SightingKey, Stay, Visit
from passerby.site import Camera, Hours, LineSite, Queue, Site, ZoneSite

BEGIN = date(2026, 3, 2)  # a Monday; the clock changes on the 29th
ZONE = ZoneInfo("Europe/Paris")
OPEN = ("09:00-20:00",)
BATCH = 1000  # sightings in one batch
SMALL, EVERY = 60, 20  # while it is killed; batches, after which figures by the hour are made
SQUARE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
AISLES = ("wine", "bread", "fruit", "tea")
SPANS = {"day by the hour": (1, "hour"), "week by the day": (7, "day"), "4 weeks by the day": (28, "day")}
PATHS = np.random.default_rng(1).random((97, 20, 3), np.float32)  # (paths, points, 3): a point a second
PATHS[..., 0] = np.arange(20)
PATHS.setflags(write=False)
METRICS = (
    "footfall",
    "occupancy",
    "visits",
    "persons",
    "queues",
    "conversion",
    "dwell",
    "paths",
    "transitions",
    "funnel?step=wine,till",
)
BAR_MS, BAR_INGEST = 300, 5000


@dataclass(frozen=True, slots=True)
class Size:
    """How much is made up."""

    sightings: int
    shops: int
    days: int

    @property
    def visits(self) -> int:
        """In a shop on a day."""
        return max(1, self.sightings // (3 * self.shops * self.days))


def site_of(number: int) -> Site:
    """A shop of three cameras."""
    zones = tuple(ZoneSite(name, SQUARE, "aisle") for name in AISLES)
    return Site(
        f"shop{number:02}",
        tuple(Camera(name, f"{name}.mp4") for name in ("door", "aisle", "till")),
        time_zone=ZONE.key,
        zones=(*zones, ZoneSite("till", SQUARE, "till"), ZoneSite("behind", SQUARE, "till")),
        lines=(LineSite("entry", (0.2, 0.5), (0.8, 0.5), "door"),),
        hours=Hours(OPEN, OPEN, OPEN, OPEN, OPEN, OPEN, OPEN),
        queues=(Queue("till", "behind"),),
    )


def person(site: str, day: int, number: int, chance: random.Random) -> tuple[list[Sighting], list[Link], Visit]:
    """One visit: in by the door, two aisles, the till, out by the door; one in 100 belongs to the staff."""
    opens = datetime.combine(BEGIN + timedelta(days=day), datetime.min.time(), ZONE).replace(hour=9).astimezone(UTC)
    came = opens + timedelta(microseconds=round(chance.uniform(0, 10.5 * 3600) * 1e6))
    lasts = chance.uniform(300, 1500)

    def at(share: float) -> datetime:
        return came + timedelta(microseconds=round(share * lasts * 1e6))

    stays = {
        "aisle": [Stay(chance.choice(AISLES), at(0.1), at(0.3)), Stay(chance.choice(AISLES), at(0.35), at(0.6))],
        "till": [Stay("behind" if number % 100 == 0 else "till", at(0.7), at(0.9))],
    }
    spans = {"door": (0.0, 0.08), "aisle": (0.09, 0.65), "till": (0.66, 1.0)}
    seen = []
    for camera, (first, last) in spans.items():
        crossings = {"door": [Crossing("entry", at(0.02), True)], "till": [Crossing("entry", at(0.98), False)]}
        seen.append(
            Sighting(
                SightingKey(site, camera, f"d{day}", number + 1),
                1,
                "closed",
                at(first),
                at(last),
                *NO_VECTORS,
                network="made:up",
                stays=tuple(stays.get(camera, ())),
                crossings=tuple(crossings.get(camera, ())),
                path=PATHS[number % len(PATHS)],
            )
        )
    links = [Link(one.key, other.key, 1, chance.uniform(0.6, 1)) for one, other in pairwise(seen)]
    who = f"p{day}-{number - 1 if number % 5 == 4 else number}"
    keys = tuple(each.key for each in seen)
    return seen, links, Visit(site, f"v{day}-{number}", 1, keys, at(0), at(1), who)


def batches(
    size: Size, most: int, days: Sequence[int] | None = None
) -> Iterator[tuple[list[Sighting], list[Link], list[Visit]]]:
    """Everything, or some days of it, in order, in batches; a visit comes open first, and final with the batch after it."""
    seen: list[Sighting] = []
    links: list[Link] = []
    visits: list[Visit] = []
    last: list[Visit] = []
    for day in range(size.days) if days is None else days:
        for shop in range(size.shops):
            chance = random.Random(f"{day}-{shop}")
            for number in range(size.visits):
                more, linked, visit = person(f"shop{shop:02}", day, number, chance)
                seen += more
                links += linked
                visits.append(visit)
                if len(seen) >= most:
                    yield seen, links, visits + last
                    last = [replace(each, revision=2, final=True) for each in visits]
                    seen, links, visits = [], [], []
    yield seen, links, visits + last
    yield [], [], [replace(each, revision=2, final=True) for each in visits]


def opened(path: Path, size: Size) -> Store:
    """A store that knows the shops."""
    store = Store(path)
    for shop in range(size.shops):
        store.put_site(site_of(shop))
    return store


def fill(path: Path, size: Size, minutes: float) -> bool:
    """Fill a store, a day of all shops after the other, for about so long; whether it is full. What it took is noted."""
    noted = path.with_name(f"{path.name}.days")
    done = noted.read_text().splitlines() if noted.exists() else []
    began_s = time.monotonic()
    with opened(path, size) as store, noted.open("a") as note:
        for day in range(len(done), size.days):
            if time.monotonic() - began_s > 60 * minutes:
                return False
            taken = [(0.0, 0.0)]
            for seen, links, visits in batches(size, BATCH, [day]):
                began = clocks_ms()
                store.write(sightings=seen, links=links, visits=visits)
                taken.append(since_ms(began))
            print(*(f"{sum(each) / 1000:.3f}" for each in zip(*taken, strict=True)), file=note, flush=True)
        for shop in range(size.shops):
            name, noon = site_of(shop).name, datetime(2026, 3, 3, 12, tzinfo=UTC)
            quarters = [noon + timedelta(minutes=15 * number) for number in range(8)]
            audits = [Audit("entry", each, each + timedelta(minutes=15), 20, 20) for each in quarters]
            kept.put_audits(store, name, audits)
            noons = [noon + timedelta(days=day) for day in range(0, size.days, 3)]
            gaps = [Gap("aisle", each, each + timedelta(minutes=5), "down", "no frame") for each in noons]
            kept.put_gaps(store, name, gaps)
    return True


def ingested(path: Path, size: Size) -> str:
    """How fast it was filled, and how large it is."""
    days = path.with_name(f"{path.name}.days").read_text().splitlines()
    wall_s, used_s = (sum(float(day.split()[place]) for day in days) for place in (0, 1))
    visits = size.visits * size.shops * len(days)
    file = path.stat().st_size
    return (
        f"{3 * visits} sightings in batches of {BATCH}: {3 * visits / wall_s:.0f} sightings/s (bar {BAR_INGEST}), "
        f"{3 * visits / used_s:.0f} for each second of the processor\n"
        f"{file / visits:.0f} bytes a visit of 3 sightings with paths of 20 points, {visits} visits, {file / 1e9:.2f} GB"
    )


def rolled(path: Path, size: Size, shops: int, minutes: float, *, today: bool) -> str | None:
    """Keep figures by the hour of the first shops, for about so long; what it took, None where there are more to make.

    Those of the last day too, unless it is `today`.
    """
    began_s, days, began = time.monotonic(), 0, clocks_ms()
    with Store(path) as store:
        for shop in range(shops):
            if time.monotonic() - began_s > 60 * minutes:
                return None
            days += refresh(store, site_of(shop), now=clock_of(size, today=today) + timedelta(hours=not today))
    wall_ms, used_ms = since_ms(began)
    with closing(sqlite3.connect(path)) as read:
        (size_b,) = read.execute("SELECT sum(length(hours)) FROM rolled_up").fetchone()
    each = f": {wall_ms / days:.0f} ms a day of a shop, {used_ms / days:.0f} of the processor" if days else ""
    return (
        f"Figures by the hour: {days} days made{each}; {size_b / (size.visits * shops * size.days):.0f} bytes a visit"
    )


def clock_of(size: Size, *, today: bool = False) -> datetime:
    """The night after the last day, or a minute before it."""
    return analytics.midnight(BEGIN + timedelta(days=size.days), ZONE) - timedelta(minutes=today)


def clocks_ms() -> tuple[float, float]:
    """The time on the wall, and of the processor in all threads of this process."""
    return 1000 * time.perf_counter(), 1000 * time.process_time()


def since_ms(began: tuple[float, float]) -> tuple[float, float]:
    """How much of both has passed."""
    wall, used = clocks_ms()
    return wall - began[0], used - began[1]


def apps_of(store: Store, size: Size, *, now: datetime) -> list[httpx.AsyncClient]:
    """A client for the API of each shop."""
    found = []
    for shop in range(size.shops):
        site = site_of(shop)
        app = create_app(
            site=site,
            store=store,
            live=Live(site, clock=lambda: now),
            authenticate=lambda request: Principal("me", "administrator", None, "key"),
            clock=lambda: now,
            rate=1e9,
            burst=1e9,
        )
        found.append(httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop"))
    return found


async def took_ms(client: httpx.AsyncClient, metric: str, since: date, last: date, by: str) -> tuple[float, float]:
    """How many ms an answer took, on the wall and of the processor."""
    path, _, more = metric.partition("?")
    url = f"/api/v1/metrics/{path}?from={since}&to={last}&group_by={by}&{more}"
    began = clocks_ms()
    answer = await client.get(url)
    took = since_ms(began)
    if answer.status_code != 200:
        raise SystemExit(f"{url}: {answer.status_code} {answer.text}")
    return took


def timed(
    store: Store, size: Size, asks: int, figures: Sequence[str]
) -> Iterator[tuple[str, str, list[tuple[float, float]]]]:
    """Each figure, the time it is asked for, and how many ms each answer took, on the wall and of the processor."""
    now = clock_of(size)

    async def asked() -> list[tuple[str, str, list[tuple[float, float]]]]:
        found = []
        clients = apps_of(store, size, now=now)
        for client in clients:  # so that nothing is made while it is timed
            await took_ms(client, "footfall", BEGIN, BEGIN, "day")
        for span, (days, by) in SPANS.items():
            if days > size.days:
                continue
            chosen = [
                (shop % size.shops, shop * (size.days - days) // max(1, asks - 1))
                for shop in range(asks if days < 28 else -(-asks // 2))
            ]
            lasts = [(shop, BEGIN + timedelta(days=size.days - 1 - back)) for shop, back in chosen]
            for metric in [each for each in METRICS if each in figures]:
                took = [
                    await took_ms(clients[shop], metric, last - timedelta(days=days - 1), last, by)
                    for shop, last in lasts
                ]
                found.append((metric, span, took))
            took = []
            for shop, last in lasts if "report_of" in figures else ():
                period = Period(
                    analytics.midnight(last - timedelta(days=days - 1), ZONE),
                    analytics.midnight(last + timedelta(days=1), ZONE),
                )
                began = clocks_ms()
                report_of(
                    store,
                    site_of(shop),
                    period,
                    parts=analytics.hours if by == "hour" else analytics.days,
                    now=now,
                )
                took.append(since_ms(began))
            if took:
                found.append(("report_of", span, took))
        return found

    yield from asyncio.run(asked())


def timed_today(
    store: Store, size: Size, asks: int, figures: Sequence[str]
) -> Iterator[tuple[str, str, list[tuple[float, float]]]]:
    """As `timed`, of the last day before it is over, while people come."""
    last = BEGIN + timedelta(days=size.days - 1)
    came = size.visits

    def come(shop: int) -> None:
        nonlocal came
        chance = random.Random(came)
        for number in range(came, came + 5):
            seen, links, visit = person(site_of(shop).name, size.days - 1, number, chance)
            store.write(sightings=seen, links=links, visits=[visit])
        came += 5

    async def asked() -> list[tuple[str, str, list[tuple[float, float]]]]:
        found = []
        clients = apps_of(store, size, now=clock_of(size, today=True))[:asks]
        for client in clients:
            await took_ms(client, "footfall", BEGIN, BEGIN, "day")
        spans = (("today, first", ["footfall"], len(clients)), ("today", METRICS, asks))
        for span, metrics, often in spans:
            for metric in [each for each in metrics if each in figures]:
                took = []
                for number in range(often):
                    come(number % len(clients))
                    took.append(await took_ms(clients[number % len(clients)], metric, last, last, "hour"))
                found.append((metric, span, took))
        return found

    yield from asyncio.run(asked())


TABLES = {  # of what DuckDB is asked about
    "visits": "id, site_id, start, end, person, merged_into",
    "members": "visit_id, place, track_id",
    "stays": "track_id, place, zone, start, end",
    "crossings": "track_id, camera_id, line, at, inwards",
    "cameras": "id, site_id, name",
}
BEGUN = "site_id = 1 AND merged_into IS NULL AND visits.start >= :since AND visits.start < :until"
SQL = {
    "entries by day": 'SELECT "at" - ("at" - :since) % 86400000000, count(*) FROM crossings JOIN cameras ON cameras.id = '
    'camera_id WHERE site_id = 1 AND inwards AND "at" >= :since AND "at" < :until GROUP BY 1 ORDER BY 1',
    "visits by day, their mean": 'SELECT start - (start - :since) % 86400000000, count(*), avg("end" - start) FROM visits '
    f"WHERE {BEGUN} GROUP BY 1 ORDER BY 1",
    "persons": f"SELECT count(DISTINCT person) FROM visits WHERE {BEGUN}",
    "dwell, mean by zone": 'SELECT zone, count(*), avg(stays."end" - stays.start) FROM visits JOIN members ON visit_id = id '
    f"JOIN stays ON stays.track_id = members.track_id WHERE {BEGUN} GROUP BY 1 ORDER BY 1",
}


def beside(path: Path, size: Size) -> tuple[float, list[tuple[str, float, float, bool]], int]:
    """DuckDB: seconds to take the rows in; of each question ms there and in SQLite, and whether both say the same; entries."""
    until = clock_of(size)
    since = analytics.midnight(BEGIN + timedelta(days=max(0, size.days - 28)), ZONE)
    bounds = {name: round(at.timestamp()) * 1_000_000 for name, at in (("since", since), ("until", until))}
    with closing(sqlite3.connect(path)) as source, closing(duckdb.connect()) as duck:
        began = time.perf_counter()
        for table, columns in TABLES.items():
            names = columns.split(", ")
            quoted = ", ".join(f'"{name}"' for name in names)
            rows = source.execute(f"SELECT {quoted} FROM {table}").fetchall()
            arrow = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
            duck.register("given", arrow)
            duck.execute(f"CREATE TABLE {table} AS SELECT * FROM given")
            duck.unregister("given")
        taken, found, entries = time.perf_counter() - began, [], 0
        for name, words in SQL.items():
            there = best(partial(duck.execute, words.replace(":", "$"), bounds))
            here = best(partial(source.execute, words, bounds))
            same = all(
                len(a) == len(b) and all(x == y or abs(x - y) <= 1e-6 * abs(y) for x, y in zip(a, b, strict=True))
                for a, b in zip(there[1], here[1], strict=True)
            )
            found.append((name, there[0], here[0], same))
            if name == "entries by day":
                entries = sum(row[1] for row in there[1])
    return taken, found, entries


def best(ask: Callable[[], Any]) -> tuple[float, list[Any]]:  # Any: what a database answers
    """The median of 5 times, in ms, and the answer."""
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        rows = ask().fetchall()
        taken.append(1000 * (time.perf_counter() - began))
    return float(np.median(taken)), rows


def write_on(path: Path, noted: Path, size: Size) -> None:
    """Write what is not noted yet; note the number of each batch when `write` has returned. Figures are made beside."""
    there = len(noted.read_bytes()) if noted.exists() else 0
    with opened(path, size) as store, noted.open("ab", buffering=0) as note:
        for number, (seen, links, visits) in enumerate(batches(size, SMALL)):
            if number >= there:
                store.write(sightings=seen, links=links, visits=visits)
                note.write(b".")
                if number % EVERY == 0:
                    make_figures(store, size, told=False)
        make_figures(store, size, told=True)


def make_figures(store: Store, size: Size, *, told: bool) -> None:
    """Keep figures by the hour of every shop, of days that later batches change again.

    Personal detail of a day is told once, as it is then known: with `told`, when no batch comes any more.
    """
    for shop in range(size.shops):
        site = site_of(shop)
        refresh(store, site if told else replace(site, k=1), now=clock_of(size) + timedelta(hours=1))


def killed(folder: Path, size: Size, kills: int) -> str:
    """Write with kills, and without; what came of it."""
    calm, path, noted, chance = folder / "calm", folder / "killed", folder / "noted", random.Random(1)
    write_on(calm, folder / "calm-noted", size)
    command = [sys.executable, __file__, "--write", str(path), *map(str, (size.sightings, size.shops, size.days))]
    sizes = list(np.cumsum([len(seen) for seen, _, _ in batches(size, SMALL)]))
    lost, between = 0, 0
    for kill in range(kills):
        had = noted.stat().st_size if noted.exists() else 0
        child = subprocess.Popen(command)
        while kill % 4 and child.poll() is None and (noted.stat().st_size if noted.exists() else 0) == had:
            time.sleep(0.002)  # until it writes; every fourth is killed at any moment, while it opens too
        time.sleep(chance.uniform(0, 0.2 if kill % 4 else 3))
        if child.poll() is not None:
            raise SystemExit(f"it was done after {kill} kills, {child.returncode}: give more --sightings")
        child.send_signal(signal.SIGKILL)
        child.wait()
        acknowledged = noted.stat().st_size if noted.exists() else 0
        if path.exists() and acknowledged:
            with closing(sqlite3.connect(path)) as read:
                (there,) = read.execute("SELECT count(*) FROM sightings").fetchone()
            lost += max(0, int(sizes[acknowledged - 1]) - there)
            between += there > sizes[acknowledged - 1]
    subprocess.run(command, check=True)
    with closing(sqlite3.connect(calm)) as one, closing(sqlite3.connect(path)) as other:
        tables = [table.name for table in METADATA.sorted_tables]
        differing, rows = list[str](), 0
        for table in tables:
            left, right = (sorted(db.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for db in (one, other))
            rows += len(left)
            if left != right:
                differing.append(table)
    return (
        f"{kills} kills over {len(sizes)} batches of {SMALL} sightings: {lost} sightings lost of what was acknowledged; "
        f"{between} times a batch was in that was not noted yet; {len(tables)} tables, {rows} rows, other than in the "
        "undisturbed run: "
        f"{', '.join(differing) or 'none'}"
    )


def shown(name: str, span: str, took: Sequence[tuple[float, float]]) -> str:
    """A row of the table."""
    cells = [f"{number:.0f}" for number in np.quantile(np.array(took), (0.5, 0.95), axis=0).T.flat]
    return f"| {name} | {span} | {len(took)} | {' | '.join(cells)} |"


def main() -> None:
    if sys.argv[1:2] == ["--write"]:
        write_on(Path(sys.argv[2]), Path(sys.argv[2]).with_name("noted"), Size(*map(int, sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sightings", type=int, default=60_000)
    parser.add_argument("--shops", type=int, default=5)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument(
        "--asks", type=int, default=5, help="times that each question is asked, of other shops and days"
    )
    parser.add_argument("--figures", nargs="*", choices=(*METRICS, "report_of"), help="these alone")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--minutes", type=float, default=1e9, help="to fill it, and as long to make figures, at a time")
    parser.add_argument("--today", action="store_true", help="of the last day, which is not over, and no DuckDB")
    arguments = parser.parse_args()
    size = Size(arguments.sightings, arguments.shops, arguments.days)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.kills:
            print(killed(Path(folder), size, arguments.kills))
            return
        path = arguments.store or Path(folder) / "store"
        if not fill(path, size, arguments.minutes):
            print("not full yet; once more")
            return
        print(ingested(path, size))
        asked = min(size.shops, arguments.asks)
        if (said := rolled(path, size, asked, arguments.minutes, today=arguments.today)) is None:
            print("not all figures by the hour are made yet; once more")
            return
        print(said)
        print(f"\nMilliseconds on the wall and of the processor (bar: p95 of {BAR_MS}):\n")
        print("| figure | time | asked | p50 | p95 | p50, processor | p95, processor |\n|---|---|---|---|---|---|---|")
        with Store(path) as store:
            of = timed_today if arguments.today else timed
            for name, span, took in of(store, size, arguments.asks, arguments.figures or (*METRICS, "report_of")):
                print(shown(name, span, took), flush=True)
            if arguments.today:
                return
            month = store.crossings(
                site_of(0).name,
                since=analytics.midnight(BEGIN + timedelta(days=max(0, size.days - 28)), ZONE),
                until=clock_of(size),
            )
        taken, found, entries = beside(path, size)
        if entries != sum(crossing.inwards for crossing in month):
            raise SystemExit(f"DuckDB has {entries} entries, the store {sum(c.inwards for c in month)}")
        print(f"\nDuckDB took the rows in {taken:.1f} s; 4 weeks of one shop:\n")
        print("| question | DuckDB, ms | the same SQL in SQLite, ms | same answer |\n|---|---|---|---|")
        for name, there, here, same in found:
            print(f"| {name} | {there:.1f} | {here:.1f} | {'yes' if same else 'no'} |")


if __name__ == "__main__":
    main()
