"""Trackers against the rates of error that their shop states: each error at 0, and at its rate."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from passerby.simulate.plan import TrackerPlan
from passerby.simulate.tracking import Piece, Track, nearest, tracked
from passerby.simulate.watching import InView

FPS = 10.0


def view(person, start, end, *, camera=0, way=None, found=True, stays=(), crossings=()):
    """Somebody in view who stands still, unless told the way, (seconds, x, y)."""
    way = np.array(way if way is not None else [(start, 10.0 * person, 0.0), (end, 10.0 * person, 0.0)])
    return InView(camera, start, end, 3.0, person, person, way, list(stays), list(crossings), found=found)


def walkers(*, n, gap_s=30.0):
    """Pairs of people who meet: one walks along y = 0, the other comes towards and passes at 0.5 m after 5 of 10 s."""
    for i in range(n):
        at = gap_s * i
        yield view(2 * i + 1, at, at + 10, way=[(at, 0.0, 0.0), (at + 10, 10.0, 0.0)])
        yield view(2 * i + 2, at, at + 10, way=[(at, 10.0, 0.5), (at + 10, 0.0, 0.5)])


@pytest.fixture
def erring(shop):
    """A shop whose cameras' trackers err as told."""

    def make(**errors):
        cameras = tuple(replace(camera, fps=FPS, tracker=TrackerPlan(**errors)) for camera in shop.cameras)
        return replace(shop, cameras=cameras)

    return make


def tracks(shop, views, seed=0):
    return list(tracked(views, shop, np.random.default_rng(seed)))


def people(track):
    return [piece.view.person for piece in track.pieces]


def binomial(found, n, p):
    """Whether so many of n are within four deviations of what p asks for."""
    return abs(found - n * p) <= 4 * np.sqrt(n * p * (1 - p))


def test_without_errors_each_time_in_view_is_one_track(erring):
    came = [view(1, 0.0, 9.0), view(2, 1.0, 3.0, found=False), view(3, 1.0, 4.0, camera=1), view(4, 2.0, 2.5)]
    made = tracks(erring(), came)
    assert [people(track) for track in made] == [[1], [2], [3], [4]]
    assert [track.missed for track in made] == [False, True, False, False]
    assert [(track.start_s, track.end_s) for track in made] == [(v.start_s, v.end_s) for v in came]
    assert [track.person for track in made] == [1, 2, 3, 4]


def test_a_break_gives_the_same_person_another_track_a_moment_later(erring):
    (first, *others) = tracks(erring(breaks_per_min=6.0), [view(1, 0.0, 60.0)], seed=1)
    assert others
    assert first.start_s == 0
    for before, after in pairwise([first, *others]):
        assert people(after) == [1]
        assert 0.2 < after.start_s - before.end_s < 2.2
        assert before.end_s * FPS == pytest.approx(round(before.end_s * FPS))
        assert after.start_s * FPS == pytest.approx(round(after.start_s * FPS))


def test_tracks_break_at_their_rate(erring):
    came = [view(i + 1, 100.0 * i, 100.0 * i + 60) for i in range(1000)]
    breaks = len(tracks(erring(breaks_per_min=2.0), came)) - len(came)
    # one less where it breaks just before the end, or while it is already broken: a moment of 1.15 s in 30
    assert 0.92 * 2000 - 4 * np.sqrt(2000) < breaks < 2000 + 4 * np.sqrt(2000)
    assert abs(breaks - 1500) > 4 * np.sqrt(2000)  # another rate would be seen


def test_two_who_meet_exchange_the_rest_of_their_tracks(erring):
    one, other = tracks(erring(swaps=1.0), walkers(n=1))
    assert (people(one), people(other)) == ([1, 2], [2, 1])
    (_, _, until), (_, since, _) = one.pieces
    assert until == pytest.approx(5.0)  # where they are nearest
    assert since == pytest.approx(5.0 + 1 / FPS)
    assert (one.start_s, one.end_s) == (other.start_s, other.end_s) == (0, 10)


def test_two_who_meet_are_one_track_until_the_last_of_them_leaves(erring):
    early, late = walkers(n=1)
    late.end_s = 14.0
    older, younger = tracks(erring(merges=1.0), [early, late])
    assert people(older) == [1, 2]
    assert (older.start_s, older.end_s) == (0, 14)
    assert [piece[1:] for piece in older.pieces] == [(0, 10), (pytest.approx(5.1), 14)]
    assert (people(younger), younger.end_s) == ([2], pytest.approx(5.0))
    assert older.person == 1  # 10 s against 8.9


def test_who_never_meets_keeps_the_track(erring):
    shop = erring(swaps=0.5, merges=0.5)
    far = [view(1, 0.0, 10.0), view(2, 0.0, 10.0)]  # 10 m apart
    elsewhere = [view(1, 0.0, 10.0), view(1, 0.0, 10.0, camera=1)]
    after = [view(1, 0.0, 10.0), view(1, 10.0, 20.0)]
    for came in (far, elsewhere, after):
        assert [len(track.pieces) for track in tracks(shop, came)] == [1, 1]


