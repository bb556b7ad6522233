"""Splits of labelled pictures by person: dev people, train / dev / test, two queries a person, and their hashes."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passerby.types import Dataset, DatasetError, Picture

Pictures = tuple[Picture, ...]

DEV_PEOPLE = 75


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
        parts = (split_hash(training_set(self.name, self.train)), split_hash(self.dev), split_hash(self.test))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def dev_split(dataset: Dataset, *, people: int = DEV_PEOPLE, seed: int = 0) -> tuple[Pictures, Dataset]:
    """Set `people` training people aside for choices: the training pictures without them, and a dev set of them.

    Drawn with `seed` from the training people that can be queried (two cameras, or two pictures where there are no
    camera labels). The dev set keeps the data set's protocol: for "market1501" two queries a person from two cameras
    and all their other pictures as gallery, else every picture in both parts. Raises DatasetError when there are too
    few.
    """
    people_of = by_person(dataset.train)
    eligible = [person for person, pictures in people_of.items() if _can_be_queried(pictures)]
    if not 0 < people <= len(eligible) or people >= len(people_of):
        raise DatasetError(
            f"{dataset.name}: expected 1 to {min(len(eligible), len(people_of) - 1)} dev people of {len(people_of)} "
            f"training people, {len(eligible)} of whom can be queried, got people={people}; choose fewer"
        )
    rng = np.random.default_rng(seed)
    chosen = {eligible[i] for i in rng.permutation(len(eligible))[:people]}
    train = tuple(picture for picture in dataset.train if picture.person not in chosen)
    held = tuple(picture for picture in dataset.train if picture.person in chosen)
    query, gallery = _two_queries(held, rng) if dataset.protocol == "market1501" else (held, held)
    dev = Dataset(f"{dataset.name}/dev", (), query, gallery, dataset.protocol, shareable=dataset.shareable)
    return train, dev


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
    cannot be queried (one picture, or one camera) are in the gallery only. A share of 0 for the test leaves it empty. Raises
    DatasetError when another part comes out empty or a picture comes twice.
    """
    if len(shares) != 3 or min(shares[:2]) <= 0 or shares[2] < 0 or not np.isclose(sum(shares), 1.0):
        raise DatasetError(
            f"person_disjoint_split: expected three shares that sum to 1, positive but for the last, got {shares}"
        )
    people = sorted((p for p in pictures if p.role == "person"), key=lambda p: (p.person, p.path.as_posix()))
    twice = [str(path) for path, count in Counter(picture.path for picture in people).items() if count > 1]
    if twice:
        raise DatasetError(f"person_disjoint_split: expected each picture once, got {some(twice)} more than once")
    rng = np.random.default_rng(seed)
    part_of: dict[str, int] = {}
    sources: dict[str, list[str]] = defaultdict(list)
    for person in by_person(people):
        sources[source_of(person)].append(person)
    for source in sorted(sources):
        names = [sources[source][i] for i in rng.permutation(len(sources[source]))]
        first, second = round(len(names) * shares[0]), round(len(names) * (shares[0] + shares[1]))
        part_of.update({person: (i >= first) + (i >= second) for i, person in enumerate(names)})
    train, dev, test = (tuple(p for p in people if part_of[p.person] == part) for part in range(3))
    parts = {"dev": _two_queries(dev, rng), "test": _two_queries(test, rng)}
    for part, (query, gallery) in parts.items():
        if part == "test" and not shares[2]:
            continue
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


def split_hash(dataset: Dataset) -> str:
    """SHA-256 over the names, people, cameras and roles of a data set, part by part.

    Names are relative to the folder that a source's pictures share, so the hash is the same on every machine.
    """
    parts = (("train", dataset.train), ("query", dataset.query), ("gallery", dataset.gallery))
    every = [picture for _, pictures in parts for picture in pictures]
    places = dict.fromkeys((source_of(p.person), p.path.parent) for p in every)
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
            relative = (inside[source_of(p.person), p.path.parent] / p.path.name).as_posix()
            digest.update(f"{part}\t{relative}\t{p.person}\t{p.camera or ''}\t{p.role}\n".encode())
    return digest.hexdigest()


def training_set(name: str, train: Pictures) -> Dataset:
    return Dataset(f"{name}/train", train, (), (), "market1501")


def source_of(person: str) -> str:
    return person.partition(":")[0]


def some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def by_person(pictures: Iterable[Picture]) -> dict[str, list[Picture]]:
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
    for mine in by_person(pictures).values():
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
