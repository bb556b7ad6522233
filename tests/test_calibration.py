"""Log-likelihood ratios and what is made of them: small hand-written numbers, known distributions, slow loops."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.reid.calibration import Calibration, Curve, posterior, search_posterior
from passerby.reid.fitting import adapt, fit
from passerby.reid.measures import calibration_error, cllr, measure, min_cllr, mode_intervals, operating_point
from passerby.reid.pairs import DifferentPairs, PairSample, sample_pairs, surely_different
from passerby.types import CalibrationError, Picture

SHA = "ab" * 32
STRAIGHT = Curve((0.0,), (10.0,), -4.0, math.log(1000), math.log(100))
BENT = Curve((0.1, 0.4, 0.8), (5.0, 25.0, 1.0), -3.0, 8.0, 5.0)
FLAT = Curve((0.3, 0.5), (1e-2, 60.0), -2.0, 8.0, 5.0)


def of(curve: Curve) -> Calibration:
    return Calibration((((1, 1), curve),), SHA, "fp32", "nobody")


AFFINE, SPLINE, ALMOST_FLAT = of(STRAIGHT), of(BENT), of(FLAT)


def normal_sample(
    *, same: tuple[float, float] = (0.6, 0.1), different: tuple[float, float] = (0.2, 0.1), people: int = 200
) -> PairSample:
    """Pairs with normally distributed similarities of a given mean and spread, 30 a person."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(people), 30)
    count = len(person)
    return PairSample(
        same=rng.normal(*same, count),
        different=rng.normal(*different, count),
        weight=np.full(count, 1 / count),
        person=person,
        other=(person + rng.integers(1, people, count)) % people,
    )


def fitted(sample: PairSample) -> Calibration:
    return fit([{(1, 1): sample}], file_sha256=SHA, precision="fp32", fitted_on="made up")


def test_the_fit_finds_the_likelihood_ratio_of_two_normal_distributions() -> None:
    calibration = fitted(normal_sample())
    # Equal spread 0.1, means 0.2 and 0.6: LLR = (0.6 - 0.2) / 0.1^2 * (s - 0.4).
    similarity = np.array([0.35, 0.4, 0.45])
    assert calibration.llr(similarity) == pytest.approx([-2, 0, 2], abs=0.15)


def test_a_bent_likelihood_ratio_gets_a_spline() -> None:
    sample = normal_sample(same=(0.7, 0.05), different=(0.2, 0.2))

    def truth(s: float) -> float:
        return ((s - 0.2) / 0.2) ** 2 / 2 - ((s - 0.7) / 0.05) ** 2 / 2 + math.log(0.2 / 0.05)

    calibration = fitted(sample)
    assert calibration.one.kind == "spline"
    for s in (0.55, 0.58, 0.61, 0.64):  # from -1.6 to 3.1
        assert calibration.llr(np.array(s)) == pytest.approx(truth(s), abs=0.4)


@pytest.mark.parametrize("calibration", [AFFINE, SPLINE, ALMOST_FLAT], ids=["affine", "spline", "almost flat"])
def test_every_map_rises_everywhere_without_steps_and_within_its_bounds(calibration: Calibration) -> None:
    similarity = np.linspace(-1, 1, 4001)
    llr = calibration.llr(similarity)
    steps = np.diff(llr)
    assert (steps > 0).all()
    slopes = steps / np.diff(similarity)
    assert np.abs(np.diff(slopes)).max() < 0.05 * slopes.max()  # the slope changes a little at a time: no kinks
    assert -calibration.one.lower < llr.min()
    assert llr.max() < calibration.one.upper


def test_fitted_maps_rise_everywhere_too() -> None:
    for sample in (normal_sample(), normal_sample(same=(0.7, 0.05), different=(0.2, 0.2))):
        assert (np.diff(fitted(sample).llr(np.linspace(-1, 1, 2001))) > 0).all()