def test_whom_the_camera_missed_is_taken_for_nobody_else(erring):
    early, late = walkers(n=1)
    late.found = False
    assert [people(track) for track in tracks(erring(swaps=1.0), [early, late])] == [[1], [2]]


@pytest.mark.parametrize(("swaps", "merges"), [(0.2, 0.1), (0.0, 0.4), (0.7, 0.3)])
def test_tracks_are_exchanged_and_merged_at_their_rates(erring, swaps, merges):
    n = 2000
    made = tracks(erring(swaps=swaps, merges=merges), walkers(n=n))
    merged = sum(track.end_s - track.start_s < 9 for track in made)
    swapped = sum(len(track.pieces) == 2 and track.pieces[0].until_s < track.pieces[1].since_s for track in made) / 2
    assert binomial(merged, n, merges)
    assert binomial(swapped, n, swaps)
    assert not binomial(merged, n, merges + 0.1)  # another rate would be seen
    assert not binomial(swapped, n, swaps + 0.1)


def test_every_moment_of_who_was_found_is_in_a_track_but_for_breaks(erring):
    """Swaps and merges lose a frame at each exchange; they lose nobody."""
    shop = erring(swaps=0.3, merges=0.3)
    rng = np.random.default_rng(5)
    came, at = [], 0.0
    for person in range(1, 300):
        at = round((at + rng.exponential(2.0)) * FPS) / FPS
        ends = round((at + rng.uniform(2, 20)) * FPS) / FPS
        came.append(view(person, at, ends, way=[(at, *rng.uniform(0, 5, 2)), (ends, *rng.uniform(0, 5, 2))]))
    held = dict.fromkeys(range(1, 300), 0.0)
    made = tracks(shop, came)
    for track in made:
        for piece in track.pieces:
            held[piece.view.person] += piece.until_s - piece.since_s
            assert piece.view.start_s <= piece.since_s < piece.until_s <= piece.view.end_s
    for each in came:
        assert 0 <= each.end_s - each.start_s - held[each.person] < 3.0
    assert sum(len(track.pieces) > 1 for track in made) > 100
    opened = [track.opened_s for track in made]
    assert opened == sorted(opened)


def test_the_same_seed_gives_the_same_tracks(erring):
    shop = erring(swaps=0.3, merges=0.3, breaks_per_min=3.0)

    def pieces(seed):
        return [[(p.view.person, p.since_s, p.until_s) for p in t.pieces] for t in tracks(shop, walkers(n=50), seed)]

    assert pieces(1) == pieces(1) != pieces(2)


def test_the_nearest_moment_of_two_people():
    early, late = walkers(n=1)
    assert nearest(early, late) == (5.0, 0.5)
    assert nearest(early, view(9, 10.0, 12.0))[1] == np.inf
    nowhere = InView(0, 0.0, 10.0, 3.0, None, None)
    assert nearest(early, nowhere)[1] == np.inf


class TestTrack:
    def test_who_holds_it_by_the_hand(self):
        one, other = view(1, 0.0, 6.0), view(2, 0.0, 20.0)
        track = Track(0, 0.0, pieces=[Piece(one, 0.0, 6.0), Piece(other, 4.0, 10.0)])
        assert [(v.person, s) for v, s in track.shares(0.0, 10.0)] == [(1, 0.5), (2, 0.5)]
        assert [(v.person, s) for v, s in track.shares(0.0, 5.0)] == [
            (1, pytest.approx(5 / 6)),
            (2, pytest.approx(1 / 6)),
        ]
        assert [(v.person, s) for v, s in track.shares(7.0, 9.0)] == [(2, 1.0)]
        assert track.person == 1  # the first of equals

    def test_somebody_twice_in_it_holds_both_pieces(self):
        one, other = view(1, 0.0, 20.0), view(2, 0.0, 20.0)
        track = Track(0, 0.0, pieces=[Piece(one, 0.0, 3.0), Piece(other, 3.1, 8.0), Piece(one, 8.1, 10.5)])
        assert track.person == 1

    def test_its_path_follows_whoever_holds_it(self):
        one = view(1, 0.0, 5.0, way=[(0, 0, 0), (10, 10, 0)])
        other = view(2, 0.0, 20.0, way=[(0, 0, 7), (20, 20, 7)])
        track = Track(0, 0.0, pieces=[Piece(one, 0.0, 5.0), Piece(other, 3.0, 7.5)])
        expected = [(t, t, 0 if t < 5 else 7) for t in range(8)]  # of two at once the first
        np.testing.assert_allclose(track.path(), expected)
        assert track.path().dtype == np.float32

    def test_its_path_does_not_leave_with_who_left(self):
        one = view(1, 0.0, 2.0, way=[(0, 0, 0), (10, 10, 0)])
        assert Track(0, 0.0, pieces=[Piece(one, 0.0, 2.0)]).path()[-1].tolist() == [2, 2, 0]

    def test_one_prototype_every_two_seconds(self):
        def parts(seconds):
            return Track(0, 3.0, pieces=[Piece(view(1, 3.0, 3.0 + seconds), 3.0, 3.0 + seconds)]).prototypes()

        assert [len(parts(s)) for s in (0.5, 2.0, 3.9, 100.0)] == [1, 2, 2, 4]
        assert parts(4.5) == [(3.0, 4.5), (4.5, 6.0), (6.0, 7.5)]


