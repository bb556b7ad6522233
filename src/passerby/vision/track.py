"""One camera's detections joined to tracks, in order of time; nothing here knows another camera, a zone or a picture.

Matching in two stages as ByteTrack has it (Zhang et al., ECCV 2022): the sure boxes first, then the unsure ones for the tracks
that are left; only sure boxes begin a track. An unsure box goes on with a track only while its scores so far say that it is
somebody: whether a track is real is tracked along, as in integrated data association (Musicki and Evans, 2004). All else is in
seconds, so that any frame rate will do, and a changing one too.
The constants were chosen on rendered films and real walks, see docs/benchmarks.md.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from passerby.shop import Detections
from passerby.types import Float32, Float64, Int64, VideoError
from passerby.vision.detect import overlaps

Seen = tuple[datetime, Float32, float]  # when, the box (4,) and its score
Embed = Callable[[Sequence[int]], Float32]

# A box is measured as its middle's x, its top, its width and its height; all of these in heights of the person.
SPEED = np.array([0.45, 0.25, 0.08, 0.06])  # how fast each changes, a second: the spread over people
BLUR = np.array([0.05, 0.055, 0.11, 0.09])  # how far a sure box is off
VAGUE = 2.0  # how much more so, as a share, is a box of score 0: most are of people who are partly hidden
ODD = 3.0  # and how much more so an odd box, which is likelier than somebody new beside a track just lost
STEADY_S = 4.0  # how long a person keeps a velocity
NEWCOMERS = 0.2  # how likely a box is of somebody who was never seen, per height to the power of four
CLOSE = 4.0  # two matches of which one is less than e^4 times as likely as the other are ambiguous
BACK_S = 0.7  # out of sight, by place alone, the odds of being the same fall by e in each of these
AWAY_S, AWAY_ODDS = 0.5, -2.0  # who is out of sight for longer is looked at where the place alone says no, too
POOR = 3.0  # and so is whom a box hardly fits: one person may have left where another one came
SAME, STEEP = 0.6, 18.0  # the similarity that speaks for neither, and what one more unit of it is worth (log odds)
GLANCE_S = 1.0  # boxes so far apart in time tell of a person anew; those between them say the same once more
SUREST = 3.0  # the most that scores so far can say for somebody (log odds), so that seconds can say otherwise
TWIN = 0.5  # the overlap with a tracked box from which a further box is no other person


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """One person's box in one frame.

    `track` counts from 1 within its tracker and is never used again. `box_xyxy` (4,) is the detection's, in pixels, and `row`
    its row in the frame's detections. `before` holds (time, box, score) of the frames in which the person was seen until the
    track was held to be one: only its first report has them.
    """

    track: int
    box_xyxy: Float32
    score: float
    row: int
    before: tuple[Seen, ...] = ()


@dataclass(slots=True, eq=False)
class _Track:
    """A person: where, how fast and how certain that is, at `time`; `number` is None until it is held to be a person."""

    mean: Float64  # (4, 2): each of the box's four measures and its speed
    spread: Float64  # (4, 2, 2): its covariance
    time: datetime
    seen: datetime
    first: datetime
    number: int | None = None
    before: list[Seen] = field(default_factory=list)
    look: Float32 | None = None  # the mean of its embeddings, at unit length
    belief: float = 0.0  # log odds that it is somebody, by the scores of its boxes


Pairs = list[tuple[_Track, int]]  # tracks and the rows of their boxes


class Tracker:
    """Follows the people of one camera.

    `max_gap_s` is how long somebody may be out of sight and come back as the same track. A box scored `sure` or more begins a
    track, one of `unsure` or more only goes on with one. A track is reported once it was seen twice and for `confirm_s`, or at
    once with a box scored `certain`; until then it ends if it is not seen for `confirm_gap_s`. `late` counts the frames
    that were left out since their time was not after the last one's.

    >>> from datetime import UTC, datetime, timedelta
    >>> tracker, start = Tracker(), datetime(2026, 3, 1, tzinfo=UTC)
    >>> for frame in range(3):
    ...     box = np.array([[10 + 4 * frame, 10, 30 + 4 * frame, 70]], np.float32)
    ...     seen, ended = tracker.update(start + timedelta(seconds=frame / 5), Detections(box, np.array([0.8], np.float32)))
    ...     print([(one.track, len(one.before)) for one in seen], ended)
    [] []
    [(1, 1)] []
    [(1, 0)] []
    >>> tracker.finish()
    [1]
    """

    def __init__(
        self,
        *,
        max_gap_s: float = 5.0,
        sure: float = 0.5,
        unsure: float = 0.1,
        certain: float = 0.95,
        confirm_s: float = 0.15,
        confirm_gap_s: float = 0.6,
    ) -> None:
        self.max_gap_s, self.sure, self.unsure, self.certain = max_gap_s, sure, unsure, certain
        self.confirm_s, self.confirm_gap_s = confirm_s, confirm_gap_s
        self.late = 0
        self._tracks: list[_Track] = []
        self._last: datetime | None = None
        self._given = 0

    def update(
        self, time: datetime, found: Detections, *, embed: Embed | None = None
    ) -> tuple[list[Tracked], list[int]]:
        """The tracks seen in a frame taken at `time`, in order of their numbers, and those that have ended since the last one.

        `embed` gives the unit vectors (n, length) of some rows of `found`; it is asked, once a row, for boxes that could be of
        several people or of somebody long out of sight, and for that of each new track. A frame whose time is not
        after the last one's is left out and counted in `late`; but where the clock was put back by more than `max_gap_s`, every
        track ends and a new count of time begins. Raises VideoError for a time without a zone.
        """
        if time.tzinfo is None:
            raise VideoError(f"track: a time needs its zone, such as 2026-03-01T10:00:00+00:00, got {time}")
        put_back: list[int] = []
        if self._last is not None and time <= self._last:
            self.late += 1
            if (self._last - time).total_seconds() <= self.max_gap_s:
                return [], []
            put_back = self.finish()
        self._last = time
        ended = put_back + self._end(time)
        for track in self._tracks:
            _predict(track, time)
        boxes, looks = _measured(found), _Looks(embed)
        sure = np.flatnonzero(found.scores >= self.sure)
        unsure = np.flatnonzero((found.scores >= self.unsure) & (found.scores < self.sure))
        held = [track for track in self._tracks if track.number is not None]
        pairs = _match(held, boxes, sure, time, looks)
        fresh = [
            track for track in held if track.belief >= 0 and (time - track.seen).total_seconds() <= self.confirm_gap_s
        ]
        pairs += _match(_left(fresh, pairs), boxes, _apart(found.boxes_xyxy, unsure, _rows(pairs)), time, looks)
        free = _apart(found.boxes_xyxy, _others(sure, pairs), _rows(pairs))
        pairs += _match(_left(fresh, pairs), boxes * [[1.0], [ODD]], free, time, looks)
        new = [track for track in self._tracks if track.number is None]
        pairs += _match(new, boxes, _others(free, pairs), time, looks)
        for track, row in pairs:
            _believe(track, float(found.scores[row]), (time - track.seen).total_seconds())
            _correct(track, boxes[row], time)
        for row in _others(free, pairs):
            if len(_apart(found.boxes_xyxy, np.array([row]), _rows(pairs))):
                self._tracks.append(_begun(boxes[row], time))
                _believe(self._tracks[-1], float(found.scores[row]), GLANCE_S)
                pairs.append((self._tracks[-1], int(row)))
        return self._report(time, found, pairs, looks), ended

    def finish(self) -> list[int]:
        """End every track; returns their numbers."""
        ended = sorted(track.number for track in self._tracks if track.number is not None)
        self._tracks, self._last = [], None
        return ended

    def _end(self, time: datetime) -> list[int]:
        """Let go of who was not seen for too long by now; returns the numbers of those that were reported."""
        kept, ended = [], []
        for track in self._tracks:
            allowed_s = self.confirm_gap_s if track.number is None else self.max_gap_s
            if (time - track.seen).total_seconds() <= allowed_s:
                kept.append(track)
            elif track.number is not None:
                ended.append(track.number)
        self._tracks = kept
        return sorted(ended)

    def _report(self, time: datetime, found: Detections, pairs: Pairs, looks: "_Looks") -> list[Tracked]:
        reported, unseen = [], []
        for track, row in pairs:
            box, score = found.boxes_xyxy[row], float(found.scores[row])
            certain = found.scores[row] >= self.certain  # both float32
            before: tuple[Seen, ...] = ()
            if track.number is None:
                long_enough = bool(track.before) and (time - track.first).total_seconds() >= self.confirm_s
                if not (long_enough or certain):
                    track.before.append((time, box, score))
                    continue
                self._given += 1
                track.number, before, track.before = self._given, tuple(track.before), []
                unseen.append(row)
            reported.append(Tracked(track.number, box, score, row, before))
        looks.take(unseen)
        for track, row in pairs:
            if track.number is not None and row in looks.known:
                _remember(track, looks.known[row])
        return sorted(reported, key=lambda one: one.track)


class _Looks:
    """The embeddings of a frame's rows, each made once, and only when it is asked for."""

    def __init__(self, embed: Embed | None) -> None:
        self._embed = embed
        self.known: dict[int, Float32] = {}

    def take(self, rows: Sequence[int] | Int64) -> None:
        missing = [int(row) for row in rows if int(row) not in self.known]
        if missing and self._embed is not None:
            self.known |= dict(zip(missing, self._embed(missing), strict=True))


