"""The command line: parse, call one function, print; a room is imported only inside its command."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from passerby.types import PasserbyError

app = typer.Typer(
    name="passerby",
    help="Tell people apart across cameras without knowing who they are.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
out = Console(markup=False)  # a [ in a file's name is no markup
err = Console(stderr=True, markup=False)

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "int8"]
Split = Literal["train", "dev", "test", "official"]
MODEL_HELP = "A bundled model's name, a model folder, or an .onnx / .xml file."
DATA_HELP = "KIND:PATH; kinds are market1501, dukemtmc, cuhk03, last, msmt17, folder and csv."

Data = Annotated[str, typer.Option("--data", help=DATA_HELP)]
ManyData = Annotated[list[str], typer.Option("--data", help=DATA_HELP + " May be repeated.")]
Model = Annotated[str, typer.Option("--model", help=MODEL_HELP)]
Json = Annotated[
    Path | None, typer.Option("--json", help="Write the result as JSON to this file; - is standard output.")
]
DeviceOption = Annotated[Device, typer.Option("--device", help="cpu (OpenVINO) or cuda (ONNX Runtime); auto is cpu.")]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="auto takes the fastest that the card has a calibration for.")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Processor threads; all by default.")]
People = Annotated[
    int, typer.Option("--people", min=1, help="How many dev people are set aside of the training people.")
]
Skip = Annotated[bool, typer.Option("--skip-unreadable", help="Leave out files that cannot be decoded, and name them.")]
Colour = Annotated[
    Literal["bgr", "rgb"] | None,
    typer.Option("--input-colour", help="What a file without a card expects; bgr by default."),
]
Range = Annotated[
    Literal["0..255", "0..1"] | None,
    typer.Option("--input-range", help="What a file without a card expects; 0..255 by default."),
]
Threshold = Annotated[
    float | None, typer.Option("--threshold", help="Posterior probability from which two are the same.")
]
Mode = Annotated[
    str | None,
    typer.Option("--mode", help="visitor-counting (0.50), customer-journey (0.65) or high-precision (0.80)."),
]
Pictures = Annotated[list[Path], typer.Argument(help="Picture files.")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out.print(f"passerby {version('passerby')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Exit codes: 0 it worked; 1 an error that the message explains; 2 the command was called wrongly."""


