"""Rank real queries of Market-1501 with the bundled network and say how sure it is; nothing is shown but file names.

python examples/rank_market.py ../shared/datasets/market1501
"""

import sys
from pathlib import Path

from passerby import ReIDInference


def main(root: Path, *, queries: int = 3, people: int = 20, each: int = 6) -> None:
    """Search `queries` people among `people` others, `each` pictures of every one as gallery."""
    reid = ReIDInference(mode="high-precision")
    files: dict[str, list[Path]] = {}
    for path in sorted((root / "bounding_box_test").iterdir()):
        if not path.name.startswith(("0000", "-1")):
            files.setdefault(path.name[:4], []).append(path)
    for person in list(files)[:people]:
        reid.add(person, files[person][:each])
    for person in [*list(files)[: queries - 1], list(files)[people]]:  # the last one is not in the gallery
        query = sorted((root / "query").glob(f"{person}_*"))[-1]
        answer = reid.identify(query, top=3)
        among = "in the gallery" if person in reid.gallery else "not in the gallery"
        print(f"{query.name} (person {person}, {among}): {answer.person or 'nobody for certain'}")
        for match in answer.matches:
            print(f"    {match.person}  {match.probability:6.1%}  similarity {match.similarity:.2f}")
        print(f"    nobody of the gallery  {answer.unknown:6.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
