"""Who is told of changes: a real HTTP receiver and a real MQTT server hear them, whatever fails on the way."""

import asyncio
import hmac
import json
import logging
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import aiomqtt
import pytest

from passerby.service import outlets as room
from passerby.service.live import Alarm, CameraState, Live, Part
from passerby.service.outlets import Message, Outlet, Outlets, Queue
from passerby.site import Alert, Camera, LineSite, Mqtt, Site, Webhook, ZoneSite, load_site
from passerby.types import ConfigError
from passerby.vision.associate import Changes
from test_store import START, seen

SECRET = "a-long-secret"
SHOP = Site(
    "shop",
    (Camera("door", "door.mp4"),),
    time_zone="Europe/Paris",
    zones=(ZoneSite("Käse", ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9)), "door"),),
    lines=(LineSite("entry", (0.2, 0.5), (0.8, 0.5), "door"),),
    alerts=(Alert("too many", above=5),),
)
FULL, OVER = Alarm("too many", True, "too many: 6 people", START), Alarm("too many", False, "too many: over", START)
DOOR = CameraState("door", "live", "frames come", START, START, 5.0, 0.4, 10, 0, 0, 0)


def until(met, *, what="it"):
    """Wait for something that other threads bring about."""
    for _ in range(1000):
        if found := met():
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come about in 10 s")


