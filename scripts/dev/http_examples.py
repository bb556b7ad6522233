"""Write src/passerby/service/routes/examples.json: an example shop, asked once for each route; the OpenAPI shows it."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import cv2
import httpx
import numpy as np
from fastapi import FastAPI, Request

from passerby.reid.calibration import Calibration, Curve
from passerby.reid.evidence import joined, side
from passerby.reid.pictures import decoded
from passerby.service import accounts, kept
from passerby.service.app import EXAMPLES, create_app
from passerby.service.auth import Principal
from passerby.service.guests import Guests
from passerby.service.kept import Counted, Gap, Sales
from passerby.service.live import CameraState, Live, Part
from passerby.service.lookup import Looks, Lookup
from passerby.service.outlets import Outlet
from passerby.service.store import Store
from passerby.service.vault import Safe
from passerby.shop import Crossing, Link, Sighting, SightingKey, Stay, Visit
from passerby.site import Camera, LineSite, Queue, Site, ZoneSite
from passerby.types import Float32, UInt8
from passerby.vision.associate import Changes
from passerby.vision.window import Drawn

KEY = "pb_example"
NOW = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)  # 13:30 in Paris, a Monday
LEFT, RIGHT = ((0.1, 0.2), (0.5, 0.2), (0.5, 0.9), (0.1, 0.9)), ((0.6, 0.2), (0.9, 0.2), (0.9, 0.9), (0.6, 0.9))
SHOP = Site(
    "shop",
    (Camera("door", "rtsp://door/live"), Camera("aisle", "rtsp://aisle/live"), Camera("till", "rtsp://till/live")),
    time_zone="Europe/Paris",
    zones=(ZoneSite("wine", LEFT, "aisle"), ZoneSite("beer", RIGHT, "aisle"), ZoneSite("till", LEFT, "till")),
    lines=(
        LineSite("entry", (0.2, 0.6), (0.8, 0.6), "door"),
        LineSite("street", (0.1, 0.3), (0.9, 0.3), "door", door=False),
    ),
    queues=(Queue("till"),),
    passing=("street",),
    guests=True,
    k=1,  # so that there is something to show of five people who are drawn
)
DAY = {"from": "2026-03-02", "to": "2026-03-02"}
HOURS = {"from": "2026-03-02T10:00", "to": "2026-03-02T12:00", "group_by": "hour"}
TRACK = {"camera": "aisle", "session": "s1", "track": 1}
ASKED: dict[
    str, dict[str, Any]
] = {  # for each route: what is put into its path, what it is asked, what it is told; an erasure is the last
    "GET /health": {},
    "GET /metrics": {},
    "GET /api/v1/sites": {},
    "GET /api/v1/cameras": {},
    "GET /api/v1/cameras/{camera}/picture": {"path": {"camera": "door"}},
    "GET /api/v1/live": {},
    "GET /api/v1/events": {},
    "GET /api/v1/outlets": {},
    "GET /api/v1/metrics/footfall": {"query": HOURS},
    "GET /api/v1/metrics/occupancy": {"query": HOURS},
    "GET /api/v1/metrics/visits": {"query": {**HOURS, "compare": "before"}},
    "GET /api/v1/metrics/persons": {"query": HOURS},
    "GET /api/v1/metrics/queues": {"query": DAY},
    "GET /api/v1/metrics/conversion": {"query": DAY},
    "GET /api/v1/metrics/counts": {"query": DAY},
    "GET /api/v1/metrics/dwell": {"query": {**DAY, "zone": "wine"}},
    "GET /api/v1/metrics/paths": {"query": DAY},
    "GET /api/v1/metrics/transitions": {"query": {**DAY, "by_zone": "true"}},
    "GET /api/v1/metrics/funnel": {"query": {**DAY, "step": "wine,till"}},
    "GET /api/v1/metrics/groups": {"query": DAY},
    "GET /api/v1/metrics/heat": {"query": {**DAY, "camera": "aisle", "columns": 4, "rows": 2}},
    "GET /api/v1/visits": {"query": {**DAY, "limit": 2}},
    "GET /api/v1/tracks/{camera}/{session}/{track}/why": {"path": TRACK},
    "GET /api/v1/exports/report.html": {"query": DAY},
    "GET /api/v1/exports/visits.{form}": {"path": {"form": "csv"}, "query": DAY},
    "GET /api/v1/exports/{table}.{form}": {"path": {"table": "footfall", "form": "csv"}, "query": HOURS},
    "GET /api/v1/audit": {"query": {"limit": 1}},
    "POST /api/v1/sales": {"body": [{"from": "2026-03-02T11:00", "to": "2026-03-02T12:00", "sales": 1, "till": "1"}]},
    "POST /api/v1/audits": {
        "body": [{"line": "entry", "from": "2026-03-02T11:00", "to": "2026-03-02T11:15", "entries": 1, "exits": 1}]
    },
    "POST /api/v1/search": {"file": "picture"},
    "POST /api/v1/guests": {
        "file": "picture",
        "form": {
            "guest": "card 17",
            "purpose": "greeting at the door",
            "consent": "signed form 17",
            "ends": "2026-12-31",
        },
    },
    "GET /api/v1/guests": {},
    "GET /api/v1/guests/seen": {},
    "POST /api/v1/guests/withdrawals": {"body": {"guest": "card 17"}},
    "POST /api/v1/guests/erasures": {"body": {"guest": "card 17"}},
    "POST /api/v1/erasures": {"body": {"visit": "s1-2"}},
}


def at(clock: str, *, day: str = "2026-03-02") -> datetime:
    """A time by the clock of the shop, which is an hour ahead of UTC on these days."""
    return datetime.fromisoformat(f"{day}T{clock}+01:00").astimezone(UTC)


def people(day: str, session: str, said: list[dict[str, Any]]) -> tuple[list[Sighting], list[Link], list[Visit]]:
    """Visits of a day: each has a person, times of coming and going, and stays as (zone, from, to)."""
    sightings, links, visits = [], list[Link](), []
    for number, each in enumerate(said, 1):
        comes, goes = at(each["comes"], day=day), at(each["goes"], day=day)
        keys = [SightingKey("shop", camera, session, number) for camera in ("door", "aisle", "till")]
        later = SightingKey("shop", "door", session, 100 + number)
        stays = [Stay(zone, at(a, day=day), at(b, day=day)) for zone, a, b in each["stays"]]
        seconds = timedelta(seconds=5)

        def seen(key: SightingKey, start: datetime, end: datetime, of: list[Stay], crossed: list[Crossing]) -> Sighting:
            path = np.array([[0, 0.3, 0.4], [2, 0.35, 0.6], [4, 0.7, 0.6]], np.float32)
            none = np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
            return Sighting(key, 1, "closed", start, end, *none, stays=tuple(of), crossings=tuple(crossed), path=path)

        chain = [seen(keys[0], comes - seconds, comes + seconds, [], [Crossing("entry", comes, True)])]
        for key, zones in ((keys[1], ("wine", "beer")), (keys[2], ("till",))):
            mine = [stay for stay in stays if stay.zone in zones]
            if mine:
                ends = [stay.end or stay.start for stay in mine]
                chain.append(seen(key, min(stay.start for stay in mine) - seconds, max(ends) + seconds, mine, []))
        chain.append(seen(later, goes - seconds, goes + seconds, [], [Crossing("entry", goes, False)]))
        sightings += chain
        links += [Link(a.key, b.key, 1, 0.93) for a, b in pairwise(chain)]
        ordered = tuple(one.key for one in chain)
        name = f"{session}-{number}"
        visits.append(Visit("shop", name, 1, ordered, chain[0].start, chain[-1].end, each["person"], final=True))
    return sightings, links, visits


def fill(store: Store) -> None:
    """What the shop's store knows: a morning, the same one a week before, a gap, sales, counts from elsewhere, draws."""
    store.put_site(SHOP)
    ann = {"person": "a1", "comes": "10:00:02", "goes": "10:12:00"}
    today: list[dict[str, Any]] = [
        {**ann, "stays": [("wine", "10:02:00", "10:06:00"), ("till", "10:08:00", "10:10:30")]},
        {"person": "b2", "comes": "10:59:40", "goes": "11:00:30", "stays": []},
        {"person": "c3", "comes": "11:05:00", "goes": "11:25:00", "stays": [("beer", "11:10:00", "11:20:00")]},
        {"person": "a1", "comes": "11:30:00", "goes": "11:40:00", "stays": [("wine", "11:31:00", "11:31:30")]},
    ]
    before: list[dict[str, Any]] = [{**ann, "person": "z9", "stays": [("wine", "10:03:00", "10:05:00")]}]
    for day, session, said in (("2026-02-23", "s0", before), ("2026-03-02", "s1", today)):
        sightings, links, visits = people(day, session, said)
        if session == "s1":
            key = SightingKey("shop", "door", session, 50)
            none = np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
            passing = tuple(Crossing("street", at(f"10:0{minute}:00"), True) for minute in range(8))
            sightings.append(Sighting(key, 1, "closed", at("10:00:00"), at("10:09:00"), *none, crossings=passing))
        store.write(sightings=sightings, links=links, visits=visits)
    kept.put_gaps(store, "shop", [Gap("aisle", at("11:50:00"), at("12:05:00"), "down", "no frame for 40 s")])
    kept.put_sales(store, "shop", [Sales(at("10:00:00"), at("11:00:00"), 1, "1")])
    kept.put_counts(store, "shop", [Counted("mall", at("10:00:00"), at("11:00:00"), 40, 38)])
    seen = {"asked": "GET /api/v1/visits", "query": "from=2026-03-02"}
    accounts.record(store, who="anna", kind="user", action="see people", site="shop", detail=seen, now=at("09:00:00"))
    spread = np.array([2] * 90 + [1] * 6 + [3] * 4)
    kept.put_draws(store, "shop", [Drawn(at("10:00:00"), "hour", what, spread) for what in ("visits", "persons")])


