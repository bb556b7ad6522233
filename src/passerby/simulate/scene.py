"""Pictures of a simulated shop: floor, shelves and the people of the sprite atlas, composed with NumPy and OpenCV.

People come from `data/people.npz`, made by `scripts/dev/make_atlas.py`: for each body, elevation of the eye, direction and
phase of the walk a small picture of material numbers and one of their shade, so that any clothes are coloured in here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from passerby.simulate.people import Trip, position
from passerby.simulate.plan import CHEST_M, CLEARANCE_M, Shop
from passerby.types import Float32, Float64, SimulationError, UInt8
from passerby.vision.floor import Projection

ATLAS = Path(__file__).with_name("data") / "people.npz"
MATERIALS = ("nothing", "skin", "hair", "top", "bottom", "shoes", "bag", "coat")
STRIDE_M = 1.4  # two steps: one cycle of the walk
EXPOSURE_S = 0.02
WALL_M = 2.2  # an obstacle so high is a wall; lower ones are shelves, below 1.3 m counters
SKINS = ((255, 219, 184), (234, 192, 150), (198, 145, 102), (150, 100, 66), (96, 62, 42))
HAIRS = ((28, 22, 18), (60, 40, 26), (112, 78, 44), (176, 142, 92), (140, 140, 138), (92, 36, 22))
UNIFORM = (36, 92, 64)
PERSONAL_SPACE_M, PUSH_M_S2, RELAX_S, REACH_M = 0.55, 2.0, 1.0, 0.35  # of the social force


@dataclass(frozen=True, slots=True)
class Look:
    """What a person wears: a body of the atlas and a colour (red, green, blue) for each of MATERIALS but the first.

    `print_` is "plain", "stripes" or "block", of `second` colour on the top.
    """

    body: int
    height_m: float
    colours: tuple[tuple[int, int, int], ...]
    print_: str = "plain"
    second: tuple[int, int, int] = (255, 255, 255)


class Atlas:
    """The sprites: `material` and `shade` are (bodies, elevations, directions, phases, height, width) uint8.

    Directions count counter-clockwise from facing the camera, phases through the walk, the last one standing still.
    `elevations_deg` are those of the eye above the horizon; a sprite is `px_per_m` fine, its feet at `feet_px` (x, y).
    """

    def __init__(self, path: Path = ATLAS) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                self.material: UInt8 = file["material"]
                self.shade: UInt8 = file["shade"]
                self.elevations_deg: Float64 = file["elevations_deg"]
                self.px_per_m = float(file["px_per_m"])
                self.feet_px: Float64 = file["feet_px"]
                self.heights_m: Float64 = file["heights_m"]
        except (OSError, KeyError, ValueError) as error:
            raise SimulationError(
                f"{path}: expected a sprite atlas from scripts/dev/make_atlas.py, got {error}"
            ) from None

    @property
    def bodies(self) -> int:
        """How many bodies there are."""
        return int(self.material.shape[0])

    @property
    def phases(self) -> int:
        """How many phases a walk has; one more picture stands still."""
        return int(self.material.shape[3]) - 1

    def sprite(
        self, look: Look, *, elevation_deg: float, facing_deg: float, phase: float | None
    ) -> tuple[UInt8, UInt8]:
        """(RGB (h, w, 3), opacity (h, w)) of a person seen from that elevation, turned `facing_deg` from the camera.

        `phase` is 0..1 through the walk, None for who stands.
        """
        elevation = int(np.abs(self.elevations_deg - elevation_deg).argmin())
        directions = self.material.shape[2]
        direction = round(facing_deg / 360 * directions) % directions
        step = self.phases if phase is None else int(phase * self.phases) % self.phases
        where = (look.body, elevation, direction, step)
        material = self.material[where]
        colours = np.array([(0, 0, 0), *look.colours], np.float32)[material]  # (h, w, 3)
        if look.print_ != "plain":
            rows, columns = np.indices(material.shape)
            marked = rows // 6 % 2 == 0 if look.print_ == "stripes" else (rows // 14 + columns // 14) % 2 == 0
            colours[marked & (material == MATERIALS.index("top"))] = look.second
        shaded = colours * (0.35 + 0.75 * self.shade[where][..., None].astype(np.float32) / 255)
        return np.clip(shaded, 0, 255).astype(np.uint8), np.where(material > 0, 255, 0).astype(np.uint8)


def draw_look(atlas: Atlas, rng: np.random.Generator, *, staff: bool = False) -> Look:
    """Draw what somebody wears; staff wear a green top."""

    def cloth() -> tuple[int, int, int]:
        hue, saturation, value = rng.uniform(0, 180), rng.choice([15, 40, 90, 150]), rng.uniform(40, 225)
        pixel = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
        return (int(pixel[0]), int(pixel[1]), int(pixel[2]))

    dark = int(rng.integers(20, 90))
    body = int(rng.integers(atlas.bodies))
    skin = SKINS[rng.integers(len(SKINS))]
    hair = HAIRS[rng.integers(len(HAIRS))]
    top = UNIFORM if staff else cloth()
    bottom = cloth() if rng.random() < 0.5 else (dark, dark, int(dark * rng.uniform(1, 1.6)))
    shoes = (dark, dark, dark) if rng.random() < 0.7 else (225, 225, 220)
    kind = "plain" if staff else str(rng.choice(["plain", "plain", "plain", "stripes", "block"]))
    coat = UNIFORM if staff else cloth()
    height = float(atlas.heights_m[body] * rng.uniform(0.95, 1.05))
    return Look(body, height, (skin, hair, top, bottom, shoes, cloth(), coat), kind, cloth())


@dataclass(frozen=True, slots=True)
class Standing:
    """Where and how a person is at one moment: place and direction (degrees) on the floor, way walked, speed."""

    place: tuple[float, float]
    heading_deg: float
    walked_m: float
    speed_m_s: float


@dataclass(frozen=True, slots=True)
class Box:
    """The truth of one person in one frame: the whole body's x0, y0, x1, y1 in pixels, occluded or not; the part seen, 0..1.

    `distance_m` is from the camera to the chest.
    """

    person: int
    visit: int
    xyxy: tuple[float, float, float, float]
    visible: float
    distance_m: float


def crowd(shop: Shop, visits: Sequence[Trip], times: Float64) -> Iterator[dict[int, Standing]]:
    """Where everyone is at each of `times`, rising: visit number to standing.

    Everyone walks the way that was drawn, pushed aside by whoever is near and drawn back to it (a social force: Helbing &
    Molnár, Phys. Rev. E 1995), and never into an obstacle.
    """
    aside: dict[int, Float64] = {}
    last: dict[int, tuple[Float64, float, float]] = {}  # place, heading, walked
    before = float(times[0]) if len(times) else 0.0
    for at in times.tolist():
        step, before = at - before, at
        wanted = {v.number: p for v in visits if (p := position(v, shop, at)) is not None}
        now: dict[int, Float64] = {n: p + aside.get(n, np.zeros(2)) for n, p in wanted.items()}
        for number in sorted(wanted):
            push = -aside.get(number, np.zeros(2)) / RELAX_S
            for other, place in now.items():
                apart = now[number] - place
                distance = float(np.linalg.norm(apart))
                if other != number and distance < 2.0:
                    direction = (
                        apart / distance if distance > 1e-6 else np.array([1.0, 0.0]) * (1 if number < other else -1)
                    )
                    push = push + PUSH_M_S2 * math.exp((PERSONAL_SPACE_M - distance) / REACH_M) * direction
            moved = aside.get(number, np.zeros(2)) + push * max(step, 1 / 25)
            length = float(np.linalg.norm(moved))
            moved = moved if length <= 1.0 else moved / length
            if not blocked(shop, wanted[number] + moved):
                aside[number] = moved
        standing = {}
        for number in sorted(wanted):
            place = wanted[number] + aside.get(number, np.zeros(2))
            old_place, heading, walked = last.get(number, (place, 0.0, 0.0))
            way = place - old_place
            went = float(np.linalg.norm(way))
            speed = went / step if step > 0 else 0.0
            if speed > 0.2:
                turn = math.degrees(math.atan2(way[1], way[0])) - heading
                heading += ((turn + 180) % 360 - 180) * min(1.0, step / 0.25)
            last[number] = (place, heading, walked + went)
            standing[number] = Standing((float(place[0]), float(place[1])), heading, walked + went, speed)
        yield standing


def blocked(shop: Shop, place: Float64) -> bool:
    """Whether nobody can stand at `place` (2,), in metres: in or close by an obstacle, or outside the shop."""
    areas = shop.floor.areas + 0.8 * CLEARANCE_M * np.array([-1, -1, 1, 1])
    x, y = place
    width, depth = shop.size_m
    inside = (areas[:, 0] < x) & (x < areas[:, 2]) & (areas[:, 1] < y) & (y < areas[:, 3])
    return bool(inside.any()) or not (0 < x < width and 0 < y < depth)


class Scene:
    """One camera's pictures: the empty shop, ray by ray, and people put in by their distance.

    A `photo` (height, width, 3), RGB and of the camera's size, may stand for the shop; nothing in it hides anybody.
    """

    def __init__(self, shop: Shop, camera: int, atlas: Atlas, *, seed: int, photo: UInt8 | None = None) -> None:
        self.shop, self.camera, self.atlas = shop, shop.cameras[camera], atlas
        self.projection = Projection(self.camera.pose)
        if photo is None:
            self.empty, self.distance_m, self._floor = background(shop, self.projection, seed=seed)
        else:
            self.empty = photo
            self.distance_m = np.full(photo.shape[:2], np.inf, np.float32)
            self._floor = np.ones(photo.shape[:2], np.float32)
        across, down = self.projection.size
        self._rays = _rays(self.projection).reshape(down, across, 3).astype(np.float32)
        rng = np.random.default_rng([seed, 20, camera])
        self._noise = rng.normal(0, 3.0, (8, self.camera.height_px, self.camera.width_px, 1)).astype(np.float32)

    def frame(
        self, number: int, standing: Mapping[int, Standing], looks: Mapping[int, Look], people: Mapping[int, int]
    ) -> tuple[UInt8, list[Box]]:
        """One picture (height, width, 3) RGB of those who stand there, with the truth; `people` gives each visit's person.

        Boxes are cut at the picture's edges; who is wholly outside has none.
        """
        picture = self.empty.copy()
        nearest: list[tuple[float, int]] = []
        for visit, stands in standing.items():
            reach = float(np.linalg.norm(np.array([*stands.place, 1.0]) - self.projection.eye))
            nearest.append((-reach, visit))
        for _, visit in sorted(nearest):
            self._shadow(picture, standing[visit])
        owner = np.zeros(picture.shape[:2], np.int32)  # which visit each pixel shows
        drawn: dict[int, tuple[NDArray[np.int64], int]] = {}
        for _, visit in sorted(nearest):  # far ones first
            found = self._person(picture, owner, standing[visit], looks[visit], visit)
            if found is not None:
                drawn[visit] = found
        boxes = []
        for visit, (xyxy, whole) in drawn.items():
            x0, y0, x1, y1 = (float(v) for v in xyxy)
            visible = round(min(1.0, int((owner == visit).sum()) / max(1, whole)), 2)
            chest = np.array([*standing[visit].place, CHEST_M])
            distance = float(np.linalg.norm(chest - self.projection.eye))
            boxes.append(Box(people[visit], visit, (x0, y0, x1, y1), visible, distance))
        light = np.array(self.camera.light, np.float32)
        lit = picture.astype(np.float32) * light + self._noise[number * 5 % len(self._noise)]
        return np.clip(lit, 0, 255).astype(np.uint8), sorted(boxes, key=lambda box: box.visit)

    def _shadow(self, picture: UInt8, stands: Standing) -> None:
        angles = np.linspace(0, 2 * math.pi, 16, endpoint=False)
        ring = np.column_stack(
            [stands.place[0] + 0.32 * np.cos(angles), stands.place[1] + 0.32 * np.sin(angles), np.zeros(16)]
        )
        pixels, depth = self.projection.pixels(ring)
        if (depth < 0.3).any():
            return
        corners = pixels.round().astype(np.int32)
        low = np.maximum(corners.min(axis=0) - 4, 0)
        high = np.minimum(corners.max(axis=0) + 5, self.projection.size)
        if (high <= low).any():
            return
        part = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(part, [corners - low], 255)
        soft = cv2.GaussianBlur(part, (0, 0), 2.0).astype(np.float32)[..., None] / 255
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        soft *= self._floor[window][..., None]
        picture[window] = (picture[window] * (1 - 0.45 * soft)).astype(np.uint8)

    def _person(
        self, picture: UInt8, owner: NDArray[np.int32], stands: Standing, look: Look, visit: int
    ) -> tuple[NDArray[np.int64], int] | None:
        """Put a person in; (the box cut at the edges, pixels of the whole body), None outside the picture."""
        feet, depth = self.projection.pixels(np.array([[*stands.place, 0.0], [*stands.place, look.height_m]]))
        if (depth < 0.4).any():
            return None
        eye = self.projection.eye
        towards = np.array(stands.place) - eye[:2]
        elevation = math.degrees(math.atan2(eye[2] - 0.9, float(np.linalg.norm(towards))))
        facing = stands.heading_deg - math.degrees(math.atan2(-towards[1], -towards[0]))
        walking = stands.speed_m_s > 0.2
        phase = stands.walked_m / STRIDE_M % 1.0 if walking else None
        colour, opacity = self.atlas.sprite(look, elevation_deg=elevation, facing_deg=facing, phase=phase)
        rows, columns = np.flatnonzero(opacity.any(axis=1)), np.flatnonzero(opacity.any(axis=0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        middle_px = self.projection.focal_px / float(depth.mean())  # pixels a metre at half height
        scale = middle_px / self.atlas.px_per_m * look.height_m / float(self.atlas.heights_m[look.body])
        x0 = round(float(feet[0, 0]) + (left - float(self.atlas.feet_px[0])) * scale)
        y0 = round(float(feet[0, 1]) + (top - float(self.atlas.feet_px[1])) * scale)
        width, height = max(2, round((right - left) * scale)), max(4, round((bottom - top) * scale))
        across, down = self.projection.size
        if x0 >= across or y0 >= down or x0 + width <= 0 or y0 + height <= 0:
            return None
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        # The sprite is black beside the body, so that its colours are already weighted by the opacity.
        small, solid = (
            cv2.resize(part[top:bottom, left:right], (width, height), interpolation=how).astype(np.float32)
            for part in (colour, opacity)
        )
        solid /= 255
        moved = stands.speed_m_s * EXPOSURE_S * middle_px
        if moved >= 2:
            small, solid = (cv2.blur(part, (int(moved), 1)).astype(np.float32) for part in (small, solid))
        a, b, c, d = max(0, x0), max(0, y0), min(across, x0 + width), min(down, y0 + height)
        cut = (slice(b - y0, d - y0), slice(a - x0, c - x0))
        window = (slice(b, d), slice(a, c))
        away = float(np.linalg.norm(towards))  # the person is an upright board so far away, as the floor is measured
        ahead: Float32 = self._rays[window][..., :2] @ (towards / max(away, 1e-6)).astype(np.float32)
        in_front = (self.distance_m[window] * np.maximum(ahead, 1e-6) > away) | (self._floor[window] > 0)
        front = in_front[..., None].astype(np.float32)
        shown = picture[window] * (1 - solid[cut][..., None] * front) + small[cut] * front
        picture[window] = shown.clip(0, 255).astype(np.uint8)
        owner[window][(solid[cut] > 0.5) & in_front] = visit
        return np.array([a, b, c, d]), int((solid > 0.5).sum())


def background(shop: Shop, projection: Projection, *, seed: int) -> tuple[UInt8, Float32, Float32]:
    """The empty shop as a camera sees it: (RGB picture, distance in metres of what each pixel shows, 1 where it is floor).

    Each pixel's ray meets the floor, a wall, or the nearest box; shelves carry rows of goods, each with a colour of its own,
    and walls that part rooms a poster every 2.4 m.
    """
    across, down = projection.size
    rays = _rays(projection)
    eye = projection.eye
    width, depth = shop.size_m
    rng = np.random.default_rng([seed, 21])
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(rays[:, 2] < -1e-9, -eye[2] / rays[:, 2], np.inf)
        hit = eye + reach[:, None] * rays
        tile = (np.floor(hit[:, 0] / 0.6) + np.floor(hit[:, 1] / 0.6)) % 2
        line = (np.minimum(hit[:, 0] % 0.6, hit[:, 1] % 0.6) < 0.015) * 18
        base = np.nan_to_num(178 + 10 * tile - line)
        colour = base[:, None] * np.array([1.0, 0.98, 0.94])
        floor = np.isfinite(reach)
        for axis, at, sign in ((0, 0.0, -1), (0, width, 1), (1, 0.0, -1), (1, depth, 1)):
            distance = np.where(rays[:, axis] * sign > 1e-9, (at - eye[axis]) / rays[:, axis], np.inf)
            nearer = (distance > 0.01) & (distance < reach)
            high = eye[2] + distance * rays[:, 2]
            shade = np.clip(205 + 6 * np.nan_to_num(high, posinf=0, neginf=0) - 14 * (axis == 0), 0, 240)
            colour[nearer] = shade[nearer, None] * np.array([1.0, 0.99, 0.95])
            reach, floor = np.where(nearer, distance, reach), floor & ~nearer
        ceiling = np.where(rays[:, 2] > 1e-9, (max(3.4, eye[2] + 0.2) - eye[2]) / rays[:, 2], np.inf)
        nearer = ceiling < reach
        colour[nearer] = 228
        reach = np.where(nearer, ceiling, reach)
        for area, height in zip(shop.floor.areas, shop.floor.heights, strict=True):
            low = (np.array([area[0], area[1], 0.0]) - eye) / rays
            high = (np.array([area[2], area[3], height]) - eye) / rays
            near = np.minimum(low, high).max(axis=1)
            far = np.maximum(low, high).min(axis=1)
            face = np.minimum(low, high).argmax(axis=1)
            nearer = (near < far) & (near > 0.01) & (near < reach)
            point = eye + near[:, None] * rays
            goods = rng.integers(40, 235, (64, 64, 3))
            along = np.where(face == 0, point[:, 1], point[:, 0])
            column = (np.nan_to_num(along) / 0.22).astype(np.int64) % 64
            row = (np.nan_to_num(point[:, 2]) / 0.38).astype(np.int64) % 64
            shown = goods[row, column] * 0.6 + 60.0
            board = (np.nan_to_num(point[:, 2]) % 0.38 < 0.05) | (np.nan_to_num(along) % 0.22 < 0.012)
            shown = np.where(board[:, None], 120.0, shown)
            shown = np.where((face == 2)[:, None] | (height < 1.3), np.array([150.0, 132.0, 108.0]), shown)
            if height >= WALL_M:
                shown = _wall(point[:, 2], along, goods[0, 0])
            shown *= np.where(face == 0, 0.82, 1.0)[:, None]
            colour[nearer] = shown[nearer]
            reach, floor = np.where(nearer, near, reach), floor & ~nearer
    light = 1.08 - 0.02 * np.clip(reach, 0, 20)
    picture = np.clip(colour * light[:, None], 0, 255).reshape(down, across, 3).astype(np.uint8)
    soft = cv2.GaussianBlur(picture, (0, 0), 0.7).astype(np.uint8)
    return soft, reach.reshape(down, across).astype(np.float32), floor.reshape(down, across).astype(np.float32)


def _rays(projection: Projection) -> Float64:
    """The direction in which each pixel looks, row by row: unit vectors (pixels, 3) in the shop's axes."""
    across, down = projection.size
    x, y = np.meshgrid(np.arange(across) + 0.5, np.arange(down) + 0.5)
    flat = np.column_stack([x.ravel() - across / 2, y.ravel() - down / 2]) / projection.focal_px
    rays = np.column_stack([flat, np.ones(len(flat))]) @ projection.axes
    unit: Float64 = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit


def _wall(high_m: Float64, along_m: Float64, colour: NDArray[np.int64]) -> Float64:
    """What a wall shows (n, 3) at heights (n,) and ways along it (n,): plaster, a skirting board, posters in one colour."""
    high, along = np.nan_to_num(high_m), np.nan_to_num(along_m) % 2.4
    shown: Float64 = np.clip(200 + 6 * high, 0, 240)[:, None] * np.array([1.0, 0.99, 0.95])
    shown[high < 0.12] = 120.0
    frame = np.maximum(np.abs(along - 1.2) - 0.45, np.abs(high - 1.6) - 0.6)
    shown[frame < 0.03] = 245.0
    shown[frame < -0.02] = 0.6 * colour + 70.0
    shown[(frame < -0.12) & (high > 1.5) & (high < 1.8)] = 235.0
    return shown
