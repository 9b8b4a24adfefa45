"""What ``python -m runtime eval`` refuses: one line, exit code 2, no file written."""

import sys

import pytest

from tests.runtime.coco_files import RGB, Files


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path, [(120, 200), (480, 640), (300, 210)], [RGB] * 3)


@pytest.fixture
def one(tmp_path):
    return Files(tmp_path, [(480, 640)], [RGB])


def assert_refused(capsys, *messages):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("python -m runtime: error: ")
    assert captured.err.count("\n") == 1
    for message in messages:
        assert message in captured.err


def test_fixed_batch_above_the_most(tmp_path, capsys):
    files = Files(tmp_path, [(20, 20)], [RGB], batch=4)
    assert files.eval("--max-batch", 3) == 2
    assert_refused(capsys, "has a fixed batch of 4, got --max-batch 3")
    assert files.row("--max-batch", 5)["batch"] == 4


def test_no_readable_picture(one, capsys):
    (one.images / "sub" / "0.png").write_text("no picture")
    assert one.eval("--json", one.folder / "ap.json") == 2
    assert_refused(capsys, "no picture with annotations could be read, 1 of 1 failed", "0.png")
    assert not (one.folder / "ap.json").exists()


def edited(change):
    """Something done to the content of an annotation file."""

    def apply(data):
        change(data)
        return data

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: [], "it holds no object with images, categories and annotations, but a list"),
        (lambda _: {}, "it is no COCO annotation file, it has no list 'images'"),
        (edited(lambda d: d.pop("annotations")), "it has no list 'annotations'"),
        (edited(lambda d: d.update(categories={})), "it has no list 'categories'"),
        (edited(lambda d: d.update(images=[])), "its list 'images' is empty"),
        (edited(lambda d: d.update(categories=[])), "its list 'categories' is empty"),
        (edited(lambda d: d.update(annotations=[])), "its list 'annotations' is empty"),
        (edited(lambda d: d["images"].append(7)), "images[1] is 7, not an object"),
        (edited(lambda d: d["images"][0].pop("file_name")), "images[0] has no 'file_name'"),
        (edited(lambda d: d["images"][0].update(file_name="")), "has the file_name '', not a name"),
        (edited(lambda d: d["images"][0].update(id="a")), "has the id 'a', not a whole number"),
        (edited(lambda d: d["images"][0].update(width=1.5)), "the width 1.5, not a whole number"),
        (edited(lambda d: d["images"].append(d["images"][0])), "entry has the image id 100"),
        (edited(lambda d: d["categories"].append({"id": 3, "name": "x"})), "the category id 3"),
        (edited(lambda d: d["categories"].append({"id": 4, "name": "cat"})), "category name cat"),
        (edited(lambda d: d["annotations"][1].pop("bbox")), "annotations[1] has no 'bbox'"),
        (edited(lambda d: d["annotations"][1].update(bbox=[1, 2, 3])), "bbox [1, 2, 3], not four"),
        (
            edited(lambda d: d["annotations"][1].update(bbox=[1, 2, 3, None])),
            "bbox [1, 2, 3, None], not four numbers",
        ),
        (
            edited(lambda d: d["annotations"][1].update(bbox=[1, 2, 3, float("nan")])),
            "not four numbers",
        ),
        (
            edited(lambda d: d["annotations"][1].update(bbox=[1, 2, 3, 10**400])),
            "not four numbers",
        ),
        (edited(lambda d: d["annotations"][1].update(iscrowd="0")), "iscrowd '0', not 0 or 1"),
        (
            edited(lambda d: d["annotations"][2].update(bbox=[9, 9, -5, 5])),
            "annotations[2] has the bbox [9, 9, -5, 5] of negative size",
        ),
        (edited(lambda d: d["annotations"][0].update(area=-1)), "has the area -1, not a number"),
        (
            edited(lambda d: [a.update(category_id=i) for i, a in enumerate(d["annotations"])]),
            "3 annotations have a category_id of no category: 0, 1, 2",
        ),
        (
            edited(lambda d: d["annotations"][0].update(image_id=5)),
            "1 annotations have a image_id of no image: 5",
        ),
        (
            edited(lambda d: [a.update(iscrowd=1) for a in d["annotations"]]),
            "has nothing to be found: all 3 annotations are crowds",
        ),
        (
            edited(lambda d: [c.update(name=c["name"].upper()) for c in d["categories"]]),
            "its classes are cat, dog, bird, the file has DOG, BIRD, CAT",
        ),
        (
            edited(
                lambda d: [
                    d["categories"].append({"id": 1, "name": "fish"}),
                    *(a.update(category_id=1) for a in d["annotations"]),
                ]
            ),
            "no annotations of categories that the model knows, dog, bird, cat",
        ),
    ],
)
def test_annotations_that_make_no_sense(one, change, message, capsys):
    assert one.eval("--json", one.folder / "ap.json", data=change(one.data)) == 2
    assert_refused(capsys, message, str(one.annotations))
    assert not (one.folder / "ap.json").exists()


