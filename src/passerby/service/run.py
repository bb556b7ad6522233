"""The process tree of a site that is served: one vision worker, and here the associator, the store and the web. The clock is made here."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import connection
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import uvicorn

from passerby.reid.inference import threshold_of
from passerby.service import kept
from passerby.service.analytics import midnight
from passerby.service.app import create_app
from passerby.service.kept import Closing, Gap
from passerby.service.ledger import Ledger
from passerby.service.live import CameraState, Live, Part, Phase
from passerby.service.outages import Outages
from passerby.service.store import Store
from passerby.shop import Sighting, Visit
from passerby.site import Site
from passerby.types import PasserbyError, StoreError
from passerby.vision.associate import Associator, Changes
from passerby.vision.pipeline import associator_of
from passerby.vision.worker import Ended, Made, Message, Opened, Shown, Task, Watching

TICK_S = 0.2  # how often the parts are looked after
BEAT_S = 10.0  # from one sign of life in the store's lock file to the next
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0  # before a part is started again, doubled from one failure to the next
STEADY_S = 120.0  # of work, after which a part's failures are forgotten
START_S, SILENT_S = 300.0, 60.0  # how long the worker may say nothing: while it opens its networks, and after
STOP_S, WRITE_S, WEB_S = 4.0, 2.5, 2.0  # how long each part has to end
SET_BACK = timedelta(seconds=60)  # from which on a step back of the cameras' time begins a new association
QUIET = timedelta(seconds=60)  # without a frame of any camera, from which on the worker is not called live

log = logging.getLogger("passerby")


def serve(
    site: Site,
    url: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    loop: bool = False,
    threads: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
    stopped: threading.Event | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Follow a site's cameras, keep what is found in the store `url`, and answer over HTTP, until `stopped` or a signal.

    `loop` plays recordings again and again, `threads` compute in the vision worker. `tell` hears what happens, a line each.
    Raises PasserbyError where the port is taken or the site cannot be followed as it is, StoreError where the store cannot be
    opened; what fails later is tried again, and shown as the state of its part.
    """
    stopped = stopped or threading.Event()
    with ExitStack() as ending:
        door = ending.enter_context(listening(host, port))
        alive = last_alive(url)
        store = ending.enter_context(Store(url, tell=tell))
        store.put_site(site)
        now = clock()
        alive = alive or newest_known(store, site.name)
        settled = settle(store, site.name)
        if any(settled):
            tell(f"{store.name}: {settled[0]} sightings and {settled[1]} visits were left open by the run before, and are closed")
        live = Live(site, clock=clock)
        begin_live(live, store, site, now)
        parts = Parts(live, tell=tell, clock=clock)
        ...