def test_bounds_are_what_the_sample_supports() -> None:
    sample = normal_sample(people=20)
    calibration = fitted(sample)
    assert calibration.one.lower == pytest.approx(math.log(2 * 21))
    drawn = {frozenset(pair) for pair in zip(sample.person.tolist(), sample.other.tolist(), strict=True)}
    upper = math.log(2 * (len(drawn) + 1))
    assert calibration.one.upper == pytest.approx(upper)
    assert sample.people == 20
    assert calibration.llr(np.array(1.0)) == pytest.approx(upper, rel=0.05)
    assert calibration.llr(np.array(-1.0)) == pytest.approx(-math.log(2 * 21), rel=0.01)


def test_a_separable_sample_still_has_a_finite_fit() -> None:
    calibration = fitted(normal_sample(same=(0.9, 0.01), different=(0.1, 0.01), people=20))
    assert calibration.llr(np.array(0.9)) > 2
    assert calibration.llr(np.array(0.1)) < -2


def test_a_sample_that_tells_nothing_is_refused() -> None:
    upside_down = normal_sample(same=(0.2, 0.1), different=(0.6, 0.1))
    with pytest.raises(CalibrationError, match="more similar"):
        fitted(upside_down)
    with pytest.raises(CalibrationError, match="at least 10 people, got 9"):
        fitted(normal_sample(people=9))
    sample = normal_sample(people=10)
    sample.same[3] = np.nan
    with pytest.raises(CalibrationError, match="NaN"):
        fitted(sample)


def test_llr_keeps_the_shape_of_its_input() -> None:
    assert SPLINE.llr(np.zeros((2, 3), np.float32)).shape == (2, 3)
    assert SPLINE.llr(np.float32(0.3)).shape == ()
    assert SPLINE.llr(np.zeros(0)).shape == (0,)


def test_the_spline_has_its_slopes_at_its_knots_and_is_straight_outside() -> None:
    wide = of(replace(BENT, upper=1e6, lower=1e6))  # bounds that do not bend
    at = wide.llr(np.array([0.1, 0.4, 0.8]))
    assert at == pytest.approx([-3, -3 + 0.3 * 15, -3 + 0.3 * 15 + 0.4 * 13])
    for knot, slope in zip(BENT.knots, BENT.slopes, strict=True):
        beside = wide.llr(np.array([knot - 1e-6, knot + 1e-6]))
        assert (beside[1] - beside[0]) / 2e-6 == pytest.approx(slope, rel=1e-3)
    assert wide.llr(np.array([-0.9, 1.0])) == pytest.approx([-3 - 5.0, at[2] + 0.2])


def test_posteriors_follow_bayes() -> None:
    llr = np.log([1.0, 3.0, 1 / 3])
    assert posterior(llr) == pytest.approx([0.5, 0.75, 0.25])
    assert posterior(llr, prior=0.1) == pytest.approx([0.1, 0.25, 1 / 28])
    assert posterior(np.array([-800.0, 800.0])).tolist() == [0.0, 1.0]


def test_a_search_among_one_person_at_even_odds_is_a_comparison() -> None:
    llr = np.linspace(-8, 8, 33)
    people, nobody = search_posterior(llr[:, None], absent=0.5)
    np.testing.assert_allclose(people[:, 0], posterior(llr), atol=1e-15)
    np.testing.assert_allclose(nobody, 1 - posterior(llr), atol=1e-15)


def test_a_search_follows_its_formula() -> None:
    llr, absent = [2.0, -1.0, 0.5], 0.3
    weights = [(1 - absent) / 3 * math.exp(x) for x in llr]
    people, nobody = search_posterior(np.array(llr), absent)
    assert people == pytest.approx([w / (absent + sum(weights)) for w in weights])
    assert float(nobody) == pytest.approx(absent / (absent + sum(weights)))


@given(st.lists(st.floats(-1000, 1000), max_size=8), st.floats(1e-6, 1 - 1e-6))
def test_search_posteriors_sum_to_one(llr: list[float], absent: float) -> None:
    people, nobody = search_posterior(np.array(llr), absent)
    assert people.sum() + nobody == pytest.approx(1)
    assert (people >= 0).all()


def test_an_empty_gallery_is_nobody_and_a_stranger_among_many_stays_unknown() -> None:
    people, nobody = search_posterior(np.zeros((2, 0)))
    assert people.shape == (2, 0)
    assert nobody.tolist() == [1.0, 1.0]
    among = search_posterior(np.array([2.0] + [-4.0] * 199))[0][0]
    assert posterior(np.array(2.0)) > 0.85 > 0.1 > among  # as a pair "probably", in a search among 200 not


