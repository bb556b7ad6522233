"""One training run, read from top to bottom: a recipe and pictures in, checkpoints and a log out."""

import copy
import ctypes
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn as mean_of

from passerby.files import whole, write_bytes
from passerby.learn.distill import Imitation, teacher_embeddings
from passerby.learn.loader import (
    PersonSampler,
    Varied,
    batches,
    coloured,
    decoded_cache,
    labelled_fingerprint,
    to_input,
)
from passerby.learn.losses import ArcFace, BatchHardTriplet, CentreLoss, SmoothedSoftmax, WeightedLosses
from passerby.learn.model import WIDTHS, OSNet, load_body
from passerby.learn.narrow import narrow
from passerby.learn.recipe import RECIPE, OptimiserSettings, Recipe, Stage, folder_of
from passerby.learn.start import load_ir, read_folder, settle_neck
from passerby.learn.workers import Workers
from passerby.reid.evaluate import evaluate
from passerby.types import Dataset, Float32, Picture, TrainingError

CLEAN = 4  # pictures of each person that a start is settled on


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands, for a progress bar or a log."""

    activity: str
    done: int
    total: int
    loss: float | None = None
    images_per_s: float | None = None
    dev: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the weights to use, the dev figures of the last look, and whether it was interrupted."""

    weights: Path
    step: int
    dev: dict[str, float]
    interrupted: bool