def crop() -> bytes:
    """A PNG of somebody in a coat of many colours, who made visit s1-3."""
    pixels = np.random.default_rng(1).integers(0, 256, (128, 64, 3), np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1])


def lookup() -> Lookup:
    """Three people who are remembered, told apart by the brightest of four parts of a picture, in place of a network."""
    curve = Calibration((((1, 1), Curve((0.0,), (20.0,), -10.0, 12.0, 10.0)),), "0" * 64, "fp32", "example")

    def embed(picture: UInt8) -> tuple[Float32, str]:
        parts = np.array([part.mean() for part in np.array_split(picture, 4)])
        return np.eye(4, dtype=np.float32)[[int(parts.argmax())]], "example"

    brightest = int(embed(decoded(crop()))[0].argmax())
    vectors = np.roll(np.eye(4, dtype=np.float32), brightest, axis=1)[:3]  # the first is the one on the picture
    sides = joined([side(vector[None]) for vector in vectors])
    looks = Looks("example", curve, ("s1-3", "s1-1", "s1-4"), sides, np.array([3.0, 4.0, 2.0]))
    return Lookup(lambda: looks, embed=embed)


def show(live: Live, store: Store) -> None:
    """What the shop shows now: two cameras live, one stalled, one person at the beer."""
    live.begin(store.crossings("shop", since=at("00:00:00")), ())
    states = [
        CameraState("door", "live", "frames come", at("08:00:00"), NOW, 5.0, 0.4, 99000, 12, 0, 1),
        CameraState("aisle", "live", "frames come", at("12:05:00"), NOW, 5.0, 0.4, 25500, 3, 0, 2),
        CameraState(
            "till",
            "stalled",
            "no frame for 70 s, connecting again",
            at("13:28:50"),
            at("13:28:50"),
            0,
            None,
            98000,
            9,
            0,
            4,
        ),
    ]
    live.cameras(states)
    for name in ("vision", "associator", "store", "web"):
        live.part(Part(name, "live", "works", at("08:00:00")))
    key, none = (
        SightingKey("shop", "aisle", "s1", 60),
        (np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)),
    )
    live.tell(
        [Sighting(key, 1, "open", at("13:29:40"), NOW, *none, stays=(Stay("beer", at("13:29:45"), None),))], Changes()
    )
    live.show("door", bytes.fromhex("ffd8ffd9"), NOW)  # a JPEG without a picture


