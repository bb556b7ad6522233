"""Commands that tell people apart: measure, calibrate, compare, search and group."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from passerby.commands.options import (
    DATA_HELP,
    Colour,
    Data,
    DeviceOption,
    Json,
    ManyData,
    ManyPatterns,
    Mode,
    Model,
    Pattern,
    People,
    Pictures,
    PrecisionOption,
    Range,
    Skip,
    Split,
    Threads,
    Threshold,
    bar,
    command_line,
    err,
    input_format,
    naming_unreadable,
    out,
    read_data,
    say_terms,
    without_unreadable,
    write_json,
)
from passerby.types import PasserbyError

app = typer.Typer()


@app.command()
def split(
    data: ManyData,
    path: Annotated[Path, typer.Option("--out", help="The CSV file to write, a data set itself: csv:FILE.")],
    shares: Annotated[
        tuple[float, float, float],
        typer.Option("--shares", help="Parts of the people: train, dev and test, 0 for no test."),
    ] = (0.8, 0.1, 0.1),
    seed: Annotated[int, typer.Option("--seed", help="Draws people and queries.")] = 0,
    pattern: ManyPatterns = None,
    skip_unreadable: Skip = False,
) -> None:
    """Make one data set of several, split by person: two queries a person from two cameras, the rest as gallery."""
    from passerby.reid.leakage import without_near_duplicates
    from passerby.reid.readers.manifest import save_split
    from passerby.reid.splits import person_disjoint_split

    datasets = read_data(data, pattern, split="all", skip_unreadable=skip_unreadable)
    pictures = [picture for dataset in datasets for picture in dataset.train]
    drawn = person_disjoint_split(pictures, shares=shares, seed=seed, name=path.stem)
    with naming_unreadable([p.path for p in pictures]):
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
    pattern: Pattern = None,
    skip_unreadable: Skip = False,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Re-rank by k-reciprocal neighbours (k1 = 20, k2 = 6, lambda = 0.3) first.")
    ] = False,
) -> None:
    """Measure a network on a data set by its protocol, with 95 % intervals over people."""
    from passerby.reid.assess import embed_dataset, keep_in_card
    from passerby.reid.card import read_card
    from passerby.reid.embedder import Embedder
    from passerby.reid.evaluate import evaluate as measure
    from passerby.reid.reranking import reranked
    from passerby.reid.retrieval import cosines

    if card is not None and rerank:
        raise PasserbyError("evaluate: a card holds figures without re-ranking; leave --rerank or --card out")
    if card is not None:
        read_card(card)  # so that a wrong folder is told before the work
    (dataset,) = read_data(
        [data], [pattern] if pattern else (), split=split, people=people, skip_unreadable=skip_unreadable
    )
    embedder = Embedder(
        model,
        device=device,
        precision=precision,
        threads=threads,
        input_format=input_format(input_colour, input_range),
    )
    if dataset.notes and not skip_unreadable:
        err.print(
            f"Note: this is not the official release whole; {len(dataset.notes)} counts differ (--json lists them)."
        )
    with naming_unreadable([p.path for p in dataset.query + dataset.gallery]), bar("embedding") as progress:
        query, gallery = embed_dataset(embedder, dataset, progress=progress)
    evaluation = measure(dataset, query, gallery, scores=reranked if rerank else cosines)
    if card is not None:
        command = command_line(
            "evaluate",
            model,
            data,
            {
                "--pattern": pattern,
                "--split": split,
                "--people": people,
                "--precision": embedder.precision,
                "--input-colour": input_colour,
                "--input-range": input_range,
                "--skip-unreadable": skip_unreadable,
            },
        )
        keep_in_card(card, embedder, evaluation, command=command)
    if result is not None:
        write_json(
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
    out.print(
        f"{evaluation.people} people, {evaluation.cameras} cameras, {evaluation.queries} queries, {evaluation.skipped} "
        f"skipped; split {evaluation.split_sha256[:12]}"
    )


DATA_ONLY = ("split", "check", "people", "pattern", "name", "result", "input_colour", "input_range")  # of `calibrate`


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
    pattern: ManyPatterns = None,
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

    if (data is None) == (site is None):
        raise typer.BadParameter("say either --data or --site")
    if site is not None:
        if folder is None:
            raise typer.BadParameter("--site needs --out, the folder for the adapted copy")
        for option in context.command.params:
            source = context.get_parameter_source(str(option.name))
            if option.name in DATA_ONLY and source is not None and source.name == "COMMANDLINE":
                raise typer.BadParameter(f"{option.opts[0]} goes with --data; leave it out with --site")
        (tracks,) = read_data([f"csv:{site}"], None, split="test", skip_unreadable=skip_unreadable)
        pictures = tracks.query
        with naming_unreadable([p.path for p in pictures]), bar("embedding") as progress:
            adapted = adapt_model(model, pictures, out=folder, threads=threads, progress=progress)
        out.print(f"{adapted.folder}: adapted to {site} for {', '.join(adapted.precisions)}", soft_wrap=True)
        return
    assert data is not None
    fit_on = read_data(data, pattern, split=split, people=people, skip_unreadable=skip_unreadable)
    check_on = (
        read_data(data, pattern, split=check, people=people, skip_unreadable=skip_unreadable) if check != "none" else []
    )
    used = [p.path for dataset in (*fit_on, *check_on) for p in dataset.query + dataset.gallery]
    with naming_unreadable(used), bar("embedding") as progress:
        calibrated = calibrate_model(
            model,
            fit_on=fit_on,
            check_on=check_on,
            out=folder,
            name=name,
            threads=threads,
            input_format=input_format(input_colour, input_range),
            progress=progress,
        )
    if result is not None:
        write_json(result, {precision: report.as_dict() for precision, report in calibrated.reports.items()})
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


@app.command("report-model")
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
    pattern: Pattern = None,
    skip_unreadable: Skip = False,
) -> None:
    """Write one self-contained HTML page: curves, histograms, camera pairs, ranked galleries."""
    from passerby.reid.assess import embed_dataset
    from passerby.reid.datasets import parse_spec
    from passerby.reid.embedder import Embedder
    from passerby.reid.report import write_report

    (dataset,) = read_data(
        [data], [pattern] if pattern else (), split=split, people=people, skip_unreadable=skip_unreadable
    )
    embedder = Embedder(
        model,
        device=device,
        precision=precision,
        threads=threads,
        input_format=input_format(input_colour, input_range),
    )
    with naming_unreadable([p.path for p in dataset.query + dataset.gallery]), bar("embedding") as progress:
        query, gallery = embed_dataset(embedder, dataset, progress=progress)
    command = command_line(
        "report-model",
        model,
        parse_spec(data).short,
        {
            "--pattern": pattern,
            "--split": split,
            "--people": people,
            "--precision": embedder.precision,
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
    skip_unreadable: Skip = False,
) -> None:
    """Turn pictures into unit vectors, kept in an .npz file or printed as JSON."""
    from passerby.reid.embedder import Embedder

    if path is None and result is None:
        raise PasserbyError("embed: say where the vectors go, with --out FILE.npz or --json FILE")
    pictures = without_unreadable(pictures) if skip_unreadable else pictures
    with naming_unreadable(pictures):
        vectors = Embedder(model, device=device, precision=precision, threads=threads).embed(pictures)
    if path is not None:
        import numpy as np

        from passerby.files import whole

        with whole(path) as draft, draft.open("wb") as file:  # by its name alone, savez would add a suffix
            np.savez(file, embeddings=vectors, paths=np.array([str(p) for p in pictures]))
        err.print(f"{path}: {vectors.shape[0]} vectors of {vectors.shape[1]}", soft_wrap=True)
    if result is not None:
        write_json(result, {str(p): vector.tolist() for p, vector in zip(pictures, vectors, strict=True)})


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
    say_terms(reid.card)
    match = reid.compare(a, b)
    if result is not None:
        write_json(result, asdict(match))
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
        Path,
        typer.Option(
            "--gallery",
            help="A folder of pictures that names their people, such as a folder a person, or a saved gallery.",
        ),
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
    pattern: Pattern = None,
    skip_unreadable: Skip = False,
) -> None:
    """Find the people of pictures in a gallery, or say that they are not in it."""
    from dataclasses import asdict

    from passerby.reid.inference import ReIDInference
    from passerby.reid.readers.folder import read_people

    reid = ReIDInference(threshold, mode=mode, model=model, precision=precision, absent=absent)
    say_terms(reid.card)
    pictures = without_unreadable(pictures) if skip_unreadable else pictures
    if gallery.is_dir():
        people, read = read_people(gallery, pattern=pattern)
        err.print(f"Read {gallery}: {read}", soft_wrap=True, highlight=False)
        with naming_unreadable([path for files in people.values() for path in files]):
            for person, files in people.items():
                reid.add(person, without_unreadable(files) if skip_unreadable else files)
    elif pattern is not None:
        raise PasserbyError(f"--pattern: {gallery} is no folder of pictures; leave it out")
    else:
        reid.gallery.load(gallery)
    if save is not None:
        reid.gallery.save(save)
    with naming_unreadable(pictures):
        answers = reid.identify_many(pictures, top=top)
    if result is not None:
        write_json(result, {str(p): asdict(answer) for p, answer in zip(pictures, answers, strict=True)})
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
    skip_unreadable: Skip = False,
) -> None:
    """Sort pictures into people: a number for each, and how many people there were."""
    from passerby.reid.inference import ReIDInference

    reid = ReIDInference(threshold, mode=mode, model=model, precision=precision)
    say_terms(reid.card)
    pictures = without_unreadable(pictures) if skip_unreadable else pictures
    with naming_unreadable(pictures):
        found = reid.group(pictures)
    if result is not None:
        labels = dict(zip(map(str, pictures), found.labels, strict=True))
        write_json(result, {"people": found.people.as_dict(), "groups": found.groups, "labels": labels})
        return
    people = found.people
    table = Table("group", "pictures", title=f"{found.groups} groups of {len(pictures)} pictures")
    for number in range(found.groups):
        table.add_row(
            str(number), ", ".join(str(p) for p, x in zip(pictures, found.labels, strict=True) if x == number)
        )
    if found.unknown:
        table.add_row("(shows nothing)", ", ".join(str(pictures[i]) for i in found.unknown))
    out.print(table)
    out.print(f"About {people.value:.0f} people, with 90 % certainty {people.low:.0f} to {people.high:.0f}.")


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
        write_json(result, {"processor": processor(), "images_per_s": speeds})
        return
    table = Table("precision", *(f"batch {n}" for n in next(iter(speeds.values()))), title=f"images/s on {processor()}")
    for precision, by_batch in speeds.items():
        table.add_row(precision, *(f"{speed:.0f}" for speed in by_batch.values()))
    out.print(table)
