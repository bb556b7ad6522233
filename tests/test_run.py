"""A site that is served: its process tree, started, killed, stopped and started again; on recordings with real networks."""

import fcntl
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from passerby.service import kept
from passerby.service.run import serve, wait_of
from passerby.service.store import Store, StoreReader
from passerby.simulate.scene import ATLAS
from passerby.site import Camera, Site, load_site
from passerby.types import PasserbyError, StoreError
from passerby.vision.video import ClipWriter, timed_pictures
from test_auth import certificate

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from loopback import HttpCamera

SAMPLE = ATLAS.with_name("sample")
PATIENCE_S = 200.0
FPS = 12


def short_site(folder, cameras, since_s, until_s):
    """The sample shop's site, with a part of its film for some of its cameras."""
    folder.mkdir()
    lines, keep = [], True
    for block in (SAMPLE / "site.toml").read_text().split("\n\n"):
        if block.startswith("[[cameras]]"):
            keep = any(f'name = "{camera}"' in block for camera in cameras)
        if keep or not block.startswith("[[cameras]]"):
            lines.append(block)
    (folder / "site.toml").write_text("\n\n".join(lines))
    for camera in cameras:
        clip = None
        for at_s, picture in timed_pictures(SAMPLE / f"{camera}.mp4"):
            if since_s <= at_s < until_s:
                if clip is None:
                    height, width = picture.shape[:2]
                    clip = ClipWriter(folder / f"{camera}.mp4", width=width, height=height, fps=FPS, crf=18)
                clip.write(picture)
        assert clip is not None
        clip.__exit__(None, None, None)
    return folder / "site.toml"


class Program:
    """`passerby serve` in a process of its own; what it says is read by a thread."""

    def __init__(self, site, store, *words):
        self.lines = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "passerby", "serve", str(site), "--store", str(store), "--port", "0", *words],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self.lines.append("(ended)")
            self._changed.notify_all()
        self.process.stderr.close()

    def wait(self, said, *, after=0):
        """The first line that has `said` in it."""
        with self._changed:
            found = lambda: next((line for line in self.lines[after:] if said in line), None)  # noqa: E731
            self._changed.wait_for(lambda: found() or "(ended)" in self.lines, PATIENCE_S)
            assert found(), self.lines
            return found()

    @property
    def address(self):
        return self.wait("http://").split(": ", 1)[1]

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code


@contextmanager
def serving(site, store, *words):
    program = Program(site, store, *words)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.stop(signal.SIGKILL)


def asked(address, path, key=""):
    request = urllib.request.Request(address + path, headers={"X-API-Key": key} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return json.load(refused)


def children(pid):
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def until(what):
    """Wait until something is so."""
    for _ in range(int(PATIENCE_S / 0.1)):
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come to be so")


# What is refused before anything begins


def test_a_port_that_is_taken_is_said_and_nothing_is_begun(tmp_path):
    site = Site("shop", (Camera("door", "door.mp4"),))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PasserbyError, match=rf"port {port}: cannot be listened at \(Address already in use\)"):
            serve(site, tmp_path / "shop.sqlite", port=port)
    assert not (tmp_path / "shop.sqlite").exists()


def test_a_store_that_another_process_writes_to_is_refused_with_its_number(tmp_path):
    site = Site("shop", (Camera("door", "door.mp4"),))
    with (
        Store(tmp_path / "shop.sqlite"),
        pytest.raises(StoreError, match=f"process {os.getpid()} writes to it already"),
    ):
        serve(site, tmp_path / "shop.sqlite", port=0)


def test_live_cameras_and_recordings_are_not_served_together(tmp_path):
    site = Site("shop", (Camera("door", "door.mp4"), Camera("till", "rtsp://10.0.0.7/x")))
    with pytest.raises(PasserbyError, match="expected live cameras or recordings, got both"):
        serve(site, tmp_path / "shop.sqlite", port=0)


def test_a_part_that_fails_again_and_again_waits_longer_and_a_minute_at_most():
    assert [wait_of(tries) for tries in (0, 1, 2, 3, 6, 100)] == [1, 2, 4, 8, 60, 60]


