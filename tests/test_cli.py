import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from passerby.__main__ import app
from passerby.types import PasserbyError

ROOT = Path(__file__).parents[1]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def two(drawn):
    return sorted((drawn / "query").iterdir())[:2]


def test_evaluate_prints_json_of_fractions_with_intervals(small_model, drawn):
    figures = json.loads(run("evaluate", "--model", small_model, "--data", f"market1501:{drawn}", "--json", "-"))
    for name in ("rank1", "rank5", "rank10", "rank20", "map", "minp"):
        figure = figures[name]
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert figures["protocol"] == "market1501"
    assert (figures["people"], figures["cameras"], figures["queries"]) == (20, 3, 60)


def test_evaluate_prints_a_table(small_model, drawn):
    text = run("evaluate", "--model", small_model, "--data", f"market1501:{drawn}")
    assert "map" in text
    assert "20 people, 3 cameras, 60 queries, 0 skipped" in text


def test_evaluate_re_ranks_and_says_so(small_model, drawn, tmp_path):
    common = ("evaluate", "--model", small_model, "--data", f"market1501:{drawn}")
    assert "re-ranked" in run(*common, "--rerank")
    plain, reranked = (json.loads(run(*common, *more, "--json", "-")) for more in ((), ("--rerank",)))
    assert (plain["reranked"], reranked["reranked"]) == (False, True)
    assert plain["map"]["value"] != reranked["map"]["value"]
    with pytest.raises(PasserbyError, match="without re-ranking"):
        run(*common, "--rerank", "--card", tmp_path)


def test_evaluate_keeps_figures_in_the_card_and_those_of_a_peer_beside_them(small_model, drawn, tmp_path):
    copy, peer = tmp_path / "copy", tmp_path / "peer"
    shutil.copytree(small_model, copy)
    shutil.copytree(small_model, peer)
    changed = (peer / "model.onnx").read_bytes() + b"\x52\x01x"  # an unknown field, which readers skip
    (tmp_path / "other.onnx").write_bytes(changed)
    for model in (copy, copy, tmp_path / "other.onnx"):
        run("evaluate", "--model", model, "--precision", "fp32", "--data", f"market1501:{drawn}", "--card", copy)
    own, other = json.loads((copy / "card.json").read_text())["accuracy"]
    assert (own["peer"], other["peer"]) == (None, "other")
    assert own["protocol"] == "market1501"
    assert own["figures"]["map"] == other["figures"]["map"]
    assert (own["people"], own["seen_by"], own["queries"]) == (20, 3, 60)
    assert "passerby evaluate" in own["command"]
    assert "--precision fp32" in own["command"]


def test_a_printed_command_keeps_the_precision_that_auto_meant(small_model, drawn, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small_model, copy)
    run("evaluate", "--model", copy, "--data", f"market1501:{drawn}", "--card", copy)
    (kept,) = json.loads((copy / "card.json").read_text())["accuracy"]
    assert f"--precision {kept['precision']}" in kept["command"]


def test_calibrate_wraps_a_file_without_card(small_model, drawn, tmp_path):
    # the small model's own file takes uint8, so its description is not needed
    text = run(
        "calibrate",
        "--model",
        small_model / "model.onnx",
        "--data",
        f"market1501:{drawn}",
        "--people",
        14,
        "--out",
        tmp_path / "m",
    )
    assert "Cllr" in text
    assert "high-precision" in text
    assert json.loads((tmp_path / "m" / "card.json").read_text())["calibrations"]["fp32"]
    run("compare", *sorted((drawn / "query").iterdir())[:2], "--model", tmp_path / "m")


def test_calibrate_refuses_to_check_on_the_people_it_fits(small_model, drawn):
    with pytest.raises(PasserbyError, match="both fitted on and checked on"):
        run("calibrate", "--model", small_model, "--data", f"market1501:{drawn}", "--split", "test")


def test_calibrate_takes_either_labelled_data_or_a_site():
    site = ("--site", "x.csv", "--out", "site")
    for options in ((), ("--data", "csv:x.csv", "--site", "x.csv"), ("--site", "x.csv"), (*site, "--check", "dev")):
        result = CliRunner().invoke(app, ["calibrate", "--model", "osnet_x0_75", *options])
        assert result.exit_code == 2
        assert "--site" in result.output


