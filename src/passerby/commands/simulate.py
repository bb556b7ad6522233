"""Commands around the simulated shop: simulate, render, benchmark-shop."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from passerby.commands.options import (
    MODEL_HELP,
    Json,
    Pattern,
    Split,
    bar,
    out,
    read_data,
    room_of,
    seconds_of,
    write_json,
)
from passerby.types import PasserbyError

app = typer.Typer()


@app.command()
def simulate(
    shop: Annotated[Path, typer.Argument(help="A shop, such as recipes/reference_normal.toml.")],
    level: Annotated[
        Literal["vectors", "crops", "video"],
        typer.Option(
            help="vectors are drawn; crops are a data set's real pictures (--people), embedded; video is filmed clips."
        ),
    ] = "vectors",
    people: Annotated[
        str | None, typer.Option("--people", help="For crops: KIND:PATH, whose people the shoppers wear.")
    ] = None,
    split: Annotated[Split, typer.Option(help="For crops: which of its people.")] = "test",
    pattern: Pattern = None,
    model: Annotated[str, typer.Option("--model", help="For crops: " + MODEL_HELP)] = "osnet_x0_75",
    duration: Annotated[str, typer.Option(help="From opening: 90s, 2m, 8h or 1d.")] = "1h",
    seed: Annotated[int, typer.Option(min=0, help="Everything that is drawn follows from it.")] = 0,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Write all revisions of a sighting, not its last alone.")
    ] = False,
    folder: Annotated[Path | None, typer.Option("--out", help="The folder to write.")] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="In place of --out: draw the floor plan to this SVG file.")
    ] = None,
) -> None:
    """Simulate visits to a shop: sightings as its cameras would make them, and the truth in files of its own."""
    from dataclasses import replace

    seconds = seconds_of(duration)
    settings, room = _shop(shop), room_of("passerby.simulate.recording")
    if (folder is None) == (plan is None):
        raise PasserbyError("simulate: give either --out FOLDER or --plan FILE.svg")
    if plan is not None:
        from itertools import islice

        drawing = room_of("passerby.simulate.drawing")
        views = room.Views(settings)
        come = room.visits(settings, views, seed=seed, duration_s=86400.0)
        shown = islice((visit for visit in come if len(visit.plan) > 1), 3)
        plan.write_text(drawing.draw(settings, views, shown))
        out.print(f"{plan}: {settings.name}, {len(settings.cameras)} cameras", soft_wrap=True)
        return
    assert folder is not None  # checked above
    if level == "video":
        if people is not None or refresh:
            raise PasserbyError("simulate: level video takes neither --people nor --refresh")
        footage = room_of("passerby.simulate.footage")
        atlas = footage.Atlas()
        with bar("filming") as progress:
            seen = footage.film(settings, folder, atlas, seed=seed, duration_s=seconds, progress=progress)
        out.print(f"{folder}: {len(settings.cameras)} clips of {duration}, {seen} people", soft_wrap=True)
        return
    if level == "crops":
        settings = replace(settings, staff=0)  # nobody's pictures are worn all day, or twice
    source = _source(level, people, split, pattern, model, settings)(seed)
    with bar("simulating") as progress:
        made = room.record(
            settings,
            source,
            folder,
            seed=seed,
            duration_s=seconds,
            refresh=refresh,
            reentries=level == "vectors",
            progress=progress,
        )
    out.print(
        f"{folder}: {made.visits:,} visits, {made.people_present:.1f} people present, {made.sightings:,} sightings "
        f"({made.false:,} of them false), {made.missed:,} missed",
        soft_wrap=True,
    )


@app.command()
def render(
    what: Annotated[
        Literal["pictures", "sequences"],
        typer.Argument(help="pictures: COCO, for a detector; sequences: six in MOTChallenge's form, for a tracker."),
    ],
    folder: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    number: Annotated[int, typer.Option("--number", min=1, help="Of pictures.")] = 2000,
    backgrounds: Annotated[
        Path | None,
        typer.Option(
            help="For pictures: a folder of photos without people, put behind half of them; of a COCO set those without boxes."
        ),
    ] = None,
    duration: Annotated[str, typer.Option(help="Of each sequence: 30s or 2m.")] = "30s",
    seed: Annotated[int, typer.Option(min=0, help="Everything that is drawn follows from it.")] = 0,
) -> None:
    """Render people who are nobody, with their boxes: to train a detector with, or to tune a tracker on."""
    seconds, rendering = seconds_of(duration), room_of("passerby.simulate.rendering")
    if what == "sequences":
        if backgrounds is not None:
            raise PasserbyError("render: sequences take no --backgrounds; they are filmed in drawn shops")
        with bar("filming") as progress:
            rendering.write_sequences(folder, rendering.Atlas(), seed=seed, duration_s=seconds, progress=progress)
        out.print(f"{folder}: {len(rendering.PARTIES_PER_HOUR)} sequences of {duration}", soft_wrap=True)
        return
    photos = rendering.empty_photos(backgrounds) if backgrounds is not None else ()
    with bar("rendering") as progress:
        people = rendering.write_pictures(
            folder, rendering.Atlas(), pictures=number, seed=seed, photos=photos, progress=progress
        )
    out.print(f"{folder}: {number:,} pictures, {people:,} people, {len(photos):,} photos behind them", soft_wrap=True)


@app.command(name="benchmark-shop")
def benchmark_shop(
    shop: Annotated[Path, typer.Argument(help="A shop, such as recipes/reference_normal.toml.")],
    people: Annotated[
        str | None, typer.Option("--people", help="KIND:PATH, whose people the shoppers wear; drawn vectors without.")
    ] = None,
    split: Annotated[Split, typer.Option(help="With --people: which of its people.")] = "test",
    pattern: Pattern = None,
    model: Annotated[str, typer.Option("--model", help="With --people: " + MODEL_HELP)] = "osnet_x0_75",
    seeds: Annotated[int, typer.Option(min=1, help="How many times the shop is simulated.")] = 5,
    first_seed: Annotated[int, typer.Option(min=1, help="The seed of the first time.")] = 1,
    duration: Annotated[str, typer.Option(help="After the first hour: 90s, 2m, 8h or 1d.")] = "1h",
    result: Json = None,
) -> None:
    """Measure how well people are followed through a simulated shop: by our associator, naive linkers, perfect appearance.

    The associator learns times by itself, from nothing: links of its first hour are scored apart. Naive linkers know them.
    """
    from dataclasses import replace
    from statistics import median

    seconds, settings = seconds_of(duration), _shop(shop)
    benchmarking = room_of("passerby.simulate.benchmark")
    level = "vectors" if people is None else "crops"
    if people is not None:
        settings = replace(settings, staff=0)
    source = _source(level, people, split, pattern, model, settings)
    with bar("simulating and linking") as progress:
        scores = benchmarking.benchmark(
            settings,
            source,
            seeds=range(first_seed, first_seed + seeds),
            duration_s=seconds,
            reentries=people is None,
            progress=progress,
        )
    figures = ("f1", "precision", "recall")
    if result is not None:
        write_json(
            result,
            {
                "shop": settings.name,
                "shop_sha256": settings.sha256,
                "people": people,
                "duration_s": seconds,
                "seeds": list(range(first_seed, first_seed + seeds)),
                "linkers": {
                    name: {
                        part: {figure: [getattr(getattr(row, part), figure) for row in rows] for figure in figures}
                        for part in ("cold", "learnt")
                    }
                    | {
                        "idf1": [row.identities.idf1 for row in rows],
                        "transitions_f1": [row.transitions.f1 for row in rows],
                        "whole_paths": [row.paths[0] / row.paths[1] for row in rows],
                    }
                    for name, rows in scores.items()
                },
            },
        )
        return
    table = Table(
        "linker",
        "f1, first hour",
        *figures,
        "of the gap",
        "idf1",
        "transitions",
        "whole paths",
        title=f"{settings.name}, links between cameras, {seeds} seeds: median (lowest - highest)",
    )

    def cell(values: Sequence[float]) -> str:
        low, middle, high = (100 * of(values) for of in (min, median, max))
        return f"{middle:.1f} ({low:.1f} - {high:.1f})"

    for name, rows in scores.items():
        ours = name in ("online", "refined")
        table.add_row(
            name,
            cell([row.cold.f1 for row in rows]),
            *(cell([getattr(row.learnt, figure) for row in rows]) for figure in figures),
            cell(benchmarking.closed(scores, name)) if ours else "",
            cell([row.identities.idf1 for row in rows]),
            cell([row.transitions.f1 for row in rows]),
            cell([row.paths[0] / row.paths[1] for row in rows]),
        )
    out.print(table)
    for name in ("online", "refined"):
        pooled = benchmarking.pooled(scores[name])
        out.print(
            f"{name}: {pooled.promised:.0f} false links promised, {pooled.seen} seen; calibration error {pooled.error:.3f}"
        )


def _shop(path: Path) -> Any:  # a Shop
    from passerby.config import load_toml

    return load_toml(path, room_of("passerby.simulate.plan").Shop)


def _source(
    level: str, people: str | None, split: Split, pattern: str | None, model: str, shop: Any
) -> Callable[[int], Any]:
    """What makes the vectors of a simulated shop for a seed."""
    appearance = room_of("passerby.simulate.appearance")
    if (level == "crops") != (people is not None):
        raise PasserbyError(f"simulate: level {level} {'needs' if level == 'crops' else 'takes no'} --people KIND:PATH")
    if people is None and pattern is not None:
        raise PasserbyError("simulate: --pattern goes with --people; leave it out")
    cameras = len(shop.cameras)
    if people is None:
        return lambda seed: appearance.DrawnVectors(shop.looks, seed=seed, cameras=cameras)
    from passerby.reid.assess import labelled
    from passerby.reid.embedder import Embedder

    (dataset,) = read_data([people], [pattern] if pattern else (), split=split)
    pictures = labelled(dataset)
    embedder = Embedder(model)
    return lambda seed: appearance.RealCrops(pictures, embedder, seed=seed, cameras=cameras)
