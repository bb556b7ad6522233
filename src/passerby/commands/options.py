"""What the commands share: options, output, progress bars, and the import of an extra's rooms."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from passerby.types import PasserbyError

out = Console(markup=False)  # a [ in a file's name is no markup
err = Console(stderr=True, markup=False)

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "int8"]
Split = Literal["train", "dev", "test", "official"]
MODEL_HELP = "A bundled model's name, a model folder, or an .onnx / .xml file."
DATA_HELP = (
    "[NAME=]KIND:PATH; kinds are market1501, dukemtmc, cuhk03, last, msmt17, folder and csv. NAME tells two sets of one "
    "kind apart."
)
PATTERN_HELP = (
    "How to read the paths of folder: pictures (without suffix): a regular expression with the groups person and, where there "
    "are any, camera, sequence and frame."
)

STORE_HELP = "a file (SQLite), or the URL of a PostgreSQL database."

Data = Annotated[str, typer.Option("--data", help=DATA_HELP)]
ManyData = Annotated[list[str], typer.Option("--data", help=DATA_HELP + " May be repeated.")]
Pattern = Annotated[str | None, typer.Option("--pattern", help=PATTERN_HELP)]
ManyPatterns = Annotated[
    list[str] | None,
    typer.Option(
        "--pattern", help=PATTERN_HELP + " One for all folder: sets, or repeated, one for each in their order."
    ),
]
Model = Annotated[str, typer.Option("--model", help=MODEL_HELP)]
Json = Annotated[
    Path | None, typer.Option("--json", help="Write the result as JSON to this file; - is standard output.")
]
DeviceOption = Annotated[Device, typer.Option("--device", help="cpu (OpenVINO) or cuda (ONNX Runtime); auto is cpu.")]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="auto takes bf16, int8 or fp32, the first that the processor runs and the card has a calibration for.",
    ),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Processor threads; all by default.")]
People = Annotated[
    int, typer.Option("--people", min=1, help="How many dev people are set aside of the training people.")
]
Skip = Annotated[bool, typer.Option("--skip-unreadable", help="Leave out files that cannot be decoded, and name them.")]
Colour = Annotated[
    Literal["bgr", "rgb"] | None,
    typer.Option("--input-colour", help="What a file without a card expects; bgr by default."),
]
Range = Annotated[
    Literal["0..255", "0..1"] | None,
    typer.Option("--input-range", help="What a file without a card expects; 0..255 by default."),
]
Threshold = Annotated[
    float | None, typer.Option("--threshold", help="Posterior probability from which two are the same.")
]
Mode = Annotated[
    str | None,
    typer.Option("--mode", help="visitor-counting (0.50), customer-journey (0.65) or high-precision (0.80)."),
]
Pictures = Annotated[list[Path], typer.Argument(help="Picture files.")]


def seconds_of(duration: str) -> float:
    """The seconds of "90s", "2m", "8h" or "1d"."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        seconds = float(duration[:-1]) * units[duration[-1:]]
    except (KeyError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= 366 * 86400:
        raise PasserbyError(f"--duration: expected a time such as 90s, 2m, 8h or 1d, got {duration!r}")
    return seconds


def read_data(
    data: Sequence[str],
    pattern: Sequence[str] | Mapping[str, str] | None,
    *,
    split: Any,  # a Split of reid.datasets, "all" among them
    people: int = 75,
    skip_unreadable: bool = False,
) -> Any:  # a list of Datasets
    """Read one part of each data set, and say on standard error what was read and what was left out."""
    from passerby.reid.datasets import described, parse_specs, read_specs

    specs = parse_specs(data, patterns=pattern or ())
    datasets = read_specs(specs, split=split, people=people, skip_unreadable=skip_unreadable)
    for dataset in datasets:
        err.print(f"Read {described(dataset)}", soft_wrap=True, highlight=False)
        for note in dataset.notes if skip_unreadable else ():
            err.print(f"Note: {note}", soft_wrap=True)
    return datasets


@contextmanager
def naming_unreadable(paths: Sequence[Path]) -> Iterator[None]:
    """Where a picture cannot be used, decode all and say which cannot, how many, and how to go on without them."""
    from passerby.reid.leakage import refuse_unreadable, unreadable
    from passerby.types import PictureError

    try:
        yield
    except PictureError:
        each = list(dict.fromkeys(paths))
        if bad := unreadable(each):
            refuse_unreadable(bad, of=len(each))
        raise


def without_unreadable(paths: Sequence[Path]) -> list[Path]:
    """The pictures that can be used; says on standard error which cannot, and refuses where none can."""
    from passerby.reid.leakage import refuse_unreadable, unreadable

    bad = unreadable(paths)
    if len(bad) == len(set(paths)):
        refuse_unreadable(bad, of=len(paths))
    if bad:
        named = ", ".join(f"{path} ({reason})" for path, reason in bad.items())
        err.print(
            f"Note: {len(bad)} of {len(paths)} pictures cannot be decoded and are left out: {named}", soft_wrap=True
        )
    return [path for path in paths if path not in bad]


@contextmanager
def bar(activity: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error for work that calls `progress(done, all)`."""
    from rich.progress import Progress

    with Progress(console=err, transient=True) as shown:
        task = shown.add_task(activity, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def command_line(name: str, model: str, data: str, given: dict[str, object]) -> str:
    """The command that prints the figures again, with each of the options that differs from its default.

    The precision is said in any case: what `auto` means depends on the machine.
    """
    defaults = {"--split": "test", "--people": 75}
    words = ["passerby", name, "--model", model, "--data", data]
    for option, value in given.items():
        if value is True:
            words.append(option)
        elif value and value != defaults.get(option):
            words += [option, str(value)]
    return shlex.join(words)


def input_format(
    colour: Literal["bgr", "rgb"] | None, range_: Literal["0..255", "0..1"] | None
) -> Any:  # InputFormat | None
    if colour is None and range_ is None:
        return None
    from passerby.reid.engine import InputFormat

    return InputFormat(colour=colour or "bgr", range=range_ or "0..255")


def write_json(path: Path, value: Any) -> None:  # any JSON value
    if str(path) == "-":
        print(json.dumps(value, indent=1, allow_nan=False))
        return
    from passerby import files

    files.write_json(path, value)


def say_terms(card: Any) -> None:  # a ModelCard
    from passerby.reid.card import terms

    if card.commercial_use != "yes":
        err.print(f"Note: {terms(card)}", soft_wrap=True)


def room_of(name: str) -> Any:  # a module of an extra, whose types the base install cannot see
    """Import a module of an extra, or say which extra to install."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith("passerby"):
            extra = {"learn": "train", "simulate": "simulate", "vision": "video", "service": "serve"}[
                name.split(".")[1]
            ]
            raise PasserbyError(f'this command needs {error.name}: pip install "passerby[{extra}]"') from None
        raise
