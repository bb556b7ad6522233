"""How the pictures of a folder are laid out: which reading of their paths fits, or a refusal. No file is opened here.

A layout is a pattern for a picture's path below the root, without suffix. A camera counts as one only where a name marks
it (`c1`, `cam01`, `view2`) or a pattern says so: an unmarked number may as well be a day, a track or a picture's own.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from passerby.reid.readers.release import numbers_in_words
from passerby.reid.splits import some
from passerby.types import DatasetError

GROUPS = ("person", "camera", "sequence", "frame")
PARTS = ("train", "query", "gallery")
PART_NAME = re.compile(
    r"(?i)train(?:ing)?|test(?:ing)?|val(?:id(?:ation)?)?|dev|query|gallery|probe|(?:bounding_box|image|bbox)_\w+"
)
CAMERA = r"(?i:cam(?:era)?[-_ ]?(?:\d+|[a-z])|view[-_ ]?\d+|c\d+)(?=[sStT]\d|[^A-Za-z0-9]|$)"
PERSON = r"(?i:(?:person|pid|subject|id|p)[-_ ]?\d+)(?![A-Za-z0-9])"
SEQUENCE = r"(?P<sequence>[sStT]\d+)?"
FRAME = r"(?:(?:[-_. ][fF]?|[fF])(?P<frame>\d+))?"
NUMBERS = r"(?:[-_. ][A-Za-z]?\d+)*"
FOLDER = rf"(?!{CAMERA}/)[^/]+"
# A person's name within a file's: up to the next _, or up to the next separator of any kind.
WORDS = (("[^_/]+", "_"), ("[^-_. /]+", "[-_. ]"))
DATE = r"(?:19|20)\d{6}(?:T?\d{4,6})?"  # neither a person nor a camera


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to read the paths of a folder's pictures: in words, as a pattern, and as the pattern to show a user.

    `folders` says that folders alone tell the people, so that a person with a single picture is no sign of a misreading.
    """

    words: str
    pattern: str
    shown: str
    folders: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What a layout makes of some paths: the groups of each, in their order."""

    layout: Layout
    groups: tuple[dict[str, str | None], ...]

    def labels(self, group: str) -> tuple[str | None, ...]:
        """The value of a group for each path; None where there is none."""
        return tuple(found.get(group) for found in self.groups)

    @property
    def counts(self) -> str:
        """How many people, cameras and pictures that makes, in words."""
        people, cameras = set(self.labels("person")), set(self.labels("camera")) - {None}
        return numbers_in_words(len(people), len(cameras), len(self.groups))

    def described(self, paths: Sequence[str]) -> str:
        """The layout in words, with the first path as an example."""
        person, camera = self.groups[0]["person"], self.groups[0].get("camera")
        shows = f"shows {person}" + (f" in camera {camera}" if camera else "")
        return f"{self.layout.words}: {paths[0]} {shows}"


def _named() -> list[Layout]:
    """Layouts that a mark of the camera, or of the person, tells apart from all others."""
    layouts = []
    for word, end in WORDS:
        person = rf"(?P<person>{PERSON}|(?!{CAMERA}){word})"
        first, after = rf"{person}{end}(?P<camera>{CAMERA})", rf"{SEQUENCE}{FRAME}{NUMBERS}"
        number = r"(?:[-_. ][fF]?(?P<frame>\d+))?"
        shown, camera = f"(?P<person>{word})", f"(?P<camera>{word})"
        layouts += [
            Layout("person first", first + after, rf"{shown}{end}(?P<camera>[A-Za-z]+\d+).*"),
            Layout(
                "person first, folders aside",
                rf"[^/]+/{first}{after}",
                rf"[^/]+/{shown}{end}(?P<camera>[A-Za-z]+\d+).*",
            ),
            Layout(
                "camera first",
                rf"(?P<camera>{CAMERA}){SEQUENCE}{end}{person}{number}",
                f"{camera}{end}{shown}.*",
            ),
            Layout(
                "a folder a camera, person first",
                rf"(?P<camera>{CAMERA})/{person}{number}",
                f"(?P<camera>[^/]+)/{shown}.*",
            ),
        ]
    return [
        *layouts,
        Layout(
            "MARS's names",
            r"(?P<person>\d+)(?P<camera>C\d+)(?P<sequence>T\d+)F(?P<frame>\d+)",
            r"(?P<person>\d+)(?P<camera>C\d+)T.*",
        ),
        Layout("people without cameras", rf"(?P<person>{PERSON})(?:[-_. ][fF]?(?P<frame>\d+))?", "(?P<person>[^_]+).*"),
        # "c1" may be a camera, or customer 1.
        Layout("a folder a person", r"(?P<person>[cC]\d+)/[^/]+", "(?P<person>[^/]+)/.*", folders=True),
        Layout(
            "a folder a person, cameras in the names",
            rf"(?P<person>{FOLDER})/(?:[^/]*?[-_. ]|\d+)?(?P<camera>{CAMERA}){SEQUENCE}{FRAME}{NUMBERS}",
            r"(?P<person>[^/]+)/(.*[-_. ])?(?P<camera>[A-Za-z]+\d+).*",
            folders=True,
        ),
        Layout(
            "a folder a camera, in it a folder a person",
            rf"(?P<camera>{CAMERA})/(?P<person>[^/]+)/[^/]+",
            "(?P<camera>[^/]+)/(?P<person>[^/]+)/.*",
            folders=True,
        ),
        Layout(
            "a folder a person, in it a folder a camera",
            rf"(?P<person>{FOLDER})/(?P<camera>{CAMERA})/[^/]+",
            "(?P<person>[^/]+)/(?P<camera>[^/]+)/.*",
            folders=True,
        ),
    ]


def _simple(words: str, pattern: str) -> Layout:
    return Layout(words, pattern, pattern)


NAMED = _named()
FOLDER_A_PERSON = Layout("a folder a person", rf"(?P<person>{FOLDER})/[^/]+", "(?P<person>[^/]+)/.*", folders=True)
# What unmarked names might mean, simple names first: they are shown to the user, who chooses.
UNMARKED = [
    Layout(
        words,
        pattern.replace("WORD", word).replace("END", end).replace(".*", "[^/]*"),
        pattern.replace("WORD", word.replace("/", "")).replace("END", end),
    )
    for word, end in (WORDS[0], ("[^-/]+", "-"), WORDS[1])
    for words, pattern in (
        ("person, then camera", "(?P<person>WORD)END(?P<camera>WORD).*"),
        ("camera, then person", "(?P<camera>WORD)END(?P<person>WORD).*"),
        ("person, without cameras", "(?P<person>WORD)END.*"),
    )
] + [
    _simple("a folder a person, in it a folder a camera", "(?P<person>[^/]+)/(?P<camera>[^/]+)/[^/]+"),
    _simple("a folder a camera, in it a folder a person", "(?P<camera>[^/]+)/(?P<person>[^/]+)/[^/]+"),
]
PEOPLE_IN_NAMES = _simple("folders aside, person first", "[^/]+/(?P<person>[^-_. /]+)[-_. ].*")


def given(pattern: str, paths: Sequence[str], *, where: object) -> Reading:
    """Read paths by a user's own pattern; raises DatasetError where it is none, or where a path does not fit."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(f"pattern: expected a regular expression, got {pattern!r}: {error}") from None
    unknown = sorted(set(compiled.groupindex) - set(GROUPS))
    if "person" not in compiled.groupindex or unknown:
        raise DatasetError(
            f"pattern: expected a group (?P<person>...) and, where there are any, camera, sequence and frame, "
            f"got {pattern!r}" + (f" with {', '.join(unknown)}" if unknown else "")
        )
    layout = Layout("the given pattern", pattern, pattern)
    groups, strangers = _matches(layout, paths)
    if strangers:
        raise DatasetError(
            f"{where}: expected every picture's path, without its suffix, to fit {pattern!r}, found {len(strangers)} of "
            f"{len(paths)} that do not: {some(strangers)}; give another pattern, or move them out"
        )
    return Reading(layout, groups)


