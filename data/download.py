"""The two datasets of the recipes, from where their authors published them:

    python -m data.download voc0712 DIR     DIR/VOCdevkit/VOC2007 and VOC2012, 2.9 GB
    python -m data.download coco2017 DIR    DIR/train2017, val2017 and annotations, 20 GB

The same command goes on where it was interrupted. An archive is deleted once it is unpacked.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from data.extraction import extract
from data.fetching import fetch, free_bytes

__all__ = ["DATASETS", "Part", "download", "how_to_get", "main"]

VOC = (
    "https://thor.robots.ox.ac.uk/pascal/VOC/",
    "http://host.robots.ox.ac.uk/pascal/VOC/",
)
VOC_COPY = "https://pjreddie.com/media/files/"
COCO = ("http://images.cocodataset.org/", "https://s3.amazonaws.com/images.cocodataset.org/")


@dataclass(frozen=True)
class Part:
    """One archive."""

    urls: Tuple[str, ...]
    """Of the same file, in the order to try."""
    md5: str
    """Hexadecimal."""
    bytes: int
    """Of the archive; about as much again is needed to unpack it."""
    marks: Tuple[Tuple[str, int], ...]
    """Folders or files that it makes, and how many entries a folder has at least: where they are
    all there, the part is.
    """

    @property
    def file(self) -> str:
        """The archive's name."""
        return self.urls[0].rpartition("/")[2]

    def is_there(self, folder: Path) -> bool:
        """Whether it was unpacked, by this program or another."""
        return done_mark(folder, self).exists() or all(
            entries(folder / name) >= least for name, least in self.marks
        )


def entries(path: Path) -> int:
    """Of a folder; 1 for a file; -1 for nothing."""
    if path.is_dir():
        return sum(1 for _ in path.iterdir())
    return 1 if path.exists() else -1


def voc(name: str, md5: str, size: int, *marks: Tuple[str, int]) -> Part:
    urls = tuple(base + name for base in VOC) + (VOC_COPY + name.rpartition("/")[2],)
    return Part(urls, md5, size, tuple((f"VOCdevkit/{mark}", least) for mark, least in marks))


def coco(name: str, md5: str, size: int, *marks: Tuple[str, int]) -> Part:
    return Part(tuple(base + name for base in COCO), md5, size, marks)


DATASETS: Dict[str, List[Part]] = {
    "voc0712": [
        voc(
            "voc2007/VOCtrainval_06-Nov-2007.tar",
            "c52e279531787c972589f7e41ab4ae64",
            460032000,
            ("VOC2007/ImageSets/Main/trainval.txt", 1),
            ("VOC2007/JPEGImages", 5011),
            ("VOC2007/Annotations", 5011),
        ),
        voc(
            "voc2007/VOCtest_06-Nov-2007.tar",
            "b6e924de25625d8de591ea690078ad9f",
            451020800,
            ("VOC2007/ImageSets/Main/test.txt", 1),
            ("VOC2007/JPEGImages", 9963),
            ("VOC2007/Annotations", 9963),
        ),
        voc(
            "voc2012/VOCtrainval_11-May-2012.tar",
            "6cd6e144f989b92b3379bac3b3de84fd",
            1999639040,
            ("VOC2012/ImageSets/Main/trainval.txt", 1),
            ("VOC2012/JPEGImages", 17125),
            ("VOC2012/Annotations", 17125),
        ),
    ],
    "coco2017": [
        coco(
            "annotations/annotations_trainval2017.zip",
            "f4bbac642086de4f52a3fdda2de5fa2c",
            252907541,
            ("annotations/instances_train2017.json", 1),
            ("annotations/instances_val2017.json", 1),
        ),
        coco(
            "zips/val2017.zip",
            "442b8da7639aecaf257c1dceb8ba8c80",
            815585330,
            ("val2017", 5000),
        ),
        coco(
            "zips/train2017.zip",
            "cced6f7f71b7629ddf16f17bbcfab6b2",
            19336861798,
            ("train2017", 118287),
        ),
    ],
}


def how_to_get(name: str, folder: Path) -> str:
    """The command for a dataset, and its archives with size and checksum, in two lines."""
    parts = DATASETS[name]
    archives = [f"{part.file} {in_words(part.bytes)} md5 {part.md5[:8]}…" for part in parts]
    total = in_words(sum(part.bytes for part in parts))
    return (
        f"get it ({total}): python -m data.download {name} {folder}\n"
        f"  archives: {', '.join(archives)}"
    )


def in_words(size: int) -> str:
    """`460 MB`"""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"


def done_mark(folder: Path, part: Part) -> Path:
    """The file that says that a part was unpacked in full."""
    return folder / f".{part.file}.unpacked"


def download(parts: Sequence[Part], folder: Path, *, keep: bool = False) -> None:
    """Fetch and unpack what is not there yet.

    Args:
        parts: of a dataset.
        folder: made if it does not exist.
        keep: leave the archives.

    Raises:
        RuntimeError: no server gave a part, or the disk has too little room.
        ValueError: an archive that is none, or would write outside `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [part for part in parts if not part.is_there(folder)]
    for part in parts:
        if part not in wanted:
            say(f"{part.file}: already there")
    need = sum(2 * part.bytes for part in wanted)
    if need > free_bytes(folder):
        raise RuntimeError(
            f"{folder} has {free_bytes(folder) / 1e9:.1f} GB left;"
            f" {need / 1e9:.1f} GB are needed to download and unpack"
        )
    for part in wanted:
        archive = folder / part.file
        fetch(part.urls, archive, part.md5, Progress(part.file))
        count = extract(archive, folder)
        done_mark(folder, part).touch()
        if not keep:
            archive.unlink()
        say(f"{part.file}: {count} files unpacked")


class Progress:
    """A line for every tenth of a file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told = -1

    def __call__(self, so_far: int, total: int) -> None:
        """See `data.fetching.Report`."""
        tenth = 10 * so_far // total if total else so_far // 10**8
        if tenth > self.told:
            self.told = tenth
            share = f" of {total / 1e6:.0f}" if total else ""
            say(f"{self.name}: {so_far / 1e6:.0f}{share} MB")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Returns the exit code: 0, 1 where something failed, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m data.download",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--keep", action="store_true", help="leave the archives in DIR")
    asked = parser.parse_args(arguments)
    try:
        download(DATASETS[asked.dataset], asked.folder, keep=asked.keep)
    except (RuntimeError, ValueError, OSError) as error:
        say(f"error: {error}\nthe same command goes on from here")
        return 1
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130
    say(f"{asked.dataset} is in {asked.folder}: data.root={asked.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
