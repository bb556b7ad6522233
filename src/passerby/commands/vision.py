"""Commands from frames to visits: track, evaluate-tracks, follow, link, zones, models."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from passerby.commands.options import (
    MODEL_HELP,
    STORE_HELP,
    Json,
    Mode,
    Precision,
    Threads,
    Threshold,
    bar,
    err,
    out,
    room_of,
    say_terms,
    seconds_of,
    write_json,
)
from passerby.types import PasserbyError

app = typer.Typer()


@app.command()
def track(
    video: Annotated[Path, typer.Argument(help="A video file of one camera.")],
    tracks: Annotated[
        Path | None, typer.Option("--out", help="Write the tracks to this file, in MOTChallenge's form.")
    ] = None,
    film: Annotated[
        Path | None, typer.Option("--render", help="Write a film with the tracks drawn to this .mp4 file.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.5, help="Look at so many frames a second at most; all by default.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="The detector: a bundled or fetched one's name, a folder or a network file.")
    ] = "person_detector",
    appearance: Annotated[
        str,
        typer.Option(help="What tells people apart where boxes are ambiguous; none: motion alone. " + MODEL_HELP),
    ] = "osnet_x0_25",
    fill: Annotated[
        float, typer.Option("--fill", min=0.0, help="In --out, fill gaps of up to so many seconds on a straight line.")
    ] = 0.0,
    show_heads: Annotated[
        bool, typer.Option("--show-heads", help="Leave heads in the film as they are; by default they are blurred.")
    ] = False,
) -> None:
    """Follow the people in one camera's video."""
    if tracks is None and film is None:
        raise PasserbyError("track: give --out FILE.txt, --render FILE.mp4 or both")
    room, mot, embedder = room_of("passerby.vision.film"), room_of("passerby.vision.mot"), None
    if appearance != "none":
        from passerby.reid.embedder import Embedder

        embedder = Embedder(appearance)
    detector, tracker = (
        room_of("passerby.vision.detect").open_detector(model),
        room_of("passerby.vision.track").Tracker(),
    )
    with bar("following people") as progress:
        followed = room.follow(video, detector, tracker=tracker, embedder=embedder, rate=rate, progress=progress)
    if tracks is not None:
        mot.write_tracks(tracks, followed.filled(fill))
    if film is not None:
        with bar("drawing") as progress:
            room.render(video, film, followed, rate=rate, heads=show_heads, progress=progress)
    people, seconds = len(set(followed.tracks.tracks.tolist())), followed.duration_s
    out.print(f"{video}: {people} tracks, {len(followed.times)} frames in {seconds:.1f} s", soft_wrap=True)


@app.command("evaluate-tracks")
def evaluate_tracks(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="TRUTH TRACKS...",
            help="Two files in MOTChallenge's form, two folders of such files with the same names, or several such pairs.",
        ),
    ],
    overlap: Annotated[
        float,
        typer.Option("--iou", min=0.01, max=1.0, help="The overlap from which a box is a person's; not for HOTA."),
    ] = 0.5,
    least_seen: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Nobody is judged by people of whom less is seen, where the truth says it."
        ),
    ] = 0.0,
    json: Json = None,
) -> None:
    """Measure one camera's tracks against a truth: HOTA, CLEAR MOT and IDF1; several films are also taken together."""
    mot = room_of("passerby.vision.mot")
    if len(files) % 2:
        raise PasserbyError(f"evaluate-tracks: expected pairs TRUTH TRACKS, got {len(files)} paths")
    films = {}
    for truth, tracks in zip(files[::2], files[1::2], strict=True):
        for name, (of_truth, of_tracks) in mot.find_pairs(truth, tracks).items():
            if name in films:
                raise PasserbyError(f"evaluate-tracks: two films are called {name}; name the files of tracks apart")
            people = mot.read_tracks(of_truth, truth=True, least_seen=least_seen)
            films[name] = mot.compare(people, mot.read_tracks(of_tracks), overlap=overlap)
    if len(films) > 1:
        films["together"] = mot.pooled(list(films.values()))
    figures = {
        name: asdict(mot.hota(film))
        | asdict(mot.clear(film, overlap=overlap))
        | asdict(mot.identity(film, overlap=overlap))
        for name, film in films.items()
    }
    if json is not None:
        write_json(json, {"iou": overlap, "least_seen": least_seen, "films": figures})
    if json is None or str(json) != "-":
        shares, counts = ("HOTA", "DetA", "AssA", "MOTA", "IDF1"), ("switches", "false", "missed")
        table = Table("film", *shares, *counts)
        for name, each in figures.items():
            cells = [f"{100 * each[share.lower()]:.1f}" for share in shares] + [str(each[count]) for count in counts]
            table.add_row(name, *cells)
        out.print(table)