def test_probabilities_must_lie_between_zero_and_one() -> None:
    for wrong in (0.0, 1.0, float("nan")):
        with pytest.raises(CalibrationError, match="between 0 and 1"):
            posterior(np.zeros(1), prior=wrong)
        with pytest.raises(CalibrationError, match="between 0 and 1"):
            search_posterior(np.zeros(1), absent=wrong)


def test_the_similarity_that_reaches_a_probability() -> None:
    at = AFFINE.similarity_at(0.5)
    assert at == pytest.approx(0.4)
    assert posterior(SPLINE.llr(np.array(SPLINE.similarity_at(0.8, prior=0.2))), prior=0.2) == pytest.approx(0.8)
    assert AFFINE.similarity_at(0.999999) is None  # beyond the bound
    assert AFFINE.similarity_at(0.001) == -1


def test_a_calibration_comes_back_from_json() -> None:
    for calibration in (AFFINE, SPLINE):
        assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "expected version 2, got 3"),
        ({"curves": {}}, "curves for"),
        ({"curves": {"1:2": BENT.to_dict()}}, "curves for"),
        ({"curves": {"1:1": BENT.to_dict(), "2:1": BENT.to_dict()}}, "curves for"),
        ({"curves": {"1:1": BENT.to_dict() | {"slopes": [1.0]}}}, "3 knots and 1 slopes"),
        ({"curves": {"1:1": BENT.to_dict() | {"knots": [0.4, 0.1, 0.8]}}}, "rising knots"),
        ({"curves": {"1:1": BENT.to_dict() | {"slopes": [1.0, 0.0, 1.0]}}}, "positive slopes"),
        ({"curves": {"1:1": BENT.to_dict() | {"offset": float("nan")}}}, "finite"),
        ({"curves": {"1:1": BENT.to_dict() | {"offset": "much"}}}, "expected the fields"),
        ({"curves": {"1:1": {"knots": [0.4]}}}, "slopes"),
        ({"curves": [1]}, "expected the fields"),
        ({"precision": 8}, "precision is 8"),
        ({"error": [-1.0, 0.0]}, "error from 0"),
    ],
)
def test_a_damaged_calibration_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Calibration.from_dict(SPLINE.to_dict() | change)


def test_a_calibration_of_the_first_version_is_read() -> None:
    old = {
        "version": 1,
        **BENT.to_dict(),
        "file_sha256": SHA,
        "precision": "fp32",
        "fitted_on": "nobody",
        "apart": [0, 1],
    }
    assert Calibration.from_dict(old) == replace(SPLINE, different=(0.0, 1.0))
    several = old | {"several": {"2": {"version": 1, **STRAIGHT.to_dict()}, "4": {"version": 1, **FLAT.to_dict()}}}
    found = Calibration.from_dict(several)
    assert found.curves == (((1, 1), BENT),)  # the others were of another similarity


def test_a_calibration_belongs_to_one_file_at_one_precision() -> None:
    AFFINE.check(SHA, "fp32")
    with pytest.raises(CalibrationError, match="expected one for precision int8, got one for fp32"):
        AFFINE.check(SHA, "int8")
    with pytest.raises(CalibrationError, match="model file replaced"):
        AFFINE.check("cd" * 32, "fp32")


def world() -> tuple[list[Picture], np.ndarray, np.ndarray]:
    """Pictures of six people in up to three cameras, with embeddings whose every product is another number."""
    pictures = []
    for person, seen in enumerate(["aab", "abbb", "abc", "ac", "b", "aabbcc"]):
        pictures += [Picture(Path(f"{person}{i}.jpg"), f"s:{person}", f"s:{camera}") for i, camera in enumerate(seen)]
    vectors = np.random.default_rng(0).normal(size=(len(pictures), 8)).astype(np.float32)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return pictures, vectors, unit @ unit.T


