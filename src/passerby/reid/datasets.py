"""Data sets of labelled person crops: readers of their official layouts, splits by person, merging, leakage.

Every reader answers the same way: pictures with scoped ids, sorted by name, so that the same folder gives the same data
set everywhere. Nothing is dropped in silence: a file that does not fit the layout is an error that names it. Nothing is
guessed: where two readings fit, both are named and the user chooses.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from passerby.reid.readers.release import Boxes, Cuhk03Protocol, Options, Release, in_words
from passerby.reid.splits import DEV_PEOPLE, dev_split, some, source_of, training_set
from passerby.types import Dataset, DatasetError, Picture

Split = Literal["train", "dev", "test", "official", "all"]
OF_ONES_OWN = ("folder", "csv")  # kinds without a name of their own


@dataclass(frozen=True, slots=True)
class Spec:
    """A data set as the user names it, `[NAME=]KIND:PATH`, and the pattern of its file names where it needs one."""

    kind: str
    root: Path
    name: str | None = None
    pattern: str | None = None

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        if self.name is not None and not re.fullmatch(r"[\w.-]+", self.name):
            raise DatasetError(f"data: expected a name of letters, digits, . - and _, got {self.name!r}")
        if self.pattern is not None and self.kind != "folder":
            raise DatasetError(
                f"data: expected a pattern for a folder: set alone, got one for {self.scope}, whose names are those of "
                f"{self.kind}; leave it out, or read folder:{self.root}"
            )

    @property
    def scope(self) -> str:
        """What the ids of its people and cameras begin with: the user's name, else the file's or the kind's.

        A named set of a known kind keeps the kind, `north=market1501`, since its terms follow from it.
        """
        if self.kind in OF_ONES_OWN:
            return self.name or self.root.resolve().stem or self.kind
        return f"{self.name}={self.kind}" if self.name else self.kind

    @property
    def short(self) -> str:
        """The spec without its folders, as a page may show it."""
        return f"{self.name}={self.kind}:{self.root.name}" if self.name else f"{self.kind}:{self.root.name}"


def parse_spec(spec: str) -> Spec:
    """Read `"market1501:PATH"`, or `"north=market1501:PATH"` with a name for the set.

    Raises DatasetError when the kind is missing or unknown.

    >>> parse_spec("market1501:data/market").kind
    'market1501'
    >>> parse_spec("north=folder:crops").scope
    'north'
    """
    named, colon, root = spec.partition(":")
    if not colon or not root:
        raise DatasetError(
            f"data {spec!r}: expected KIND:PATH such as market1501:data/market, got no {'path' if colon else 'kind'}"
        )
    name, equals, kind = named.rpartition("=")
    return Spec(kind, Path(root), name if equals else None)


def parse_specs(specs: Sequence[str], *, patterns: Sequence[str] | Mapping[str, str] = ()) -> list[Spec]:
    """Read several specs, and refuse two that would give their people the same ids.

    `patterns` are one for all folder: sets, or one for each in their order, or a mapping from a set's name (the user's,
    else its folder's). Raises DatasetError for equal names, and for patterns that belong to no set.
    """
    found = [parse_spec(spec) for spec in specs]
    written: dict[str, str] = {}
    for spec, text in zip(found, specs, strict=True):
        name = spec.name or spec.scope
        if name in written:
            raise DatasetError(
                f"data: {written[name]} and {text} are both called {name}, so their people would be taken for the same; "
                f"give one a name of its own: other={text.removeprefix(f'{spec.name}=')}"
            )
        written[name] = text
    roots = {spec.root.resolve(): text for spec, text in zip(found, specs, strict=True)}
    if len(roots) < len(found):
        twice = next(text for spec, text in zip(found, specs, strict=True) if roots[spec.root.resolve()] != text)
        raise DatasetError(f"data: {twice} is given twice, under two names; leave one out")
    folders = [spec for spec in found if spec.kind == "folder"]
    if isinstance(patterns, Mapping):
        for name in patterns:
            if name not in written:
                near = difflib.get_close_matches(name, written, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise DatasetError(f"patterns: expected a name of {', '.join(written)}, got {name!r}{hint}")
        return [replace(spec, pattern=patterns.get(spec.name or spec.scope)) for spec in found]
    given = list(patterns)
    if given and (not folders or len(given) not in (1, len(folders))):
        raise DatasetError(
            f"--pattern: expected one, or one for each folder: set, of which there are {len(folders)}, got {len(given)}"
        )
    each = iter(given * len(folders) if len(given) == 1 else given)
    return [replace(spec, pattern=next(each, None)) if spec.kind == "folder" else spec for spec in found]


def read_specs(
    specs: Sequence[Spec], *, split: Split, people: int = DEV_PEOPLE, seed: int = 0, skip_unreadable: bool = False
) -> list[Dataset]:
    """Read one part of each of several data sets; see `read_dataset`.

    Raises DatasetError also where two of them hold people of one name, as a saved split and its own source do.
    """
    datasets = [
        read_dataset(
            spec.kind,
            spec.root,
            name=spec.name,
            pattern=spec.pattern,
            split=split,
            people=people,
            seed=seed,
            skip_unreadable=skip_unreadable,
        )
        for spec in specs
    ]
    check_apart(datasets)
    return datasets


def read_dataset(
    kind: str,
    root: Path,
    *,
    split: Split = "test",
    name: str | None = None,
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
    see `dev_split`; LaST has its own), "test" (queries and gallery, nothing to train on), "official" (training
    people, queries and gallery as released), or "all" (every picture of every part, as training pictures: what a split
    of one's own is made of). Ids begin with `name`, where one is given, else with the kind, or the folder's or file's
    name; two sets of one name cannot be read together.

    With `skip_unreadable`, every picture of the part is decoded once and those that cannot be are left out, which
    `Dataset.notes` counts and names; without it the pictures are not opened here (`check_readable` does that).

    "folder" reads a folder a person, or names that begin with person and camera, or camera and person, where a mark
    (`c1`, `cam01`, `view2`) tells the camera; `Dataset.layout` says how it was understood. `pattern` is for other names: a
    regular expression for the whole path below the root, without suffix, with groups `person` and, where there are any,
    `camera`, `sequence` and `frame`. `boxes`, `cuhk03_protocol`, `cuhk03_split` (which of the 20 classic splits) and
    `cache` (where pictures of `cuhk-03.mat` are unpacked) are for "cuhk03".

    Raises DatasetError when the folder is not what it claims to be: what was expected, what was found, what to do; and
    where two readings fit.

    Layouts: Market-1501 (Zheng et al., ICCV 2015), DukeMTMC-reID (Zheng et al., ICCV 2017), CUHK03 (Li et al., CVPR
    2014) with the 767/700 protocol of Zhong et al. (CVPR 2017), LaST (Shu et al., 2021), MSMT17 V1 and V2 (Wei et al.,
    CVPR 2018). "market1501" also reads the names of VeRi (Liu et al., ICME 2016), CUHK03-NP, MARS (Zheng et al., ECCV
    2016) and NVIDIA TAO.
    """
    spec = Spec(kind, Path(root), name, pattern)
    if split not in get_args(Split):
        raise DatasetError(f"{kind}: expected a split of {', '.join(get_args(Split))}, got {split!r}")
    options = Options(spec.scope, name, pattern, boxes, cuhk03_protocol, cuhk03_split, cache)
    release = READERS[kind](spec.root, options)
    released = Dataset(
        spec.scope,
        release.train,
        release.query,
        release.gallery,
        release.protocol,
        notes=release.notes,
        layout=release.layout,
    )
    dataset = _part(released, release, spec, split, people=people, seed=seed)
    if not dataset.train and not dataset.query:
        raise DatasetError(f"{root}: this {kind} data set has no {split} part; use another split")
    return _without_unreadable(dataset) if skip_unreadable else dataset


