"""Prometheus' metrics: what the site shows now, in the words of a monitoring system."""

from collections.abc import Callable, Iterator, Sequence

from fastapi import APIRouter, Depends, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from passerby.service.auth import needs
from passerby.service.live import CameraState, Now
from passerby.service.outlets import Outlet
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here

router = APIRouter(tags=["state"])


class Shown:
    """One moment of a site, collected."""

    def __init__(self, now: Now, outlets: Sequence[Outlet]) -> None:
        self._now, self._outlets = now, outlets

    def collect(self) -> Iterator[Metric]:
        """The metrics; counts begin anew at the site's midnight, which Prometheus takes for a restart."""
        now = self._now
        yield GaugeMetricFamily("passerby_people_inside", "People inside", value=now.occupancy)
        crossings = CounterMetricFamily("passerby_crossings", "Door crossings since midnight", labels=["way"])
        crossings.add_metric(["in"], now.entries)
        crossings.add_metric(["out"], now.exits)
        yield crossings
        zones = GaugeMetricFamily("passerby_zone_people", "People seen in a zone", labels=["zone"])
        for zone, people in now.zones.items():
            zones.add_metric([zone], people)
        yield zones
        alerts = GaugeMetricFamily("passerby_alert", "1 for each alert that is on", labels=["alert"])
        for alert in now.alerts:
            alerts.add_metric([alert.name], 1)
        yield alerts
        parts = GaugeMetricFamily("passerby_part_live", "1 where a part of the service works", labels=["part"])
        for part in now.parts:
            parts.add_metric([part.name], part.phase == "live")
        yield parts
        gauges: dict[str, tuple[str, Callable[[CameraState], float | None]]] = {
            "live": ("1 where frames come", lambda each: each.phase == "live"),
            "rate": ("Frames a second", lambda each: each.rate),
            "lag_seconds": ("From a frame to what was made of it", lambda each: each.lag_s),
            "age_seconds": (
                "Since its newest frame",
                lambda each: None if each.newest is None else (now.at - each.newest).total_seconds(),
            ),
        }
        for name, (what, value) in gauges.items():
            gauge = GaugeMetricFamily(f"passerby_camera_{name}", what, labels=["camera"])
            for camera in now.cameras:
                if (number := value(camera)) is not None:
                    gauge.add_metric([camera.camera], number)
            yield gauge
        for name, what in (
            ("frames", "Frames"),
            ("dropped", "Frames dropped for a newer one"),
            ("reconnects", "Reconnects"),
        ):
            counter = CounterMetricFamily(f"passerby_camera_{name}", what, labels=["camera"])
            for camera in now.cameras:
                counter.add_metric([camera.camera], getattr(camera, name))
            yield counter
        for name, what in (
            ("sent", "Messages sent"),
            ("failed", "Messages given up"),
            ("dropped", "Messages dropped unsent"),
        ):
            counter = CounterMetricFamily(f"passerby_outlet_{name}", what, labels=["outlet"])
            for outlet in self._outlets:
                counter.add_metric([outlet.name], getattr(outlet, name))
            yield counter


@router.get(
    "/metrics",
    responses=problems() | {200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_class=Response,
    dependencies=[Depends(needs("see figures"))],
)
def prometheus(here: Here) -> Response:
    """What Prometheus scrapes; it needs the key, as `authorization: {credentials: pb_...}` in its configuration."""
    registry = CollectorRegistry()
    registry.register(Shown(here.live.now(), here.outlets()))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
