"""One self-contained HTML page about a model on a data set: curves, histograms, camera pairs, ranked galleries."""

import base64
import html
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from passerby.files import write_text
from passerby.reid.evaluate import Evaluation, FromCamera, camera_pairs, evaluate
from passerby.reid.pictures import read_picture, resize
from passerby.reid.retrieval import Labels, Pairs, pair_scores, protocol_parts, roc
from passerby.types import Dataset, Float32, Float64, Picture

SHOWN_QUERIES = 12
SHOWN_RANKS = 8
CMC_TICKS = (1, 5, 10, 20, 30, 40, 50)
CROP_HEIGHT_PX, CROP_WIDTH_PX = 128, 64
HEAD_SHARE = 0.2  # of a crop's height; blurred wherever a crop is shown
NAMES = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "rank20": "Rank-20",
    "map": "mAP",
    "map_trapezoid": "mAP (trapezoid)",
    "minp": "mINP",
    "eer": "Equal error rate",
    "tpr_at_fpr_1e-2": "True positives at 1 % false positives",
    "tpr_at_fpr_1e-3": "True positives at 0.1 % false positives",
    "tpr_at_fpr_1e-4": "True positives at 0.01 % false positives",
    "dir_at_far_1e-1": "Found and named, 10 % of strangers named",
    "dir_at_far_1e-2": "Found and named, 1 % of strangers named",
}
STYLE = """
:root{--ink:#1c2430;--soft:#667085;--line:#e4e7ec;--a:#2563eb;--b:#d97706;--good:#16a34a;--bad:#dc2626}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem}.soft{color:var(--soft)}
table{border-collapse:collapse}td,th{padding:.3rem .8rem;border-bottom:1px solid var(--line);text-align:right}
td:first-child,th:first-child{text-align:left}.plots{display:flex;flex-wrap:wrap;gap:1.5rem}
.strip{display:flex;gap:6px;margin:.4rem 0;align-items:end}.strip img{display:block;border:3px solid var(--line);border-radius:4px}
.strip .right img{border-color:var(--good)}.strip .wrong img{border-color:var(--bad)}.strip small{color:var(--soft)}
figure{margin:0}figcaption{font-size:.8rem;color:var(--soft);text-align:center}code{background:#f2f4f7;padding:.1rem .3rem}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
"""


