"""Pictures and annotations of a COCO file, checked.

Whatever is wrong with an annotation file shows up as nothing but a low AP. So everything that
makes no sense is refused, with the place where it stands.
"""

from __future__ import annotations

import json
import reprlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from runtime.errors import UserError
from runtime.json_text import parse_json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Picture:
    """An entry of ``images``."""

    id: int
    path: Path
    size: tuple[int, int] | None
    """Width and height in pixels, if the file states them."""


@dataclass(frozen=True, slots=True)
class Category:
    """An entry of ``categories``; ids are arbitrary, COCO's own have gaps."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """An entry of ``annotations``."""

    image_id: int
    category_id: int
    bbox: tuple[float, ...]
    """x, y, width, height in pixels."""
    area: float
    """Of the object's outline where the file states it: decides whether it is small or large."""
    is_crowd: bool
    """A group marked as one: neither to be found, nor wrong if found."""


@dataclass(frozen=True, slots=True)
class CocoDataset:
    """What a model is judged by."""

    path: Path
    """The annotation file."""
    pictures: tuple[Picture, ...]
    categories: tuple[Category, ...]
    annotations: tuple[Annotation, ...]

    def objects_in(self, image_ids: Iterable[int]) -> Counter[int]:
        """How many annotations each category has in these pictures, without crowds."""
        wanted = set(image_ids)
        return Counter(
            annotation.category_id
            for annotation in self.annotations
            if annotation.image_id in wanted and not annotation.is_crowd
        )

    def for_classes(self, classes: Sequence[str]) -> CocoDataset:
        """Only what a model with these classes can find; categories are told by their names.

        All pictures stay: what the model finds where nothing is counts against it.

        Raises:
            UserError: it knows no category of the file, or none that has an annotation.
        """
        known = tuple(category for category in self.categories if category.name in classes)
        if not known:
            raise UserError(
                f"the model knows no category of {self.path}: its classes are "
                f"{some(classes)}, the file has {some(c.name for c in self.categories)}; "
                "give the annotations of its classes"
            )
        ids = {category.id for category in known}
        kept = tuple(a for a in self.annotations if a.category_id in ids)
        dataset = replace(self, categories=known, annotations=kept)
        _require_objects(dataset, f" of categories that the model knows, {some(_names(known))}")
        return dataset


def read_dataset(path: Path, folder: Path, limit: int | None = None) -> CocoDataset:
    """Read an annotation file and check it.

    Args:
        path: the JSON file.
        folder: where its pictures lie.
        limit: take only so many pictures, the first ones of the file.

    Raises:
        UserError: the file cannot be read, is not a COCO annotation file or contradicts
            itself, has nothing to be found, or pictures of it are not in the folder.
    """
    try:
        dataset = _parse(parse_json(path.read_bytes()), path, folder)
        dataset = _first(dataset, limit)
    except OSError as error:
        raise UserError(f"cannot read annotations {path}: {error.strerror}") from error
    except ValueError as error:  # not JSON, or not what the JSON should hold
        raise _refusal(path, error) from error
    if not folder.is_dir():
        raise UserError(f"no folder of pictures {folder}; check --images")
    if missing := [_name_in(folder, p.path) for p in dataset.pictures if not _is_file(p.path)]:
        raise UserError(
            f"{len(missing)} of {len(dataset.pictures)} pictures of {path} are not in {folder}: "
            f"{some(missing)}; check --images"
        )
    return dataset


