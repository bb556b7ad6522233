"""One training run of the person detector, read from top to bottom: a recipe and labelled pictures in, checkpoints out."""

import copy
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from passerby.files import write_bytes
from passerby.learn.detector_recipe import RECIPE, DetectorRecipe
from passerby.learn.publish import export_detector
from passerby.learn.scenes import Labelled, boxes_fingerprint, drawn_picture
from passerby.learn.ssd import PersonSSD, detection_loss, load_0201
from passerby.learn.train import Interrupt, Outcome, RunState, autocast_of, keep_memory, read_state, write_state
from passerby.types import TrainingError

TILES = 4  # pictures that may stand side by side in one


def train_detector(
    recipe: DetectorRecipe,
    pictures: Sequence[Sequence[Labelled]],
    out: Path,
    *,
    measure: Callable[[Path], Mapping[str, float]],
    resume: bool = False,
    threads: int | None = None,
    checkpoint_minutes: float = 5.0,
    stop_after: int | None = None,
    progress: Callable[[RunState], None] = lambda progress: None,
) -> Outcome:
    """Train as the recipe says, on the labelled pictures of each of its sources, and keep everything under `out`.

    Every `evaluate_every` steps the averaged weights are exported to `look.onnx` and `measure` says what they are worth on
    the recipe's `val`; the weights with the highest mean are kept as `weights.pt`. Writes `checkpoint.pt` every
    `checkpoint_minutes` and on Ctrl-C (`resume=True` goes on from it), `recipe.json` and `log.jsonl`. `stop_after` ends the run
    early after that many steps. Raises TrainingError where the run cannot start, or where the loss stops being a number.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, weights = out / "checkpoint.pt", out / "weights.pt"
    if checkpoint.exists() and not resume:
        raise TrainingError(f"{checkpoint}: a run was begun here; go on with --resume, or choose another folder")
    if threads is not None:
        torch.set_num_threads(threads)
    keep_memory()
    autocast, _ = autocast_of(recipe.precision, torch.device("cpu"))
    torch.manual_seed(recipe.seed)
    model = PersonSSD()
    load_0201(model, recipe.start)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks it
    averaged = copy.deepcopy(model).requires_grad_(False)
    for part in (model.stem, *model.blocks[: recipe.frozen + 1]):
        part.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    step, best = 0, -1.0
    figures: dict[str, float] = {}
    trained_on = [boxes_fingerprint(part) for part in pictures]
    if resume and checkpoint.exists():
        state = read_state(checkpoint, torch.device("cpu"))
        if state["recipe"] != recipe.sha256:
            raise TrainingError(f"{checkpoint}: belongs to another recipe; choose another folder for this run")
        if state.get("trained_on") != trained_on:
            raise TrainingError(
                f"{checkpoint}: was begun with other pictures or other boxes; give it the same data, or choose another folder"
            )
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        step, best, figures = state["step"], state["best"], state["figures"]
    write_bytes(out / "recipe.json", RECIPE.dump_json(recipe, indent=2))

    def save() -> None:
        state = {"recipe": recipe.sha256, "trained_on": trained_on, "step": step, "best": best}
        state |= {"model": model.state_dict(), "averaged": averaged.state_dict(), "figures": figures}
        write_state(checkpoint, state | {"optimiser": optimiser.state_dict()})

    interrupted = Interrupt()
    last_save = time.monotonic()
    with interrupted, (out / "log.jsonl").open("a") as log:
        while step < recipe.steps and not interrupted.asked and step != stop_after:
            started = time.perf_counter()
            rate = _schedule(recipe, step)
            for group in optimiser.param_groups:
                group["lr"] = rate
            x, truths = _batch(recipe, pictures, step)
            prepared = time.perf_counter()
            with autocast():
                logits, boxes, anchors = model(x)
            score_loss, box_loss = detection_loss(logits, boxes, anchors, truths)
            loss = score_loss + box_loss
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingError(f"step {step}: the loss is {value}; lower learning_rate or use precision = 'fp32'")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own lacks types
            norm = nn.utils.clip_grad_norm_(trained, recipe.clip)
            if not math.isfinite(norm):
                raise TrainingError(
                    f"step {step}: the gradient's norm is {float(norm)}; lower learning_rate or use precision = 'fp32'"
                )
            optimiser.step()
            _average(averaged, model, decay=min(recipe.ema, (1 + step) / (10 + step)))
            step += 1

            took = time.perf_counter() - started
            entry: dict[str, float] = {"step": step, "loss": value, "score": float(score_loss.detach())}
            entry |= {
                "box": float(box_loss.detach()),
                "rate": rate,
                "norm": float(norm),
                "images_per_s": round(recipe.batch / took, 2),
            }
            entry |= {"loading": round((prepared - started) / took, 3), "threads": torch.get_num_threads()}
            if step == recipe.steps or step % recipe.evaluate_every == 0:
                progress(RunState("measuring", 0, 1))
                if not all(value.isfinite().all() for value in averaged.state_dict().values()):
                    raise TrainingError(
                        f"step {step}: the weights are no numbers; lower learning_rate or use precision = 'fp32'"
                    )
                export_detector(averaged, out / "look.onnx", recipe.sizes)
                figures = dict(measure(out / "look.onnx"))
                entry |= {f"val_{name}": figure for name, figure in figures.items()}
                mean = float(np.mean(list(figures.values())))
                if mean > best:
                    best = mean
                    write_state(weights, averaged.state_dict())
            log.write(json.dumps(entry) + "\n")
            log.flush()
            shown = ", ".join(f"{name} {figure:.1%}" for name, figure in figures.items()) or None
            progress(RunState("training", step, recipe.steps, value, recipe.batch / took, shown))
            if time.monotonic() - last_save > checkpoint_minutes * 60:
                save()
                last_save = time.monotonic()
    save()
    if not weights.exists():
        write_state(weights, averaged.state_dict())
    return Outcome(weights, step, figures, interrupted=step < recipe.steps)


def processor_hours(recipe: DetectorRecipe, log: Path) -> float:
    """What the steps of a run took by its log, in hours times threads."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return float(sum(recipe.batch / entry["images_per_s"] * entry["threads"] for entry in entries)) / 3600


def _batch(
    recipe: DetectorRecipe, pictures: Sequence[Sequence[Labelled]], step: int
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """(BGR pictures (batch, 3, height, width) 0..1, (boxes, ignored) of each) of a step; the same step gives the same."""
    rng = np.random.default_rng([recipe.seed, step])
    height, width = recipe.sizes[int(rng.integers(len(recipe.sizes)))]
    shares = np.array([source.share for source in recipe.train])
    drawn, truths = [], []
    for _ in range(recipe.batch):
        source = int(rng.choice(len(shares), p=shares / shares.sum()))
        rows: NDArray[np.int64] = rng.integers(0, len(pictures[source]), TILES)
        picture, boxes, ignored = drawn_picture(pictures[source], rows, recipe.change, rng, height=height, width=width)
        drawn.append(picture)
        truths.append((torch.from_numpy(boxes), torch.from_numpy(ignored)))
    x = torch.from_numpy(np.stack(drawn)[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255
    return x.contiguous(memory_format=torch.channels_last), truths


def _schedule(recipe: DetectorRecipe, step: int) -> float:
    """Linear warm-up, then a cosine down to `final` times the learning rate."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    into = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (recipe.final + (1 - recipe.final) * 0.5 * (1 + math.cos(math.pi * into)))


def _average(averaged: nn.Module, model: nn.Module, *, decay: float) -> None:
    with torch.no_grad():
        for kept, new in zip(averaged.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)
