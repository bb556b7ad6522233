"""The report: one page that carries everything with it, and no face."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from passerby.reid.datasets import read_dataset
from passerby.reid.pictures import read_picture
from passerby.reid.report import CROP_HEIGHT_PX, HEAD_SHARE, write_report
from passerby.types import Dataset, Picture


@pytest.fixture(scope="module")
def test(drawn):
    whole = read_dataset("market1501", drawn, split="test")
    return replace(whole, query=whole.query[:12], gallery=whole.gallery[:54])


def vectors(pictures: tuple[Picture, ...]) -> np.ndarray:
    """A direction for each person, and a little noise for each picture: everybody is told apart."""
    people = sorted({picture.person for picture in pictures})
    noise = np.random.default_rng(0).normal(0, 0.05, (len(pictures), 64)).astype(np.float32)
    rows = np.eye(64, dtype=np.float32)[[people.index(picture.person) for picture in pictures]] + noise
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def written(tmp_path, dataset: Dataset, **settings) -> str:
    path = tmp_path / "report.html"
    write_report(
        path,
        dataset,
        vectors(dataset.query),
        vectors(dataset.gallery),
        model="m",
        command="passerby report-model",
        **settings,
    )
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def shown(page: str) -> list[np.ndarray]:
    jpegs = [base64.b64decode(data) for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)]
    return [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1] for jpeg in jpegs]


@pytest.mark.parametrize(("shareable", "asked"), [(False, False), (False, True), (True, False)])
def test_crops_are_shown_only_where_they_may_be_or_where_that_is_asked_for(tmp_path, test, shareable, asked):
    page = written(tmp_path, replace(test, shareable=shareable), show_crops=asked)
    assert bool(shown(page)) is (shareable or asked)
    assert ("Left out: the terms" in page) is not (shareable or asked)


def test_heads_are_blurred_and_bodies_are_not(tmp_path, test):
    rng = np.random.default_rng(0)
    pictures = []
    for i in range(4):  # black and white at random: blurring makes it grey
        path = tmp_path / f"{i}.png"
        dots = np.kron(rng.integers(0, 2, (64, 32), np.uint8), np.full((2, 2), 255, np.uint8))
        cv2.imwrite(str(path), dots)
        pictures.append(Picture(path, f"d:{i % 2}", f"d:c{i // 2}"))
    dataset = Dataset("d", (), tuple(pictures), tuple(pictures), "cross-camera")
    (tmp_path / "out").mkdir()
    crops = shown(written(tmp_path / "out", dataset, show_crops=True))
    head = int(HEAD_SHARE * CROP_HEIGHT_PX)
    assert len(crops) == 4 * 3  # each query with the two pictures of the other camera
    for crop in crops:
        assert crop.shape == (CROP_HEIGHT_PX, 64, 3)
        assert crop[:head].std() < 30 < 100 < crop[head + 8 :].std()
    original = read_picture(pictures[0].path)
    assert np.abs(original[:head].astype(int) - crops[0][:head]).mean() > 100  # not a pixel of it is left


class Links(HTMLParser):
    """Everything on a page that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        self.found += [tag] if tag in ("script", "link", "iframe", "object", "embed") else []


def test_nothing_is_fetched_from_elsewhere(tmp_path, test):
    page = written(tmp_path, test, show_crops=True)
    links = Links()
    links.feed(page)
    assert links.found
    assert all(link.startswith("data:image/jpeg;base64,") for link in links.found)
    assert "url(" not in page
    assert "@import" not in page
    assert "//" not in re.sub(r"base64,[^\"]+", "", page)


def test_names_from_outside_are_escaped(tmp_path, test):
    page = written(tmp_path, replace(test, name="<script>alert(1)</script>"))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_camera_is_compared_with_each_other_one(tmp_path, test):
    page = written(tmp_path, test)
    table = page[page.index("From camera to camera") : page.index("Ranked galleries")]
    assert re.findall(r"<th>(\w*)</th>", table) == ["", "c1", "c2", "c3"]
    rows = re.findall(r"<tr><td>(c\d)</td>(.*?)</tr>", table)
    assert [(name, re.findall(r">([^<]+)</td>", cells)) for name, cells in rows] == [
        ("c1", ["–", "100.0%", "100.0%"]),
        ("c2", ["100.0%", "–", "100.0%"]),
        ("c3", ["100.0%", "100.0%", "–"]),
    ]


