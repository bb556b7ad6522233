"""A served shop over time: memory of each process, and what was counted beside the truth.

    python benchmarks/serve.py --minutes 60

`passerby serve --loop` plays the bundled sample shop's four cameras again and again. A row a minute: memory of the main process
and of the vision worker (PSS: what is theirs alone, and their share of what several use), how late the newest frame is, and the
entries and exits of the frames played so far, found and true. At the end memory's growth by the hour, a line fitted to the
second half. The machine need not be quiet: what is slow lags, and no frame of a recording is left out.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from passerby.service.store import StoreReader
from passerby.simulate.scene import ATLAS
from passerby.site import load_site
from passerby.vision.playing import BETWEEN_S
from passerby.vision.video import frames

SITE = ATLAS.with_name("sample") / "site.toml"


def memory_mb(pid: int) -> float:
    """What a process uses, in MB: its own and its share of what others use, too (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"process {pid}: its memory cannot be read")


class Truth:
    """When people truly went through the door, in seconds from the film's beginning, and how many frames one playing has."""

    def __init__(self, rate: float) -> None:
        site = load_site(SITE)
        camera = site.cameras[0]
        assert camera.begins is not None
        self._rate = rate
        self.frames = sum(1 for _ in frames(site.source(camera), camera=camera.name, begins=camera.begins, rate=rate))
        rows = [json.loads(line) for line in (SITE.parent / "truth" / "entries.jsonl").read_text().splitlines()]
        self._at = [
            ((datetime.fromisoformat(row["at"]) - camera.begins).total_seconds(), row["inwards"]) for row in rows
        ]

    def counted(self, played: int) -> tuple[int, int]:
        """Entries and exits in the first `played` frames."""
        loops, rest = divmod(played, self.frames)
        within = [way for at_s, way in self._at if at_s < rest / self._rate]
        ways = [way for _, way in self._at] * loops + within
        return sum(ways), len(ways) - sum(ways)


class Served:
    """The program, its address and its key."""

    def __init__(self, store: Path) -> None:
        words = ["serve", str(SITE), "--store", str(store), "--port", "0", "--loop"]
        self.program = subprocess.Popen([sys.executable, "-m", "passerby", *words], stderr=subprocess.PIPE, text=True)
        assert self.program.stderr is not None
        self.address = self.key = ""
        for line in self.program.stderr:
            if "http://" in line and not self.address:
                self.address = line.rsplit(": ", 1)[1].strip()
            if line.startswith("API key"):
                self.key = line.split()[-1]
            if line.startswith("vision: live"):
                return
        raise SystemExit("the program ended before it was live")

    def now(self) -> dict[str, Any]:  # Any: JSON
        """What the site shows now."""
        request = urllib.request.Request(f"{self.address}/api/v1/live", headers={"X-API-Key": self.key})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))

    def processes(self) -> tuple[int, int]:
        """The main process and the vision worker."""
        pid = self.program.pid
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return pid, int(worker)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    truth = Truth(rate=5.0)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "shop.sqlite"
        served = Served(store)
        began_s = time.monotonic()
        rows = []
        print("minute  main MB  worker MB  lag s  playings  entries (true)  exits (true)  store MB")
        try:
            while (passed_s := time.monotonic() - began_s) < 60 * options.minutes:
                time.sleep(min(60.0, 60 * options.minutes - passed_s))
                minutes, now = (time.monotonic() - began_s) / 60, served.now()
                main_mb, worker_mb = (memory_mb(pid) for pid in served.processes())
                door = now["cameras"][0]
                true = truth.counted(door["frames"])
                rows.append((minutes, main_mb, worker_mb))
                print(
                    f"{minutes:6.1f}  {main_mb:7.0f}  {worker_mb:9.0f}  {door['lag_s'] or 0:5.1f}  "
                    f"{door['frames'] / truth.frames:8.2f}  {now['entries']:7} ({true[0]:4})  {now['exits']:5} ({true[1]:4})  "
                    f"{sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6:8.1f}",
                    flush=True,
                )
        finally:
            served.program.send_signal(signal.SIGTERM)
            served.program.communicate(timeout=60)
        with StoreReader(store) as reader:
            site = load_site(SITE)
            visits = reader.rows(site.name, doors=site.doors)
            crossings = reader.crossings(site.name)
    true = truth.counted(door["frames"])
    entries = sum(crossing.inwards for crossing in crossings)
    print(f"kept: {len(visits)} visits; entries {entries}, exits {len(crossings) - entries};")
    print(f"true by the last row: entries {true[0]}, exits {true[1]}; between two playings {BETWEEN_S:.0f} s pass")
    half = np.array(rows[len(rows) // 2 :])
    if len(half) > 2:
        for name, column in (("main", 1), ("worker", 2)):
            slope = np.polyfit(half[:, 0], half[:, column], 1)[0]
            print(f"{name}: {half[-1, column]:.0f} MB, growing by {60 * slope:+.0f} MB an hour in the second half")


if __name__ == "__main__":
    main()
