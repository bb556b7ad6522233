"""Opens a network file and runs it; the only module that imports OpenVINO, its telemetry switched off first.

An engine takes uint8 RGB batches (n, height, width, 3) and returns the network's float32 rows (n, length) as they are;
`open_network` runs networks with any outputs, such as detectors. What colour order and range the file itself wants is
settled here, inside the compiled graph.
"""

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from passerby.types import Float32, ModelError, UInt8

T = TypeVar("T")
Precision = Literal["fp32", "bf16", "int8"]
CHUNKS = (32, 8)


@dataclass(frozen=True, slots=True)
class InputFormat:
    """What a network file expects: float planes (n, 3, height, width) in this colour order and range.

    A file whose input is uint8 (n, height, width, 3) takes RGB as it is and has its normalisation inside; for such a
    file this record is not needed.
    """

    colour: Literal["bgr", "rgb"] = "bgr"
    range: Literal["0..255", "0..1"] = "0..255"

    def __post_init__(self) -> None:
        if self.colour not in ("bgr", "rgb"):
            raise ModelError(f"input colour: expected bgr or rgb, got {self.colour!r}")
        if self.range not in ("0..255", "0..1"):
            raise ModelError(f"input range: expected 0..255 or 0..1, got {self.range!r}")


class Engine(Protocol):
    """A network that is ready to run; safe to call from several threads."""

    height: int
    width: int
    length: int
    device: str

    def run(self, batch: UInt8) -> Float32:
        """Rows (n, length) for a uint8 RGB batch (n, height, width, 3)."""
        ...


def cache_folder() -> Path:
    """Where compiled networks are kept: $PASSERBY_CACHE, else the user's cache folder."""
    root = os.environ.get("PASSERBY_CACHE")
    if root:
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "passerby"


def network_parts(path: Path) -> list[Path]:
    """The files of a network: an OpenVINO IR has its weights beside it."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def file_sha256(path: Path) -> str:
    """SHA-256 of a network file; of an OpenVINO IR, of its .xml and .bin together."""
    digest = hashlib.sha256()
    for part in network_parts(path):
        _must_exist(part)
        digest.update(part.read_bytes())
    return digest.hexdigest()


def cpu_precisions() -> tuple[Precision, ...]:
    """The precisions that this processor speeds up or at least runs: fp32 and int8 always, bf16 where it has it."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", "bf16", "int8") if "BF16" in capabilities else ("fp32", "int8")


def processor() -> str:
    """The processor's name and what it has for small floats, as it stands beside every timing."""
    core = _core()
    name = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    kinds = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name} ({', '.join(kinds) or 'no vector extensions found'}; {os.cpu_count()} cores)"


def open_engine(
    path: Path,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    threads: int | None = None,
    input_format: InputFormat | None = None,
) -> Engine:
    """Compile a network file for a device.

    `device` is "cpu" (OpenVINO) or "cuda" (ONNX Runtime). `threads` limits the cores used, None takes all. Raises
    ModelError for a missing or damaged file, a shape that is not one picture in and one row out, or an unknown device.
    """
    if threads is not None and threads < 1:
        raise ModelError(f"threads: expected at least 1, got {threads}")
    if path.suffix not in (".onnx", ".xml"):
        raise ModelError(f"{path}: expected an .onnx file or an OpenVINO .xml, got {path.suffix or 'no suffix'!r}")
    if device == "cpu":
        return OpenVINOEngine(path, precision=precision, threads=threads, input_format=input_format)
    if device == "cuda":
        return OnnxRuntimeEngine(path, providers=("CUDAExecutionProvider",), threads=threads, input_format=input_format)
    raise ModelError(f"device: expected 'cpu' or 'cuda', got {device!r}")


class OpenVINOEngine:
    """OpenVINO on the processor: one graph over all cores for a single picture, one stream a core for many.

    Where every core has that many to do, pictures go 32 or 8 to a request: a tenth faster than one by one. After a fork,
    and where it was pickled to another process, the file is opened anew when it is first run there.
    """

    device = "cpu"

    def __init__(
        self, path: Path, *, precision: Precision, threads: int | None = None, input_format: InputFormat | None = None
    ) -> None:
        self.precision, self.threads = precision, threads or _cores()
        self._opened = _Opened(
            path, partial(_OpenVINORun, path, precision, self.threads, input_format or InputFormat())
        )
        run = self._opened.here()
        self.height, self.width, self.length = run.height, run.width, run.length

    def run(self, batch: UInt8) -> Float32:
        """Rows (n, length) for a uint8 RGB batch (n, height, width, 3)."""
        return self._opened.here().run(batch)