def recognise(paths: Sequence[str], *, where: object, people: int = 2, cameras: bool = True) -> Reading:
    """The one reading that fits all paths, which are relative to the root and without suffix.

    A reading fits where it gives at least that many `people` and does not make every picture a person of its own. Without
    `cameras` only the people matter, and readings that agree on them are one. Raises DatasetError where none fits, and
    where several do: it names them, with the pattern for each.
    """
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    if len(parts := sorted(filter(PART_NAME.fullmatch, tops))) > 1:
        raise DatasetError(
            f"{where}: expected people, found the folders {', '.join(parts)}, which name parts of a data set; a folder's "
            f"parts are called {', '.join(PARTS)}: rename them, or read one by itself"
        )
    what = ("person", "camera") if cameras else ("person",)  # what tells two readings apart
    readings = _distinct(_fitting(NAMED, paths, people), what)
    if len(readings) == 1:
        return _without_markers_of_junk(readings[0], paths, where)
    if not readings and (plain := _fitting([FOLDER_A_PERSON], paths, people)):
        others = _within_folders(plain[0], paths) if cameras else []
        readings = _distinct([*plain, *_fitting(others, paths, people)], what)
        if len(readings) == 1:
            return readings[0]
    if not readings:
        readings = _distinct(_simplest(_fitting(UNMARKED, paths, people)), what)
    if readings:
        ways = "; or ".join(f"{r.layout.words}, {r.counts}: --pattern '{_shown(r, paths)}'" for r in readings)
        number = f"{len(readings)} ways" if len(readings) > 1 else "one way, which no mark such as c1 or cam1 confirms"
        raise DatasetError(f"{where}: paths such as {paths[0]} can be read in {number}: {ways}; say which")
    raise DatasetError(f"{where}: {_nearest(paths, people)}")