@app.command()
def models(
    action: Annotated[
        Literal["list", "fetch", "verify"],
        typer.Argument(
            help="list: what there is; fetch: download, or go on with it; verify: check files by their SHA-256."
        ),
    ] = "list",
    name: Annotated[str | None, typer.Argument(help="A detector of the list; for verify all that are there.")] = None,
) -> None:
    """List, fetch and verify detectors of others, which may be used in place of the bundled one."""
    catalogue, detect = room_of("passerby.vision.catalogue"), room_of("passerby.vision.detect")
    if action == "list":
        table = Table("name", "kept", "MB", "licence", "made by")
        for entry in catalogue.CATALOGUE:
            size = sum(part.size for part in entry.parts) / 1e6
            table.add_row(entry.name, catalogue.state(entry), f"{size:.1f}", entry.licence, entry.origin)
        out.print(table)
        return
    if action == "fetch":
        if name is None:
            raise PasserbyError("models fetch: which one? `passerby models list` names them")
        entry = catalogue.entry_named(name)
        with bar(f"fetching {name}") as progress:
            catalogue.fetch(entry, progress=progress)
    chosen = (
        [catalogue.entry_named(name)] if name else [e for e in catalogue.CATALOGUE if catalogue.state(e) != "absent"]
    )
    if not chosen:
        raise PasserbyError("models verify: nothing was fetched yet; `passerby models fetch NAME` does")
    for entry in chosen:
        path = catalogue.verify(entry)
        out.print(f"{path}: {detect.open_detector(path).understood}", soft_wrap=True)


SiteFile = Annotated[Path, typer.Argument(help="A site's TOML file: its cameras, zones and lines (docs/follow.md).")]
SITES_OWN = " By default what the site's file says."
DETECTOR_HELP = "A bundled or fetched detector's name (`passerby models`), a model folder, or a network file."


