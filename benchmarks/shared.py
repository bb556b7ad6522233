"""What the benchmarks share: where the real data lies, how a figure is shown, and vectors that are made once."""

import argparse
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from passerby.files import whole
from passerby.reid.assess import embed_pictures
from passerby.reid.embedder import BATCH, Embedder
from passerby.reid.pairs import PairSample
from passerby.reid.pictures import quality, read_picture
from passerby.types import Dataset, Float32, Float64, Interval, Picture, UInt8

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
PEER = SHARED / "models" / "person-reidentification-retail-0286" / "FP16" / "person-reidentification-retail-0286.xml"
SETS = ("market1501", "cuhk03")


def model_and_peer(description: str | None) -> argparse.ArgumentParser:
    """The flags of a benchmark that measures a model beside a peer."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="osnet_x0_75")
    parser.add_argument("--peer", default=str(PEER))
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of real data")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "int8"))
    return parser


def seen(path: Path, height_px: int | None = None) -> UInt8:
    """A picture, made small where a height is given and it is higher: as a camera far away would have taken it."""
    read = read_picture(path)
    if height_px is None or read.shape[0] <= height_px:
        return read
    width = max(2, round(read.shape[1] * height_px / read.shape[0]))
    return np.asarray(cv2.resize(read, (width, height_px), interpolation=cv2.INTER_AREA), np.uint8)


def vectors_of(embedder: Embedder, pictures: Sequence[Picture], height_px: int | None = None) -> Float32:
    """Unit vectors (n, length) of pictures; what was embedded once is kept in runs/vectors for the next benchmark.

    With `height_px` the pictures are made small first, see `seen`.
    """
    kind = f"{embedder.file_sha256} {embedder.precision}" + ("" if height_px is None else f" {height_px} px")
    path = ROOT / "runs" / "vectors" / f"{hashlib.sha256(kind.encode()).hexdigest()[:16]}.npz"
    known: dict[str, Float32] = {}
    if path.exists():
        with np.load(path) as stored:
            known = dict(zip(stored["files"].tolist(), stored["vectors"], strict=True))
    names = []
    for picture in pictures:
        status = picture.path.stat()
        names.append(f"{picture.path.resolve()} {status.st_size} {status.st_mtime_ns}")
    missing = [i for i, name in enumerate(names) if name not in known]
    if missing:
        made = _embedded(embedder, [pictures[i] for i in missing], height_px)
        known |= {names[i]: vector for i, vector in zip(missing, made, strict=True)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as draft:
            np.savez(draft, files=np.array(list(known)), vectors=np.stack(list(known.values())))
    return np.stack([known[name] for name in names])


def _embedded(embedder: Embedder, pictures: Sequence[Picture], height_px: int | None) -> Float32:
    if height_px is None:
        return embed_pictures(embedder, pictures)
    parts = [pictures[i : i + BATCH] for i in range(0, len(pictures), BATCH)]
    return np.concatenate([embedder.embed_arrays([seen(p.path, height_px) for p in part]) for part in parts])


def ratings(pictures: Sequence[Picture], height_px: int | None = None) -> Float32:
    """The quality (n,) of each picture, made small where a height is given."""
    with ThreadPoolExecutor(2) as pool:
        return np.array(list(pool.map(lambda p: quality(seen(p.path, height_px)), pictures)), np.float32)


def pairs_of(
    first: tuple[Float32, Float32], second: tuple[Float32, Float32], pictures: Sequence[Picture], *, draws: int = 3
) -> tuple[PairSample, Float64, Float64]:
    """Pairs across cameras of one picture each, and the worse quality of each same and of each different pair.

    Each side is given by its vectors (n, length) and quality (n,), which differ where one side is made small.
    """
    (vectors_a, rated_a), (vectors_b, rated_b) = first, second
    rng = np.random.default_rng(0)
    of: dict[tuple[str, str], list[int]] = {}
    for row, picture in enumerate(pictures):
        of.setdefault((picture.person, str(picture.camera)), []).append(row)
    in_camera: dict[str, list[str]] = {}
    for person, camera in of:
        in_camera.setdefault(camera, []).append(person)
    people = {person: number for number, person in enumerate(dict.fromkeys(person for person, _ in of))}
    drawn: list[tuple[int, int, int]] = []  # a picture, another of its person, one of somebody else
    for (person, camera), mine in of.items():
        for other in in_camera:
            if other == camera or (person, other) not in of or len(in_camera[other]) < 2:
                continue
            for _ in range(draws):
                picked = mine[rng.integers(len(mine))]
                own = of[person, other][rng.integers(len(of[person, other]))]
                stranger = person
                while stranger == person:
                    stranger = in_camera[other][rng.integers(len(in_camera[other]))]
                theirs = of[stranger, other][rng.integers(len(of[stranger, other]))]
                drawn.append((picked, own, theirs))
    a, b, c = np.array(drawn, np.int64).T
    numbers = np.array([people[picture.person] for picture in pictures])
    weight = 1.0 / np.bincount(numbers[a])[numbers[a]]
    sample = PairSample(
        np.einsum("ij,ij->i", vectors_a[a], vectors_b[b], dtype=np.float64),
        np.einsum("ij,ij->i", vectors_a[a], vectors_b[c], dtype=np.float64),
        weight / weight.sum(),
        numbers[a],
        numbers[c],
    )
    worse = [np.minimum(rated_a[a], rated_b[other]).astype(np.float64) for other in (b, c)]
    return sample, worse[0], worse[1]


def dataset_vectors(embedder: Embedder, dataset: Dataset) -> dict[Picture, Float32]:
    """The unit vector of each picture of a data set's queries and gallery."""
    pictures = tuple(dict.fromkeys((*dataset.query, *dataset.gallery)))
    return dict(zip(pictures, vectors_of(embedder, pictures), strict=True))


def rows(vectors: dict[Picture, Float32], pictures: Sequence[Picture]) -> Float32:
    """The vectors of some of the pictures, as an array (n, length)."""
    return np.stack([vectors[picture] for picture in pictures])


def centred(vectors: Float32, pictures: Sequence[Picture]) -> Float32:
    """Each vector less the mean of its camera's, at unit length."""
    moved = vectors.copy()
    for camera in {picture.camera for picture in pictures}:
        mine = [row for row, picture in enumerate(pictures) if picture.camera == camera]
        moved[mine] -= vectors[mine].mean(axis=0)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return moved


def shown(figure: Interval) -> str:
    """A figure and its interval in percent."""
    assert figure.low is not None
    assert figure.high is not None
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f}-{100 * figure.high:.1f})"
