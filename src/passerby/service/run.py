"""The process tree of a site that is served: a vision worker; here associator, store and web. The clock is made here."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import uvicorn

from passerby.service import kept
from passerby.service.alarms import Alarms
from passerby.service.analytics import LOST_S, midnight
from passerby.service.app import create_app
from passerby.service.auth import authenticate, first_start, recorder, server_settings
from passerby.service.drawing import Drawing
from passerby.service.following import Following, closed
from passerby.service.guests import Guests, safe_of
from passerby.service.kept import Closing
from passerby.service.ledger import Ledger
from passerby.service.live import Live, Part, Phase
from passerby.service.lookup import Lookup, site_network
from passerby.service.memory import Memory, Snapshot, finalize
from passerby.service.oidc import Provider
from passerby.service.outages import Outages
from passerby.service.outlets import Outlet, Outlets
from passerby.service.privacy import erase
from passerby.service.rollups import refresh
from passerby.service.routes.login import login
from passerby.service.routes.pages import pages
from passerby.service.store import Erased, Store
from passerby.service.vault import Vault
from passerby.site import Site
from passerby.types import PasserbyError
from passerby.vision.worker import Ended, Made, Message, Opened, Task

TICK_S = 0.2  # how often the parts are looked after
BEAT_S = 10.0  # from one sign of life, or look at the hours, to the next
SAVE_S = 30.0  # from one snapshot of who is inside to the next
EXPIRE_S = 3600.0  # from one time at which people are forgotten to the next
ROLL_S = 60.0  # from one look for days whose figures are not kept by the hour yet to the next
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0  # before a part is started again, doubled from one failure to the next
STEADY_S = 120.0  # of work, after which a part's failures are forgotten
START_S, SILENT_S = 300.0, 60.0  # how long the worker may say nothing: while it opens its networks, and after
QUIET_S = 60.0  # without a frame of any camera, from which on the worker is not called live
STOP_S, WRITE_S, WEB_S = 4.0, 2.5, 2  # how long each part has to end
SHORTEST = timedelta(milliseconds=1)  # that an event lasts of which nobody knows when it ended
HERE = ("127.0.0.1", "::1", "localhost")  # listening at these, only this machine is heard
AT_ONCE = 50  # messages that are taken before other parts are looked after
WORK = (
    "import sys; from datetime import UTC, datetime; from passerby.vision.worker import work; "
    "work(int(sys.argv[1]), clock=lambda: datetime.now(UTC))"
)

log = logging.getLogger("passerby")


def serve(
    site: Site,
    url: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    tls: tuple[Path, Path] | None = None,
    trusted_proxies: Sequence[str] = (),
    provider: Provider | None = None,
    loop: bool = False,
    threads: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
    stopped: threading.Event | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Follow a site's cameras, keep what is found in the store `url`, and answer over HTTP, until `stopped` or a signal.

    `tls` are the files of a certificate and its key; `trusted_proxies` are addresses and networks whose word about a caller's
    address and scheme is taken (`auth.server_settings`); `provider` is where users may log in, too. `loop` plays
    recordings again and again, `threads` compute in the vision worker. `tell` hears what happens, a line each. Raises
    PasserbyError where the port is taken, the cameras are of two kinds or the certificate's files are none, StoreError where
    the store cannot be opened; what fails later is tried again, and shown as the state of its part.
    """
    if len({camera.live for camera in site.cameras}) == 2:
        raise PasserbyError(
            f"site {site.name}: expected live cameras or recordings, got both; give each a site of its own"
        )
    settings = server_settings(trusted_proxies, tls)
    stopped = stopped or threading.Event()
    zone = ZoneInfo(site.time_zone)
    with ExitStack() as ending:
        ending.enter_context(told_to_stop(stopped))
        door = ending.enter_context(listening(host, port))
        store = ending.enter_context(Store(url, tell=tell))
        store.put_site(site)
        since = last_alive(store, site.name, url)
        memory = Memory(store, site, vault_of(url, tell), say=tell)
        left = settle(store, site.name) + (0 if memory.is_full else finalize(store, site.name))
        if left:
            tell(f"{store.name}: the run before ended in the middle: {left} sightings and visits are closed")
        live = Live(site, clock=clock)
        lately, yesterday = (
            clock() - timedelta(seconds=LOST_S),
            midnight(clock().astimezone(zone).date() - timedelta(days=1), zone),
        )
        live.begin(
            store.crossings(site.name, since=yesterday),
            store.sightings(site.name, since=lately),
            store.visits(site.name, since=lately),
            closings=[each.at for each in kept.closings(store, site.name, since=yesterday)],
        )
        outlets = Outlets(site, live, clock=clock)
        parts = Parts(live, tell=tell, clock=clock)
        ledger = Ledger(store, site=site.name, told=live.tell, said=parts.store)
        outages = Outages(
            known=[gap for gap in kept.gaps(store, site.name) if gap.end is None],
            since={} if since is None else {camera.name: since for camera in site.cameras},
            put=lambda gaps: ledger.note(gaps=gaps),
            alarm=live.alert,
        )
        span = store.span(site.name)
        drawing = site.draws and Drawing(
            site,
            after=None if span is None else span[1],
            put=lambda draws: ledger.note(draws=draws),
            say=lambda phase, reason: parts.say("draws", phase, reason),
        )
        following = Following(
            site,
            live=live,
            ledger=ledger,
            outages=outages,
            memory=memory,
            alarms=Alarms(site, tell=live.alert, note=lambda events: ledger.note(queues=events)),
            drawing=drawing or None,
            say=lambda phase, reason: parts.say("associator", phase, reason),
        )
        vision = Vision(
            Task(site, loop=loop, threads=threads),
            say=lambda phase, reason: parts.say("vision", phase, reason),
            lose=lambda phase, reason: following.lose(phase, reason, now=clock()),
        )
        lookup = Lookup(following.looks, embed=site_network(site))
        guests = Guests(store, site, safe_of(url), lookup)
        web = Web(
            application(
                site,
                store,
                live,
                clock,
                outlets=outlets.states,
                lookup=lookup,
                erase=memory.erase,
                guests=guests,
                provider=provider,
            ),
            door,
            settings=settings,
            say=lambda phase, reason: parts.say("web", phase, reason),
        )
        watch = Watch(
            site,
            url,
            store=store,
            live=live,
            ledger=ledger,
            following=following,
            memory=memory,
            guests=guests,
            began=clock(),
            tell=tell,
        )
        parts.store(None)
        ledger.start()
        outlets.start()
        web.look_after(time.monotonic())
        address = f"http{'s' if tls else ''}://{host}:{door.getsockname()[1]}"
        tell(f"{site.name}: {address}")
        if not (tls or trusted_proxies or host in HERE):
            tell("Passwords and pictures cross the network in clear: give --tls-cert and --tls-key, or --trusted-proxy")
        if (first := first_start(store, now=clock())) is not None:
            tell(f"Administrator, once: {address}{first[0]}")
            tell(f"API key, shown this once: {first[1]}")
        while not stopped.is_set():
            vision.look_after(time.monotonic())
            web.look_after(time.monotonic())
            watch.look_after(time.monotonic(), clock())
            for message in vision.messages(timeout_s=TICK_S):
                following.take(message, now=clock(), now_s=time.monotonic())
                if isinstance(message, Ended) and message.error is None:
                    following.finish()
            following.idle(now_s=time.monotonic())
        tell("Stopping: what is open is closed and kept")
        for message in vision.stop(timeout_s=STOP_S):
            following.take(message, now=clock(), now_s=time.monotonic())
        following.lose("stopped", "passerby was stopped", now=clock())
        following.pause()
        if drawing:
            drawing.stop()
        outages.stop()
        watch.stop(clock())
        if not ledger.close(timeout_s=WRITE_S):
            tell(f"{store.name}: {ledger.waiting} sightings could not be kept: {ledger.failing or 'no time was left'}")
        live.close()
        outlets.stop()
        web.stop()