def test_calibrate_on_a_site_of_ones_own(small_model, drawn, tmp_path):
    """As docs/evaluation.md says: a manifest with some people to fit on and others to check on."""
    crops = sorted((drawn / "bounding_box_test").iterdir())
    rows = [f"{p},{p.name[:4]},{p.name[5:7]},{'dev' if p.name < '0029' else 'test'}" for p in crops]
    (tmp_path / "site.csv").write_text("\n".join(["path,person,camera,split", *rows]))
    common = ("calibrate", "--model", small_model, "--data", f"csv:{tmp_path / 'site.csv'}")
    found = json.loads(run(*common, "--out", tmp_path / "mine", "--name", "mine", "--json", "-"))
    assert found["fp32"]["people"] == 8
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    assert card["name"] == "mine"
    assert card["calibrations"]["fp32"]["fitted_on"] == "site/dev (12 people)"


def test_the_command_in_a_card_says_what_was_measured(small_model, drawn, tmp_path):
    copy = shutil.copytree(small_model, tmp_path / "co py")
    common = ("--data", f"market1501:{drawn}", "--card", copy, "--split", "dev", "--people", 5, "--skip-unreadable")
    run("evaluate", "--model", copy, *common)
    (entry,) = json.loads((copy / "card.json").read_text())["accuracy"]
    precision = f"--precision {entry['precision']}"
    assert entry["command"].endswith(f"--data market1501:{drawn} --split dev --people 5 {precision} --skip-unreadable")
    assert f"--model '{copy}' " in entry["command"]


def test_a_card_to_keep_figures_in_is_looked_for_before_the_work(small_model, tmp_path):
    with pytest.raises(PasserbyError, match=r"expected card\.json"):
        run("evaluate", "--model", small_model, "--data", "market1501:none", "--card", tmp_path)


def test_an_unreadable_picture_is_named_when_it_is_left_out(small_model, drawn, tmp_path):
    root = shutil.copytree(drawn, tmp_path / "people")
    broken = sorted((root / "bounding_box_test").iterdir())[0]
    broken.write_bytes(b"no picture")
    common = ("evaluate", "--model", small_model, "--data", f"market1501:{root}")
    result = CliRunner().invoke(app, [*map(str, common), "--skip-unreadable"], catch_exceptions=False)
    assert "1 pictures could not be decoded" in result.stderr
    assert broken.name in result.stderr.replace("\n", "")
    with pytest.raises(PasserbyError, match=broken.name):
        run(*common)


def test_figures_that_do_not_exist_are_left_open(small_model, drawn, tmp_path):
    """One person alone: there is no stranger to tell them from."""
    root = tmp_path / "one"
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        (root / part).mkdir(parents=True)
        for path in (drawn / part).glob("0017*" if part != "bounding_box_train" else "0001*"):
            shutil.copy(path, root / part)
    common = ("--model", small_model, "--data", f"market1501:{root}")
    assert json.loads(run("evaluate", *common, "--json", "-"))["eer"]["value"] is None
    assert "100.0%" in run("evaluate", *common)
    run("report-model", *common, "--out", tmp_path / "r.html")


def test_report_is_one_page_with_curves_and_no_crops_unless_asked(small_model, drawn, tmp_path):
    page = tmp_path / "r.html"
    run("report-model", "--model", small_model, "--data", f"market1501:{drawn}", "--out", page)
    text = page.read_text()
    assert "Rank-1" in text
    assert "<polyline" in text
    assert "data:image" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    run("report-model", "--model", small_model, "--data", f"market1501:{drawn}", "--out", page, "--show-crops")
    assert page.read_text().count("data:image/jpeg") > 20


def test_embed_writes_vectors_and_paths(small_model, two, tmp_path):
    run("embed", *two, "--out", tmp_path / "v.npz", "--model", small_model)
    with np.load(tmp_path / "v.npz") as stored:
        assert stored["embeddings"].shape == (2, 512)
        assert stored["paths"].tolist() == [str(p) for p in two]
    printed = json.loads(run("embed", *two, "--json", "-", "--model", small_model))
    assert len(printed[str(two[0])]) == 512