class _Opened(Generic[T]):
    """What is opened of a network file, by each process for itself: after a fork, and from a pickle, it is opened anew.

    Neither OpenVINO's nor ONNX Runtime's threads come along when a process forks, so that what the parent opened would wait
    for them for ever.
    """

    def __init__(self, path: Path, opener: Callable[[], T]) -> None:
        self._path, self._opener, self._stamp = path, opener, _stamp(path)
        self._by_process: dict[int, T] = {}

    def here(self) -> T:
        """This process's own; two threads that ask at once get the same. ModelError where the file was changed."""
        process = os.getpid()
        if process not in self._by_process:
            if _stamp(self._path) != self._stamp:
                raise ModelError(f"{self._path}: was changed since it was opened; open the model again")
            self._by_process.setdefault(process, self._opener())
        return self._by_process[process]

    def __reduce__(self) -> tuple[Any, ...]:
        return _Opened, (self._path, self._opener)


class _OpenVINORun:
    """A network file as one process has it open."""

    def __init__(self, path: Path, precision: Precision, threads: int, input_format: InputFormat) -> None:
        self._precision, self._threads = precision, threads
        model = _read(path)
        try:
            self._model, self.height, self.width = _settle_input(_openvino(), model, path, input_format)
        except RuntimeError as error:
            raise ModelError(f"{path}: OpenVINO cannot read it ({_last_line(error)})") from error
        shape = self._model.outputs[0].partial_shape
        if len(self._model.outputs) != 1 or shape.rank != 2 or shape[1].is_dynamic:
            raise ModelError(
                f"{path}: expected one output of (n, length), got {[str(o.partial_shape) for o in self._model.outputs]}"
            )
        if shape[0].is_dynamic or shape[0].get_length() != 1:
            raise _fixed_batch(path, f"one picture gives {shape}")
        self.length = int(shape[1].get_length())
        self._lock = threading.Lock()
        self._latency: Any = None  # an OpenVINO InferRequest, compiled when first needed
        self._queues: dict[int, Any] = {}  # OpenVINO AsyncInferQueues by pictures a request, likewise
        self._out: Float32 = np.empty((0, self.length), np.float32)

    def run(self, batch: UInt8) -> Float32:
        out = np.empty((len(batch), self.length), np.float32)
        with self._lock:
            self._out = out
            done = 0
            for chunk in self._chunks if len(batch) >= CHUNKS[-1] * self._threads else ():
                if len(batch) - done >= chunk * self._threads:
                    end = done + (len(batch) - done) // chunk * chunk
                    self._run_many(batch, done, end, chunk)
                    done = end
            if len(batch) - done > 1 and self._threads > 1:
                self._run_many(batch, done, len(batch), 1)
                return out
            for i in range(done, len(batch)):
                if self._latency is None:
                    self._latency = self._compile(self._model, "LATENCY", streams=1).create_infer_request()
                self._latency.infer([batch[i : i + 1]], share_inputs=True)
                out[i] = self._latency.get_output_tensor().data[0]
        return out

    def _run_many(self, batch: UInt8, start: int, end: int, chunk: int) -> None:
        """Rows start..end of `batch`, `chunk` pictures a request, one request a core at a time."""
        if chunk not in self._queues:
            model = self._model if chunk == 1 else self._reshaped(chunk)
            compiled = self._compile(model, "THROUGHPUT", streams=self._threads)
            queue = _openvino().AsyncInferQueue(compiled, self._threads)
            queue.set_callback(self._keep)
            self._queues[chunk] = queue
        for i in range(start, end, chunk):
            self._queues[chunk].start_async([batch[i : i + chunk]], i, share_inputs=True)
        self._queues[chunk].wait_all()

    def _keep(self, request: Any, row: int) -> None:
        found = request.get_output_tensor().data
        self._out[row : row + len(found)] = found

    @cached_property
    def _chunks(self) -> tuple[int, ...]:
        return tuple(chunk for chunk in CHUNKS if self._takes(chunk))

    def _takes(self, chunk: int) -> bool:
        """Whether the network can be given that many pictures at once; some files fix their batch inside."""
        try:
            return list(self._reshaped(chunk).outputs[0].shape) == [chunk, self.length]
        except RuntimeError:
            return False

    def _reshaped(self, chunk: int) -> Any:
        model = self._model.clone()
        model.reshape([chunk, self.height, self.width, 3])
        return model

    def _compile(self, model: Any, hint: str, *, streams: int) -> Any:
        return _compiled(model, hint, streams=streams, threads=self._threads, precision=self._precision)


