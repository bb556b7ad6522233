"""A site's alerts: when one begins and ends, from the counts of each second. No clock, no SQL."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from passerby.service.kept import QueueEvent
from passerby.service.live import Alarm
from passerby.site import Alert, Site

SHORTEST = timedelta(milliseconds=1)  # that an event lasts


@dataclass(slots=True)
class _Watched:
    """An alert's rule and how it stands."""

    rule: Alert
    on: bool = False
    since: datetime | None = None  # from when on the value is on the other side of what it was
    began: datetime | None = None  # of the event that lasts
    most: float = 0.0


class Alarms:
    """Watches the counts of a site for its alerts; `tell` hears of each that begins or ends, `note` gets events at queues.

    An alert begins when the value has been above what the rule says for as long as it says, and ends when it has been at it or
    under for as long. An event begins when the value first was above.
    """

    def __init__(
        self,
        site: Site,
        *,
        tell: Callable[[Alarm], None],
        note: Callable[[Sequence[QueueEvent]], None] = lambda events: None,
    ) -> None:
        self._tell, self._note = tell, note
        self._queues = {queue.zone for queue in site.queues}
        self._watched = [_Watched(rule) for rule in site.alerts]

    def see(self, at: datetime, *, inside: int, zones: Mapping[str, int], waiting_s: Mapping[str, float]) -> None:
        """Take in the counts at a time: people inside, and in each zone; the longest waiting in each queue."""
        for each in self._watched:
            rule = each.rule
            if rule.measure == "waiting_s":
                value = waiting_s.get(rule.zone or "", 0.0)
            else:
                value = float(inside if rule.zone is None else zones.get(rule.zone, 0))
            self._see(each, value, at)

    def _see(self, each: _Watched, value: float, at: datetime) -> None:
        rule, above = each.rule, value > each.rule.above
        each.most = max(each.most, value) if above else each.most
        if above == each.on:
            each.since = None
            each.most = each.most if each.on else 0.0
            return
        if each.since is None or at < each.since:  # also where the clock was set back
            each.since = at
            each.most = value if not each.on else each.most
        if (at - each.since).total_seconds() < rule.for_s:
            return
        each.on = above
        if above:
            each.began = each.since
        assert each.began is not None
        where = f" in {rule.zone}" if rule.zone else ""
        what = f"{value:.0f} people" if rule.measure == "people" else f"somebody has waited for {value:.0f} s"
        text = f"{rule.name}: {what}{where}, above {rule.above:g}" if above else f"{rule.name}: over"
        self._tell(Alarm(rule.name, above, text, at))
        if rule.zone in self._queues:
            kind: Literal["long", "slow"] = "slow" if rule.measure == "waiting_s" else "long"
            end = None if above else max(each.since, each.began + SHORTEST)
            self._note([QueueEvent(rule.zone or "", each.began, end, kind, each.most)])
        each.since = None
