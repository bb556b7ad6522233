"""Training pictures: the decoded cache, the P x K sampler and the augmentations; all randomness follows from seed and step."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from passerby.config import STRICT
from passerby.files import settings_hash, whole
from passerby.reid.pictures import read_picture, resize
from passerby.types import Picture, TrainingError, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def decoded_cache(
    pictures: Sequence[Picture],
    folder: Path,
    *,
    height: int,
    width: int,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> UInt8:
    """All pictures decoded once and resized to (n, height, width, 3) uint8 RGB, memory-mapped from `folder`.

    The file's name holds a hash of the pictures' paths, sizes and times of change, so that another list gets another
    file. Calls `progress(done, all)` now and then.
    """
    path = folder / f"pictures-{height}x{width}-{fingerprint(f'{height}x{width}', pictures)}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with whole(path) as draft:
            out = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=(len(pictures), height, width, 3))
            for i, picture in enumerate(pictures):
                out[i] = resize(read_picture(picture.path), height=height, width=width)
                if i % 100 == 0:
                    progress(i, len(pictures))
            out.flush()
    progress(len(pictures), len(pictures))
    return np.asarray(np.load(path, mmap_mode="r"))


def fingerprint(made_with: str, pictures: Sequence[Picture]) -> str:
    """16 hex digits for what is made of these files: changes with any path, size or time of change, and `made_with`."""
    digest = hashlib.sha256(made_with.encode())
    for picture in pictures:
        status = picture.path.stat()
        digest.update(f"{picture.path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def labelled_fingerprint(pictures: Sequence[Picture]) -> str:
    """16 hex digits for pictures in their order and their labels: person, camera, folder and name of the file, its size.

    The data may lie elsewhere than before: only the last folder of a path counts.
    """
    return settings_hash(
        [(p.person, p.camera, p.path.parent.name, p.path.name, p.path.stat().st_size) for p in pictures]
    )[:16]


class PersonSampler:
    """Batches of `people` x `pictures` indices, each person's pictures from as many cameras as it has.

    With `across_cameras` off a person's pictures are drawn from all of them alike.

    `batch(step)` depends on seed and step alone: each pass over the people is a fresh permutation, so every person comes
    once a pass, and training can go on at any step. A person with fewer pictures than asked for repeats some.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        *,
        people: int,
        pictures_each: int,
        seed: int,
        across_cameras: bool = True,
    ) -> None:
        names = sorted({p.person for p in pictures})
        if len(names) < people:
            raise TrainingError(f"sampler: batches of {people} people asked for, the training set has {len(names)}")
        if pictures_each < 2:
            raise TrainingError(
                f"sampler: expected at least 2 pictures a person (triplets need a positive), got {pictures_each}"
            )
        number = {name: i for i, name in enumerate(names)}
        self.names = tuple(names)
        self.labels = np.array([number[p.person] for p in pictures], np.int64)  # (pictures,)
        self.people, self.pictures_each, self.seed = people, pictures_each, seed
        self._by_person: list[dict[str, list[int]]] = [{} for _ in names]
        for i, picture in enumerate(pictures):
            self._by_person[number[picture.person]].setdefault((across_cameras and picture.camera) or "", []).append(i)
        self.batches_per_pass = len(names) // people

    def batch(self, step: int) -> NDArray[np.int64]:
        """Indices (people * pictures_each,) of the pictures of one step, a person's pictures side by side."""
        turn, place = divmod(step, self.batches_per_pass)
        order = np.random.default_rng((self.seed, 1, turn)).permutation(len(self.names))
        chosen = order[place * self.people : (place + 1) * self.people]
        random = np.random.default_rng((self.seed, 2, step))
        return np.concatenate([self._of_person(int(person), random) for person in chosen])

    def _of_person(self, person: int, random: np.random.Generator) -> NDArray[np.int64]:
        cameras = self._by_person[person]
        names = list(cameras)
        piles = [random.permutation(cameras[names[i]]) for i in random.permutation(len(names))]
        taken: list[int] = []
        depth = 0
        while len(taken) < self.pictures_each:  # one from each camera in turn; starts over when all are used
            row = [int(pile[depth]) for pile in piles if depth < len(pile)]
            depth = depth + 1 if row else 0
            taken.extend(row)
        return np.array(taken[: self.pictures_each], np.int64)