@app.command()
def split(
    data: ManyData,
    path: Annotated[Path, typer.Option("--out", help="The CSV file to write, a data set itself: csv:FILE.")],
    shares: Annotated[
        tuple[float, float, float], typer.Option("--shares", help="Parts of the people: train, dev and test.")
    ] = (0.8, 0.1, 0.1),
    seed: Annotated[int, typer.Option("--seed", help="Draws people and queries.")] = 0,
) -> None:
    """Make one data set of several, split by person: two queries a person from two cameras, the rest as gallery."""
    from passerby.reid.datasets import (
        parse_spec,
        person_disjoint_split,
        read_pictures,
        save_split,
        without_near_duplicates,
    )

    pictures = [picture for spec in data for picture in read_pictures(*parse_spec(spec))]
    drawn = person_disjoint_split(pictures, shares=shares, seed=seed, name=path.stem)
    made = without_near_duplicates(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_split(made, path)
    for name, part in (
        ("train", made.train),
        ("dev", made.dev.query + made.dev.gallery),
        ("test", made.test.query + made.test.gallery),
    ):
        out.print(f"{name}: {len({p.person for p in part}):,} people, {len(part):,} pictures")
    out.print(
        f"{len(made.test.query):,} test queries; left out: {len(drawn.train) - len(made.train):,} training pictures that "
        f"nearly equal a dev or test picture\n{path}: SHA-256 {made.sha256}",
        soft_wrap=True,
    )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/market_cuhk03_gates_x0_75.toml.")],
    folder: Annotated[Path | None, typer.Option("--out", help="Where the run is kept; runs/NAME by default.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint, where there is one.")
    ] = False,
    device: Annotated[Device, typer.Option(help="auto takes a GPU where torch sees one.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; all by default.")] = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="KIND:PATH in place of the recipe's data.")] = None,
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
    from passerby.reid.datasets import check_leakage, merge, parse_spec, read_dataset

    training = _room("passerby.learn.train")
    settings = load_toml(recipe, training.Recipe)
    specs = [parse_spec(spec) for spec in (data or settings.data)]
    pictures = merge(
        [
            read_dataset(kind, root, split="train", people=settings.dev_people, skip_unreadable=skip_unreadable)
            for kind, root in specs
        ]
    ).train
    dev = [
        read_dataset(kind, root, split="dev", people=settings.dev_people, skip_unreadable=skip_unreadable)
        for kind, root in specs
    ]
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
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("starting", total=None, note="")
        shown = ""

        def progress(now: object) -> None:
            nonlocal shown
            assert isinstance(now, training.Progress)
            if now.activity != shown:
                bar.reset(task, total=now.total, completed=now.done)
                shown = now.activity
            note = "" if now.loss is None else f"loss {now.loss:.2f}  {now.images_per_s:.0f} images/s  {now.dev or ''}"
            bar.update(task, description=now.activity, total=now.total, completed=now.done, note=note)

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
    data: Annotated[list[str] | None, typer.Option("--data", help="KIND:PATH in place of the recipe's data.")] = None,
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
    from passerby.reid.datasets import TERMS, parse_spec, read_dataset
    from passerby.types import CardData

    training, exporting = _room("passerby.learn.train"), _room("passerby.learn.export")
    settings = load_toml(recipe, training.Recipe)
    specs = [parse_spec(spec) for spec in (data or settings.data)]
    sources: dict[tuple[str, str], list[str]] = {}  # (data set, its kind) -> the person of each picture
    for kind, root in specs:
        part = read_dataset(kind, root, split="train", people=settings.dev_people, skip_unreadable=skip_unreadable)
        for picture in part.train:
            source = picture.person.partition(":")[0]  # in a saved split, the set that the picture came from
            sources.setdefault((source, source if source in TERMS else kind), []).append(picture.person)
    trained_on = [
        CardData(name=source, people=len(set(people)), pictures=len(people), terms=TERMS[kind])
        for (source, kind), people in sources.items()
    ]
    dev = [
        read_dataset(kind, root, split="dev", people=settings.dev_people, skip_unreadable=skip_unreadable)
        for kind, root in specs
    ]
    network = exporting.load_weights(weights, settings.architecture)
    origin = training.origin(settings)
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
        networks=training.networks(settings),
        seed=settings.seed,
        processor_hours=training.processor_hours(settings, weights.with_name("log.jsonl")),
        int8_on=dev if int8 else (),
    )
    if bf16:
        exporting.calibrate_bf16(network, folder, dev)
    out.print(f"{folder}: {', '.join(entry.file for entry in card.files.values())}, card.json", soft_wrap=True)


