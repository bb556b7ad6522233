"""Pictures as a shop's cameras and recorder keep them: one function a fault; who gets which is drawn in the loader.

Each takes a uint8 RGB picture (h, w, 3) and a generator, and returns a new picture of the same shape.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from passerby.reid.pictures import resize
from passerby.types import UInt8

Fault = Callable[[UInt8, np.random.Generator], UInt8]
BLOCK = 16  # px of a codec's macroblock
INKS = ((255, 255, 255), (0, 0, 0), (255, 230, 0))  # of burned-in text
LETTERS = "0123456789:-/ CAM"


def jpeg(picture: UInt8, random: np.random.Generator) -> UInt8:
    """JPEG at a quality of 10 to 50, its block grid anywhere."""
    return _coded(picture, random, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(10, 51))])


def video(picture: UInt8, random: np.random.Generator) -> UInt8:
    """A key frame of a video codec at few bits: VP8's, as WebP has it, which predicts, transforms and smooths as H.264 does."""
    return _coded(picture, random, ".webp", [cv2.IMWRITE_WEBP_QUALITY, int(random.integers(1, 26))])


def interlace(picture: UInt8, random: np.random.Generator) -> UInt8:
    """Two fields of two moments: every other row moved sideways by up to 8 % of the width."""
    width = picture.shape[1]
    by = int(random.integers(1, max(1, round(0.08 * width)) + 1)) * (1 if random.random() < 0.5 else -1)
    woven = picture.copy()
    woven[1::2] = picture[1::2][:, np.clip(np.arange(width) - by, 0, width - 1)]
    return woven


def motion(picture: UInt8, random: np.random.Generator) -> UInt8:
    """Motion blur along a line of 3 to 10 % of the height, mostly sideways."""
    length = max(2.0, random.uniform(0.03, 0.1) * picture.shape[0])
    angle = random.normal(0.0, 0.35)
    size = 2 * int(np.ceil(length / 2)) + 1
    half = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = [(round(float(size // 2 + s * half[0])), round(float(size // 2 + s * half[1]))) for s in (-1, 1)]
    kernel = np.zeros((size, size), np.float32)
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return _uint8(cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE))


def noise(picture: UInt8, random: np.random.Generator) -> UInt8:
    """A sensor's noise: a deviation of 3 to 18 of 255 in brightness, half of it in each colour."""
    height, width, _ = picture.shape
    sigma = random.uniform(3, 18)
    drawn = random.standard_normal((height, width, 4), np.float32) * np.float32(sigma)
    return _uint8(picture + drawn[..., :1] + 0.5 * drawn[..., 1:])


def cast(picture: UInt8, random: np.random.Generator) -> UInt8:
    """A camera's own white balance (each colour up to a fifth stronger or weaker) and gamma (0.65 to 1.5)."""
    gains = np.exp(random.uniform(-0.2, 0.2, 3))
    gamma = np.exp(random.uniform(-0.43, 0.41))
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * (gains / gains.mean())
    return _looked_up(picture, levels)


def exposure(picture: UInt8, random: np.random.Generator) -> UInt8:
    """Too dark (down to 0.35) or too bright (up to 2.2), what is too bright cut off."""
    gain = random.uniform(0.35, 0.75) if random.random() < 0.5 else random.uniform(1.3, 2.2)
    return _looked_up(picture, np.repeat(np.linspace(0, gain, 256)[:, None], 3, axis=1))


def loose(picture: UInt8, random: np.random.Generator) -> UInt8:
    """A box that is too large, by up to a quarter on each side; what lies outside is the border, drawn out."""
    height, width, _ = picture.shape
    more = random.uniform(0, 0.25, 4)
    top, bottom = round(more[0] * height), round(more[1] * height)
    left, right = round(more[2] * width), round(more[3] * width)
    wide = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return resize(np.asarray(wide, np.uint8), height=height, width=width)


def shift(picture: UInt8, random: np.random.Generator) -> UInt8:
    """A box that lies beside the person, by up to 15 % of its height and a quarter of its width."""
    height, width, _ = picture.shape
    down, across = round(random.uniform(-0.15, 0.15) * height), round(random.uniform(-0.25, 0.25) * width)
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - across, 0, width - 1)
    moved: UInt8 = picture[rows][:, columns]
    return moved


def cut(picture: UInt8, random: np.random.Generator) -> UInt8:
    """A box that ends above the feet (up to 45 % missing) or below the head (up to 20 %)."""
    height, width, _ = picture.shape
    feet = random.random() < 0.75
    missing = random.uniform(0.1, 0.45) if feet else random.uniform(0.05, 0.2)
    rest = picture[: round((1 - missing) * height)] if feet else picture[round(missing * height) :]
    return resize(rest, height=height, width=width)


def stranger(picture: UInt8, other: UInt8, random: np.random.Generator) -> UInt8:
    """Somebody else stands in the box: a strip of `other` (same shape), a fifth to two fifths wide, at one side."""
    width = picture.shape[1]
    strip = round(random.uniform(0.2, 0.42) * width)
    begin = int(random.integers(round(0.15 * width), max(round(0.15 * width) + 1, round(0.85 * width) - strip)))
    mixed = picture.copy()
    at = slice(0, strip) if random.random() < 0.5 else slice(width - strip, width)
    mixed[:, at] = other[:, begin : begin + strip]
    return mixed


def text(picture: UInt8, random: np.random.Generator) -> UInt8:
    """A line of burned-in text near the top or the bottom, of which the box holds a part."""
    height, width, _ = picture.shape
    line = "".join(LETTERS[i] for i in random.integers(0, len(LETTERS), 24))
    baseline = random.uniform(0.04, 0.14) if random.random() < 0.5 else random.uniform(0.88, 0.99)
    scale = random.uniform(0.0014, 0.0026) * height
    ink = INKS[int(random.integers(len(INKS)))]
    written = np.ascontiguousarray(picture).copy()
    place = (-round(random.uniform(0, 0.8) * width), round(baseline * height))
    cv2.putText(written, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, max(1, round(scale)), cv2.LINE_AA)
    return written


def shrunk(picture: UInt8, times: float, faults: list[Fault], random: np.random.Generator) -> UInt8:
    """The picture taken from `times` as far away, given these faults at that size, and enlarged again."""
    height, width, _ = picture.shape
    size = (max(2, round(width / times)), max(4, round(height / times)))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    for fault in faults:
        small = fault(small, random)
    return resize(small, height=height, width=width)


def _coded(picture: UInt8, random: np.random.Generator, suffix: str, settings: list[int]) -> UInt8:
    top, left = (int(n) for n in random.integers(0, BLOCK, 2))
    height, width, _ = picture.shape
    around = cv2.copyMakeBorder(picture, top, 0, left, 0, cv2.BORDER_REPLICATE)
    coded = cv2.imencode(suffix, cv2.cvtColor(around, cv2.COLOR_RGB2BGR), settings)[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was coded a line ago
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)[top : top + height, left : left + width], np.uint8)


def _looked_up(picture: UInt8, levels: NDArray[np.floating]) -> UInt8:
    """Each colour through its own column of `levels` (256, 3), 0..1."""
    table = _uint8(levels * 255)
    return np.asarray(cv2.LUT(picture, table[None]), np.uint8)


def _uint8(values: NDArray[np.generic]) -> UInt8:
    rounded: UInt8 = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