def application(
    site: Site,
    store: Store,
    live: Live,
    clock: Callable[[], datetime],
    *,
    outlets: Callable[[], list[Outlet]] = list,
    lookup: Lookup | None = None,
    erase: Callable[..., Erased] = erase,
    guests: Guests | None = None,
    provider: Provider | None = None,
) -> Any:  # an ASGI application
    """The web application of a site: its API, its pages, and its doors for users and keys."""
    shown = pages(site=site, store=store, live=live, clock=clock)
    shown.include_router(login(store=store, clock=clock, provider=provider))
    return create_app(
        site=site,
        store=store,
        live=live,
        authenticate=lambda request: authenticate(store, request, clock=clock),
        record=recorder(store, clock=clock),
        clock=clock,
        pages=shown,
        outlets=outlets,
        lookup=lookup,
        erase=erase,
        enrolled=guests,
    )


# What an earlier run left


def settle(store: Store, site: str) -> int:
    """Close the sightings that a run left open in the store: they end at the last sight; how many there were."""
    sightings, _ = store.unfinished(site)
    store.write(sightings=[closed(sighting) for sighting in sightings])
    lasting = [event for event in kept.queue_events(store, site) if event.end is None]
    kept.put_queue_events(store, site, [replace(event, end=event.start + SHORTEST) for event in lasting])
    return len(sightings)