def test_cameras_of_two_places_with_one_name_stay_apart(tmp_path, test):
    def moved(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
        where = {"market1501:c1": "shop:north:1", "market1501:c2": "shop:south:1", "market1501:c3": "shop:south:2"}
        return tuple(replace(picture, camera=where[str(picture.camera)]) for picture in pictures)

    page = written(tmp_path, replace(test, query=moved(test.query), gallery=moved(test.gallery)))
    assert "<th>north:1</th><th>south:1</th><th>south:2</th>" in page


def blind(dataset: Dataset) -> Dataset:
    query = tuple(replace(picture, camera=None) for picture in dataset.query)
    return replace(dataset, query=query, gallery=tuple(replace(picture, camera=None) for picture in dataset.gallery))


def test_a_data_set_without_cameras_has_a_report_with_right_answers(tmp_path, test):
    page = written(tmp_path, blind(test), show_crops=True)
    assert "This data set has no two cameras to go between." in page
    assert page.count('<figure class="right">') >= 12  # one for each query at least


def test_ranked_galleries_leave_out_what_the_protocol_leaves_out(tmp_path, test):
    def answers(dataset: Dataset, folder: str) -> int:
        (tmp_path / folder).mkdir()
        strip = written(tmp_path / folder, dataset, show_crops=True).split('<div class="strip">')[1]
        return strip.count('<figure class="right">') + strip.count('<figure class="wrong">')

    # one picture of each of three cameras: the other two, or with a stranger in the query's own camera three
    me = tuple(next(p for p in test.gallery if p.camera == f"market1501:c{c}") for c in (1, 2, 3))
    stranger = next(p for p in test.gallery if p.camera == "market1501:c1" and p.person != me[0].person)
    pictures = (*me, stranger)
    assert answers(Dataset("x", (), pictures, pictures, "cross-camera"), "a") == 2
    assert answers(Dataset("x", (), pictures, pictures, "market1501"), "b") == 3


def test_the_page_holds_figures_curves_and_where_they_come_from(tmp_path, test):
    page = written(tmp_path, test)
    for text in (
        "Rank-1",
        "mAP",
        "mINP",
        "95 % interval",
        "Protocol market1501",
        "12 queries of 4 people",
        "passerby report-model",
    ):
        assert text in page
    assert page.count("<polyline") == 4  # CMC, ROC, and two histograms
    assert "nan" not in page.lower()


def axis(page: str, title: str) -> list[str]:
    """What is written below a plot: its ticks from left to right, and then what they count."""
    plot = page[page.index(f'aria-label="{title}"') :].partition("</svg>")[0]
    return re.findall(r'<text [^>]*text-anchor="middle">([^<]*)</text>', plot)


def test_axes_say_ranks_and_rates_that_one_can_read(tmp_path, test):
    page = written(tmp_path, test)
    assert axis(page, "Right answer among the first k (CMC)") == ["1", "5", "10", "20", "30", "40", "50", "k"]
    rates = ["0.001 %", "0.01 %", "0.1 %", "1 %", "10 %", "100 %"]
    assert axis(page, "Same pairs accepted (ROC)") == [*rates, "different pairs accepted"]
    assert axis(page, "How similar pairs are")[:-1] == ["-0.5", "0", "0.5", "1"]
    heights = re.findall(r'text-anchor="end">([^<]*)</text>', page)
    steps = [float(value.removesuffix(" %")) for value in heights]
    for plot in (steps[:6], steps[6:12], steps[12:]):
        assert len(plot) == 6
        assert set(np.diff(plot)) == {plot[1] - plot[0]}  # even steps, none rounded