def _match(tracks: list[_Track], boxes: Float64, rows: Int64, time: datetime, looks: _Looks) -> Pairs:
    """Tracks and rows of `boxes` that belong together, the most likely of all ways to pair them."""
    if not tracks or not len(rows):
        return []
    unseen_s = np.array([(time - track.seen).total_seconds() for track in tracks])
    worth = _likelihood(tracks, boxes[rows])  # (tracks, rows), log odds against somebody new, by place and size
    doubtful = _ambiguous(worth) | ((worth > AWAY_ODDS) & ((unseen_s > AWAY_S)[:, None] | (worth < POOR)))
    doubtful &= np.array([track.look is not None for track in tracks])[:, None]
    looks.take(rows[doubtful.any(axis=0)])
    said = np.tile(-unseen_s[:, None] / BACK_S, len(rows))
    for t, r in np.argwhere(doubtful):
        own, look = tracks[t].look, looks.known.get(int(rows[r]))
        if own is not None and look is not None:
            said[t, r] = STEEP * (float(own @ look) - SAME)
    worth = np.maximum(worth + said, 0.0)
    first, second = linear_sum_assignment(worth, maximize=True)
    return [(tracks[t], int(rows[r])) for t, r in zip(first, second, strict=True) if worth[t, r] > 0]


