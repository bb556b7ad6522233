"""A model beside a peer on the official tests: figures, intervals, the paired difference, and the calibration on test people.

    python benchmarks/accuracy.py --model osnet_x0_75

The peer is Open Model Zoo's person-reidentification-retail-0286 of ../shared unless --peer names another, or none. bf16
is emulated, layer by layer, on a processor that lacks it.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from passerby.learn.export import Deployed, emulate_bf16
from passerby.learn.model import EMBEDDING_LENGTH, OSNet, load_body
from passerby.learn.start import read_folder
from passerby.reid.assess import keep_in_card, labelled
from passerby.reid.calibration import Calibration
from passerby.reid.card import find_model, read_card
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.engine import cpu_precisions, processor
from passerby.reid.evaluate import Evaluation, camera_pairs, evaluate, paired_bootstrap
from passerby.reid.measures import measure
from passerby.reid.pairs import joined, sample_pairs
from passerby.types import Float32, UInt8
from shared import PEER, SETS, dataset_vectors, model_and_peer, rows, shown

FIGURES = ("rank1", "rank5", "map", "map_trapezoid", "minp", "eer")


def opened(model: str, precision: Literal["fp32", "bf16", "int8"]) -> Embedder:
    """A model at a precision; bf16 is emulated in torch where the processor lacks it."""
    if precision != "bf16" or "bf16" in cpu_precisions():
        return Embedder(model, precision=precision)
    embedder = Embedder(model, precision="fp32")
    embedder.precision, embedder._engine = "bf16", EmulatedBf16(find_model(model), embedder.height, embedder.width)
    return embedder


class EmulatedBf16:
    """An engine that rounds weights, and whatever leaves a layer, to bf16."""

    device = "cpu"
    length = EMBEDDING_LENGTH

    def __init__(self, folder: Path, height: int, width: int) -> None:
        network = OSNet(read_card(folder).architecture)
        load_body(network, read_folder(folder))
        self.height, self.width, self.network = height, width, Deployed(emulate_bf16(network)).eval()

    def run(self, batch: UInt8) -> Float32:
        with torch.inference_mode():
            return np.asarray(self.network(torch.from_numpy(batch)).numpy(), np.float32)


def main() -> None:
    parser = model_and_peer(__doc__)
    parser.add_argument(
        "--card", type=Path, help="keep the figures in this model folder's card, the peer's beside them"
    )
    arguments = parser.parse_args()
    ours = opened(arguments.model, arguments.precision)
    contenders = [(arguments.model, ours)]
    if arguments.peer != "none":
        contenders.append((Path(arguments.peer).stem, Embedder(arguments.peer, precision="fp32")))
    print(f"{processor()}; {arguments.model}, {arguments.precision}")
    print(f"| network | data | {' | '.join(FIGURES)} |")
    samples = []
    for kind in SETS:
        dataset = read_dataset(kind, arguments.shared / "datasets" / kind)
        found: list[Evaluation] = []
        for name, embedder in contenders:
            vectors = dataset_vectors(embedder, dataset)
            found.append(evaluate(dataset, rows(vectors, dataset.query), rows(vectors, dataset.gallery)))
            print(
                f"| {name} | {kind} | {' | '.join(shown(getattr(found[-1], figure)) for figure in FIGURES)} |",
                flush=True,
            )
            if arguments.card:
                command = f"python benchmarks/accuracy.py --model {arguments.model}"
                if arguments.precision != "fp32":
                    command += f" --precision {arguments.precision}"
                if embedder is not ours and Path(arguments.peer) != PEER:
                    command += f" --peer {Path(arguments.peer).name}"
                keep_in_card(
                    arguments.card,
                    embedder,
                    found[-1],
                    command=command,
                    cameras=camera_pairs(dataset, rows(vectors, dataset.query), rows(vectors, dataset.gallery)),
                )
            if embedder is ours:
                samples.append(sample_pairs(rows(vectors, labelled(dataset)), labelled(dataset)))
        at = found[0]
        print(f"  {kind}: {at.people} people, {at.cameras} cameras, {at.queries:,} queries, {at.skipped} skipped")
        for figure in ("rank1", "map") if len(found) == 2 else ():
            difference = paired_bootstrap(*found, figure=figure)
            print(
                f"  {kind} {figure}: ours - peer {shown(difference.value)}, better in {difference.probability:.1%} of draws"
            )
    assert ours.card is not None
    calibration = Calibration.from_dict(ours.card.calibrations[arguments.precision])
    for name, sample in (*zip(SETS, samples, strict=True), ("both", joined(samples))):
        report = measure(calibration, sample)
        print(
            f"calibration on the test people of {name} ({report.people}): Cllr {report.cllr:.3f}, "
            f"minus min Cllr {report.cllr_loss:.3f}; "
            f"error {report.error:.3f} over all pairs, {report.error_middle:.3f} where 0.05 < p < 0.95"
        )
        for mode, at in report.modes.items():
            print(
                f"    {mode} ({at.threshold:.2f}): precision {at.precision:.1%}, recall {at.recall:.1%}, F1 {at.f1:.1%}, "
                f"false matches {at.false_match_rate:.2%}"
            )


if __name__ == "__main__":
    main()
