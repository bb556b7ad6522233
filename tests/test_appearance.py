import numpy as np
import pytest

from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.measures import cllr, min_cllr
from passerby.simulate.appearance import DrawnVectors, RealCrops, measured_rank1, noise_for, prototypes
from passerby.simulate.plan import Looks
from passerby.simulate.watching import Appearance
from passerby.types import SimulationError


def seen(person, camera=0, *, seconds=10.0, start=0.0):
    return Appearance(camera, start, start + seconds, 3.0, person, person)


def mean(vectors):
    summed = vectors.mean(axis=0)
    return summed / np.linalg.norm(summed)


@pytest.mark.slow
@pytest.mark.parametrize("rank1", [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("correlation", [0.2, 0.8])
def test_the_rank_1_asked_for_is_obtained(rank1, correlation):
    reached = measured_rank1(noise_for(rank1, correlation), correlation, seed=1)
    assert reached >= 0.995 if rank1 == 1 else abs(reached - rank1) <= 0.02


def test_a_harder_shop_has_more_noise():
    assert noise_for(0.4, 0.6) > noise_for(0.8, 0.6) > noise_for(1.0, 0.6)


def test_vectors_are_unit_prototypes_one_every_two_seconds():
    source = DrawnVectors(Looks(), seed=1, cameras=2)
    (short, _), (long, quality) = source([seen(1, seconds=1.0), seen(2, seconds=30.0)], [False, False])
    assert short.shape == (1, source.length)
    assert long.shape == (4, source.length)
    assert quality.shape == (4,)
    np.testing.assert_allclose(np.linalg.norm(long, axis=1), 1, rtol=1e-5)
    assert [prototypes(seen(1, seconds=s)) for s in (0.5, 2.0, 3.9, 100.0)] == [1, 2, 2, 4]


def test_the_prototypes_of_one_track_share_their_noise():
    def spread(correlation):
        source = DrawnVectors(Looks(rank1=0.8, correlation=correlation), seed=1, cameras=1)
        return np.mean([1 - v[0] @ v[1] for v, _ in source([seen(n) for n in range(1, 50)], [False] * 49)])

    assert spread(1.0) < 1e-6
    assert spread(0.9) < spread(0.3) / 2


def test_one_person_is_nearer_than_others_and_staff_resemble_each_other():
    source = DrawnVectors(Looks(rank1=1.0), seed=1, cameras=2)
    people = [seen(1), seen(1, 1), seen(2, 1), seen(-1), seen(-2, 1)]
    one, again, other, staff, colleague = (mean(v) for v, _ in source(people, [False] * 5))
    assert one @ again > one @ other + 0.2
    assert staff @ colleague > one @ other + 0.1


def test_a_look_alike_resembles_someone_who_came_before():
    def nearest(share):
        source = DrawnVectors(Looks(rank1=1.0, look_alikes=share), seed=1, cameras=1)
        anchors = np.stack([source._person(n, False) for n in range(1, 60)])
        return np.sort(np.max(anchors @ anchors.T - 2 * np.eye(59), axis=1))

    assert nearest(0.0)[-1] < 0.6
    assert nearest(0.3)[-5] > 0.85


def test_a_coat_that_comes_off_changes_the_looks():
    source = DrawnVectors(Looks(rank1=1.0, correlation=0.0), seed=1, cameras=1)
    on, still_on, off = (mean(v) for v, _ in source([seen(1), seen(1), seen(1)], [False, False, True]))
    assert on @ off < on @ still_on - 0.05


def test_looks_follow_from_the_seed():
    def first(seed):
        return DrawnVectors(Looks(), seed=seed, cameras=1)([seen(1)], [False])[0][0]

    np.testing.assert_array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))


def test_the_map_says_more_for_the_same_person_than_for_another():
    source = DrawnVectors(Looks(rank1=0.9), seed=1, cameras=2)
    calibration = source.calibration()
    people = range(1, 200)
    here = np.stack([mean(v) for v, _ in source([seen(n, 0) for n in people], [False] * 199)])
    there = np.stack([mean(v) for v, _ in source([seen(n, 1) for n in people], [False] * 199)])
    llr = calibration.llr(here @ there.T)
    same, different = np.diag(llr), llr[~np.eye(199, dtype=bool)]
    assert np.mean(same > 0) > 0.9
    assert np.mean(different > 0) < 0.1
    some = np.random.default_rng(0).choice(different, 199)
    weight = np.full(199, 1 / 199)
    assert cllr(same, some, weight) < min_cllr(same, some, weight) + 0.1


def test_a_map_is_bound_to_the_looks_it_was_fitted_for():
    easy, hard = (DrawnVectors(Looks(rank1=r), seed=1, cameras=2) for r in (0.9, 0.5))
    assert easy.sha256 != hard.sha256


class TestRealCrops:
    @pytest.fixture
    def crops(self, drawn, small_model):
        data = read_dataset("market1501", drawn, split="test")
        return list(dict.fromkeys((*data.query, *data.gallery))), Embedder(small_model, precision="fp32")

    def test_a_crop_is_used_once_and_then_the_person_is_missed(self, crops):
        pictures, embedder = crops
        source = RealCrops(pictures, embedder, seed=1, cameras=3)
        shown = [v for v, _ in source([seen(1)] * 6, [False] * 6)]
        assert sum(len(v) for v in shown) == 4  # the drawn set has 4 crops of each person in each camera
        assert all(len(v) <= 2 for v in shown)
        assert len(shown[-1]) == 0
        assert len(np.unique(np.concatenate(shown).round(5), axis=0)) == 4

    def test_cameras_are_those_of_the_data_set(self, crops, monkeypatch):
        pictures, embedder = crops
        source = RealCrops(pictures, embedder, seed=1, cameras=3)
        paths = [source._take(seen(2, camera)) for camera in range(3)]
        assert [{p.name.split("_")[1][:2] for p in taken} for taken in paths] == [{"c1"}, {"c2"}, {"c3"}]
        assert len({p.name.split("_")[0] for taken in paths for p in taken}) == 1

    def test_more_cameras_or_shoppers_than_the_data_has_are_refused(self, crops):
        pictures, embedder = crops
        with pytest.raises(SimulationError, match="4 cameras, the data set 3"):
            RealCrops(pictures, embedder, seed=1, cameras=4)
        with pytest.raises(SimulationError, match="20 real people"):
            RealCrops(pictures, embedder, seed=1, cameras=3)([seen(21)], [False])

    def test_the_map_is_the_model_s_own(self, crops):
        pictures, embedder = crops
        calibration = RealCrops(pictures, embedder, seed=1, cameras=3).calibration()
        assert calibration is not None
        assert calibration.precision == "fp32"
