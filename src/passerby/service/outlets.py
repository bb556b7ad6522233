"""Who is told of a site's changes without asking: webhooks, and MQTT for home and building automation. No SQL.

Secrets come from files that the site's file names, and stand in no log, no state and no message.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import re
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import aiomqtt
import httpx

from passerby.service.live import Alarm, Event, Live, Now
from passerby.site import Mqtt, Site, Webhook
from passerby.types import ConfigError

WAITING = 1000  # messages of one outlet; of more the oldest are dropped, and counted
TRIES = 8  # of one message
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0  # before the next try, doubled each time
TIMEOUT_S = 10.0
COUNTS_S = 5.0  # counts are told this often at most, the newest ones
AGAIN = frozenset({408, 425, 429})  # answers, beside 5xx, after which it is tried again
Kind = Literal["counts", "crossing", "camera", "part", "alert"]
Sleep = Callable[[float], Awaitable[None]]

log = logging.getLogger("passerby")


@dataclass(slots=True)
class Outlet:
    """How one outlet is doing: messages `sent`, tries that failed, messages given up (`failed`) and `dropped` unsent."""

    name: str
    kind: Literal["webhook", "mqtt"]
    phase: Literal["starting", "live", "stalled", "stopped"] = "starting"
    reason: str = ""
    sent: int = 0
    retried: int = 0
    failed: int = 0
    dropped: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """What is told: its id never repeats, so that whoever hears it twice knows."""

    id: str
    kind: Kind
    at: datetime
    data: Mapping[str, Any]  # Any: text, numbers, times, lists


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a webhook's header `Passerby-Signature` says: HMAC-SHA256 of the timestamp, a point and the body.

    >>> signature("secret", "1772452800", b"{}")[:20]
    'v1=ed27af7df6d2d5a33'
    """
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


async def messages(events: AsyncIterator[Event]) -> AsyncIterator[Message]:
    """What is told of a stream of events: first counts, then changes; of cameras where their phase or reason changes."""
    cameras: dict[str, tuple[str, str]] = {}
    async for event in events:
        if event.kind == "state":  # the first, or after too many were missed
            cameras = {each["camera"]: (each["phase"], each["reason"]) for each in event.data["cameras"]}
            counts = {name: event.data[name] for name in ("occupancy", "entries", "exits", "seen", "zones")}
            yield Message(event.id, "counts", event.at, counts)
        elif event.kind == "cameras":
            for each in event.data["cameras"]:
                now = each["phase"], each["reason"]
                if cameras.get(each["camera"]) != now:
                    cameras[each["camera"]] = now
                    yield Message(f"{event.id}-{each['camera']}", "camera", event.at, each)
        else:
            yield Message(event.id, event.kind, event.at, event.data)