def test_pairs_cross_cameras_and_the_stranger_stands_where_the_person_stood() -> None:
    pictures, vectors, products = world()
    sample = sample_pairs(vectors, pictures, draws=30, seed=1)

    def found(product: float) -> tuple[int, int]:
        i, j = np.argwhere(np.isclose(products, product, atol=1e-12))[0]
        return int(i), int(j)

    for same, different, person, other in zip(sample.same, sample.different, sample.person, sample.other, strict=True):
        (i, j), (k, m) = found(same), found(different)
        (first,) = {i, j} & {k, m}
        second, stranger = ({i, j} - {first}).pop(), ({k, m} - {first}).pop()
        assert pictures[first].person == pictures[second].person == f"s:{person}"
        assert pictures[first].camera != pictures[second].camera
        assert pictures[stranger].person == f"s:{other}" != f"s:{person}"
        assert pictures[stranger].camera == pictures[second].camera


def test_people_weigh_equally_and_every_draw_counts() -> None:
    pictures, vectors, _ = world()
    sample = sample_pairs(vectors, pictures, draws=30, seed=1)
    # Persons 0, 1 and 3 were seen by one pair of cameras, 2 and 5 by three, 4 by one camera.
    assert len(sample.same) == 30 * (1 + 1 + 3 + 1 + 3)
    weights = np.bincount(sample.person, sample.weight, minlength=6)
    assert weights.tolist() == pytest.approx([0.2, 0.2, 0.2, 0.2, 0, 0.2])
    assert set(sample.other[sample.person == 0].tolist()) == {1, 2, 3, 4, 5}
    again = sample_pairs(vectors, pictures, draws=30, seed=1)
    assert again.same.tolist() == sample.same.tolist()
    more = sample_pairs(vectors, pictures, draws=1, at_least=len(sample.same) - 1, seed=1)
    assert more.same.tolist() == sample.same.tolist()
    assert sample_pairs(vectors, pictures, draws=30, seed=2).same.tolist() != sample.same.tolist()