def vault_of(url: str | Path, tell: Callable[[str], None]) -> Vault | None:
    """The vault beside a store in SQLite; a database has no place of its own for one."""
    if "://" in str(url):
        return None
    try:
        return Vault(Path(f"{url}.vault"))
    except (OSError, PasserbyError) as error:
        tell(f"who is inside is not kept over a restart: {error}")
        return None


def last_alive(store: Store, site: str, url: str | Path) -> datetime | None:
    """Until when an earlier run watched: its last sign of life, else what it saw last; None where there was none."""
    with suppress(OSError):
        if (path := beat_of(url)) is not None:
            return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    span = store.span(site)
    return None if span is None else span[1]


def beat_of(url: str | Path) -> Path | None:
    """The file beside a store in SQLite whose time says that it is written to by somebody who is alive."""
    return None if "://" in str(url) else Path(f"{url}.alive")


# The parts


class Parts:
    """The states of the parts of the process tree, told to whoever looks at the site, and to `tell` where one changes."""

    def __init__(self, live: Live, *, tell: Callable[[str], None], clock: Callable[[], datetime]) -> None:
        self._live, self._tell, self._clock = live, tell, clock
        self._known: dict[str, Part] = {}
        self._lock = threading.Lock()

    def say(self, name: str, phase: Phase, reason: str) -> None:
        """A part is in a phase, for a reason; from any thread."""
        with self._lock:
            known = self._known.get(name)
            if known is not None and (known.phase, known.reason) == (phase, reason):
                return
            same = known is not None and known.phase == phase
            part = self._known[name] = Part(name, phase, reason, known.since if known and same else self._clock())
            self._live.part(part)
        if not same:
            self._tell(f"{name}: {phase}: {reason}")

    def store(self, failure: str | None) -> None:
        """The store keeps everything, or it fails."""
        self.say("store", "failed" if failure else "live", failure or "everything is kept")


