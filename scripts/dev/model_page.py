"""Write docs/models.md from the cards of the committed models."""

from pathlib import Path

from passerby.reid.card import (
    CardAccuracy,
    DetectorAccuracy,
    DetectorCard,
    ModelCard,
    is_detector,
    read_card,
    read_detector_card,
)

ROOT = Path(__file__).parents[2]
FOUND = {"ap50": "AP50", "recall": "recall at 1 false a picture"}
SHOWN = {"rank1": "Rank-1", "map": "mAP", "minp": "mINP", "eer": "EER"}


GOOD_FOR = {
    "osnet_x0_25": "trackers, who ask it within one camera, and fine-tuning for one shop; not for a new shop: its Rank-1 is "
    "27.0 on GRID, 57.8 on 3DPeS with SARC3D and 35.5 on PKU-Reid, which it never saw, where x0.75 without the place has "
    "67.0, 83.4 and 81.5 ([figures](benchmarks.md#places-that-the-network-never-saw))"
}


def text() -> str:
    """The whole page."""
    parts = [
        "# The models",
        "",
        "Written by `python scripts/dev/model_page.py` from each folder's `card.json`. Figures are percent, with 95 %",
        "intervals over people; peers were measured by the same command. The training data of the peers is not published",
        "and may overlap public tests.",
        "",
    ]
    for folder in sorted(p.parent for p in (ROOT / "models").glob("*/card.json")):
        if is_detector(folder):
            parts += detector_page(folder.name, read_detector_card(folder))
        else:
            parts += page(folder.name, read_card(folder))
    return "\n".join(parts)


def page(name: str, card: ModelCard) -> list[str]:
    """One model's part of the page."""
    learnt = "; ".join(f"{d.name}: {d.people:,} people, {d.pictures:,} pictures ({d.terms})" for d in card.trained_on)
    calibrated = "; ".join(f"{p}: {c['fitted_on']}" for p, c in sorted(card.calibrations.items()))
    files = ", ".join(f"`{f.file}` ({kind}, SHA-256 {f.sha256[:12]})" for kind, f in sorted(card.files.items()))
    rows = [
        f"| {a.peer or name} | {measured(a)} | {a.precision} | "
        f"{' | '.join(cell(a, figure) for figure in SHOWN)} | `{a.command}` |"
        for a in sorted(card.accuracy, key=lambda a: (a.data, a.peer or "", a.precision))
    ]
    networks = "; ".join(f"{n.name} ({n.terms})" for n in card.networks)
    cost = (
        f"{card.processor_hours:g} processor hours, about {card.energy_kwh:g} kWh at 10 W a core"
        if card.energy_kwh
        else "-"
    )
    return [
        f"## {name}",
        "",
        f"- Network: {card.architecture}, {card.embedding_length}-d, pictures of {card.input.height}x{card.input.width}",
        f"- Files: {files}",
        f"- Origin: {card.origin}; recipe `{card.recipe}`, seed {card.seed}; {cost}",
        f"- Begun from or taught by: {networks or 'no other network'}",
        f"- Trained on: {learnt}",
        f"- Commercial use: {card.commercial_use}",
        f"- Calibrated on: {calibrated}",
        *([f"- Good for: {GOOD_FOR[name]}"] if name in GOOD_FOR else []),
        "- Not for: recognising anyone by name, or decisions about a person. Known limits: uniforms and like clothing are",
        "  confused more; people, cameras and seasons unlike those of the training data are told apart less well. Back views",
        "  are not labelled in the data at hand, and not measured apart.",
        "",
        f"| network | data | precision | {' | '.join(SHOWN.values())} | command |",
        f"|---|---|---|{'---|' * len(SHOWN)}---|",
        *rows,
        "",
        *failures(card),
        *cameras(card),
    ]


def detector_page(name: str, card: DetectorCard) -> list[str]:
    """A detector's part of the page."""
    learnt = "; ".join(f"{d.name}: {d.pictures:,} pictures, {d.people:,} people ({d.terms})" for d in card.trained_on)
    files = ", ".join(f"`{f.file}` ({kind}, SHA-256 {f.sha256[:12]})" for kind, f in sorted(card.files.items()))
    sizes = " or ".join(f"{height}x{width}" for height, width in card.sizes)
    rows = [
        f"| {a.peer or name} | {a.data} | {a.precision} | {' | '.join(cell(a, figure) for figure in FOUND)} | `{a.command}` |"
        for a in sorted(card.accuracy, key=lambda a: (a.data, a.peer or "", a.precision))
    ]
    return [
        f"## {name}",
        "",
        f"- Network: {card.architecture}, a person detector for pictures of {sizes}, whichever is nearer in shape",
        f"- Files: {files}",
        f"- Origin: {card.origin}; recipe `{card.recipe}`, seed {card.seed}; {card.processor_hours:g} processor hours",
        f"- Begun from or taught by: {'; '.join(f'{n.name} ({n.terms})' for n in card.networks)}",
        f"- Trained on: {learnt}",
        f"- Commercial use: {card.commercial_use}",
        f"- Scores are the probability that a box is on a person with an IoU of 0.5; calibrated on {card.scores_fitted_on}",
        "- Boxes are of the whole body, feet behind a shelf included, cut at the picture's edges. Known limits: people smaller",
        "  than about 25 px at the network's input, and people seen from straight above.",
        "",
        f"| detector | data | precision | {' | '.join(FOUND.values())} | command |",
        f"|---|---|---|{'---|' * len(FOUND)}---|",
        *rows,
        "",
    ]


def failures(card: ModelCard) -> list[str]:
    """Hard cases, where they were measured."""
    if not card.failures:
        return []
    return [
        f"Where it fails (`{card.failures[0].command}`), percent of queries:",
        "",
        "| data | case | fails | otherwise |",
        "|---|---|---|---|",
        *(f"| {f.data} | {f.case} | {100 * f.rate:.1f} | {100 * f.otherwise:.1f} |" for f in card.failures),
        "",
    ]


def cameras(card: ModelCard) -> list[str]:
    """Rank-1 from camera to camera, the worst and the best pair of each set."""
    lines = []
    for a in card.accuracy:
        if a.peer or a.precision != "fp32" or len(a.cameras) < 2:
            continue
        ranked = sorted(a.cameras, key=lambda c: c.rank1)
        pairs = ", ".join(
            f"{c.query} to {c.gallery} {100 * c.rank1:.1f} ({c.queries} queries)" for c in (ranked[0], ranked[-1])
        )
        lines.append(f"Rank-1 from camera to camera on {a.data}, the worst and the best of {len(ranked)}: {pairs}.")
    return [*lines, ""] if lines else []


def measured(accuracy: CardAccuracy) -> str:
    """The data, with its people, cameras and queries where the card knows them."""
    if accuracy.people is None:
        return accuracy.data
    return f"{accuracy.data}: {accuracy.people:,} people, {accuracy.seen_by} cameras, {accuracy.queries:,} queries"


def cell(accuracy: CardAccuracy | DetectorAccuracy, figure: str) -> str:
    """A figure with its interval, in percent."""
    found = accuracy.figures[figure]
    value, low, high = found["value"], found["low"], found["high"]
    assert value is not None
    return f"{value:.1%}" if low is None or high is None else f"{100 * value:.1f} ({100 * low:.1f}-{100 * high:.1f})"


if __name__ == "__main__":
    (ROOT / "docs" / "models.md").write_text(text())
    print("wrote docs/models.md")