def described(dataset: Dataset) -> str:
    """What was read, in words: "shop/test: 12 people, 3 cameras, 96 pictures", and how names were understood."""
    read = in_words(dataset.train + dataset.query + dataset.gallery)
    return f"{dataset.name}: {read}" + (f" ({dataset.layout})" if dataset.layout else "")


def terms_of(source: str) -> str:
    """Under which terms a network may be trained on the pictures of a source, which is what their ids begin with."""
    return TERMS.get(source.rpartition("=")[2], TERMS["folder"])


def check_apart(datasets: Sequence[Dataset]) -> None:
    """Raise DatasetError where two data sets share a picture, or the name that their ids begin with."""
    seen: dict[Path, int] = {}
    owner: dict[str, int] = {}
    for number, dataset in enumerate(datasets):
        pictures = dataset.train + dataset.query + dataset.gallery
        for picture in pictures:
            if seen.setdefault(picture.path, number) != number:
                raise DatasetError(
                    f"data: {picture.path} stands in {datasets[seen[picture.path]].name} and {dataset.name}"
                )
        for source in dict.fromkeys(source_of(picture.person) for picture in pictures):
            if owner.setdefault(source, number) != number:
                raise DatasetError(
                    f"data: people of {source} stand in {datasets[owner[source]].name} and {dataset.name}, and would be "
                    "taken for the same where their ids agree; give one of the sets a name of its own: name=KIND:PATH"
                )


