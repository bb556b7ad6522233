"""`card.json` of a model folder: what a network expects, where it comes from, what it reaches; read and written whole."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from passerby.files import write_json
from passerby.types import ModelError

CommercialUse = Literal["yes", "no", "unclear"]
FORBIDDEN = "not for commercial use"  # in the terms of data that say so


class CardPart(BaseModel):
    """What all parts of a model card share: unknown keys are refused, and nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CardInput(CardPart):
    """What a network file expects of a picture; `interpolation` is the project's one resize."""

    height: int = Field(ge=16)
    width: int = Field(ge=16)
    colour: Literal["rgb", "bgr"]
    range: Literal["0..255", "0..1"]
    interpolation: Literal["bilinear"] = "bilinear"


class CardFile(CardPart):
    """A network file of the folder and its SHA-256 (of an OpenVINO IR: of .xml and .bin together)."""

    file: str = Field(pattern=r"^[\w.-]+\.(onnx|xml)$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class CardData(CardPart):
    """A set that the network was trained on, and its terms."""

    name: str
    people: int | None = None
    pictures: int | None = None
    terms: str


class CardCameras(CardPart):
    """Rank-1, 0..1, of the queries of one camera against the pictures of another alone."""

    query: str
    gallery: str
    queries: int
    rank1: float


class CardFailure(CardPart):
    """How often the network fails in a hard case, 0..1, beside how often it does otherwise, with the command."""

    case: str
    rate: float
    otherwise: float
    data: str
    queries: int
    command: str


class CardAccuracy(CardPart):
    """Measured figures of one precision on one set, each {value, low, high}, with the command that prints them.

    `peer` names another network that was measured by the same command, to compare with. `people` and `seen_by` are the
    numbers of people and of cameras, None in cards from before they were kept. `cameras` has Rank-1 from camera to camera.
    """

    peer: str | None = None
    data: str
    protocol: str
    split_hash: str
    precision: Literal["fp32", "bf16", "int8"]
    people: int | None = None
    seen_by: int | None = None
    queries: int
    skipped: int
    figures: dict[str, dict[str, float | None]]
    command: str
    cameras: list[CardCameras] = []


class ModelCard(CardPart):
    """`card.json` of a model folder: what the network expects, where it comes from, what it reaches.

    `calibrations` holds one map from similarity to log-likelihood ratio for each precision, as `reid/calibration.py`
    writes it, bound to the file's hash. `networks` are those that it began as or learnt from, with their terms;
    `processor_hours` the training's, its seconds times its threads, `energy_kwh` what they are reckoned to have taken.
    """

    format: Literal[1] = 1
    name: str
    architecture: str
    embedding_length: int = Field(ge=1)
    input: CardInput
    files: dict[Literal["fp32", "int8"], CardFile]
    trained_on: list[CardData]
    networks: list[CardData] = []
    origin: str
    recipe: str | None = None
    seed: int | None = None
    processor_hours: float | None = None
    energy_kwh: float | None = None
    commercial_use: CommercialUse
    accuracy: list[CardAccuracy] = []
    failures: list[CardFailure] = []
    calibrations: dict[Literal["fp32", "bf16", "int8"], dict[str, JsonValue]] = {}


class DetectorScores(CardPart):
    """What one precision's logit means: the probability of a person with an IoU of 0.5 is sigmoid(slope * logit + shift)."""

    slope: float = Field(gt=0)
    shift: float


class DetectorAccuracy(CardPart):
    """A detector's measured figures on one set, each {value, low, high}, with the command that prints them.

    `peer` names another detector that was measured by the same command.
    """

    peer: str | None = None
    data: str
    precision: Literal["fp32", "bf16", "int8"]
    pictures: int
    people: int
    figures: dict[str, dict[str, float | None]]
    command: str


class DetectorCard(CardPart):
    """`card.json` of a folder with a person detector.

    A file takes uint8 RGB (n, height, width, 3) and gives `boxes` (n, anchors, 4), x0, y0, x1, y1 in fractions of width and
    height, and `logits` (n, anchors). A picture goes through at the one of `sizes` (height, width) nearest its aspect. Two
    boxes with an IoU above `overlap` are one person.
    """

    format: Literal[1] = 1
    detects: Literal["person"] = "person"
    name: str
    architecture: str
    sizes: list[tuple[int, int]]
    overlap: float = Field(gt=0, lt=1)
    files: dict[Literal["fp32", "int8"], CardFile]
    scores: dict[Literal["fp32", "bf16", "int8"], DetectorScores]
    scores_fitted_on: str
    trained_on: list[CardData]
    networks: list[CardData]
    origin: str
    recipe: str | None = None
    seed: int | None = None
    processor_hours: float | None = None
    energy_kwh: float | None = None
    commercial_use: CommercialUse
    accuracy: list[DetectorAccuracy] = []


Card = TypeVar("Card", ModelCard, DetectorCard)


def commercial_use(trained_on: Iterable[CardData], *, allowed: bool) -> CommercialUse:
    """Whether a network may be used commercially: "no" where the terms of any of its data say so, else "yes" if `allowed`.

    Raises ModelError where `allowed` contradicts the terms.
    """
    if forbidding := [data.name for data in trained_on if FORBIDDEN in data.terms]:
        if allowed:
            raise ModelError(
                f"export: {', '.join(forbidding)} may not be used commercially; leave --commercial-use out"
            )
        return "no"
    return "yes" if allowed else "unclear"


def terms(card: ModelCard) -> str:
    """What a user of a network that may not freely be used commercially is told."""
    if card.commercial_use == "no":
        return (
            f"{card.name}: trained on data that allows no commercial use, see its card; `passerby train` makes your own"
        )
    return f"{card.name}: trained on research data; whether it may be used commercially is unclear, see its card"


def bundled() -> dict[str, Path]:
    """The folders of the bundled models, detectors too, by their names."""
    installed = Path(__file__).parent.parent / "models"
    checkout = Path(__file__).parents[3] / "models"
    return {
        card.parent.name: card.parent for root in (checkout, installed) for card in sorted(root.glob("*/card.json"))
    }


def find_model(model: str | Path) -> Path:
    """The folder or file that `model` names: a bundled model's name, or a path."""
    path, known = Path(model), bundled()
    if path.exists():
        return path
    if str(model) in known:
        return known[str(model)]
    raise ModelError(f"{model}: neither a path nor a bundled model; bundled are: {', '.join(sorted(known)) or 'none'}")


def read_card(folder: Path) -> ModelCard:
    """Read and check `card.json` of a model folder."""
    return _read(folder, ModelCard, make="passerby calibrate --out")


def read_detector_card(folder: Path) -> DetectorCard:
    """Read and check `card.json` of a detector's folder."""
    return _read(folder, DetectorCard, make="passerby train-detector")


def is_detector(folder: Path) -> bool:
    """Whether the card of a folder is a detector's."""
    return '"detects"' in (folder / "card.json").read_text()


def _read(folder: Path, kind: type[Card], *, make: str) -> Card:
    path = folder / "card.json"
    if not path.is_file():
        raise ModelError(f"{folder}: expected card.json beside the network; make one with `{make}`")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ModelError(f"{path}: not a {'detector' if kind is DetectorCard else 'model'} card: {wrong}") from None


def write_card(folder: Path, card: ModelCard | DetectorCard) -> None:
    """Write `card.json`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "card.json", card.model_dump(mode="json"))
