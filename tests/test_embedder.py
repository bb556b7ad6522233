import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from passerby.learn.export import Deployed, export_folder, export_onnx
from passerby.learn.model import OSNet
from passerby.reid import engine as engines
from passerby.reid.card import read_card
from passerby.reid.embedder import Embedder, preferred_precision, unit
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


class Sixteen(torch.nn.Module):
    """Means of the planes of 16 pictures, by a reshape to just as many rows."""

    def forward(self, x):
        return x.mean((2, 3)).reshape(-1).reshape(16, 3)


@pytest.mark.parametrize("opened", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("says_so", [True, False], ids=["batch 16 at the input", "16 inside alone"])
def test_a_network_of_a_fixed_batch_is_refused_and_never_cut(tmp_path, opened, says_so):
    path = tmp_path / "sixteen.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        axes = None if says_so else {"x": {0: "n"}}
        names = {"input_names": ["x"], "dynamic_axes": axes}
        torch.onnx.export(Sixteen(), (torch.zeros(16, 3, 16, 16),), str(path), dynamo=False, **names)

    def rows():
        if opened == "openvino":
            return open_engine(path).run(np.zeros((1, 16, 16, 3), np.uint8))
        engine = OnnxRuntimeEngine(path, providers=("CPUExecutionProvider",))
        return engine.run(np.zeros((1, 16, 16, 3), np.uint8))

    with pytest.raises(ModelError, match=r"sixteen\.onnx: "):
        rows()


def test_a_batch_that_becomes_longer_rows_is_refused(tmp_path):
    class Flat(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3)).reshape(16, -1)

    path = tmp_path / "flat.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(Flat(), (torch.zeros(16, 48, 16, 16)[:, :3],), str(path), dynamo=False)
    with pytest.raises(ModelError, match="fixed number of pictures"):
        open_engine(path)


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


@pytest.mark.parametrize(
    ("here", "calibrated", "chosen"),
    [
        (("fp32", "bf16", "int8"), ("fp32", "bf16", "int8"), "bf16"),
        (("fp32", "int8"), ("fp32", "bf16", "int8"), "int8"),
        (("fp32", "bf16", "int8"), ("fp32",), "fp32"),
        (("fp32", "bf16", "int8"), ("int8",), "int8"),  # of a card with one calibration, that one
        (("fp32", "int8"), ("bf16",), "fp32"),
        (("fp32", "int8"), (), "fp32"),
    ],
)
def test_auto_follows_from_the_processor_and_the_card_alone(folder, monkeypatch, here, calibrated, chosen):
    card = read_card(folder)
    files = {**card.files, "int8": card.files["fp32"]}
    card = card.model_copy(update={"files": files, "calibrations": {name: {} for name in calibrated}})
    monkeypatch.setattr(engines, "cpu_precisions", lambda: here)
    monkeypatch.setattr(time, "perf_counter", lambda: pytest.fail("a clock was looked at"))
    assert preferred_precision(card, device="cpu") == chosen


def test_auto_takes_fp32_where_the_int8_file_is_missing_and_on_a_gpu(folder, monkeypatch):
    monkeypatch.setattr(engines, "cpu_precisions", lambda: ("fp32", "bf16", "int8"))
    card = read_card(folder).model_copy(update={"calibrations": {"int8": {}}})
    assert preferred_precision(card, device="cpu") == "fp32"
    assert preferred_precision(card.model_copy(update={"calibrations": {"bf16": {}}}), device="cuda") == "fp32"


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


@pytest.mark.parametrize(
    "wrong",
    [
        np.full((2, 20, 10, 3), 0.7),
        [np.full((20, 10, 3), 0.7, np.float32)],
        np.zeros((20, 10, 3), np.uint8),
        [np.zeros((20, 10, 4), np.uint8)],
        [np.zeros((20, 10), np.uint8)],
        ["a.jpg"],
    ],
    ids=["floats", "float32", "one picture", "alpha", "grey", "path"],
)
def test_what_would_become_black_or_another_picture_is_refused(folder, wrong):
    with pytest.raises(PictureError, match=r"picture 0: expected a uint8 RGB array \(h, w, 3\), got "):
        Embedder(folder).embed_arrays(wrong)


def test_floats_go_through_embed(folder):
    embedder = Embedder(folder)
    picture = np.random.default_rng(0).integers(0, 256, (20, 10, 3), np.uint8)
    assert embedder.embed([picture / 255])[0] == pytest.approx(embedder.embed_arrays([picture])[0], abs=1e-5)


FORKED = """
import multiprocessing, os, pickle, signal, sys, threading
import numpy as np
from passerby.reid.embedder import Embedder
from passerby.reid.engine import OnnxRuntimeEngine

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 64, 32, 3), np.uint8)


def rows(engine):
    return engine.embed_arrays(PICTURES) if isinstance(engine, Embedder) else engine.run(PICTURES)


def child(engine, queue):
    queue.put(rows(engine))


def forked(engine):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)
        found = rows(engine)
        os.write(write, found.astype(np.float32).tobytes())
        # ONNX Runtime waits, when Python ends, for threads that the fork did not bring along
        sys.exit(0) if isinstance(engine, Embedder) else os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        found = np.frombuffer(file.read(), np.float32).reshape(3, -1)
    assert os.waitpid(pid, 0)[1] == 0
    return found


if __name__ == "__main__":
    folder = sys.argv[1]
    if sys.argv[2] == "openvino":
        engine = Embedder(folder)
    else:
        engine = OnnxRuntimeEngine(__import__("pathlib").Path(folder, "model.onnx"), providers=("CPUExecutionProvider",))
    expected = rows(engine)
    assert np.allclose(forked(engine), expected, atol=1e-4)
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [rows(engine) for _ in iter(stop.is_set, True)])
    busy.start()  # another thread holds the engine's locks
    for _ in range(2):
        assert np.allclose(forked(engine), expected, atol=1e-4)
    stop.set()
    busy.join()
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=child, args=(engine, queue))
        process.start()
        assert np.allclose(queue.get(timeout=200), expected, atol=1e-4), method
        process.join(200)
        assert process.exitcode == 0
    assert np.allclose(rows(pickle.loads(pickle.dumps(engine))), expected, atol=1e-4)
    assert np.allclose(rows(engine), expected, atol=1e-4)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_an_opened_network_goes_on_after_a_fork_and_may_be_pickled(folder, tmp_path, runtime):
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", script, folder, runtime],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_a_network_that_changed_on_disk_is_not_opened_after_a_fork_or_from_a_pickle(folder, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    embedder = Embedder(copy)
    kept = pickle.dumps(embedder)
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="model"):
        pickle.loads(kept)
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as if forked
    with pytest.raises(ModelError, match="was changed since it was opened"):
        embedder.embed_arrays(np.zeros((1, 64, 32, 3), np.uint8))


def test_cuda_opened_before_a_fork_is_refused_after_it(folder, monkeypatch):
    engine = OnnxRuntimeEngine(folder / "model.onnx", providers=("CPUExecutionProvider",))
    engine.device = "cuda"
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as if forked
    with pytest.raises(ModelError, match="CUDA does not survive"):
        engine.run(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 17, 32, 41, 75])
def test_however_many_pictures_there_are_each_gets_its_own_row(folder, threads, count):
    pictures = np.random.default_rng(1).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)
    engine = OpenVINOEngine(folder / "model.onnx", precision="fp32", threads=threads)
    rows = engine.run(pictures)
    for i in (0, count // 2, count - 1):
        assert rows[i] == pytest.approx(engine.run(pictures[i : i + 1])[0], abs=1e-4)
