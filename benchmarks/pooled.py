"""The mission's protocol on the test people of the data sets at hand, pooled: two queries a person, nothing trained anew.

    python benchmarks/pooled.py --model osnet_x0_75

Market-1501's 750 and CUHK03's 100 test people, without distractors. Two pictures a person from two cameras are queries,
all others of all people the gallery; the person's pictures from the query's own camera are taken out. Mean and standard
deviation over ten draws of the queries; the peer (0286 unless --peer names another, or none) answers the same ones.
"""

from pathlib import Path

from passerby.reid.assess import labelled
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.engine import processor
from passerby.reid.evaluate import TwoQueryFigures, evaluate_two_queries
from passerby.types import Float64, Picture
from shared import SETS, model_and_peer, vectors_of

FIGURES = {"Rank-1": "rank1", "Rank-5": "rank5", "mAP": "map"}


def test_pictures(shared: Path, people: int | None) -> list[Picture]:
    """The pictures of the test people of each set, or of the first `people` of each."""
    pictures: list[Picture] = []
    for kind in SETS:
        mine = labelled(read_dataset(kind, shared / "datasets" / kind))
        chosen = set(sorted({picture.person for picture in mine})[:people])
        pictures += [picture for picture in mine if picture.person in chosen]
    return pictures


def shown(draws: Float64) -> str:
    """Mean and standard deviation in percent."""
    return f"{100 * draws.mean():.2f} ± {100 * draws.std(ddof=1):.2f}"


def main() -> None:
    parser = model_and_peer(__doc__)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--people", type=int, help="only so many people of each set, to try it out")
    arguments = parser.parse_args()
    contenders = [(arguments.model, arguments.precision)]
    if arguments.peer != "none":
        contenders.append((arguments.peer, "fp32"))
    pictures = test_pictures(arguments.shared, arguments.people)
    print(f"{processor()}; {' + '.join(SETS)}, {arguments.draws} draws")
    print(f"| network | people | pictures | queries | {' | '.join(FIGURES)} |")
    print("|---|---|---|---|---|---|---|")
    found: list[TwoQueryFigures] = []
    for model, precision in contenders:
        vectors = vectors_of(Embedder(model, precision=precision), pictures)
        at = evaluate_two_queries(pictures, vectors, draws=arguments.draws)
        found.append(at)
        print(
            f"| {Path(model).stem}, {precision} | {at.people} | {at.pictures:,} | {at.queries.mean():,.0f} | "
            f"{' | '.join(shown(getattr(at, figure)) for figure in FIGURES.values())} |",
            flush=True,
        )
    at = found[0]
    print(f"{at.cameras} cameras; {at.one_query} people had one query alone in some draw, {at.no_query} none.")
    if len(found) == 2:
        gains = (
            f"{name} {shown(getattr(found[0], figure) - getattr(found[1], figure))}" for name, figure in FIGURES.items()
        )
        print(f"Ours less the peer's, draw by draw: {', '.join(gains)}.")


if __name__ == "__main__":
    main()
