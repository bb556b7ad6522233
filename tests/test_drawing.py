"""The floor plan can be read: every name stands inside it, and on none of the lines."""

from itertools import islice, pairwise
from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest

from passerby.config import load_toml
from passerby.simulate.cameras import Views
from passerby.simulate.drawing import FONT_PX, MARGIN, draw
from passerby.simulate.people import visits
from passerby.simulate.plan import Shop
from passerby.simulate.scene import ATLAS

NARROW_PX = 6  # of a letter: a name is at least so wide
PLANS = [*sorted(Path(__file__).parents[1].glob("recipes/reference_*.toml")), ATLAS.with_name("sample_shop.toml")]


def plan_of(path: Path) -> ElementTree.Element:
    shop = load_toml(path, Shop)
    views = Views(shop)
    come = (visit for visit in visits(shop, views, seed=0, duration_s=86400.0) if len(visit.plan) > 1)
    return ElementTree.fromstring(draw(shop, views, islice(come, 3)))


def names_of(plan: ElementTree.Element) -> dict[str, tuple[int, int, int, int]]:
    """The boxes (left, top, width, height) of all names, two of one name told apart; the caption left out."""
    found = {}
    for number, text in enumerate(element for element in plan.iter() if element.tag.endswith("}text")):
        if not text.text.endswith("sees"):
            wide = NARROW_PX * len(text.text)
            found[f"{text.text} {number}"] = (
                round(float(text.get("x"))),
                round(float(text.get("y"))) - FONT_PX + 3,
                wide,
                FONT_PX - 3,
            )
    return found


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_names_stand_inside_the_plan_and_on_no_path(path):
    plan = plan_of(path)
    names = names_of(plan)
    across, down = int(plan.get("width")), int(plan.get("height"))
    assert len(names) == len(load_toml(path, Shop).cameras) + len(load_toml(path, Shop).zones)
    for left, top, wide, tall in names.values():
        assert MARGIN <= left < left + wide <= across - MARGIN
        assert MARGIN <= top < top + tall <= down - MARGIN
    for way in (element for element in plan.iter() if element.tag.endswith("}polyline")):
        points = [tuple(round(float(v)) for v in point.split(",")) for point in way.get("points").split()]
        for name, box in names.items():
            assert not any(cv2.clipLine(box, p, q)[0] for p, q in pairwise(points)), name


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_no_name_covers_another(path):
    boxes = list(names_of(plan_of(path)).values())
    for number, (left, top, wide, tall) in enumerate(boxes):
        for other_left, other_top, other_wide, other_tall in boxes[:number]:
            apart = left >= other_left + other_wide or other_left >= left + wide
            assert apart or top >= other_top + other_tall or other_top >= top + tall