@app.command()
def follow(
    context: typer.Context,
    site: SiteFile,
    folder: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("runs/follow"),
    rate: Annotated[
        float | None, typer.Option(min=0.5, max=60, help="Analysed frames a second, in place of each camera's own.")
    ] = None,
    threshold: Threshold = None,
    mode: Mode = None,
    model: Annotated[str | None, typer.Option("--model", help=MODEL_HELP + SITES_OWN)] = None,
    detector: Annotated[str | None, typer.Option("--detector", help=DETECTOR_HELP + SITES_OWN)] = None,
    precision: Annotated[
        Precision | None, typer.Option("--precision", help="auto, fp32, bf16 or int8." + SITES_OWN)
    ] = None,
    threads: Threads = None,
    render: Annotated[
        Path | None,
        typer.Option("--render", help="Also film what was followed: all cameras in one video, a colour a person."),
    ] = None,
    duration: Annotated[
        str | None, typer.Option(help="Live cameras: for how long, such as 90s or 8h; until Ctrl-C by default.")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="Also keep all in a store while following: " + STORE_HELP)
    ] = None,
    truth: Annotated[
        bool,
        typer.Option("--truth", help="The site is a film of `passerby simulate`: print its truth beside, and scores."),
    ] = False,
) -> None:
    """Follow people through several cameras that share no view: who was where, from when to when.

    Recordings are read as fast as they can be, live cameras until Ctrl-C. Writes sightings.parquet,
    visits and links as JSONL and Parquet, and prints the visits.
    """
    from passerby.reid.embedder import Embedder
    from passerby.reid.inference import ReIDInference
    from passerby.site import load_site

    pipeline, detect = room_of("passerby.vision.pipeline"), room_of("passerby.vision.detect")
    found_site = load_site(site)
    live = [camera.name for camera in found_site.cameras if camera.live]
    if live and len(live) < len(found_site.cameras):
        raise PasserbyError(f"follow: {', '.join(live)} are live and the others recordings; give sites of one kind")
    if live and (render or truth or rate):
        raise PasserbyError("follow: --render, --truth and --rate are for recordings; leave them out")
    if duration and not live:
        raise PasserbyError("follow: recordings are followed to their end; leave --duration out")
    if mode is None and threshold is None:
        mode = found_site.mode
    detector = detector or found_site.detector
    reid = ReIDInference(
        threshold,
        mode=mode,
        model=model or found_site.model,
        precision=precision or found_site.precision,
        threads=threads,
    )
    say_terms(reid.card)
    opened = {
        "detector": detect.open_detector(detector, threads=threads),
        "embedder": reid.embedder,
        "looks": Embedder(pipeline.LOOKS, precision="fp32", threads=threads),
        "calibration": reid.calibration,
        "threshold": reid.threshold,
    }
    window = None
    if store is not None:
        kept = room_of("passerby.service.store").Store(store, tell=lambda line: err.print(line, soft_wrap=True))
        context.call_on_close(kept.close)
        kept.put_site(found_site)
        opened["keep"] = lambda made, changes: kept.write(sightings=made, links=changes.links, visits=changes.visits)
    if live:
        until_s = None if duration is None else seconds_of(duration)
        visits = _follow_live(pipeline, found_site, folder, until_s, opened).visits
        _print_visits(visits, found_site.name, found_site.time_zone, None)
        return
    if store is not None and found_site.draws:
        window = room_of("passerby.vision.window").Window(
            site=found_site.name, calibration=reid.calibration, time_zone=found_site.time_zone
        )
    drawing = room_of("passerby.vision.montage").Montage(found_site, rate=rate) if render else None
    judging = room_of("passerby.simulate.judging") if truth else None
    witness = judging.Witness(site.parent) if judging else None

    def see(seen: Sequence[Any]) -> None:  # Seens
        for each in (drawing, witness):
            if each is not None:
                each.see(seen)

    with bar("following") as progress:
        followed = pipeline.follow_recordings(
            found_site,
            folder,
            rate=rate,
            settings=[detector, reid.embedder.file_sha256, reid.embedder.precision, opened["looks"].file_sha256],
            see=see,
            window=window,
            progress=progress,
            **opened,
        )
    if window is not None:
        whole = room_of("passerby.service.drawing").whole(kept, found_site, window.counts(), seen=followed.sightings)
        room_of("passerby.service.kept").put_draws(kept, found_site.name, whole)
    for camera, (seen, skipped) in followed.frames.items():
        if skipped:
            err.print(f"Note: {camera}: {skipped} of {seen} frames could not be used", soft_wrap=True)
    judged = judging and judging.judge(
        site.parent,
        witness,
        visits=followed.visits,
        links=followed.links,
        sightings=followed.sightings,
        zones=[zone.name for zone in found_site.zones],
    )
    _print_visits(followed.visits, found_site.name, found_site.time_zone, judged.rows if judged else None)
    if judged:
        _print_judged(judged)
    out.print(
        f"{folder}: {len(followed.visits)} visits, {len(followed.links)} links, {len(followed.sightings)} sightings",
        soft_wrap=True,
    )
    if render and drawing:
        with bar("filming") as progress:
            written = drawing.write(render, followed.visits, progress=progress)
        out.print(f"{written}: what was followed, heads blurred", soft_wrap=True)