class Vision:
    """The vision worker's process, started again where it ends or hangs; `lose` is called when it is gone."""

    def __init__(self, task: Task, *, say: Callable[[Phase, str], None], lose: Callable[[Phase, str], None]) -> None:
        self._task, self._say, self._lose = task, say, lose
        self._process: subprocess.Popen[bytes] | None = None
        self._door: Connection[Any, Any] | None = None
        self._tries, self._start_at_s, self._began_s = 0, 0.0, 0.0
        self._heard_s = self._seen_s = 0.0
        self._limit_s = START_S
        self._over = False  # recordings have ended

    @property
    def pid(self) -> int | None:
        """The number of its process."""
        return None if self._process is None else self._process.pid

    def look_after(self, now_s: float) -> None:
        """Start it where it is time to, and end it where it hangs."""
        if self._over:
            return
        if self._process is None:
            if now_s >= self._start_at_s:
                self._start(now_s)
        elif now_s - self._heard_s > self._limit_s:
            self._end(f"its process hung: it said nothing for {self._limit_s:.0f} s")
        elif self._seen_s and now_s - self._seen_s > QUIET_S:
            self._say("stalled", "no camera gave a frame in the last minute")
        elif now_s - self._began_s > STEADY_S:
            self._tries = 0

    def messages(self, *, timeout_s: float) -> Iterator[Message]:
        """What it says within that time."""
        if self._door is None:
            time.sleep(timeout_s)
            return
        with suppress(EOFError, OSError):
            for _ in range(AT_ONCE):
                if not self._door.poll(timeout_s):
                    return
                message: Message = self._door.recv()
                timeout_s = 0.0
                self._hear(message)
                yield message
                if self._door is None:
                    return
            return
        self._end("its process ended unexpectedly")

    def stop(self, *, timeout_s: float) -> Iterator[Message]:
        """Tell it to end; what it says before it does, within that time."""
        until_s = time.monotonic() + timeout_s
        self._over = True
        with suppress(EOFError, OSError):
            if self._door is not None:
                self._door.send(None)
            while self._door is not None and self._door.poll(max(0.0, until_s - time.monotonic())):
                message: Message = self._door.recv()
                if isinstance(message, Ended):
                    break
                yield message
        self._say("stopped", "passerby was stopped")
        self._close()

    def _start(self, now_s: float) -> None:
        here, there = socket.socketpair()
        self._door = Connection(here.detach())
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", WORK, str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
            )
        self._door.send(self._task)
        self._began_s = self._heard_s = now_s
        self._seen_s, self._limit_s = 0.0, START_S
        self._say("starting", "opens its networks")

    def _hear(self, message: Message) -> None:
        self._heard_s = time.monotonic()
        if isinstance(message, Made):
            self._seen_s, self._limit_s = self._heard_s, SILENT_S
            self._say("live", "watches the cameras")
        elif isinstance(message, Opened):
            self._limit_s, self._seen_s = SILENT_S, self._heard_s
            self._say("starting", "waits for the first frame")
        elif isinstance(message, Ended):
            if message.error is None:
                self._over = True
                self._close()
                self._say("stopped", "the recordings have ended")
                self._lose("stopped", "its recording has ended")
            else:
                self._end(message.error)

    def _end(self, reason: str) -> None:
        process = self._process
        self._close()
        code = None if process is None else process.returncode
        wait_s = wait_of(self._tries)
        self._tries, self._start_at_s = self._tries + 1, time.monotonic() + wait_s
        log.warning("vision: %s (exit code %s)", reason, code)
        self._say("failed", f"{reason}; it is started again in {wait_s:.0f} s")
        self._lose("failed", f"the vision worker failed: {reason}")

    def _close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._door is not None:
            self._door.close()
        self._process = self._door = None


