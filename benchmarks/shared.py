"""What the benchmarks share: where the real data lies, how a figure is shown, and vectors that are made once."""

import argparse
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from passerby.files import whole
from passerby.reid.assess import embed_pictures
from passerby.reid.embedder import Embedder
from passerby.reid.pictures import quality, read_picture
from passerby.types import Dataset, Float32, Interval, Picture

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


def vectors_of(embedder: Embedder, pictures: Sequence[Picture]) -> Float32:
    """Unit vectors (n, length) of pictures; what was embedded once is kept in runs/vectors for the next benchmark."""
    digest = hashlib.sha256(f"{embedder.file_sha256} {embedder.precision}".encode()).hexdigest()[:16]
    path = ROOT / "runs" / "vectors" / f"{digest}.npz"
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
        made = embed_pictures(embedder, [pictures[i] for i in missing])
        known |= {names[i]: vector for i, vector in zip(missing, made, strict=True)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as draft:
            np.savez(draft, files=np.array(list(known)), vectors=np.stack(list(known.values())))
    return np.stack([known[name] for name in names])


def ratings(pictures: Sequence[Picture]) -> Float32:
    """The quality (n,) of each picture."""
    with ThreadPoolExecutor(2) as pool:
        return np.array(list(pool.map(lambda p: quality(read_picture(p.path)), pictures)), np.float32)


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
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def shown(figure: Interval) -> str:
    """A figure and its interval in percent."""
    assert figure.low is not None
    assert figure.high is not None
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f}-{100 * figure.high:.1f})"
