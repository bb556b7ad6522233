"""Data sets of labelled person crops: readers of their official layouts, splits by person, merging, leakage.

Every reader answers the same way: pictures with scoped ids, sorted by name, so that the same folder gives the same data
set everywhere. Nothing is dropped in silence: a file that does not fit the layout is an error that names it.
"""

import csv
import difflib
import hashlib
import io
import json
import os
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from passerby.reid.pictures import read_picture
from passerby.types import Dataset, DatasetError, Float32, Picture, PictureError, Protocol, Role, UInt8

Split = Literal["train", "dev", "test", "official"]
Boxes = Literal["detected", "labelled"]
Cuhk03Protocol = Literal["split.json", "new", "classic"]
Pictures = tuple[Picture, ...]

DEV_PEOPLE = 75
FOLDER_PATTERN = r"(?:.*/)?(?P<person>[^_/]+)_(?P<camera>[^_/]+)(?:_(?P<frame>\d+))?(?:_[^/]*)?"
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
IGNORED_FILES = frozenset({"thumbs.db", "desktop.ini"})

# Two pictures are near-duplicates when their thumbnails correlate at least this much: 8x16 grey first, then 16x32 in
# colour. Measured on Market-1501 and CUHK03: pictures of different people reach 0.962 and 0.934; the same
# picture compressed again (JPEG quality 30), halved, or brightened by 15 keeps 0.998 and 0.993, trimmed by a pixel
# 0.984 and 0.964.
DUPLICATE_GREY = 0.97
DUPLICATE_COLOUR = 0.95


@dataclass(frozen=True, slots=True)
class PersonSplit:
    """A person-disjoint split of any pictures: `train`, and `dev` and `test` with their queries and galleries."""

    name: str
    train: Pictures
    dev: Dataset
    test: Dataset

    @property
    def sha256(self) -> str:
        """The hash of the whole split: names, people, cameras and roles of its three parts."""
        parts = (split_hash(_training_set(self.name, self.train)), split_hash(self.dev), split_hash(self.test))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Release:
    """A data set as its authors released it; `dev_*` where they released a validation part too."""

    train: Pictures
    query: Pictures
    gallery: Pictures
    protocol: Protocol
    dev_query: Pictures = ()
    dev_gallery: Pictures = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Options:
    pattern: str | None
    boxes: Boxes
    cuhk03_protocol: Cuhk03Protocol | None
    cuhk03_split: int
    cache: Path | None


def parse_spec(spec: str) -> tuple[str, Path]:
    """Split `"market1501:PATH"` into its kind and path.

    Raises DatasetError when the kind is missing or unknown.

    >>> parse_spec("market1501:data/market")[0]
    'market1501'
    """
    kind, colon, root = spec.partition(":")
    if not colon or not root:
        raise DatasetError(
            f"data {spec!r}: expected KIND:PATH such as market1501:data/market, got no {'path' if colon else 'kind'}"
        )
    _check_kind(kind)
    return kind, Path(root)


def read_dataset(
    kind: str,
    root: Path,
    *,
    split: Split = "test",
    skip_unreadable: bool = False,
    people: int = DEV_PEOPLE,
    seed: int = 0,
    pattern: str | None = None,
    boxes: Boxes = "detected",
    cuhk03_protocol: Cuhk03Protocol | None = None,
    cuhk03_split: int = 0,
    cache: Path | None = None,
) -> Dataset:
    """Read one part of a data set in its official layout.

    `kind` is one of market1501, dukemtmc, cuhk03, last, msmt17, folder, csv. `split` chooses the part:
    "train" (the training people without the dev people, no queries), "dev" (`people` training people drawn with `seed`,
    see `dev_split`; LaST has its own), "test" (queries and gallery, nothing to train on), or "official" (training
    people, queries and gallery as released).

    With `skip_unreadable`, every picture of the part is decoded once and those that cannot be are left out, which
    `Dataset.notes` counts and names; without it the pictures are not opened here (`check_readable` does that).
    `pattern` is for "folder": a regular expression for the whole path below the root, without suffix, with groups
    `person` and, where there are any, `camera`, `sequence` and `frame`. `boxes`, `cuhk03_protocol`, `cuhk03_split`
    (which of the 20 classic splits) and `cache` (where pictures of `cuhk-03.mat` are unpacked) are for "cuhk03".

    Raises DatasetError when the folder is not what it claims to be: what was expected, what was found, what to do.

    Layouts: Market-1501 (Zheng et al., ICCV 2015), DukeMTMC-reID (Zheng et al., ICCV 2017), CUHK03 (Li et al., CVPR
    2014) with the 767/700 protocol of Zhong et al. (CVPR 2017), LaST (Shu et al., 2021), MSMT17 V1 and V2 (Wei et al.,
    CVPR 2018).
    """
    _check_kind(kind)
    if split not in get_args(Split):
        raise DatasetError(f"{kind}: expected a split of {', '.join(get_args(Split))}, got {split!r}")
    root = Path(root)
    release = READERS[kind](root, _Options(pattern, boxes, cuhk03_protocol, cuhk03_split, cache))
    name = _scope(root) if kind in ("csv", "folder") else kind
    released = Dataset(name, release.train, release.query, release.gallery, release.protocol, notes=release.notes)
    dataset = _part(released, release, split, people=people, seed=seed)
    if not dataset.train and not dataset.query:
        raise DatasetError(f"{root}: this {kind} data set has no {split} part; use another split")
    return _without_unreadable(dataset) if skip_unreadable else dataset


def read_pictures(kind: str, root: Path) -> Pictures:
    """Every picture of every part of a data set in its official layout, each once: what a split of one's own is made of.

    Raises DatasetError as `read_dataset`, whose defaults hold for the other choices.
    """
    _check_kind(kind)
    release = READERS[kind](Path(root), _Options(None, "detected", None, 0, None))
    parts = (release.train, release.dev_query, release.dev_gallery, release.query, release.gallery)
    return tuple(dict.fromkeys(picture for part in parts for picture in part))


