"""Pictures from outside become checked uint8 RGB arrays, and the one resize of the project; no networks here.

Training cache, evaluation and inference all go through `resize`: a resize that differs between them is the field's
classic silent loss of accuracy.
"""

from collections.abc import Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from passerby.types import PictureError, UInt8

MAX_PIXELS = 64_000_000  # larger than any camera's frame; a file that claims more is refused before it is decoded
FINEST = 128  # px of height up to which detail is looked for
OCTAVES = ((0.25, 0.55), (0.09, 0.2), (0.05, 0.15))  # 16-32, 32-64, 64-128 px: energy of a picture without and with it
NOTHING, ENOUGH = 16.0, 40.0  # px of detail; chosen on dev people, one side of each pair made small
MIN_SIDE_PX = 2
CROP_PIXELS = 4_000_000


@runtime_checkable
class PILImage(Protocol):
    """What is used of a PIL image, so that callers without Pillow objects need not know it."""

    mode: str

    def convert(self, mode: str) -> "PILImage": ...
    def getpixel(self, xy: tuple[int, int]) -> object: ...


PictureSource = str | PathLike[str] | PILImage | NDArray[np.generic]


def read_picture(source: PictureSource, *, colour: Literal["rgb", "bgr"] = "rgb") -> UInt8:
    """One picture from a path, a PIL image or an array, as uint8 RGB of shape (height, width, 3).

    Arrays are (h, w, 3), (h, w) or (h, w, 4), uint8 or uint16 (scaled down), or floats within 0..1; `colour` is the
    channel order of arrays alone, files and PIL images know theirs. Transparency is dropped, EXIF orientation applied.
    Raises PictureError for anything else: unreadable or truncated files, more than 64 megapixels, sides under 2 px,
    NaN, wrong shapes or types.
    """
    if colour not in ("rgb", "bgr"):
        raise PictureError(f"colour: expected 'rgb' or 'bgr', got {colour!r}")
    if isinstance(source, str | PathLike):
        picture = _from_file(Path(source))
        where = str(source)
    elif isinstance(source, np.ndarray):
        picture = _from_array(source, swap=colour == "bgr")
        where = "array"
    elif isinstance(source, PILImage):
        picture = _from_pil(source)
        where = "PIL image"
    else:
        raise PictureError(f"picture: expected a path, a PIL image or a numpy array, got {type(source).__name__}")
    if min(picture.shape[:2]) < MIN_SIDE_PX:
        raise PictureError(
            f"{where}: a picture of {picture.shape[1]}x{picture.shape[0]} px shows nobody; expected at least "
            f"{MIN_SIDE_PX} px a side"
        )
    return picture


