"""Data sets of labelled person crops: readers of their official layouts, splits by person, merging, leakage.

Every reader answers the same way: pictures with scoped ids, sorted by name, so that the same folder gives the same data
set everywhere. Nothing is dropped in silence: a file that does not fit the layout is an error that names it.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from passerby.reid.leakage import check_readable
from passerby.reid.readers.cuhk03 import read_cuhk03
from passerby.reid.readers.dukemtmc import read_dukemtmc
from passerby.reid.readers.folder import read_folder
from passerby.reid.readers.last import read_last
from passerby.reid.readers.manifest import read_csv
from passerby.reid.readers.market1501 import read_market1501
from passerby.reid.readers.msmt17 import read_msmt17
from passerby.reid.readers.release import Boxes, Cuhk03Protocol, Options, Release, scope_of
from passerby.reid.splits import DEV_PEOPLE, Pictures, dev_split, some, training_set
from passerby.types import Dataset, DatasetError

Split = Literal["train", "dev", "test", "official"]


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
    release = READERS[kind](root, Options(pattern, boxes, cuhk03_protocol, cuhk03_split, cache))
    name = scope_of(root) if kind in ("csv", "folder") else kind
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
    release = READERS[kind](Path(root), Options(None, "detected", None, 0, None))
    parts = (release.train, release.dev_query, release.dev_gallery, release.query, release.gallery)
    return tuple(dict.fromkeys(picture for part in parts for picture in part))


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


def _part(released: Dataset, release: Release, split: Split, *, people: int, seed: int) -> Dataset:
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
    return replace(training_set(released.name, train), protocol=released.protocol, notes=released.notes)


def _without_unreadable(dataset: Dataset) -> Dataset:
    every = tuple(dict.fromkeys(dataset.train + dataset.query + dataset.gallery))
    readable = {picture.path for picture in check_readable(every, skip_unreadable=True)}
    bad = [str(picture.path) for picture in every if picture.path not in readable]
    if not bad:
        return dataset
    note = f"{len(bad)} pictures could not be decoded and are left out: {some(bad)}"
    kept = (tuple(p for p in part if p.path in readable) for part in (dataset.train, dataset.query, dataset.gallery))
    train, query, gallery = kept
    return replace(dataset, train=train, query=query, gallery=gallery, notes=(*dataset.notes, note))


def _check_kind(kind: str) -> None:
    if kind not in READERS:
        near = difflib.get_close_matches(kind, READERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DatasetError(f"data: expected a kind of {', '.join(READERS)}, got {kind!r}{hint}")


Reader = Callable[[Path, Options], Release]
READERS: dict[str, Reader] = {
    "market1501": read_market1501,
    "dukemtmc": read_dukemtmc,
    "cuhk03": read_cuhk03,
    "last": read_last,
    "msmt17": read_msmt17,
    "folder": read_folder,
    "csv": read_csv,
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