def dev_split(dataset: Dataset, *, people: int = DEV_PEOPLE, seed: int = 0) -> tuple[Pictures, Dataset]:
    """Set `people` training people aside for choices: the training pictures without them, and a dev set of them.

    Drawn with `seed` from the training people that can be queried (two cameras, or two pictures where there are no
    camera labels). The dev set keeps the data set's protocol: for "market1501" two queries a person from two cameras
    and all their other pictures as gallery, else every picture in both parts. Raises DatasetError when there are too
    few.
    """
    by_person = _by_person(dataset.train)
    eligible = [person for person, pictures in by_person.items() if _can_be_queried(pictures)]
    if not 0 < people <= len(eligible) or people >= len(by_person):
        raise DatasetError(
            f"{dataset.name}: expected 1 to {min(len(eligible), len(by_person) - 1)} dev people of {len(by_person)} "
            f"training people, {len(eligible)} of whom can be queried, got people={people}; choose fewer"
        )
    rng = np.random.default_rng(seed)
    chosen = {eligible[i] for i in rng.permutation(len(eligible))[:people]}
    train = tuple(picture for picture in dataset.train if picture.person not in chosen)
    held = tuple(picture for picture in dataset.train if picture.person in chosen)
    query, gallery = _two_queries(held, rng) if dataset.protocol == "market1501" else (held, held)
    dev = Dataset(f"{dataset.name}/dev", (), query, gallery, dataset.protocol, shareable=dataset.shareable)
    return train, dev


def merge(datasets: Sequence[Dataset]) -> Dataset:
    """Join data sets into one; their ids are scoped, so they stay disjoint.

    Raises DatasetError for a picture or a person that two of them hold (as two copies of one kind do), and for
    evaluation parts of different protocols: their figures do not add up, so either evaluate them one by one or make one
    protocol with `person_disjoint_split`.
    """
    if not datasets:
        raise DatasetError("merge: expected at least one data set, got none")
    seen: dict[Path, int] = {}
    for number, dataset in enumerate(datasets):
        for picture in dataset.train + dataset.query + dataset.gallery:
            if seen.setdefault(picture.path, number) != number:
                raise DatasetError(
                    f"merge: {picture.path} stands in {datasets[seen[picture.path]].name} and {dataset.name}"
                )
    owner: dict[str, int] = {}
    for number, dataset in enumerate(datasets):
        for person in sorted({picture.person for picture in dataset.train + dataset.query + dataset.gallery}):
            if owner.setdefault(person, number) != number:
                raise DatasetError(
                    f"merge: person {person} stands in {datasets[owner[person]].name} and {dataset.name}; "
                    "give one of them other ids, as manifests with two names do"
                )
    protocols = {dataset.protocol for dataset in datasets if dataset.query}
    if len(protocols) > 1:
        raise DatasetError(
            f"merge: expected one evaluation protocol, got {', '.join(sorted(protocols))}; evaluate them one by one, "
            "or split their union with person_disjoint_split"
        )
    return Dataset(
        name="+".join(dataset.name for dataset in datasets),
        train=tuple(picture for dataset in datasets for picture in dataset.train),
        query=tuple(picture for dataset in datasets for picture in dataset.query),
        gallery=tuple(picture for dataset in datasets for picture in dataset.gallery),
        protocol=protocols.pop() if protocols else datasets[0].protocol,
        shareable=all(dataset.shareable for dataset in datasets),
        notes=tuple(note for dataset in datasets for note in dataset.notes),
    )


def person_disjoint_split(
    pictures: Iterable[Picture],
    *,
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    name: str = "union",
) -> PersonSplit:
    """Split any pictures into train, dev and test people; no person stands in two parts.

    `shares` are the parts of the people, drawn with `seed` within each source data set, so that every source is in each
    part. Dev and test have two queries a person from two cameras, their gallery is all other pictures of their people
    ("market1501" protocol). Junk and distractor pictures belong to their own set's gallery and are left out. People who
    cannot be queried (one picture, or one camera) are in the gallery only. Raises DatasetError when a part comes out
    empty or a picture comes twice.
    """
    if len(shares) != 3 or min(shares) <= 0 or not np.isclose(sum(shares), 1.0):
        raise DatasetError(f"person_disjoint_split: expected three positive shares that sum to 1, got {shares}")
    people = sorted((p for p in pictures if p.role == "person"), key=lambda p: (p.person, p.path.as_posix()))
    twice = [str(path) for path, count in Counter(picture.path for picture in people).items() if count > 1]
    if twice:
        raise DatasetError(f"person_disjoint_split: expected each picture once, got {_some(twice)} more than once")
    rng = np.random.default_rng(seed)
    part_of: dict[str, int] = {}
    sources: dict[str, list[str]] = defaultdict(list)
    for person in _by_person(people):
        sources[_source(person)].append(person)
    for source in sorted(sources):
        names = [sources[source][i] for i in rng.permutation(len(sources[source]))]
        first, second = round(len(names) * shares[0]), round(len(names) * (shares[0] + shares[1]))
        part_of.update({person: (i >= first) + (i >= second) for i, person in enumerate(names)})
    train, dev, test = (tuple(p for p in people if part_of[p.person] == part) for part in range(3))
    parts = {"dev": _two_queries(dev, rng), "test": _two_queries(test, rng)}
    for part, (query, gallery) in parts.items():
        if not train or not query or not gallery:
            raise DatasetError(
                f"person_disjoint_split: {len(part_of)} people are too few for shares {shares}: train has {len(train)} "
                f"pictures, {part} {len(query)} queries and a gallery of {len(gallery)}; expected at least one of each"
            )
    return PersonSplit(
        name,
        train,
        dev=Dataset(f"{name}/dev", (), *parts["dev"], "market1501"),
        test=Dataset(f"{name}/test", (), *parts["test"], "market1501"),
    )


