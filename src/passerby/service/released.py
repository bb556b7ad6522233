"""Personal detail of whole days as it is told where k is above 1: suppressed once, kept, and never made again; SQL for it.

What is told of a longer time is what was told of its days, added up. A day has a table for each kind:

    ways    [cameras, zones] as JSON: how many visits, k or more (`privacy.classes`)
    dwell   zone: visits, k or more; seconds (of each stay)
    came    zone in which they dwelt: visits, k or more; seconds (of each)
    groups  number of members: how many groups, of k people or more (`privacy.sizes_told`)
    heat    camera ("" for the floor): rows, columns, seconds and visits of each cell with k visits or more, row by row
"""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import insert, select

from passerby.service import analytics, grid, privacy
from passerby.service.analytics import Period, Way
from passerby.service.hours import Sums, without_staff
from passerby.service.schema import RELEASED
from passerby.service.store import Store, StoreReader
from passerby.site import Site
from passerby.vision.associate import WINDOW_S
from passerby.vision.visits import VisitRow

KINDS = ("ways", "dwell", "came", "groups", "heat")
OF_ALL = ("ways", "dwell", "groups")  # that are nothing but detail
FLOOR = ""  # no camera has this name


def told(reader: StoreReader, site: Site, kind: str, period: Period) -> list[Sums]:
    """The tables of one kind of the whole days of a period; none of days that were not told yet, or to fewer than `k`."""
    zone = ZoneInfo(site.time_zone)
    days = [_name(kind, day, zone) for day in analytics.days(period, zone) if _is_whole(day, zone)]
    with reader.reading() as connection:
        number, found = reader.site_number(connection, site.name), list[str]()
        for first in range(0, len(days), 500):
            chosen = RELEASED.c.site_id == number, RELEASED.c.what.in_(days[first : first + 500])
            found += connection.execute(select(RELEASED.c.content).where(*chosen).order_by(RELEASED.c.what)).scalars()
    return [content["table"] for content in map(json.loads, found) if content["k"] >= site.k]


def release(store: Store, site: Site, *, now: datetime) -> int:
    """Tell the detail of the days whose visits are revised no more, and of which none was told; returns how many days."""
    zone, span = ZoneInfo(site.time_zone), store.span(site.name)
    settled = now - timedelta(hours=site.reentry_h, seconds=WINDOW_S)
    if site.k == 1 or span is None or settled <= span[0]:
        return 0
    first = analytics.midnight(span[0].astimezone(zone).date(), zone)
    with store.reading() as connection:
        number = store.site_number(connection, site.name)
        there = set(connection.execute(select(RELEASED.c.what).where(RELEASED.c.site_id == number)).scalars())
    days = [day for day in analytics.days(Period(first, settled), zone) if _is_whole(day, zone)]
    new = [day for day in days if _name(KINDS[0], day, zone) not in there]
    for day in new:
        tables = tables_of(store, site, day)
        rows = [
            {
                "site_id": number,
                "what": _name(kind, day, zone),
                "at": now,
                "content": json.dumps({"k": site.k, "table": tables[kind]}, separators=(",", ":")),
            }
            for kind in KINDS
        ]
        with store.writing() as connection:
            connection.execute(insert(RELEASED), rows)
    return len(new)


def tables_of(store: StoreReader, site: Site, day: Period) -> dict[str, Sums]:
    """What is told of a day, of each kind."""
    shoppers, _ = without_staff(site, store.rows(site.name, doors=site.doors, since=day.start, until=day.end))
    rows, k = analytics.of_period(shoppers, day), site.k
    names = _classes(rows, k)
    groups = Counter(len(group) for group in analytics.groups(shoppers, day))
    dwelt = _dwell(rows, names, k)
    return {
        "ways": dict(Counter(json.dumps(names[row.visit]) for row in rows if row.visit in names)),
        "dwell": dwelt,
        "came": _came(rows, dwelt, site),
        "groups": {str(size): often for size, often in privacy.sizes_told(groups, k=k).items()},
        "heat": {
            view: found
            for view in (FLOOR, *(camera.name for camera in site.cameras))
            if (found := _heat(store, site, rows, day, view))
        },
    }


def _classes(rows: Sequence[VisitRow], k: int) -> dict[str, tuple[Way, Way]]:
    """Under which cameras and zones each visit is told: by its zones first, and then by the cameras of those alike."""
    by_zone = privacy.classes(Counter(analytics.by_zone(row) for row in rows), k=k)
    found: dict[str, tuple[Way, Way]] = {}
    for zones in sorted(set(by_zone.values())):
        alike = [row for row in rows if by_zone.get(analytics.by_zone(row)) == zones]
        cameras = privacy.classes(Counter(row.cameras for row in alike), k=k)
        found |= {row.visit: (cameras[row.cameras], zones) for row in alike}
    return found


def _dwell(rows: Sequence[VisitRow], names: dict[str, tuple[Way, Way]], k: int) -> Sums:
    """The stays in each zone: of the visits whose way as it is told has the zone, and of the others if these are enough."""
    stays = {row.visit: list(analytics.dwelt(row)) for row in rows if row.visit in names}
    rest = [visit for visit in stays if privacy.REST in names[visit][1]]
    found: Sums = {}
    for zone in sorted({zone for of in stays.values() for zone, _ in of}):
        said = [visit for visit in stays if zone in names[visit][1]]
        others = [visit for visit in rest if visit not in said and any(zone == each for each, _ in stays[visit])]
        unsaid = [visit for visit in rest if visit not in said]
        counted = said + (others if privacy.split_well(len(others), len(unsaid), k=k) else [])
        if privacy.enough(len(counted), k=k):
            seconds = sorted(round(s) for visit in counted for each, s in stays[visit] if each == zone)
            found[zone] = {"visits": len(counted), "seconds": seconds}
    return found


def _came(rows: Sequence[VisitRow], dwelt: Sums, site: Site) -> Sums:
    """How long the visits took that dwelt in a zone and that a door saw, where that tells no more than `dwelt` does."""
    came = analytics.through_doors(rows) if site.doors else rows
    found: Sums = {}
    for zone in dwelt:
        mine = [row for row in came if zone in analytics.by_zone(row)]
        if mine and privacy.split_well(len(mine), max(len(mine), dwelt[zone]["visits"]), k=site.k):
            found[zone] = {"visits": len(mine), "seconds": sorted(round(analytics.duration_s(row)) for row in mine)}
    return found


def _heat(store: StoreReader, site: Site, rows: Sequence[VisitRow], day: Period, view: str) -> Sums | None:
    """How long people stood in each part of a camera's picture or of the floor, and how many visits."""
    camera = None if view == FLOOR else view
    laid = grid.laid(site, camera)
    walks = store.walks(site.name, camera=camera, since=day.start, until=day.end)
    if laid is None or not walks:
        return None
    area, cells = laid
    seconds, people = grid.trodden(rows, walks, day, cells=cells, area=area, camera=camera)
    few = people < site.k
    return {
        "rows": cells[1],
        "columns": cells[0],
        "seconds": np.where(few, 0, seconds.round()).astype(int).ravel().tolist(),
        "visits": np.where(few, 0, people).ravel().tolist(),
        "few": int(((people > 0) & few).sum()),
        "people": len(rows),
    }


def _is_whole(day: Period, zone: ZoneInfo) -> bool:
    date = day.start.astimezone(zone).date()
    return day.start == analytics.midnight(date, zone) and day.end == analytics.midnight(date + timedelta(days=1), zone)


def _name(kind: str, day: Period, zone: ZoneInfo) -> str:
    return f"{kind} {day.start.astimezone(zone).date()}"