@app.command()
def evaluate(
    model: Model,
    data: Data,
    split: Annotated[Split, typer.Option(help="dev for every choice; test once for each weight.")] = "test",
    people: People = 75,
    result: Json = None,
    card: Annotated[
        Path | None,
        typer.Option("--card", help="Keep the figures in this model folder's card; of another network as a peer's."),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: Threads = None,
    input_colour: Colour = None,
    input_range: Range = None,
    skip_unreadable: Skip = False,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Re-rank by k-reciprocal neighbours (k1 = 20, k2 = 6, lambda = 0.3) first.")
    ] = False,
) -> None:
    """Measure a network on a data set by its protocol, with 95 % intervals over people."""
    from passerby.reid.assess import embed_dataset, keep_in_card
    from passerby.reid.datasets import parse_spec, read_dataset
    from passerby.reid.embedder import Embedder, read_card
    from passerby.reid.evaluate import evaluate as measure
    from passerby.reid.reranking import reranked
    from passerby.reid.retrieval import cosines

    if card is not None and rerank:
        raise PasserbyError("evaluate: a card holds figures without re-ranking; leave --rerank or --card out")
    if card is not None:
        read_card(card)  # so that a wrong folder is told before the work
    kind, root = parse_spec(data)
    dataset = read_dataset(kind, root, split=split, people=people, skip_unreadable=skip_unreadable)
    embedder = Embedder(
        model,
        device=device,
        precision=precision,
        threads=threads,
        input_format=_input_format(input_colour, input_range),
    )
    if skip_unreadable:
        for note in dataset.notes:
            err.print(f"Note: {note}", soft_wrap=True)
    elif dataset.notes:
        err.print(
            f"Note: this is not the official release whole; {len(dataset.notes)} counts differ (--json lists them)."
        )
    with _bar("embedding") as progress:
        query, gallery = embed_dataset(embedder, dataset, progress=progress)
    evaluation = measure(dataset, query, gallery, scores=reranked if rerank else cosines)
    if card is not None:
        command = _command(
            "evaluate",
            model,
            data,
            {
                "--split": split,
                "--people": people,
                "--precision": precision,
                "--input-colour": input_colour,
                "--input-range": input_range,
                "--skip-unreadable": skip_unreadable,
            },
        )
        keep_in_card(card, embedder, evaluation, command=command)
    if result is not None:
        _write_json(
            result, {"model": str(model), "precision": embedder.precision, "reranked": rerank, **evaluation.as_dict()}
        )
        return
    title = f"{dataset.name}, {evaluation.protocol}, {embedder.precision}{', re-ranked' if rerank else ''}"
    table = Table("figure", "value", "95 % interval", title=title)
    for name, figure in evaluation.as_dict().items():
        if isinstance(figure, dict) and "value" in figure:
            value = "-" if figure["value"] is None else f"{figure['value']:.1%}"
            interval = "" if figure["low"] is None else f"{figure['low']:.1%} .. {figure['high']:.1%}"
            table.add_row(name, value, interval)
    out.print(table)
    out.print(f"{evaluation.queries} queries, {evaluation.skipped} skipped; split {evaluation.split_sha256[:12]}")


DATA_ONLY = ("split", "check", "people", "name", "result", "input_colour", "input_range")  # of `calibrate`


@app.command()
def calibrate(
    context: typer.Context,
    model: Model,
    data: Annotated[list[str] | None, typer.Option("--data", help=DATA_HELP + " May be repeated.")] = None,
    site: Annotated[
        Path | None,
        typer.Option(
            "--site",
            help="In place of --data, a manifest path,person,camera,time of a new site's tracks, `person` the track's name; "
            "who is who need not be known.",
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="The people to fit on; never those that are reported.")] = "dev",
    check: Annotated[
        Literal["test", "dev", "none"], typer.Option(help="The people that the calibration is then measured on.")
    ] = "test",
    people: People = 75,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Write a model folder here; needed for a file without a card.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The new model's name in its card.")] = None,
    result: Json = None,
    threads: Threads = None,
    input_colour: Colour = None,
    input_range: Range = None,
    skip_unreadable: Skip = False,
) -> None:
    """Learn what a network's similarities mean for people like those of the data, and keep it in the model's card.

    With --site: adapt it to a new site by people whom two cameras see at once, who must be different.
    """
    from passerby.reid.assess import adapt_model, calibrate_model
    from passerby.reid.datasets import parse_spec, read_dataset

    if (data is None) == (site is None):
        raise typer.BadParameter("say either --data or --site")
    if site is not None:
        if folder is None:
            raise typer.BadParameter("--site needs --out, the folder for the adapted copy")
        for option in context.command.params:
            source = context.get_parameter_source(str(option.name))
            if option.name in DATA_ONLY and source is not None and source.name == "COMMANDLINE":
                raise typer.BadParameter(f"{option.opts[0]} goes with --data; leave it out with --site")
        pictures = read_dataset("csv", site, split="test", skip_unreadable=skip_unreadable).query
        with _bar("embedding") as progress:
            adapted = adapt_model(model, pictures, out=folder, threads=threads, progress=progress)
        out.print(f"{adapted.folder}: adapted to {site} for {', '.join(adapted.precisions)}", soft_wrap=True)
        return
    assert data is not None
    specs = [parse_spec(spec) for spec in data]
    with _bar("embedding") as progress:
        calibrated = calibrate_model(
            model,
            fit_on=[
                read_dataset(kind, root, split=split, people=people, skip_unreadable=skip_unreadable)
                for kind, root in specs
            ],
            check_on=[
                read_dataset(kind, root, split=check, people=people, skip_unreadable=skip_unreadable)
                for kind, root in specs
                if check != "none"
            ],
            out=folder,
            name=name,
            threads=threads,
            input_format=_input_format(input_colour, input_range),
            progress=progress,
        )
    if result is not None:
        _write_json(result, {precision: report.as_dict() for precision, report in calibrated.reports.items()})
        return
    out.print(f"{calibrated.folder}: calibrated for {', '.join(calibrated.precisions)}", soft_wrap=True)
    for precision, report in calibrated.reports.items():
        table = Table(
            "mode",
            "threshold",
            "precision",
            "recall",
            "F1",
            "false matches",
            title=f"{precision}, {report.people} people",
        )
        for mode, at in report.modes.items():
            table.add_row(
                mode,
                f"{at.threshold:.2f}",
                f"{at.precision:.1%}",
                f"{at.recall:.1%}",
                f"{at.f1:.1%}",
                f"{at.false_match_rate:.2%}",
            )
        out.print(table)
        out.print(
            f"Cllr {report.cllr:.3f} bit, of it {report.cllr_loss:.3f} through calibration; "
            f"calibration error {report.error:.1%}, {report.error_middle:.1%} where 0.05 < p < 0.95"
        )


