"""Compare two pictures and search a small gallery.

python examples/quickstart.py a.jpg b.jpg c.jpg
"""

import sys

from passerby import ReIDInference


def main(a: str, b: str, c: str) -> None:
    """Say whether a and b show one person, then look for c among the two."""
    reid = ReIDInference(threshold=0.65)
    match = reid.compare(a, b)
    print(f"same person: {match.same} (probability {match.probability:.1%}, similarity {match.similarity:.2f})")
    reid.add("visitor-1", a)
    reid.add("visitor-2", b)
    answer = reid.identify(c)
    print(f"{c} shows {answer.person or 'nobody for certain'}; nobody of the gallery: {answer.unknown:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
