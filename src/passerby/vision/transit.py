"""Who goes where and how long it takes: times between cameras and their density."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passerby.types import Float64

OVERLAP_S = 60.0  # the longest that one person's sightings in two cameras overlap


@dataclass(frozen=True, slots=True)
class Transit:
    """How people go from camera to camera, learnt where the truth is known; arrays are (cameras, cameras), from and to.

    `share` of those last seen in the first are next seen in the second (rows sum to 1 or less), of whom `overlapping`
    are in both at once; the others after a log-normal time with `mean` and `deviation` of its logarithm; `low` and
    `high` hold 98 % of the times. `new_per_s` (cameras,) people whom no camera saw before; `first` is their share.
    """

    share: Float64
    overlapping: Float64
    mean: Float64
    deviation: Float64
    low: Float64
    high: Float64
    new_per_s: Float64
    first: float


def learn_transit(
    start_s: Float64,
    end_s: Float64,
    camera: NDArray[np.int64],
    links: Sequence[tuple[int, int]],
    *,
    cameras: int,
    duration_s: float,
) -> Transit:
    """Count and time the ways between cameras.

    `start_s`, `end_s` and `camera` are (n,), a row a sighting; `links` are rows (earlier, later) that are one person. A count
    is added to each way, so that none is impossible.
    """
    gaps: list[list[list[float]]] = [[[] for _ in range(cameras)] for _ in range(cameras)]
    follows, followed = np.zeros(len(camera), np.bool_), np.zeros(len(camera), np.bool_)
    for a, b in links:
        gaps[camera[a]][camera[b]].append(float(start_s[b] - end_s[a]))
        followed[a], follows[b] = True, True
    new = 1 + np.bincount(camera[~follows], minlength=cameras)
    ended = 1 + np.bincount(camera[~followed], minlength=cameras)
    counts = np.array([[len(cell) for cell in row] for row in gaps], np.float64)
    every = np.concatenate([np.array(cell) for row in gaps for cell in row] or [np.zeros(0)])
    wide = np.log(np.maximum(every[every > 0], 0.1)) if (every > 0).any() else np.array([math.log(30.0)])

    def figure(of: Callable[[Float64], float]) -> Float64:
        figures: Float64 = np.array([[of(np.array(cell)) for cell in row] for row in gaps])
        return figures

    def logs(cell: Float64) -> Float64:
        """The logarithms of the times of a cell, and of two of all cells, so that none is empty."""
        known = np.log(np.maximum(cell[cell > 0], 0.1))
        return np.concatenate([known, [wide.mean() - wide.std(), wide.mean() + wide.std()]])

    return Transit(
        share=(counts + 1 / cameras) / (counts.sum(axis=1) + 1 + ended)[:, None],
        overlapping=figure(lambda cell: float((cell <= 0).sum() + 0.05) / (len(cell) + 1)),
        mean=figure(lambda cell: float(logs(cell).mean())),
        deviation=figure(lambda cell: float(max(0.1, logs(cell).std()))),
        low=figure(lambda cell: float(np.quantile(cell, 0.01)) if len(cell) else math.inf),
        high=figure(lambda cell: float(np.quantile(cell, 0.99)) if len(cell) else -math.inf),
        new_per_s=new / duration_s,
        first=float(new.sum() / max(1, len(camera))),
    )


def log_density(transit: Transit, origin: NDArray[np.int64], target: int, gap_s: Float64) -> Float64:
    """The logarithm of how likely, per second, who was last seen in `origin` (n,) is next seen in `target` after `gap_s`."""
    share, both = transit.share[origin, target], transit.overlapping[origin, target]
    mean, deviation = transit.mean[origin, target], transit.deviation[origin, target]
    logs = np.log(np.maximum(gap_s, 0.1))
    later = (
        -0.5 * ((logs - mean) / deviation) ** 2 - logs - np.log(deviation * math.sqrt(2 * math.pi)) + np.log1p(-both)
    )
    result: Float64 = np.log(share) + np.where(gap_s > 0, later, np.log(both / OVERLAP_S))
    return result


class Passages:
    """Who goes where and how long it takes, learnt without labels: from links, each weighted by its probability.

    For each pair of cameras, and for each camera with itself, it keeps a weight, and the mean and spread of the logarithm of
    the time from being last seen in the one to being first seen in the other. Before anything is known, each way is as likely
    as any other and takes `MEDIAN_S`, give or take a factor of e^`SPREAD`; what is learnt takes over at the weight of `BEFORE`
    links. Passages, and returns to one camera, are each a pair of their own.
    """

    MEDIAN_S, SPREAD, BEFORE = 20.0, 1.5, 3.0
    LEAST_S = 0.5  # shorter times, and overlaps of tracks, are taken for this
    NEW_EVERY_S = 60.0  # a new person a camera, before anything is known

    def __init__(self, cameras: int) -> None:
        self.weight: Float64 = np.zeros((cameras, cameras))  # from, to
        self.logs: Float64 = np.zeros((cameras, cameras))
        self.squares: Float64 = np.zeros((cameras, cameras))
        self.ended: Float64 = np.zeros(cameras)
        self.new: Float64 = np.zeros(cameras)
        self.lasted_s = 0.0

    def copy(self) -> "Passages":
        """One that learns on its own from here on."""
        twin = Passages(len(self.new))
        for name in ("weight", "logs", "squares", "ended", "new"):
            setattr(twin, name, getattr(self, name).copy())
        twin.lasted_s = self.lasted_s
        return twin

    def learn(self, origin: NDArray[np.int64], target: NDArray[np.int64], gap_s: Float64, probability: Float64) -> None:
        """Take in links (n,): cameras from and to, seconds between, and how probable each is."""
        logs = np.log(np.maximum(gap_s, self.LEAST_S))
        np.add.at(self.weight, (origin, target), probability)
        np.add.at(self.logs, (origin, target), probability * logs)
        np.add.at(self.squares, (origin, target), probability * logs**2)

    def log_density(self, origin: NDArray[np.int64], target: NDArray[np.int64], gap_s: Float64) -> Float64:
        """The logarithm of how likely, per second, who was last seen in `origin` is next seen in `target` after `gap_s`.

        All three broadcast to one shape.
        """
        cameras = len(self.new)
        weight = self.weight + self.BEFORE / cameras
        share = weight / (weight.sum(axis=1) + self.ended + 1)[:, None]
        before = self.BEFORE * np.array([1.0, math.log(self.MEDIAN_S), math.log(self.MEDIAN_S) ** 2 + self.SPREAD**2])
        count = self.weight + before[0]
        mean = (self.logs + before[1]) / count
        deviation = np.sqrt(np.maximum((self.squares + before[2]) / count - mean**2, 0.01))
        logs = np.log(np.maximum(gap_s, self.LEAST_S))
        off = (logs - mean[origin, target]) / deviation[origin, target]
        result: Float64 = np.log(share)[origin, target] - off**2 / 2 - logs
        result -= np.log(deviation[origin, target] * math.sqrt(2 * math.pi))
        return result

    def log_new(self) -> Float64:
        """The logarithm of how many people a second each camera is the first to see: (cameras,)."""
        result: Float64 = np.log((1 + self.new) / (self.NEW_EVERY_S + self.lasted_s))
        return result