@app.command()
def report(
    model: Model,
    data: Data,
    path: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    split: Annotated[Split, typer.Option(help="Which part of the data.")] = "test",
    people: People = 75,
    show_crops: Annotated[
        bool,
        typer.Option("--show-crops", help="Show pictures of people whose terms do not say that they may be shown."),
    ] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: Threads = None,
    input_colour: Colour = None,
    input_range: Range = None,
    skip_unreadable: Skip = False,
) -> None:
    """Write one self-contained HTML page: curves, histograms, camera pairs, ranked galleries."""
    from passerby.reid.assess import embed_dataset
    from passerby.reid.datasets import parse_spec, read_dataset
    from passerby.reid.embedder import Embedder
    from passerby.reid.report import write_report

    kind, root = parse_spec(data)
    dataset = read_dataset(kind, root, split=split, people=people, skip_unreadable=skip_unreadable)
    embedder = Embedder(
        model,
        device=device,
        precision=precision,
        threads=threads,
        input_format=_input_format(input_colour, input_range),
    )
    with _bar("embedding") as progress:
        query, gallery = embed_dataset(embedder, dataset, progress=progress)
    command = _command(
        "report",
        model,
        f"{kind}:{root.name}",
        {
            "--split": split,
            "--people": people,
            "--precision": precision,
            "--input-colour": input_colour,
            "--input-range": input_range,
        },
    )
    write_report(path, dataset, query, gallery, model=str(model), command=command, show_crops=show_crops)
    out.print(f"{path}: {len(dataset.query)} queries against {len(dataset.gallery)} pictures", soft_wrap=True)


