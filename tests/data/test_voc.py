"""VOC's XML, in every shape that people have it in; each defect is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import pytest
from PIL import Image

from data.annotations import AnnotatedImages
from data.probing import probe_pictures
from data.reading import UnreadableImageError
from data.voc import read_voc

Corners = Sequence[object]
Write = Callable[..., Path]


def xml(
    things: Sequence[Tuple[str, Corners]],
    size: Optional[Tuple[int, int]] = (40, 60),
    filename: str = "",
    extra: str = "",
) -> str:
    """An annotation; `size` is (height, width)."""
    lines = ["<annotation>", f"<filename>{filename}</filename>"]
    if size is not None:
        lines.append(f"<size><width>{size[1]}</width><height>{size[0]}</height></size>")
    for name, corners in things:
        keys = ("xmin", "ymin", "xmax", "ymax")
        box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners))
        lines += ["<object>", f"<name>{name}</name>{extra}", f"<bndbox>{box}</bndbox>", "</object>"]
    return "\n".join([*lines, "</annotation>"])


BOX = (11, 6, 30, 25)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes an annotation and its picture, each of another colour."""

    def one(
        name: str,
        text: str,
        *,
        root: Path = tmp_path,
        image: str = "",
        size: Tuple[int, int] = (40, 60),
        colour: int = 0,
    ) -> Path:
        (root / "Annotations").mkdir(parents=True, exist_ok=True)
        (root / "JPEGImages").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(text)
        if image != "none":
            shade = colour or sum(name.encode()) % 251
            path = root / "JPEGImages" / (image or f"{name}.jpg")
            Image.new("RGB", (size[1], size[0]), (shade, len(name), 0)).save(path)
        return root

    return one


def lists(root: Path, **names: Sequence[str]) -> None:
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    for name, members in names.items():
        (folder / f"{name}.txt").write_text("".join(f"{member}\n" for member in members))


def test_the_minima_lose_one_and_the_maxima_stay(write: Write) -> None:
    root = write("a", xml([("cat", BOX)]))
    (table,) = read_voc(root, {"train": ["all"]}).splits.values()
    assert table.boxes.tolist() == [[10.0, 5.0, 30.0, 25.0]]
    assert table.sizes.tolist() == [[40, 60]]
    assert table.names.tolist() == ["JPEGImages/a.jpg"]
    sample = AnnotatedImages(root, table)[0]
    assert sample.original_size == (40, 60)
    assert sample.boxes.tolist() == [[10.0, 5.0, 30.0, 25.0]]


def test_the_devkit_is_read_where_it_is(tmp_path: Path, write: Write) -> None:
    for year, names in (("2007", ["000005", "000007"]), ("2012", ["2008_000002"])):
        root = tmp_path / "VOCdevkit" / f"VOC{year}"
        for name in names:
            write(name, xml([("dog" if year == "2012" else "cat", BOX)]), root=root)
        lists(root, trainval=names[:1], test=names[1:])
    wanted = {"train": ["2007_trainval", "2012_trainval"], "val": ["2007_test"]}
    alone = read_voc(tmp_path / "VOCdevkit" / "VOC2007", {"train": ["2007_trainval"]})
    assert alone.splits["train"].names.tolist() == ["JPEGImages/000005.jpg"]
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        splits, report = read_voc(root, wanted)
        assert splits["train"].image_ids.tolist() == [5, 2008000002]
        assert splits["val"].image_ids.tolist() == [7]
        assert splits["train"].class_names == splits["val"].class_names == ("cat", "dog")
        assert report.counts() == {}
        assert AnnotatedImages(root, splits["train"])[1].name.endswith("2008_000002.jpg")


def test_boxes_counted_from_zero_are_taken_as_they_stand(write: Write) -> None:
    write("a", xml([("cat", (0, 5, 30, 25))]))
    root = write("b", xml([("cat", BOX)]))
    splits, report = read_voc(root, {"train": ["all"]})
    assert splits["train"].boxes.tolist() == [[0, 5, 30, 25], [11, 6, 30, 25]]
    (line,) = report.lines()
    assert line.startswith("1 boxes counted from 0: corners are taken as they stand: Annotations/a")


def test_the_devkits_years_are_counted_from_one_whatever_stands_there(
    tmp_path: Path, write: Write
) -> None:
    root = write("1", xml([("cat", (0, 5, 30, 25))]), root=tmp_path / "VOC2007")
    lists(root, trainval=["1"])
    splits, report = read_voc(tmp_path, {"train": ["2007_trainval"]})
    assert splits["train"].boxes.tolist() == [[-1, 4, 30, 25]]  # as annotated
    assert report.counts() == {"clipped": 1}
    sample = AnnotatedImages(tmp_path, splits["train"])[0]
    assert sample.boxes.tolist() == [[0, 4, 30, 25]]


