"""The data that tests share: a drawn re-ID set, and where the real data lies."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from passerby.simulate.plan import Shop

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiled networks and probe results of the tests stay out of the user's cache."""
    import os

    os.environ["PASSERBY_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Market-1501's layout with drawn figures: 16 people to train on, 20 to test on, 3 cameras, 4 pictures in each."""
    from coloured_people import make

    root = tmp_path_factory.mktemp("drawn")
    make(root, people=16)
    return root


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, the folder of real data and public models")
    return SHARED


@pytest.fixture(scope="session")
def postgresql() -> "Iterator[Callable[[], str]]":
    """Gives URLs of empty databases on a PostgreSQL server of the tests' own; the test is skipped where there is none.

    The server listens in a folder only, and runs as another user where the tests run as root, which it refuses.
    """
    import os
    import pwd
    import shutil
    import signal
    import subprocess
    import tempfile
    import time
    from itertools import count

    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda home: int(home.parent.name))
    if not homes:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    psycopg = pytest.importorskip("psycopg", reason="needs psycopg: the extra cluster")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path is short
    user: dict[str, object] = {}
    if os.getuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        account = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        os.chown(folder, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    words = [homes[-1] / "initdb", "--pgdata", folder / "data", "--username", "tests", "--auth", "trust", "--no-sync"]
    subprocess.run([*words, "--encoding", "UTF8", "--locale", "C"], check=True, capture_output=True, cwd="/", **user)
    settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off", "shared_buffers": "16MB"}
    words = [homes[-1] / "postgres", "-D", folder / "data", *(f"--{name}={value}" for name, value in settings.items())]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, cwd="/", **user)
    try:
        for left in reversed(range(300)):
            try:
                admin = psycopg.connect(f"postgresql://tests@/postgres?host={folder}", autocommit=True)
                break
            except psycopg.OperationalError:
                if not left or server.poll() is not None:
                    raise
                time.sleep(0.1)
        numbers = count(1)

        def empty() -> str:
            name = f"shop{next(numbers)}"
            admin.execute(f"CREATE DATABASE {name}")
            return f"postgresql://tests@/{name}?host={folder}"

        with admin:
            yield empty
    finally:
        server.send_signal(signal.SIGINT)  # at once, whoever is connected
        server.wait(timeout=30)
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store's address, in SQLite and in PostgreSQL: a test that takes it is run on both."""
    if request.param == "sqlite":
        return str(tmp_path / "shop.sqlite")
    made: Callable[[], str] = request.getfixturevalue("postgresql")
    return made()


@pytest.fixture(scope="session")
def small_model(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with card and calibration: an untrained OSNet x0.25 at 64x32, which tells drawn colours apart."""
    import torch

    from passerby.learn.export import export_folder
    from passerby.learn.model import OSNet
    from passerby.reid.assess import calibrate_model
    from passerby.reid.card import CardData
    from passerby.reid.datasets import read_dataset

    torch.manual_seed(0)
    model = OSNet("osnet_x0_25").eval()
    folder = tmp_path_factory.mktemp("models") / "small"
    export_folder(
        model,
        folder,
        name="small",
        height=64,
        width=32,
        trained_on=[CardData(name="nothing", terms="none")],
        origin="untrained",
        recipe=None,
        commercial_use=True,
    )
    dev = read_dataset("market1501", drawn, split="dev", people=14)
    test = read_dataset("market1501", drawn, split="test")
    calibrate_model(folder, fit_on=[dev], check_on=[test])
    return folder


@pytest.fixture(scope="session")
def shop() -> "Shop":
    """12 x 8 m: a porch, one shelf with a zone on each side, a till; a camera at the door and one in each zone."""
    from passerby.simulate.plan import Arrivals, CameraPlan, Edge, LinePlan, Obstacle, Shop, Shoppers, ZonePlan

    return Shop(
        name="small",
        size_m=(12.0, 8.0),
        zones=(
            ZonePlan("door", "entrance", (5.0, 0.3, 7.0, 1.0)),
            ZonePlan("left", "shelves", (1.0, 4.0, 4.0, 7.0), dwell_median_s=20.0),
            ZonePlan("right", "shelves", (8.0, 4.0, 11.0, 7.0), dwell_median_s=20.0, weight=2.0),
            ZonePlan("till", "checkout", (9.0, 1.0, 11.0, 2.0)),
            ZonePlan("store", "staff", (1.0, 1.0, 2.0, 2.0)),
        ),
        cameras=(
            CameraPlan("door", (6.0, 3.0), 3.0, 270.0, 35.0, range_m=5.0),
            CameraPlan("left", (0.2, 7.8), 3.0, 315.0, 30.0, range_m=6.0),
            CameraPlan("right", (11.8, 7.8), 3.0, 225.0, 30.0, range_m=6.0, fps=5.0),
        ),
        arrivals=Arrivals((120.0,)),
        staff=1,
        obstacles=(
            Obstacle((5.5, 4.0, 6.5, 8.0)),
            Obstacle((4.6, 0.0, 4.7, 1.2)),
            Obstacle((7.3, 0.0, 7.4, 1.2)),
        ),
        lines=(LinePlan("door", (7.3, 1.2), (4.7, 1.2)),),
        edges=(Edge(("left", "right"), 30.0, 0.4),),
        shoppers=Shoppers(reenter=0.1, coat_off=0.1),
    )


@pytest.fixture(scope="session")
def drawn_atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sprite atlas of two bodies as upright blocks, 1.7 m high and 0.5 m wide: head, top, trousers, shoes."""
    import numpy as np

    material = np.zeros((2, 2, 8, 3, 192, 112), np.uint8)
    bands = ((180 - 153, 180 - 130, 1), (180 - 130, 180 - 75, 3), (180 - 75, 180 - 6, 4), (180 - 6, 180, 5))
    for low, high, number in bands:
        material[..., low:high, 56 - 22 : 56 + 23] = number
    path = tmp_path_factory.mktemp("atlas") / "blocks.npz"
    np.savez_compressed(
        path,
        material=material,
        shade=np.where(material > 0, 200, 0).astype(np.uint8),
        elevations_deg=np.array([12.0, 35.0]),
        px_per_m=90.0,
        feet_px=np.array([56.0, 180.0]),
        heights_m=np.array([1.7, 1.7]),
    )
    return path