class Queue:
    """Messages that wait for one outlet: bounded, the newest counts in place of the older ones."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet, self._waiting, self._come = outlet, deque[Message](), asyncio.Event()

    def put(self, message: Message) -> None:
        """Add a message; where too many wait, the oldest is dropped."""
        if message.kind == "counts":
            for old in [each for each in self._waiting if each.kind == "counts"]:
                self._waiting.remove(old)
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self._outlet.dropped += 1
        self._waiting.append(message)
        self._outlet.waiting = len(self._waiting)
        self._come.set()

    async def get(self) -> Message:
        """The oldest message, as soon as there is one; it is taken out."""
        while not self._waiting:
            self._come.clear()
            await self._come.wait()
        message = self._waiting.popleft()
        self._outlet.waiting = len(self._waiting)
        return message


class Outlets:
    """Tells a site's webhooks and its MQTT server, each in its own time, from a thread of its own.

    Raises ConfigError where a file of a secret cannot be read. `states` may be asked from any thread.
    """

    def __init__(self, site: Site, live: Live, *, clock: Callable[[], datetime], sleep: Sleep = asyncio.sleep) -> None:
        self._site, self._live, self._clock, self._sleep = site, live, clock, sleep
        self._zone = ZoneInfo(site.time_zone)
        self._webhooks = [
            (Outlet(_host(hook.url, number), "webhook"), hook, secret_of(site, hook.secret_file))
            for number, hook in enumerate(site.webhooks, 1)
        ]
        self._mqtt = None
        if site.mqtt is not None:
            password = secret_of(site, site.mqtt.password_file) if site.mqtt.password_file else None
            self._mqtt = Outlet(f"{site.mqtt.host}:{site.mqtt.port}", "mqtt"), site.mqtt, password
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def states(self) -> list[Outlet]:
        """How each outlet is doing."""
        every = [outlet for outlet, _, _ in self._webhooks] + ([self._mqtt[0]] if self._mqtt else [])
        return [Outlet(**asdict(outlet)) for outlet in every]

    def start(self) -> None:
        """Begin to tell, where there is anybody to be told."""
        if self._webhooks or self._mqtt:
            self._thread = threading.Thread(target=self._run, name="outlets", daemon=True)
            self._thread.start()

    def stop(self, *, timeout_s: float = 2.0) -> None:
        """End; what has not been told by then is dropped."""
        if self._thread is None:
            return
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it writes addresses down, which may be secrets
        with suppress(asyncio.CancelledError):
            asyncio.run(self._tell())

    async def _tell(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        outlets: list[tuple[Queue, tuple[str, ...], Coroutine[None, None, None]]] = []
        for outlet, hook, secret in self._webhooks:
            queue = Queue(outlet)
            outlets.append((queue, hook.events, self._post(queue, outlet, hook, secret)))
        if self._mqtt is not None:
            queue = Queue(self._mqtt[0])
            outlets.append((queue, ("counts", "camera", "alert"), self._publish(queue, *self._mqtt)))
        async with asyncio.TaskGroup() as tasks:
            for _, _, tell in outlets:
                tasks.create_task(tell)
            async for message in messages(self._live.events()):
                for queue, wanted, _ in outlets:
                    if message.kind in wanted:
                        queue.put(message)

    # Webhooks

    async def _post(self, queue: Queue, outlet: Outlet, hook: Webhook, secret: str) -> None:
        outlet.phase, outlet.reason = "live", "waits for something to tell"
        async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
            while True:
                message = await queue.get()
                await self._deliver(client, message, outlet, hook, secret)
                if message.kind == "counts":
                    await self._sleep(COUNTS_S)

    async def _deliver(
        self, client: httpx.AsyncClient, message: Message, outlet: Outlet, hook: Webhook, secret: str
    ) -> None:
        """Send one message, again and again until it is taken, refused for good, or too old."""
        body, wait_s = self._body(message), FIRST_WAIT_S
        for left in reversed(range(TRIES)):
            timestamp = str(int(self._clock().timestamp()))
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "passerby",
                "Passerby-Id": message.id,
                "Passerby-Timestamp": timestamp,
                "Passerby-Signature": signature(secret, timestamp, body),
            }
            try:
                answer = await client.post(hook.url, content=body, headers=headers)
                said, again = f"answered {answer.status_code}", answer.status_code in AGAIN or answer.is_server_error
                if answer.is_success:
                    outlet.sent += 1
                    outlet.phase, outlet.reason = "live", said
                    return
            except (httpx.HTTPError, OSError) as error:
                said, again = f"cannot be reached: {type(error).__name__}", True
            outlet.phase, outlet.reason = "stalled", said
            if not again or not left:
                outlet.failed += 1
                log.error("webhook %s: %s; a message of kind %s is given up", outlet.name, said, message.kind)
                return
            outlet.retried += 1
            await self._sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _body(self, message: Message) -> bytes:
        said = {
            "id": message.id,
            "kind": message.kind,
            "site": self._site.name,
            "time_zone": self._site.time_zone,
            "at": message.at,
            "data": message.data,
        }
        return json.dumps(said, default=self._text, allow_nan=False).encode()

    def _text(self, value: object) -> str:
        """A time by the site's clock."""
        assert isinstance(value, datetime)
        return value.astimezone(self._zone).isoformat()

    # MQTT

    async def _publish(self, queue: Queue, outlet: Outlet, mqtt: Mqtt, password: str | None) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                async with aiomqtt.Client(
                    mqtt.host,
                    mqtt.port,
                    username=mqtt.username,
                    password=password,
                    tls_context=ssl.create_default_context() if mqtt.tls else None,
                    will=aiomqtt.Will(f"{topic_of(self._site, mqtt)}/status", "offline", qos=1, retain=True),
                    timeout=TIMEOUT_S,
                ) as client:
                    outlet.phase, outlet.reason, wait_s = "live", "connected", FIRST_WAIT_S
                    await self._greet(client, mqtt, outlet)
                    try:
                        while True:
                            message = await queue.get()
                            topic, said = told(self._site, mqtt, message)
                            await client.publish(topic, json.dumps(said, default=self._text), qos=1, retain=True)
                            outlet.sent += 1
                    except asyncio.CancelledError:  # the end: the server says it by itself only of who vanishes
                        await client.publish(
                            f"{topic_of(self._site, mqtt)}/status", "offline", qos=1, retain=True, timeout=1.0
                        )
                        raise
            except aiomqtt.MqttError as error:
                if outlet.phase != "stalled":
                    log.error("MQTT %s: %s; it is tried again", outlet.name, error)
                outlet.phase, outlet.reason = "stalled", " ".join(str(error).split())
                outlet.retried += 1
                await self._sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _greet(self, client: aiomqtt.Client, mqtt: Mqtt, outlet: Outlet) -> None:
        """Say who is there, what it can tell, and how everything is now: what was missed, too."""
        for topic, said in discovery(self._site, mqtt):
            await client.publish(topic, json.dumps(said), qos=1, retain=True)
        for message in whole(self._live.now(), self._site):
            topic, data = told(self._site, mqtt, message)
            await client.publish(topic, json.dumps(data, default=self._text), qos=1, retain=True)
            outlet.sent += 1
        await client.publish(f"{topic_of(self._site, mqtt)}/status", "online", qos=1, retain=True)


