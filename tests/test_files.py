"""Files are written whole or not at all."""

import threading
from pathlib import Path

import pytest

from passerby.files import file_hash, settings_hash, whole, write_bytes, write_json, write_text


def test_a_failing_block_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "before")

    def fail():
        with whole(path) as draft:
            draft.write_text("half of")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_at_once_each_leave_a_whole_file(tmp_path):
    path, long, failed = tmp_path / "note.bin", 200_000, []

    def write(letter):
        try:
            for _ in range(20):
                write_bytes(path, letter * long)
        except OSError as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    assert path.read_bytes() in {letter * long for letter in (b"a", b"b", b"c")}
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_keeps_the_suffix_and_gets_the_usual_rights(tmp_path):
    with whole(tmp_path / "model.onnx") as draft:
        assert draft.suffix == ".onnx"
        draft.touch()
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "model.onnx").stat().st_mode == plain.stat().st_mode


def test_a_device_stays_one():
    write_text("/dev/null", "nothing")
    assert not Path("/dev/null").is_file()


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_hashes_depend_on_content_alone(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b") != file_hash(tmp_path / "a", tmp_path / "b")
    assert settings_hash({"a": 1, "b": 2}) == settings_hash({"b": 2, "a": 1}) != settings_hash({"a": 2, "b": 1})