@app.command()
def embed(
    pictures: Pictures,
    path: Annotated[Path | None, typer.Option("--out", help="An .npz file: embeddings (n, length) and paths.")] = None,
    model: Model = "osnet_x0_75",
    result: Json = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: Threads = None,
) -> None:
    """Turn pictures into unit vectors, kept in an .npz file or printed as JSON."""
    from passerby.reid.embedder import Embedder

    if path is None and result is None:
        raise PasserbyError("embed: say where the vectors go, with --out FILE.npz or --json FILE")
    vectors = Embedder(model, device=device, precision=precision, threads=threads).embed(pictures)
    if path is not None:
        import numpy as np

        with path.open("wb") as file:  # by its name alone, savez would add a suffix
            np.savez(file, embeddings=vectors, paths=np.array([str(p) for p in pictures]))
        err.print(f"{path}: {vectors.shape[0]} vectors of {vectors.shape[1]}", soft_wrap=True)
    if result is not None:
        _write_json(result, {str(p): vector.tolist() for p, vector in zip(pictures, vectors, strict=True)})


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A picture of one person.")],
    b: Annotated[Path, typer.Argument(help="A picture of the same person, or of another.")],
    model: Model = "osnet_x0_75",
    threshold: Threshold = None,
    mode: Mode = None,
    prior: Annotated[float, typer.Option(help="Probability of the same person before looking.")] = 0.5,
    result: Json = None,
    precision: PrecisionOption = "auto",
) -> None:
    """Say how probable it is that two pictures show one person."""
    from dataclasses import asdict

    from passerby.reid.inference import ReIDInference

    reid = ReIDInference(threshold, mode=mode, model=model, precision=precision, prior=prior)
    _say_terms(reid.card)
    match = reid.compare(a, b)
    if result is not None:
        _write_json(result, asdict(match))
        return
    verdict = "the same person" if match.same else "different people"
    out.print(
        f"{verdict}: probability {match.probability:.1%} (threshold {reid.threshold:.0%}, prior {prior:.0%}), "
        f"similarity {match.similarity:.3f}, log-likelihood ratio {match.llr:+.2f}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def search(
    pictures: Pictures,
    gallery: Annotated[
        Path, typer.Option("--gallery", help="A folder with a folder of pictures a person, or a saved gallery.")
    ],
    top: Annotated[int, typer.Option(min=1, help="How many answers for each picture.")] = 5,
    save: Annotated[
        Path | None, typer.Option("--save", help="Keep the gallery in this file for the next search.")
    ] = None,
    model: Model = "osnet_x0_75",
    threshold: Threshold = None,
    mode: Mode = None,
    absent: Annotated[
        float, typer.Option(help="Probability, before looking, that a person is not in the gallery.")
    ] = 0.5,
    result: Json = None,
    precision: PrecisionOption = "auto",
) -> None:
    """Find the people of pictures in a gallery, or say that they are not in it."""
    from dataclasses import asdict

    from passerby.reid.inference import ReIDInference

    reid = ReIDInference(threshold, mode=mode, model=model, precision=precision, absent=absent)
    _say_terms(reid.card)
    if gallery.is_dir():
        folders = sorted(path for path in gallery.iterdir() if path.is_dir())
        if not folders:
            raise PasserbyError(f"{gallery}: expected a folder of pictures for each person, found no folder")
        for person in folders:
            files = sorted(p for p in person.iterdir() if p.is_file() and not p.name.startswith("."))
            if not files:
                raise PasserbyError(f"{person}: expected pictures of one person, found no file")
            reid.add(person.name, files)
    else:
        reid.gallery.load(gallery)
    if save is not None:
        reid.gallery.save(save)
    answers = reid.identify_many(pictures, top=top)
    if result is not None:
        _write_json(result, {str(p): asdict(answer) for p, answer in zip(pictures, answers, strict=True)})
        return
    for picture, answer in zip(pictures, answers, strict=True):
        table = Table(
            "person", "probability", "similarity", title=f"{picture}: {answer.person or 'nobody for certain'}"
        )
        for match in answer.matches:
            table.add_row(match.person, f"{match.probability:.1%}", f"{match.similarity:.3f}")
        table.add_row("(nobody of the gallery)", f"{answer.unknown:.1%}", "")
        out.print(table)


@app.command()
def group(
    pictures: Pictures,
    model: Model = "osnet_x0_75",
    threshold: Threshold = None,
    mode: Mode = None,
    result: Json = None,
    precision: PrecisionOption = "auto",
) -> None:
    """Sort pictures into people: a number for each, and how many people there were."""
    from passerby.reid.inference import ReIDInference

    reid = ReIDInference(threshold, mode=mode, model=model, precision=precision)
    _say_terms(reid.card)
    found = reid.group(pictures)
    if result is not None:
        labels = dict(zip(map(str, pictures), found.labels, strict=True))
        _write_json(result, {"people": found.people, "labels": labels})
        return
    table = Table("person", "pictures", title=f"{found.people} people in {len(pictures)} pictures")
    for person in range(found.people):
        table.add_row(
            str(person), ", ".join(str(p) for p, x in zip(pictures, found.labels, strict=True) if x == person)
        )
    out.print(table)


