"""Training pictures: the decoded cache, the P x K sampler and the augmentations; all randomness follows from seed and step."""

import hashlib
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from passerby.config import STRICT
from passerby.files import settings_hash, whole
from passerby.learn import recorded
from passerby.reid.pictures import read_picture, resize
from passerby.types import Picture, TrainingError, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RECORDER = ("motion", "noise", "interlace", "text", "jpeg", "video")  # faults made at the size that the camera has
STRANGER = "stranger"
BOX = ("loose", "shift", "cut", "exposure", "cast")  # faults of the box and of the camera's colours, made before those
AHEAD = 4  # batches that each loader process may prepare ahead


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
            with ThreadPoolExecutor() as pool:
                for i in range(0, len(pictures), 100):
                    part = pictures[i : i + 100]
                    read = pool.map(lambda p: resize(read_picture(p.path), height=height, width=width), part)
                    out[i : i + 100] = list(read)
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

    `balance` is how far the data sets (what the ids begin with) come alike: at 0 each person comes equally often, at 1 each
    set does, between them a set comes by its number of people to the power of 1 - `balance`. Above 0 the people of a batch
    are drawn anew each time.

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
        balance: float = 0.0,
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
        sources = np.array([name.partition(":")[0] for name in names])
        sets = [np.flatnonzero(sources == source) for source in dict.fromkeys(sources.tolist())]
        shares = np.array([len(mine) for mine in sets]) ** (1.0 - balance)
        self._sets = list(zip(sets, np.cumsum(shares / shares.sum()), strict=True)) if balance else []
        for mine, share in zip(sets, shares / shares.sum(), strict=True):
            if balance and len(mine) < np.ceil(people * share):
                raise TrainingError(
                    f"sampler: {sources[mine[0]]} has {len(mine)} people, and balance = {balance:g} would put up to "
                    f"{np.ceil(people * share):.0f} of them in a batch of {people}; lower balance"
                )

    def batch(self, step: int) -> NDArray[np.int64]:
        """Indices (people * pictures_each,) of the pictures of one step, a person's pictures side by side."""
        random = np.random.default_rng((self.seed, 2, step))
        chosen = self._balanced(random) if self._sets else self._in_turn(step)
        return np.concatenate([self._of_person(int(person), random) for person in chosen])

    def _in_turn(self, step: int) -> NDArray[np.int64]:
        turn, place = divmod(step, self.batches_per_pass)
        order = np.random.default_rng((self.seed, 1, turn)).permutation(len(self.names))
        return order[place * self.people : (place + 1) * self.people]

    def _balanced(self, random: np.random.Generator) -> NDArray[np.int64]:
        """People by systematic sampling of the sets: each has its share of the batch, rounded up or down at random."""
        places = (np.arange(self.people) + random.random()) / self.people
        chosen, begin = [], 0
        for people, end in self._sets:
            count = int((places < end).sum()) if people is not self._sets[-1][0] else self.people
            chosen.append(random.permutation(people)[: count - begin])
            begin = count
        return np.concatenate(chosen)

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
    of their light. The others below are faults of `learn/recorded.py`, each with the share of pictures that it befalls;
    `stranger` is somebody else in the box.
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
    jpeg: float = 0.0
    video: float = 0.0
    interlace: float = 0.0
    motion: float = 0.0
    noise: float = 0.0
    cast: float = 0.0
    exposure: float = 0.0
    loose: float = 0.0
    shift: float = 0.0
    cut: float = 0.0
    stranger: float = 0.0
    text: float = 0.0
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


@dataclass(frozen=True, slots=True)
class Varied:
    """A batch as it leaves the processor: pictures moved and degraded, and what is still to be done to each of them.

    `pictures` (n, h, w, 3) are uint8; `brightness`, `contrast` and `saturation` (n, 1, 1, 1) are factors; `holes` are rows and
    the edges (top, bottom, left, right) of what is erased.
    """

    pictures: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    holes: tuple[tuple[int, int, int, int, int], ...]

    def pin_memory(self) -> "Varied":
        """The same in memory from which a GPU copies fast; torch's loader calls it."""
        return replace(self, pictures=self.pictures.pin_memory())


def augmented(batch: UInt8, augment: Augment, *, seed: int, step: int) -> Tensor:
    """A uint8 batch (n, h, w, 3), varied and normalised, as (n, 3, h, w) in channels-last memory.

    Faults of camera and recorder; shrink and dark; flip, pad and crop; brightness, contrast and saturation (in that order,
    around the picture's own mean); grey; random erasing (Zhong et al., AAAI 2020: 2-40 % of the area, aspect 0.3-3.3,
    filled with the mean colour).
    """
    return coloured(varied(batch, augment, seed=seed, step=step), torch.device("cpu"))


