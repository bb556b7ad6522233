import av
import numpy as np
import pytest

from passerby.types import VideoError
from passerby.vision.video import ClipWriter, frames


def test_a_clip_holds_its_frames_at_its_rate(tmp_path):
    path = tmp_path / "clip.mp4"
    with ClipWriter(path, width=64, height=32, fps=12.0) as clip:
        for shade in range(0, 240, 20):
            clip.write(np.full((32, 64, 3), (shade, 0, 0), np.uint8))
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == "h264"
        pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        assert float(stream.average_rate) == 12
    assert len(pictures) == 12
    reds = [picture[..., 0].mean() for picture in pictures]
    np.testing.assert_allclose(reds, range(0, 240, 20), atol=8)
    assert max(picture[..., 2].mean() for picture in pictures) < 12  # red stays red
    read = list(frames(path))
    assert [round(12 * time) for time, _ in read] == list(range(12))
    np.testing.assert_array_equal(np.stack([picture for _, picture in read]), np.stack(pictures))


def test_a_wrong_frame_or_place_is_refused(tmp_path):
    with pytest.raises(VideoError, match="even sides"):
        ClipWriter(tmp_path / "a.mp4", width=63, height=32, fps=12.0)
    with pytest.raises(VideoError, match="cannot be written"):
        ClipWriter(tmp_path / "nowhere" / "a.mp4", width=64, height=32, fps=12.0)
    with ClipWriter(tmp_path / "b.mp4", width=64, height=32, fps=12.0) as clip:
        with pytest.raises(VideoError, match="expected frames"):
            clip.write(np.zeros((64, 32, 3), np.uint8))
        clip.write(np.zeros((32, 64, 3), np.uint8))


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "note.mp4").write_text("no video")
    for name in ("note.mp4", "absent.mp4"):
        with pytest.raises(VideoError, match="cannot be read as a video"):
            next(frames(tmp_path / name))