@app.command()
def bench(
    model: Model = "osnet_x0_75",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each figure is measured.")] = 2.0,
    threads: Threads = None,
    result: Json = None,
) -> None:
    """Measure how fast this machine embeds: images a second for each precision of the model."""
    from passerby.reid.embedder import measure_speed
    from passerby.reid.engine import processor

    speeds = measure_speed(model, seconds=seconds, threads=threads)
    if result is not None:
        _write_json(result, {"processor": processor(), "images_per_s": speeds})
        return
    table = Table("precision", *(f"batch {n}" for n in next(iter(speeds.values()))), title=f"images/s on {processor()}")
    for precision, by_batch in speeds.items():
        table.add_row(precision, *(f"{speed:.0f}" for speed in by_batch.values()))
    out.print(table)


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

    seconds = _seconds(duration)
    settings, room = _shop(shop), _room("passerby.simulate.recording")
    if (folder is None) == (plan is None):
        raise PasserbyError("simulate: give either --out FOLDER or --plan FILE.svg")
    if plan is not None:
        from itertools import islice

        drawing = _room("passerby.simulate.drawing")
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
        footage = _room("passerby.simulate.footage")
        atlas = footage.Atlas()
        with _bar("filming") as progress:
            seen = footage.film(settings, folder, atlas, seed=seed, duration_s=seconds, progress=progress)
        out.print(f"{folder}: {len(settings.cameras)} clips of {duration}, {seen} people", soft_wrap=True)
        return
    if level == "crops":
        settings = replace(settings, staff=0)  # nobody's pictures are worn all day, or twice
    source = _source(level, people, split, model, settings)(seed)
    with _bar("simulating") as progress:
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
    seconds, training = _seconds(duration), _room("passerby.simulate.training")
    if what == "sequences":
        if backgrounds is not None:
            raise PasserbyError("render: sequences take no --backgrounds; they are filmed in drawn shops")
        with _bar("filming") as progress:
            training.write_sequences(folder, training.Atlas(), seed=seed, duration_s=seconds, progress=progress)
        out.print(f"{folder}: {len(training.PARTIES_PER_HOUR)} sequences of {duration}", soft_wrap=True)
        return
    photos = training.empty_photos(backgrounds) if backgrounds is not None else ()
    with _bar("rendering") as progress:
        people = training.write_pictures(
            folder, training.Atlas(), pictures=number, seed=seed, photos=photos, progress=progress
        )
    out.print(f"{folder}: {number:,} pictures, {people:,} people, {len(photos):,} photos behind them", soft_wrap=True)


@app.command(name="benchmark-shop")
def benchmark_shop(
    shop: Annotated[Path, typer.Argument(help="A shop, such as recipes/reference_normal.toml.")],
    people: Annotated[
        str | None, typer.Option("--people", help="KIND:PATH, whose people the shoppers wear; drawn vectors without.")
    ] = None,
    split: Annotated[Split, typer.Option(help="With --people: which of its people.")] = "test",
    model: Annotated[str, typer.Option("--model", help="With --people: " + MODEL_HELP)] = "osnet_x0_75",
    seeds: Annotated[int, typer.Option(min=1, help="How many times the shop is simulated.")] = 5,
    duration: Annotated[str, typer.Option(help="From opening: 90s, 2m, 8h or 1d.")] = "1h",
    result: Json = None,
) -> None:
    """Measure how well naive linkers follow people through a simulated shop, and one with perfect appearance."""
    from dataclasses import replace
    from statistics import median

    seconds, settings = _seconds(duration), _shop(shop)
    benchmarking = _room("passerby.simulate.benchmark")
    level = "vectors" if people is None else "crops"
    if people is not None:
        settings = replace(settings, staff=0)
    source = _source(level, people, split, model, settings)
    with _bar("simulating and linking") as progress:
        scores = benchmarking.benchmark(
            settings,
            source,
            seeds=range(1, seeds + 1),
            duration_s=seconds,
            reentries=people is None,
            progress=progress,
        )
    figures = ("f1", "precision", "recall")
    if result is not None:
        _write_json(
            result,
            {
                "shop": settings.name,
                "shop_sha256": settings.sha256,
                "people": people,
                "duration_s": seconds,
                "linkers": {name: {f: [getattr(s, f) for s in rows] for f in figures} for name, rows in scores.items()},
            },
        )
        return
    table = Table(
        "linker", *figures, title=f"{settings.name}, links between cameras, {seeds} seeds: median (lowest - highest)"
    )
    for name, rows in scores.items():
        cells = []
        for figure in figures:
            values = [100 * getattr(row, figure) for row in rows]
            cells.append(f"{median(values):.1f} ({min(values):.1f} - {max(values):.1f})")
        table.add_row(name, *cells)
    out.print(table)


