"""A model on data sets: embed them, calibrate the model on some people and check it on others, keep both in its card."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passerby.reid.calibration import Calibration
from passerby.reid.card import (
    CardAccuracy,
    CardCameras,
    CardFile,
    CardInput,
    ModelCard,
    find_model,
    read_card,
    write_card,
)
from passerby.reid.embedder import BATCH, Embedder
from passerby.reid.engine import InputFormat, Precision, cpu_precisions, file_sha256, network_parts
from passerby.reid.evaluate import Evaluation, FromCamera
from passerby.reid.fitting import adapt, fit
from passerby.reid.measures import CalibrationReport, measure
from passerby.reid.pairs import DRAWS, joined, sample_pairs, surely_different
from passerby.types import CalibrationError, Dataset, Float32, ModelError, Picture

Progress = Callable[[int, int], None]
FIT_PAIRS = 10_000  # a data set with few cameras gives more draws for each couple of them
BEHIND = ((1, 1), (1, 2), (1, 4), (2, 2), (2, 4), (4, 4))  # pictures behind the two sides with a curve of their own
LEAST_PEOPLE = 10  # for one


def no_progress(done: int, total: int) -> None:
    """The progress of those who do not look."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What `calibrate_model` made: the folder, for which precisions, and how far each map can be trusted where checked."""

    folder: Path
    precisions: tuple[Precision, ...]
    reports: dict[Precision, CalibrationReport]


def embed_dataset(embedder: Embedder, dataset: Dataset, *, progress: Progress = no_progress) -> tuple[Float32, Float32]:
    """Unit vectors of a data set's queries (queries, length) and gallery (pictures, length), each picture embedded once."""
    pictures = tuple(dict.fromkeys((*dataset.query, *dataset.gallery)))
    row = {picture: i for i, picture in enumerate(pictures)}
    vectors = embed_pictures(embedder, pictures, progress=progress)
    return vectors[[row[p] for p in dataset.query]], vectors[[row[p] for p in dataset.gallery]]


def embed_pictures(embedder: Embedder, pictures: Sequence[Picture], *, progress: Progress = no_progress) -> Float32:
    """Unit vectors (n, length) of pictures, in their order."""
    return embed_rated(embedder, pictures, progress=progress)[0]


def embed_rated(
    embedder: Embedder, pictures: Sequence[Picture], *, progress: Progress = no_progress
) -> tuple[Float32, Float32]:
    """Unit vectors (n, length) of pictures and their quality (n,), 0..1."""
    vectors, quality = np.empty((len(pictures), embedder.length), np.float32), np.empty(len(pictures), np.float32)
    for i in range(0, len(pictures), BATCH):
        part = slice(i, i + BATCH)
        vectors[part], quality[part] = embedder.embed_rated([p.path for p in pictures[part]])
        progress(min(i + BATCH, len(pictures)), len(pictures))
    return vectors, quality


def calibrate_model(
    model: str | Path,
    *,
    fit_on: Sequence[Dataset],
    check_on: Sequence[Dataset],
    out: Path | None = None,
    name: str | None = None,
    threads: int | None = None,
    input_format: InputFormat | None = None,
    progress: Progress = no_progress,
) -> Calibrated:
    """Fit one calibration for each precision that runs here, check it on other people, and keep it in the card.

    A model folder is changed in place, or copied to `out` first. A file without a card is wrapped into a new folder
    `out`, its origin and terms unknown; nothing is left there after an error. Calibrations of precisions that do not run
    here stay where they were fitted on the same people, and go otherwise. Pairs are drawn within each data set and weigh
    by its people; of a set that knows the cameras of some pictures alone, as a union with LaST does, those are used.
    Raises ModelError where `out` is missing or taken, and CalibrationError where fit and check share
    people.
    """
    path = find_model(model)
    if out is None and not Path(model).exists():
        raise ModelError(f"{model}: is a bundled model; say with --out where its calibrated copy is to be made")
    _check_disjoint(fit_on, check_on)
    folder = _folder(path, out, name=name, input_format=input_format)
    try:
        return _calibrate(folder, fit_on, check_on, name=name, threads=threads, progress=progress)
    except BaseException:
        if folder != path:
            shutil.rmtree(folder)
        raise