@dataclass(frozen=True, slots=True)
class Augment:
    """How training pictures are varied; probabilities in 0..1, amounts as fractions, `pad` in fractions of the width.

    `shrink` is how many lose detail, as if taken from up to five times as far away; `dark` how many lose up to nine tenths
    of their light.
    """

    flip: float = 0.5
    crop: float = 0.5
    pad: float = 0.08
    erase: float = 0.5
    colour: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    grey: float = 0.05
    shrink: float = 0.0
    dark: float = 0.0
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for setting in fields(self):
            if not 0 <= getattr(self, setting.name) <= 1:
                raise ValueError(f"augment.{setting.name}: expected 0..1, got {getattr(self, setting.name)}")


def to_input(batch: UInt8) -> Tensor:
    """A uint8 batch (n, h, w, 3) as the network's normalised input (n, 3, h, w), channels-last in memory."""
    x = torch.from_numpy(np.array(batch)).permute(0, 3, 1, 2).float()
    return normalise(x.div_(255))


def normalise(x: Tensor) -> Tensor:
    """Values in 0..1, (n, 3, h, w), less ImageNet's mean, over its deviation."""
    mean = x.new_tensor(IMAGENET_MEAN)[:, None, None]
    std = x.new_tensor(IMAGENET_STD)[:, None, None]
    return (x - mean) / std


def augmented(batch: UInt8, augment: Augment, *, seed: int, step: int) -> Tensor:
    """A uint8 batch (n, h, w, 3), varied and normalised, as (n, 3, h, w) in channels-last memory.

    Shrink and dark; flip, pad and crop; brightness, contrast and saturation (in that order, around the picture's own
    mean); grey; random erasing (Zhong et al., AAAI 2020: 2-40 % of the area, aspect 0.3-3.3, filled with the mean colour).
    """
    random = np.random.default_rng((seed, 3, step))
    batch = _degraded(batch, augment, np.random.default_rng((seed, 4, step)))
    n, height, width, _ = batch.shape
    flips: NDArray[np.bool_] = np.asarray(random.random(n) < augment.flip)
    pad = round(augment.pad * width)
    shifts = np.where(random.random((n, 1)) < augment.crop, random.integers(-pad, pad + 1, (n, 2)), 0)
    moved = np.zeros_like(batch)
    for i in range(n):
        picture = batch[i, :, ::-1] if flips[i] else batch[i]
        dy, dx = int(shifts[i, 0]), int(shifts[i, 1])
        moved[i, max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = picture[
            max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
        ]
    x = torch.from_numpy(moved).permute(0, 3, 1, 2).float().div_(255)
    chosen = random.random(n) < augment.colour

    def factors(amount: float) -> Tensor:
        drawn = np.where(chosen, random.uniform(1 - amount, 1 + amount, n), 1.0)
        return torch.from_numpy(drawn.astype(np.float32))[:, None, None, None]

    x = x * factors(augment.brightness)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * factors(augment.contrast) + mean
    luma = (x * x.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(1, keepdim=True)  # (n, 1, h, w)
    keep = factors(augment.saturation) * torch.from_numpy(random.random(n) >= augment.grey).float()[:, None, None, None]
    x = normalise(((x - luma) * keep + luma).clamp_(0, 1))
    for i in np.flatnonzero(random.random(n) < augment.erase).tolist():
        area = random.uniform(0.02, 0.4) * height * width
        aspect = random.uniform(0.3, 3.3)
        h, w = min(round((area * aspect) ** 0.5), height - 1), min(round((area / aspect) ** 0.5), width - 1)
        top, left = int(random.integers(0, height - h)), int(random.integers(0, width - w))
        x[i, :, top : top + h, left : left + w] = 0.0
    return x.contiguous(memory_format=torch.channels_last)


def _degraded(batch: UInt8, augment: Augment, random: np.random.Generator) -> UInt8:
    """Some pictures made small and large again, some made dark with the rounding that dark pictures have."""
    n, height, width, _ = batch.shape
    drawn, amount = random.random((2, n)), random.random((2, n))
    small, dark = drawn[0] < augment.shrink, drawn[1] < augment.dark
    times, light = 1.5 + 3.5 * amount[0], 0.1 + 0.6 * amount[1]
    if not (small | dark).any():
        return batch
    batch = np.array(batch)
    for i in np.flatnonzero(small).tolist():
        size = (max(2, round(width / times[i])), max(4, round(height / times[i])))
        batch[i] = resize(cv2.resize(batch[i], size, interpolation=cv2.INTER_AREA), height=height, width=width)
    for i in np.flatnonzero(dark).tolist():
        batch[i] = np.rint(batch[i] * light[i])
    return batch