def _shop(path: Path) -> Any:  # a Shop
    from passerby.config import load_toml

    return load_toml(path, _room("passerby.simulate.plan").Shop)


def _source(level: str, people: str | None, split: Split, model: str, shop: Any) -> Callable[[int], Any]:
    """What makes the vectors of a simulated shop for a seed."""
    appearance = _room("passerby.simulate.appearance")
    if (level == "crops") != (people is not None):
        raise PasserbyError(f"simulate: level {level} {'needs' if level == 'crops' else 'takes no'} --people KIND:PATH")
    cameras = len(shop.cameras)
    if people is None:
        return lambda seed: appearance.DrawnVectors(shop.looks, seed=seed, cameras=cameras)
    from passerby.reid.assess import labelled
    from passerby.reid.datasets import parse_spec, read_dataset
    from passerby.reid.embedder import Embedder

    pictures = labelled(read_dataset(*parse_spec(people), split=split))
    embedder = Embedder(model)
    return lambda seed: appearance.RealCrops(pictures, embedder, seed=seed, cameras=cameras)


def _seconds(duration: str) -> float:
    """The seconds of "90s", "2m", "8h" or "1d"."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        seconds = float(duration[:-1]) * units[duration[-1:]]
    except (KeyError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= 366 * 86400:
        raise PasserbyError(f"--duration: expected a time such as 90s, 2m, 8h or 1d, got {duration!r}")
    return seconds


@contextmanager
def _bar(activity: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error for work that calls `progress(done, all)`."""
    from rich.progress import Progress

    with Progress(console=err, transient=True) as bar:
        task = bar.add_task(activity, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _command(name: str, model: str, data: str, given: dict[str, object]) -> str:
    """The command that prints the figures again, with each of the options that differs from its default."""
    defaults = {"--split": "test", "--people": 75, "--precision": "auto"}
    words = ["passerby", name, "--model", model, "--data", data]
    for option, value in given.items():
        if value is True:
            words.append(option)
        elif value and value != defaults.get(option):
            words += [option, str(value)]
    return shlex.join(words)


def _input_format(
    colour: Literal["bgr", "rgb"] | None, range_: Literal["0..255", "0..1"] | None
) -> Any:  # InputFormat | None
    if colour is None and range_ is None:
        return None
    from passerby.reid.engine import InputFormat

    return InputFormat(colour=colour or "bgr", range=range_ or "0..255")


def _write_json(path: Path, value: Any) -> None:  # any JSON value
    text = json.dumps(value, indent=1, allow_nan=False)
    if str(path) == "-":
        print(text)
    else:
        path.write_text(text + "\n")


def _say_terms(card: Any) -> None:  # a ModelCard
    if card.commercial_use == "unclear":
        err.print(
            f"Note: {card.name} was trained on research data; commercial use is unclear (see its card).", soft_wrap=True
        )


def _room(name: str) -> Any:  # a module of an extra, whose types the base install cannot see
    """Import a module of an extra, or say which extra to install."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith("passerby"):
            extra = {"learn": "train", "simulate": "simulate"}[name.split(".")[1]]
            raise PasserbyError(f'this command needs {error.name}: pip install "passerby[{extra}]"') from None
        raise


def main() -> NoReturn:
    """Run the command line; one line for an error that the user can mend, a traceback with --debug."""
    try:
        app()
    except PasserbyError as error:
        if "--debug" in sys.argv:
            raise
        err.print(f"Error: {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a folder that is not there, a full disk, a file that may not be read
        if "--debug" in sys.argv:
            raise
        where = f"{error.filename}: " if error.filename else ""
        err.print(f"Error: {where}{error.strerror or error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main()
