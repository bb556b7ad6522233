"""The walls of the house: who may import whom, and that README, docs and names tell the truth."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from passerby.reid.card import is_detector

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "passerby"
MODULES = sorted(SOURCE.rglob("*.py"))
TRACKED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    if name and (ROOT / name).is_file()
]

# What a room may import of ours, beside itself.
WORDS = {"types", "shop", "files"}
LOWER = WORDS | {"config", "site"}
MAY_IMPORT = {
    "types": set(),
    "shop": {"types"},
    "files": {"types"},
    "config": WORDS,
    "site": WORDS | {"config"},
    "reid": WORDS,
    "learn": LOWER | {"reid"},
    "vision": LOWER | {"reid"},
    "simulate": LOWER | {"reid", "vision"},
    "service": LOWER | {"reid", "vision"},
    "commands": LOWER | {"reid", "learn", "vision", "simulate", "service"},
    "__main__": {"types", "commands"},
    "__init__": {"types", "reid"},
}
# The floors inside reid: a module may import only of floors below its own.
FLOORS = [
    {"engine", "retrieval", "calibration", "pictures", "card", "index"},
    {"evidence", "splits", "embedder"},
    {"pairs"},
    {"fitting", "measures", "leakage"},
    {"readers.release"},
    {"readers.market1501", "readers.dukemtmc", "readers.last", "readers.msmt17", "readers.layouts"},
    {"readers.cuhk03"},
    {"readers.folder", "readers.manifest"},
    {"gallery", "datasets", "grouping", "reranking"},
    {"evaluate", "search"},
    {"assess", "report", "inference"},
]
# Packages that only some rooms may import.
OWNED = {
    "torch": {"learn"},
    "onnx": {"learn"},
    "nncf": {"learn"},
    "tensorboard": {"learn"},
    "openvino": {"reid.engine"},
    "onnxruntime": {"reid.engine"},
    "h5py": {"reid.readers.cuhk03"},
    "scipy": {"reid.readers.cuhk03", "vision"},
    "faiss": {"reid.index"},
    "PIL": {"reid.pictures"},
    "av": {"vision.video"},
    "pyarrow": {"vision.parquet", "simulate.recording"},
    "typer": {"commands", "__main__"},
    "rich": {"commands"},
    "sqlalchemy": {
        "service.store",
        "service.schema",
        "service.migrations",
        "service.kept",
        "service.accounts",
        "service.erasure",
        "service.rollups",
        "service.guests",
        "service.released",
    },
    "alembic": {"service.store", "service.migrations"},
    "fastapi": {"service.app", "service.routes", "service.auth"},
    "starlette": {"service.app", "service.routes", "service.auth"},
    "uvicorn": {"service.run"},
    "jinja2": {"service.routes"},
    "argon2": {"service.auth"},
    "cryptography": {"service.vault", "service.auth"},
    "httpx": {"service.outlets", "service.oidc"},
    "authlib": {"service.oidc"},
    "joserfc": {"service.oidc"},
    "aiomqtt": {"service.outlets"},
    "prometheus_client": {"service.routes"},
    "psycopg": set(),
}


ROOMS = (
    "commands",
    "reid",
    "reid/readers",
    "learn",
    "vision",
    "simulate",
    "service",
    "service/migrations",
    "service/routes",
)  # the folders among them

# Rooms that a house must not have: they have no noun.
NAMELESS = {"utils", "common", "helpers", "core", "manager", "base", "misc"}


def imports(source: str, *, top: bool = False) -> set[str]:
    """Every module that a source imports, wherever in it; with `top` only those that importing it imports."""
    found: set[str] = set()
    tree = ast.parse(source)
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def floor(module: str) -> int:
    return next(i for i, modules in enumerate(FLOORS) if module in modules)


def broken_walls(name: str, source: str) -> list[str]:
    """What a module `name` ("reid.engine") with this source does that DESIGN.md's rooms forbid."""
    room, _, stem = name.partition(".")
    found = imports(source)
    broken = []
    ours = {imported.split(".")[1] for imported in found if imported.startswith("passerby.")}
    broken += [f"{name} imports {other}" for other in sorted(ours - {room} - MAY_IMPORT[room])]
    if room == "reid" and stem.split(".")[-1] not in ("", "__init__"):
        every = {imported.removeprefix("passerby.reid.") for imported in found if imported.startswith("passerby.reid.")}
        others = {one for one in set.union(*FLOORS) for name_ in every if name_ == one or name_.startswith(f"{one}.")}
        others -= {stem}
        for other in sorted(others):
            if not (floor(other) < floor(stem) or other == "pictures"):
                broken.append(f"{name} imports reid.{other}, which is no floor below")
    packages = {imported.split(".")[0] for imported in found}
    for package, owners in OWNED.items():
        if package in packages and not any(name == owner or name.startswith(owner + ".") for owner in owners):
            broken.append(f"{name} imports {package}")
    if room == "commands":
        early = {imported for imported in imports(source, top=True) if imported.startswith("passerby.")}
        allowed_early = {"types", "commands"}
        broken += [
            f"{name} imports {i} outside its command" for i in sorted(early) if i.split(".")[1] not in allowed_early
        ]
    if name == "__init__":
        allowed = (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign)
        broken += [f"{name} holds code" for node in ast.parse(source).body if not isinstance(node, allowed)]
    if stem.split(".")[-1] in NAMELESS or room in NAMELESS:
        broken.append(f"{name} is a room without a noun")
    return broken


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_the_walls_stand(path):
    assert broken_walls(dotted(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("types", "from passerby.config import load_toml"),
        ("shop", "from passerby.reid.gallery import Gallery"),
        ("vision.transit", "from passerby.simulate.plan import Shop"),
        ("service.app", "from passerby.simulate.plan import Shop"),
        ("service.analytics", "from sqlalchemy import select"),
        ("reid.splits", "from passerby.reid.readers.folder import read_folder"),
        ("reid.readers.release", "from passerby.reid.readers import manifest"),
        ("config", "from passerby.reid.engine import open_engine"),
        ("reid.inference", "from passerby.learn.model import OSNet"),
        ("reid.inference", "def f():\n    import torch"),
        ("reid.embedder", "import openvino as ov"),
        ("reid.embedder", "from passerby.reid.gallery import Gallery"),
        ("reid.engine", "from passerby.reid.embedder import Embedder"),
        ("reid.retrieval", "from passerby.reid import evaluate"),
        ("reid.evaluate", "from passerby.reid.report import write_report"),
        ("reid.report", "from passerby.reid.assess import embed_dataset"),
        ("reid.report", "import typer"),
        ("learn.train", "from passerby.commands.learn import app"),
        ("learn.export", "import openvino"),
        ("vision.links", "import torch"),
        ("vision.links", "from passerby.simulate.plan import Shop"),
        ("simulate.scene", "import av"),
        ("reid.gallery", "from passerby.vision.links import LinkScores"),
        ("__init__", "from passerby.learn import model"),
        ("__init__", "def setup():\n    pass"),
        ("commands.reid", "from passerby.reid.engine import processor"),
        ("__main__", "def f():\n    from passerby.reid.engine import processor"),
        ("reid.utils", ""),
    ],
)
def test_a_deliberate_violation_is_seen(monkeypatch, name, source):
    monkeypatch.setattr(sys.modules[__name__], "FLOORS", [*FLOORS[:-1], FLOORS[-1] | {"utils"}])
    assert broken_walls(name, source)


