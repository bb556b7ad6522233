import json
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from passerby.learn.export import Deployed, export_folder, export_onnx
from passerby.learn.model import OSNet
from passerby.reid import engine as engines
from passerby.reid.card import read_card, write_card
from passerby.reid.embedder import Embedder, fastest_precision, unit
from passerby.reid.engine import InputFormat, OnnxRuntimeEngine, OpenVINOEngine, file_sha256, open_engine
from passerby.types import ModelError, PictureError

HEIGHT, WIDTH = 64, 32


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = OSNet("osnet_x0_25").eval()
    for module in network.modules():  # norms that do something, as after training
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small"
    export_folder(
        model,
        path,
        name="small",
        height=HEIGHT,
        width=WIDTH,
        trained_on=[],
        origin="test",
        recipe=None,
        commercial_use=True,
    )
    return path


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, 90, 40, 3), np.uint8)


def planes_onnx(path: Path) -> Path:
    """A network that returns the mean of each plane, taking floats as a peer's file might."""

    class Means(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            Means(),
            (torch.zeros(1, 3, 16, 16),),
            str(path),
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
            dynamo=False,
        )
    return path


def test_vectors_have_unit_length_and_equal_torchs(folder, model, pictures):
    embedder = Embedder(folder)
    vectors = embedder.embed_arrays(pictures)
    from passerby.reid.pictures import stack

    with torch.inference_mode():
        expected = Deployed(model)(torch.from_numpy(stack(pictures, height=HEIGHT, width=WIDTH))).numpy()
    assert vectors.shape == (5, 512)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert (vectors * expected).sum(1).min() > 0.9999


def test_training_path_and_api_agree_on_the_same_file(folder, model, drawn, tmp_path):
    from passerby.learn.train import embed_pictures
    from passerby.types import Picture

    files = sorted((drawn / "query").iterdir())[:4]
    listed = [Picture(path, "x", None) for path in files]
    trained = embed_pictures(model, listed, tmp_path, height=HEIGHT, width=WIDTH, device=torch.device("cpu"))
    assert (trained * Embedder(folder).embed(files)).sum(1).min() > 0.9999


def test_one_picture_and_many_give_the_same_vectors(folder, pictures):
    embedder = Embedder(folder)
    together = embedder.embed_arrays(pictures)
    for i, picture in enumerate(pictures):
        assert embedder.embed_arrays([picture])[0] == pytest.approx(together[i], abs=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_the_vectors(folder, pictures, threads):
    assert Embedder(folder, threads=threads).embed_arrays(pictures) == pytest.approx(
        Embedder(folder).embed_arrays(pictures), abs=1e-5
    )


def test_several_threads_may_embed_at_once(folder, pictures):
    embedder = Embedder(folder)
    expected = embedder.embed_arrays(pictures)
    found: list[np.ndarray] = []

    def work() -> None:
        for _ in range(5):
            found.append(embedder.embed_arrays(pictures))
            found.append(np.repeat(embedder.embed_arrays(pictures[:1]), 5, axis=0))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 30
    for vectors in found[0::2]:
        assert vectors[0] == pytest.approx(expected[0], abs=1e-5)


def test_onnx_runtime_gives_the_same_numbers_as_openvino(folder, pictures):
    from passerby.reid.pictures import stack

    batch = stack(pictures, height=HEIGHT, width=WIDTH)
    other = OnnxRuntimeEngine(folder / "model.onnx", providers=("CPUExecutionProvider",), threads=1)
    assert other.providers == ("CPUExecutionProvider",)
    assert other.run(batch) == pytest.approx(open_engine(folder / "model.onnx").run(batch), abs=1e-4)
    assert other.run(batch[:0]).shape == (0, 512)


def test_cuda_without_a_gpu_says_what_to_do(folder):
    if "CUDAExecutionProvider" in __import__("onnxruntime").get_available_providers():
        pytest.skip("this machine has the CUDA provider")
    with pytest.raises(ModelError, match=r"no CUDAExecutionProvider here.*passerby\[gpu\]"):
        Embedder(folder, device="cuda")


def test_cuda_gives_the_processors_numbers(folder, pictures):
    if "CUDAExecutionProvider" not in __import__("onnxruntime").get_available_providers():
        pytest.skip("needs an NVIDIA GPU and onnxruntime-gpu")
    on_gpu = Embedder(folder, device="cuda")
    assert on_gpu.device == "cuda"
    assert (on_gpu.embed_arrays(pictures) * Embedder(folder).embed_arrays(pictures)).sum(1).min() > 0.999


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("colour", "range_", "expected"),
    [
        ("rgb", "0..255", [200, 100, 50]),
        ("bgr", "0..255", [50, 100, 200]),
        ("rgb", "0..1", [200 / 255, 100 / 255, 50 / 255]),
    ],
)
def test_a_peers_file_gets_the_colour_order_and_range_that_it_wants(tmp_path, runtime, colour, range_, expected):
    path = planes_onnx(tmp_path / "peer.onnx")
    batch = np.empty((2, 16, 16, 3), np.uint8)
    batch[:] = (200, 100, 50)
    wanted = InputFormat(colour=colour, range=range_)
    if runtime == "openvino":
        rows = OpenVINOEngine(path, precision="fp32", input_format=wanted).run(batch)
    else:
        rows = OnnxRuntimeEngine(path, providers=("CPUExecutionProvider",), input_format=wanted).run(batch)
    assert rows == pytest.approx(np.array([expected, expected]), rel=1e-5)


