"""Render the sprite atlas of people, src/passerby/simulate/data/people.npz; needed only to make it anew.

    python -m venv atlas && atlas/bin/pip install torch anny==0.6.2 pyvista opencv-python-headless
    atlas/bin/python scripts/dev/make_atlas.py [--bodies 2 --sheet sheet.png]

Bodies are Anny's (Apache-2.0; its own topology and rig, data CC0), posed here in a walk; clothes are the body moved
out along its normals, with skirts, coat tails, bags and long hair as simple solids. Each is rendered with pyvista, off the
screen, in seven colours that tell its materials apart; what is kept is the number of the material and its shade.
"""

import argparse
import math
import re
from pathlib import Path
from typing import Any  # what pyvista and anny give, which have no types here

import cv2
import numpy as np
import pyvista as pv
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]

OUT = Path(__file__).parents[2] / "src" / "passerby" / "simulate" / "data" / "people.npz"
HEIGHT, WIDTH, PX_PER_M, FEET = 192, 112, 90.0, (56.0, 180.0)
ELEVATIONS = (12.0, 35.0)
DIRECTIONS, PHASES = 8, 6
SKIN, HAIR, TOP, BOTTOM, SHOES, BAG, COAT = range(1, 8)
CODES = {
    SKIN: (1, 0, 0),
    HAIR: (0, 1, 0),
    TOP: (0, 0, 1),
    BOTTOM: (1, 1, 0),
    SHOES: (1, 0, 1),
    BAG: (0, 1, 1),
    COAT: (1, 1, 1),
}
# Who: Anny's phenotypes 0..1, the height, and clothes.
BODIES: list[dict[str, Any]] = [
    {"gender": 0.0, "age": 0.65, "weight": 0.5, "stature_m": 1.78, "sleeves": True},
    {"gender": 1.0, "age": 0.65, "weight": 0.45, "stature_m": 1.66, "skirt": 0.5, "long_hair": True},
    {"gender": 0.0, "age": 0.7, "weight": 0.75, "stature_m": 1.75, "sleeves": False, "backpack": True},
    {"gender": 1.0, "age": 0.7, "weight": 0.6, "stature_m": 1.63, "sleeves": True, "bag": True, "long_hair": True},
    {"gender": 0.0, "age": 0.65, "weight": 0.4, "stature_m": 1.84, "coat": 0.55, "sleeves": True},
    {"gender": 1.0, "age": 0.65, "weight": 0.4, "stature_m": 1.71, "coat": 0.75, "sleeves": True, "long_hair": True},
    {"gender": 1.0, "age": 0.85, "weight": 0.7, "stature_m": 1.60, "skirt": 0.75, "sleeves": True, "bag": True},
    {"gender": 0.0, "age": 0.6, "weight": 0.35, "stature_m": 1.73, "shorts": True, "sleeves": False},
    {
        "gender": 1.0,
        "age": 0.6,
        "weight": 0.45,
        "stature_m": 1.68,
        "sleeves": False,
        "backpack": True,
        "long_hair": True,
    },
    {"gender": 0.0, "age": 0.85, "weight": 0.6, "stature_m": 1.70, "sleeves": True, "bag": True},
]


