"""The wheel, installed in a fresh environment without torch, away from the checkout, does what the README says."""

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def call(*command: object, cwd: Path) -> str:
    result = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_runs_the_readmes_example_without_torch(drawn, tmp_path):
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 33 * 2**20  # four networks, the sample shop and the sprite atlas
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    call(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    away = tmp_path / "away"
    away.mkdir()
    for name, picture in zip(("a.jpg", "b.jpg", "c.jpg"), sorted((drawn / "query").iterdir()), strict=False):
        (away / name).write_bytes(picture.read_bytes())
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert example
    (away / "example.py").write_text(example[1])
    assert "probability" in call(python, "example.py", cwd=away)
    call(python, "-c", "import passerby, sys; assert 'site-packages' in passerby.__file__", cwd=away)
    assert call(python, "-c", "import importlib.util as u; print(u.find_spec('torch'))", cwd=away).strip() == "None"
    passerby = tmp_path / "env" / "bin" / "passerby"
    assert '"probability"' in call(passerby, "compare", "a.jpg", "b.jpg", "--json", "-", cwd=away)
    refused = subprocess.run([passerby, "train", "x.toml"], cwd=away, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert 'pip install "passerby[train]"' in refused.stderr