def test_pairs_of_several_pictures_are_pairs_of_means() -> None:
    def seen(person: str, camera: str, i: int) -> Picture:
        return Picture(Path(f"{person}{camera}{i}.jpg"), person, camera)

    pictures = [seen(p, c, i) for p in "abc" for c in "xy" for i in range(3 if p != "c" else 1)]
    vectors = np.random.default_rng(0).normal(size=(len(pictures), 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = {
        (p.person, p.camera): [i for i, q in enumerate(pictures) if q.camera == p.camera and q.person == p.person]
        for p in pictures
    }
    sample = sample_pairs(vectors, pictures, behind=(3, 3))
    assert set(sample.person) | set(sample.other) == {0, 1}  # c has too few
    assert sample.behind == (3, 3)
    means = {key: vectors[mine].mean(0) for key, mine in rows.items()}
    for person, name in enumerate("ab"):
        expected = means[name, "x"] @ means[name, "y"]
        assert sample.same[sample.person == person] == pytest.approx(expected, abs=1e-6)
    two = sample_pairs(vectors, pictures, behind=(1, 2))
    assert len(np.unique(two.same.round(6))) > 2  # which ones is drawn
    best = np.array([i % 3 == 0 for i in range(len(pictures))], np.float32)
    rated = sample_pairs(vectors, pictures, behind=(3, 3), quality=best)
    first = {key: np.average(vectors[mine], axis=0, weights=np.maximum(best[mine], 1e-3)) for key, mine in rows.items()}
    assert rated.same[rated.person == 0] == pytest.approx(first["a", "x"] @ first["a", "y"], abs=1e-6)


def test_a_second_side_of_several_pictures_also_comes_from_all_other_cameras() -> None:
    pictures = [Picture(Path(f"{p}{c}{i}.jpg"), p, c) for p in "ab" for c in "xyz" for i in range(2)]
    vectors = np.random.default_rng(0).normal(size=(len(pictures), 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def at(person: str, cameras: str) -> list[int]:
        return [i for i, p in enumerate(pictures) if p.person == person and str(p.camera) in cameras]

    sample = sample_pairs(vectors, pictures, behind=(1, 2), draws=200)
    found = set(sample.same[sample.person == 0].round(5).tolist())
    for first in "xyz":
        others = "xyz".replace(first, "")
        for a in at("a", first):
            for b in at("a", others):
                for c in at("a", others):
                    if b != c:
                        expected = float(vectors[a] @ (vectors[b] + vectors[c]) / 2)
                        assert any(abs(expected - value) < 1e-4 for value in found)


def test_a_curve_serves_from_its_numbers_of_pictures_on_whichever_side_has_more() -> None:
    calibration = replace(SPLINE, curves=(((1, 1), BENT), ((1, 2), STRAIGHT), ((2, 2), FLAT)))
    similarity = np.full(6, 0.3)
    expected = [BENT.at(0.3), STRAIGHT.at(0.3), STRAIGHT.at(0.3), FLAT.at(0.3), FLAT.at(0.3), STRAIGHT.at(0.3)]
    a, b = np.array([1, 1, 2, 2, 3, 9]), np.array([1, 2, 1, 2, 9, 1.9])
    assert calibration.llr(similarity, a, b) == pytest.approx(np.array(expected))
    assert calibration.llr(np.full((2, 3), 0.3), 1, np.array([1, 2, 9]))[1] == pytest.approx(
        np.array(expected)[[0, 1, 1]]
    )
    assert calibration.llr(0.3, 2) == pytest.approx(expected[3])
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_a_drawn_calibration_differs_by_the_error_that_it_states() -> None:
    calibration = replace(of(replace(STRAIGHT, upper=1e6, lower=1e6)), error=(0.2, 0.5))
    rng = np.random.default_rng(0)
    drawn = np.array([calibration.drawn(rng).llr(np.array([0.4, 0.8])) for _ in range(4000)])
    assert drawn[:, 0].std() == pytest.approx(0.5, rel=0.05)  # at a ratio of 0 only the shift moves it
    assert np.log((drawn[:, 1] - drawn[:, 0]) / 4).std() == pytest.approx(0.2, rel=0.05)
    assert replace(calibration, error=(0.0, 0.0)).drawn(rng).llr(0.8) == calibration.llr(0.8)


def test_a_drawn_calibration_has_bounds_for_the_shares_that_were_never_seen() -> None:
    calibration = of(replace(STRAIGHT, upper=math.log(2 * 1001), lower=math.log(2 * 101)))
    rng = np.random.default_rng(0)
    bounds = np.array([(c.upper, c.lower) for c in (calibration.drawn(rng).one for _ in range(4000))])
    # None of 1,000 and none of 100 was seen: under Jeffreys' prior the shares are about beta (1/2, n + 1/2)
    shares = np.exp(-bounds)
    assert shares.mean(axis=0) == pytest.approx([0.5 / 1001, 0.5 / 101], rel=0.06)
    exact = rng.beta(0.5, 1000.5, 40_000)
    for share in (0.05, 0.5, 0.95):
        assert np.quantile(shares[:, 0], share) == pytest.approx(np.quantile(exact, share), rel=0.25)


def test_curves_for_several_pictures_are_that_for_one_recalibrated() -> None:
    few = replace(normal_sample(same=(0.5, 0.1), different=(0.3, 0.1), people=60), behind=(2, 2))
    calibration = fit([{(1, 1): normal_sample(), (2, 2): few}], file_sha256=SHA, precision="fp32", fitted_on="made up")
    one, two = (curve for _, curve in calibration.curves)
    assert two.knots == one.knots
    # Means 0.2 apart in place of 0.4: the ratio rises half as much
    assert np.array(two.slopes) / np.array(one.slopes) == pytest.approx(np.full(len(one.knots), 0.5), rel=0.15)
    assert calibration.llr(0.4, 2) == pytest.approx(0, abs=0.15)
    assert two.lower == pytest.approx(math.log(2 * 61))


def test_the_error_of_a_calibration_covers_other_people() -> None:
    small, large = (fitted(normal_sample(same=(0.5, 0.1), people=people)) for people in (20, 400))
    assert small.error[0] > 1.5 * large.error[0]
    assert small.error[1] > large.error[1] >= 0.1


def test_a_strangers_pictures_do_not_make_the_stranger_likelier() -> None:
    pictures = [Picture(Path(f"0{camera}.jpg"), "s:0", f"s:{camera}") for camera in "ab"]
    pictures += [Picture(Path(f"1{i}.jpg"), "s:1", f"s:{'ab'[i % 2]}") for i in range(40)]
    pictures += [Picture(Path(f"2{camera}.jpg"), "s:2", f"s:{camera}") for camera in "ab"]
    sample = sample_pairs(np.random.default_rng(0).normal(size=(44, 4)).astype(np.float32), pictures, draws=2000)
    share = np.mean(sample.other[sample.person == 0] == 1)
    assert share == pytest.approx(0.5, abs=0.05)


def test_pictures_that_come_twice_count_once_and_distractors_never() -> None:
    pictures, vectors, _ = world()
    noise = [replace(p, path=Path(f"x{i}.jpg"), role="distractor", person="s:x") for i, p in enumerate(pictures)]
    sample = sample_pairs(
        np.concatenate([vectors, vectors + 1, vectors + 2]), [*pictures, *pictures, *noise], draws=5, seed=4
    )
    assert sample.same.tolist() == sample_pairs(vectors, pictures, draws=5, seed=4).same.tolist()
    assert sample.people == 6


def test_pairs_need_cameras() -> None:
    pictures, vectors, _ = world()
    with pytest.raises(CalibrationError, match=r"00.jpg: .*camera is not known"):
        sample_pairs(vectors, [replace(pictures[0], camera=None), *pictures[1:]])
    with pytest.raises(CalibrationError, match="whom two cameras saw"):
        sample_pairs(vectors, [replace(p, camera="s:a") for p in pictures])
    with pytest.raises(CalibrationError, match=r"expected embeddings \(19, d\)"):
        sample_pairs(vectors[:3], pictures)


def test_cllr_of_known_ratios() -> None:
    one = np.ones(1)
    assert cllr(np.zeros(1), np.zeros(1), one) == pytest.approx(1)  # says nothing
    assert cllr(np.array([50.0]), np.array([-50.0]), one) == pytest.approx(0, abs=1e-12)
    assert cllr(np.log([3.0]), np.log([1 / 3]), one) == pytest.approx(math.log2(4 / 3))
    weighted = cllr(np.log([3.0, 1.0]), np.log([1 / 3, 1.0]), np.array([3.0, 1.0]))
    assert weighted == pytest.approx(0.75 * math.log2(4 / 3) + 0.25)


def test_min_cllr_is_what_the_best_increasing_map_reaches() -> None:
    weight = np.ones(2)
    assert min_cllr(np.array([3.0, 4.0]), np.array([1.0, 2.0]), weight) == 0
    assert min_cllr(np.array([1.0, 1.0]), np.array([1.0, 1.0]), weight) == 1
    # Scores 1 different, 2 same, 3 different, 4 same: PAV joins 2 and 3 at even odds, half of the pairs cost a bit.
    assert min_cllr(np.array([2.0, 4.0]), np.array([1.0, 3.0]), weight) == pytest.approx(0.5)


@given(st.integers(0, 10**6))
def test_no_map_costs_less_than_min_cllr(seed: int) -> None:
    rng = np.random.default_rng(seed)
    same, different, weight = rng.integers(0, 6, 12) + 1.0, rng.integers(0, 6, 12) * 1.0, rng.random(12) + 0.1
    least = min_cllr(same, different, weight)
    slope, offset = rng.random() * 3, rng.normal()
    assert least <= cllr(slope * same - offset, slope * different - offset, weight) + 1e-12
    assert min_cllr(3 * same, 3 * different, weight) == pytest.approx(least)


def test_calibration_error_compares_each_bins_mean_with_its_share() -> None:
    weight = np.ones(4)
    honest = np.array([0.5, 0.5, 1.0, 1.0])
    assert calibration_error(honest, np.array([True, False, True, True]), weight, bins=2) == 0
    boastful = np.array([0.6, 0.6, 0.9, 0.9])
    assert calibration_error(boastful, np.array([True, False, True, False]), weight, bins=2) == pytest.approx(
        (0.1 + 0.4) / 2
    )
    assert math.isnan(calibration_error(np.zeros(0), np.zeros(0, bool), np.zeros(0)))


def test_calibration_error_weighs_pairs() -> None:
    probability, is_same = np.array([0.2, 0.2]), np.array([True, False])
    assert calibration_error(probability, is_same, np.array([1.0, 4.0]), bins=1) == pytest.approx(0)
    assert calibration_error(probability, is_same, np.array([1.0, 1.0]), bins=1) == pytest.approx(0.3)


def test_an_operating_point_counts_at_even_odds() -> None:
    same, different = np.log([9.0, 2.0, 1.0, 0.5]), np.log([2.0, 0.1, 0.1, 0.1])
    point = operating_point(same, different, np.ones(4), 0.6)  # odds of 1.5
    assert (point.recall, point.false_match_rate) == (0.5, 0.25)
    assert point.precision == pytest.approx(2 / 3)
    assert point.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert math.isnan(operating_point(same, different, np.ones(4), 0.99).precision)


def test_an_operating_point_at_a_shops_odds_counts_the_many_strangers() -> None:
    same, different = np.log([900.0, 200.0, 10.0, 0.5]), np.log([200.0, 0.1, 0.1, 0.1])
    point = operating_point(same, different, np.ones(4), 0.5, prior=1 / 101)  # odds of 100
    assert (point.recall, point.false_match_rate) == (0.5, 0.25)
    assert point.precision == pytest.approx(0.5 / (0.5 + 100 * 0.25))
    assert point.f1 == pytest.approx(2 / (1 / point.precision + 1 / 0.5))
    believed = [9 / 10, 2 / 3, 100 * 2 / 3]  # 900 : 100, 200 : 100, and a hundred strangers at 200 : 100
    assert point.mean_posterior == pytest.approx(sum(believed) / (2 + 100))


@pytest.mark.parametrize("prior", [0.5, 1 / 101])
def test_the_modes_intervals_hold_their_figures_and_shrink_with_people(prior: float) -> None:
    widths = []
    for people in (50, 800):
        sample = normal_sample(people=people)
        calibration = fitted(sample)
        report = measure(calibration, sample, prior=prior)
        intervals = mode_intervals(calibration, sample, prior=prior)
        for mode, figures in intervals.items():
            for name, figure in figures.items():
                assert figure.value == getattr(report.modes[mode], name)
                assert figure.low <= figure.value <= figure.high
        recall = intervals["customer-journey"]["recall"]
        widths.append(recall.high - recall.low)
    assert 2 < widths[0] / widths[1] < 8  # the square root of 16, about


def test_a_calibration_adapts_to_a_site_that_shifts_and_stretches_every_similarity() -> None:
    home = normal_sample(people=100)
    calibration = fitted(home)
    site = replace(home, same=0.9 * home.same + 0.2, different=0.9 * home.different + 0.2)
    assert measure(calibration, site).cllr > measure(calibration, home).cllr + 0.1
    pairs = DifferentPairs(site.different, site.person, site.other)
    adapted = adapt(calibration, pairs)
    assert measure(adapted, site).cllr == pytest.approx(measure(calibration, home).cllr, abs=0.005)
    assert "adapted to a site" in adapted.fitted_on
    again = adapt(Calibration.from_dict(json.loads(json.dumps(adapted.to_dict()))), pairs)
    assert again.one.knots == pytest.approx(adapted.one.knots)


@pytest.mark.parametrize(
    ("change", "tracks", "similarity", "message"),
    [
        ({"different": None}, 50, 0.3, "too old to be adapted"),
        ({}, 39, 0.3, "at least 40 tracks .* got 39"),
        ({}, 50, float("nan"), "finite"),
    ],
)
def test_what_cannot_be_adapted_is_refused(
    change: dict[str, object], tracks: int, similarity: float, message: str
) -> None:
    calibration = replace(fitted(normal_sample(people=20)), **change)
    track = np.arange(tracks)
    with pytest.raises(CalibrationError, match=message):
        adapt(calibration, DifferentPairs(np.full(tracks, similarity), track, (track + 1) % tracks))


def test_two_tracks_with_many_pictures_are_no_site() -> None:
    calibration = fitted(normal_sample(people=20))
    two = DifferentPairs(np.random.default_rng(0).normal(0.1, 0.02, 1000), np.zeros(1000, int), np.ones(1000, int))
    with pytest.raises(CalibrationError, match=r"at least 40 tracks .* got 2"):
        adapt(calibration, two)


def test_a_pair_of_tracks_counts_once_however_many_pictures_it_has() -> None:
    calibration, rng = fitted(normal_sample(people=50)), np.random.default_rng(0)
    track, other = np.arange(60), (np.arange(60) + 1) % 60
    each = rng.normal(0.25, 0.1, 60)
    once = adapt(calibration, DifferentPairs(each, track, other))
    often = np.r_[np.zeros(500, int), np.arange(60)]  # 501 pictures of the first pair of tracks
    again = adapt(calibration, DifferentPairs(each[often], track[often], other[often]))
    assert again.similarity_at(0.65) == pytest.approx(once.similarity_at(0.65))


def test_what_a_site_shows_moves_its_map_but_stretches_it_little() -> None:
    calibration = fitted(normal_sample(people=50))
    track, other = np.arange(60), (np.arange(60) + 1) % 60
    narrow = DifferentPairs(np.random.default_rng(0).normal(0.2, 0.01, 60), track, other)
    adapted = adapt(calibration, narrow)
    assert adapted.one.slopes[0] / calibration.one.slopes[0] == pytest.approx(1.25)
    assert adapted.similarity_at(0.65) > 0.35  # 0.41 at home; stretched freely it would be 0.22


def seen(track: str, camera: str | None, second: float | None) -> Picture:
    at = None if second is None else datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    return Picture(Path(f"{track}-{camera}-{second}.jpg"), track, camera, seen_at=at)


def test_surely_different_are_tracks_that_two_cameras_see_at_once() -> None:
    pictures = [
        seen("a", "left", 0.0),
        seen("b", "right", 0.5),  # with a
        seen("c", "left", 0.6),  # with b, and with a in the same camera
        seen("a", "right", 0.9),  # a again, under one name in two cameras: not with a, but with c
        seen("d", "right", 60.0),
    ]
    vectors = np.eye(5, dtype=np.float32)
    vectors[:, 0] += [0, 1, 2, 3, 4]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = surely_different(vectors, pictures)
    expected = [vectors[0] @ vectors[1], vectors[1] @ vectors[2], vectors[2] @ vectors[3]]
    assert sorted(found.similarity) == pytest.approx(sorted(expected))
    assert found.tracks == 4  # a in two cameras is two tracks
    with pytest.raises(CalibrationError, match="no two cameras"):
        surely_different(vectors[:1], pictures[:1])
    with pytest.raises(CalibrationError, match="camera and time"):
        surely_different(vectors[:2], [seen("a", "left", None), seen("b", "right", 0.0)])


def test_the_report_of_a_good_fit() -> None:
    sample = normal_sample(people=100)
    report = measure(fitted(sample), sample)
    assert report.people == 100
    assert report.pairs == 2 * len(sample.same)
    assert 0 <= report.cllr_loss < 0.01
    assert report.error < 0.01
    assert report.error_middle < 0.05
    assert [mode.threshold for mode in report.modes.values()] == [0.5, 0.65, 0.8]
    accepted = fitted(sample).llr(sample.different) >= report.threshold_at[0.01]
    assert 0.009 < accepted.mean() <= 0.01
    assert json.loads(json.dumps(report.as_dict()))["modes"]["high-precision"]["threshold"] == 0.8


def test_a_threshold_that_nothing_reaches_has_no_precision_and_is_still_json() -> None:
    flat = of(Curve((0.0,), (1.0,), -0.5, 8.0, 5.0))  # no LLR over 0.5
    report = measure(flat, normal_sample(people=10))
    modes = json.loads(json.dumps(report.as_dict(), allow_nan=False))["modes"]
    assert modes["high-precision"]["precision"] is None
    assert modes["high-precision"]["recall"] == 0


def test_overconfidence_shows_in_the_report() -> None:
    sample = normal_sample(same=(0.5, 0.2), different=(0.3, 0.2))
    honest = fitted(sample)
    boastful = of(replace(honest.one, slopes=tuple(4 * s for s in honest.one.slopes), offset=4 * honest.one.offset))
    assert measure(boastful, sample).error > 0.1 > 5 * measure(honest, sample).error
    assert measure(boastful, sample).cllr > measure(honest, sample).cllr + 0.3
    assert measure(boastful, sample).min_cllr == pytest.approx(measure(honest, sample).min_cllr)