def _matches(layout: Layout, paths: Sequence[str]) -> tuple[tuple[dict[str, str | None], ...], list[str]]:
    pattern = re.compile(layout.pattern)
    matched = [pattern.fullmatch(path) for path in paths]
    strangers = [path for path, match in zip(paths, matched, strict=True) if not (match and match["person"])]
    return tuple(match.groupdict() for match in matched if match), strangers


def _fitting(layouts: Sequence[Layout], paths: Sequence[str], people: int) -> list[Reading]:
    """The readings that fit every path and could be true."""
    found = []
    for layout in layouts:
        groups, strangers = _matches(layout, paths)
        reading = Reading(layout, groups)
        if not strangers and _could_be(reading, people):
            found.append(reading)
    return found


def _could_be(reading: Reading, people: int) -> bool:
    pictures = Counter(reading.labels("person"))
    return len(pictures) >= people and (reading.layout.folders or max(pictures.values()) > 1)


def _distinct(readings: Sequence[Reading], what: Sequence[str]) -> list[Reading]:
    """The first of those readings that share the pictures out in the same way."""
    seen: dict[tuple[tuple[int, ...], ...], Reading] = {}
    for reading in readings:
        seen.setdefault(tuple(_shares(reading.labels(group)) for group in what), reading)
    return list(seen.values())


def _shares(labels: Sequence[str | None]) -> tuple[int, ...]:
    """Labels as numbers in order of appearance, -1 for none: equal for two ways to name the same groups."""
    number: dict[str | None, int] = {None: -1}
    return tuple(number.setdefault(label, len(number)) for label in labels)


def _simplest(readings: Sequence[Reading]) -> list[Reading]:
    """The first of those readings that have the same words."""
    found: dict[str, Reading] = {}
    for reading in readings:
        found.setdefault(reading.layout.words, reading)
    return list(found.values())


