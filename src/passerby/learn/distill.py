"""What a teacher network thinks of the training pictures, and the loss that makes a student agree with it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.files import whole
from passerby.learn.loader import decoded_cache, fingerprint, normalise
from passerby.learn.start import read_network
from passerby.reid.assess import Progress, embed_pictures, no_progress
from passerby.reid.embedder import Embedder
from passerby.types import Float32, Picture

HEIGHT, WIDTH = 256, 128  # px, what every teacher that torch runs was made for


def teacher_embeddings(
    model: Path,
    pictures: Sequence[Picture],
    folder: Path,
    *,
    device: torch.device | None = None,
    progress: Progress = no_progress,
) -> Float32:
    """A teacher's unit vectors (n, length) of the clean pictures, made once and kept in `folder`.

    On a GPU torch runs the teacher, and anywhere the weights of a run; else OpenVINO does.
    """
    if model.suffix == ".pt" or (device is not None and device.type == "cuda"):
        return _by_torch(model, pictures, folder, device or torch.device("cpu"), progress)
    embedder = Embedder(model, precision="fp32")
    path = folder / f"teacher-{fingerprint(embedder.file_sha256, pictures)}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        vectors = embed_pictures(embedder, pictures, progress=progress)
        with whole(path) as draft:
            np.save(draft, vectors)
    progress(len(pictures), len(pictures))
    return np.asarray(np.load(path), np.float32)


def _by_torch(
    model: Path, pictures: Sequence[Picture], folder: Path, device: torch.device, progress: Progress
) -> Float32:
    network, vectors_of = read_network(model)
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in network.state_dict().values())).hexdigest()
    path = folder / f"teacher-{fingerprint(f'torch {digest}', pictures)}.npy"
    if not path.exists():
        decoded = decoded_cache(pictures, folder, height=HEIGHT, width=WIDTH, progress=progress)
        network.to(device)
        parts = []
        with torch.inference_mode():
            for i in range(0, len(decoded), 256):
                clean = torch.from_numpy(np.array(decoded[i : i + 256])).to(device)
                parts.append(vectors_of(normalise(clean.permute(0, 3, 1, 2).float().div_(255))).cpu().numpy())
        with whole(path) as draft:
            np.save(draft, np.concatenate(parts))
    progress(len(pictures), len(pictures))
    return np.asarray(np.load(path), np.float32)


class Imitation(nn.Module):
    """Feature and relation distillation from fixed teacher vectors.

    Feature: 1 - cosine between a linear projection of the student's feature and the teacher's vector (Romero et al.,
    "FitNets", 2015). Relation: mean squared difference of the two cosine-similarity matrices of the batch, diagonal left
    out (Tung & Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019; Park et al., CVPR 2019).
    `same_space`: the student begins as its teacher, perhaps narrowed, so the projection begins as the identity.
    """

    def __init__(self, length: int, teacher_length: int, *, relation: float = 10.0, same_space: bool = False) -> None:
        super().__init__()
        self.project = nn.Linear(length, teacher_length, bias=False)
        if same_space:
            nn.init.eye_(self.project.weight)
        self.relation = relation

    def forward(self, features: Tensor, teacher: Tensor) -> Tensor:
        """Mean loss of the batch; features (n, length) after the neck, teacher (n, teacher_length) of unit length."""
        features = features.float()
        feature = 1 - (F.normalize(self.project(features)) * teacher).sum(1).mean()
        unit = F.normalize(features)
        difference = unit @ unit.T - teacher @ teacher.T  # (n, n)
        others = 1 - torch.eye(len(unit), device=unit.device)
        relation = (difference.square() * others).sum() / others.sum().clamp_min(1)
        return feature + self.relation * relation