def train(
    recipe: Recipe,
    pictures: Sequence[Picture],
    dev: Sequence[Dataset],
    out: Path,
    *,
    resume: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    loaders: int | None = None,
    compiled: bool = False,
    checkpoint_minutes: float = 10.0,
    stop_after: int | None = None,
    progress: Callable[[RunState], None] = lambda progress: None,
) -> Outcome:
    """Train as the recipe says and keep everything under `out`.

    Writes `checkpoint.pt` every `checkpoint_minutes` and on Ctrl-C (`resume=True` goes on from it, with the same pictures
    and labels alone, to bit-identical weights on the same kind of processor), `weights.pt` (the averaged weights with the
    best mean dev mAP seen at the last stage's input size; those of the stages before it in `stage1.pt` and so on),
    `start.pt` where the network was begun from another, `recipe.json`, `log.jsonl` and TensorBoard events. `stop_after`
    ends the run early after that many steps, as an interruption would. Under torchrun the processes share each batch.
    `loaders` processes prepare pictures ahead: by default none on a processor, which is busy with the network anyway, and up
    to eight beside a GPU. `compiled` lets torch compile the network for the GPU, a minute that pays in long runs.
    Raises TrainingError where the run cannot start or go on, or where the loss, the gradient or the vectors of dev
    pictures stop being numbers.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise TrainingError(f"{checkpoint}: a run was begun here; go on with --resume, or choose another folder")
    if threads is not None:
        torch.set_num_threads(threads)
    keep_memory()
    where = torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")
    if where.type == "cuda":
        if not torch.cuda.is_available():
            raise TrainingError('device "cuda": torch sees no GPU here; use --device cpu')
        where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(where)
    if loaders is None:
        loaders = min(8, (os.cpu_count() or 1) - 1) if where.type == "cuda" and sys.platform == "linux" else 0
    with Workers(where) as workers:
        return _run(
            recipe,
            pictures,
            dev,
            out,
            resume,
            where,
            workers,
            loaders,
            compiled,
            checkpoint_minutes,
            stop_after,
            progress,
        )


def _run(
    recipe: Recipe,
    pictures: Sequence[Picture],
    dev: Sequence[Dataset],
    out: Path,
    resume: bool,
    where: torch.device,
    workers: Workers,
    loaders: int,
    compiled: bool,
    checkpoint_minutes: float,
    stop_after: int | None,
    progress: Callable[[RunState], None],
) -> Outcome:
    checkpoint, weights = out / "checkpoint.pt", out / "weights.pt"
    people = len({picture.person for picture in pictures})
    trained_on = {"fingerprint": labelled_fingerprint(pictures), "pictures": len(pictures), "people": people}
    state = None
    if resume and checkpoint.exists():
        state = read_state(checkpoint, where)
        _must_go_on(checkpoint, state, recipe, trained_on)
    autocast, scaler = autocast_of(recipe.precision, where)
    sampler = PersonSampler(
        pictures,
        people=recipe.people,
        pictures_each=recipe.pictures_each,
        seed=recipe.seed,
        across_cameras=recipe.across_cameras,
        balance=recipe.balance,
    )
    mine = workers.part(recipe.people * recipe.pictures_each)
    cache = out / "cache"
    with workers.first_alone():
        teacher = _teacher(recipe, pictures, cache, where, progress)
        for stage in recipe.stages:
            counter = _counter(progress, f"decoding at {stage.height}x{stage.width}")
            decoded_cache(pictures, cache, height=stage.height, width=stage.width, progress=counter)
    torch.manual_seed(recipe.seed)
    model: OSNet = OSNet(recipe.architecture)
    if recipe.start is not None and recipe.start.suffix == ".xml":
        load_ir(model, recipe.start)
    elif recipe.start is not None and state is None:
        _load(model, recipe.start, pictures, sampler, recipe.stages[0], cache, progress)
    model = model.to(device=where, memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks it
    length = model.fc[1].num_features
    assert isinstance(length, int)
    losses = _losses(recipe, length, len(sampler.names)).to(where)
    imitation = None
    if teacher is not None:
        itself = recipe.teacher.models == (recipe.start,)
        imitation = Imitation(length, teacher.shape[1], relation=recipe.teacher.relation, same_space=itself).to(where)
    if recipe.start is not None and state is None:
        _begin(model, losses, recipe, pictures, sampler, cache, where, progress)
        if workers.first:
            write_state(out / "start.pt", model.state_dict())
    averaged = copy.deepcopy(model).requires_grad_(False)
    body = torch.compile(model.before) if compiled else model.before
    trained = nn.ModuleList([m for m in (model, losses, imitation) if m is not None])
    optimiser = _optimiser(recipe.optimiser, trained)
    step, best = 0, -1.0
    figures: dict[str, float] = {}
    if state is not None:
        trained.load_state_dict(state["trained"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state["scaler"])
        step, best, figures = state["step"], state["best"], state["figures"]

    if workers.first:
        write_bytes(out / "recipe.json", RECIPE.dump_json(recipe, indent=2))

    def save() -> None:
        write_state(
            checkpoint,
            {
                "recipe": recipe.sha256,
                "trained_on": trained_on,
                "trained": trained.state_dict(),
                "averaged": averaged.state_dict(),
                "optimiser": optimiser.state_dict(),
                "scaler": scaler.state_dict(),
                "step": step,
                "best": best,
                "figures": figures,
            },
        )

    from torch.utils.tensorboard import SummaryWriter  # imports slowly, and only a run needs it

    interrupted = Interrupt()
    last_save = time.monotonic()
    with (
        interrupted,
        SummaryWriter(str(out / "tensorboard")) if workers.first else nullcontext() as board,
        (out / "log.jsonl").open("a") if workers.first else nullcontext() as log,
    ):
        coming: tuple[int, Iterator[tuple[NDArray[np.int64], Varied]]] = (-1, iter(()))  # (stage, its batches)
        while step < recipe.steps and not workers.any(interrupted.asked) and step != stop_after:
            started = time.perf_counter()
            stage_number, stage, into = _stage_of(recipe.stages, step)
            if coming[0] != stage_number:
                pile = decoded_cache(pictures, cache, height=stage.height, width=stage.width)
                left = range(step, step + stage.steps - into)
                coming = (
                    stage_number,
                    batches(pile, sampler, recipe.augment, seed=recipe.seed, steps=left, loaders=loaders),
                )
                best = best if into else -1.0
                started = time.perf_counter()
            rate = stage.rate * _schedule(recipe.optimiser, step, recipe.steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            frozen = step < recipe.optimiser.freeze_body_steps
            model.train()
            for name, module in model.named_children():
                if name != "fc":
                    module.requires_grad_(not frozen).train(not frozen)
            if recipe.arcface.weight:
                arcface = losses.losses["arcface"]
                assert isinstance(arcface, ArcFace)
                arcface.ramp = min(1.0, step / recipe.arcface.ramp_steps) if recipe.arcface.ramp_steps else 1.0

            indices, varied = next(coming[1])
            x = coloured(varied, where)[mine]
            labels = torch.from_numpy(sampler.labels[indices]).to(where, non_blocking=True)
            prepared = time.perf_counter()
            with autocast():
                before = workers.gather(body(x))
                after = model.fc[1](before)
            loss, parts = losses(before, after, labels)
            if imitation is not None and teacher is not None:
                imitated = imitation(after, torch.from_numpy(teacher[indices]).to(where, non_blocking=True))
                parts["imitation"] = imitated.detach()
                loss = loss + recipe.teacher.weight * imitated
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimiser)
            workers.average_gradients(trained)
            norm = nn.utils.clip_grad_norm_(trained.parameters(), recipe.optimiser.clip)
            # one wait for a GPU a step: all that the log says comes over at once
            told = torch.stack(
                [loss.detach().float(), norm.float(), *(part.float() for part in parts.values())]
            ).tolist()
            value, length_of_gradient, said = told[0], told[1], dict(zip(parts, told[2:], strict=True))
            if not math.isfinite(value):
                each = ", ".join(f"{k} {v:.3g}" for k, v in said.items())
                raise _no_number(step, f"the loss is {value} ({each})", checkpoint)
            if not scaler.is_enabled() and not math.isfinite(
                length_of_gradient
            ):  # a scaler looks for itself, and skips such a step
                raise _no_number(step, f"the gradient's norm is {length_of_gradient}", checkpoint)
            scaler.step(optimiser)
            scaler.update()
            # the average starts anew with each stage: norms of another input size have other statistics
            _average(averaged, model, decay=min(recipe.ema, (1 + into) / (10 + into)) if into else 0.0)
            step += 1

            took = time.perf_counter() - started
            speed = len(indices) / took
            entry = {
                "step": step,
                "loss": value,
                "rate": rate,
                "norm": length_of_gradient,
                "images_per_s": round(speed, 1),
            }
            entry |= said
            entry |= {"loading": round((prepared - started) / took, 4), "threads": torch.get_num_threads()}
            look = (
                step == recipe.steps
                or step % recipe.evaluate_every == 0
                or _stage_of(recipe.stages, step)[0] != stage_number
            )
            if dev and look and workers.first:
                seen: dict[str, float] = {}
                for dataset in dev:
                    found = _figures(dataset, averaged, stage, cache, where, progress)
                    if found is None:
                        raise _no_number(step, f"the vectors of dev {dataset.name} are no numbers", checkpoint)
                    seen |= {f"dev_{name}": figure for name, figure in found.items()}
                entry |= seen
                figures = seen
                mean = float(np.mean([v for k, v in seen.items() if k.endswith("_map")]))
                if mean > best:
                    best = mean
                    at_end = stage_number == len(recipe.stages) - 1
                    write_state(weights if at_end else out / f"stage{stage_number + 1}.pt", averaged.state_dict())
            if log is not None and board is not None:
                log.write(json.dumps(entry) + "\n")
                log.flush()
                for name, number in entry.items():
                    if name != "step":
                        board.add_scalar(name, number, step)
            shown = ", ".join(f"{k.removeprefix('dev_')} {v:.1%}" for k, v in figures.items()) or None
            progress(RunState("training", step, recipe.steps, value, speed, shown))
            if workers.first and time.monotonic() - last_save > checkpoint_minutes * 60:
                save()
                last_save = time.monotonic()
    if workers.first:
        save()
        if not weights.exists() or not dev:
            write_state(weights, averaged.state_dict())
    return Outcome(weights, step, figures, interrupted=step < recipe.steps)


def _load(
    model: OSNet,
    start: Path,
    pictures: Sequence[Picture],
    sampler: PersonSampler,
    stage: Stage,
    cache: Path,
    progress: Callable[[RunState], None],
) -> None:
    """Begin with weights.pt or a model folder: weights of this width as they are, those of a wider network narrowed."""
    folder = folder_of(start)
    state = read_state(start, torch.device("cpu")) if folder is None else read_folder(folder)
    stem = state["conv1.conv.weight"].shape[0] if "conv1.conv.weight" in state else 0
    wider = [name for name, widths in WIDTHS.items() if widths[0] == stem > model.conv1.conv.out_channels]
    if not wider:
        load_body(model, state)
        return
    wide = OSNet(model.architecture.rpartition("_x")[0] + wider[0].removeprefix("osnet"))
    left = [name for name in load_body(wide, state) if not name.endswith("num_batches_tracked")]
    if left:
        raise TrainingError(f"{start}: lacks {left[0]!r}; a narrower network can only begin with a whole one")
    progress(RunState(f"narrowing {wide.architecture}", 0, 1))
    decoded = decoded_cache(pictures, cache, height=stage.height, width=stage.width)
    narrow(wide, model, to_input(decoded[_clean(sampler, 2)]))


def _clean(sampler: PersonSampler, each: int) -> NDArray[np.int64]:
    """The rows of up to `each` pictures of every person, spread over what there is of them."""
    people = [np.flatnonzero(sampler.labels == person) for person in range(len(sampler.names))]
    return np.concatenate([mine[np.linspace(0, len(mine) - 1, min(len(mine), each)).astype(int)] for mine in people])


def _begin(
    model: OSNet,
    losses: WeightedLosses,
    recipe: Recipe,
    pictures: Sequence[Picture],
    sampler: PersonSampler,
    cache: Path,
    device: torch.device,
    progress: Callable[[RunState], None],
) -> None:
    """Settle the neck of a network that was begun elsewhere, and set ArcFace's centres, both from clean pictures."""
    chosen = _clean(sampler, CLEAN)
    stage = recipe.stages[0]
    decoded = decoded_cache(
        pictures, cache, height=stage.height, width=stage.width, progress=_counter(progress, "decoding for the start")
    )
    model.eval()
    before = []
    with torch.inference_mode():
        for i in range(0, len(chosen), 64):
            x = to_input(decoded[chosen[i : i + 64]]).to(device, memory_format=torch.channels_last)
            before.append(model(x)[0].float())
            progress(RunState("looking at clean pictures", i, len(chosen)))
        features = torch.cat(before)
        if recipe.start is not None and recipe.start.suffix == ".xml":
            settle_neck(model, features)
        if recipe.arcface.weight:
            after = nn.functional.normalize(model.fc[1](features))
            arcface = losses.losses["arcface"]
            assert isinstance(arcface, ArcFace)
            labels = torch.from_numpy(sampler.labels[chosen]).to(device)
            arcface.weight.data.zero_().index_add_(0, labels, after)
            arcface.weight.data = nn.functional.normalize(arcface.weight.data)


