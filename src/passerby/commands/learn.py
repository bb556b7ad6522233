"""Commands that make networks: train and export."""

from pathlib import Path
from typing import Annotated, Any

import typer

from passerby.commands.options import (
    DATA_HELP,
    Device,
    ManyPatterns,
    Skip,
    err,
    naming_unreadable,
    out,
    read_data,
    room_of,
)

app = typer.Typer()
InPlaceOfData = Annotated[
    list[str] | None, typer.Option("--data", help=DATA_HELP + " In place of the recipe's data and patterns.")
]


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/market_cuhk03_gates_x0_75.toml.")],
    folder: Annotated[Path | None, typer.Option("--out", help="Where the run is kept; runs/NAME by default.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint, where there is one.")
    ] = False,
    device: Annotated[Device, typer.Option(help="auto takes a GPU where torch sees one.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; all by default.")] = None,
    data: InPlaceOfData = None,
    pattern: ManyPatterns = None,
    skip_unreadable: Skip = False,
) -> None:
    """Train a network; Ctrl-C saves a checkpoint and stops, --resume goes on from it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from passerby.config import load_toml
    from passerby.reid.datasets import merge
    from passerby.reid.leakage import check_leakage

    training = room_of("passerby.learn.train")
    settings = load_toml(recipe, room_of("passerby.learn.recipe").Recipe)
    pictures = merge(_read(settings, data, pattern, "train", skip_unreadable)).train
    dev = _read(settings, data, pattern, "dev", skip_unreadable)
    used = [p.path for p in (*pictures, *(p for part in dev for p in part.query + part.gallery))]
    with naming_unreadable(used):
        for part in dev:
            check_leakage(pictures, [*part.query, *part.gallery])
    folder = folder or Path("runs") / settings.name
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as shown_bar:
        task = shown_bar.add_task("starting", total=None, note="")
        shown = ""

        def progress(now: object) -> None:
            nonlocal shown
            assert isinstance(now, training.RunState)
            if now.activity != shown:
                shown_bar.reset(task, total=now.total, completed=now.done)
                shown = now.activity
            note = "" if now.loss is None else f"loss {now.loss:.2f}  {now.images_per_s:.0f} images/s  {now.dev or ''}"
            shown_bar.update(task, description=now.activity, total=now.total, completed=now.done, note=note)

        outcome = training.train(
            settings, pictures, dev, folder, resume=resume, device=device, threads=threads, progress=progress
        )
    figures = ", ".join(f"{name.removeprefix('dev_')} {value:.1%}" for name, value in outcome.dev.items())
    if outcome.interrupted:
        err.print(
            f"Stopped after step {outcome.step}; `passerby train {recipe} --out {folder} --resume` goes on.",
            soft_wrap=True,
        )
        raise typer.Exit(1)
    out.print(f"{outcome.weights}: {outcome.step} steps; dev: {figures}", soft_wrap=True)


@app.command()
def export(
    weights: Annotated[Path, typer.Argument(help="weights.pt of a training run.")],
    recipe: Annotated[Path, typer.Option("--recipe", help="The recipe that made them.")],
    folder: Annotated[Path, typer.Option("--out", help="The model folder to write.")],
    data: InPlaceOfData = None,
    pattern: ManyPatterns = None,
    int8: Annotated[bool, typer.Option(help="Also write model_int8.onnx, quantised on dev pictures.")] = False,
    bf16: Annotated[bool, typer.Option(help="Also calibrate bf16, emulated, for processors that have it.")] = False,
    commercial_use: Annotated[bool, typer.Option(help="All training data allows commercial use.")] = False,
    blend: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the weights that the run began with, mixed back in."),
    ] = 0.0,
    start: Annotated[
        Path | None, typer.Option("--start", help="Weights for --blend; start.pt beside the weights by default.")
    ] = None,
    skip_unreadable: Skip = False,
) -> None:
    """Turn trained weights into a model folder: ONNX, verified against torch, with its card."""
    from passerby.config import load_toml
    from passerby.reid.card import CardData
    from passerby.reid.datasets import terms_of

    recipes, exporting = room_of("passerby.learn.recipe"), room_of("passerby.learn.export")
    settings = load_toml(recipe, recipes.Recipe)
    sources: dict[
        str, list[str]
    ] = {}  # a set's name, in a saved split the one it had there -> the person of each picture
    for part in _read(settings, data, pattern, "train", skip_unreadable):
        for picture in part.train:
            sources.setdefault(picture.person.partition(":")[0], []).append(picture.person)
    trained_on = [
        CardData(name=source, people=len(set(people)), pictures=len(people), terms=terms_of(source))
        for source, people in sources.items()
    ]
    dev = _read(settings, data, pattern, "dev", skip_unreadable)
    network = exporting.load_weights(weights, settings.architecture)
    origin = recipes.origin(settings)
    if blend:
        network = exporting.blend(network, start or weights.with_name("start.pt"), blend)
        origin += f"; {1 - blend:g} of what was learnt and {blend:g} of the {'first ' if start else ''}start"
    card = exporting.export_folder(
        network,
        folder,
        name=settings.name,
        height=settings.stages[-1].height,
        width=settings.stages[-1].width,
        trained_on=trained_on,
        origin=origin,
        recipe=recipe.name,
        commercial_use=commercial_use,
        networks=recipes.networks(settings),
        seed=settings.seed,
        processor_hours=recipes.processor_hours(settings, weights.with_name("log.jsonl")),
        int8_on=dev if int8 else (),
    )
    if bf16:
        exporting.calibrate_bf16(network, folder, dev)
    out.print(f"{folder}: {', '.join(entry.file for entry in card.files.values())}, card.json", soft_wrap=True)


def _read(settings: Any, data: list[str] | None, pattern: list[str] | None, split: str, skip_unreadable: bool) -> Any:
    """One part of each data set (Datasets) of a recipe, or of those given in place of them."""
    patterns = pattern or (None if data else settings.patterns)
    return read_data(
        data or settings.data, patterns, split=split, people=settings.dev_people, skip_unreadable=skip_unreadable
    )
