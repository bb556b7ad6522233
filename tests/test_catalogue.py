"""Detectors of others: fetched from a server on this machine, broken off, gone on with, damaged, offline."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from passerby.__main__ import app
from passerby.types import ModelError, PasserbyError
from passerby.vision import catalogue
from passerby.vision.catalogue import CATALOGUE, Entry, Part, entry_named, fetch, state, verify
from passerby.vision.detect import open_detector


class Files(BaseHTTPRequestHandler):
    """Serves `server.content`; breaks off after `server.at_most` bytes, and may not know ranges."""

    def do_GET(self):
        content, first = self.server.content[self.path], 0
        self.server.asked.append(self.headers.get("Range"))
        if self.headers.get("Range") and self.server.ranges:
            first = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first : first + self.server.at_most])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("PASSERBY_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as running:
        running.content, running.asked, running.ranges, running.at_most = {}, [], True, 10**9
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def entry(server):
    """A "detector" of two files of 100,000 bytes."""
    parts = []
    for name, byte in (("a.xml", b"a"), ("a.bin", b"b")):
        server.content[f"/{name}"] = byte * 100_000
        digest = hashlib.sha256(byte * 100_000).hexdigest()
        parts.append(Part(name, f"http://127.0.0.1:{server.server_port}/{name}", 100_000, digest))
    return Entry("drawn", "this test", "none", tuple(parts))


def test_a_detector_is_fetched_once_and_then_kept(entry, server):
    assert state(entry) == "absent"
    seen = []
    assert fetch(entry, progress=lambda done, total: seen.append((done, total))) == entry.path
    assert entry.path.read_bytes() == b"a" * 100_000
    assert seen[-1] == (200_000, 200_000)
    assert seen == sorted(seen)
    assert (state(entry), len(server.asked)) == ("whole", 2)
    assert verify(fetched := entry) == fetched.path
    fetch(entry)
    assert len(server.asked) == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_is_gone_on_with(entry, server, ranges):
    server.at_most, server.ranges = 60_000, ranges
    with pytest.raises(ModelError, match=r"passerby models fetch drawn` goes on"):
        fetch(entry)
    assert state(entry) == "partial"
    server.at_most = 10**9
    fetch(entry)
    assert state(entry) == "whole"
    assert server.asked[1].startswith("bytes=")


def test_another_file_than_the_pinned_one_is_refused_and_deleted(entry, server):
    server.content["/a.xml"] = b"c" * 100_000
    with pytest.raises(ModelError, match="not the file that is pinned"):
        fetch(entry)
    assert state(entry) == "absent"
    server.content["/a.xml"] = b"a" * 200_000
    with pytest.raises(ModelError, match="got more; it is not the file that is pinned"):
        fetch(entry)


def test_a_damaged_file_is_seen_and_fetched_anew(entry, server):
    fetch(entry)
    entry.path.write_bytes(b"a" * 99_999)
    assert state(entry) == "damaged"
    with pytest.raises(ModelError, match=r"expected SHA-256 .* delete it and run"):
        verify(entry)
    fetch(entry)
    assert state(entry) == "whole"


def test_without_a_network_the_message_says_what_to_do(entry, server, tmp_path):
    nowhere = Entry("drawn", "this test", "none", (Part("a.xml", "http://127.0.0.1:9/a.xml", 100_000, "0" * 64),))
    with pytest.raises(
        ModelError, match=r"cannot be fetched \(.*refused.*put it at .*a\.xml and run `passerby models verify"
    ):
        fetch(nowhere)
    server.content.pop("/a.bin")
    with pytest.raises(ModelError, match="cannot be fetched"):
        fetch(entry)
    with pytest.raises(ModelError, match=r"no such file; `passerby models fetch drawn` gets it"):
        verify(entry)


def test_the_pins_are_those_of_the_files_that_were_measured(shared):
    """The bytes that the adapters were tested with; 0201's .xml at its public address is an older one of the same network."""
    known = {hashlib.sha256(p.read_bytes()).hexdigest() for p in (shared / "models").rglob("*.*") if p.is_file()}
    pinned = {part.sha256: part.file for entry in CATALOGUE for part in entry.parts}
    assert {file for digest, file in pinned.items() if digest not in known} == {"person-detection-0201.xml"}
    assert all(part.url.startswith("https://") for entry in CATALOGUE for part in entry.parts)


def run(*words):
    return CliRunner().invoke(app, ["models", *words], catch_exceptions=False).output


def test_the_command_lists_fetches_and_verifies(shared, server, monkeypatch):
    content = (shared / "models/yolox-nano/yolox_nano_416.onnx").read_bytes()
    server.content["/yolox.onnx"] = content
    real = entry_named("yolox-nano").parts[0]
    part = Part(real.file, f"http://127.0.0.1:{server.server_port}/yolox.onnx", real.size, real.sha256)
    monkeypatch.setattr(catalogue, "CATALOGUE", (Entry("yolox-nano", "Megvii", "Apache-2.0", (part,)),))
    assert "absent" in run("list")
    with pytest.raises(PasserbyError, match="nothing was fetched yet"):
        run("verify")
    assert "YOLOX, pictures of 416x416" in run("fetch", "yolox-nano")
    assert "whole" in run()
    assert "YOLOX" in run("verify")
    assert open_detector("yolox-nano").understood == "YOLOX, pictures of 416x416"
    with pytest.raises(PasserbyError, match="which one"):
        run("fetch")
    with pytest.raises(PasserbyError, match="no detector that can be fetched; those are yolox-nano"):
        run("fetch", "yolo")