def embed_pictures(
    model: OSNet,
    pictures: Sequence[Picture],
    cache: Path,
    *,
    height: int,
    width: int,
    device: torch.device,
    batch: int = 64,
) -> Float32:
    """The training path's unit vectors (n, 512) of pictures, flip left out, from the decoded cache in `cache`."""
    arrays = decoded_cache(pictures, cache, height=height, width=width)
    model.eval()
    parts = []
    with torch.inference_mode():
        for i in range(0, len(arrays), batch):
            x = to_input(arrays[i : i + batch]).to(device, memory_format=torch.channels_last)
            parts.append(model.embed(x).float().cpu().numpy())
    return np.concatenate(parts)


def _figures(
    dataset: Dataset,
    model: OSNet,
    stage: Stage,
    cache: Path,
    device: torch.device,
    progress: Callable[[RunState], None],
) -> dict[str, float] | None:
    """Rank-1 and mAP on a dev set; None where the network's vectors are no numbers."""
    progress(RunState(f"looking at dev {dataset.name}", 0, 1))
    pictures = sorted({*dataset.query, *dataset.gallery}, key=lambda p: str(p.path))
    row = {p: i for i, p in enumerate(pictures)}
    vectors = embed_pictures(model, pictures, cache, height=stage.height, width=stage.width, device=device)
    if not np.isfinite(vectors).all():
        return None
    result = evaluate(
        dataset, vectors[[row[p] for p in dataset.query]], vectors[[row[p] for p in dataset.gallery]], bootstrap=0
    )
    name = dataset.name.removesuffix("/dev")
    return {f"{name}_rank1": result.rank1.value, f"{name}_map": result.map.value}


