"""Why somebody was counted, or not: what is known of one sighting, in plain sentences. Nothing is read here."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from passerby.reid.calibration import MODES
from passerby.service.kept import Gap
from passerby.service.store import Story
from passerby.shop import Sighting, SightingKey
from passerby.site import Site
from passerby.vision.sightings import HURRY_S, SHORTEST_S


def name_of(key: SightingKey) -> str:
    """A sighting as people write it: "camera/session/track"."""
    return f"{key.camera}/{key.session}/{key.track}"


def unknown(key: SightingKey) -> str:
    """What to say of a track of which nothing is known."""
    return (
        f"Nothing is known of {name_of(key)}. A track becomes known once it has lasted {SHORTEST_S:g} s, or crossed a line and "
        f"lasted {HURRY_S:g} s, the detector was sure of it at some moment, and somebody was seen there who was not hidden all "
        "the time. Or its personal detail has expired."
    )


def why(key: SightingKey, story: Story, site: Site, gaps: Sequence[Gap]) -> tuple[bool, list[str]]:
    """Whether a sighting counts as part of a visit, and why, a sentence each; `gaps` are those of its camera and time."""
    zone, threshold = ZoneInfo(site.time_zone), MODES[site.mode]
    said, seen = [], story.sighting
    if seen is None:
        return False, ["A link or a visit speaks of it, but the sighting itself has not come, or has expired."]
    said.append(_seen(seen, zone))
    if seen.state == "withdrawn":
        said.append(
            "It was withdrawn: looked at in whole, it was nobody, or a second track on somebody. It counts for nothing."
        )
    else:
        said += _crossed(seen, site, zone)
    for gap in gaps:
        until = "now" if gap.end is None else _clock(gap.end, zone)
        said.append(
            f"In that time camera {gap.camera!r} was {gap.kind} ({_clock(gap.start, zone)} to {until}): {gap.reason}"
        )
    if seen.state == "withdrawn":
        return False, said
    visit, link = story.visit, story.link
    before = None if visit is None else _before(key, visit.sightings)
    if link is not None and link.earlier == before:
        said.append(
            f"It is linked to {name_of(link.earlier)}, with a probability of {link.probability:.0%}"
            + (
                f"; the next best was {name_of(link.runner_up)}, with {link.runner_up_probability:.0%}."
                if link.runner_up
                else "; there was no other."
            )
        )
    elif link is not None:
        said.append(
            f"It was linked to {name_of(link.earlier)} once, with a probability of {link.probability:.0%}; that was taken back."
        )
    elif before is None:
        said.append(
            f"No earlier sighting is the same person with a probability of {threshold:.0%} or more ({site.mode}): it begins a "
            "chain."
        )
    if visit is None:
        said.append(
            "It belongs to no visit: who was seen only at a door and crossed none has passed by, and is not counted; nor is a "
            "second track on somebody."
        )
        return False, said
    end = f"{_clock(visit.start, zone)} to {_clock(visit.end, zone)}"
    more = len(visit.sightings) - 1
    beside = "alone" if not more else f"with {more} other sighting{'s' if more > 1 else ''}"
    said.append(f"It belongs to visit {visit.name}, {beside} ({end}): they are counted as one visit.")
    if story.absorbed:
        said.append(
            f"That visit took in {', '.join(story.absorbed)}, which began as visits of their own and are not counted."
        )
    if visit.split_from:
        said.append(f"That visit was split from {visit.split_from}, and is counted beside it.")
    said.append(
        "It is final: it is not revised any more." if visit.final else "It may still be revised, as long as links are."
    )
    return True, said


def _seen(seen: Sighting, zone: ZoneInfo) -> str:
    lasted = (seen.end - seen.start).total_seconds()
    stays = f", in {', '.join(sorted({stay.zone for stay in seen.stays}))}" if seen.stays else ""
    goes_on = " so far" if seen.state == "open" else ""
    return f"Camera {seen.key.camera!r} saw it from {_clock(seen.start, zone)} on, for {lasted:.1f} s{goes_on}{stays}."


def _crossed(seen: Sighting, site: Site, zone: ZoneInfo) -> list[str]:
    doors = [crossing for crossing in seen.crossings if crossing.line in site.doors]
    if not doors:
        others = sorted({crossing.line for crossing in seen.crossings})
        over = f" (but {', '.join(others)}, no door)" if others else ""
        return [f"It crossed no door{over}: it is no entry and no exit."]
    return [
        f"It crossed {each.line!r} {'inwards' if each.inwards else 'outwards'} at {_clock(each.at, zone)}: counted as an "
        f"{'entry' if each.inwards else 'exit'}."
        for each in doors
    ]


def _before(key: SightingKey, chain: Sequence[SightingKey]) -> SightingKey | None:
    place = chain.index(key)
    return chain[place - 1] if place else None


def _clock(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %z")
