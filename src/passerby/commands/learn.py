"""Commands that make networks: train, export and train-detector."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from passerby.commands.options import (
    DATA_HELP,
    Device,
    ManyPatterns,
    Skip,
    bar,
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

LeaveOut = Annotated[
    list[str] | None,
    typer.Option("--leave-out", help="A set to do without, by the name that its people's ids begin with; repeat it."),
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
    leave_out: LeaveOut = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Let torch compile the network; for a GPU.")] = False,
    skip_unreadable: Skip = False,
) -> None:
    """Train a network; Ctrl-C saves a checkpoint and stops, --resume goes on from it."""
    from passerby.config import load_toml
    from passerby.reid.datasets import merge
    from passerby.reid.leakage import check_leakage

    training = room_of("passerby.learn.train")
    settings = load_toml(recipe, room_of("passerby.learn.recipe").Recipe)
    pictures = merge(_read(settings, data, pattern, "train", skip_unreadable, leave_out)).train
    dev = _read(settings, data, pattern, "dev", skip_unreadable, leave_out)
    used = [p.path for p in (*pictures, *(p for part in dev for p in part.query + part.gallery))]
    with naming_unreadable(used):
        for part in dev:
            check_leakage(pictures, [*part.query, *part.gallery])
    folder = folder or Path("runs") / settings.name
    with _run_bar() as progress:
        outcome = training.train(
            settings,
            pictures,
            dev,
            folder,
            resume=resume,
            device=device,
            threads=threads,
            compiled=compiled,
            progress=progress,
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
        Path | None,
        typer.Option("--start", help="Weights or a model folder for --blend; start.pt beside the weights by default."),
    ] = None,
    leave_out: LeaveOut = None,
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
    for part in _read(settings, data, pattern, "train", skip_unreadable, leave_out):
        for picture in part.train:
            sources.setdefault(picture.person.partition(":")[0], []).append(picture.person)
    trained_on = [
        CardData(name=source, people=len(set(people)), pictures=len(people), terms=terms_of(source))
        for source, people in sources.items()
    ]
    dev = _read(settings, data, pattern, "dev", skip_unreadable, leave_out)
    network = exporting.load_weights(weights, settings.architecture)
    origin, networks = recipes.origin(settings), recipes.networks(settings)
    if blend:
        network = exporting.blend(network, start or weights.with_name("start.pt"), blend)
        other, more = recipes.named(start) if start else ("the start", [])
        origin += f"; {1 - blend:g} of what was learnt and {blend:g} of {other}"
        networks += [one for one in more if one.name not in {known.name for known in networks}]
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
        networks=networks,
        seed=settings.seed,
        processor_hours=recipes.processor_hours(settings, weights.with_name("log.jsonl")),
        int8_on=dev if int8 else (),
    )
    if bf16:
        exporting.calibrate_bf16(network, folder, dev)
    out.print(f"{folder}: {', '.join(entry.file for entry in card.files.values())}, card.json", soft_wrap=True)


def _read(
    settings: Any,
    data: list[str] | None,
    pattern: list[str] | None,
    split: str,
    skip_unreadable: bool,
    leave_out: list[str] | None,
) -> Any:
    """One part of each data set (Datasets) of a recipe, or of those given in place of them, without those to leave out."""
    from passerby.reid.datasets import without_sets

    patterns = pattern or (None if data else settings.patterns)
    read = read_data(
        data or settings.data, patterns, split=split, people=settings.dev_people, skip_unreadable=skip_unreadable
    )
    return without_sets(read, leave_out or ())


@app.command(name="train-detector")
def train_detector(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/detector.toml.")],
    folder: Annotated[Path | None, typer.Option("--out", help="Where the run is kept; runs/NAME by default.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint, where there is one.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; all by default.")] = None,
    commercial_use: Annotated[bool, typer.Option(help="All training data allows commercial use.")] = False,
) -> None:
    """Train a person detector and write its model folder; Ctrl-C saves a checkpoint and stops, --resume goes on from it."""
    from passerby.config import load_toml

    training, publishing = room_of("passerby.learn.detector"), room_of("passerby.learn.publish")
    settings = load_toml(recipe, room_of("passerby.learn.detector_recipe").DetectorRecipe)
    folder = folder or Path("runs") / settings.name
    pictures = [_labelled(source, settings, folder, threads) for source in settings.train]
    judge = _judge([_labelled(source, settings, folder, threads) for source in settings.val], settings, threads)
    with _run_bar() as progress:
        outcome = training.train_detector(
            settings,
            pictures,
            folder,
            measure=lambda file: judge(file, "fp32").figures,
            resume=resume,
            threads=threads,
            progress=progress,
        )
    if outcome.interrupted:
        err.print(
            f"Stopped after step {outcome.step}; `passerby train-detector {recipe} --out {folder} --resume` goes on.",
            soft_wrap=True,
        )
        raise typer.Exit(1)
    card = publishing.publish(
        outcome.weights,
        folder / "model",
        settings,
        recipe_name=recipe.name,
        judge=judge,
        pictures=[picture for part in pictures for picture in part],
        trained_on=publishing.trained_on(settings, pictures),
        processor_hours=training.processor_hours(settings, folder / "log.jsonl"),
        commercial_use=commercial_use,
    )
    figures = ", ".join(f"{name} {value:.1%}" for name, value in outcome.dev.items())
    out.print(f"{folder / 'model'}: {card.name}, {outcome.step} steps; last look at val: {figures}", soft_wrap=True)


def _labelled(
    source: Any, settings: Any, folder: Path, threads: int | None
) -> Any:  # Source, DetectorRecipe -> [Labelled]
    """A source's pictures, completed by the teachers where the recipe says so; what they found is kept in the run's folder."""
    from passerby.files import file_hash, settings_hash, write_json
    from passerby.learn import scenes
    from passerby.reid.pictures import read_picture
    from passerby.vision.detect import open_detector

    pictures = scenes.read_coco(source.folder, split=source.split)
    err.print(scenes.summary(source.folder, pictures), soft_wrap=True)
    if not source.complete:
        return pictures
    files = [file_hash(teacher.file) for teacher in settings.teachers]
    names = [str(picture.path) for picture in pictures]
    kept = folder / "labels" / f"{settings_hash([files, [t.sizes for t in settings.teachers], names])[:16]}.json"
    if not kept.exists():
        levels = settings.certainty.doubt
        teachers = [
            open_detector(teacher.file, sizes=teacher.sizes, threads=threads, least_score=level)
            for teacher, level in zip(settings.teachers, levels, strict=True)
        ]
        found = []
        with bar("asking the teachers") as progress:
            for number, picture in enumerate(pictures):
                progress(number, len(pictures))
                seen = read_picture(picture.path)
                found.append(
                    [
                        [one.boxes_xyxy.tolist(), one.scores.tolist()]
                        for one in (teacher([seen])[0] for teacher in teachers)
                    ]
                )
            progress(len(pictures), len(pictures))
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, found)
    return scenes.completed_all(pictures, kept, settings.certainty, without_people=source.without_people)


def _judge(val: Any, settings: Any, threads: int | None) -> Any:  # lists of Labelled, a DetectorRecipe -> a Judge
    """What runs a detector's file on the recipe's `val` pictures, a figure for each source, all detections together."""
    import numpy as np

    from passerby.learn.publish import Judged
    from passerby.reid.pictures import read_picture
    from passerby.vision.boxes import Truth, average_precision, match
    from passerby.vision.detect import NEGLIGIBLE, open_detector

    def judge(file: Path, precision: Any) -> Any:
        detector = open_detector(
            file, sizes=settings.sizes, precision=precision, threads=threads, least_score=NEGLIGIBLE
        )
        figures, scores, hits = {}, [], []
        for source, pictures in zip(settings.val, val, strict=True):
            found = [detector([read_picture(picture.path)])[0] for picture in pictures]
            matches = match(found, [Truth(picture.boxes, picture.ignored) for picture in pictures])
            figures[f"{source.folder.name} AP50"] = average_precision(matches)
            scores.append(matches.scores)
            hits.append(matches.hits)
        return Judged(np.concatenate(scores), np.concatenate(hits), figures)

    return judge


@contextmanager
def _run_bar() -> Iterator[Callable[[Any], None]]:  # takes a learn.train.RunState
    """A bar for a run: what it does, how far it is, its loss and its speed."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

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

        def progress(now: Any) -> None:
            nonlocal shown
            if now.activity != shown:
                shown_bar.reset(task, total=now.total, completed=now.done)
                shown = now.activity
            note = "" if now.loss is None else f"loss {now.loss:.2f}  {now.images_per_s:.0f} images/s  {now.dev or ''}"
            shown_bar.update(task, description=now.activity, total=now.total, completed=now.done, note=note)

        yield progress