class OnnxRuntimeEngine:
    """ONNX Runtime with a given list of execution providers; the way to NVIDIA, tested with the CPU provider."""

    def __init__(
        self,
        path: Path,
        *,
        providers: tuple[str, ...],
        threads: int | None = None,
        input_format: InputFormat | None = None,
    ) -> None:
        try:
            import onnxruntime as ort
        except ImportError:
            raise ModelError('device "cuda" needs ONNX Runtime: pip install "passerby[gpu]"') from None
        if path.suffix != ".onnx":
            raise ModelError(f'{path}: device "cuda" runs .onnx files only; use device "cpu" for an OpenVINO IR')
        _must_exist(path)
        missing = sorted(set(providers) - set(ort.get_available_providers()))
        if missing:
            raise ModelError(
                f"ONNX Runtime has no {missing[0]} here, only {', '.join(ort.get_available_providers())}; "
                'install "passerby[gpu]" and the NVIDIA driver, or use device "cpu"'
            )
        self.path = path
        self._opened = _Opened(path, partial(_session, path, providers, threads))
        self._process = os.getpid()
        session = self._opened.here()
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.device = "cuda" if "CUDAExecutionProvider" in self.providers else "cpu"
        entry = session.get_inputs()[0]
        self._name, shape = entry.name, entry.shape
        if len(session.get_inputs()) != 1 or len(shape) != 4:
            raise ModelError(f"{path}: expected one input of four dimensions, got {shape}")
        if isinstance(shape[0], int) and shape[0] != 1:
            raise _fixed_batch(path, f"its input is {shape}")
        self._at_once = 1 if shape[0] == 1 else 64
        self._planes = None if entry.type == "tensor(uint8)" else (input_format or InputFormat())
        height, width = shape[1:3] if self._planes is None else shape[2:4]
        length = session.get_outputs()[0].shape[-1]
        if not all(isinstance(x, int) for x in (height, width, length)):
            raise ModelError(f"{path}: expected fixed height, width and length, got input {shape}")
        self.height, self.width, self.length = int(height), int(width), int(length)

    def __setstate__(self, state: dict[str, Any]) -> None:  # what `pickle` kept of the fields above
        self.__dict__ |= state | {"_process": os.getpid()}

    def run(self, batch: UInt8) -> Float32:
        """Rows (n, length) for a uint8 RGB batch (n, height, width, 3), 64 at a time where the file takes as many."""
        if self.device == "cuda" and os.getpid() != self._process:
            raise ModelError(
                f'{self.path}: was opened on device "cuda" before this process was forked, and CUDA does not survive that; '
                'open the model in each process, or start processes with multiprocessing\'s "spawn"'
            )
        session, parts = self._opened.here(), []
        for i in range(0, len(batch), self._at_once):
            given = batch[i : i + self._at_once]
            try:
                rows = session.run(None, {self._name: self._feed(given)})[0]
            except Exception as error:  # ONNX Runtime's own exceptions share no public base class
                raise ModelError(
                    f"{self.path}: ONNX Runtime cannot run {len(given)} pictures ({_last_line(error)}); was the file made "
                    "for a fixed number of them, or has the device too little memory?"
                ) from error
            if rows.shape != (len(given), self.length):
                raise _fixed_batch(self.path, f"{len(given)} pictures give {rows.shape}")
            parts.append(rows)
        return np.concatenate(parts).astype(np.float32, copy=False) if parts else np.empty((0, self.length), np.float32)

    def _feed(self, batch: UInt8) -> UInt8 | Float32:
        if self._planes is None:
            return np.ascontiguousarray(batch)
        planes = batch[..., ::-1] if self._planes.colour == "bgr" else batch
        scale = np.float32(1 if self._planes.range == "0..255" else 1 / 255)
        return np.ascontiguousarray(planes.transpose(0, 3, 1, 2), np.float32) * scale


def _session(path: Path, providers: tuple[str, ...], threads: int | None) -> Any:  # an onnxruntime.InferenceSession
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's own exceptions share no public base class
        raise ModelError(f"{path}: ONNX Runtime cannot open it ({error})") from error


def _fixed_batch(path: Path, found: str) -> ModelError:
    return ModelError(
        f"{path}: expected a network that gives one row a picture, but {found}: it takes a fixed number of pictures at a "
        "time; export it with a batch of 1 or of any size"
    )


def _openvino() -> ModuleType:
    # openvino and nncf import openvino_telemetry, which contacts an analytics server; both fall back to a stub without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how an import is blocked
    import openvino

    module: ModuleType = openvino
    return module


