from dataclasses import replace

import av
import numpy as np
import pytest

from passerby.simulate.footage import film, mot_line, wardrobe
from passerby.simulate.people import Visit
from passerby.simulate.plan import Looks
from passerby.simulate.scene import Atlas, Box
from passerby.types import SimulationError


@pytest.fixture
def filmed(shop):
    return replace(shop, cameras=tuple(replace(c, fps=6.0, width_px=320, height_px=180) for c in shop.cameras))


def test_a_line_of_truth():
    assert mot_line(1, Box(7, 3, (10.0, 20.0, 30.4, 60.0), 0.5)) == "1,3,10,20,20,40,1,1,0.50\n"


def test_a_film_holds_its_frames_and_their_truth(filmed, drawn_atlas, tmp_path):
    people = film(filmed, tmp_path, Atlas(drawn_atlas), seed=1, duration_s=20.0)
    assert people > 1
    for camera in filmed.cameras:
        with av.open(str(tmp_path / f"{camera.name}.mp4")) as file:
            assert sum(1 for _ in file.decode(video=0)) == 120
        rows = np.loadtxt(tmp_path / "truth" / f"{camera.name}.txt", delimiter=",", ndmin=2)
        if len(rows):
            frames, boxes = rows[:, 0], rows[:, 2:6]
            assert frames.min() >= 1
            assert frames.max() <= 120
            assert (boxes >= 0).all()
            assert (boxes[:, 0] + boxes[:, 2] <= 320).all()
    assert (tmp_path / "truth" / "visits.jsonl").is_file()


def test_cameras_of_different_rates_are_refused(shop, drawn_atlas, tmp_path):
    with pytest.raises(SimulationError, match="one frame rate"):
        film(shop, tmp_path, Atlas(drawn_atlas), seed=1, duration_s=1.0)


def test_staff_wear_a_uniform_and_look_alikes_the_clothes_of_another(shop, drawn_atlas):
    def visit(person):
        return Visit(abs(person) + 1000 * (person < 0), person, 1, 0, 0.0, 1.0, 1.0, (), staff=person < 0)

    came = [visit(n) for n in (*range(1, 40), -1, -2)]
    worn = wardrobe(replace(shop, looks=Looks(look_alikes=0.5)), came, Atlas(drawn_atlas), seed=1)
    assert worn[1001].colours[2] == worn[1002].colours[2]
    tops = [worn[n].colours[2:4] for n in range(1, 40)]
    assert 8 < len(tops) - len(set(tops)) < 32
