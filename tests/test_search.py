"""A search of any vectors in any gallery."""

import numpy as np
import pytest

from passerby.reid.calibration import Calibration, Curve, search_posterior
from passerby.reid.evidence import joined, side
from passerby.reid.gallery import Gallery
from passerby.reid.search import search
from passerby.types import GalleryError, PasserbyError

CURVE = Curve((0.0,), (20.0,), -10.0, 8.0, 8.0)
CALIBRATION = Calibration((((1, 1), CURVE),), "0" * 64, "fp32", "example")
AXES = np.eye(4, dtype=np.float32)


@pytest.fixture
def gallery():
    made = Gallery(length=4, model="any")
    for name, row in zip("abc", AXES, strict=False):
        made.add(name, row)
    return made


def test_posteriors_are_those_of_the_formula(gallery):
    query = side(np.array([[0.8, 0.6, 0, 0]], np.float32))
    (answer,) = search(query, gallery, CALIBRATION, threshold=0.65)
    people, nobody = search_posterior(CURVE.at(np.array([0.8, 0.6, 0.0])), 0.5)
    assert [m.person for m in answer.matches] == ["a", "b", "c"]
    assert [m.probability for m in answer.matches] == pytest.approx(people.tolist(), abs=1e-5)
    assert answer.unknown == pytest.approx(float(nobody), abs=1e-5)
    assert answer.person == "a"


def test_a_query_that_shows_nothing_is_never_named(gallery):
    for person in "bc":
        gallery.remove(person)
    blind = side(AXES[:1], quality=0.0)
    (answer,) = search(blind, gallery, CALIBRATION, threshold=0.5)
    assert answer.matches[0].probability == 0.5
    assert answer.person is None


def test_strangers_stay_unknown_and_wrong_lengths_are_refused(gallery):
    stranger, known = joined([side(AXES[3:]), side(AXES[:1])]).take([0]), side(AXES[:1])
    assert search(stranger, gallery, CALIBRATION, threshold=0.5)[0].person is None
    assert search(joined([stranger, known]), gallery, CALIBRATION, threshold=0.5)[1].person == "a"
    with pytest.raises(GalleryError, match="another model"):
        search(side(np.eye(5, dtype=np.float32)[:1]), gallery, CALIBRATION, threshold=0.5)
    with pytest.raises(PasserbyError, match="top"):
        search(known, gallery, CALIBRATION, threshold=0.5, top=0)