def without_sets(datasets: Sequence[Dataset], names: Sequence[str]) -> list[Dataset]:
    """Data sets less the people whose ids begin with one of these names, those that become empty left out.

    A saved split of several sets loses a part. Raises DatasetError for a name that no person has.
    """
    known = dict.fromkeys(source_of(p.person) for d in datasets for p in (*d.train, *d.query, *d.gallery))
    for name in names:
        if name not in known:
            raise DatasetError(f"leave out: expected one of {', '.join(known)}, got {name!r}")

    def rest(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
        return tuple(picture for picture in pictures if source_of(picture.person) not in names)

    kept = [replace(d, train=rest(d.train), query=rest(d.query), gallery=rest(d.gallery)) for d in datasets]
    return [dataset for dataset in kept if dataset.train or dataset.query]


def merge(datasets: Sequence[Dataset]) -> Dataset:
    """Join data sets into one; their ids are scoped, so they stay disjoint.

    Raises DatasetError for a picture, or a name of a set, that two of them hold (as two copies of one kind do, unless one
    was given a name of its own), and for evaluation parts of different protocols: their figures do not add up, so either
    evaluate them one by one or make one protocol with `person_disjoint_split`.
    """
    if not datasets:
        raise DatasetError("merge: expected at least one data set, got none")
    check_apart(datasets)
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


def _part(released: Dataset, release: Release, spec: Spec, split: Split, *, people: int, seed: int) -> Dataset:
    if split == "official":
        return released
    if split == "all":
        parts = (release.train, release.dev_query, release.dev_gallery, release.query, release.gallery)
        every = tuple(dict.fromkeys(picture for part in parts for picture in part))
        return replace(released, name=f"{released.name}/all", train=every, query=(), gallery=())
    if split == "test":
        return replace(released, name=f"{released.name}/test", train=())
    if not release.train and (split == "train" or not release.dev_query):
        what = f"{spec.root}: expected people to {'train on' if split == 'train' else 'set aside for dev'}, found none"
        if spec.kind not in OF_ONES_OWN:
            raise DatasetError(f"{what}: this {spec.kind} data set can only be tested on, with split='test'")
        raise DatasetError(
            f"{what}, since no picture is said to be of the train part; share the people out, with passerby split --data "
            f"{spec.kind}:{spec.root} --out split.csv, and read csv:split.csv"
        )
    if release.dev_query:
        train, dev = release.train, replace(released, train=(), query=release.dev_query, gallery=release.dev_gallery)
        dev = replace(dev, name=f"{released.name}/dev")
    else:
        train, dev = dev_split(released, people=people, seed=seed)
        dev = replace(dev, layout=released.layout)
    if split == "dev":
        return dev
    return replace(
        training_set(released.name, train),
        protocol=released.protocol,
        notes=released.notes,
        layout=released.layout,
    )


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

# Under which terms a network may be trained on each kind; stands in the cards of models (`terms_of`).
TERMS: dict[str, str] = {
    "market1501": "research use only, not to be distributed",
    "dukemtmc": "withdrawn by its authors on privacy grounds; for holders of a licence",
    "cuhk03": "research use only, sensitive (students of CUHK)",
    "last": "research use only",
    "msmt17": "research use only, not to be distributed",
    "grid": "research use only (PETA)",
    "3dpes": "research use only (PETA)",
    "ilids_mcts": "research use only (PETA)",
    "sarc3d": "research use only (PETA)",
    "pku_reid": "CC BY-NC-SA 4.0, not for commercial use",
    "folder": "as its owner says",
    "csv": "as its owner says",
}