def test_annotation_file_that_cannot_be_read(one, capsys):
    assert one.run() == 2
    assert_refused(capsys, "cannot read annotations", "No such file")
    for content in (b"{", b"\xff\xfe\xfa", b""):
        one.annotations.write_bytes(content)
        assert one.run() == 2
        assert_refused(capsys, "it is not JSON")


def test_first_pictures_without_annotations(files, capsys):
    files.data["annotations"] = files.data["annotations"][3:]
    assert files.eval("--limit", 1) == 2
    assert_refused(capsys, "nothing to be found: no annotations in its first 1 pictures")
    assert files.row("--limit", 2)["ap"] < 1  # what was found in the first counts against it


def test_pictures_that_are_not_there(tmp_path, capsys):
    files = Files(tmp_path, [(20, 20)] * 8, [RGB] * 8)
    for number in range(1, 8):
        (files.images / "sub" / f"{number}.png").unlink()
    assert files.eval() == 2
    assert_refused(capsys, "7 of 8 pictures of", "sub/1.png, sub/2.png", "sub/5.png and 2 more")
    assert files.row("--limit", 1)["images"] == 1
    files.images = tmp_path / "elsewhere"
    capsys.readouterr()
    assert files.eval() == 2
    assert_refused(capsys, f"no folder of pictures {files.images}")


@pytest.mark.parametrize("name", ["/nowhere/a.png", f"{'long' * 100}.png"])
def test_picture_names_of_no_file(one, name, capsys):
    one.data["images"][0]["file_name"] = name
    assert one.eval() == 2
    assert_refused(capsys, f"1 of 1 pictures of {one.annotations} are not in", f": {name}; check")


def test_outputs_that_cannot_be_written(one, capsys):
    one.eval()
    capsys.readouterr()
    kept = [one.model, one.annotations, one.images / "sub" / "0.png"]
    before = [path.read_bytes() for path in kept]
    for option in ("--json", "--save-detections"):
        for path in kept:
            assert one.run(option, path) == 2
            assert_refused(capsys, f"{option} {path} would overwrite an input")
        assert one.run(option, one.folder) == 2
        assert_refused(capsys, "it is a folder")
        assert one.run(option, one.model / "x.json") == 2
        assert_refused(capsys, "cannot write")
    assert one.run("--json", one.folder / "x", "--save-detections", one.folder / "x") == 2
    assert_refused(capsys, "--json and --save-detections are both")
    assert [path.read_bytes() for path in kept] == before


def test_without_pycocotools(one, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    assert one.eval() == 2
    assert_refused(capsys, "pip install 'pycocotools>=2.0.8,<3'")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--limit", "0", "--limit takes a whole number from 1 up, got 0"),
        ("--max-batch", "x", "--max-batch takes a whole number from 1 up, got x"),
        ("--score-threshold", "2", "--score-threshold must be a number from 0 to 1, got 2"),
    ],
)
def test_wrong_numbers(one, option, value, message, capsys):
    assert one.eval(f"{option}={value}") == 2
    assert_refused(capsys, message)