@dataclass(slots=True)
class _Process:
    """What one process holds of OpenVINO: after a fork, the child's core and locks are its own."""

    lock: threading.Lock
    core: Any = None  # an openvino.Core, made when first needed


_PROCESSES: dict[int, _Process] = {}


def _core() -> Any:
    process = _PROCESSES.setdefault(os.getpid(), _Process(threading.Lock()))
    with process.lock:
        if process.core is None:
            process.core = _openvino().Core()
        return process.core


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise ModelError(
            f"{path}: no such file; a model is a folder with card.json, an .onnx file, or an .xml with its .bin"
        )


def _stamp(path: Path) -> list[tuple[int, int]]:
    """Size and time of change of a network's files, which must exist."""
    for part in network_parts(path):
        _must_exist(part)
    return [((status := part.stat()).st_size, status.st_mtime_ns) for part in network_parts(path)]


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _settle_input(ov: Any, model: Any, path: Path, wanted: InputFormat) -> tuple[Any, int, int]:
    """Make the network take one uint8 RGB picture (1, height, width, 3), whatever it took before."""
    if len(model.inputs) != 1 or model.inputs[0].partial_shape.rank != 4:
        raise ModelError(
            f"{path}: expected one input of four dimensions, got {[str(i.partial_shape) for i in model.inputs]}"
        )
    entry = model.inputs[0]
    own = entry.element_type == ov.Type.u8
    dims = entry.partial_shape[1:3] if own else entry.partial_shape[2:4]
    if any(d.is_dynamic for d in dims):
        raise ModelError(f"{path}: expected a fixed input height and width, got {entry.partial_shape}")
    height, width = (int(d.get_length()) for d in dims)
    entry_shape = str(entry.partial_shape)
    if not own:
        model = _from_pictures(ov, model, wanted)
    given, before = model.inputs[0].partial_shape[0], model.outputs[0].partial_shape
    try:
        model.reshape([1, height, width, 3])
    except RuntimeError as error:
        raise _fixed_batch(path, f"its input is {entry_shape} and one picture alone does not pass") from error
    after = model.outputs[0].partial_shape
    if given.is_static and before.is_static and after.is_static and list(before)[1:] != list(after)[1:]:
        raise _fixed_batch(path, f"{given} pictures give {before}, and one gives {after}")
    return model, height, width