def test_a_certificate_without_its_key_and_a_proxy_that_is_no_address_are_refused_before_anything_begins(tmp_path):
    site = Site("shop", (Camera("door", "door.mp4"),))
    for said, words in (
        ("cert.pem", {"tls": (tmp_path / "cert.pem", tmp_path / "key.pem")}),
        ("expected an address or a network", {"trusted_proxies": ["proxy"]}),
    ):
        with pytest.raises(PasserbyError, match=said):
            serve(site, tmp_path / "shop.sqlite", port=0, **words)
    assert not (tmp_path / "shop.sqlite").exists()


# The process tree


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A few seconds of one camera, for tests of the processes."""
    return short_site(tmp_path_factory.mktemp("quiet") / "site", ["entrance"], 0, 6)


@pytest.mark.slow
def test_health_is_that_data_flows_and_a_killed_worker_is_started_again(quiet, tmp_path):
    with serving(quiet, tmp_path / "shop.sqlite", "--loop") as program:
        program.wait("vision: live")
        until(lambda: asked(program.address, "/health")["status"] == "ok")
        (worker,) = children(program.process.pid)
        said = len(program.lines)
        os.kill(worker, signal.SIGKILL)
        assert "vision: failed: its process ended unexpectedly; it is started again in 1 s" in program.wait(
            "vision: failed"
        )
        program.wait("vision: live", after=said)
        until(lambda: asked(program.address, "/health")["status"] == "ok")
        assert children(program.process.pid) != [worker]
        assert program.stop() == 0
    with StoreReader(tmp_path / "shop.sqlite") as reader:
        assert {sighting.state for sighting in reader.sightings("sample")} <= {"closed", "withdrawn"}


@pytest.mark.slow
def test_the_first_start_shows_a_key_and_no_later_one_does_and_nothing_is_answered_without_it(quiet, tmp_path):
    with serving(quiet, tmp_path / "shop.sqlite") as program:
        key = program.wait("API key, shown this once: ").rpartition(" ")[2]
        program.wait("web: live")
        assert asked(program.address, "/api/v1/live")["status"] == 401
        assert asked(program.address, "/api/v1/live", key)["site"] == "sample"
        assert program.stop() == 0
    with serving(quiet, tmp_path / "shop.sqlite") as program:
        program.wait("web: live")
        assert asked(program.address, "/api/v1/live", key)["site"] == "sample"
        assert program.stop() == 0
        assert not [line for line in program.lines if "key" in line or key in line]


@pytest.mark.slow
def test_with_a_certificate_the_page_is_served_over_tls_alone(quiet, tmp_path):
    cert, key = certificate(tmp_path)
    with serving(quiet, tmp_path / "shop.sqlite", "--tls-cert", str(cert), "--tls-key", str(key)) as program:
        address = program.wait("https://").split(": ", 1)[1]
        program.wait("web: live")
        trusting = ssl.create_default_context(cafile=cert)
        with urllib.request.urlopen(address + "/login", timeout=PATIENCE_S, context=trusting) as answer:
            assert answer.headers["strict-transport-security"]
        with pytest.raises(OSError, match=r"."):
            urllib.request.urlopen(address.replace("https", "http") + "/login", timeout=PATIENCE_S)
        assert program.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_all_ends_in_order_also_while_a_stream_of_events_is_open(quiet, tmp_path, how):
    with serving(quiet, tmp_path / "shop.sqlite", "--loop") as program:
        program.wait("vision: live")
        workers = children(program.process.pid)
        key = program.wait("API key, shown this once: ").rpartition(" ")[2]
        request = urllib.request.Request(program.address + "/api/v1/events", headers={"X-API-Key": key})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as stream:
            assert stream.readline().startswith(b"event: state")
            assert program.stop(how) == 0
        assert (tmp_path / "shop.sqlite.vault" / "snapshot").stat().st_size > 0  # from which the next run goes on
        with (tmp_path / "shop.sqlite.lock").open() as lock:  # and nobody holds the store
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert "Stopping: what is open is closed and kept" in program.lines
        assert "vision: stopped: passerby was stopped" in program.lines
        assert not any(is_alive(worker) for worker in workers)
    with StoreReader(tmp_path / "shop.sqlite") as reader:
        assert {sighting.state for sighting in reader.sightings("sample")} <= {"closed", "withdrawn"}
        assert [gap.reason for gap in kept.gaps(reader, "sample") if gap.kind == "down"] == [
            "entrance: passerby was stopped"
        ]


@pytest.mark.slow
def test_recordings_that_cannot_be_read_are_said_and_tried_again(quiet, tmp_path):
    site = tmp_path / "site.toml"
    site.write_text(quiet.read_text())
    with serving(site, tmp_path / "shop.sqlite") as program:
        assert "entrance.mp4: cannot be read as a video" in program.wait("vision: failed")
        (tmp_path / "entrance.mp4").write_bytes((quiet.parent / "entrance.mp4").read_bytes())
        program.wait("vision: live")
        program.wait("vision: stopped: the recordings have ended")
        assert asked(program.address, "/health")["status"] == "failed"
        assert program.stop() == 0


@pytest.mark.slow
def test_a_live_camera_that_is_gone_is_a_gap_and_an_alert_while_the_other_goes_on(tmp_path):
    cameras = {name: HttpCamera("mjpeg") for name in ("door", "till")}
    lines = ['name = "live"']
    for name, camera in cameras.items():
        lines += ["[[cameras]]", f'name = "{name}"', f'source = "{camera.address}"']
    (tmp_path / "site.toml").write_text("\n".join(lines))

    def gaps():
        with StoreReader(tmp_path / "shop.sqlite") as reader:
            return [gap for gap in kept.gaps(reader, "live") if (gap.kind, gap.camera) == ("down", "door")]

    try:
        with serving(tmp_path / "site.toml", tmp_path / "shop.sqlite") as program:
            key = program.wait("API key, shown this once: ").rpartition(" ")[2]
            until(lambda: asked(program.address, "/health")["status"] == "ok")
            cameras["door"].down()
            (gap,) = until(gaps)
            assert gap.end is None
            now = until(lambda: (now := asked(program.address, "/api/v1/live", key))["alerts"] and now)
            assert "camera: door" in [alarm["name"] for alarm in now["alerts"]]
            assert now["cameras"][0]["phase"] != "live"
            cameras["door"].up()
            (gap,) = until(lambda: [gap for gap in gaps() if gap.end is not None])
            assert gap.end - gap.start >= timedelta(seconds=10)
            assert program.stop(signal.SIGINT) == 0
    finally:
        for camera in cameras.values():
            camera.down()
    assert [gap.reason for gap in gaps() if gap.end is None] == ["door: passerby was stopped"]


# From pixels


@pytest.mark.slow
def test_the_sample_shop_served_with_a_kill_in_the_middle_gives_the_truths_entries_and_exits(tmp_path):
    cameras, store, site = ["entrance", "checkout"], tmp_path / "shop.sqlite", load_site(SAMPLE / "site.toml")
    truth = [json.loads(line) for line in (SAMPLE / "truth" / "entries.jsonl").read_text().splitlines()]
    seconds = [
        ((datetime.fromisoformat(e["at"]) - site.cameras[0].begins).total_seconds(), e["inwards"]) for e in truth
    ]
    expected = [inwards for at_s, inwards in sorted(seconds) if 70 <= at_s < 111]
    assert expected == [False, True, False, True, True, False]

    def crossings():
        with suppress(StoreError), StoreReader(store) as reader:
            return [crossing.inwards for crossing in reader.crossings("sample")]
        return []

    with serving(short_site(tmp_path / "first", cameras, 70, 91), store) as program:
        until(lambda: crossings() == expected[:2])
        workers = children(program.process.pid)
        program.stop(signal.SIGKILL)  # at once, while people stand about
        until(lambda: not any(is_alive(worker) for worker in workers))
    with serving(short_site(tmp_path / "second", cameras, 91, 111), store) as program:
        program.wait("vision: stopped: the recordings have ended")
        assert program.stop() == 0
    assert sorted(crossings()) == sorted(expected)
    with StoreReader(store) as reader:
        sightings, visits = reader.sightings("sample"), reader.visits("sample")
        assert {sighting.state for sighting in sightings} <= {"closed", "withdrawn"}
        assert len({sighting.key.session for sighting in sightings}) == 2
        assert all(visit.final for visit in visits)
        gaps = [gap for gap in kept.gaps(reader, "sample") if gap.kind == "down"]
        assert sorted((gap.camera, gap.reason) for gap in gaps if gap.end is not None) == [
            ("checkout", "checkout: passerby was not running"),
            ("entrance", "entrance: passerby was not running"),
        ]
