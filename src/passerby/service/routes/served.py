"""What the routes serve: the site, its store, what is live, the clock; and times by the site's clock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import Depends, HTTPException, Request

from passerby.service.guests import Guests
from passerby.service.live import Live
from passerby.service.lookup import Lookup
from passerby.service.outlets import Outlet
from passerby.service.privacy import erase
from passerby.service.store import Erased, Store, StoreReader
from passerby.site import Site


@dataclass(frozen=True, slots=True)
class Served:
    """One site as it is served."""

    site: Site
    store: StoreReader
    live: Live
    clock: Callable[[], datetime]
    outlets: Callable[[], list[Outlet]] = list
    lookup: Lookup | None = None  # None where nobody is followed
    erase: Callable[..., Erased] = erase  # `privacy.erase`, or what does the same and forgets elsewhere, too
    guests: Guests | None = None  # None where nobody is followed

    @property
    def zone(self) -> ZoneInfo:
        """The site's time zone."""
        return ZoneInfo(self.site.time_zone)

    @property
    def writer(self) -> Store:
        """The store where it may be written to; answers 503 where it may only be read."""
        if not isinstance(self.store, Store):
            raise HTTPException(503, "This service only reads its store; tell the one that writes to it.")
        return self.store

    def by_clock(self, value: Any) -> Any:  # Any: plain types with times in them
        """The same with every time by the site's clock, with its distance from UTC."""
        if isinstance(value, datetime):
            return value.astimezone(self.zone)
        if isinstance(value, Mapping):
            return {key: self.by_clock(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.by_clock(each) for each in value]
        return value


def served(request: Request) -> Served:
    """What this application serves."""
    found: Served = request.app.state.served
    return found


Here = Annotated[Served, Depends(served)]
