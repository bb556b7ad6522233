"""The data that tests share: a drawn re-ID set, and where the real data lies."""

import sys
from pathlib import Path

import pytest

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
    """Market-1501's layout with drawn figures: 12 people to train on, 20 to test on, 3 cameras, 4 pictures in each."""
    from coloured_people import make

    root = tmp_path_factory.mktemp("drawn")
    make(root, people=12)
    return root


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, the folder of real data and public models")
    return SHARED