def test_the_public_network_takes_bgr_and_gives_256_numbers(shared):
    path = (
        shared / "models" / "person-reidentification-retail-0286" / "FP16" / "person-reidentification-retail-0286.xml"
    )
    embedder = Embedder(path)
    assert (embedder.height, embedder.width, embedder.length) == (256, 128, 256)
    files = [
        shared / "datasets" / "market1501" / "query" / name
        for name in ("0001_c1s1_001051_00.jpg", "0001_c2s1_000301_00.jpg", "0003_c1s6_015971_00.jpg")
    ]
    a, b, other = embedder.embed(files)
    assert a @ b > 0.6 > 0.5 > a @ other


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: (f / "card.json").unlink(), "expected card.json"),
        (lambda f: (f / "card.json").write_text("{"), "not a model card"),
        (lambda f: (f / "card.json").write_text((f / "card.json").read_text().replace('"origin"', '"orgin"')), "orgin"),
        (lambda f: (f / "card.json").write_text((f / "card.json").read_text().replace(": 64,", ": 128,")), "128x32"),
        (lambda f: (f / "model.onnx").unlink(), "no such file"),
        (lambda f: (f / "model.onnx").write_bytes((f / "model.onnx").read_bytes()[:-9]), "changed or damaged"),
    ],
)
def test_a_damaged_model_folder_is_refused(folder, tmp_path, break_it, message):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    break_it(copy)
    with pytest.raises(ModelError, match=message):
        Embedder(copy)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"x\.onnx: OpenVINO cannot read it"):
        Embedder(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "tpu"}, "'tpu'"),
        ({"precision": "fp8"}, "'fp8'"),
        ({"precision": "int8"}, "no int8 file"),
        ({"threads": 0}, "at least 1"),
        ({"precision": "bf16", "device": "cuda"}, "does not run bf16"),
        ({"input_format": InputFormat()}, "leave input_format out"),
        ({"model": "osnet_x9"}, "neither a path nor a bundled model"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(folder, settings, message):
    with pytest.raises(ModelError, match=message):
        Embedder(**{"model": folder, **settings})


def test_bf16_is_refused_where_it_would_run_as_fp32(folder, monkeypatch):
    monkeypatch.setattr(engines, "cpu_precisions", lambda: ("fp32", "int8"))
    with pytest.raises(ModelError, match="this processor does not run bf16"):
        Embedder(folder, precision="bf16")


def test_a_wrong_card_is_told_in_one_line(folder, tmp_path):
    card = json.loads((folder / "card.json").read_text()) | {"embedding_length": 0, "colour": "rgb"}
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"embedding_length: .*; colour: ") as raised:
        read_card(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"expected an \.onnx file or an OpenVINO \.xml, got '\.tflite'"):
        Embedder(tmp_path / "model.tflite")


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: OpenVINOEngine(path, precision="fp32"),
        lambda path: OnnxRuntimeEngine(path, providers=("CPUExecutionProvider",)),
    ],
    ids=["openvino", "onnxruntime"],
)
def test_a_network_that_takes_no_picture_is_refused(tmp_path, opened):
    path = tmp_path / "flat.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(torch.nn.Linear(4, 2), (torch.zeros(1, 4),), str(path), dynamo=False)
    with pytest.raises(ModelError, match="four dimensions"):
        opened(path)