@pytest.mark.parametrize("filename", ["photo.png", "photo", r"C:\data\photo.png", "", "other.jpg"])
def test_pictures_are_found_by_name_whatever_filename_says(write: Write, filename: str) -> None:
    root = write("photo", xml([("cat", BOX)], filename=filename), image="photo.png")
    assert read_voc(root, {"train": ["all"]}).splits["train"].names.tolist() == [
        "JPEGImages/photo.png"
    ]


def test_a_picture_of_another_name_is_found_by_filename(write: Write) -> None:
    root = write("label_1", xml([("cat", BOX)], filename="photo"), image="photo.png")
    assert read_voc(root, {"t": ["all"]}).splits["t"].names.tolist() == ["JPEGImages/photo.png"]


def test_difficult_is_optional_and_three_things_can_be_done_with_it(write: Write) -> None:
    write("a", xml([("cat", BOX)]))
    root = write("b", xml([("cat", BOX)], extra="<difficult>1</difficult>"))
    table = read_voc(root, {"train": ["all"]}).splits["train"]
    assert table.difficult.tolist() == [False, True]
    labels = {
        way: [AnnotatedImages(root, table, way)[i].labels.tolist() for i in range(2)]
        for way in ("use", "ignore", "leave_out")
    }
    assert labels == {"use": [[0], [0]], "ignore": [[0], [-1]], "leave_out": [[0], []]}
    assert len(table.without_difficult().boxes) == 1
    with pytest.raises(ValueError, match="difficult must be one of use, ignore, leave_out"):
        AnnotatedImages(root, table, "drop")


def test_boxes_of_parts_are_left_alone(write: Write) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin></bndbox></part>"
    root = write("a", xml([("person", BOX)], extra=part))
    table = read_voc(root, {"train": ["all"]}).splits["train"]
    assert table.class_names == ("person",)
    assert table.boxes.tolist() == [[10, 5, 30, 25]]


def test_coordinates_may_be_fractions_and_sizes_missing(write: Write) -> None:
    write("a", xml([("cat", ("11.5", "6.25", "30.0", "25"))], size=None))
    root = write("b", xml([("cat", BOX)], size=(0, 0)))
    table = read_voc(root, {"train": ["all"]}).splits["train"]
    assert table.boxes[0].tolist() == [10.5, 5.25, 30, 25]
    assert table.sizes.tolist() == [[40, 60], [40, 60]]


def test_pictures_without_objects_stay(write: Write) -> None:
    write("a", xml([]))
    root = write("b", xml([("cat", BOX)]))
    table = read_voc(root, {"train": ["all"]}).splits["train"]
    assert len(table) == 2
    assert len(AnnotatedImages(root, table)[0].boxes) == 0


def test_without_lists_a_split_is_drawn_by_the_seed(write: Write) -> None:
    for number in range(20):
        root = write(f"x{number}", xml([("cat", BOX)]))
    wanted = {"train": ["train"], "val": ["val"]}
    splits, report = read_voc(root, wanted, seed=1)
    train, val = (set(table.names.tolist()) for table in splits.values())
    assert (len(train), len(val), len(train & val)) == (16, 4, 0)
    assert report.notes == ["no ImageSets: split 80% train, 20% val by seed 1"]
    again = read_voc(root, wanted, seed=1).splits["val"].names.tolist()
    assert set(again) == val
    assert set(read_voc(root, wanted, seed=2).splits["val"].names.tolist()) != val