def _calibrate(
    folder: Path,
    fit_on: Sequence[Dataset],
    check_on: Sequence[Dataset],
    *,
    name: str | None,
    threads: int | None,
    progress: Progress,
) -> Calibrated:
    card = read_card(folder)
    precisions = [p for p in cpu_precisions() if p != "int8" or "int8" in card.files]
    reports: dict[Precision, CalibrationReport] = {}
    people = fitted_on(fit_on)
    calibrations = {p: c for p, c in card.calibrations.items() if str(c.get("fitted_on")).startswith(people)}
    for precision in precisions:
        embedder = Embedder(folder, precision=precision, threads=threads)
        known = _embedded(embedder, fit_on, progress)
        calibration = fit_all(known, file_sha256=embedder.file_sha256, precision=precision, fitted_on=people)
        calibrations[precision] = calibration.to_dict()
        if check_on:
            checked = _embedded(embedder, check_on, progress)
            reports[precision] = measure(calibration, joined([sample_pairs(v, p) for v, _, p in checked]))
    write_card(folder, card.model_copy(update={"name": name or card.name, "calibrations": calibrations}))
    return Calibrated(folder, tuple(precisions), reports)


def adapt_model(
    model: str | Path,
    site: Sequence[Picture],
    *,
    out: Path,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> Calibrated:
    """A copy of a model folder in `out` whose calibrations are adapted to a site, by pictures nobody has labelled.

    `person` of a picture of `site` is the name of its track; see `pairs.surely_different` and `fitting.adapt`.
    Calibrations of precisions that do not run here are left out. Nothing is left in `out` after an error.
    """
    path = find_model(model)
    if not path.is_dir():
        raise ModelError(f"{path}: has no card to adapt; calibrate it first, with --data")
    if out.resolve() == path.resolve():
        raise ModelError(f"{out}: holds the model itself; choose another folder for its adapted copy")
    folder = _folder(path, out, name=None, input_format=None)
    try:
        card = read_card(folder)
        adapted: dict[Precision, Calibration] = {}
        for precision in (p for p in cpu_precisions() if p in card.calibrations):
            embedder = Embedder(folder, precision=precision, threads=threads)
            different = surely_different(embed_pictures(embedder, site, progress=progress), site)
            adapted[precision] = adapt(Calibration.from_dict(card.calibrations[precision]), different)
        calibrations = {precision: calibration.to_dict() for precision, calibration in adapted.items()}
        write_card(folder, card.model_copy(update={"calibrations": calibrations}))
    except BaseException:
        shutil.rmtree(folder)
        raise
    return Calibrated(folder, tuple(adapted), {})


def keep_in_card(
    folder: Path, embedder: Embedder, evaluation: Evaluation, *, command: str, cameras: Sequence[FromCamera] = ()
) -> None:
    """Keep an evaluation's figures in a model folder's card, in place of older ones of the same data and precision.

    An embedder of another file than the folder's own is kept as a peer, by the name of its file or card.
    """
    card = read_card(folder)
    own = embedder.file_sha256 in {file.sha256 for file in card.files.values()}
    figures = {k: v for k, v in evaluation.as_dict().items() if isinstance(v, dict) and "value" in v}
    entry = CardAccuracy(
        peer=None if own else embedder.card.name if embedder.card else embedder.file.stem,
        data=evaluation.dataset,
        protocol=evaluation.protocol,
        split_hash=evaluation.split_sha256,
        precision=embedder.precision,
        people=evaluation.people,
        seen_by=evaluation.cameras,
        queries=evaluation.queries,
        skipped=evaluation.skipped,
        figures=figures,
        command=command,
        cameras=[
            CardCameras(query=c.query, gallery=c.gallery, queries=c.queries, rank1=round(c.rank1, 4)) for c in cameras
        ],
    )

    def place(accuracy: CardAccuracy) -> tuple[str, str, str]:
        return accuracy.peer or "", accuracy.data, accuracy.precision

    others = [accuracy for accuracy in card.accuracy if place(accuracy) != place(entry)]
    write_card(folder, card.model_copy(update={"accuracy": sorted([*others, entry], key=place)}))


def labelled(dataset: Dataset) -> list[Picture]:
    """A data set's labelled people, each picture once."""
    return [p for p in dict.fromkeys((*dataset.query, *dataset.gallery)) if p.role == "person"]


def across_cameras(dataset: Dataset) -> list[Picture]:
    """Those of `labelled` whose camera is known, as a calibration needs it; all of them where none is known."""
    pictures = labelled(dataset)
    return [p for p in pictures if p.camera is not None] or pictures


def fitted_on(datasets: Sequence[Dataset]) -> str:
    """The people that a calibration was fitted on, in words for the card."""
    return ", ".join(
        f"{dataset.name} ({len({p.person for p in across_cameras(dataset)})} people)" for dataset in datasets
    )


def fit_all(
    known: Sequence[tuple[Float32, Float32, Sequence[Picture]]],
    *,
    file_sha256: str,
    precision: str,
    fitted_on: str,
    draws: int = DRAWS,
    at_least: int = FIT_PAIRS,
) -> Calibration:
    """`fitting.fit` for the numbers of pictures of `BEHIND`, those left out that nobody of a data set has.

    `known` gives each data set's vectors (n, length) and quality (n,) with their pictures.
    """
    sets = []
    for vectors, quality, pictures in known:
        samples = {}
        for behind in BEHIND:
            try:
                samples[behind] = sample_pairs(
                    vectors, pictures, behind=behind, quality=quality, draws=draws, at_least=at_least
                )
            except CalibrationError:
                if behind == (1, 1):
                    raise
        sets.append(samples)
    people = {pair: sum(len(np.unique(s[pair].person)) for s in sets if pair in s) for pair in BEHIND}
    enough = [{pair: s for pair, s in samples.items() if people[pair] >= LEAST_PEOPLE} for samples in sets]
    return fit(
        [{(1, 1): s[1, 1], **e} for s, e in zip(sets, enough, strict=True)],
        file_sha256=file_sha256,
        precision=precision,
        fitted_on=fitted_on,
    )


def _embedded(
    embedder: Embedder, datasets: Sequence[Dataset], progress: Progress
) -> list[tuple[Float32, Float32, Sequence[Picture]]]:
    pictures = [across_cameras(dataset) for dataset in datasets]
    return [(*embed_rated(embedder, each, progress=progress), each) for each in pictures]


def _check_disjoint(fit_on: Sequence[Dataset], check_on: Sequence[Dataset]) -> None:
    fitted = {p.person for dataset in fit_on for p in labelled(dataset)}
    both = sorted(fitted & {p.person for dataset in check_on for p in labelled(dataset)})
    if both:
        raise CalibrationError(
            f"calibrate: {len(both)} people, {both[0]} the first, are both fitted on and checked on; choose other splits"
        )


def _folder(path: Path, out: Path | None, *, name: str | None, input_format: InputFormat | None) -> Path:
    if path.is_dir():
        if input_format is not None:
            raise ModelError(f"{path}: its card says what input it takes; leave --input-colour and --input-range out")
        if out is None or out.resolve() == path.resolve():
            return path
        _must_be_free(out)
        shutil.copytree(path, out, dirs_exist_ok=True)
        return out
    if out is None:
        raise ModelError(f"{path}: has no card; say with --out where the model folder is to be made")
    _must_be_free(out)
    wanted = input_format or InputFormat()
    embedder = Embedder(path, precision="fp32", input_format=wanted)
    out.mkdir(parents=True, exist_ok=True)
    for part in network_parts(path):
        shutil.copy(part, out / f"model{part.suffix}")
    file = f"model{path.suffix}"
    card = ModelCard(
        name=name or path.stem,
        architecture="unknown",
        embedding_length=embedder.length,
        input=CardInput(height=embedder.height, width=embedder.width, colour=wanted.colour, range=wanted.range),
        files={"fp32": CardFile(file=file, sha256=file_sha256(out / file))},
        trained_on=[],
        origin=f"wrapped from {path.name}; what it was trained on is not known here",
        commercial_use="unclear",
    )
    write_card(out, card)
    return out


def _must_be_free(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ModelError(f"{out}: is not empty; choose another folder for the model")