def without_near_duplicates(split: PersonSplit) -> PersonSplit:
    """The split less the training pictures that nearly equal a dev or test picture, which `check_leakage` refuses."""
    parts = (split.dev, split.test)
    measured = [picture for part in parts for picture in dict.fromkeys((*part.query, *part.gallery))]
    again = {i for i, _ in near_duplicates(split.train, measured)}
    return replace(split, train=tuple(picture for i, picture in enumerate(split.train) if i not in again))


def two_query_test(pictures: Iterable[Picture], *, seed: int = 0, name: str = "pooled") -> Dataset:
    """Any people's pictures as a test: two queries a person from two cameras, drawn with `seed`, the rest as gallery.

    A query always has an answer in the gallery, from another camera where cameras are known; people of whom that allows
    one query have one, others are in the gallery only. Junk and distractors are left out. Raises DatasetError where
    nobody can be queried.
    """
    people = tuple(sorted((p for p in pictures if p.role == "person"), key=lambda p: (p.person, p.path.as_posix())))
    query, gallery = _two_queries(people, np.random.default_rng(seed))
    if not query:
        raise DatasetError(
            f"{name}: none of {len({p.person for p in people})} people has pictures from two cameras; are they right?"
        )
    return Dataset(name, (), query, gallery, "market1501")


def save_split(split: PersonSplit, path: Path) -> None:
    """Write a split as a CSV manifest whose first line holds its SHA-256; paths are relative to the manifest's folder.

    The file is also a data set: `read_dataset("csv", path)`.
    """
    folder = path.resolve().parent
    text = io.StringIO()
    text.write(f"# passerby split 1, sha256 {split.sha256}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(MANIFEST_COLUMNS)
    parts = {
        "train": split.train,
        "dev-query": split.dev.query,
        "dev-gallery": split.dev.gallery,
        "query": split.test.query,
        "gallery": split.test.gallery,
    }
    for part, pictures in parts.items():
        for p in pictures:
            relative = Path(os.path.relpath(p.path.resolve(), folder)).as_posix()
            time = "" if p.seen_at is None else p.seen_at.isoformat()
            frame = "" if p.frame is None else p.frame
            writer.writerow([relative, p.person, p.camera or "", part, time, p.role, p.sequence or "", frame])
    path.write_text(text.getvalue(), encoding="utf-8")


def load_split(path: Path) -> PersonSplit:
    """Read a manifest that `save_split` wrote; raises DatasetError when it was changed or pictures are missing."""
    release, sha256 = _read_manifest(path)
    if sha256 is None:
        raise DatasetError(
            f"{path}: expected a first line '# passerby split 1, sha256 ...'; was it written by save_split?"
        )
    return _manifest_split(path, release)


def split_hash(dataset: Dataset) -> str:
    """SHA-256 over the names, people, cameras and roles of a data set, part by part.

    Names are relative to the folder that a source's pictures share, so the hash is the same on every machine.
    """
    parts = (("train", dataset.train), ("query", dataset.query), ("gallery", dataset.gallery))
    every = [picture for _, pictures in parts for picture in pictures]
    places = dict.fromkeys((_source(p.person), p.path.parent) for p in every)
    folders = {(source, folder): str(folder.absolute()) for source, folder in places}
    roots: dict[str, list[str]] = defaultdict(list)
    for (source, _), absolute in folders.items():
        roots[source].append(absolute)
    inside = {
        key: Path(os.path.relpath(absolute, os.path.commonpath(roots[key[0]]))) for key, absolute in folders.items()
    }
    digest = hashlib.sha256(f"{dataset.protocol}\n".encode())
    for part, pictures in parts:
        for p in pictures:
            relative = (inside[_source(p.person), p.path.parent] / p.path.name).as_posix()
            digest.update(f"{part}\t{relative}\t{p.person}\t{p.camera or ''}\t{p.role}\n".encode())
    return digest.hexdigest()


def check_readable(pictures: Sequence[Picture], *, skip_unreadable: bool = False) -> Pictures:
    """Decode every picture once; return those that can be decoded, in order.

    Raises DatasetError that counts and names those that are missing, empty, truncated or no picture, unless
    `skip_unreadable`. About 3,000 pictures of 64x128 a second.
    """
    with ThreadPoolExecutor(_threads()) as pool:
        reasons = list(pool.map(lambda picture: _why_unreadable(picture.path), pictures))
    bad = [f"{picture.path} ({reason})" for picture, reason in zip(pictures, reasons, strict=True) if reason]
    if bad and not skip_unreadable:
        raise DatasetError(
            f"{len(bad)} of {len(pictures)} pictures cannot be decoded: {_some(bad)}; "
            "copy them again, or leave them out with --skip-unreadable"
        )
    return tuple(picture for picture, reason in zip(pictures, reasons, strict=True) if not reason)


def check_leakage(train: Sequence[Picture], test: Sequence[Picture]) -> None:
    """Raise DatasetError when what is trained on reappears in what is measured: people, or near-duplicate pictures.

    Near-duplicates are found by correlating thumbnails of every training with every test picture (exact, no hashing;
    20,000 against 20,000 take some seconds): copies that were compressed again, resized, brightened or trimmed by a
    pixel. Pictures of different people before the same background stay clear of the bound. Mirrored copies are not
    found.
    """
    people = sorted({p.person for p in train} & {p.person for p in test})
    if people:
        raise DatasetError(
            f"leakage: {len(people)} people stand in both parts: {_some(people)}; split by person, "
            "for instance with person_disjoint_split"
        )
    pairs = near_duplicates(train, test)
    if pairs:
        named = [f"{train[i].path} = {test[j].path}" for i, j in pairs]
        raise DatasetError(
            f"leakage: {len(pairs)} pairs of pictures are near-duplicates across the parts: {_some(named)}; "
            "remove one of each pair, or give both one person id"
        )


def near_duplicates(first: Sequence[Picture], second: Sequence[Picture]) -> list[tuple[int, int]]:
    """Index pairs (i, j) where `first[i]` and `second[j]` show the same picture; see `check_leakage`.

    Pictures without contrast are compared by their colour. Raises DatasetError for one that cannot be decoded.
    """
    if not first or not second:
        return []
    colour_a, colour_b = _thumbnails(first), _thumbnails(second)
    grey_a, grey_b = _standardised(_halved_grey(colour_a)), _standardised(_halved_grey(colour_b))
    flat_a, flat_b = _standardised(colour_a), _standardised(colour_b)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(first), 1024):
        close = grey_a[start : start + 1024] @ grey_b.T >= DUPLICATE_GREY  # (chunk, second)
        rows, columns = np.nonzero(close)
        agree = np.einsum("ij,ij->i", flat_a[start + rows], flat_b[columns]) >= DUPLICATE_COLOUR
        pairs += [(start + int(i), int(j)) for i, j in zip(rows[agree], columns[agree], strict=True)]
    return pairs