class Receiver:
    """Receives webhooks: answers as it is told to, then 204, and keeps what it took."""

    def __init__(self):
        self.answers, self.taken, self.tried = [], [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.answers.pop(0) if receiver.answers else 204
                receiver.tried.append(status)
                if status < 300:
                    receiver.taken.append((dict(self.headers), body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/token-in-the-path"
        self.thread = Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def said(self):
        return [json.loads(body) for _, body in self.taken]


@pytest.fixture
def receiver():
    opened = Receiver()
    yield opened
    opened.close()


@pytest.fixture
def live():
    return Live(SHOP, clock=lambda: START)


@contextmanager
def telling(tmp_path, live, *, waits=None, webhooks=(), mqtt=None):
    """Outlets that run, and do not really wait before they try again; `waits` keeps for how long they would have."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")

    async def slept(seconds):
        if waits is not None:
            waits.append(seconds)
        await asyncio.sleep(0.01)

    site = replace(SHOP, webhooks=webhooks, mqtt=mqtt)
    object.__setattr__(site, "folder", tmp_path)
    outlets = Outlets(site, live, clock=lambda: START, sleep=slept)
    outlets.start()
    until(lambda: live.listeners, what="a listener")
    yield outlets
    live.close()
    outlets.stop(timeout_s=10)


# Webhooks


def test_an_alert_is_posted_signed_and_by_the_site_s_clock(tmp_path, live, receiver):
    with telling(tmp_path, live, webhooks=(Webhook(receiver.url, "secret"),)) as outlets:
        live.alert(FULL)
        until(lambda: receiver.taken)
        until(lambda: outlets.states()[0].sent == 1)
    (headers, body), said = receiver.taken[0], receiver.said()[0]
    assert (said["kind"], said["site"], said["at"]) == ("alert", "shop", "2026-03-02T11:00:00+01:00")
    assert said["data"]["text"] == "too many: 6 people"
    assert said["id"] == headers["Passerby-Id"]
    stamp = headers["Passerby-Timestamp"]
    assert datetime.fromtimestamp(int(stamp), UTC) == START
    by_hand = hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, sha256).hexdigest()
    assert headers["Passerby-Signature"] == f"v1={by_hand}"


def test_only_the_events_that_are_asked_for_are_posted(tmp_path, live, receiver):
    hook = Webhook(receiver.url, "secret", events=("crossing", "camera"))
    with telling(tmp_path, live, webhooks=(hook,)):
        live.alert(FULL)
        live.part(Part("vision", "live", "works", START))
        live.cameras([DOOR])
        live.cameras([replace(DOOR, frames=20)])  # nothing that anybody has to hear
        live.tell([seen("door", 0, 9, crossings=[("entry", 2, True)])], Changes())
        until(lambda: len(receiver.taken) == 2)
    assert [said["kind"] for said in receiver.said()] == ["camera", "crossing"]
    assert receiver.said()[1]["data"]["inwards"] is True


def test_what_fails_is_tried_again_with_longer_and_longer_waits_and_in_order(tmp_path, live, receiver):
    receiver.answers, waits = [500, 503, 429, 204], []
    with telling(tmp_path, live, webhooks=(Webhook(receiver.url, "secret"),), waits=waits) as outlets:
        live.alert(FULL)
        live.alert(OVER)
        until(lambda: len(receiver.taken) == 2)
        (state,) = until(lambda: [s for s in outlets.states() if s.sent == 2])
    assert [said["data"]["on"] for said in receiver.said()] == [True, False]
    assert receiver.tried == [500, 503, 429, 204, 204]
    assert waits == [1, 2, 4]
    assert (state.retried, state.failed, state.phase) == (3, 0, "live")


def test_what_is_refused_for_good_is_given_up_at_once_and_counted(tmp_path, live, receiver, caplog):
    receiver.answers = [404]
    with telling(tmp_path, live, webhooks=(Webhook(receiver.url, "secret"),)) as outlets:
        live.alert(FULL)
        live.alert(OVER)
        until(lambda: receiver.taken)
        (state,) = until(lambda: [s for s in outlets.states() if s.sent == 1])
    assert (receiver.tried, state.failed) == ([404, 204], 1)
    assert "127.0.0.1 (1): answered 404" in caplog.text


def test_a_receiver_that_is_not_there_stalls_its_outlet_and_no_other(tmp_path, live, receiver):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/"
    hooks = (Webhook(nobody, "secret"), Webhook(receiver.url, "secret"))
    with telling(tmp_path, live, webhooks=hooks) as outlets:
        live.alert(FULL)
        until(lambda: receiver.taken)
        gone, there = until(lambda: s if (s := outlets.states())[0].failed and s[1].sent else None)
    assert (gone.phase, gone.retried) == ("stalled", room.TRIES - 1)
    assert gone.reason == "cannot be reached: ConnectError"
    assert there.phase == "live"


def test_neither_the_secret_nor_the_address_of_a_webhook_is_written_down(tmp_path, live, receiver, caplog):
    caplog.set_level(logging.DEBUG, logger="passerby")
    caplog.set_level(logging.INFO)
    receiver.answers = [500, 404]
    with telling(tmp_path, live, webhooks=(Webhook(receiver.url, "secret"),)) as outlets:
        live.alert(FULL)
        until(lambda: outlets.states()[0].failed)
        said = repr(outlets.states()) + caplog.text
    assert SECRET not in said
    assert "token-in-the-path" not in said


def queued(outlet, *kinds):
    queue = Queue(outlet)
    for number, kind in enumerate(kinds):
        queue.put(Message(str(number), kind, START, {}))
    return queue


def drained(queue, count):
    async def taken():
        return [(await queue.get()).id for _ in range(count)]

    return asyncio.run(taken())


def test_of_too_many_that_wait_the_oldest_are_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(room, "WAITING", 2)
    outlet = Outlet("hook", "webhook")
    queue = queued(outlet, "alert", "alert", "alert")
    assert (outlet.dropped, outlet.waiting) == (1, 2)
    assert drained(queue, 2) == ["1", "2"]
    assert outlet.waiting == 0


def test_of_counts_that_wait_only_the_newest_are_told():
    outlet = Outlet("hook", "webhook")
    assert drained(queued(outlet, "counts", "alert", "counts", "counts"), 2) == ["1", "3"]
    assert outlet.dropped == 0


# MQTT


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory):
    """A server that only "shop" with the password may use: its port, how it is stopped, and how it is started again."""
    program = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if program is None:
        pytest.skip("needs mosquitto: apt-get install mosquitto")
    folder = tmp_path_factory.mktemp("mosquitto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    passwords = folder / "passwords"
    tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    subprocess.run([tool, "-b", "-c", passwords, "shop", SECRET], check=True, capture_output=True)
    (folder / "conf").write_text(f"listener {port} 127.0.0.1\npassword_file {passwords}\nuser root\n")
    running = []

    def start():
        running.append(subprocess.Popen([program, "-c", folder / "conf"], stderr=subprocess.DEVNULL))

        def answers():
            with socket.socket() as tried:
                return tried.connect_ex(("127.0.0.1", port)) == 0

        until(answers, what="mosquitto")

    def stop():
        running[-1].terminate()
        running.pop().wait(10)

    start()
    yield port, stop, start
    while running:
        stop()


def hears(port, count, *topics, done=lambda found: False):
    """What an MQTT server has to say to a subscriber, by topic."""

    async def listening():
        found = {}
        async with aiomqtt.Client("127.0.0.1", port, username="shop", password=SECRET) as client:
            for topic in topics:
                await client.subscribe(topic, qos=1)
            async for message in client.messages:
                found[str(message.topic)] = message.payload.decode()
                if len(found) >= count or done(found):
                    return found
        return found

    return asyncio.run(asyncio.wait_for(listening(), 20))


def server(port):
    return Mqtt("127.0.0.1", port, username="shop", password_file="secret")


def test_home_assistant_hears_what_there_is_and_how_it_is_now(tmp_path, live, mosquitto):
    port, _, _ = mosquitto
    live.tell([seen("door", 0, 9, crossings=[("entry", 2, True)])], Changes())
    live.cameras([DOOR])
    live.alert(FULL)
    with telling(tmp_path, live, mqtt=server(port)):
        found = hears(port, 10, "homeassistant/#", "passerby/#")  # six things, counts, a camera, an alert, the status
        live.alert(OVER)
        off = hears(port, 9, "passerby/shop/alert/#", done=lambda found: '"on": false' in str(found))
    things = {topic.split("/")[3]: json.loads(text) for topic, text in found.items() if topic.startswith("home")}
    zone = room.slug("Käse")
    assert set(things) == {
        "occupancy",
        "entries",
        "exits",
        f"zone_{zone}",
        "camera_door",
        f"alert_{room.slug('too many')}",
    }
    assert things["occupancy"]["state_topic"] == "passerby/shop/counts"
    assert things["occupancy"]["availability_topic"] == "passerby/shop/status"
    assert len({thing["unique_id"] for thing in things.values()}) == 6
    counts = json.loads(found["passerby/shop/counts"])
    assert (counts["occupancy"], counts["entries"], counts["zones"]) == (1, 1, {zone: 0})
    assert json.loads(found["passerby/shop/camera/door"])["newest"] == "2026-03-02T11:00:00+01:00"
    assert found["passerby/shop/status"] == "online"
    (alert,) = off.values()
    assert json.loads(alert)["text"] == "too many: over"
    assert hears(port, 1, "passerby/shop/status") == {"passerby/shop/status": "offline"}


def test_a_server_that_goes_and_comes_hears_what_it_missed(tmp_path, live, mosquitto):
    port, stop, start = mosquitto
    with telling(tmp_path, live, mqtt=server(port)) as outlets:
        until(lambda: outlets.states()[0].phase == "live")
        stop()
        live.tell([seen("door", 0, 9, crossings=[("entry", 2, True)])], Changes())
        until(lambda: outlets.states()[0].phase == "stalled")
        start()
        found = hears(port, 99, "passerby/shop/counts", done=lambda found: '"entries": 1' in str(found))
    assert json.loads(found["passerby/shop/counts"])["entries"] == 1


def test_a_wrong_password_is_a_state_with_a_reason_that_does_not_name_it(tmp_path, live, mosquitto, caplog):
    port, _, _ = mosquitto
    (tmp_path / "wrong").write_text("another-secret")
    with telling(tmp_path, live, mqtt=replace(server(port), password_file="wrong")) as outlets:
        (state,) = until(lambda: [s for s in outlets.states() if s.retried > 1])
    assert state.phase == "stalled"
    assert "another-secret" not in state.reason + caplog.text
    assert len([record for record in caplog.records if record.name == "passerby"]) == 1  # said once


# The site's file


def test_a_site_s_file_names_webhooks_and_an_mqtt_server(tmp_path):
    (tmp_path / "site.toml").write_text(
        'name = "shop"\n'
        '[[cameras]]\nname = "door"\nsource = "door.mp4"\n'
        '[[webhooks]]\nurl = "https://example.org/hook"\nsecret_file = "hook.secret"\nevents = ["alert", "counts"]\n'
        '[mqtt]\nhost = "broker"\nusername = "shop"\npassword_file = "mqtt.secret"\n'
    )
    site = load_site(tmp_path / "site.toml")
    assert site.webhooks == (Webhook("https://example.org/hook", "hook.secret", ("alert", "counts")),)
    assert site.mqtt == Mqtt("broker", username="shop", password_file="mqtt.secret")
    with pytest.raises(ConfigError, match=r"hook\.secret: expected a secret"):
        Outlets(site, Live(site, clock=lambda: START), clock=lambda: START)
    (tmp_path / "hook.secret").write_text("short")
    with pytest.raises(ConfigError, match="8 characters or more, got 5"):
        Outlets(site, Live(site, clock=lambda: START), clock=lambda: START)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('[[webhooks]]\nurl = "ftp://example.org"\nsecret_file = "s"\n', "begins with https"),
        ('[[webhooks]]\nurl = "https://example.org"\nsecret_file = "s"\nevents = []\n', "an event or more"),
        ('[mqtt]\nhost = "broker"\nport = 0\n', "port of 1 to 65535"),
        ('[mqtt]\nhost = "broker"\npassword_file = "p"\n', "needs a username"),
        ('[mqtt]\nhost = "broker"\nprefix = "shop/#"\n', "expected topics"),
    ],
)
def test_outlets_that_cannot_be_are_refused(tmp_path, lines, message):
    (tmp_path / "site.toml").write_text(f'name = "shop"\n[[cameras]]\nname = "door"\nsource = "door.mp4"\n{lines}')
    with pytest.raises(ConfigError, match=message):
        load_site(tmp_path / "site.toml")


def test_a_site_without_outlets_starts_no_thread(live):
    outlets = Outlets(SHOP, live, clock=lambda: START)
    outlets.start()
    assert live.listeners == 0
    assert outlets.states() == []
    outlets.stop()