@app.command()
def link(
    sightings: Annotated[Path, typer.Argument(help="sightings.parquet, as `follow` and `simulate` write it.")],
    folder: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("runs/link"),
    site: Annotated[
        Path | None,
        typer.Option(help="The site's TOML file: doors, overlaps, re-entry. Without it each line crossed is a door."),
    ] = None,
    threshold: Threshold = None,
    mode: Mode = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="A calibration.json; by default that beside the sightings, else the bundled model's."),
    ] = None,
) -> None:
    """Link sightings of several cameras to visits: who was where, from when to when; and how many people that were.

    Writes visits, links and the draws of counts as JSONL and Parquet; prints the visits, and the people of each day with a 90 %
    interval.
    """
    from passerby.reid.inference import threshold_of
    from passerby.site import load_site

    pipeline, associate = room_of("passerby.vision.pipeline"), room_of("passerby.vision.associate")
    drawing = room_of("passerby.vision.window")
    described = pipeline.describe_sightings(sightings)
    known = _calibration_of(sightings, calibration, described.networks)
    least = threshold_of(threshold, mode)
    if site is None:
        associator = associate.Associator(
            site=described.site,
            cameras=described.cameras,
            calibration=known,
            threshold=least,
            doors=described.lines,
            for_draws=True,
        )
        doors, time_zone = described.lines, "UTC"
    else:
        found_site = load_site(site)
        missing = sorted({*described.cameras} - {camera.name for camera in found_site.cameras})
        if missing or found_site.name != described.site:
            raise PasserbyError(
                f"{sightings}: is of {described.site} with {', '.join(described.cameras)}; {site} is of {found_site.name}"
                + (f" without {', '.join(missing)}" if missing else "")
            )
        associator = pipeline.associator_of(found_site, calibration=known, threshold=least, for_draws=True)
        doors, time_zone = found_site.doors, found_site.time_zone
    err.print(f"{described.site}: {len(described.cameras)} cameras, {described.revisions:,} revisions", soft_wrap=True)
    window = drawing.Window(site=described.site, calibration=known, time_zone=time_zone)
    with bar("linking") as progress:
        followed = pipeline.link_sightings(
            sightings, folder, associator, doors=doors, revisions=described.revisions, window=window, progress=progress
        )
    _print_visits(followed.visits, described.site, time_zone, None)
    for row in window.counts():
        if row.length == "day" and row.what == "persons":
            value, low, high = row.interval()
            out.print(f"{row.start:%Y-%m-%d}: distinct people: {value:.0f} ({low:.0f}-{high:.0f})", highlight=False)
    out.print(
        f"{folder}: {len(followed.visits)} visits, {len(followed.links)} links, {len(followed.sightings)} sightings",
        soft_wrap=True,
    )


def _calibration_of(sightings: Path, given: Path | None, networks: Sequence[str]) -> Any:  # a Calibration
    """What similarities of a file's vectors mean: as a file says, or the card of the bundled model that made them."""
    import json

    from passerby.reid.calibration import Calibration
    from passerby.reid.card import bundled, is_detector, read_card

    network = networks[0] if networks else ""
    sha256, _, precision = network.partition(":")
    beside = given or sightings.with_name("calibration.json")
    if given is not None or beside.exists():
        try:
            found = Calibration.from_dict(json.loads(beside.read_text()))
        except (OSError, ValueError) as error:
            raise PasserbyError(f"{beside}: expected a calibration in JSON: {error}") from None
        if network:
            found.check(sha256, precision)
        return found
    for folder in bundled().values():
        if not is_detector(folder):
            for name, entry in read_card(folder).calibrations.items():
                if name == precision and entry.get("file_sha256") == sha256:
                    return Calibration.from_dict(entry)
    raise PasserbyError(
        f"{sightings}: its vectors were made by {network or 'no network'}, of no bundled model; give --calibration FILE.json"
    )