def test_a_peers_file_for_one_picture_at_a_time_takes_many(tmp_path):
    class Means(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(Means(), (torch.zeros(1, 3, 16, 16),), str(tmp_path / "one.onnx"), dynamo=False)
    batch = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    rows = OnnxRuntimeEngine(tmp_path / "one.onnx", providers=("CPUExecutionProvider",)).run(batch)
    assert rows == pytest.approx(open_engine(tmp_path / "one.onnx").run(batch), rel=1e-4)


def test_a_cache_that_cannot_be_written_costs_time_only(folder, pictures, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PASSERBY_CACHE", str(tmp_path / "file" / "cache"))
    assert Embedder(folder).embed_arrays(pictures).shape == (5, 512)


def test_one_array_is_not_taken_for_the_pictures_in_its_rows(folder, pictures):
    with pytest.raises(PictureError, match=r"expected a list of pictures.*\(90, 40, 3\)"):
        Embedder(folder).embed(pictures[0])
    with pytest.raises(PictureError, match="a single one"):
        Embedder(folder).embed("a.jpg")


def test_large_pictures_are_not_kept_decoded(folder):
    import tracemalloc

    embedder = Embedder(folder)
    tracemalloc.start()
    embedder.embed(np.zeros((1500, 1000, 3), np.uint8) for _ in range(8))  # 4.5 MB each
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 4.5e6


def test_a_picture_that_cannot_be_used_is_named(folder, drawn):
    with pytest.raises(PictureError, match=r"none\.jpg"):
        Embedder(folder).embed([next((drawn / "query").iterdir()), "none.jpg"])


def test_no_pictures_give_no_rows(folder):
    assert Embedder(folder).embed([]).shape == (0, 512)


def test_a_row_without_a_direction_is_refused():
    with pytest.raises(ModelError, match="row 1 is zero"):
        unit(np.array([[1, 0], [0, 0]], np.float32))


def test_auto_chooses_among_the_calibrated_precisions_and_remembers(folder, tmp_path, monkeypatch):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.copy(copy / "model.onnx", copy / "model_int8.onnx")
    card = read_card(copy)
    assert fastest_precision(copy, card, device="cpu", threads=1, input_format=None) == (
        "fp32",
        None,
    )  # nothing calibrated
    files = dict(card.files) | {"int8": card.files["fp32"].model_copy(update={"file": "model_int8.onnx"})}
    card = card.model_copy(update={"files": files, "calibrations": {"fp32": {}, "int8": {}}})
    write_card(copy, card)
    monkeypatch.setenv("PASSERBY_CACHE", str(tmp_path / "cache"))
    chosen = Embedder(copy, threads=1).precision
    (key,) = json.loads((tmp_path / "cache" / "precision.json").read_text())
    assert chosen in ("fp32", "int8")
    other = "int8" if chosen == "fp32" else "fp32"
    (tmp_path / "cache" / "precision.json").write_text(json.dumps({key: other}))
    assert Embedder(copy, threads=1).precision == other
    (tmp_path / "cache" / "precision.json").write_text("damaged")
    assert Embedder(copy, threads=1).precision in ("fp32", "int8")


def test_bf16_is_offered_only_where_the_processor_has_it():
    flags = Path("/proc/cpuinfo").read_text()
    assert ("bf16" in engines.cpu_precisions()) == ("avx512_bf16" in flags or "amx_bf16" in flags)


def test_the_hash_of_an_ir_covers_its_weights(tmp_path):
    (tmp_path / "m.xml").write_text("graph")
    with pytest.raises(ModelError, match=r"m\.bin: no such file"):
        file_sha256(tmp_path / "m.xml")
    (tmp_path / "m.bin").write_bytes(b"1")
    before = file_sha256(tmp_path / "m.xml")
    (tmp_path / "m.bin").write_bytes(b"2")
    assert file_sha256(tmp_path / "m.xml") != before


def test_an_export_that_differs_from_torch_is_refused(model, tmp_path, monkeypatch):
    from passerby.learn import export

    monkeypatch.setattr(
        export,
        "open_engine",
        lambda path: type("Off", (), {"run": lambda self, x: np.zeros((len(x), 512), np.float32)})(),
    )
    with pytest.raises(ModelError, match="differs from torch"):
        export_onnx(model, tmp_path / "m.onnx", height=HEIGHT, width=WIDTH)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 17, 32, 41, 75])
def test_however_many_pictures_there_are_each_gets_its_own_row(folder, threads, count):
    pictures = np.random.default_rng(1).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)
    engine = OpenVINOEngine(folder / "model.onnx", precision="fp32", threads=threads)
    rows = engine.run(pictures)
    for i in (0, count // 2, count - 1):
        assert rows[i] == pytest.approx(engine.run(pictures[i : i + 1])[0], abs=1e-4)
