"""Commands that set a site up: init, check-site."""

import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.table import Table

from passerby.commands.options import err, out, room_of
from passerby.types import PasserbyError, VideoError

app = typer.Typer()


@app.command()
def init(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...", help="Video files, folders of pictures, rtsp:// or http:// URLs, /dev/video0."
        ),
    ] = None,
    file: Annotated[
        Path, typer.Option("--out", help="The site's file to write; one that is there is left alone.")
    ] = Path("site.toml"),
    name: Annotated[
        str | None, typer.Option(help="What the site is called; by default as the folder of its file.")
    ] = None,
    time_zone: Annotated[str | None, typer.Option(help="Such as Europe/Paris; asked for on a terminal.")] = None,
) -> None:
    """Write a site's file to begin with: open each camera, say what it gives, and leave the rest in comments."""
    from passerby.files import write_text
    from passerby.reid.inference import ReIDInference
    from passerby.site import draft

    readers = room_of("passerby.vision.readers")
    if file.exists():
        raise PasserbyError(f"{file}: is there already; choose another name with --out")
    if not sources:
        sources = _asked("Video file, URL or webcam, several with blanks between", None, "SOURCE").split()
    time_zone = time_zone or _asked("Time zone of the site", _zone_here(), "--time-zone, such as Europe/Paris,")
    _check(
        draft("site", [("camera", "file", None)], time_zone=time_zone, precision="auto"), file
    )  # before any camera is opened
    cameras: list[tuple[str, str, datetime | None]] = []
    undated = []
    for source in sources:
        look = readers.look_at(source)
        begins = None
        if not readers.is_live(source):
            begins = look.begins or datetime.fromtimestamp(int(Path(source).stat().st_mtime), UTC)
        called = _called(source, len(cameras) + 1, {camera for camera, _, _ in cameras})
        cameras.append((called, _written(source, file, readers), begins))
        out.print(f"{called}: {_given(look)}", soft_wrap=True)
        if begins is not None and look.begins is None:
            undated.append(called)
    text = draft(
        name or file.absolute().parent.name or "site",
        cameras,
        time_zone=time_zone,
        precision=ReIDInference().embedder.precision,
    )
    _check(text, file)
    write_text(file, text)
    if undated:
        err.print(
            f"Note: {', '.join(undated)}: the file does not say when it was begun; `begins` is when it was last changed: "
            "correct it",
            soft_wrap=True,
        )
    if any(urlsplit(source).password for source in sources):
        file.chmod(0o600)
        err.print(f"Note: {file} holds a password; you alone may read it", soft_wrap=True)
    out.print(f"{file}: draw its lines and zones, then: passerby check-site {file}", soft_wrap=True)


@app.command("check-site")
def check_site(
    site: Annotated[Path, typer.Argument(help="A site's TOML file.")],
    picture: Annotated[
        Path, typer.Option("--out", help="The PNG file to write: each camera's picture with its places, heads blurred.")
    ] = Path("site.png"),
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="How long to wait for a camera, in seconds.")
    ] = 20.0,
) -> None:
    """Open every camera of a site, say what is wrong, and draw what each sees with its places.

    The exit code is 1 where something is wrong.
    """
    from passerby.site import load_site

    readers, montage = room_of("passerby.vision.readers"), room_of("passerby.vision.montage")
    detector = room_of("passerby.vision.detect").open_detector()
    found = load_site(site)
    wrong: list[str] = []
    notes: list[str] = []
    seen: dict[str, Any] = {}  # pictures by camera
    table = Table("camera", "gives", "people now", "places", title=f"{found.name} ({found.time_zone})")
    for camera in found.cameras:
        source = found.source(camera)
        try:
            if not camera.live:  # also its time
                room_of("passerby.vision.video").frames(
                    source, camera=camera.name, begins=camera.begins, rate=camera.rate
                )
            look = readers.look_at(source, timeout_s=timeout_s)
        except VideoError as error:
            wrong.append(f"{camera.name}: {error}")
            table.add_row(camera.name, "nothing", "", "")
            continue
        seen[camera.name] = look.picture
        places = montage.draw_in(look.picture.copy(), found, camera)
        table.add_row(camera.name, _given(look), str(len(detector([look.picture])[0])), ", ".join(places))
        if look.rate is not None and look.rate < 0.8 * camera.rate:
            wrong.append(
                f"{camera.name}: gives {look.rate:.1f} pictures a second, and its rate asks for {camera.rate:g}; is its "
                "network slow, or is it set so?"
            )
        if look.picture.max() < DARK:
            wrong.append(f"{camera.name}: its picture is black; is its lens covered, or does it wait for a password?")
    out.print(table)
    if seen:
        for place in montage.draw_site(found, picture, detector=detector, seen_by=seen):
            wrong.append(f"{place}: lies in no camera's picture")
        out.print(f"{picture}: what they see, with their places; is each where it should be?", soft_wrap=True)
    out.print(_opening(found), soft_wrap=True)
    if not found.doors:
        notes.append("no line is a door: entries and exits are not counted, and visits begin and end unseen")
    for note in notes:
        err.print(f"Note: {note}", soft_wrap=True)
    for each in wrong:
        err.print(f"Wrong: {each}", soft_wrap=True)
    if wrong:
        raise typer.Exit(1)
    out.print(f"{site}: nothing is wrong; passerby serve {site}", soft_wrap=True)


DARK = 16  # of 255: the brightest spot of a picture that is called black


def _given(look: Any) -> str:  # a Look
    height, width = look.picture.shape[:2]
    return f"{width} x {height}" + ("" if look.rate is None else f", {look.rate:.1f} pictures a second")


def _opening(site: Any) -> str:  # a Site
    from passerby.site import WEEKDAYS

    holidays = f"; closed on {len(site.holidays)} holidays" if site.holidays else ""
    if site.hours is None:
        return f"always open{holidays}"
    days = [(day, getattr(site.hours, day)) for day in WEEKDAYS]
    return "open " + "; ".join(f"{day} {', '.join(times)}" for day, times in days if times) + holidays


def _asked(question: str, default: str | None, option: str) -> str:
    if not sys.stdin.isatty():
        raise PasserbyError(f"init: {option} is missing")
    return str(typer.prompt(question, default=default, err=True))


def _zone_here() -> str | None:
    """The time zone of this machine, where it says."""
    there = os.environ.get("TZ") or os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]
    return there or None


def _called(source: str, number: int, taken: set[str]) -> str:
    """A name for a camera: that of its file, else a number."""
    stem = Path(source).stem if "://" not in source and not source.startswith("/dev/") else ""
    name = re.sub(r"[\W_]+", " ", stem).strip() or f"camera {number}"
    return name if name not in taken else f"{name} {number}"


def _written(source: str, file: Path, readers: Any) -> str:  # passerby.vision.readers
    """A source as the site's file has it: a file as seen from there."""
    if readers.is_live(source):
        return source
    return Path(os.path.relpath(source, file.absolute().parent)).as_posix()


def _check(text: str, file: Path) -> None:
    """Raise where what is to be written could not be read again."""
    import tempfile

    from passerby.site import load_site
    from passerby.types import ConfigError

    with tempfile.TemporaryDirectory() as folder:
        drafted = Path(folder, "site.toml")
        drafted.write_text(text, encoding="utf-8")
        try:
            load_site(drafted)
        except ConfigError as error:
            raise PasserbyError(f"{file}: {str(error).removeprefix(f'{drafted}: ')}") from None