def test_the_file_of_vectors_has_the_name_that_was_asked_for(small_model, two, tmp_path):
    run("embed", two[0], "--out", tmp_path / "vectors", "--model", small_model)
    assert [p.name for p in tmp_path.iterdir()] == ["vectors"]


def test_embed_without_a_target_says_so(two):
    with pytest.raises(PasserbyError, match="--out"):
        run("embed", *two)


def test_compare_says_probability_and_verdict(small_model, two):
    text = run("compare", *two, "--model", small_model)
    assert "probability" in text
    found = json.loads(run("compare", *two, "--model", small_model, "--json", "-"))
    assert found.keys() == {"same", "probability", "similarity", "llr", "quality"}


def test_search_in_a_folder_a_person_and_in_a_saved_gallery(small_model, drawn, tmp_path):
    pictures = sorted((drawn / "bounding_box_test").iterdir())[:18]  # nine of each of two people
    for path in pictures:
        (tmp_path / "people" / path.name[:4]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "people" / path.name[:4] / path.name).write_bytes(path.read_bytes())
    common = ("--model", small_model, "--json", "-")
    first = json.loads(
        run("search", pictures[0], "--gallery", tmp_path / "people", "--save", tmp_path / "g.npz", *common)
    )
    again = json.loads(run("search", pictures[0], "--gallery", tmp_path / "g.npz", *common))
    assert first == again
    assert {m["person"] for m in first[str(pictures[0])]["matches"]} == {"0017", "0018"}
    assert "nobody of the gallery" in run(
        "search", pictures[0], "--gallery", tmp_path / "g.npz", "--model", small_model
    )


def test_system_files_beside_a_gallerys_pictures_are_no_pictures(small_model, two, tmp_path):
    for person, picture in zip(("anna", "bert"), two, strict=True):
        (tmp_path / person).mkdir()
        shutil.copy(picture, tmp_path / person / "0.jpg")
        for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
            (tmp_path / person / name).write_bytes(b"x")
    (tmp_path / "desktop.ini").write_bytes(b"x")
    command = ["search", str(two[0]), "--gallery", str(tmp_path), "--model", str(small_model), "--json", "-"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert {m["person"] for m in json.loads(result.stdout)[str(two[0])]["matches"]} == {"anna", "bert"}
    assert "2 people, no cameras, 2 pictures (a folder a person: anna/" in result.stderr
    shutil.copy(two[0], tmp_path)
    with pytest.raises(PasserbyError, match="2 as a folder a person and 1 otherwise: 0017"):
        run(*command)


def test_a_person_without_pictures_is_named(small_model, two, tmp_path):
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / ".hidden").write_text("")
    with pytest.raises(PasserbyError, match="anna: expected pictures of one person"):
        run("search", two[0], "--gallery", tmp_path, "--model", small_model)