def test_every_room_is_one_that_the_walls_know():
    assert {dotted(path).split(".")[0] for path in MODULES} <= set(MAY_IMPORT)
    inside = {dotted(path).removeprefix("reid.") for path in (SOURCE / "reid").rglob("[a-z]*.py")}
    assert inside == set.union(*FLOORS)


def cycles(graph):
    """Modules that reach themselves through what they import, at any depth and also under TYPE_CHECKING."""
    reach = {name: set(targets) for name, targets in graph.items()}
    for _ in graph:
        grown = {
            name: targets | {far for near in targets for far in reach.get(near, ())} for name, targets in reach.items()
        }
        if grown == reach:
            break
        reach = grown
    return sorted(name for name, targets in reach.items() if name in targets)


def test_no_module_imports_itself_by_a_detour():
    names = {f"passerby.{dotted(path)}".removesuffix(".__init__") for path in MODULES}
    graph = {}
    for path in MODULES:
        name = f"passerby.{dotted(path)}".removesuffix(".__init__")
        graph[name] = {found for found in imports(path.read_text()) if found in names} - {name}
    assert cycles(graph) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


@pytest.mark.parametrize("path", [p for p in MODULES if p.stat().st_size], ids=dotted)
def test_every_module_says_what_lives_there(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_public_names_exist_and_are_sorted():
    import passerby

    assert sorted(passerby.__all__) == passerby.__all__
    for name in passerby.__all__:
        assert getattr(passerby, name).__doc__


def test_importing_passerby_is_light():
    code = "import sys, passerby; print(sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for package in (*OWNED, "cv2"):
        assert f"'{package}'" not in loaded


def test_nothing_is_sent_home(small_model, tmp_path):
    """Every connection that Python opens is refused and written down; OpenVINO, NNCF and its converter open none."""
    log = tmp_path / "connections"
    (tmp_path / "sitecustomize.py").write_text(
        f"import socket\n"
        f"def refuse(self, address):\n"
        f"    if self.family != socket.AF_UNIX:\n"
        f"        open({str(log)!r}, 'a').write(repr(address) + '\\n')\n"
        f"        raise OSError('no network in this test')\n"
        f"def resolve(*a, **k):\n"
        f"    open({str(log)!r}, 'a').write(repr(a) + '\\n')\n"
        f"    raise OSError('no network in this test')\n"
        f"socket.socket.connect = socket.socket.connect_ex = refuse\n"
        f"socket.getaddrinfo = resolve\n"
    )
    code = (
        "import numpy as np\n"
        "from passerby.reid.embedder import Embedder\n"
        f"Embedder({str(small_model)!r}).embed_arrays(np.zeros((2, 64, 32, 3), np.uint8))\n"
        "import openvino, nncf, sys, time\n"
        "from passerby.reid.index import PeopleIndex\n"
        "PeopleIndex(['a', 'b'], np.eye(2, dtype=np.float32)).search(np.eye(2, dtype=np.float32), 1)\n"
        f"openvino.convert_model({str(small_model / 'model.onnx')!r})\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "time.sleep(1)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | {
        "PYTHONPATH": str(tmp_path),
        "HOME": str(tmp_path),
    }
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not log.exists(), log.read_text()


def test_the_test_above_would_see_a_connection(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\nsocket.getaddrinfo = lambda *a, **k: open('seen', 'w').close()"
    )
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.getaddrinfo('localhost', 1)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=True,
    )
    assert (tmp_path / "seen").exists()


def readme_tree():
    tree = re.search(r"```\n(README\.md.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert tree
    return tree[1]


def listed_modules(tree):
    """The modules of `src/passerby/` that a tree names, each on a line of its own, by their place: "reid/engine.py"."""
    below = tree.split("src/passerby/\n", 1)[1]
    folders, found = [], set()
    for line in below.splitlines():
        match = re.match(r"( +)([\w.]+/?)(?: |$)", line)
        if match is None:
            continue
        depth = len(match[1]) // 2 - 1
        folders = folders[:depth]
        if match[2].endswith("/"):
            folders.append(match[2])
        elif match[2].endswith(".py"):
            found.add("".join(folders) + match[2])
    return found


MODULE_FILES = sorted(
    str(path.relative_to(SOURCE)) for path in MODULES if path.name != "__init__.py" or path.parent == SOURCE
)


def test_the_tree_in_the_readme_is_the_tree():
    assert listed_modules(readme_tree()) == set(MODULE_FILES)
    above = readme_tree().split("src/passerby/\n", 1)[0]
    for name in re.findall(r"(?m)^([\w./*-]+)", above) + re.findall(
        r"[A-Z]+\.md|pyproject\.toml|constraints\.txt", above
    ):
        assert list(ROOT.glob(name.rstrip("/"))), f"README names {name}, which does not exist"


@pytest.mark.parametrize("module", MODULE_FILES)
def test_a_module_left_out_of_the_tree_is_seen(module):
    tree = readme_tree()
    lines = [line for line in tree.splitlines() if module.rsplit("/", 1)[-1] in line]
    for line in lines:
        left = tree.replace(line + "\n", "", 1)
        assert listed_modules(left) != set(MODULE_FILES)


@pytest.mark.parametrize("page", [p for p in TRACKED if p.suffix == ".md"], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_in_the_docs_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_commands_in_the_docs_exist():
    from typer.main import get_command

    from passerby.__main__ import app

    known = set(get_command(app).commands)
    for page in (p for p in TRACKED if p.suffix == ".md"):
        for command in re.findall(r"(?m)^\s*(?:\$ )?passerby ([a-z-]+)", page.read_text()):
            assert command in known, f"{page.name} uses `passerby {command}`"


@pytest.mark.parametrize(("script", "page"), [("command_reference", "cli.md"), ("model_page", "models.md")])
def test_written_pages_are_what_their_scripts_write(script, page):
    sys.path.insert(0, str(ROOT / "scripts" / "dev"))
    expected = (ROOT / "docs" / page).read_text()
    assert importlib.import_module(script).text() == expected, f"run: python scripts/dev/{script}.py"


def test_no_file_carries_a_machine_path_or_is_too_large():
    places = re.compile(rb"(?<![\w.])/(?:work|root|home/\w+|Users)/")
    for path in TRACKED:
        assert path.stat().st_size < 20 * 2**20, path
        if path.suffix in {".py", ".md", ".toml", ".txt", ".json", ".sh", ""}:
            assert not places.search(path.read_bytes()), f"{path} holds a path of a machine"


CARDS = sorted((ROOT / "models").glob("*/card.json"))
DETECTORS = [card for card in CARDS if is_detector(card.parent)]


@pytest.mark.parametrize("card", [c for c in CARDS if c not in DETECTORS], ids=lambda p: p.parent.name)
def test_each_committed_model_is_whole(card):
    from passerby.reid.calibration import Calibration
    from passerby.reid.card import read_card
    from passerby.reid.engine import file_sha256

    found = read_card(card.parent)
    assert found.trained_on
    assert found.accuracy
    for entry in found.files.values():
        assert file_sha256(card.parent / entry.file) == entry.sha256
    for precision, calibration in found.calibrations.items():
        kind = "int8" if precision == "int8" else "fp32"
        Calibration.from_dict(calibration).check(found.files[kind].sha256, precision)
    assert "fp32" in found.calibrations
    assert found.name in (ROOT / "NOTICE").read_text() + (ROOT / "docs" / "models.md").read_text()


@pytest.mark.parametrize("card", DETECTORS, ids=lambda p: p.parent.name)
def test_each_committed_detector_is_whole(card):
    from passerby.reid.card import read_detector_card
    from passerby.reid.engine import file_sha256

    found = read_detector_card(card.parent)
    assert found.trained_on
    assert found.accuracy
    assert {*found.scores} >= {*found.files}
    for entry in found.files.values():
        assert file_sha256(card.parent / entry.file) == entry.sha256
    assert found.name in (ROOT / "NOTICE").read_text()
