import io

import cv2
import numpy as np
import pytest
from PIL import Image

from passerby.reid.pictures import detail, quality, read_picture, resize, stack
from passerby.types import PictureError

RED = np.zeros((8, 6, 3), np.uint8)
RED[..., 0] = 200


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "red.png"
    Image.fromarray(RED).save(path)
    return path


def test_a_path_a_text_a_pil_image_and_an_array_give_the_same_picture(png):
    for source in (png, str(png), Image.open(png), RED):
        assert np.array_equal(read_picture(source), RED)


def test_colour_is_the_order_of_arrays_alone(png):
    assert np.array_equal(read_picture(RED[..., ::-1], colour="bgr"), RED)
    assert np.array_equal(read_picture(png, colour="bgr"), RED)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((4, 4), 7, np.uint8), 7),
        (np.full((4, 4, 4), 7, np.uint8), 7),
        (np.full((4, 4, 3), 7 * 256 + 3, np.uint16), 7),
        (np.full((4, 4, 3), 7 / 255, np.float32), 7),
        (np.full((4, 4, 3), 7 / 255, np.float64), 7),
    ],
)
def test_grey_four_channel_sixteen_bit_and_float_arrays_are_taken(array, expected):
    picture = read_picture(array)
    assert picture.shape == (4, 4, 3)
    assert picture.dtype == np.uint8
    assert (picture == expected).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
def test_pil_images_of_every_common_mode_are_taken(mode):
    image = Image.fromarray(RED).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 256)
    assert read_picture(image).shape == (8, 6, 3)


def test_a_file_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    Image.fromarray(RED).save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").shape == (6, 8, 3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), 2.0), r"0\.\.1"),
        (np.full((4, 4, 3), -0.1), r"0\.\.1"),
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "one picture"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((1, 1, 3), np.uint8), "1x1 px"),
        (np.broadcast_to(np.uint8(0), (9000, 9000, 3)), "over the limit"),
        (np.array("x"), "expected one picture"),
        (42, "got int"),
        (None, "got NoneType"),
        (b"abc", "got bytes"),
        (["a.jpg"], "got list"),
        ("no/such/file.jpg", "no such file"),
        (".", "found a folder"),
    ],
)
def test_what_is_no_picture_is_refused(source, message):
    with pytest.raises(PictureError, match=message):
        read_picture(source)


def test_a_pil_image_with_more_than_16_bits_is_refused():
    with pytest.raises(PictureError, match="mode 'F'"):
        read_picture(Image.fromarray(np.zeros((4, 4), np.float32)))


def jpeg() -> bytes:
    memory = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(memory, "JPEG")
    return memory.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"no picture", jpeg()[:900], jpeg()[:30]], ids=["empty", "text", "cut", "header"]
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=r"bad\.jpg"):
        read_picture(path)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20000, 20000)).save(path)  # 400 megapixels in 50 kB
    with pytest.raises(PictureError, match="pixels"):
        read_picture(path)


def test_resize_is_opencvs_bilinear_without_antialiasing():
    picture = np.random.default_rng(0).integers(0, 256, (128, 64, 3), np.uint8)
    expected = cv2.resize(picture, (32, 100), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize(picture, height=100, width=32), expected)
    assert np.array_equal(stack([picture, picture], height=100, width=32)[1], expected)


def test_resize_of_a_checkerboard_aliases_as_inter_linear_does():
    # an antialiasing resize would give a flat grey
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    picture = np.repeat(board[:, :, None], 3, axis=2)
    assert np.ptp(resize(picture, height=24, width=24)) > 100


@pytest.fixture(scope="module")
def scene():
    """A picture with as much detail in every octave, as people in sharp pictures have."""
    rng, picture = np.random.default_rng(0), np.zeros((256, 128), np.float32)
    for height in (4, 8, 16, 32, 64, 128, 256):
        noise = rng.normal(0, 25, (height, height // 2)).astype(np.float32)
        picture += cv2.resize(noise, (128, 256), interpolation=cv2.INTER_LINEAR)
    return np.clip(128 + picture, 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)


def shrunk(picture, height):
    small = cv2.resize(picture, (height // 2, height), interpolation=cv2.INTER_AREA)
    return small, cv2.resize(small, (64, 128), interpolation=cv2.INTER_LINEAR)


def test_detail_falls_with_size_and_with_blur_alike(scene):
    for size in (0, 1):  # the small picture itself, and the same made large again
        found = [detail(shrunk(scene, height)[size]) for height in (12, 24, 48, 96)]
        assert found == sorted(found)
        assert found[0] < 24 < found[2]
        assert found[3] > 60


def test_quality_is_one_for_a_sharp_person_and_nothing_for_a_speck_or_a_wall(scene):
    assert quality(scene) == 1
    assert quality(shrunk(scene, 14)[0]) == 0
    assert quality(shrunk(scene, 12)[1]) < 0.3
    assert quality(np.full((128, 64, 3), 90, np.uint8)) == 0
    assert 0 < quality(shrunk(scene, 28)[0]) < 1