def whole(now: Now, site: Site) -> list[Message]:
    """All that MQTT tells of a state: counts, each camera, each of the site's alerts."""
    counts = {name: getattr(now, name) for name in ("occupancy", "entries", "exits", "seen", "zones")}
    on = {alarm.name: alarm for alarm in now.alerts}
    alarms = [on.get(rule.name, Alarm(rule.name, False, "", now.at)) for rule in site.alerts]
    return [
        Message("", "counts", now.at, counts),
        *(Message("", "camera", now.at, asdict(state)) for state in now.cameras),
        *(Message("", "alert", now.at, asdict(alarm)) for alarm in alarms),
    ]


def topic_of(site: Site, mqtt: Mqtt) -> str:
    """Below which topic a site tells."""
    return f"{mqtt.prefix}/{slug(site.name)}"


def told(site: Site, mqtt: Mqtt, message: Message) -> tuple[str, Mapping[str, Any]]:  # Any: as in Message
    """The topic and the content of a message."""
    topic, data = topic_of(site, mqtt), message.data
    if message.kind == "camera":
        return f"{topic}/camera/{slug(data['camera'])}", data
    if message.kind == "alert":
        return f"{topic}/alert/{slug(data['name'])}", data
    return f"{topic}/counts", {**data, "zones": {slug(zone): people for zone, people in data["zones"].items()}}


def slug(name: str) -> str:
    """A name as a topic and an id may have it: letters, digits, - and _; with a hash where something was changed.

    >>> slug("wine"), slug("Käse & Wein")
    ('wine', 'K_se_Wein_1cad')
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    return plain if plain == name else f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def discovery(site: Site, mqtt: Mqtt) -> list[tuple[str, dict[str, Any]]]:  # Any: JSON
    """What Home Assistant has to hear, once, to show a site as a device: topics and contents."""
    topic, node = topic_of(site, mqtt), f"passerby_{slug(site.name)}"
    device = {"identifiers": [node], "name": site.name, "manufacturer": "passerby"}

    def of(component: str, thing: str, name: str, **more: str) -> tuple[str, dict[str, Any]]:
        return f"{mqtt.discovery}/{component}/{node}/{thing}/config", {
            "name": name,
            "unique_id": f"{node}_{thing}",
            "availability_topic": f"{topic}/status",
            "device": device,
            **more,
        }

    def counted(thing: str, name: str, path: str, kind: str) -> tuple[str, dict[str, Any]]:
        said = f"{{{{ value_json.{path} }}}}"
        return of("sensor", thing, name, state_topic=f"{topic}/counts", value_template=said, state_class=kind)

    found = [
        counted("occupancy", "People inside", "occupancy", "measurement"),
        counted("entries", "Entries today", "entries", "total_increasing"),
        counted("exits", "Exits today", "exits", "total_increasing"),
    ]
    for zone in site.zones:
        name = slug(zone.name)
        found.append(counted(f"zone_{name}", f"People in {zone.name}", f"zones['{name}']", "measurement"))
    for camera in site.cameras:
        name, on = slug(camera.name), "{{ 'ON' if value_json.phase == 'live' else 'OFF' }}"
        where = {"state_topic": f"{topic}/camera/{name}", "value_template": on, "device_class": "connectivity"}
        found.append(of("binary_sensor", f"camera_{name}", f"Camera {camera.name}", **where))
    for alert in site.alerts:
        name, on = slug(alert.name), "{{ 'ON' if value_json.on else 'OFF' }}"
        where = {"state_topic": f"{topic}/alert/{name}", "value_template": on, "device_class": "problem"}
        found.append(of("binary_sensor", f"alert_{name}", alert.name, **where))
    return found


def secret_of(site: Site, file: str) -> str:
    """The secret in a file, which lies beside the site's file unless its path is absolute. Raises ConfigError without one."""
    path = site.folder / Path(file)
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a secret in one line of text: {error}") from None
    if len(secret) < 8:
        raise ConfigError(f"{path}: expected a secret of 8 characters or more, got {len(secret)}")
    return secret


def _host(url: str, number: int) -> str:
    """What a webhook is called where others can read it; its path may be a secret."""
    return f"{urlsplit(url).hostname} ({number})"