def openvino_version() -> str:
    """OpenVINO's version, as it stands beside every timing."""
    return str(_openvino().__version__)


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output of a network file; None stands for a size that the caller chooses."""

    name: str
    shape: tuple[int | None, ...]
    kind: str

    def __str__(self) -> str:
        return f"{self.name} {self.kind} ({', '.join('?' if n is None else str(n) for n in self.shape)})"


def network_ports(path: Path) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """What a network file takes and what it gives, in its own order; ModelError for a file that is none."""
    model = _read(path)
    return tuple(_port(entry) for entry in model.inputs), tuple(_port(entry) for entry in model.outputs)


class Network:
    """A network that takes pictures and gives arrays of any shape, on the processor; safe to call from several threads.

    After a fork, and where it was pickled to another process, the file is opened anew.
    """

    def __init__(self, path: Path, opener: Callable[[], "_NetworkRun"]) -> None:
        self._opened = _Opened(path, opener)
        self._opened.here()

    def run(self, batch: UInt8) -> list[tuple[NDArray[Any], ...]]:
        """For each picture of a uint8 RGB batch (n, height, width, 3) the network's outputs, in the file's order.

        One picture goes through all threads at once, several side by side.
        """
        return self._opened.here().run(batch)


class _NetworkRun:
    """A network as one process has it open."""

    def __init__(self, model: Any, *, threads: int, precision: Precision) -> None:  # Any: an OpenVINO Model
        self._model, self._threads, self._precision = model, threads, precision
        self._lock = threading.Lock()
        self._latency: Any = None  # an OpenVINO InferRequest, compiled when first needed
        self._queue: Any = None  # an OpenVINO AsyncInferQueue, likewise
        self._found: list[tuple[NDArray[Any], ...]] = []

    def run(self, batch: UInt8) -> list[tuple[NDArray[Any], ...]]:
        with self._lock:
            if len(batch) > 1 and self._threads > 1:
                if self._queue is None:
                    compiled = self._compile("THROUGHPUT", streams=self._threads)
                    self._queue = _openvino().AsyncInferQueue(compiled, self._threads)
                    self._queue.set_callback(self._keep)
                self._found = [()] * len(batch)
                for i in range(len(batch)):
                    self._queue.start_async([batch[i : i + 1]], i, share_inputs=True)
                self._queue.wait_all()
                return self._found
            if self._latency is None:
                self._latency = self._compile("LATENCY", streams=1).create_infer_request()
            found = []
            for i in range(len(batch)):
                self._latency.infer([batch[i : i + 1]], share_inputs=True)
                found.append(_copied(self._latency))
            return found

    def _keep(self, request: Any, row: int) -> None:
        self._found[row] = _copied(request)

    def _compile(self, hint: str, *, streams: int) -> Any:
        return _compiled(self._model, hint, streams=streams, threads=self._threads, precision=self._precision)


def open_network(
    path: Path,
    *,
    picture: str,
    height: int,
    width: int,
    precision: Precision = "fp32",
    threads: int | None = None,
    input_format: InputFormat | None = None,
    constants: Mapping[str, NDArray[Any]] | None = None,
) -> Network:
    """A network file as one that takes uint8 RGB pictures (n, height, width, 3) by its input `picture`.

    `input_format` is what a float input wants; a uint8 input takes the pictures as they are. Other inputs are set to
    `constants` for good. Raises ModelError where the file is none, or cannot take pictures of that size.
    """
    if threads is not None and threads < 1:
        raise ModelError(f"threads: expected at least 1, got {threads}")
    wanted, fixed = input_format or InputFormat(), dict(constants or {})
    return Network(path, partial(_network_run, path, picture, height, width, precision, threads, wanted, fixed))


def _network_run(
    path: Path,
    picture: str,
    height: int,
    width: int,
    precision: Precision,
    threads: int | None,
    wanted: InputFormat,
    fixed: dict[str, NDArray[Any]],
) -> _NetworkRun:
    ov, model = _openvino(), _read(path)
    try:
        entry = model.input(picture)
        own = entry.element_type == ov.Type.u8
        shapes = {p.get_any_name(): list(fixed[p.get_any_name()].shape) for p in model.inputs if p.node != entry.node}
        model.reshape({picture: [1, height, width, 3] if own else [1, 3, height, width], **shapes})
        for name, value in fixed.items():
            parameter = model.input(name).get_node()
            given = ov.opset13.constant(value, dtype=model.input(name).element_type)
            parameter.output(0).replace(given.output(0))
            model.remove_parameter(parameter)
        if not own:
            model = _from_pictures(ov, model, wanted)
    except (RuntimeError, KeyError) as error:
        ports = ", ".join(str(_port(p)) for p in model.inputs)
        raise ModelError(
            f"{path}: cannot take pictures of {height}x{width} by {picture!r}; its inputs are {ports} ({_last_line(error)})"
        ) from error
    return _NetworkRun(model, threads=threads or _cores(), precision=precision)


def _from_pictures(ov: Any, model: Any, wanted: InputFormat) -> Any:
    """The network with uint8 RGB (1, height, width, 3) in place of its one input of float planes."""
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(ov.Type.f32)
    if wanted.colour == "bgr":
        steps.input().preprocess().reverse_channels()
    if wanted.range == "0..1":
        steps.input().preprocess().scale(255.0)
    return steps.build()


def _read(path: Path) -> Any:
    if path.suffix not in (".onnx", ".xml"):
        raise ModelError(f"{path}: expected an .onnx file or an OpenVINO .xml, got {path.suffix or 'no suffix'!r}")
    for part in network_parts(path):
        _must_exist(part)
    try:
        return _core().read_model(path)
    except RuntimeError as error:
        raise ModelError(f"{path}: OpenVINO cannot read it ({_last_line(error)})") from error


def _port(entry: Any) -> Port:
    shape = tuple(None if size.is_dynamic else int(size.get_length()) for size in entry.partial_shape)
    return Port(sorted(entry.get_names())[0], shape, str(entry.element_type.to_string()))


def _copied(request: Any) -> tuple[NDArray[Any], ...]:
    return tuple(tensor.data.copy() for tensor in request.output_tensors)


def _compiled(model: Any, hint: str, *, streams: int, threads: int, precision: Precision) -> Any:
    """The network compiled for the processor, from the cache where it was compiled before."""
    settings = {
        "PERFORMANCE_HINT": hint,
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    compiled = cache_folder() / "compiled"
    try:
        compiled.mkdir(parents=True, exist_ok=True)
        settings["CACHE_DIR"] = str(compiled)
    except OSError:
        pass  # a read-only home costs the compilation at each start, nothing else
    try:
        return _core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot compile the network: {_last_line(error)}") from error