def some(items: Iterable[object], most: int = 5) -> str:
    """The first few of them, and how many more there are."""
    listed = [str(item) for item in items]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _name_in(folder: Path, path: Path) -> Path:
    """As the annotation file has it: an absolute name is not in the folder."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _refusal(path: Path, error: ValueError) -> UserError:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return UserError(f"cannot evaluate with {path}: it is not JSON ({error})")
    return UserError(f"cannot evaluate with {path}: {error}")


def _parse(data: Any, path: Path, folder: Path) -> CocoDataset:
    """Everything in the file.

    Raises:
        ValueError: says what is wrong.
    """
    if not isinstance(data, dict):
        raise ValueError(
            "it holds no object with images, categories and annotations, but a "
            f"{type(data).__name__}; a list of results is not what to compare with"
        )

    def picture(entry: dict[str, Any]) -> Picture:
        return Picture(_integer(entry, "id"), folder / _text(entry, "file_name"), _size(entry))

    dataset = CocoDataset(
        path,
        _entries(data, "images", picture),
        _entries(data, "categories", lambda e: Category(_integer(e, "id"), _text(e, "name"))),
        _entries(data, "annotations", _annotation),
    )
    image_ids = _unique((p.id for p in dataset.pictures), "image id")
    category_ids = _unique((c.id for c in dataset.categories), "category id")
    _unique(_names(dataset.categories), "category name")
    _known((a.image_id for a in dataset.annotations), image_ids, "image")
    _known((a.category_id for a in dataset.annotations), category_ids, "category")
    return dataset


def _first(dataset: CocoDataset, limit: int | None) -> CocoDataset:
    pictures = dataset.pictures[:limit]
    ids = {picture.id for picture in pictures}
    kept = tuple(a for a in dataset.annotations if a.image_id in ids)
    dataset = replace(dataset, pictures=pictures, annotations=kept)
    _require_objects(dataset, "" if limit is None else f" in its first {len(pictures)} pictures")
    return dataset


def _require_objects(dataset: CocoDataset, where: str) -> None:
    count = len(dataset.annotations)
    if all(annotation.is_crowd for annotation in dataset.annotations):
        why = f"all {count} annotations{where} are crowds" if count else f"no annotations{where}"
        raise UserError(f"{dataset.path} has nothing to be found: {why}")


def _entries(data: dict[str, Any], key: str, parse: Callable[[dict[str, Any]], T]) -> tuple[T, ...]:
    """All of one list of the file."""
    entries = data.get(key)
    if not isinstance(entries, list):
        raise ValueError(f"it is no COCO annotation file, it has no list {key!r}")
    if not entries:
        raise ValueError(f"its list {key!r} is empty")
    parsed = []
    for index, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"is {reprlib.repr(entry)}, not an object")
            parsed.append(parse(entry))
        except KeyError as error:
            raise ValueError(f"{key}[{index}] has no {error}") from error
        except ValueError as error:
            raise ValueError(f"{key}[{index}] {error}") from error
    return tuple(parsed)


def _annotation(entry: dict[str, Any]) -> Annotation:
    bbox = entry["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise ValueError(f"has the bbox {reprlib.repr(bbox)}, not four numbers")
    width, height = bbox[2:]
    if width < 0 or height < 0:
        raise ValueError(f"has the bbox {bbox} of negative size; it must be x, y, width, height")
    area = entry.get("area", width * height)
    if not _is_number(area) or area < 0:
        raise ValueError(f"has the area {reprlib.repr(area)}, not a number from 0 up")
    is_crowd = entry.get("iscrowd", 0)
    if is_crowd not in (0, 1):
        raise ValueError(f"has the iscrowd {reprlib.repr(is_crowd)}, not 0 or 1")
    image_id, category_id = _integer(entry, "image_id"), _integer(entry, "category_id")
    return Annotation(image_id, category_id, tuple(bbox), area, bool(is_crowd))


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    if "width" not in entry or "height" not in entry:
        return None
    return _integer(entry, "width"), _integer(entry, "height")


def _is_number(value: object) -> bool:
    """Of those that a float can hold: NaN and infinity are none, and ints may be larger."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _integer(entry: dict[str, Any], key: str) -> int:
    value = entry[key]
    if type(value) is not int:  # nor a bool
        raise ValueError(f"has the {key} {reprlib.repr(value)}, not a whole number")
    return value


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value:
        raise ValueError(f"has the {key} {reprlib.repr(value)}, not a name")
    return value


def _names(categories: Iterable[Category]) -> list[str]:
    return [category.name for category in categories]


def _unique(values: Iterable[T], what: str) -> set[T]:
    counts = Counter(values)
    if repeated := [value for value, count in counts.items() if count > 1]:
        raise ValueError(f"more than one entry has the {what} {some(repeated)}")
    return set(counts)


def _known(ids: Iterable[int], known: set[int], what: str) -> None:
    """Else pycocotools would pass over those annotations in silence."""
    counts = Counter(ids)
    if unknown := [i for i in counts if i not in known]:
        total = sum(counts[i] for i in unknown)
        raise ValueError(f"{total} annotations have a {what}_id of no {what}: {some(unknown)}")