def _likelihood(tracks: list[_Track], boxes: Float64) -> Float64:
    """Natural log of how likely each box (boxes, 2, 4) is that of each track, against a newcomer's."""
    mean = np.stack([track.mean[:, 0] for track in tracks])[:, None]  # (tracks, 1, 4)
    spread = np.stack([track.spread[:, 0, 0] for track in tracks])[:, None] + boxes[:, 1] ** 2  # (tracks, boxes, 4)
    off = (boxes[:, 0] - mean) ** 2 / spread + np.log(2 * math.pi * spread / mean[..., 3:] ** 2)
    return np.asarray(-0.5 * off.sum(axis=2) - math.log(NEWCOMERS), np.float64)


def _ambiguous(worth: Float64) -> NDArray[np.bool_]:
    """Which of the possible pairs (tracks, rows) have a rival, for their track or their row, that is nearly as likely."""
    rivals = np.zeros(worth.shape, bool)
    for axis in (0, 1):
        near = (worth > 0) & (worth > worth.max(axis, keepdims=True) - CLOSE)
        rivals |= near & (near.sum(axis, keepdims=True) > 1)
    return rivals


def _measured(found: Detections) -> Float64:
    """Each box (n, 2, 4): its measures, and how far each of them may be off."""
    low, high = found.boxes_xyxy[:, :2].astype(np.float64), found.boxes_xyxy[:, 2:].astype(np.float64)
    width, height = (high - low).T
    measures = np.stack((low[:, 0] + width / 2, low[:, 1], width, height), axis=1)
    blur = BLUR * (height * (1 + VAGUE * (1 - found.scores.astype(np.float64))))[:, None]
    return np.stack((measures, blur), axis=1)


