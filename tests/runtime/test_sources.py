from pathlib import Path

import pytest

from runtime.errors import UserError
from runtime.sources import Video, find_sources, picture_files
from runtime.targets import choose_targets


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "clip.MP4", ".hidden.png", "notes.txt", "deep/er/c.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def found(*arguments):
    sources = find_sources(arguments)
    return [str(p) for p in sources.pictures], [v.url for v in sources.videos]


def test_folder_holds_pictures_and_videos():
    assert found(".") == (["a.JPG", "b.png"], ["clip.MP4"])


def test_patterns():
    assert found("*.png") == (["b.png"], [])
    assert found("**/*.jpg") == (["deep/er/c.jpg"], [])
    assert found("*") == (["a.JPG", "b.png"], ["clip.MP4"])
    with pytest.raises(UserError, match=r"no picture or video matches \*.gif"):
        found("*.gif")
    with pytest.raises(UserError, match="no picture or video matches"):
        found("*.txt")


def test_file_whose_name_looks_like_a_pattern():
    Path("x[1].png").touch()
    assert found("x[1].png") == (["x[1].png"], [])


def test_each_source_once_and_in_order():
    pictures, videos = found("b.png", "clip.MP4", ".", "none.jpg", "clip.MP4", "b.png")
    assert pictures == ["b.png", "a.JPG", "none.jpg"]
    assert videos == ["clip.MP4"]


def test_streams_and_cameras_are_live_and_files_are_not():
    urls = ["rtsp://user:secret@cam.local:554/door?x=1", "/dev/video0", "https://host/clip.mp4"]
    videos = find_sources(urls).videos
    assert [video.url for video in videos] == urls
    assert [video.live for video in videos] == [True, True, False]
    assert [video.stem for video in videos] == ["door", "video0", "clip"]
    assert str(videos[0]) == "rtsp://cam.local:554/door?x=1"  # without the password


@pytest.mark.parametrize("kind", [find_sources, lambda paths: picture_files(map(Path, paths))])
def test_empty_folder(tmp_path, kind):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures in folder"):
        kind([str(tmp_path / "empty")])


def test_targets_of_former_runs_are_not_taken_again(tmp_path):
    sources = [tmp_path / "a" / "x.png", Video(str(tmp_path / "x.mp4")), Video("rtsp://cam/x")]
    chosen = choose_targets(sources, tmp_path, {"old/x.png": "x.png", "old/y.png": None})
    assert [path.name for path in chosen.values()] == ["x-2.png", "x-2.mp4", "x-3.mp4"]