def varied(batch: UInt8, augment: Augment, *, seed: int, step: int) -> Varied:
    """The first half of `augmented`: all that is drawn, and what moves pixels."""
    random = np.random.default_rng((seed, 3, step))
    batch = _degraded(batch, augment, seed=seed, step=step)
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
    chosen = random.random(n) < augment.colour

    def factors(amount: float) -> Tensor:
        drawn = np.where(chosen, random.uniform(1 - amount, 1 + amount, n), 1.0)
        return torch.from_numpy(drawn.astype(np.float32))[:, None, None, None]

    brightness, contrast, saturation = (
        factors(amount) for amount in (augment.brightness, augment.contrast, augment.saturation)
    )
    coloured_ones = torch.from_numpy(random.random(n) >= augment.grey).float()[:, None, None, None]
    holes = []
    for i in np.flatnonzero(random.random(n) < augment.erase).tolist():
        area = random.uniform(0.02, 0.4) * height * width
        aspect = random.uniform(0.3, 3.3)
        h, w = min(round((area * aspect) ** 0.5), height - 1), min(round((area / aspect) ** 0.5), width - 1)
        top, left = int(random.integers(0, height - h)), int(random.integers(0, width - w))
        holes.append((i, top, top + h, left, left + w))
    return Varied(torch.from_numpy(moved), brightness, contrast, saturation * coloured_ones, tuple(holes))


def coloured(batch: Varied, device: torch.device) -> Tensor:
    """The second half of `augmented`, on the device that trains: colours, normalisation and holes."""
    x = batch.pictures.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
    x = x * batch.brightness.to(device, non_blocking=True)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * batch.contrast.to(device, non_blocking=True) + mean
    luma = (x * x.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(1, keepdim=True)  # (n, 1, h, w)
    x = normalise(((x - luma) * batch.saturation.to(device, non_blocking=True) + luma).clamp_(0, 1))
    for i, top, bottom, left, right in batch.holes:
        x[i, :, top:bottom, left:right] = 0.0
    return x.contiguous(memory_format=torch.channels_last)


def batches(
    decoded: UInt8, sampler: PersonSampler, augment: Augment, *, seed: int, steps: range, loaders: int
) -> Iterator[tuple[NDArray[np.int64], Varied]]:
    """The rows and the varied pictures of each step; `loaders` processes prepare them ahead, with 0 nobody does.

    What a step holds does not depend on `loaders`.
    """
    every = _Batches(decoded, sampler, augment, seed)
    if not loaders:
        return (every[step] for step in steps)
    ahead = DataLoader(
        every,
        batch_size=None,
        sampler=steps,
        num_workers=loaders,
        collate_fn=_as_it_is,
        worker_init_fn=_alone,
        prefetch_factor=AHEAD,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="fork",  # the decoded pictures are shared, not copied
        generator=torch.Generator(),  # torch's own stays as the seed left it
    )
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # here, not in a loader: after a fork OpenCV would wait for threads that are not there
    try:
        return iter(ahead)
    finally:
        cv2.setNumThreads(threads)


class _Batches(Dataset[tuple[NDArray[np.int64], Varied]]):
    def __init__(self, decoded: UInt8, sampler: PersonSampler, augment: Augment, seed: int) -> None:
        self.decoded, self.sampler, self.augment, self.seed = decoded, sampler, augment, seed

    def __getitem__(self, step: int) -> tuple[NDArray[np.int64], Varied]:
        rows = self.sampler.batch(step)
        return rows, varied(self.decoded[rows], self.augment, seed=self.seed, step=step)


def _as_it_is(batch: Any) -> Any:  # torch's collate function: here a batch is one item
    return batch


def _alone(number: int) -> None:
    """A loader process leaves Ctrl-C to the run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _degraded(batch: UInt8, augment: Augment, *, seed: int, step: int) -> UInt8:
    """Faults for some pictures, as a recorder would keep them: of the box, then of the camera, at its size, then darkness."""
    n = len(batch)
    random = np.random.default_rng((seed, 4, step))
    drawn, amount = random.random((2, n)), random.random((2, n))
    small, dark = drawn[0] < augment.shrink, drawn[1] < augment.dark
    times, light = 1.5 + 3.5 * amount[0], 0.1 + 0.6 * amount[1]
    more = np.random.default_rng((seed, 5, step))
    befalls = {
        name: more.random(n) < share for name in (STRANGER, *BOX, *RECORDER) if (share := getattr(augment, name))
    }
    faulty = np.any([small, dark, *befalls.values()], axis=0)
    if not faulty.any():
        return batch
    clean, batch = batch, np.array(batch)
    for i in np.flatnonzero(faulty).tolist():
        mine = [name for name in befalls if befalls[name][i]]
        if STRANGER in mine:
            batch[i] = recorded.stranger(batch[i], clean[(i + n // 2) % n], more)  # half a batch on is somebody else
        for name in (name for name in BOX if name in mine):
            batch[i] = getattr(recorded, name)(batch[i], more)
        faults = [getattr(recorded, name) for name in RECORDER if name in mine]
        if small[i] or faults:
            batch[i] = recorded.shrunk(batch[i], times[i] if small[i] else more.uniform(1, 2), faults, more)
        if dark[i]:
            batch[i] = np.rint(batch[i] * light[i])
    return batch