def _losses(recipe: Recipe, length: int, people: int) -> WeightedLosses:
    parts: dict[str, tuple[nn.Module, float, Literal["before", "after"]]] = {}
    if recipe.arcface.weight:
        face = ArcFace(length, people, scale=recipe.arcface.scale, margin=recipe.arcface.margin, on=recipe.arcface.on)
        parts["arcface"] = face, recipe.arcface.weight, "after"
    if recipe.softmax.weight:
        parts["softmax"] = (
            SmoothedSoftmax(length, people, smoothing=recipe.softmax.smoothing),
            recipe.softmax.weight,
            "after",
        )
    if recipe.triplet.weight:
        margin = None if recipe.triplet.soft else recipe.triplet.margin
        parts["triplet"] = (
            BatchHardTriplet(margin=margin, distance=recipe.triplet.distance),
            recipe.triplet.weight,
            "before",
        )
    if recipe.centre.weight:
        parts["centre"] = CentreLoss(length, people, rate=recipe.centre.rate), recipe.centre.weight, "before"
    return WeightedLosses(parts)


def _optimiser(settings: OptimiserSettings, trained: nn.Module) -> torch.optim.Optimizer:
    """Weight decay on weights alone: norms and biases (vectors and numbers) go without."""
    matrices = [p for p in trained.parameters() if p.ndim > 1]
    vectors = [p for p in trained.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=matrices[0].is_cuda or None)


