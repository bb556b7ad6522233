"""Records refuse what contradicts itself, keep what they were given, and are equal where their docstrings say so."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from passerby.shop import Crossing, Line, Link, Partition, Sighting, SightingKey, Stay, Visit, Zone, current
from passerby.types import SightingError

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY = SightingKey("shop", "door", "a", 1)
A, B, C, D = (KEY._replace(track=n) for n in (1, 2, 3, 4))
ELSEWHERE = KEY._replace(site="other shop")
UNIT = np.eye(2, 3, dtype=np.float32)


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def sighting(**changes):
    made = Sighting(
        KEY,
        1,
        "closed",
        NOON,
        at(9),
        UNIT,
        np.array([1.0, 0.5], np.float32),
        np.array([10, 3]),
        "abc:fp32",
        (Stay("shelf", NOON, at(3)), Stay("till", at(5), at(9))),
        (Crossing("door", NOON, True),),
        np.array([[0, 1, 2], [1, 1.5, 2], [9, 4, 2]], np.float32),
        "floor",
    )
    return replace(made, **changes)


class TestSighting:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"revision": 0}, "count from 1, got 0"),
            ({"state": "over"}, "open, closed or withdrawn, got 'over'"),
            ({"end": at(-1)}, "before it starts"),
            ({"start": NOON.replace(tzinfo=None)}, "a time needs its zone"),
            ({"quality": np.ones(3, np.float32)}, "each with a quality"),
            ({"pictures": np.ones(1, np.int64)}, "a number of pictures"),
            ({"prototypes": np.eye(5, dtype=np.float32)}, "up to 4 prototypes"),
            ({"prototypes": UNIT[0]}, "up to 4 prototypes"),
            ({"prototypes": 1.1 * UNIT}, "length 1"),
            ({"prototypes": UNIT * np.float32(np.nan)}, "length 1"),
            ({"prototypes": np.where(UNIT == 0, np.float32(np.inf), UNIT)}, "length 1"),
            ({"prototypes": UNIT.astype(np.float64)}, "float32"),
            ({"quality": np.ones(2)}, "float32"),
            ({"pictures": np.ones(2)}, "whole numbers"),
            ({"quality": np.array([1.01, 0], np.float32)}, "quality of 0 to 1"),
            ({"quality": np.array([-0.1, 0], np.float32)}, "quality of 0 to 1"),
            ({"quality": np.array([np.nan, 0], np.float32)}, "quality of 0 to 1"),
            ({"pictures": np.array([1, 0])}, "a picture or more"),
            ({"stays": (Stay("shelf", at(-1), at(3)),)}, "stay in shelf .* outside"),
            ({"stays": (Stay("shelf", at(1), at(10)),)}, "stay in shelf .* outside"),
            ({"stays": (Stay("shelf", at(10), None),), "state": "open"}, "stay in shelf .* outside"),
            ({"stays": (Stay("shelf", at(1), None),)}, "closed, but its stay in shelf has no end"),
            ({"stays": (Stay("shelf", at(1), None),), "state": "withdrawn"}, "withdrawn, but its stay"),
            ({"crossings": (Crossing("door", at(-0.1), True),)}, "crossing of door .* outside"),
            ({"crossings": (Crossing("door", at(9.1), True),)}, "crossing of door .* outside"),
            ({"path": np.zeros((1, 2), np.float32)}, r"\(points, 3\)"),
            ({"path": np.zeros((0, 2), np.float32)}, r"\(points, 3\)"),
            ({"path": np.zeros((1, 3))}, "float32"),
            ({"path": np.array([[-1, 0, 0]], np.float32)}, "from 0 to 9 s"),
            ({"path": np.array([[9.1, 0, 0]], np.float32)}, "from 0 to 9 s"),
            ({"path": np.array([[1, np.nan, 0]], np.float32)}, "finite"),
            ({"path": np.array([[1, 0, 0], [1.9, 0, 0]], np.float32)}, "one point a second"),
            ({"path": np.array([[2, 0, 0], [1, 0, 0]], np.float32)}, "one point a second"),
            ({"path_on": "picture"}, "fractions 0 to 1"),
            ({"path_on": "wall"}, "picture or the floor"),
        ],
        ids=str,
    )
    def test_what_contradicts_itself_is_refused(self, changes, said):
        with pytest.raises(SightingError, match=said):
            sighting(**changes)

    @pytest.mark.parametrize("field", ["site", "camera", "session"])
    def test_a_key_needs_its_names(self, field):
        with pytest.raises(SightingError, match="a site, a camera, a session"):
            KEY._replace(**{field: ""})
        with pytest.raises(SightingError, match="track from 1"):
            SightingKey("shop", "door", "a", 0)

    def test_keys_have_an_order_and_a_hash(self):
        keys = [
            SightingKey("shop", "till", "a", 1),
            SightingKey("shop", "door", "a", 10),
            SightingKey("shop", "door", "a", 9),
        ]
        assert sorted(keys) == keys[::-1]
        assert len({*keys, SightingKey("shop", "till", "a", 1)}) == 3

    def test_an_open_one_may_hold_a_stay_that_lasts(self):
        lasting = sighting(state="open", stays=(Stay("till", at(5), None),))
        assert lasting.stays[0].end is None

    def test_without_an_embedding_or_a_path_it_is_whole(self):
        nothing = sighting(
            prototypes=np.empty((0, 3), np.float32),
            quality=np.empty(0, np.float32),
            pictures=np.empty(0, np.int64),
            network="",
            path=np.empty((0, 3), np.float32),
        )
        assert len(nothing.prototypes) == len(nothing.path) == 0

    def test_what_float16_makes_of_a_unit_vector_is_still_one(self):
        vectors = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        sighting(
            prototypes=vectors.astype(np.float16).astype(np.float32),
            quality=np.ones(4, np.float32),
            pictures=np.ones(4, np.int64),
        )

    def test_a_path_on_a_picture_is_in_fractions(self):
        made = sighting(path=np.array([[0, 0, 1], [2.5, 0.25, 0.5]], np.float32), path_on="picture")
        assert made.path[1].tolist() == [2.5, 0.25, 0.5]

    def test_a_path_at_a_second_s_steps_survives_rounding_late_in_a_long_sighting(self):
        seconds = 1 / 3 + np.arange(20_000)
        sighting(end=at(20_000), path=np.column_stack([seconds, seconds, seconds]).astype(np.float32), path_on="floor")

    def test_its_arrays_cannot_be_changed_from_within_or_without(self):
        vectors, quality, pictures = UNIT.copy(), np.ones(2, np.float32), np.array([1, 2])
        path = np.zeros((1, 3), np.float32)
        made = sighting(prototypes=vectors, quality=quality, pictures=pictures, path=path)
        for array in (vectors, quality, pictures, path):
            array[:] = 7
        for mine in (made.prototypes, made.quality, made.pictures, made.path):
            assert (mine != 7).all()
            with pytest.raises(ValueError, match="read-only"):
                mine[0] = 0

    def test_key_and_revision_make_it_equal(self):
        other = sighting(state="withdrawn", stays=(), prototypes=UNIT[::-1])
        assert sighting() == other
        assert hash(sighting()) == hash(other)
        assert sighting() != sighting(revision=2)
        assert sighting() != sighting(key=B)
        assert len({sighting(), other, sighting(revision=2)}) == 2


class TestPlaces:
    SQUARE = ((0, 0), (1, 0), (1, 1), (0, 1))

    @pytest.mark.parametrize(
        "corners",
        [
            SQUARE,
            SQUARE[::-1],
            ((0, 0), (1, 0), (0, 1)),
            ((0, 0), (2, 0), (2, 2), (1, 0.5), (0, 2)),  # a dent
            ((0, 0), (1, 0), (2, 0), (2, 1), (0, 1)),  # a corner in the middle of a side
        ],
    )
    def test_simple_polygons_are_zones(self, corners):
        assert Zone("shelf", corners).camera is None

    @pytest.mark.parametrize(
        ("corners", "said"),
        [
            (((0, 0), (1, 0)), "3 corners or more, got 2"),
            (((0, 0), (1, 1), (2, 2)), "one line"),
            (((0, 0), (1, 0), (0, 1), (1, 1)), "cross or touch"),  # a bow tie, not even flat
            (((0, 0), (3, 0), (3, 3), (1, 3), (2, -1)), "cross or touch"),
            (((0, 0), (2, 0), (2, 2), (1, 0), (0, 2)), "cross or touch"),  # a corner on a side
            (((0, 0), (3, 0), (1, 0), (1, 2)), "cross or touch"),  # folds back
            ((*SQUARE, (0, 0)), "each corner once"),
            (((0, 0), (1, 0), (float("nan"), 1)), "finite"),
            (((0, 0), (1, 0), (float("inf"), 1)), "finite"),
        ],
        ids=str,
    )
    def test_others_are_refused(self, corners, said):
        with pytest.raises(SightingError, match=said):
            Zone("shelf", corners)

    def test_on_a_picture_they_are_in_fractions(self):
        assert Zone("shelf", self.SQUARE, "door").camera == "door"
        assert Line("line", (0, 0.5), (1, 0.5), "door").camera == "door"
        with pytest.raises(SightingError, match=r"fractions 0 to 1, got \(640, 0\)"):
            Zone("shelf", ((0, 0), (640, 0), (640, 360)), "door")
        with pytest.raises(SightingError, match="fractions 0 to 1"):
            Line("line", (0, 0), (2, 1), "door")
        assert Zone("shelf", self.SQUARE) != Zone("shelf", self.SQUARE, "door")

    def test_names_and_ends_are_needed(self):
        for make in (
            lambda: Zone("", self.SQUARE),
            lambda: Zone("shelf", self.SQUARE, ""),
            lambda: Line("", (0, 0), (1, 0)),
            lambda: Line("door", (0, 0), (0, 0)),
            lambda: Line("door", (0, 0), (0, float("nan"))),
            lambda: Stay("", NOON, None),
            lambda: Stay("shelf", NOON, at(-1)),
            lambda: Crossing("", NOON, True),
            lambda: Crossing("door", NOON.replace(tzinfo=None), True),
        ):
            with pytest.raises(SightingError):
                make()


class TestLink:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"later": A}, "two sightings"),
            ({"revision": 0}, "count from 1"),
            ({"probability": 1.1}, "0 to 1"),
            ({"probability": float("nan")}, "0 to 1"),
            ({"runner_up_probability": -0.1}, "0 to 1"),
            ({"runner_up_probability": 0.7}, "likelier|together 1"),
            ({"probability": 0.3, "runner_up_probability": 0.4}, "likelier, 0.4 against 0.3"),
            ({"probability": 0.6, "runner_up_probability": 0.5}, "together 1"),
            ({"runner_up": None}, "no key"),
            ({"runner_up": A}, "one of the two"),
            ({"runner_up": B}, "one of the two"),
            ({"later": ELSEWHERE}, "one site"),
            ({"runner_up": ELSEWHERE}, "one site"),
        ],
        ids=str,
    )
    def test_what_contradicts_itself_is_refused(self, changes, said):
        with pytest.raises(SightingError, match=said):
            replace(Link(A, B, 1, 0.6, C, 0.3), **changes)

    def test_all_of_it_makes_it_equal(self):
        assert Link(A, B, 1, 0.6) == Link(A, B, 1, 0.6)
        assert Link(A, B, 1, 0.6) != Link(A, B, 2, 0.6)
        assert Link(A, B, 1, 0.6).runner_up is None


def visit(name="v1", revision=1, sightings=(A, B), **changes):
    return Visit("shop", name, revision, sightings, NOON, at(60), **changes)


class TestVisit:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"site": ""}, "a site, a name"),
            ({"name": ""}, "a site, a name"),
            ({"revision": 0}, "revision from 1"),
            ({"end": at(-1)}, "before it starts"),
            ({"person": ""}, "person to be a name or None"),
            ({"merged_into": "", "sightings": ()}, "merged_into to be a name"),
            ({"split_from": ""}, "split_from to be a name"),
            ({"split_from": "v1"}, "from itself"),
            ({"merged_into": "v1", "sightings": ()}, "from itself"),
            ({"sightings": ()}, "expected sightings, got none"),
            ({"merged_into": "v2"}, "has its sightings now"),
            ({"sightings": (A, B, A)}, "twice"),
            ({"sightings": (A, ELSEWHERE)}, "one site, got 'shop' and 'other shop'"),
        ],
        ids=str,
    )
    def test_what_contradicts_itself_is_refused(self, changes, said):
        with pytest.raises(SightingError, match=said):
            replace(visit(), **changes)

    def test_an_absorbed_visit_is_never_counted(self):
        one, other = visit(), visit("v2", sightings=(C,))
        both = visit(revision=2, sightings=(A, B, C))
        absorbed = visit("v2", 2, (), merged_into="v1")
        assert current([one, other]) == [one, other]
        for order in ([one, other, both, absorbed], [absorbed, both, other, one], [both, one, absorbed, other, other]):
            kept = current(order)
            assert kept == [both]
            assert len({key for each in kept for key in each.sightings}) == sum(len(v.sightings) for v in kept)

    def test_what_was_absorbed_can_come_back(self):
        absorbed, back = visit("v2", 2, (), merged_into="v1"), visit("v2", 3, (C,), split_from="v1")
        assert current([back, absorbed]) == [back]

    def test_names_belong_to_their_site(self):
        there = Visit("other shop", "v1", 2, (ELSEWHERE,), NOON, NOON)
        assert current([there, visit()]) == [there, visit()]  # both start at noon

    def test_two_that_differ_under_one_number_are_refused(self):
        with pytest.raises(SightingError, match="two that differ are called revision 1"):
            current([visit(), visit(sightings=(A,))])


class TestPartition:
    @pytest.mark.parametrize(
        ("people", "false", "said"),
        [
            (((A, B), ()), (), "a sighting or more"),
            (((A, B), (B, C)), (), "twice"),
            (((A, B),), (A,), "twice"),
            (((A,),), (C, C), "twice"),
            (((A,), (ELSEWHERE,)), (), "one site"),
        ],
        ids=str,
    )
    def test_what_contradicts_itself_is_refused(self, people, false, said):
        with pytest.raises(SightingError, match=said):
            Partition(people, false)

    def test_two_are_equal_if_they_share_alike(self):
        assert Partition(((B, C), (A,)), (D,)) == Partition(((A,), (B, C)), (D,))
        assert Partition(((A,), (B,)), (D, C)) == Partition(((B,), (A,)), (C, D))
        assert Partition(((A, B),)) != Partition(((B, A),))
        assert Partition(((A,), (B,))) != Partition(((A, B),))
        assert Partition(((A, B),)) != Partition(((A,),), (B,))
        assert len({Partition(((B,), (A,))), Partition(((A,), (B,)))}) == 1

    def test_nobody_at_all_is_one_way(self):
        assert Partition(()).people == ()
