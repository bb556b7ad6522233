"""passerby: follows shoppers from camera to camera without knowing who they are, and states its error."""

from passerby.reid.calibration import Calibration
from passerby.reid.card import ModelCard
from passerby.reid.embedder import Embedder
from passerby.reid.gallery import Gallery
from passerby.reid.inference import ReIDInference
from passerby.types import Comparison, Grouping, Identification, Match, PasserbyError, Picture

__all__ = [
    "Calibration",
    "Comparison",
    "Embedder",
    "Gallery",
    "Grouping",
    "Identification",
    "Match",
    "ModelCard",
    "PasserbyError",
    "Picture",
    "ReIDInference",
]