def _part(released: Dataset, release: _Release, split: Split, *, people: int, seed: int) -> Dataset:
    if split == "official":
        return released
    if split == "test":
        return replace(released, name=f"{released.name}/test", train=())
    if release.dev_query:
        train = release.train
        dev = Dataset(
            f"{released.name}/dev", (), release.dev_query, release.dev_gallery, release.protocol, notes=release.notes
        )
    elif release.train:
        train, dev = dev_split(released, people=people, seed=seed)
    else:
        raise DatasetError(f"{released.name}: this data set has no training people; use split='test'")
    if split == "dev":
        return dev
    return replace(_training_set(released.name, train), protocol=released.protocol, notes=released.notes)


def _training_set(name: str, train: Pictures) -> Dataset:
    return Dataset(f"{name}/train", train, (), (), "market1501")


def _without_unreadable(dataset: Dataset) -> Dataset:
    every = tuple(dict.fromkeys(dataset.train + dataset.query + dataset.gallery))
    readable = {picture.path for picture in check_readable(every, skip_unreadable=True)}
    bad = [str(picture.path) for picture in every if picture.path not in readable]
    if not bad:
        return dataset
    note = f"{len(bad)} pictures could not be decoded and are left out: {_some(bad)}"
    kept = (tuple(p for p in part if p.path in readable) for part in (dataset.train, dataset.query, dataset.gallery))
    train, query, gallery = kept
    return replace(dataset, train=train, query=query, gallery=gallery, notes=(*dataset.notes, note))


