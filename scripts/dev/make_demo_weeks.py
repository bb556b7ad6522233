"""Make the three simulated weeks that lie behind the sample shop's day: simulated sightings, linked by the real associator.

python scripts/dev/make_demo_weeks.py [FOLDER]: writes sightings (without vectors), visits, links and gaps into
src/passerby/simulate/data/weeks, the same bytes each time.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from passerby.config import load_toml
from passerby.files import write_text
from passerby.reid.calibration import Calibration
from passerby.reid.inference import threshold_of
from passerby.shop import Sighting
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.plan import Arrivals, Shop
from passerby.simulate.recording import record
from passerby.site import load_site
from passerby.vision.parquet import SightingWriter, read_sightings
from passerby.vision.pipeline import associator_of, link_sightings

DATA = Path(__file__).parents[2] / "src" / "passerby" / "simulate" / "data"
FIRST = datetime(2026, 2, 9, tzinfo=UTC)  # a Monday, three weeks before the sample shop's day
DAYS, OPENS, HOURS = 21, 9, 11
PARTIES = np.array([12.0, 16, 22, 30, 34, 26, 22, 26, 36, 40, 24])  # an hour, on a Monday
WEEKDAYS = (1.0, 0.95, 1.0, 1.1, 1.25, 1.5)  # to Saturday; Sundays are closed
OUTAGES = {  # day, camera: from and to, in seconds from opening
    (10, "aisle 2"): (5.0 * 3600, 6.5 * 3600),
    (15, "entrance"): (2.2 * 3600, 2.7 * 3600),
}


def shop_of(day: int, plan: Shop) -> Shop:
    """The sample shop on a day, with a real shop's pace: longer looks and slower tills than its film has."""
    per_hour = tuple(float(value) for value in np.round(PARTIES * WEEKDAYS[day % 7] * (1 + 0.03 * (day // 7)), 1))
    zones = tuple(replace(zone, dwell_median_s=25.0 if zone.name == "aisle 1" else 40.0) for zone in plan.zones)
    cameras = tuple(
        replace(camera, outages=(OUTAGES[day, camera.name],)) if (day, camera.name) in OUTAGES else camera
        for camera in plan.cameras
    )
    shoppers = replace(plan.shoppers, stops=(0.45, 0.4, 0.15), bounce=0.08, reenter=0.04, reenter_after_s=900.0)
    return replace(
        plan,
        opens=FIRST + timedelta(days=day, hours=OPENS),
        arrivals=Arrivals(per_hour, (0.75, 0.2, 0.05)),
        zones=zones,
        cameras=cameras,
        shoppers=shoppers,
        checkout=replace(plan.checkout, service_s=40.0),
    )


def main(folder: Path) -> None:
    """Simulate, link and write them all."""
    plan, site = load_toml(DATA / "sample_shop.toml", Shop), load_site(DATA / "sample" / "site.toml")
    with TemporaryDirectory() as name:
        work = Path(name)
        days = [day for day in range(DAYS) if day % 7 < len(WEEKDAYS)]
        for day in days:
            shop = shop_of(day, plan)
            record(
                shop,
                DrawnVectors(shop.looks, seed=day, cameras=len(shop.cameras)),
                work / str(day),
                seed=day,
                duration_s=HOURS * 3600.0,
            )
            print(shop.opens.date(), flush=True)

        def everyone() -> Iterator[Sighting]:
            for day in days:
                yield from read_sightings(work / str(day) / "sightings.parquet")

        length = next(len(each.prototypes[0]) for each in everyone() if len(each.prototypes))
        with SightingWriter(work / "all.parquet", length=length) as writer:
            for sighting in everyone():
                writer.write(sighting)
        calibration = Calibration.from_dict(json.loads((work / str(days[0]) / "calibration.json").read_text()))
        associator = associator_of(site, calibration=calibration, threshold=threshold_of(None, "visitor-counting"))
        followed = link_sightings(work / "all.parquet", work / "linked", associator, doors=site.doors, revisions=1)
        folder.mkdir(parents=True, exist_ok=True)
        none = np.zeros((0, length), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        with SightingWriter(folder / "sightings.parquet", length=length) as writer:
            for sighting in followed.sightings.values():
                path = sighting.path[:: max(1, len(sighting.path) // 12)].round(1)
                writer.write(
                    replace(sighting, prototypes=none[0], quality=none[1], pictures=none[2], network="", path=path)
                )
        for kind in ("visits", "links"):
            (folder / f"{kind}.parquet").write_bytes((work / "linked" / f"{kind}.parquet").read_bytes())
    gaps = [
        {
            "camera": camera,
            **{
                end: (FIRST + timedelta(days=day, hours=OPENS, seconds=seconds)).isoformat()
                for end, seconds in zip(("start", "end"), times, strict=True)
            },
            "kind": "down",
            "reason": "no frame came",
        }
        for (day, camera), times in OUTAGES.items()
    ]
    write_text(folder / "gaps.json", json.dumps(gaps, indent=1) + "\n")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {len(followed.visits):,} visits, {len(followed.sightings):,} sightings, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "weeks")