def test_brackets_in_a_files_name_are_printed_as_they_are(small_model, two, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("a[left].jpg", "a[/b].jpg")
    Path("a[").mkdir()
    for name in names:
        shutil.copy(two[0], name)
    text = run("group", *names, "--model", small_model)
    assert all(name in text for name in names)


def test_group_counts_people(small_model, two):
    found = json.loads(run("group", two[0], two[0], "--model", small_model, "--json", "-"))
    assert found["people"]["value"] == found["groups"] == 1


def test_bench_measures_each_precision(small_model):
    found = json.loads(run("bench", "--model", small_model, "--seconds", "0.1", "--json", "-"))
    assert found["images_per_s"]["fp32"]["8"] > 0


def test_train_export_evaluate_from_one_recipe(drawn, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'name = "tiny"\narchitecture = "osnet_x0_25"\ndata = ["market1501:{drawn}"]\ndev_people = 4\npeople = 4\n'
        "pictures_each = 3\n[[stages]]\nheight = 64\nwidth = 32\nsteps = 2\n"
    )
    assert "2 steps" in run("train", recipe, "--out", tmp_path / "run")
    run("export", tmp_path / "run" / "weights.pt", "--recipe", recipe, "--out", tmp_path / "model")
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["trained_on"][0]["people"] == 12
    assert card["commercial_use"] == "unclear"
    run("evaluate", "--model", tmp_path / "model", "--data", f"market1501:{drawn}")


def test_a_run_and_its_card_do_without_a_set_that_is_left_out(drawn, tmp_path):
    recipe = tmp_path / "r.toml"
    shutil.copytree(drawn, tmp_path / "other")
    recipe.write_text(
        f'name = "tiny"\narchitecture = "osnet_x0_25"\ndata = ["market1501:{drawn}", "north=market1501:{tmp_path / "other"}"]\n'
        "dev_people = 4\npeople = 4\npictures_each = 3\n[[stages]]\nheight = 64\nwidth = 32\nsteps = 1\n"
    )
    run("train", recipe, "--out", tmp_path / "run", "--leave-out", "north=market1501")
    common = ("--recipe", recipe, "--out", tmp_path / "model", "--leave-out", "north=market1501")
    run("export", tmp_path / "run" / "weights.pt", *common)
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert [data["name"] for data in card["trained_on"]] == ["market1501"]


def write_four_data_sets(root: Path, people: int = 40) -> list[str]:
    """Market-1501, DukeMTMC-reID, CUHK03 and LaST as they are released, drawn small: the specs of the four."""
    rng = np.random.default_rng(0)

    def draw(*names: str) -> None:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 100, (32, 16, 3))
            Image.fromarray((noise + colour).astype(np.uint8)).save(root / name)

    for p in range(1, people + 1):
        colour = rng.integers(0, 156, 3)
        learnt, seen = p <= people // 2, (1, 2)
        market = [f"{p:04d}_c{c}s1_00{p:02d}{t}0_0{t}.jpg" for c in seen for t in (1, 2)]
        duke = [f"{p:04d}_c{c}_f00000{p:02d}.jpg" for c in seen]
        duke_more = [f"{p:04d}_c{c}_f00001{p:02d}.jpg" for c in seen]
        if learnt:
            draw(*(f"market/bounding_box_train/{name}" for name in market))
            draw(*(f"duke/bounding_box_train/{name}" for name in duke + duke_more))
        else:
            draw(f"market/query/{market[0]}", *(f"market/bounding_box_test/{name}" for name in market[1:]))
            draw(*(f"duke/query/{name}" for name in duke), *(f"duke/bounding_box_test/{name}" for name in duke_more))
        draw(*(f"cuhk/images_detected/1_{p:03d}_{v}_0{i}.jpg" for v in seen for i in (1, 2)))
        if learnt:
            draw(*(f"last/train/{p:06d}/{p:06d}_{i:04d}.jpg" for i in range(4)))
        else:
            part = "val" if p % 4 == 0 else "test"
            draw(f"last/{part}/query/{p:06d}_0000.jpg")
            draw(*(f"last/{part}/gallery/{p:06d}/{p:06d}_{i:04d}.jpg" for i in (1, 2, 3)))
    draw("market/bounding_box_test/0000_c1s1_000151_01.jpg", "market/bounding_box_test/-1_c1s1_000401_03.jpg")
    numbers = list(range(1, people + 1))
    split = {"train": numbers[: people // 2], "test": numbers[people // 2 :]}
    (root / "cuhk" / "split.json").write_text(json.dumps(split))
    return [f"market1501:{root}/market", f"dukemtmc:{root}/duke", f"cuhk03:{root}/cuhk", f"last:{root}/last"]


def test_the_four_data_set_recipe_from_the_released_folders_to_figures(tmp_path):
    """As the recipe's first lines say, with a smaller network and three steps."""
    data = [word for spec in write_four_data_sets(tmp_path) for word in ("--data", spec)]
    union = tmp_path / "runs" / "four_datasets.csv"
    text = run("split", *data, "--out", union)
    assert "train: 128 people, 512 pictures" in text
    assert "dev: 16 people, 64 pictures" in text
    assert "test: 16 people, 64 pictures" in text
    assert "32 test queries; left out: 0 training pictures" in text
    recipe = tmp_path / "recipe.toml"
    small = {"people = 32": "people = 4", "x0_75": "x0_25", "height = 128": "height = 64", "width = 64": "width = 32"}
    small |= {"steps = 30000": "steps = 2", "height = 256": "height = 96", "width = 128": "width = 48"}
    small |= {"steps = 10000": "steps = 1", "runs/four_datasets.csv": str(union)}
    written = (ROOT / "recipes" / "four_datasets_x0_75.toml").read_text()
    for before, after in small.items():
        assert before in written
        written = written.replace(before, after)
    recipe.write_text(written)
    assert "3 steps" in run("train", recipe, "--out", tmp_path / "run")
    run("export", tmp_path / "run" / "weights.pt", "--recipe", recipe, "--out", tmp_path / "model")
    trained_on = json.loads((tmp_path / "model" / "card.json").read_text())["trained_on"]
    assert [(entry["name"], entry["people"]) for entry in trained_on] == [
        ("cuhk03", 32),
        ("dukemtmc", 32),
        ("last", 32),
        ("market1501", 32),
    ]
    assert "withdrawn by its authors" in trained_on[1]["terms"]
    run("calibrate", "--model", tmp_path / "model", "--data", f"csv:{union}")
    figures = json.loads(run("evaluate", "--model", tmp_path / "model", "--data", f"csv:{union}", "--json", "-"))
    assert (figures["queries"], figures["skipped"], figures["gallery"]) == (32, 0, 32)
    assert figures["protocol"] == "market1501"


def test_a_split_leaves_out_training_pictures_that_nearly_equal_a_measured_one(tmp_path):
    root = tmp_path / "shop"
    root.mkdir()
    rng = np.random.default_rng(0)
    for person in range(20):
        for camera in "ab":
            for frame in (1, 2):
                picture = Image.fromarray(rng.integers(0, 256, (32, 16, 3), np.uint8))
                picture.save(root / f"{person:02d}_{camera}_{frame}.png")
    common = ("split", "--data", f"folder:{root}", "--out", tmp_path / "shop.csv", "--shares", 0.5, 0.2, 0.3)
    with pytest.raises(PasserbyError, match=r"person, then camera, 20 people, 2 cameras, .*; or camera, then person"):
        run(*common)
    common = (*common, "--pattern", "(?P<person>[^_]+)_(?P<camera>[^_]+).*")
    assert "left out: 0 training pictures" in run(*common)
    rows = [line.split(",") for line in (tmp_path / "shop.csv").read_text().splitlines()[2:]]
    trained, measured = (next(row[0] for row in rows if row[3] == part) for part in ("train", "gallery"))
    shutil.copy(tmp_path / measured, tmp_path / trained)
    assert "left out: 1 training pictures" in run(*common)
    assert trained not in (tmp_path / "shop.csv").read_text()


def test_two_data_sets_with_the_same_ids_are_not_trained_on_as_the_same_people(drawn, tmp_path):
    recipe = tmp_path / "r.toml"
    shutil.copytree(drawn, tmp_path / "other")
    recipe.write_text(
        f'name = "tiny"\ndata = ["market1501:{drawn}", "market1501:{tmp_path / "other"}"]\ndev_people = 4\n'
        "[[stages]]\nheight = 64\nwidth = 32\nsteps = 2\n"
    )
    with pytest.raises(PasserbyError, match="are both called market1501"):
        run("train", recipe, "--out", tmp_path / "run")


def shop(root: Path, layout: str, *, people: int = 12) -> Path:
    """Pictures of people in two cameras, two in each, named by `layout` with p, c and i; looks differ by person."""
    rng = np.random.default_rng(list(str(root).encode()))
    for p in range(people):
        colour = rng.integers(0, 156, 3)
        for c in (1, 2):
            for i in (1, 2):
                path = root / layout.format(p=p, c=c, i=i)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((rng.integers(0, 100, (32, 16, 3)) + colour).astype(np.uint8)).save(path)
    return root


def test_two_folders_of_one_name_keep_their_people_apart(tmp_path):
    """`split` made 12 people of 24, and said nothing."""
    data = [f"folder:{shop(tmp_path / at / 'crops', '{p:04d}_c{c}_{i}.png')}" for at in ("north", "south")]
    common = ("split", "--out", tmp_path / "both.csv", "--shares", 0.5, 0.25, 0.25, "--data", data[0], "--data")
    with pytest.raises(PasserbyError, match=r"are both called crops, .*; give one a name of its own: other=folder:"):
        run(*common, data[1])
    said = run(*common, f"south={data[1]}").splitlines()
    assert sum(int(line.split()[1]) for line in said[:3]) == 24
    assert f"south:{0:04d}" in (tmp_path / "both.csv").read_text()


UNMARKED = "{c}_{p:03d}_{i}.png"
PATTERN = r"(?P<camera>[^_]+)_(?P<person>[^_]+)_(?P<frame>\d+)"


def test_a_pattern_goes_into_every_command_that_reads_data(small_model, tmp_path):
    root = shop(tmp_path / "crops", UNMARKED)
    data, common = ("--data", f"folder:{root}"), ("--model", small_model)
    with pytest.raises(PasserbyError, match="can be read in 3 ways"):
        run("evaluate", *common, *data)
    data = (*data, "--pattern", PATTERN)
    figures = json.loads(run("evaluate", *common, *data, "--json", "-"))
    assert (figures["people"], figures["cameras"], figures["queries"]) == (12, 2, 48)
    copy = shutil.copytree(small_model, tmp_path / "copy")
    run("evaluate", "--model", copy, *data, "--card", copy)
    assert f"--pattern '{PATTERN}'" in json.loads((copy / "card.json").read_text())["accuracy"][0]["command"]
    run("report-model", *common, *data, "--out", tmp_path / "r.html")
    assert "48 queries of 12 people, 2 cameras" in (tmp_path / "r.html").read_text()
    calibrate = ("calibrate", *common, "--out", tmp_path / "mine", "--split", "test", "--check", "none")
    assert "calibrated for" in run(*calibrate, *data)
    found = run("search", root / "1_003_1.png", "--gallery", root, "--pattern", PATTERN, *common, "--json", "-")
    assert {m["person"] for m in json.loads(found)[str(root / "1_003_1.png")]["matches"]} <= {
        f"{p:03d}" for p in range(12)
    }
    with pytest.raises(PasserbyError, match="goes with --people"):
        run("simulate", REFERENCE, "--out", tmp_path / "day", "--pattern", PATTERN)


def test_what_was_read_is_said_on_standard_error(small_model, tmp_path):
    root = shop(tmp_path / "crops", "{p:02d}/cam{c}_{i}.png")
    command = ["evaluate", "--model", str(small_model), "--data", f"folder:{root}", "--json", "-"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.stderr.startswith(
        "Read crops/test: 12 people, 2 cameras, 48 pictures "
        "(a folder a person, cameras in the names: 00/cam1_1 shows 00 in camera cam1)\n"
    )
    json.loads(result.stdout)


def write_recipe(path: Path, data: str, more: str = "") -> Path:
    path.write_text(
        f'name = "tiny"\narchitecture = "osnet_x0_25"\ndata = {data}\ndev_people = 4\npeople = 4\n{more}'
        "pictures_each = 3\n[[stages]]\nheight = 64\nwidth = 32\nsteps = 1\n"
    )
    return path


def test_a_recipe_says_how_each_of_its_folders_is_read(tmp_path):
    for at in ("north", "south"):
        shop(tmp_path / at / "train", UNMARKED if at == "north" else "{p:02d}/cam{c}_{i}.png")
    data = f'["folder:{tmp_path / "north"}", "other=folder:{tmp_path / "south"}"]'
    patterns = f"patterns = {{ north = '{PATTERN}' }}\n"
    recipe = write_recipe(tmp_path / "r.toml", data, patterns)
    assert "1 steps" in run("train", recipe, "--out", tmp_path / "run")
    run("export", tmp_path / "run" / "weights.pt", "--recipe", recipe, "--out", tmp_path / "model")
    trained_on = json.loads((tmp_path / "model" / "card.json").read_text())["trained_on"]
    assert [(entry["name"], entry["people"]) for entry in trained_on] == [("north", 8), ("other", 8)]
    with pytest.raises(PasserbyError, match="expected a name of north, other, got 'nort'; did you mean 'north'"):
        run("train", write_recipe(tmp_path / "r.toml", data, "patterns = { nort = 'x' }\n"), "--out", tmp_path / "run2")
    with pytest.raises(PasserbyError, match="unknown key 'pattern'; did you mean 'patterns'"):
        run("train", write_recipe(tmp_path / "r.toml", data, "pattern = 'x'\n"), "--out", tmp_path / "run2")
    with pytest.raises(PasserbyError, match=r"north: paths such as .* can be read in 3 ways"):
        run("train", write_recipe(tmp_path / "r.toml", data), "--out", tmp_path / "run2")


def test_a_manifest_without_a_split_is_told_to_be_split_before_training(tmp_path):
    root = shop(tmp_path / "crops", "{p:02d}_c{c}_{i}.png")
    rows = [f"crops/{p.name},{p.name[:2]},{p.name[3:5]}" for p in sorted(root.iterdir())]
    (tmp_path / "shop.csv").write_text("\n".join(["path,person,camera", *rows]))
    recipe = write_recipe(tmp_path / "r.toml", f'["csv:{tmp_path / "shop.csv"}"]')
    with pytest.raises(
        PasserbyError, match=r"passerby split --data csv:.*shop.csv --out split.csv, and read csv:split.csv"
    ):
        run("train", recipe, "--out", tmp_path / "run")
    split = tmp_path / "split.csv"
    run("split", "--data", f"csv:{tmp_path / 'shop.csv'}", "--out", split, "--shares", 0.5, 0.25, 0.25)
    assert "1 steps" in run("train", recipe, "--data", f"csv:{split}", "--out", tmp_path / "run")


def test_empty_crops_are_named_and_left_out_on_demand(small_model, tmp_path):
    root = shop(tmp_path / "crops", "{p:02d}_c{c}_{i}.png")
    broken = root / "03_c2_1.png"
    broken.write_bytes(b"")
    (root / "05_c1_1.png").write_bytes(b"no picture")
    pictures, common = sorted(root.iterdir()), ("--model", small_model)
    gallery = shop(tmp_path / "gallery", "{p:02d}/{c}_{i}.png")
    (gallery / "03" / "1_1.png").write_bytes(b"")
    shares = ("--shares", 0.5, 0.25, 0.25)
    recipe = write_recipe(tmp_path / "r.toml", f'["csv:{tmp_path / "s.csv"}"]')
    for command in (
        ("split", "--data", f"folder:{root}", "--out", tmp_path / "s.csv", *shares),
        ("evaluate", *common, "--data", f"folder:{root}"),
        ("report-model", *common, "--data", f"folder:{root}", "--out", tmp_path / "r.html"),
        (
            "calibrate",
            *common,
            "--data",
            f"folder:{root}",
            "--split",
            "test",
            "--check",
            "none",
            "--out",
            tmp_path / "m",
        ),
        ("embed", *pictures, "--out", tmp_path / "v.npz", *common),
        ("group", *pictures, *common),
        ("search", *pictures, "--gallery", gallery, *common),
    ):
        with pytest.raises(PasserbyError, match=r"of \d+ pictures cannot be decoded: .*0 bytes.*--skip-unreadable"):
            run(*command)
        result = CliRunner().invoke(app, [*map(str, command), "--skip-unreadable"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert broken.name in result.stderr
    text = (tmp_path / "s.csv").read_text()
    assert broken.name not in text
    assert "03_c2_2.png" in text
    trained = next(line.split(",")[0] for line in text.splitlines() if ",train," in line)
    (tmp_path / trained).write_bytes(b"")
    with pytest.raises(PasserbyError, match=rf"1 of \d+ pictures cannot be decoded: .*{Path(trained).name}"):
        run("train", recipe, "--out", tmp_path / "run")
    with pytest.raises(PasserbyError, match="2 of 2 pictures cannot be decoded"):
        run("embed", broken, root / "05_c1_1.png", "--out", tmp_path / "v.npz", *common, "--skip-unreadable")


def passerby(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "passerby", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_an_error_is_one_line_and_exit_code_1(tmp_path):
    result = passerby("compare", "no.jpg", "no.jpg", "--model", tmp_path / "none")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" in passerby("--debug", "compare", "no.jpg", "no.jpg", "--model", tmp_path / "none").stderr


def test_a_file_that_cannot_be_written_is_one_line_too(small_model, two, tmp_path):
    result = passerby("compare", *two, "--model", small_model, "--json", tmp_path / "none" / "a.json")
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("Note: ")]
    assert line == f"Error: {tmp_path / 'none' / 'a.json'}: No such file or directory"


def test_a_wrong_call_is_exit_code_2_and_version_is_printed():
    assert passerby("compare").returncode == 2
    assert passerby("--version").stdout.startswith("passerby 0.")


REFERENCE = ROOT / "recipes" / "reference_easy.toml"


def test_simulate_writes_sightings_and_truth(tmp_path):
    text = run("simulate", REFERENCE, "--duration", "5m", "--seed", 2, "--out", tmp_path / "day")
    assert "people present" in text
    assert (tmp_path / "day" / "sightings.parquet").is_file()
    assert (tmp_path / "day" / "truth" / "visits.jsonl").is_file()


def test_simulate_draws_the_plan(tmp_path):
    from xml.etree import ElementTree

    run("simulate", REFERENCE, "--plan", tmp_path / "plan.svg")
    plan = ElementTree.parse(tmp_path / "plan.svg").getroot()
    words = {element.text for element in plan.iter() if element.tag.endswith("text")}
    assert {"checkout", "aisle 1", "entrance"} <= words
    assert sum(element.tag.endswith("polygon") for element in plan.iter()) == 6
    assert sum(element.tag.endswith("polyline") for element in plan.iter()) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "either --out"),
        (("--out", "x", "--duration", "5"), "such as 90s"),
        (("--out", "x", "--duration", "-5m"), "such as 90s"),
        (("--out", "x", "--level", "crops"), "needs --people"),
        (("--out", "x", "--people", "market1501:x"), "takes no --people"),
    ],
)
def test_simulate_says_what_is_wrong(arguments, said):
    with pytest.raises(PasserbyError, match=said):
        run("simulate", REFERENCE, *arguments)


def test_simulate_wears_real_crops(drawn, small_model, tmp_path):
    text = (ROOT / "recipes" / "reference_easy.toml").read_text()
    head, *cameras = text.split("[[cameras]]")
    edges = "[[edges]]" + cameras[-1].partition("[[edges]]")[2]
    three = tmp_path / "three.toml"
    three.write_text("[[cameras]]".join([head, *cameras[:3]]) + edges)
    run(
        *("simulate", three, "--level", "crops", "--people", f"market1501:{drawn}", "--model", small_model),
        *("--duration", "10m", "--out", tmp_path / "day"),
    )
    summary = json.loads((tmp_path / "day" / "run.json").read_text())
    assert summary["sightings"] > 5


def test_simulate_films_the_sample_shop(tmp_path):
    from passerby.simulate.scene import ATLAS

    sample = ATLAS.with_name("sample_shop.toml")
    text = run("simulate", sample, "--level", "video", "--duration", "1s", "--seed", 1, "--out", tmp_path / "film")
    assert "4 clips of 1s" in text
    assert len(list((tmp_path / "film").glob("*.mp4"))) == 4
    with pytest.raises(PasserbyError, match="neither --people"):
        run("simulate", sample, "--level", "video", "--refresh", "--out", tmp_path / "film")


def test_render_writes_coco(tmp_path):
    text = run("render", "pictures", "--number", 2, "--seed", 1, "--out", tmp_path / "people")
    assert "2 pictures" in text
    assert len(json.loads((tmp_path / "people" / "persons.json").read_text())["images"]) == 2


def test_render_says_what_is_wrong(tmp_path):
    with pytest.raises(PasserbyError, match="take no --backgrounds"):
        run("render", "sequences", "--backgrounds", tmp_path, "--out", tmp_path / "a")
    with pytest.raises(PasserbyError, match="found none"):
        run("render", "pictures", "--backgrounds", tmp_path, "--out", tmp_path / "a")


@pytest.mark.slow
def test_benchmark_shop_prints_a_table_and_json():
    text = run("benchmark-shop", REFERENCE, "--seeds", 2, "--duration", "30m")
    assert "oracle" in text
    assert "calibration error" in text
    figures = json.loads(run("benchmark-shop", REFERENCE, "--seeds", 2, "--duration", "30m", "--json", "-"))
    assert set(figures["linkers"]) == {"appearance", "time gate", "transit", "online", "refined", "oracle"}
    assert len(figures["linkers"]["oracle"]["learnt"]["f1"]) == len(figures["linkers"]["oracle"]["idf1"]) == 2