class Body:
    """One body at rest, in metres: x to its right, y forwards, z upwards, the feet on the floor."""

    def __init__(self, model: Any, phenotype: dict[str, float], stature_m: float) -> None:
        import torch

        with torch.no_grad():
            found = model(phenotype_kwargs={k: torch.tensor([v]) for k, v in phenotype.items()})
        self.labels = list(model.bone_labels)
        self.parents = [int(p) for p in model.bone_parents]
        self.weights = model.vertex_bone_weights.numpy()
        self.bones = model.vertex_bone_indices.numpy()
        faces = model.faces.numpy()
        self.faces = faces if faces.shape[1] == 3 else np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])
        vertices = found["rest_vertices"][0].numpy()
        heads = found["rest_bone_heads"][0].numpy()

        def at(name: str) -> Float64:
            place: Float64 = heads[self.labels.index(name)]
            return place

        up = at("head") - (at("foot.L") + at("foot.R")) / 2
        up = np.eye(3)[np.abs(up).argmax()] * np.sign(up[np.abs(up).argmax()])
        right = at("upperleg01.R") - at("upperleg01.L")
        right = np.eye(3)[np.abs(right).argmax()] * np.sign(right[np.abs(right).argmax()])
        axes = np.stack([right, np.cross(up, right), up])
        self.vertices, self.heads = vertices @ axes.T, heads @ axes.T
        floor = self.vertices[:, 2].min()
        middle = self.heads[self.labels.index("root")][:2]
        for points in (self.vertices, self.heads):
            points[:, 2] -= floor
            points[:, :2] -= middle
        scale = stature_m / self.vertices[:, 2].max()
        self.vertices, self.heads, self.height = self.vertices * scale, self.heads * scale, stature_m
        self.main = self.bones[np.arange(len(self.bones)), self.weights.argmax(axis=1)]

    def head_of(self, name: str) -> Float64:
        """Where a bone begins (3,)."""
        place: Float64 = self.heads[self.labels.index(name)]
        return place

    def posed(self, vertices: Float64, turns: dict[str, Float64]) -> Float64:
        """Vertices after each named bone turned by its matrix, in the axes of the body at rest."""
        rotation: dict[int, Float64] = {}
        place: dict[int, Float64] = {}

        def solve(bone: int) -> None:
            if bone not in rotation:
                parent, turn = self.parents[bone], turns.get(self.labels[bone], np.eye(3))
                if parent < 0 or parent == bone:
                    rotation[bone], place[bone] = turn, self.heads[bone]
                else:
                    solve(parent)
                    rotation[bone] = rotation[parent] @ turn
                    place[bone] = place[parent] + rotation[parent] @ (self.heads[bone] - self.heads[parent])

        for bone in range(len(self.labels)):
            solve(bone)
        turned, placed = (np.stack([each[bone] for bone in range(len(self.labels))]) for each in (rotation, place))
        moved = np.zeros_like(vertices)
        for slot in range(self.bones.shape[1]):
            bone = self.bones[:, slot]
            offset = np.einsum("nij,nj->ni", turned[bone], vertices - self.heads[bone]) + placed[bone]
            moved += self.weights[:, slot, None] * offset
        return moved