def _shown(reading: Reading, paths: Sequence[str]) -> str:
    """A reading's simple pattern where it reads these paths alike, else the exact one."""
    simple = _simple(reading.layout.words, reading.layout.shown)
    groups, strangers = _matches(simple, paths)
    alike = not strangers and all(
        _shares(Reading(simple, groups).labels(group)) == _shares(reading.labels(group))
        for group in ("person", "camera")
    )
    return reading.layout.shown if alike else reading.layout.pattern


def _within_folders(reading: Reading, paths: Sequence[str]) -> list[Layout]:
    """Other layouts of paths that read as a folder a person: those whose names may tell people, or cameras, themselves.

    A word or number before the last may tell the camera where several people share a value and somebody has several; it
    may tell the person where it comes first. `img`, the same for all, and `track3`, which says itself what it is, tell
    neither, nor does a date; a number of four digits or more is no camera; the last one is the picture's own.
    """
    people = reading.labels("person")
    names = [re.split(r"[-_. ]", path.rpartition("/")[2]) for path in paths]
    found = []
    for place in range(max(map(len, names)) - 1):
        values = [name[place] if place < len(name) - 1 else "" for name in names]
        words = {match[1] if (match := re.fullmatch(r"([A-Za-z]+)\d+", value)) else None for value in values}
        labelled = len(words) == 1 and None not in words and not re.fullmatch(PERSON, values[0])
        if labelled or all(re.fullmatch(DATE, value) for value in values):
            continue
        if place == 0:
            found.append(PEOPLE_IN_NAMES)
        people_of, values_of = defaultdict(set), defaultdict(set)
        for person, value in zip(people, values, strict=True):
            if value and not re.fullmatch(r"\d{4,}", value):
                people_of[value].add(person)
                values_of[person].add(value)
        shared = max(map(len, people_of.values()), default=0) > 1
        if shared and max(map(len, values_of.values())) > 1:
            before = f"(?:[^-_. /]+[-_. ]){{{place}}}" if place else ""
            found.append(
                _simple(
                    "a folder a person, cameras in the names",
                    rf"(?P<person>[^/]+)/{before}(?P<camera>[^-_. /]+)[-_. ].*",
                )
            )
    return found


def _without_markers_of_junk(reading: Reading, paths: Sequence[str], where: object) -> Reading:
    """The reading, unless its names are those of Market-1501 or MARS and hold what is nobody there."""
    full = re.compile(r"(?:[^/]+/)?(?:-1_c\d+s\d+_.*|0000_c\ds\d_\d{6}_\d{2}|(?:00-1|0000)C\d+T\d+F\d+)")
    nobody = [path for path in paths if full.fullmatch(path)]
    if nobody:
        raise DatasetError(
            f"{where}: {len(nobody)} pictures show nobody by Market-1501's names, where -1 is junk and 0000 a distractor: "
            f"{some(nobody)}; read the set as market1501:PATH, move them out, or give a --pattern"
        )
    return reading


def _nearest(paths: Sequence[str], people: int) -> str:
    """Why no layout fits: the paths that keep the nearest from it, or what was expected."""
    best, strangers = min(
        ((layout, _matches(layout, paths)[1]) for layout in (*NAMED, FOLDER_A_PERSON)), key=lambda pair: len(pair[1])
    )
    if 0 < len(strangers) <= len(paths) // 2:
        return (
            f"expected all pictures laid out alike, found {len(paths) - len(strangers)} as {best.words} and "
            f"{len(strangers)} otherwise: {some(strangers)}; move them out, or give a --pattern for all"
        )
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    if len(tops) == 1 and all("/" in path for path in paths) and people > 1:
        return (
            f"expected several people, found all {len(paths)} pictures below {tops.pop()}; read that folder if it holds "
            "people, or give a --pattern"
        )
    return (
        "expected a folder a person (anna/img_0.png), person first (0001_c1_45.png), camera first (cam01_0001_45.png) "
        f"or a --pattern, found paths such as {some(paths)}; for instance --pattern '(?P<person>[^_]+)_(?P<camera>[^_]+)_.*'"
    )