def write_report(
    path: Path,
    dataset: Dataset,
    query_embeddings: Float32,
    gallery_embeddings: Float32,
    *,
    model: str,
    command: str,
    show_crops: bool = False,
) -> Evaluation:
    """Write the page, whole or not at all, and return the evaluation that it shows.

    Embeddings are (queries, length) and (gallery pictures, length) in the data set's order. Crops are shown only where
    the data set may be shown, or where `show_crops` says so, and always with the heads blurred.
    """
    evaluation = evaluate(dataset, query_embeddings, gallery_embeddings)
    kept = np.array([i for i, p in enumerate(dataset.gallery) if p.role != "junk"], np.int64)
    query, gallery = Labels.of(dataset.query), Labels.of(dataset.gallery).take(kept)
    vectors = gallery_embeddings[kept]
    pairs = [
        pair_scores(query_embeddings[q], vectors[g], query_labels=query.take(q), gallery_labels=gallery.take(g))
        for q, g in protocol_parts(dataset.protocol, query, gallery)
    ]
    shown = show_crops or dataset.shareable
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(model)} on {html.escape(dataset.name)}</title><style>{STYLE}</style></head><body>
<h1>{html.escape(model)} on {html.escape(dataset.name)}</h1>
<p class="soft">Protocol {evaluation.protocol}; {evaluation.queries} queries of {evaluation.people} people, {evaluation.cameras} cameras
({evaluation.skipped} without a right answer, skipped), {evaluation.gallery} gallery pictures;
split {evaluation.split_sha256[:12]}. Made by <code>{html.escape(command)}</code></p>
<h2>Figures</h2><p class="soft">In brackets: 95 % interval, people resampled.</p>{_figures(evaluation)}
<h2>Curves</h2><div class="plots">{_cmc(evaluation)}{_roc(pairs)}{_histogram(pairs)}</div>
<h2>From camera to camera</h2>{_cameras(camera_pairs(dataset, query_embeddings, gallery_embeddings))}
<h2>Ranked galleries</h2>{_galleries(dataset, kept, query_embeddings, vectors) if shown else _hidden(dataset)}
</body></html>
"""
    write_text(path, page)
    return evaluation


def _figures(evaluation: Evaluation) -> str:
    rows = []
    for name, figure in evaluation.as_dict().items():
        if isinstance(figure, dict) and "value" in figure:
            interval = "" if figure["low"] is None else f"[{figure['low']:.1%}, {figure['high']:.1%}]"
            value = "–" if figure["value"] is None else f"{figure['value']:.1%}"
            rows.append(f"<tr><td>{NAMES.get(name, name)}</td><td>{value}</td><td>{interval}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _cmc(evaluation: Evaluation) -> str:
    ranks = np.arange(1, len(evaluation.cmc) + 1, dtype=np.float64)
    line = [(ranks, np.array(evaluation.cmc), "var(--a)", "")]
    low = min(0.8, float(np.floor(10 * evaluation.cmc[0]) / 10))
    last = float(ranks[-1])
    ticks = [(float(rank), str(rank)) for rank in CMC_TICKS if rank <= last]
    return _plot("Right answer among the first k (CMC)", "k", line, x=(1.0, last), y=(low, 1.0), ticks=ticks)


def _roc(pairs: Sequence[Pairs]) -> str:
    curve = roc(sum(p.same.sum(0) for p in pairs), sum(p.different.sum(0) for p in pairs))
    positive = curve.fpr > 1e-6
    line = [(np.log10(curve.fpr[positive]), curve.tpr[positive], "var(--a)", "")]
    ticks = [(float(power), f"{100 * 10.0**power:g} %") for power in range(-5, 1)]
    return _plot(
        "Same pairs accepted (ROC)", "different pairs accepted", line, x=(-5.0, 0.0), y=(0.0, 1.0), ticks=ticks
    )


def _histogram(pairs: Sequence[Pairs]) -> str:
    def shares(counts: Float64) -> Float64:
        coarse = counts.reshape(64, -1).sum(1)
        return np.asarray(coarse / max(coarse.sum(), 1), np.float64)

    x = np.linspace(-1, 1, 65)[:-1] + 1 / 64
    same = shares(np.sum([p.same.sum(0) for p in pairs], axis=0).astype(np.float64))
    different = shares(np.sum([p.different.sum(0) for p in pairs], axis=0).astype(np.float64))
    lines = [(x, same, "var(--a)", "same person"), (x, different, "var(--b)", "different people")]
    highest = max(0.05, math.ceil(20 * max(same.max(), different.max())) / 20)  # five steps of whole percents
    return _plot(
        "How similar pairs are",
        "cosine similarity",
        lines,
        x=(-0.5, 1.0),
        y=(0.0, highest),
        ticks=[(float(value), f"{value:g}") for value in (-0.5, 0, 0.5, 1)],
    )


def _cameras(found: Sequence[FromCamera]) -> str:
    """Rank-1 of the queries of each camera against the pictures of each other one alone."""
    if not found:
        return "<p>This data set has no two cameras to go between.</p>"
    at = {(pair.query, pair.gallery): pair for pair in found}
    cameras = sorted({camera for both in at for camera in both})

    def cell(a: str, b: str) -> str:
        if (a, b) not in at:
            return "<td>–</td>"
        pair = at[a, b]
        shade = f"background:rgba(37,99,235,{pair.rank1 * 0.35:.2f})"
        return f'<td title="{pair.queries} queries" style="{shade}">{pair.rank1:.1%}</td>'

    rows = [f"<tr><td>{_camera(a)}</td>{''.join(cell(a, b) for b in cameras)}</tr>" for a in cameras]
    head = "".join(f"<th>{_camera(b)}</th>" for b in cameras)
    return (
        "<p class=\"soft\">Rank-1 of queries of the row's camera against pictures of the column's camera alone.</p>"
        f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
    )


def _camera(scoped: str) -> str:
    return html.escape(scoped.partition(":")[2] or scoped or "unknown")


def _galleries(
    dataset: Dataset, kept: "np.ndarray[tuple[int], np.dtype[np.int64]]", query: Float32, gallery: Float32
) -> str:
    step = max(1, len(dataset.query) // SHOWN_QUERIES)
    strips = []
    for i in range(0, len(dataset.query), step)[:SHOWN_QUERIES]:
        asked = dataset.query[i]
        answers = []
        for j in np.argsort(-(gallery @ query[i]), kind="stable").tolist():
            found = dataset.gallery[int(kept[j])]
            same_camera = asked.camera is not None and found.camera == asked.camera
            same_person = found.person == asked.person
            if found.path == asked.path or (same_camera and (same_person or dataset.protocol != "market1501")):
                continue  # the protocol leaves it out too
            kind = "right" if same_person else "wrong"
            answers.append(_crop(found, f"{float(gallery[j] @ query[i]):.2f}", kind))
            if len(answers) == SHOWN_RANKS:
                break
        strips.append(f'<div class="strip">{_crop(asked, "query", "")}<small>→</small>{"".join(answers)}</div>')
    return f'<p class="soft">Green: the same person; red: somebody else. Below each, the cosine.</p>{"".join(strips)}'


def _crop(picture: Picture, caption: str, kind: str) -> str:
    import cv2

    pixels = resize(read_picture(picture.path), height=CROP_HEIGHT_PX, width=CROP_WIDTH_PX).copy()
    head = pixels[: int(HEAD_SHARE * CROP_HEIGHT_PX)]
    head[:] = cv2.blur(head, (15, 15))
    _, jpeg = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    data = base64.b64encode(jpeg.tobytes()).decode()
    return f'<figure class="{kind}"><img alt="" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def _hidden(dataset: Dataset) -> str:
    return f"<p>Left out: the terms of {html.escape(dataset.name)} do not say that its pictures may be shown.</p>"


def _plot(
    title: str,
    label: str,
    lines: Sequence[tuple[Float64, Float64, str, str]],
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    ticks: Sequence[tuple[float, str]],
) -> str:
    """Lines (x, y, colour, name) in one frame, as inline SVG; `ticks` are where on the x axis something is written."""
    width, height, left, right, bottom, top = 340, 240, 44, 18, 36, 12

    def place(px: float, py: float) -> tuple[float, float]:
        across = (px - x[0]) / (x[1] - x[0])
        up = (py - y[0]) / (y[1] - y[0] or 1)
        return left + across * (width - left - right), height - bottom - up * (height - bottom - top)

    parts = []
    for share in np.linspace(0, 1, 6):
        px, py = place(x[0], y[0] + share * (y[1] - y[0]))
        value = y[0] + share * (y[1] - y[0])
        parts.append(f'<line x1="{px}" y1="{py:.1f}" x2="{width - right}" y2="{py:.1f}" stroke="var(--line)"/>')
        parts.append(f'<text x="{px - 5}" y="{py + 4:.1f}" text-anchor="end">{100 * value:.0f} %</text>')
    for value, written in ticks:
        px, py = place(value, y[0])
        parts.append(f'<line x1="{px:.1f}" y1="{py}" x2="{px:.1f}" y2="{py + 4}" stroke="var(--soft)"/>')
        parts.append(f'<text x="{px:.1f}" y="{py + 16:.1f}" text-anchor="middle">{written}</text>')
    for number, (xs, ys, colour, name) in enumerate(lines):
        inside = (xs >= x[0]) & (xs <= x[1])
        points = " ".join("{:.1f},{:.1f}".format(*place(px, py)) for px, py in zip(xs[inside], ys[inside], strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if name:
            parts.append(f'<text x="{left + 10}" y="{top + 14 + 14 * number}" style="fill:{colour}">{name}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">{label}</text>')
    return (
        f'<figure><svg width="{width}" height="{height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
        f"<figcaption>{title}</figcaption></figure>"
    )
