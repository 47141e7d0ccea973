"""Images of every kind through `infer.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from data.formats import FORMATS
from tests.infer.small_runs import ALL, Infer, files_in, images_of, plain


def test_every_kind_of_picture_is_taken_and_broken_ones_are_named(
    run: Infer, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(random.integers(0, 65536, (40, 60), dtype=np.uint16)).save(folder / "deep.png")
    photo.convert("LA").save(folder / "grey_alpha.png")
    photo.save(folder / "moving.gif", save_all=True, append_images=[photo.rotate(90)])
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=exif)
    photo.save(folder / "Bär 🐻 *.jpg")
    photo.save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-400])
    (folder / "text.jpg").write_text("this is no picture")

    result = run(checkpoint, folder, "--score", ".05", "--format", ALL, "--out", "out")
    assert result.code == 0
    names = {"cmyk.jpg", "deep.png", "grey_alpha.png", "moving.gif", "turned.jpg"}
    names |= {"Bär 🐻 *.jpg"}
    sizes = {image.file: (image.width, image.height) for image in images_of(Path("out"))}
    assert set(sizes) == names
    assert sizes["turned.jpg"] == (40, 60)  # upright: wide on disk, high to people
    for name in FORMATS:
        assert {image.file for image in images_of(Path("out"), name)} == names
    drawn = {
        "images/moving.gif.png" if name == "moving.gif" else f"images/{name}" for name in names
    }
    assert drawn <= files_in(Path("out"))
    with Image.open("out/images/turned.jpg") as drawing:
        assert drawing.size == (40, 60)
    assert "2 images could not be read:" in result.out
    assert "cut.jpg: image file is truncated" in result.out
    assert "text.jpg: not an image (starts with b'this is '" in result.out
    unreadable = {entry["file"] for entry in plain(Path("out"))["unreadable"]}
    assert unreadable == {"cut.jpg", "text.jpg"}

    strict = run(checkpoint, folder, "--strict", "--no-images", "--quiet")
    assert strict.code == 1
    assert "error: --strict: 2 images could not be read, the first is cut.jpg: " in strict.err


def test_a_panorama_is_read_and_its_small_objects_are_worth_a_note(
    run: Infer, checkpoint: Path, tmp_path: Path
) -> None:
    Image.new("1", (12000, 9000)).save(tmp_path / "panorama.png")  # 108 million pixels, 13 kB
    result = run(checkpoint, "panorama.png", "--score", ".05", "--out", "out", "--no-images")
    assert result.code == 0
    assert (images_of(Path("out"))[0].width, images_of(Path("out"))[0].height) == (12000, 9000)
    assert "panorama.png is 12000 pixels long, the network sees 128" in result.out


def test_only_unreadable_images_are_a_failure(run: Infer, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    result = run(checkpoint, "a.jpg", "--out", "out")
    assert result.code == 1
    assert "1 image could not be read" in result.out
    assert result.err.startswith("error: nothing was read: 1 image could not be read, the first is")
    assert plain(Path("out"))["images"] == []