def authenticate(request: Request) -> Principal | None:
    """One key, which may everything."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    return Principal("example", "administrator", None, "key") if given == KEY else None


@contextmanager
def example_app() -> Iterator[FastAPI]:
    """The application of the example shop, which may be asked as often as one likes."""
    with TemporaryDirectory() as folder, Store(Path(folder) / "shop.sqlite") as store:
        fill(store)
        live = Live(SHOP, clock=lambda: NOW)
        show(live, store)
        searched = lookup()
        live.close()  # streams end after the state
        yield create_app(
            site=SHOP,
            store=store,
            live=live,
            authenticate=authenticate,
            clock=lambda: NOW,
            lookup=searched,
            enrolled=Guests(store, SHOP, Safe(Path(folder) / "guests"), searched),
            outlets=lambda: [Outlet("example.org (1)", "webhook", "live", "answered 204", sent=12, retried=1)],
            burst=float("inf"),
        )


def url_of(route: str, asked: dict[str, Any]) -> str:
    """The address of an example."""
    query = urlencode(asked.get("query", {}))
    return route.format(**asked.get("path", {})) + (f"?{query}" if query else "")


def answers(app: FastAPI) -> dict[str, dict[str, Any]]:
    """Each route's example with its answer; of what is no text, none."""

    async def ask() -> dict[str, dict[str, Any]]:
        found = {}
        transport = httpx.ASGITransport(app=app)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://shop", headers=headers) as client:
            for route, asked in ASKED.items():
                method, path = route.split()
                files = {asked["file"]: ("crop.png", crop(), "image/png")} if "file" in asked else None
                answer = await client.request(
                    method, url_of(path, asked), json=asked.get("body"), data=asked.get("form"), files=files
                )
                answer.raise_for_status()
                media = answer.headers["content-type"].partition(";")[0]
                said = {**asked, "media": media}
                if media == "application/json":
                    said["answer"] = rounded(answer.json())
                elif media in ("text/csv", "text/plain"):
                    said["answer"] = answer.text
                found[route] = said
        return found

    return asyncio.run(ask())


def rounded(value: Any) -> Any:  # Any: JSON
    """The same with numbers of six digits, which every machine gives alike."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return {key: rounded(each) for key, each in value.items()} if isinstance(value, dict) else value


def text() -> str:
    """The whole file."""
    with example_app() as app:
        return json.dumps(answers(app), indent=1) + "\n"


if __name__ == "__main__":
    EXAMPLES.write_text(text())
    print(f"wrote {EXAMPLES}")