def places(erring, *, n=4000, **errors):
    """The stays and crossings of many tracks of 0 to 40 s, each with a stay from 10 to 30 s and a crossing at 20 s."""
    came = (
        view(1, 50.0 * i, 50.0 * i + 40, stays=[(1, 50 * i + 10, 50 * i + 30)], crossings=[(0, 50 * i + 20, True)])
        for i in range(n)
    )
    made = tracks(erring(**errors), came)
    stays = [[(a - t.start_s, b - t.start_s) for _, a, b in t.stays] for t in made]
    crossings = [[(at - t.start_s, inwards) for _, at, inwards in t.crossings] for t in made]
    return stays, crossings


def test_without_errors_stays_and_crossings_are_as_they_were(erring):
    stays, crossings = places(erring, n=10)
    assert stays == [[(10, 30)]] * 10
    assert crossings == [[(20, True)]] * 10


def test_edges_are_late_and_early_by_their_deviation(erring):
    stays, crossings = places(erring, edge_s=1.5)
    starts, ends = np.array([mine[0] for mine in stays]).T
    times = np.array([mine[0][0] for mine in crossings])
    for found, true in ((starts, 10), (ends, 30), (times, 20)):
        assert found.mean() == pytest.approx(true, abs=4 * 1.5 / np.sqrt(4000))
        assert found.std() == pytest.approx(1.5, rel=0.05)
    assert abs(np.corrcoef(starts, ends)[0, 1]) < 0.07


def test_edges_stay_within_the_track(erring):
    came = [
        view(1, 50.0 * i, 50.0 * i + 40, stays=[(1, 50 * i, 50 * i + 40)], crossings=[(0, 50 * i, True)])
        for i in range(99)
    ]
    for track in tracks(erring(edge_s=3.0), came):
        assert all(track.start_s <= a < b <= track.end_s for _, a, b in track.stays)
        assert all(track.start_s <= at <= track.end_s for _, at, _ in track.crossings)


def test_a_flicker_interrupts_a_stay_and_crosses_a_line_twice_more(erring):
    stays, crossings = places(erring, flicker=0.2)
    broken = [mine for mine in stays if len(mine) == 2]
    assert binomial(len(broken), 4000, 0.2 * 0.97)  # a few begin at the very end
    gaps = np.array([b[0] - a[1] for a, b in broken])
    assert gaps.min() > 0.2 - 1e-9
    assert gaps.max() < 1.5 + 1e-9
    dithering = [mine for mine in crossings if len(mine) == 3]
    assert binomial(len(dithering), 4000, 0.2)
    assert all([inwards for _, inwards in mine] == [True, False, True] for mine in dithering)


def test_a_piece_of_a_stay_and_a_whole_crossing_are_lost(erring):
    stays, crossings = places(erring, lost=0.3)
    lasted = np.array([sum(b - a for a, b in mine) for mine in stays])
    assert binomial(int((lasted < 19.99).sum()), 4000, 0.3)
    short = lasted[lasted < 19.99]
    assert 20 * 0.2 - 1e-6 <= short.min() < short.max() <= 20 * 0.8 + 1e-6
    assert short.mean() == pytest.approx(10, abs=0.6)
    assert binomial(sum(not mine for mine in crossings), 4000, 0.3)


def test_a_stay_goes_on_where_tracks_are_exchanged_in_one_zone(erring):
    early, late = walkers(n=1)
    early.stays, late.stays = [(1, 2.0, 9.0)], [(1, 0.0, 8.0)]
    early.crossings, late.crossings = [(0, 1.0, True)], [(0, 7.0, False)]
    one, other = tracks(erring(swaps=1.0), [early, late])
    assert one.stays == [(1, 2.0, 8.0)]
    assert other.stays == [(1, 0.0, 9.0)]
    assert one.crossings == [(0, 1.0, True), (0, 7.0, False)]
    assert other.crossings == []


def test_two_people_in_one_track_are_where_the_first_of_them_is(erring):
    """Both go in at the door, and it is counted once."""
    early, late = walkers(n=1)
    late.end_s = 14.0
    early.stays, late.stays = [(1, 4.0, 9.0)], [(2, 5.5, 13.0)]
    early.crossings, late.crossings = [(0, 7.0, True)], [(0, 7.8, True), (0, 12.0, False)]
    (older, _) = tracks(erring(merges=1.0), [early, late])
    assert older.crossings == [(0, 7.0, True), (0, 12.0, False)]
    assert older.stays == [(1, 4.0, 9.0), (2, 10.0, 13.0)]