def _check_kind(kind: str) -> None:
    if kind not in READERS:
        near = difflib.get_close_matches(kind, READERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DatasetError(f"data: expected a kind of {', '.join(READERS)}, got {kind!r}{hint}")


def _scope(root: Path) -> str:
    return root.resolve().stem or "folder"


def _source(person: str) -> str:
    return person.partition(":")[0]


def _some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _by_person(pictures: Iterable[Picture]) -> dict[str, list[Picture]]:
    people: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        if picture.role == "person":
            people[picture.person].append(picture)
    return dict(sorted(people.items()))


def _matches(a: Picture, b: Picture) -> bool:
    """Whether b answers the query a: another picture, from another camera where cameras are known."""
    return a.path != b.path and (a.camera is None or b.camera is None or a.camera != b.camera)


def _can_be_queried(pictures: Sequence[Picture]) -> bool:
    cameras = {picture.camera for picture in pictures}
    return len(pictures) > 1 and (len(cameras) > 1 or None in cameras)


def _two_queries(pictures: Pictures, rng: np.random.Generator) -> tuple[Pictures, Pictures]:
    """Two queries a person from two cameras, all other pictures as gallery; a query always keeps an answer there."""
    chosen: set[Path] = set()
    for mine in _by_person(pictures).values():
        queries: list[Picture] = []
        for index in rng.permutation(len(mine)):
            wanted = [*queries, mine[index]]
            rest = [picture for picture in mine if picture not in wanted]
            if all(_matches(queries[0], mine[index]) for _ in queries) and all(
                any(_matches(query, other) for other in rest) for query in wanted
            ):
                queries = wanted
            if len(queries) == 2:
                break
        chosen.update(picture.path for picture in queries)
    query = tuple(picture for picture in pictures if picture.path in chosen)
    return query, tuple(picture for picture in pictures if picture.path not in chosen)


# Readers, one a kind.


def _files(folder: Path, *, holds: str, deep: bool = False) -> list[Path]:
    """The files of a folder, sorted; system files and names that start with a dot are not part of a data set."""
    if not folder.is_dir():
        around = sorted(entry.name for entry in folder.parent.iterdir())[:8] if folder.parent.is_dir() else None
        found = (
            f"{folder.parent} holds {', '.join(around) or 'nothing'}"
            if around is not None
            else f"there is no {folder.parent} either"
        )
        raise DatasetError(
            f"{folder}: expected a folder with {holds}, found none; {found}. Is the path the data set's root?"
        )
    entries = sorted(folder.rglob("*") if deep else folder.iterdir())
    files = [
        entry
        for entry in entries
        if entry.name.lower() not in IGNORED_FILES
        and not any(part.startswith(".") for part in entry.relative_to(folder).parts)
        and not (deep and entry.is_dir())
    ]
    if not files:
        raise DatasetError(f"{folder}: expected {holds}, found an empty folder; was the archive unpacked in full?")
    return files


def _match_all(files: Sequence[Path], pattern: re.Pattern[str], *, expected: str) -> list[tuple[Path, re.Match[str]]]:
    matched = [(path, pattern.fullmatch(path.name)) for path in files]
    strangers = [path.name for path, match in matched if match is None]
    if strangers:
        raise DatasetError(
            f"{files[0].parent}: expected {expected}, found {len(strangers)} of {len(files)} otherwise named: "
            f"{_some(strangers)}; move them out, or read the folder as folder:PATH with a pattern"
        )
    return [(path, match) for path, match in matched if match is not None]


def _parts(pictures: Iterable[Picture]) -> tuple[int, int]:
    counted = list(pictures)
    return len(counted), len({picture.person for picture in counted})


def _notes(name: str, found: dict[str, tuple[int, int]], official: dict[str, tuple[int, int]]) -> tuple[str, ...]:
    return tuple(
        f"{name}: {part}: {found[part][0]:,} pictures of {found[part][1]:,} ids, "
        f"the release has {count[0]:,} of {count[1]:,}"
        for part, count in official.items()
        if found[part] != count
    )


def _only_people(pictures: Pictures, folder: Path) -> Pictures:
    other = [picture.path.name for picture in pictures if picture.role != "person"]
    if other:
        raise DatasetError(
            f"{folder}: expected people only, found junk or distractors: {_some(other)}; they belong in the gallery"
        )
    return pictures


MARKET_NAME = re.compile(r"(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d{2})\.jpg(?:\.jpg)?")
MARKET_COUNTS = {
    "train": (12936, 751),
    "query": (3368, 750),
    "gallery": (13115, 750),
    "distractors": (2798, 1),
    "junk": (3819, 1),
}


def _read_market1501(root: Path, _: _Options) -> _Release:
    def read(part: str) -> Pictures:
        expected = "pictures named like 0002_c1s1_000451_03.jpg"
        pictures = []
        for path, match in _match_all(_files(root / part, holds=expected), MARKET_NAME, expected=expected):
            person, camera, sequence, frame, _box = match.groups()
            role: Role = "junk" if person == "-1" else "distractor" if person == "0000" else "person"
            scoped = (f"market1501:{person}", f"market1501:c{camera}")
            pictures.append(Picture(path, *scoped, role=role, sequence=f"s{sequence}", frame=int(frame)))
        return tuple(pictures)

    train, query = (_only_people(read(part), root / part) for part in ("bounding_box_train", "query"))
    gallery = read("bounding_box_test")
    found = {
        "train": _parts(train),
        "query": _parts(query),
        "gallery": _parts(p for p in gallery if p.role == "person"),
        "distractors": _parts(p for p in gallery if p.role == "distractor"),
        "junk": _parts(p for p in gallery if p.role == "junk"),
    }
    return _Release(train, query, gallery, "market1501", notes=_notes("market1501", found, MARKET_COUNTS))


DUKE_NAME = re.compile(r"(\d{4})_c(\d)_f(\d{7})\.jpg(?:\.jpg)?")
DUKE_COUNTS = {"train": (16522, 702), "query": (2228, 702), "gallery": (17661, 1110)}


def _read_dukemtmc(root: Path, _: _Options) -> _Release:
    def read(part: str) -> Pictures:
        expected = "pictures named like 0001_c2_f0046182.jpg"
        matches = _match_all(_files(root / part, holds=expected), DUKE_NAME, expected=expected)
        return tuple(Picture(path, f"dukemtmc:{m[1]}", f"dukemtmc:c{m[2]}", frame=int(m[3])) for path, m in matches)

    train, query, gallery = (read(part) for part in ("bounding_box_train", "query", "bounding_box_test"))
    found = {"train": _parts(train), "query": _parts(query), "gallery": _parts(gallery)}
    return _Release(train, query, gallery, "market1501", notes=_notes("dukemtmc", found, DUKE_COUNTS))


LAST_NAME = re.compile(r"(\d+)_.*\.(?:jpg|jpeg|png)")


def _read_last(root: Path, _: _Options) -> _Release:
    def read(part: str, folder: str = "") -> Pictures:
        expected = "pictures named like 000012_...jpg, in a folder a person or beside each other"
        found = _files(root / part / folder, holds=expected, deep=True)
        # Ids are scoped by part: the release's parts are disjoint by person, its numbers need not be.
        return tuple(
            Picture(path, f"last:{part}/{int(match[1])}", None)
            for path, match in _match_all(found, LAST_NAME, expected=expected)
        )

    return _Release(
        train=read("train"),
        query=read("test", "query"),
        gallery=read("test", "gallery"),
        protocol="market1501",
        dev_query=read("val", "query"),
        dev_gallery=read("val", "gallery"),
    )


MSMT17_NAME = re.compile(r"(\d{4})/\1_\d{3}_(\d{2})_(\d{4}[a-z]+)_\d{4}_\d+(?:_ex)?\.jpg")
MSMT17_COUNTS = {"train": (32621, 1041), "query": (11659, 3060), "gallery": (82161, 3060)}


def _read_msmt17(root: Path, _: _Options) -> _Release:
    expected = "pictures named like 0000/0000_000_01_0303morning_0008_0.jpg"

    def read(part: str, folder: str, *lists: str) -> list[Pictures]:
        """The pictures of each list; together they name every picture of the folder, and each once."""
        files = _files(root / folder, holds=expected, deep=True)
        unlisted = {path.relative_to(root / folder).as_posix(): path for path in files}
        found = []
        for file in (root / name for name in lists):
            if not file.is_file():
                raise DatasetError(f"{file}: expected the list of pictures that comes with MSMT17, found no such file")
            pictures = []
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
                name = line.partition(" ")[0]
                match, path = MSMT17_NAME.fullmatch(name), unlisted.pop(name, None)
                if match is None or path is None:
                    what = f"a picture of {folder} that no line has named yet" if match else f"{expected} and a number"
                    raise DatasetError(
                        f"{file}, line {number}: expected {what}, got {line!r}; was the archive unpacked in full?"
                    )
                # Training and test people are both numbered from 0, so ids are scoped by part.
                scoped = (f"msmt17:{part}/{match[1]}", f"msmt17:c{match[2]}")
                pictures.append(Picture(path, *scoped, sequence=match[3]))
            found.append(tuple(sorted(pictures, key=lambda picture: picture.path)))
        if unlisted:
            raise DatasetError(
                f"{root / folder}: {len(unlisted)} pictures stand in none of {', '.join(lists)}: "
                f"{_some(sorted(unlisted))}; move them out"
            )
        return found

    # Version 2 has the pictures of version 1 with blurred faces, in folders of other names.
    folders = ("mask_train_v2", "mask_test_v2") if (root / "mask_train_v2").is_dir() else ("train", "test")
    learnt, validated = read("train", folders[0], "list_train.txt", "list_val.txt")  # of the same people
    query, gallery = read("test", folders[1], "list_query.txt", "list_gallery.txt")
    train = tuple(sorted(learnt + validated, key=lambda picture: picture.path))
    found = {"train": _parts(train), "query": _parts(query), "gallery": _parts(gallery)}
    return _Release(train, query, gallery, "market1501", notes=_notes("msmt17", found, MSMT17_COUNTS))


CUHK03_NAME = re.compile(r"(\d)_(\d{3})_(\d)_(\d{2})\.(?:jpg|png)")
CUHK03_NEW_COUNTS: dict[Boxes, dict[str, tuple[int, int]]] = {
    "detected": {"train": (7365, 767), "query": (1400, 700), "gallery": (5332, 700)},
    "labelled": {"train": (7368, 767), "query": (1400, 700), "gallery": (5328, 700)},
}
CUHK03_TESTSETS = "testsets.json"


def _read_cuhk03(root: Path, options: _Options) -> _Release:
    if options.boxes not in get_args(Boxes):
        raise DatasetError(f"cuhk03: expected boxes of {', '.join(get_args(Boxes))}, got {options.boxes!r}")
    spelled = {"detected": "detected", "labelled": "labeled"}[options.boxes]
    folder, unpacked = root / f"images_{spelled}", root
    mat = next(
        (path for path in (root / "cuhk-03.mat", root / "cuhk03_release" / "cuhk-03.mat") if path.is_file()), None
    )
    if not folder.is_dir() and mat is not None:
        unpacked = options.cache or root / "unpacked"
        folder = unpacked / f"images_{spelled}"
        if not folder.is_dir() or not (unpacked / CUHK03_TESTSETS).is_file():
            unpack_cuhk03(mat, unpacked)
    expected = "pictures named pair_person_view_image, like 1_001_1_01.jpg"
    people: dict[tuple[int, int], list[Picture]] = defaultdict(list)
    for path, match in _match_all(_files(folder, holds=expected), CUHK03_NAME, expected=expected):
        pair, person, view = int(match[1]), int(match[2]), int(match[3])
        people[pair, person].append(Picture(path, f"cuhk03:{pair}_{person:03d}", f"cuhk03:{pair}_c{view}"))

    config = root / f"cuhk03_new_protocol_config_{spelled}.mat"
    sources: dict[Cuhk03Protocol, Path] = {
        "split.json": root / "split.json",
        "new": config,
        "classic": unpacked / CUHK03_TESTSETS,
    }
    protocol = options.cuhk03_protocol or next((name for name, path in sources.items() if path.is_file()), None)
    if protocol is None or protocol not in sources or not sources[protocol].is_file():
        wanted = {protocol: sources[protocol]} if protocol in sources else sources
        names = " or ".join(f"{path.name} ({name})" for name, path in wanted.items())
        raise DatasetError(
            f"{root}: expected the split's people in {names}, found no such file; "
            f"the classic splits come with cuhk-03.mat, the new one with {config.name}"
        )
    if protocol == "split.json":
        return _cuhk03_by_number(people, sources[protocol])
    if protocol == "new":
        return _cuhk03_new(people, config, options.boxes)
    return _cuhk03_classic(people, sources[protocol], options.cuhk03_split)


def _cuhk03_by_number(people: dict[tuple[int, int], list[Picture]], path: Path) -> _Release:
    try:
        parts = {
            part: {int(number) for number in numbers} for part, numbers in json.loads(path.read_text("utf-8")).items()
        }
        train, test = parts["train"], parts["test"]
    except (json.JSONDecodeError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise DatasetError(
            f'{path}: expected {{"train": [1, 2, ...], "test": [...]}}, person numbers of pair 1, got {error!r}'
        ) from error
    if train & test:
        raise DatasetError(
            f"{path}: people stand in train and in test: {_some([str(n) for n in sorted(train & test)])}"
        )
    have = {number for pair, number in people if pair == 1}
    strangers = [f"{pair}_{number:03d}" for pair, number in people if pair != 1 or number not in train | test]
    missing = [f"1_{number:03d}" for number in sorted((train | test) - have)]
    for problem, names in (("pictures of people that it does not name", strangers), ("no pictures of", missing)):
        if names:
            raise DatasetError(
                f"{path}: the folder holds {problem}: {_some(sorted(names))} ({len(names)} people); "
                "does the file belong to this folder?"
            )
    both = _cuhk03_pick(people, [(1, number) for number in test])
    return _Release(_cuhk03_pick(people, [(1, number) for number in train]), both, both, "cross-camera")


def _cuhk03_classic(people: dict[tuple[int, int], list[Picture]], path: Path, number: int) -> _Release:
    splits = json.loads(path.read_text("utf-8"))
    if not 0 <= number < len(splits):
        raise DatasetError(f"{path}: expected a split of 0 to {len(splits) - 1}, got {number}")
    test = {(int(pair), int(person)) for pair, person in splits[number]}
    missing = [f"{pair}_{person:03d}" for pair, person in sorted(test - set(people))]
    if missing:
        raise DatasetError(f"{path}: split {number} names people without pictures: {_some(missing)}")
    both = _cuhk03_pick(people, test)
    return _Release(_cuhk03_pick(people, set(people) - test), both, both, "single-gallery-shot")


def _cuhk03_new(people: dict[tuple[int, int], list[Picture]], config: Path, boxes: Boxes) -> _Release:
    by_stem = {picture.path.stem: picture for pictures in people.values() for picture in pictures}
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError:
        raise DatasetError(f'{config}: reading it needs SciPy: pip install "passerby[train]"') from None
    try:
        fields = loadmat(config)
        names = [Path(str(name.item())).stem for name in fields["filelist"].ravel()]
        indices = {
            part: np.asarray(fields[f"{part}_idx"]).ravel().astype(int) - 1 for part in ("train", "query", "gallery")
        }
        wanted = {part: [names[i] for i in sorted(index)] for part, index in indices.items()}
    except (KeyError, IndexError, TypeError, ValueError, OSError, zlib.error, MatReadError) as error:
        raise DatasetError(
            f"{config}: expected a MATLAB file with filelist, train_idx, query_idx and gallery_idx, got {error!r}"
        ) from error
    missing = [name for part in wanted.values() for name in part if name not in by_stem]
    if missing:
        raise DatasetError(
            f"{config}: {len(missing)} pictures that it names are not in the folder: {_some(missing)}; "
            f"is it for {boxes} boxes?"
        )
    train, query, gallery = (
        tuple(by_stem[name] for name in sorted(wanted[part])) for part in ("train", "query", "gallery")
    )
    found = {"train": _parts(train), "query": _parts(query), "gallery": _parts(gallery)}
    return _Release(train, query, gallery, "market1501", notes=_notes("cuhk03", found, CUHK03_NEW_COUNTS[boxes]))


def _cuhk03_pick(people: dict[tuple[int, int], list[Picture]], numbers: Iterable[tuple[int, int]]) -> Pictures:
    return tuple(picture for number in sorted(numbers) for picture in people[number])


def unpack_cuhk03(mat: Path, folder: Path) -> None:
    """Unpack `cuhk-03.mat` (MATLAB 7.3): `images_detected/` and `images_labeled/` as PNG, the 20 test sets as JSON.

    Names are those that torchreid gives: `pair_person_view_image.png`, all from 1. Needs h5py (`pip install
    "passerby[train]"`). Raises DatasetError when the file is not the release or the folder cannot be written.
    """
    try:
        import h5py
    except ImportError as error:
        raise DatasetError(f'{mat}: reading it needs h5py: pip install "passerby[train]"') from error
    import cv2

    try:
        with h5py.File(mat, "r") as file:
            for field, spelled in (("detected", "detected"), ("labeled", "labeled")):
                partial, done = folder / f"images_{spelled}.partial", folder / f"images_{spelled}"
                partial.mkdir(parents=True, exist_ok=True)
                for pair, pair_ref in enumerate(file[field][0], start=1):
                    for person, row in enumerate(file[pair_ref][()].T, start=1):
                        for image, ref in enumerate(row, start=1):
                            rgb = file[ref][()].T  # (height, width, 3), or an empty cell
                            if rgb.ndim != 3 or rgb.size == 0:
                                continue
                            name = f"{pair}_{person:03d}_{1 if image <= 5 else 2}_{image:02d}.png"
                            bgr = np.ascontiguousarray(rgb[:, :, ::-1].astype(np.uint8))
                            (partial / name).write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
                if not done.is_dir():
                    partial.rename(done)
            testsets = [file[ref][()].T.astype(int).tolist() for ref in file["testsets"][0]]
        (folder / CUHK03_TESTSETS).write_text(json.dumps(testsets), encoding="utf-8")
    except OSError as error:
        raise DatasetError(
            f"{mat}: cannot be unpacked into {folder}: {error}; is the file complete, and the folder writable? (cache=)"
        ) from error
    except (KeyError, AttributeError, TypeError, IndexError) as error:
        raise DatasetError(
            f"{mat}: expected the fields detected, labeled and testsets of cuhk-03.mat, got {error!r}"
        ) from error


def _read_folder(root: Path, options: _Options) -> _Release:
    try:
        pattern = re.compile(options.pattern or FOLDER_PATTERN)
    except re.error as error:
        raise DatasetError(
            f"folder: expected a regular expression as pattern, got {options.pattern!r}: {error}"
        ) from error
    if "person" not in pattern.groupindex:
        raise DatasetError(f"folder: expected a pattern with a group (?P<person>...), got {options.pattern!r}")

    def read(part: str) -> Pictures:
        folder = root / part
        pictures, strangers = [], []
        for path in _files(folder, holds="pictures", deep=True):
            match = pattern.fullmatch(path.relative_to(folder).with_suffix("").as_posix())
            if match is None or path.suffix.lower() not in PICTURE_SUFFIXES:
                strangers.append(path.relative_to(root).as_posix())
                continue
            groups = match.groupdict()
            camera, frame = groups.get("camera"), groups.get("frame")
            scoped_camera = None if camera is None else f"{_scope(root)}:{camera}"
            number = None if frame is None else int(frame)
            pictures.append(
                Picture(
                    path,
                    f"{_scope(root)}:{groups['person']}",
                    scoped_camera,
                    sequence=groups.get("sequence"),
                    frame=number,
                )
            )
        if strangers:
            raise DatasetError(
                f"{folder}: expected every file to be a picture whose name fits {pattern.pattern!r}, "
                f"found {len(strangers)} that do not: {_some(strangers)}; give another pattern, or move them out"
            )
        return tuple(pictures)

    if not any((root / part).is_dir() for part in ("train", "query", "gallery")):
        every = read("")
        return _Release((), every, every, _all_pairs_protocol(every))
    train = read("train") if (root / "train").is_dir() else ()
    has_test = (root / "query").is_dir() or (root / "gallery").is_dir()
    query, gallery = (read("query"), read("gallery")) if has_test else ((), ())
    return _Release(train, query, gallery, "market1501")


def _all_pairs_protocol(pictures: Pictures) -> Protocol:
    """Every picture against those of the other cameras; where a camera is not known, against all other pictures."""
    cameras = {picture.camera for picture in pictures}
    return "market1501" if None in cameras or len(cameras) < 2 else "cross-camera"


MANIFEST_COLUMNS = ("path", "person", "camera", "split", "time", "role", "sequence", "frame")
MANIFEST_SPLITS = ("train", "dev", "dev-query", "dev-gallery", "test", "query", "gallery")


def _read_csv(path: Path, _: _Options) -> _Release:
    return _read_manifest(path)[0]


def _manifest_split(path: Path, release: _Release) -> PersonSplit:
    dev = Dataset(f"{path.stem}/dev", (), release.dev_query, release.dev_gallery, release.protocol)
    return PersonSplit(
        path.stem,
        release.train,
        dev,
        Dataset(f"{path.stem}/test", (), release.query, release.gallery, release.protocol),
    )


def _read_manifest(path: Path) -> tuple[_Release, str | None]:
    if not path.is_file():
        raise DatasetError(f"{path}: expected a CSV manifest with the columns path,person,camera, found no such file")
    text = path.read_text(encoding="utf-8-sig")
    header = re.match(r"# passerby split 1, sha256 ([0-9a-f]{64})\n", text)
    rows = csv.DictReader(io.StringIO(text[header.end() :] if header else text))
    columns = rows.fieldnames or []
    unknown = [column for column in columns if column not in MANIFEST_COLUMNS]
    if not {"path", "person", "camera"} <= set(columns) or unknown:
        raise DatasetError(
            f"{path}: expected the columns path,person,camera and optionally {','.join(MANIFEST_COLUMNS[3:])}, "
            f"got {','.join(columns)}"
        )
    scope = "" if header else f"{_scope(path)}:"
    parts: dict[str, list[Picture]] = {part: [] for part in MANIFEST_SPLITS}
    for number, row in enumerate(rows, start=2 + bool(header)):
        part, picture = _manifest_row(row, folder=path.resolve().parent, scope=scope, where=f"{path}, line {number}")
        parts[part].append(picture)
    missing = [str(p.path) for pictures in parts.values() for p in pictures if not p.path.is_file()]
    if missing:
        raise DatasetError(
            f"{path}: {len(missing)} pictures do not exist: {_some(missing)}; "
            "paths are relative to the manifest's folder"
        )
    for whole, query, gallery in (("test", "query", "gallery"), ("dev", "dev-query", "dev-gallery")):
        if parts[whole] and (parts[query] or parts[gallery]):
            raise DatasetError(
                f"{path}: split {whole!r} means query and gallery at once; expected it alone, "
                f"got {query} or {gallery} too"
            )
    read = {part: tuple(pictures) for part, pictures in parts.items()}
    every = read["test"] or read["dev"]
    release = _Release(
        train=read["train"],
        query=read["test"] or read["query"],
        gallery=read["test"] or read["gallery"],
        protocol=_all_pairs_protocol(every) if every else "market1501",
        dev_query=read["dev"] or read["dev-query"],
        dev_gallery=read["dev"] or read["dev-gallery"],
    )
    if header is None:
        return release, None
    found = _manifest_split(path, release).sha256
    if found != header[1]:
        raise DatasetError(
            f"{path}: expected a split with SHA-256 {header[1]}, got {found}; the file was changed after it was saved"
        )
    return release, found


def _manifest_row(row: dict[str, str | Any], *, folder: Path, scope: str, where: str) -> tuple[str, Picture]:
    # Any: csv gives None for a short row and a list under the key None for a long one.
    if None in row or None in row.values() or not row["path"] or not row["person"]:
        raise DatasetError(
            f"{where}: expected a value for path and person and one for every column, got {list(row.values())}"
        )
    part, role = row.get("split") or "test", row.get("role") or "person"
    for column, value, allowed in (("split", part, MANIFEST_SPLITS), ("role", role, get_args(Role))):
        if value not in allowed:
            raise DatasetError(f"{where}: expected a {column} of {', '.join(allowed)}, got {value!r}")
    try:
        seen_at = datetime.fromisoformat(row["time"]) if row.get("time") else None
        frame = int(row["frame"]) if row.get("frame") else None
        picture = Picture(
            Path(os.path.normpath(folder / row["path"])),
            scope + row["person"],
            scope + row["camera"] if row["camera"] else None,
            role=cast(Role, role),  # checked above
            sequence=row.get("sequence") or None,
            frame=frame,
            seen_at=seen_at,
        )
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error
    return part, picture


Reader = Callable[[Path, _Options], _Release]
READERS: dict[str, Reader] = {
    "market1501": _read_market1501,
    "dukemtmc": _read_dukemtmc,
    "cuhk03": _read_cuhk03,
    "last": _read_last,
    "msmt17": _read_msmt17,
    "folder": _read_folder,
    "csv": _read_csv,
}

# Under which terms a network may be trained on each kind; stands in the cards of models.
TERMS: dict[str, str] = {
    "market1501": "research use only, not to be distributed",
    "dukemtmc": "withdrawn by its authors on privacy grounds; for holders of a licence",
    "cuhk03": "research use only, sensitive (students of CUHK)",
    "last": "research use only",
    "msmt17": "research use only, not to be distributed",
    "folder": "as its owner says",
    "csv": "as its owner says",
}


# Pictures, opened only to be checked or compared.


def _threads() -> int:
    return min(8, os.cpu_count() or 1)


def _why_unreadable(path: Path) -> str | None:
    try:
        read_picture(path)
    except PictureError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _thumbnails(pictures: Sequence[Picture]) -> UInt8:
    import cv2

    def thumbnail(picture: Picture) -> UInt8:
        small = cv2.resize(read_picture(picture.path), (16, 32), interpolation=cv2.INTER_AREA)
        return small.astype(np.uint8, copy=False)

    with ThreadPoolExecutor(_threads()) as pool:
        return np.stack(list(pool.map(thumbnail, pictures)))  # (pictures, 32, 16, 3), RGB


def _halved_grey(thumbnails: UInt8) -> Float32:
    grey = thumbnails.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    halved: Float32 = grey.reshape(len(grey), 16, 2, 8, 2).mean((2, 4), dtype=np.float32)
    return halved


def _standardised(pictures: UInt8 | Float32) -> Float32:
    """Rows of mean 0 and length 1: a product is a correlation. Rows without contrast keep their colour instead."""
    rows = pictures.reshape(len(pictures), -1).astype(np.float32)
    centred = rows - rows.mean(axis=1, keepdims=True)
    contrast = np.linalg.norm(centred, axis=1, keepdims=True)
    flat = contrast[:, 0] < np.sqrt(rows.shape[1])  # a standard deviation under one grey level
    centred[flat], contrast[flat] = rows[flat], np.linalg.norm(rows[flat], axis=1, keepdims=True)
    unit: Float32 = centred / np.maximum(contrast, np.float32(1e-6))
    return unit
