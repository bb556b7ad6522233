"""A served shop over time: memory of each process, and what was counted beside the truth.

    python benchmarks/serve.py --minutes 60
    python benchmarks/serve.py --fed 6

`passerby serve --loop` plays the bundled sample shop's four cameras again and again. A row a minute: memory of the main process
and of the vision worker (PSS: what is theirs alone, and their share of what several use), how late the newest frame is, and the
entries and exits of the frames played so far, found and true. At the end memory's growth by the hour, a line fitted to the
second half. The machine need not be quiet: what is slow lags, and no frame of a recording is left out.

With `--fed` the vision worker watches the clips once. What it said is then given to the main process again and again, as fast
as it takes it: hours in minutes. Each time other people come, as to a shop; with `--same` they are the same each time, as where
a recording is looped: whoever comes back is one person, whose sightings are remembered as long as he keeps coming.
"""

import argparse
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from passerby.service import run
from passerby.service.store import StoreReader
from passerby.shop import Sighting, moved
from passerby.simulate.scene import ATLAS
from passerby.site import load_site
from passerby.vision.playing import BETWEEN_S
from passerby.vision.video import frames
from passerby.vision.worker import Ended, Made, Message, Shown, Task

SITE = ATLAS.with_name("sample") / "site.toml"
BEGINS = datetime(2026, 3, 2, tzinfo=UTC)
TRACKS = 10_000  # more than there are in one playing
ROW_S = 600.0


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


def said_once() -> list[tuple[float, bytes]]:
    """What the vision worker says of one playing: each message, pickled, and the film's time at which it came, in seconds."""
    vision = run.Vision(Task(load_site(SITE)), say=lambda phase, reason: None, lose=lambda phase, reason: None)
    found: list[tuple[float, bytes]] = []
    began: datetime | None = None
    at_s = 0.0
    while True:
        vision.look_after(time.monotonic())
        for message in vision.messages(timeout_s=0.2):
            if isinstance(message, Ended):
                assert message.error is None, message.error
                return found
            if isinstance(message, Made):
                began = began or message.at
                at_s = (message.at - began).total_seconds()
                message = replace(message, sightings=tuple(later(each, BEGINS - began) for each in message.sightings))
                message = replace(message, at=BEGINS + timedelta(seconds=at_s))
            found.append((at_s, pickle.dumps(message)))


def later(sighting: Sighting, by: timedelta, *, track: int = 0, turned: int = 0) -> Sighting:
    """A sighting that was so much later, of another track; with `turned`, of somebody else."""
    vectors = sighting.prototypes
    if turned and len(vectors):  # an orthogonal map: those of one playing are as alike as before
        chance = np.random.default_rng(turned)
        vectors = vectors[:, chance.permutation(vectors.shape[1])]
        vectors = vectors * chance.choice(np.array([-1, 1], np.float32), vectors.shape[1])
    key = sighting.key._replace(track=sighting.key.track + track)
    return replace(moved(sighting, by), key=key, prototypes=vectors)


class Fed:
    """In place of `run.Vision`: says what was said once, again and again, and keeps the time of what it says."""

    def __init__(self, said: Sequence[tuple[float, bytes]], hours: float, *, same: bool) -> None:
        self.told_s, self.stopped = 0.0, threading.Event()
        self._said, self._until_s, self._same = said, hours * 3600, same
        self._coming = self._messages()
        self.rows: list[tuple[float, float]] = []

    def look_after(self, now_s: float) -> None:
        """Nothing to start."""

    def messages(self, *, timeout_s: float) -> Iterator[Message]:
        """The next one."""
        yield next(self._coming)

    def stop(self, *, timeout_s: float) -> Iterator[Message]:
        """Nothing more."""
        return iter(())

    def _messages(self) -> Iterator[Message]:
        playing, took_s = 0, time.process_time()
        each_s = self._said[-1][0] + BETWEEN_S
        while True:
            for at_s, packed in self._said:
                self.told_s = playing * each_s + at_s
                yield self._now(pickle.loads(packed), timedelta(seconds=playing * each_s), playing)
                if self.told_s >= (len(self.rows) + 1) * ROW_S:
                    self.rows.append((self.told_s / 60, memory_mb(os.getpid())))
                    print(
                        f"{self.rows[-1][0]:6.0f}  {self.rows[-1][1]:7.0f}  {time.process_time() - took_s:11.0f}",
                        flush=True,
                    )
                    took_s = time.process_time()
                if self.told_s >= self._until_s:
                    self.stopped.set()
            playing += 1

    def _now(self, message: Message, by: timedelta, playing: int) -> Message:
        if isinstance(message, Made):
            turned = 0 if self._same else playing
            made = (later(each, by, track=playing * TRACKS, turned=turned) for each in message.sightings)
            return Made(message.at + by, tuple(made))
        if isinstance(message, Shown):
            return replace(message, at=BEGINS + timedelta(seconds=self.told_s))
        if isinstance(message, tuple):
            at = BEGINS + timedelta(seconds=self.told_s)
            return tuple(replace(each, state=replace(each.state, newest=at)) for each in message)
        return message


def feed(hours: float, *, same: bool) -> None:
    """Print the main process's memory over hours that are told in minutes."""
    fed = Fed(said_once(), hours, same=same)
    # the worker is left out, and what is done now and then is done by the time that is told; all else is as it is
    vars(run).update(Vision=lambda task, say, lose: fed, time=SimpleNamespace(monotonic=lambda: fed.told_s))
    print("minute  main MB  processor s")
    with tempfile.TemporaryDirectory() as folder:
        run.serve(
            load_site(SITE),
            Path(folder) / "shop.sqlite",
            port=0,
            stopped=fed.stopped,
            clock=lambda: BEGINS + timedelta(seconds=fed.told_s),
        )
    grown(fed.rows, "main")


def grown(rows: Sequence[tuple[float, float]], name: str) -> None:
    """Print memory's growth: a line fitted to the second half of (minute, MB)."""
    half = np.array(rows[len(rows) // 2 :])
    if len(half) > 2:
        slope = np.polyfit(half[:, 0], half[:, 1], 1)[0]
        print(f"{name}: {half[-1, 1]:.0f} MB, growing by {60 * slope:+.0f} MB an hour in the second half")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--fed", type=float, metavar="HOURS", help="hours that are told as fast as they are taken")
    parser.add_argument("--same", action="store_true", help="with --fed: the same people come each time")
    options = parser.parse_args()
    if options.fed:
        feed(options.fed, same=options.same)
        return
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
    for name, column in (("main", 1), ("worker", 2)):
        grown([(row[0], row[column]) for row in rows], name)


if __name__ == "__main__":
    main()