def _follow_live(pipeline: Any, site: Any, folder: Path, until_s: float | None, opened: dict[str, Any]) -> Any:
    """Follow live cameras until Ctrl-C, or for `until_s`; says how cameras are, and what ended. Any: rooms of an extra."""
    import signal
    import time
    from threading import Event

    readers = room_of("passerby.vision.readers")
    sources = {
        camera.name: readers.Source(camera.source, rate=camera.rate, clock_offset_s=camera.clock_offset_s)
        for camera in site.cameras
    }
    ends_s = math.inf if until_s is None else time.monotonic() + until_s
    phases: dict[str, str] = {}
    ended: set[str] = set()

    stopped = Event()

    def stop(number: int, frame: object) -> None:
        if not stopped.is_set():
            err.print("Stopping: what is open is closed and written", soft_wrap=True)
        stopped.set()

    def batches(opened_readers: Any) -> Iterator[list[Any]]:
        while not stopped.is_set() and time.monotonic() < ends_s:
            yield opened_readers.newest(timeout_s=1.0)
            for name, state in opened_readers.states().items():
                if phases.get(name) != state.phase:
                    phases[name] = state.phase
                    err.print(state.reason, soft_wrap=True)

    def tell(changes: Any) -> None:  # Changes
        for visit in changes.visits:
            if visit.final and visit.merged_into is None and visit.name not in ended:
                ended.add(visit.name)
                out.print(f"visit {visit.name}: {visit.start:%H:%M:%S} to {visit.end:%H:%M:%S} UTC", soft_wrap=True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with readers.Readers(sources) as opened_readers:
            return pipeline.follow_live(
                site, folder, batches(opened_readers), session=readers.new_session(), tell=tell, **opened
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_visits(
    visits: Sequence[Any], site: str, time_zone: str, true: Sequence[int | None] | None
) -> None:  # VisitRows
    from zoneinfo import ZoneInfo

    as_path = room_of("passerby.vision.visits").as_path
    zone = ZoneInfo(time_zone)
    table = Table(
        *([] if true is None else ["truly"]),
        "visit",
        "person",
        "entered",
        "left",
        "path, seconds in each zone",
        "least sure link",
        title=f"{site}: visits ({time_zone}); ( ) is when somebody was first or last seen",
    )
    people: dict[str, int] = {}
    for number, visit in enumerate(visits, 1):
        times = []
        for at, else_at in ((visit.entered, visit.start), (visit.left, visit.end)):
            shown = (at or else_at).astimezone(zone).strftime("%H:%M:%S")
            times.append(shown if at else f"({shown})")
        dwell = ", ".join(f"{name} {seconds:.0f}" for name, seconds in visit.dwell_s().items())
        table.add_row(
            *([] if true is None else [str(true[number - 1] or "nobody")]),
            str(number),
            str(people.setdefault(visit.person, len(people) + 1)),
            *times,
            as_path(visit.cameras) + (f"\n{dwell}" if dwell else ""),
            "" if visit.probability is None else f"{visit.probability:.0%}",
        )
    out.print(table)


def _print_judged(judged: Any) -> None:  # a Judgement
    table = Table("", "truly", "found", "right", title="beside the truth of the film")
    table.add_row("visits (staff too)", *map(str, (judged.true_visits, judged.visits, judged.right)))
    for name in ("entries", "exits"):
        table.add_row(name, *map(str, getattr(judged, name)))
    links, errors = judged.links, judged.dwell_errors_s
    table.add_row("links between cameras", *map(str, (links.there, links.said, links.right)))
    table.add_row("dwell times, right within 2 s", *map(str, (len(errors), len(errors), int((errors <= 2).sum()))))
    out.print(table)
    out.print(f"Link F1 {links.f1:.1%}" + (f"; dwell off by {errors.mean():.1f} s in the mean" if len(errors) else ""))


@app.command()
def zones(
    site: SiteFile,
    picture: Annotated[Path, typer.Option("--out", help="The PNG file to write.")] = Path("zones.png"),
) -> None:
    """Draw each camera's picture with its zones and lines, heads blurred, into one PNG: do they lie where they should?"""
    from passerby.site import load_site

    montage, detect = room_of("passerby.vision.montage"), room_of("passerby.vision.detect")
    missing = montage.draw_site(load_site(site), picture, detector=detect.open_detector())
    for name in missing:
        err.print(f"Note: {name} lies in no camera's picture", soft_wrap=True)
    out.print(str(picture), soft_wrap=True)