def _apart(boxes_xyxy: Float32, rows: Int64, taken: Sequence[int]) -> Int64:
    """The rows whose boxes are no second box of somebody whose box is taken."""
    covered = overlaps(boxes_xyxy[rows], boxes_xyxy[list(taken)]).max(axis=1, initial=0.0)
    return np.asarray(rows[covered < TWIN], np.int64)


def _begun(box: Float64, time: datetime) -> _Track:
    measures, blur = box
    spread = np.zeros((4, 2, 2))
    spread[:, 0, 0], spread[:, 1, 1] = blur**2, (SPEED * measures[3]) ** 2
    return _Track(np.stack((measures, np.zeros(4)), 1), spread, time, time, time)


def _predict(track: _Track, time: datetime) -> None:
    """Move a track on to `time`: its velocity wears off, so that who is long out of sight is expected nearby.

    An Ornstein-Uhlenbeck velocity and its integral, exact for any interval.
    """
    gone_s = (time - track.time).total_seconds()
    kept = math.exp(-gone_s / STEADY_S)
    move = np.array([[1.0, STEADY_S * (1 - kept)], [0.0, kept]])
    place = STEADY_S**2 * (2 * gone_s / STEADY_S - 3 + 4 * kept - kept**2)
    both, speed = STEADY_S * (1 - kept) ** 2, 1 - kept**2
    noise = (SPEED * track.mean[3, 0])[:, None, None] ** 2 * np.array([[place, both], [both, speed]])
    track.mean = track.mean @ move.T
    track.mean[2:, 0] = np.maximum(track.mean[2:, 0], 1.0)
    track.spread = move @ track.spread @ move.T + noise
    track.time = time


def _correct(track: _Track, box: Float64, time: datetime) -> None:
    """Kalman's correction by the box (2, 4) that a person was seen in, each measure by itself."""
    measures, blur = box
    gain = track.spread[:, :, 0] / (track.spread[:, 0, 0] + blur**2)[:, None]  # (4, 2)
    track.mean = track.mean + gain * (measures - track.mean[:, 0])[:, None]
    track.spread = track.spread - gain[:, :, None] * track.spread[:, None, 0, :]
    track.seen = time


def _believe(track: _Track, score: float, passed_s: float) -> None:
    """Take in that a track has a box of that score, a probability, so long after its last one."""
    said = math.log(max(score, 1e-6) / max(1 - score, 1e-6))
    track.belief = min(track.belief + said * min(passed_s / GLANCE_S, 1.0), SUREST)


def _remember(track: _Track, look: Float32) -> None:
    mixed = look if track.look is None else 0.9 * track.look + 0.1 * look
    track.look = np.asarray(mixed / np.linalg.norm(mixed), np.float32)


def _rows(pairs: Pairs) -> list[int]:
    return [row for _, row in pairs]


def _left(tracks: list[_Track], pairs: Pairs) -> list[_Track]:
    """The tracks that are in no pair."""
    matched = {track for track, _ in pairs}
    return [track for track in tracks if track not in matched]


def _others(rows: Int64, pairs: Pairs) -> Int64:
    """The rows that are in no pair."""
    return np.asarray(rows[~np.isin(rows, np.array(_rows(pairs), np.int64))], np.int64)
