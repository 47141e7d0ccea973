"""Downloads from a server on this machine: resumed, checked, unpacked into the folder alone."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import pytest

from data import download as module
from data.download import DATASETS, Part, download, main
from data.extraction import extract
from data.fetching import fetch

CONTENT = bytes(range(256)) * 4000  # a megabyte


class Server:
    """Files by name, and what was asked for."""

    def __init__(self) -> None:
        self.files: Dict[str, bytes] = {}
        self.asked: List[Tuple[str, Optional[str]]] = []
        """Path and Range header."""
        self.ranges = True
        self.cut_after: List[int] = []
        """Bytes after which the next connections break off."""
        self.url = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """On 127.0.0.1, a free port."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's name
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            content = state.files.get(self.path.lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
            start = int(match[1]) if match and state.ranges else 0
            if start >= len(content) > 0 and start:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            self.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_address[1]}/"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def silent(so_far: int, total: int) -> None:
    """No progress is shown."""


def tar_of(files: Dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def test_a_file_is_resumed_where_the_last_run_stopped(server: Server, tmp_path: Path) -> None:
    server.files["a"] = CONTENT
    (tmp_path / "a.part").write_bytes(CONTENT[:1234])
    fetch([server.url + "a"], tmp_path / "a", md5(CONTENT), silent)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [("/a", "bytes=1234-")]
    assert os.listdir(tmp_path) == ["a"]


def test_broken_connections_are_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.files["a"] = CONTENT
    server.cut_after = [100_000, 50_000]
    fetch([server.url + "a"], tmp_path / "a", md5(CONTENT), silent)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.files["a"] = CONTENT
    server.ranges = False
    (tmp_path / "a.part").write_bytes(b"x" * 1234)
    fetch([server.url + "a"], tmp_path / "a", md5(CONTENT), silent)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_was_complete_is_only_checked(server: Server, tmp_path: Path) -> None:
    server.files["a"] = CONTENT
    (tmp_path / "a.part").write_bytes(CONTENT)
    fetch([server.url + "a"], tmp_path / "a", md5(CONTENT), silent)
    assert server.asked == [("/a", f"bytes={len(CONTENT)}-")]
    fetch([server.url + "a"], tmp_path / "a", md5(CONTENT), silent)
    assert len(server.asked) == 1  # there already: nobody is asked


def test_the_next_server_is_tried(server: Server, tmp_path: Path) -> None:
    server.files["wrong"], server.files["right"] = b"damaged", CONTENT
    urls = [server.url + name for name in ("missing", "wrong", "right")]
    fetch(urls, tmp_path / "a", md5(CONTENT), silent)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_every_servers_reason_is_told(server: Server, tmp_path: Path) -> None:
    server.files["wrong"] = b"damaged"
    with pytest.raises(RuntimeError) as error:
        fetch([server.url + n for n in ("missing", "wrong")], tmp_path / "a", md5(CONTENT), silent)
    assert "/missing: 404" in str(error.value)
    assert f"/wrong: its MD5 is {md5(b'damaged')}, not {md5(CONTENT)}" in str(error.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "..\\out", "C:/out"])
def test_nothing_is_unpacked_outside(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar_of({name: b"x"}))
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="would land outside"):
        extract(archive, tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == []


def test_links_are_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(link)
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc")
    for name in ("a.tar", "a.zip"):
        with pytest.raises(ValueError, match="'link', which is no plain file"):
            extract(tmp_path / name, tmp_path / "in")


def test_a_link_that_is_there_leads_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "sub").symlink_to(tmp_path / "out")
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar_of({"sub/file": b"x"}))
    with pytest.raises(ValueError, match="would land outside"):
        extract(archive, tmp_path / "in")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("<html>not found</html>" * 99)
    with pytest.raises(ValueError, match="neither a tar nor a zip"):
        extract(tmp_path / "a.tar", tmp_path)


@pytest.fixture
def parts(server: Server) -> List[Part]:
    """A tar and a zip of two files each."""
    server.files["one.tar"] = tar_of({"kit/a.txt": b"a", "kit/b.txt": b"bb"})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("pictures/", "")
        archive.writestr("pictures/1.jpg", "one")
        archive.writestr("pictures/2.jpg", "two")
    server.files["two.zip"] = stream.getvalue()
    marks = {"one.tar": (("kit/a.txt", 1), ("kit", 2)), "two.zip": (("pictures", 2),)}
    return [Part((server.url + name,), md5(server.files[name]), 1, marks[name]) for name in marks]


def test_a_dataset_is_made_and_made_once(server: Server, parts: List[Part], tmp_path: Path) -> None:
    download(parts, tmp_path / "new")
    made = sorted(path.relative_to(tmp_path / "new").as_posix() for path in tmp_path.rglob("*.*"))
    assert made == [
        ".one.tar.unpacked", ".two.zip.unpacked",
        "kit/a.txt", "kit/b.txt", "pictures/1.jpg", "pictures/2.jpg",
    ]  # fmt: skip
    assert (tmp_path / "new" / "kit" / "b.txt").read_bytes() == b"bb"
    asked = len(server.asked)
    download(parts, tmp_path / "new")
    assert len(server.asked) == asked


def test_parts_that_somebody_else_unpacked_are_used(
    server: Server, parts: List[Part], tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "pictures" / name).write_text(name)
    download(parts, tmp_path, keep=True)
    assert [path for path, _ in server.asked] == ["/one.tar"]
    assert (tmp_path / "one.tar").exists()
    (tmp_path / "pictures" / "2.jpg").unlink()
    download(parts, tmp_path)
    assert [path for path, _ in server.asked] == ["/one.tar", "/two.zip"]


def test_interrupted_unpacking_is_done_again(
    server: Server, parts: List[Part], tmp_path: Path
) -> None:
    (tmp_path / "one.tar").write_bytes(server.files["one.tar"])
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "a.txt").write_text("")  # as a killed process leaves it
    download(parts[:1], tmp_path)
    assert (tmp_path / "kit" / "a.txt").read_bytes() == b"a"
    assert server.asked == []


def test_too_small_a_disk_is_said_first(
    parts: List[Part], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda folder: 3)
    with pytest.raises(RuntimeError, match=r"0.0 GB are needed to download and unpack"):
        download(parts, tmp_path)
    assert server.asked == []


def test_the_command_says_what_happened(
    parts: List[Part],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(DATASETS, "voc0712", parts)
    assert main(["voc0712", str(tmp_path)]) == 0
    assert f"voc0712 is in {tmp_path}: data.root={tmp_path}" in capsys.readouterr().err
    del server.files["one.tar"]
    assert main(["voc0712", str(tmp_path / "other")]) == 1
    assert "one.tar could not be downloaded" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["imagenet", "x"])
    assert stop.value.code == 2


def test_every_archive_has_a_checksum_and_two_servers() -> None:
    for part in (part for parts in DATASETS.values() for part in parts):
        assert re.fullmatch(r"[0-9a-f]{32}", part.md5)
        assert len({url.split("/")[2] for url in part.urls}) >= 2
        assert len({url.rpartition("/")[2] for url in part.urls}) == 1