def decoded(content: bytes) -> UInt8:
    """One picture from the bytes of a JPEG or PNG file, as `read_picture` gives it; nothing is written anywhere.

    Raises PictureError for anything else, and for more than 4 megapixels, which no crop of one person has.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > CROP_PIXELS:
                raise PictureError(
                    f"expected up to {CROP_PIXELS} pixels, got {image.width}x{image.height}; crop it first"
                )
            picture = _from_pil(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except Exception as error:  # whatever Pillow's decoders raise on damaged files
        raise PictureError(f"expected a whole JPEG or PNG, got {len(content)} bytes of something else") from error
    if min(picture.shape[:2]) < MIN_SIDE_PX:
        raise PictureError(f"expected at least {MIN_SIDE_PX} px a side, got {picture.shape[1]}x{picture.shape[0]}")
    return picture


def resize(picture: UInt8, *, height: int, width: int) -> UInt8:
    """The picture at (height, width, 3), bilinear without antialiasing (OpenCV's INTER_LINEAR); aspect is not kept."""
    if picture.shape[:2] == (height, width):
        return picture
    import cv2

    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def detail(picture: UInt8) -> float:
    """The height in px, up to 128, down to which a picture could be shrunk before it lost anything: blur counts as size.

    From the energy of the luma in octaves of detail, each against that of the coarse ones; people in sharp pictures have
    about as much in each (Field, "Relations between the statistics of natural images and the response properties of cortical
    cells", 1987). Never more than the picture's own height; a picture of one colour has 0.
    """
    import cv2

    luma = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # (h, w)
    shrinks = picture.shape[0] > FINEST
    scaled = cv2.resize(luma, (FINEST // 2, FINEST), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    energy = []
    for height in (64, 32, 16, 8):
        size = scaled.shape[1], scaled.shape[0]
        coarser = cv2.resize(scaled, (height // 2, height), interpolation=cv2.INTER_AREA)
        lost = scaled - cv2.resize(coarser, size, interpolation=cv2.INTER_LINEAR)
        energy.append(float(np.square(lost).mean()))
        scaled = coarser
    coarse = (energy[2] + energy[3]) / 2
    if coarse < 1:  # of 255: nothing to see
        return 0.0
    octaves = 0.0
    for (low, high), fine in zip(OCTAVES, reversed(energy[:3]), strict=True):
        share = min(max((fine / coarse - low) / (high - low), 0.0), 1.0)
        octaves += share
        if share < 1:
            break
    return float(min(16 * 2.0**octaves, picture.shape[0]))


def quality(picture: UInt8) -> float:
    """How much a picture can say of who it shows, 0..1: 0 up to 16 px of `detail`, 1 from 40 px."""
    return float(np.clip(np.log(max(detail(picture), 1.0) / NOTHING) / np.log(ENOUGH / NOTHING), 0, 1))


def stack(pictures: Sequence[UInt8] | UInt8, *, height: int, width: int) -> UInt8:
    """uint8 RGB pictures of any size as one batch (n, height, width, 3), each through `resize`.

    Raises PictureError for a picture that is none: floats in 0..1 would become black ones.
    """
    batch = np.empty((len(pictures), height, width, 3), np.uint8)
    for number, (row, picture) in enumerate(zip(batch, pictures, strict=True)):
        if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,)):
            got = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
            raise PictureError(
                f"picture {number}: expected a uint8 RGB array (h, w, 3), got {got}; `embed` and `read_picture` take "
                "other kinds, such as floats in 0..1"
            )
        row[:] = resize(picture, height=height, width=width)
    return batch


def _from_file(path: Path) -> UInt8:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise PictureError(
                    f"{path}: {image.width}x{image.height} px is over the limit of {MAX_PIXELS} pixels; crop it first"
                )
            return _from_pil(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise PictureError(f"{path}: expected a picture, found a folder") from None
    except UnidentifiedImageError:
        if path.stat().st_size == 0:
            raise PictureError(f"{path}: an empty file of 0 bytes; was it copied whole?") from None
        raise PictureError(f"{path}: not a picture in a known format (JPEG, PNG, BMP, WebP, TIFF ...)") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"{path}: claims more than {MAX_PIXELS} pixels; crop it first") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise on damaged files
        raise PictureError(f"{path}: cannot be decoded ({error}); is the file whole?") from error


def _from_pil(image: Any) -> UInt8:  # a PIL image; Pillow is imported only where a file is opened
    if image.mode.startswith("I;16"):
        return _from_array(np.asarray(image, np.uint16), swap=False)
    if image.mode in ("I", "F"):
        raise PictureError(f"PIL image: expected 8 or 16 bits a channel, got mode {image.mode!r}; convert it to 'RGB'")
    return np.ascontiguousarray(np.asarray(image.convert("RGB"), np.uint8))


def _from_array(array: NDArray[np.generic], *, swap: bool) -> UInt8:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise PictureError(f"array: expected one picture of (h, w, 3), (h, w) or (h, w, 4), got {array.shape}")
    if array.size == 0:
        raise PictureError(f"array: the picture is empty, {array.shape}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise PictureError(f"array: {array.shape[1]}x{array.shape[0]} px is over the limit of {MAX_PIXELS} pixels")
    if array.dtype == np.uint8:
        picture = array
    elif array.dtype == np.uint16:
        picture = array >> 8  # type: ignore[operator]  # numpy's generic scalar has no shift; uint16 has
    elif array.dtype in (np.float16, np.float32, np.float64):
        numbers = array.astype(np.float32)
        if not (numbers.min() >= 0 and numbers.max() <= 1):  # also false for NaN
            raise PictureError(
                f"array: floats must lie in 0..1 and be no NaN, got {numbers.min()}..{numbers.max()}; "
                "divide by 255, or pass uint8"
            )
        picture = np.rint(numbers * 255)
    else:
        raise PictureError(f"array: expected uint8, uint16 or floats in 0..1, got {array.dtype}")
    if picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, axis=2)
    picture = picture[:, :, :3]
    return np.ascontiguousarray(picture[:, :, ::-1] if swap else picture, np.uint8)