def about(axis: int, degrees: float) -> Float64:
    """A rotation matrix about x (0), y (1) or z (2)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = c
    matrix[a, b], matrix[b, a] = -s, s
    return matrix


def walk(body: Body, phase: float | None) -> dict[str, Float64]:
    """The turns of a phase 0..1 of the walk; None stands."""
    turns = {}
    for side, sign in (("L", 1), ("R", -1)):
        swing = 0.0 if phase is None else sign * math.sin(2 * math.pi * phase)
        lift = 0.0 if phase is None else max(0.0, sign * math.cos(2 * math.pi * phase))
        arm = body.head_of(f"lowerarm01.{side}") - body.head_of(f"upperarm01.{side}")
        outwards = -1 if side == "L" else 1
        now = math.degrees(math.atan2(arm[0] * outwards, -arm[2]))
        turns[f"upperarm01.{side}"] = about(0, -22 * swing) @ about(1, outwards * (now - 7))
        turns[f"lowerarm01.{side}"] = about(0, -22 + 10 * max(0.0, -swing))  # bent at rest
        turns[f"upperleg01.{side}"] = about(0, 24 * swing + 4 * lift) @ about(1, outwards * 4)
        turns[f"lowerleg01.{side}"] = about(0, -4 - 38 * lift)
    return turns


def materials(body: Body, who: dict[str, Any]) -> Int64:
    """The material of each vertex."""
    names = [body.labels[bone] for bone in body.main]
    top = r"spine0[1-4]|clavicle|shoulder|breast|upperarm" + (r"|lowerarm" if who.get("sleeves") else "")
    bottom = r"root|spine05|pelvis|upperleg" + ("" if who.get("shorts") or who.get("skirt") else r"|lowerleg")
    made = np.full(len(names), SKIN)
    for pattern, material in ((top, COAT if who.get("coat") else TOP), (bottom, BOTTOM), (r"foot|toe", SHOES)):
        made[[bool(re.match(pattern, name)) for name in names]] = material
    eyes = body.head_of("eye.L") if "eye.L" in body.labels else body.head_of("head") + np.array([0, 0.08, 0.06])
    headish = np.array(
        [bool(re.match(r"head|neck03|special|oculi|orbic|tempor|levator|oris|risor|jaw|eye", n)) for n in names]
    )
    _, y, z = body.vertices.T
    crown = (z > eyes[2] + 0.055) | ((y < eyes[1] - 0.085) & (z > eyes[2] - 0.09))
    made[headish & crown] = HAIR
    return made


LOOSE = {SKIN: 0.0, HAIR: 0.018, TOP: 0.018, BOTTOM: 0.014, SHOES: 0.012, BAG: 0.0, COAT: 0.035}


def normals(vertices: Float64, faces: Int64) -> Float64:
    """The normal (n, 3) of each vertex."""
    sums = np.zeros_like(vertices)
    across = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    for corner in range(3):
        np.add.at(sums, faces[:, corner], across)
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return sums


def solids(body: Body, who: dict[str, Any], posed: Float64) -> list[tuple[Any, int]]:
    """(mesh, material) of what the body alone does not have."""
    hips = (body.head_of("upperleg01.L") + body.head_of("upperleg01.R")) / 2
    waist = body.vertices[np.abs(body.vertices[:, 2] - hips[2] - 0.06) < 0.03]
    waist = waist[np.abs(waist[:, 0]) < 0.3]
    half = np.abs(waist[:, :2] - np.median(waist[:, :2], axis=0)).max(axis=0) + 0.035
    found = []

    def tube(low: float, high: float, wider: float, material: int) -> None:
        angles = np.linspace(0, 2 * math.pi, 33)
        legs = posed[(np.abs(posed[:, 2] - low) < 0.06) & (np.abs(posed[:, 0]) < 0.35)]
        stride = max(half[1] * wider, np.abs(legs[:, 1]).max() + 0.03) if len(legs) else half[1] * wider
        rings = [
            (high, half[0], half[1]),
            ((low + high) / 2, half[0] * (1 + wider) / 2 + 0.01, (half[1] * (1 + wider) / 2 + stride) / 2),
            (low, half[0] * wider + 0.02, stride),
        ]
        points = [np.column_stack([a * np.cos(angles), b * np.sin(angles), np.full(33, z)]) for z, a, b in rings]
        x, y, z = (np.stack([p[:, axis] for p in points]) for axis in range(3))
        found.append((pv.StructuredGrid(x, y, z).extract_surface().triangulate(), material))

    knee = body.head_of("lowerleg01.L")[2]
    if who.get("skirt"):
        tube(hips[2] - who["skirt"] * (hips[2] - 0.6 * knee), hips[2] + 0.1, 1.25, BOTTOM)
    if who.get("coat"):
        tube(hips[2] - who["coat"] * (hips[2] - knee), hips[2] + 0.12, 1.15, COAT)
    shoulder = body.head_of("upperarm01.R")
    if who.get("backpack"):
        back = posed[np.abs(posed[:, 2] - shoulder[2] + 0.15) < 0.05]
        y = back[np.abs(back[:, 0]) < 0.1][:, 1].min() - 0.08
        found.append(
            (pv.Box((-0.15, 0.15, y - 0.09, y + 0.09, shoulder[2] - 0.42, shoulder[2] + 0.02)).triangulate(), BAG)
        )
    if who.get("bag"):
        x, z = half[0] + 0.05, hips[2]
        found.append((pv.Box((x - 0.05, x + 0.06, -0.16, 0.16, z - 0.22, z + 0.06)).triangulate(), BAG))
    if who.get("long_hair"):
        head = body.head_of("head")
        found.append((pv.ParametricEllipsoid(0.095, 0.06, 0.17).translate((0, head[1] - 0.035, head[2] + 0.0)), HAIR))
    return found


def render(plotter: Any, *, elevation: float, direction: int) -> tuple[UInt8, UInt8]:
    """(material, shade) of what the plotter shows, (HEIGHT, WIDTH) uint8 each."""
    yaw = math.radians(direction / DIRECTIONS * 360)
    # The body faces y; turned counter-clockwise by yaw it is seen from -yaw.
    flat = np.array([-math.sin(-yaw), math.cos(-yaw), 0.0])
    e = math.radians(elevation)
    eye = flat * math.cos(e) + np.array([0, 0, math.sin(e)])
    up = -flat * math.sin(e) + np.array([0, 0, math.cos(e)])
    focus = up * (FEET[1] - HEIGHT / 2) / PX_PER_M
    camera = plotter.camera
    camera.focal_point, camera.position, camera.up = focus, focus + eye * 6, up
    camera.parallel_projection = True
    camera.parallel_scale = HEIGHT / PX_PER_M / 2
    camera.clipping_range = (0.5, 12)
    plotter.remove_all_lights()
    right = np.cross(-eye, up)
    light = pv.Light(position=focus + eye * 3 + up * 4 - right * 2.5, focal_point=focus, intensity=0.9)
    light.positional = False
    plotter.add_light(light)
    plotter.render()
    shot = plotter.screenshot(return_img=True, transparent_background=False).astype(np.float32)
    bright = shot.max(axis=2)
    on = shot > np.maximum(bright, 1)[..., None] * 0.5
    code = (on * np.array([1, 2, 4])).sum(axis=2) * (bright > 6)
    numbers = np.zeros(8, np.uint8)
    for material, channels in CODES.items():
        numbers[channels[0] + 2 * channels[1] + 4 * channels[2]] = material
    material = numbers[code]
    shade = cv2.resize(bright, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    small = material[::2, ::2]
    return small, (np.where(small > 0, shade, 0) / 4).round().clip(0, 63).astype(np.uint8) * 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=len(BODIES))
    parser.add_argument(
        "--sheet", type=Path, help="also write a picture of all directions and phases of the first bodies"
    )
    arguments = parser.parse_args()
    import anny

    model = anny.Anny()
    everyone = BODIES[: arguments.bodies]
    shape = (len(everyone), len(ELEVATIONS), DIRECTIONS, PHASES + 1, HEIGHT, WIDTH)
    material, shade = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    heights = []
    for number, who in enumerate(everyone):
        body = Body(model, {k: who[k] for k in ("gender", "age", "weight")}, who["stature_m"])
        heights.append(body.height)
        made = materials(body, who)
        clothed = (
            body.vertices
            + normals(body.vertices, body.faces) * np.array([LOOSE.get(m, 0.0) for m in range(8)])[made, None]
        )
        of_face = np.sort(made[body.faces], axis=1)[:, 1]
        colours = np.array([(0, 0, 0), *(CODES[m] for m in range(1, 8))]) * 255
        for phase in range(PHASES + 1):
            turns = walk(body, None if phase == PHASES else phase / PHASES)
            posed = body.posed(clothed, turns)
            posed[:, 2] -= posed[:, 2].min()
            plotter = pv.Plotter(off_screen=True, window_size=(2 * WIDTH, 2 * HEIGHT), lighting="none")
            plotter.set_background("black")
            mesh = pv.PolyData(posed, np.column_stack([np.full(len(body.faces), 3), body.faces]).ravel())
            mesh.cell_data["rgb"] = colours[of_face].astype(np.uint8)
            style = {"ambient": 0.3, "diffuse": 0.75, "specular": 0.0, "smooth_shading": False}
            plotter.add_mesh(mesh, scalars="rgb", rgb=True, **style)
            for solid, what in solids(body, who, posed):
                plotter.add_mesh(solid, color=tuple(c * 255 for c in CODES[what]), **style)
            for e, elevation in enumerate(ELEVATIONS):
                for direction in range(DIRECTIONS):
                    where = (number, e, direction, phase)
                    material[where], shade[where] = render(plotter, elevation=elevation, direction=direction)
            plotter.close()
        print(f"body {number + 1} of {len(everyone)}: {body.height:.2f} m", flush=True)
    OUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        OUT,
        material=material,
        shade=shade,
        elevations_deg=np.array(ELEVATIONS),
        px_per_m=PX_PER_M,
        feet_px=np.array(FEET),
        heights_m=np.array(heights),
    )
    print(f"{OUT.name}: {OUT.stat().st_size / 2**20:.1f} MiB")
    if arguments.sheet:
        tints = np.array(
            [
                (40, 40, 40),
                (150, 190, 230),
                (30, 40, 60),
                (180, 90, 60),
                (60, 60, 70),
                (20, 20, 20),
                (60, 140, 60),
                (90, 60, 150),
            ]
        )
        rows = [
            np.concatenate(
                [tints[material[b, e, d, p]] * (0.35 + 0.75 * shade[b, e, d, p, ..., None] / 255) for d in range(8)],
                axis=1,
            )
            for b in range(len(everyone))
            for e, p in ((0, 0), (1, PHASES))
        ]
        cv2.imwrite(str(arguments.sheet), np.concatenate(rows).clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
