"""The steps of "Your first camera" in docs/cameras.md, as they stand there, with a camera over RTSP and a browser."""

import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from typer.testing import CliRunner

from passerby.__main__ import app
from passerby.site import load_site
from test_run import serving

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from loopback import RtspCamera, has_rtsp

PAGE = Path(__file__).parents[1] / "docs" / "cameras.md"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def steps():
    """The text of each step, in order."""
    part = PAGE.read_text().split("## Your first camera")[1].split("\n## ")[0]
    return [" ".join(each.split()) for each in re.split(r"(?m)^\d+\. ", part)[1:]]


def command(step):
    """What a step has one type, as words."""
    return shlex.split(re.search(r"`((?:passerby|pip) [^`]+)`", step)[1])


def test_they_are_fewer_than_ten_and_begin_with_the_installation_that_the_readme_has():
    assert len(steps()) < 10
    assert shlex.join(command(steps()[0])) in (PAGE.parents[1] / "README.md").read_text().replace('"', "'")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None or not has_rtsp(), reason="needs Chromium and GStreamer's RTSP server")
def test_each_step_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, init, check, serve, _, _, _, check_again, serve_again = steps()
    camera = RtspCamera(password="secret")
    address = camera.address.replace("rtsp://", "rtsp://shop:secret@") if "@" not in camera.address else camera.address

    def typed(step):
        words = [address if word.startswith("rtsp://") else word for word in command(step)[1:]]
        result = CliRunner().invoke(app, words)
        assert "secret" not in result.output
        return result

    try:
        assert typed(init).exit_code == 0
        assert [each.source for each in load_site(Path("site.toml")).cameras] == [address]
        assert typed(check).exit_code == 0
        assert Path("site.png").read_bytes().startswith(b"\x89PNG")
        file, store = command(serve)[2], tmp_path / "site.sqlite"
        with serving(file, store) as program, sync_playwright() as playwright:
            link = program.wait("Administrator, once: ").split(": ", 1)[1]
            program.wait("web: live")
            page = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]).new_page()
            page.set_default_timeout(120_000)
            page.goto(link)
            page.get_by_label("Password").fill("correct horse battery")
            page.get_by_label("The same again").fill("correct horse battery")
            page.get_by_role("button").click()
            expect(page.locator(".wall canvas")).to_be_visible(timeout=120_000)
            expect(page.locator("#seen")).to_have_text("0")
            page.get_by_role("link", name="Set-up").click()
            page.get_by_role("button", name="Line", exact=True).click()
            board = page.locator("#board").bounding_box()
            for x in (0.2, 0.8):
                page.mouse.click(board["x"] + x * board["width"], board["y"] + 0.6 * board["height"])
            pasted = page.get_by_label("For the site").input_value()
            page.context.browser.close()
            assert program.stop(signal.SIGINT) == 0
        with Path(file).open("a") as site:
            site.write(f"\n{pasted}\n")
        assert typed(check_again).exit_code == 0
        (line,) = load_site(Path(file)).lines
        assert (line.name, line.door) == ("line 1", True)
        with serving(command(serve_again)[2], store) as program:
            program.wait("vision: live")
            assert program.stop(signal.SIGINT) == 0
    finally:
        camera.down()