def test_folders_named_like_splits_are_splits(tmp_path: Path) -> None:
    for folder in ("train", "valid"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.xml").write_text(xml([("cat", BOX)]))
        Image.new("RGB", (60, 40)).save(tmp_path / folder / f"{folder}.jpg")
    splits, report = read_voc(tmp_path, {"train": ["train"], "val": ["val"]})
    assert splits["train"].names.tolist() == ["train/train.jpg"]
    assert splits["val"].names.tolist() == ["valid/valid.jpg"]
    assert report.notes == []


def test_classes_can_be_given_and_renamed(write: Write) -> None:
    write("a", xml([("Cat", BOX)]))
    root = write("b", xml([("cat", BOX), ("dog", BOX)]))
    splits, report = read_voc(root, {"train": ["all"]})
    assert splits["train"].class_names == ("Cat", "cat", "dog")
    assert report.lines() == [
        "1 class names that differ only in case: Cat and cat (data.classes_alias={Cat: cat})"
    ]
    splits, report = read_voc(
        root, {"train": ["all"]}, classes=["dog", "cat"], aliases={"Cat": "cat"}
    )
    assert splits["train"].labels.tolist() == [1, 1, 0]
    assert splits["train"].counts() == {"dog": 1, "cat": 2}
    assert report.counts() == {}


DEFECTS: Dict[str, Tuple[str, str]] = {
    "bad_file": ("<annotation><object>", "no element found"),
    "no_name": (xml([("", BOX)]), ":4"),
    "no_box": ("<annotation>\n<object><name>cat</name></object></annotation>", ":2 (cat)"),
    "bad_number": (xml([("cat", (1, "ten", 30, 20))]), ":4 (1 ten 30 20)"),
    "unknown_class": (xml([("cat", BOX), ("unicorn", BOX)]), ":8 (unicorn)"),
    "clipped": (xml([("cat", (50, 5, 70, 25))]), "49 4 70 25 in 60x40"),
    "empty": (xml([("cat", (30, 5, 30, 25))]), "30 5 30 25"),
    "inverted": (xml([("cat", (30, 5, 20, 25))]), "29 4 20 25"),
    "outside": (xml([("cat", (70, 5, 80, 25))]), "69 4 80 25 in 60x40"),
    "same_box": (xml([("cat", BOX), ("cat", BOX)]), ":8 (cat)"),
}


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_bad_object_is_named_by_file_and_line(write: Write, kind: str) -> None:
    text, detail = DEFECTS[kind]
    write("good", xml([("cat", BOX)]))
    root = write("bad", text)
    report = read_voc(root, {"train": ["all"]}, classes=["cat"]).report
    (defect,) = report.defects
    assert defect.kind == kind
    assert defect.where.startswith("Annotations/bad.xml")
    assert detail in str(defect)


@pytest.mark.parametrize("kind", ["bad_file", "no_name", "no_box", "bad_number", "unknown_class"])
def test_what_cannot_be_understood_stops(write: Write, kind: str) -> None:
    write("good", xml([("cat", BOX)]))
    root = write("bad", DEFECTS[kind][0])
    report = read_voc(root, {"train": ["all"]}, classes=["cat"]).report
    with pytest.raises(ValueError, match=r"^1 .*: Annotations/bad.xml"):
        report.require_sound()


def test_more_than_one_bad_box_in_a_hundred_stops(write: Write) -> None:
    for number in range(25):
        boxes = [("cat", (1, 1, 2 + x, 9)) for x in range(4)]
        root = write(f"x{number}", xml(boxes))
    write("x0", xml([*boxes[:3], ("cat", (5, 5, 5, 9))]))
    report = read_voc(root, {"train": ["all"]}).report
    assert (report.dropped, report.boxes) == (1, 100)
    report.require_sound()
    write("x1", xml([*boxes[:3], ("cat", (70, 5, 80, 9))]))
    with pytest.raises(ValueError, match="2 of 100 boxes are unusable, more than 1%") as error:
        read_voc(root, {"train": ["all"]}).report.require_sound()
    assert "Annotations/x0.xml" in str(error.value)
    assert "Annotations/x1.xml" in str(error.value)


def test_without_lists_lone_files_are_left_out_and_named(write: Write) -> None:
    write("a", xml([("cat", BOX)]))
    write("b", xml([("cat", BOX)]), image="none")
    root = write("c", xml([("cat", BOX)]))
    (root / "Annotations" / "c.xml").unlink()
    splits, report = read_voc(root, {"train": ["all"]})
    assert len(splits["train"]) == 1
    assert report.lines() == [
        "1 annotations without an image, left out: Annotations/b.xml",
        "1 images without an annotation, left out: JPEGImages/c.jpg",
    ]


def test_a_list_with_missing_images_is_refused(write: Write) -> None:
    write("a", xml([("cat", BOX)]))
    root = write("b", xml([("cat", BOX)]), image="none")
    lists(root, train=["a", "b", "c"])
    with pytest.raises(FileNotFoundError) as error:
        read_voc(root, {"train": ["train"]})
    assert "train.txt names 3 images; 2 are not there" in str(error.value)
    assert "first: Annotations/b.xml" in str(error.value)


def test_lists_that_are_empty_missing_or_doubled(write: Write) -> None:
    root = write("a", xml([("cat", BOX)]))
    lists(root, train=["a", "a.jpg"], val=[], cat_train=["a"])
    assert read_voc(root, {"train": ["train"]}).report.lines() == [
        "1 images named more than once, counted once: a (2 times in list train)"
    ]
    with pytest.raises(ValueError, match=r"val.txt names no image: it is empty"):
        read_voc(root, {"val": ["val"]})
    with pytest.raises(FileNotFoundError, match=r"no list .*test.txt; there are: train, val$"):
        read_voc(root, {"test": ["test"]})


def test_a_missing_dataset_shows_the_layout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        read_voc(tmp_path, {"train": ["2007_trainval"]})
    text = str(error.value)
    assert f"no VOC2007 at {tmp_path}/VOC2007 or {tmp_path}/VOCdevkit/VOC2007" in text
    assert f"python -m data.download voc0712 {tmp_path}" in text
    assert "ImageSets/Main/trainval.txt" in text
    with pytest.raises(FileNotFoundError, match="no such folder; expected"):
        read_voc(tmp_path / "nowhere", {"train": ["train"]})
    with pytest.raises(FileNotFoundError, match=r"no .xml in it"):
        read_voc(tmp_path, {"train": ["train"]})


def test_splits_that_share_pictures_are_named(write: Write) -> None:
    write("a", xml([("cat", BOX)]))
    root = write("b", xml([("cat", BOX)]))
    write("c", xml([("dog", BOX)]), colour=99)
    shutil.copy(root / "JPEGImages" / "a.jpg", root / "JPEGImages" / "c.jpg")
    lists(root, train=["a", "b"], val=["b", "c"])
    splits, report = read_voc(root, {"train": ["train"], "val": ["val"]})
    probe_pictures(root, splits, report)
    assert [str(defect) for defect in report.of_kind("leak")] == [
        "JPEGImages/b.jpg (train and val)",
        "JPEGImages/c.jpg (val; also in train: JPEGImages/a.jpg)",
    ]
    assert [str(defect) for defect in report.of_kind("not_trained")] == ["dog (split train)"]


def test_pictures_are_probed(write: Write) -> None:
    for name in ("a", "b", "c", "e"):
        write(name, xml([("cat", BOX)]))
    root = write("d", xml([("cat", BOX)]), size=(30, 60))
    pictures = root / "JPEGImages"
    (pictures / "a.jpg").write_bytes((pictures / "a.jpg").read_bytes()[:300])
    shutil.copy(pictures / "b.jpg", pictures / "c.jpg")
    with Image.open(pictures / "e.jpg") as picture:
        exif = picture.getexif()
        exif[0x0112] = 3
        picture.save(pictures / "e.jpg", exif=exif)
    splits, report = read_voc(root, {"train": ["all"]})
    probe_pictures(root, splits, report)
    assert report.counts() == {
        "unreadable": 1, "same_picture": 1, "wrong_size": 1, "rotated": 1,
    }  # fmt: skip
    assert str(report.of_kind("wrong_size")[0]) == "JPEGImages/d.jpg (annotated 60x40, is 60x30)"
    assert str(report.of_kind("same_picture")[0]) == "JPEGImages/c.jpg (of JPEGImages/b.jpg)"
    with pytest.raises(ValueError, match=r"1 unreadable images: JPEGImages/a.jpg"):
        report.require_sound()
    with pytest.raises(UnreadableImageError, match=r"(?i)JPEGImages/a.jpg: .*truncated"):
        AnnotatedImages(root, splits["train"])[0]


def test_bccd_has_the_counts_of_its_authors(shared_data: Path) -> None:
    wanted: Dict[str, List[str]] = {"train": ["train"], "val": ["val"], "test": ["test"]}
    splits, report = read_voc(shared_data / "bccd", wanted)
    assert [len(table) for table in splits.values()] == [205, 87, 72]
    counts = [table.counts() for table in splits.values()]
    totals = {name: sum(count[name] for count in counts) for name in counts[0]}
    # 4155 RBC and 361 platelets, less the two boxes without area.
    bad = [str(defect) for defect in report.of_kind("empty")]
    assert sorted(bad) == [
        "Annotations/BloodImage_00338.xml:158 (504 337 504 337)",
        "Annotations/BloodImage_00343.xml:50 (181 329 181 329)",
    ]
    assert sum(totals.values()) == 4155 + 372 + 361 - 2
    assert totals["WBC"] == 372
    report.require_sound()
