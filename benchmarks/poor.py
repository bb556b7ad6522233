"""Networks on poor pictures: CUHK03's test people made small, dark and compressed, every picture of them.

    python benchmarks/poor.py osnet_x0_75 PATH/TO/ANOTHER.onnx

Rank-1 and mAP of each network, cross-camera: of the pictures as they are, made 16, 24, 32 and 48 px high, with a tenth of
the light and the noise that comes with it, and as JPEG of quality 20.
"""

import argparse
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from failures import low_light
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.engine import processor
from passerby.reid.evaluate import evaluate
from passerby.reid.pictures import read_picture
from passerby.types import UInt8
from shared import SHARED

JPEG_QUALITY = 20


def small(picture: UInt8, rng: np.random.Generator, *, height_px: int) -> UInt8:
    """A picture made so high, if it is higher."""
    height, width = picture.shape[:2]
    if height <= height_px:
        return picture
    size = max(2, round(width * height_px / height)), height_px
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def compressed(picture: UInt8, rng: np.random.Generator) -> UInt8:
    """A picture as a camera that saves space keeps it."""
    _, kept = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    back = cv2.imdecode(kept, cv2.IMREAD_COLOR)
    assert back is not None
    return np.asarray(back[..., ::-1], np.uint8)


CASES: dict[str, Callable[[UInt8, np.random.Generator], UInt8]] = {
    "as they are": lambda picture, rng: picture,
    **{f"{height_px} px": partial(small, height_px=height_px) for height_px in (16, 24, 32, 48)},
    "a tenth of the light": low_light,
    f"JPEG, quality {JPEG_QUALITY}": compressed,
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="bundled names, model folders or network files")
    arguments = parser.parse_args()
    dataset = read_dataset("cuhk03", SHARED / "datasets" / "cuhk03")
    pictures = tuple(dict.fromkeys((*dataset.query, *dataset.gallery)))
    row = {picture: i for i, picture in enumerate(pictures)}
    print(f"{processor()}; {dataset.name}, {len(pictures)} pictures, fp32; Rank-1 / mAP\n")
    print(f"| network | {' | '.join(CASES)} |\n|{'---|' * (len(CASES) + 1)}")
    for network in arguments.networks:
        embedder = Embedder(network, precision="fp32")
        cells = []
        for change in CASES.values():
            rng = np.random.default_rng(0)
            crops = [change(read_picture(picture.path), rng) for picture in pictures]
            vectors = np.concatenate([embedder.embed_arrays(crops[i : i + 64]) for i in range(0, len(crops), 64)])
            query, gallery = ([row[picture] for picture in part] for part in (dataset.query, dataset.gallery))
            found = evaluate(dataset, vectors[query], vectors[gallery], bootstrap=0)
            cells.append(f"{100 * found.rank1.value:.1f} / {100 * found.map.value:.1f}")
        print(f"| {network} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