def _schedule(settings: OptimiserSettings, step: int, steps: int) -> float:
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.learning_rate * (settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * share)))


def _stage_of(stages: Sequence[Stage], step: int) -> tuple[int, Stage, int]:
    """The stage that a step belongs to: its number, itself, and how many of its steps lie behind."""
    for number, stage in enumerate(stages):
        if step < stage.steps:
            return number, stage, step
        step -= stage.steps
    return len(stages) - 1, stages[-1], stages[-1].steps + step


def _teacher(
    recipe: Recipe,
    pictures: Sequence[Picture],
    cache: Path,
    device: torch.device,
    progress: Callable[[RunState], None],
) -> Float32 | None:
    if not recipe.teacher.models or not recipe.teacher.weight:
        return None
    vectors = [
        teacher_embeddings(
            model, pictures, cache, device=device, progress=_counter(progress, f"asking teacher {model.stem}")
        )
        for model in recipe.teacher.models
    ]
    return np.concatenate(vectors, axis=1) / np.float32(
        math.sqrt(len(vectors))
    )  # (pictures, lengths), unit length again


def _counter(progress: Callable[[RunState], None], activity: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(RunState(activity, done, total))


def _average(averaged: nn.Module, model: nn.Module, *, decay: float) -> None:
    with torch.no_grad():
        pairs = list(zip(averaged.state_dict().values(), model.state_dict().values(), strict=True))
        mine, theirs = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        mean_of(decay)(mine, theirs, 0)  # type: ignore[no-untyped-call]  # torch's own lacks types
        for counted, new in (pair for pair in pairs if not pair[0].is_floating_point()):
            counted.copy_(new)


def autocast_of(wanted: str, device: torch.device) -> tuple[Callable[[], torch.autocast], torch.amp.GradScaler]:
    if wanted == "auto":
        if device.type == "cuda":
            wanted = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        else:
            wanted = "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _fast_bf16() else "fp32"
    if wanted == "fp16" and device.type != "cuda":
        raise TrainingError('precision = "fp16" needs a GPU; use "fp32" or "bf16" here')
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[wanted]
    scaler = torch.amp.GradScaler(device.type, enabled=wanted == "fp16")
    return lambda: torch.autocast(
        device.type, dtype=kind if wanted != "fp32" else torch.bfloat16, enabled=wanted != "fp32"
    ), scaler


def keep_memory() -> None:
    """Let glibc keep what a step frees for the next: to hand it back and get it zeroed again costs a fifth of the speed."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: large blocks, too, come from the heap
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: which is not trimmed


def _fast_bf16() -> bool:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def read_state(path: Path, device: torch.device) -> Any:  # a torch state, see `write_state`
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such file") from None
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError ... by the kind of damage
        raise TrainingError(
            f"{path}: damaged, or not written by torch as plain tensors ({type(error).__name__})"
        ) from error


def write_state(path: Path, state: Any) -> None:  # a torch state: nested dicts of tensors and numbers
    with whole(path) as draft:
        torch.save(state, draft)


def _must_go_on(checkpoint: Path, state: dict[str, Any], recipe: Recipe, trained_on: dict[str, Any]) -> None:
    """Raise TrainingError for a checkpoint of another recipe or other pictures; the dicts are what `save` keeps."""
    if state.get("recipe") != recipe.sha256:
        raise TrainingError(f"{checkpoint}: belongs to another recipe; choose another folder for this run")
    before = state.get("trained_on")
    if before == trained_on:
        return
    if not isinstance(before, dict):
        raise TrainingError(f"{checkpoint}: was written by an older passerby; choose another folder for this run")
    counts = [f"{each['pictures']} pictures of {each['people']} people" for each in (before, trained_on)]
    raise TrainingError(
        f"{checkpoint}: was begun with {counts[0]}, here are {counts[1]}"
        + (" with other files or labels" if counts[0] == counts[1] else "")
        + "; give it the same data, or choose another folder for this run"
    )


def _no_number(step: int, what: str, checkpoint: Path) -> TrainingError:
    last = f"the last good state is {checkpoint}" if checkpoint.exists() else "nothing was saved yet"
    return TrainingError(f'step {step}: {what}; {last}. Lower optimiser.learning_rate or use precision = "fp32"')


class Interrupt:
    """Ctrl-C asks the loop to stop after the step in hand; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Interrupt":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