class Web:
    """The web server, in a thread of its own, started again where it ends."""

    def __init__(
        self,
        app: Any,  # an ASGI application
        door: socket.socket,
        *,
        settings: Mapping[str, Any],  # Any: uvicorn's
        say: Callable[[Phase, str], None],
    ) -> None:
        self._app, self._door, self._settings, self._say = app, door, settings, say
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._tries, self._start_at_s, self._began_s = 0, 0.0, 0.0

    def look_after(self, now_s: float) -> None:
        """Start it where it is time to."""
        if self._thread is None:
            if now_s >= self._start_at_s:
                self._begin(now_s)
        elif not self._thread.is_alive():
            wait_s = wait_of(self._tries)
            self._thread, self._tries, self._start_at_s = None, self._tries + 1, now_s + wait_s
            self._say("failed", f"the web server ended; it is started again in {wait_s:.0f} s")
        else:
            if self._server is not None and self._server.started:
                self._say("live", "answers")
            if now_s - self._began_s > STEADY_S:
                self._tries = 0

    def stop(self) -> None:
        """End it: open streams have two seconds."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(WEB_S + 1)
            self._server.force_exit = True
            self._thread.join(1)

    def _begin(self, now_s: float) -> None:
        config = uvicorn.Config(
            self._app, log_config=None, lifespan="off", timeout_graceful_shutdown=WEB_S, **self._settings
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: server.run(sockets=[self._door.dup()]), name="web", daemon=True)
        self._thread.start()
        self._began_s = now_s
        self._say("starting", "begins to answer")


class Watch:
    """What is done now and then: signs of life, closing, guests, figures by the hour, snapshots of who is inside, expiry."""

    def __init__(
        self,
        site: Site,
        url: str | Path,
        *,
        store: Store,
        live: Live,
        ledger: Ledger,
        following: Following,
        memory: Memory,
        guests: Guests,
        began: datetime,
        tell: Callable[[str], None],
    ) -> None:
        self._store, self._tell, self._roll_s = store, tell, 0.0
        self._site, self._beat, self._vault = site, beat_of(url), memory.vault
        self._live, self._ledger, self._following, self._memory = live, ledger, following, memory
        self._guests = guests
        self._looked, self._next_s, self._expire_s, self._save_s = began, 0.0, 0.0, 0.0
        self._errand: threading.Thread | None = None  # one at a time: what may take longer

    def look_after(self, now_s: float, now: datetime) -> None:
        """Do what it is time for."""
        if now_s >= self._next_s:
            self._next_s = now_s + BEAT_S
            if self._beat is not None:
                with suppress(OSError):  # a full disk is said by the store
                    self._beat.touch()
            self._close(now)
            self._watch(now)
        if self._errand is not None and self._errand.is_alive():
            return
        if now_s >= self._expire_s:
            self._expire_s = now_s + EXPIRE_S
            self._send(self._expire, now)
        elif now_s >= self._save_s and self._vault is not None:
            self._save_s = now_s + SAVE_S
            if (snapshot := self._following.snapshot()) is not None:
                self._send(self._save, snapshot, self._ledger.added, now)
        elif now_s >= self._roll_s:
            self._roll_s = now_s + ROLL_S
            self._send(self._roll, now)

    def stop(self, now: datetime) -> None:
        """The last snapshot, from which the next run goes on."""
        if self._errand is not None:
            self._errand.join(WRITE_S)
        if self._vault is not None and (snapshot := self._following.snapshot()) is not None:
            self._save(snapshot, self._ledger.added, now)

    def _close(self, now: datetime) -> None:
        if now > self._looked:
            closings = self._site.closings(self._looked, now)
            self._looked = now
            if closings:
                self._ledger.note(closings=[Closing(closings[-1], self._live.left_at(closings[-1]))])

    def _watch(self, now: datetime) -> None:
        try:
            self._guests.watch(now=now, tell=self._live.alert)
        except (PasserbyError, OSError) as error:
            log.warning("guests: %s; it is tried again in %.0f s", error, BEAT_S)

    def _send(self, errand: Callable[..., None], *words: object) -> None:
        self._errand = threading.Thread(target=errand, args=words, name="errand", daemon=True)
        self._errand.start()

    def _roll(self, now: datetime) -> None:
        try:
            refresh(self._store, self._site, now=now, tell=self._tell)
        except PasserbyError as error:
            log.warning("figures by the hour could not be kept: %s; it is tried again in a minute", error)

    def _expire(self, now: datetime) -> None:
        try:
            refresh(self._store, self._site, now=now, tell=self._tell)  # of those who are forgotten, figures stay
            self._memory.expire(now=now)
        except (PasserbyError, OSError) as error:
            log.warning("people could not be forgotten: %s; it is tried again in an hour", error)

    def _save(self, snapshot: Snapshot, added: int, now: datetime) -> None:
        """Keep a snapshot once the store has all that it knows: what was told to nobody must come again."""
        try:
            if self._ledger.kept(added, timeout_s=WRITE_S):
                self._memory.save(snapshot, today=now.astimezone(ZoneInfo(self._site.time_zone)).date())
        except (PasserbyError, OSError) as error:
            log.warning("who is inside could not be kept: %s", error)


def wait_of(tries: int) -> float:
    """How long a part that has failed so often waits before it is started again, in seconds."""
    return float(min(FIRST_WAIT_S * 2.0 ** min(tries, 10), LONGEST_WAIT_S))


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens; port 0 is any that is free. Raises PasserbyError where that cannot be."""
    try:
        door = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PasserbyError(
            f"{host}, port {port}: cannot be listened at ({os.strerror(error.errno or 0)}); does passerby, or another program, "
            "run there already? Choose another port with --port"
        ) from None
    with door:
        yield door


@contextmanager
def told_to_stop(stopped: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set `stopped`; in a thread that is not the main one nothing is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda number, frame: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
