"""Downloads against a server on this machine: resumed, checked, explained, and never repeated."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import shutil
import socket
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from detectors.weights import download, known
from detectors.weights.download import fetch, fetch_file

CONTENT = bytes(range(256)) * 4096  # 1 MiB, several chunks
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT under every path; its fields say how badly."""

    def __init__(self) -> None:
        self.requests: List[Dict[str, str]] = []
        self.send: Optional[int] = None
        """Bytes after which the connection breaks."""
        self.etag: Optional[str] = '"one"'
        self.status = 200
        self.content = CONTENT
        self.url = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(dict(self.headers))
            if state.status != 200:
                self.send_error(state.status)
                return
            start = 0
            wanted = self.headers.get("Range", "")
            if wanted and self.headers.get("If-Range") == state.etag:
                start = int(wanted[len("bytes=") : -1])
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if state.etag:
                self.send_header("ETag", state.etag)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client may have refused
                self.wfile.write(body[: state.send])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        state.url = f"http://127.0.0.1:{httpd.server_port}/tiny-{SHA[:8]}.pth"
        yield state
        httpd.shutdown()
        thread.join()


def _names(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_arrives_under_its_name_with_its_hash_beside_it(
    server: Server, tmp_path: Path
) -> None:
    seen: List[Tuple[int, Optional[int]]] = []
    fetched = fetch_file(server.url, tmp_path, SHA[:8], lambda n, total: seen.append((n, total)))
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.sha256 == SHA
    assert fetched.downloaded
    assert SHA[:8] in fetched.check
    assert _names(tmp_path) == [fetched.path.name, fetched.path.name + ".sha256"]
    assert [n for n, _ in seen] == sorted(n for n, _ in seen)
    assert len(seen) >= 4
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.send = 300_000
    with pytest.raises(RuntimeError, match="300000 of 1048576 bytes arrived; run it again"):
        fetch_file(server.url, tmp_path, SHA[:8])
    final = tmp_path / server.url.rsplit("/", 1)[-1]
    assert not final.exists()
    server.send = None
    fetched = fetch_file(server.url, tmp_path, SHA[:8])
    assert server.requests[-1]["Range"] == "bytes=300000-"
    assert fetched.path.read_bytes() == CONTENT
    assert _names(tmp_path) == [final.name, final.name + ".sha256"]


def test_a_file_that_changed_on_the_server_is_not_glued_to_the_old_half(
    server: Server, tmp_path: Path
) -> None:
    server.send, server.content = 1000, b"old" * 1000
    with pytest.raises(RuntimeError, match="1000 of 3000"):
        fetch_file(server.url, tmp_path, SHA[:8])
    server.send, server.content, server.etag = None, CONTENT, '"two"'
    assert fetch_file(server.url, tmp_path, SHA[:8]).path.read_bytes() == CONTENT


def test_a_server_without_tags_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.send, server.etag = 1000, None
    with pytest.raises(RuntimeError, match="run it again"):
        fetch_file(server.url, tmp_path, SHA[:8])
    server.send = None
    assert fetch_file(server.url, tmp_path, SHA[:8]).path.read_bytes() == CONTENT
    assert "Range" not in server.requests[-1]


def test_a_part_longer_than_the_file_is_started_over(server: Server, tmp_path: Path) -> None:
    part = tmp_path / f"tiny-{SHA[:8]}.pth.part"
    part.write_bytes(bytes(len(CONTENT)))
    part.with_name(part.name + ".etag").write_text('"one"')
    assert fetch_file(server.url, tmp_path, SHA[:8]).path.read_bytes() == CONTENT


def test_a_wrong_hash_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    server.content = b"something else"
    with pytest.raises(RuntimeError, match=f"its name promises {SHA[:8]}"):
        fetch_file(server.url, tmp_path, SHA[:8])
    assert _names(tmp_path) == []


def test_without_a_published_hash_the_first_one_is_recorded_and_compared(
    server: Server, tmp_path: Path
) -> None:
    first = fetch_file(server.url, tmp_path, None)
    assert "recorded now" in first.check
    assert (tmp_path / f"{first.path.name}.sha256").read_text() == f"{SHA}  {first.path.name}\n"
    assert "as recorded at first download" in fetch_file(server.url, tmp_path, None).check
    first.path.write_bytes(b"changed")
    with pytest.raises(RuntimeError, match=f"expected {SHA}…: it changed or is damaged"):
        fetch_file(server.url, tmp_path, None)


def test_a_cached_file_touches_no_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_file(server.url, tmp_path, SHA[:8])

    def no_socket(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setattr(socket, "create_connection", no_socket)
    assert not fetch_file(server.url, tmp_path, SHA[:8]).downloaded


def test_a_file_put_there_by_hand_is_checked_by_its_name(server: Server, tmp_path: Path) -> None:
    path = tmp_path / f"tiny-{SHA[:8]}.pth"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(RuntimeError, match=f"expected {SHA[:8]}…: it changed or is damaged"):
        fetch_file(server.url, tmp_path, SHA[:8])
    path.write_bytes(CONTENT)
    assert fetch_file(server.url, tmp_path, SHA[:8]).sha256 == SHA
    assert server.requests == []


def test_offline_says_where_from_which_hash_and_where_to(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/d0-f153e0cf.pth"
        with pytest.raises(RuntimeError, match="cannot download weights: no connection") as caught:
            fetch_file(url, tmp_path, "f153e0cf")
    message = str(caught.value)
    assert url in message
    assert "f153e0cf…" in message
    assert str(tmp_path / "d0-f153e0cf.pth") in message
    assert len(message.splitlines()) <= 6
    assert _names(tmp_path) == []


def test_a_missing_file_on_the_server_is_told(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(RuntimeError, match="the server says HTTP Error 404"):
        fetch_file(server.url, tmp_path, SHA[:8])


def test_a_full_disk_is_told_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(RuntimeError, match="the download needs 1 MB; set DETECTORS_CACHE"):
        fetch_file(server.url, tmp_path, SHA[:8])


def test_fetch_uses_the_cache_folder_of_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTORS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(known.KNOWN, "tf_efficientdet_d0", known.KnownCheckpoint("d0", server.url))
    for name in ("d0", "efficientdet-d0", "EfficientDet_D0", "tf_efficientdet_d0"):
        assert fetch(name).read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert (tmp_path / "cache").is_dir()
    monkeypatch.delenv("DETECTORS_CACHE")
    assert download.cache_folder() == Path.home() / ".cache" / "detectors"


def test_a_hash_that_nobody_published_is_said(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    row = known.KnownCheckpoint("d0", server.url.replace(f"-{SHA[:8]}.pth", ".tar.gz"))
    monkeypatch.setitem(known.KNOWN, "automl_efficientdet_d0", row)
    fetch("automl-efficientdet-d0", cache=tmp_path)
    assert f"sha256 {SHA}: no hash is published; sha256 recorded now" in caplog.text
    caplog.clear()
    fetch("automl-efficientdet-d0", cache=tmp_path)
    assert caplog.text == ""  # once


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="nearest: automl_efficientdet_d7"):
        fetch("automl-efficientdet-d9")


def test_every_file_but_automls_publishes_its_hash() -> None:
    origins = {"automl": "automl", "tf_efficientdet": "effdet", "tf_efficientnet": "timm"}
    for name, row in known.KNOWN.items():
        start = re.match("automl|tf_[a-z]+|", name)
        assert start is not None
        assert row.origin == origins.get(start[0], "torchvision")
        assert (row.hash_prefix is None) == (row.origin == "automl")
    d0 = known.KNOWN["tf_efficientdet_d0"]
    assert d0.file_name == "tf_efficientdet_d0_34-f153e0cf.pth"
    assert d0.hash_prefix == "f153e0cf"


def test_classifiers_are_the_files_that_torchvision_names() -> None:
    resnet = pytest.importorskip("torchvision.models.resnet")
    for depth in (18, 34, 50, 101):
        for number, name in ((1, f"resnet{depth}"), (2, f"resnet{depth}_v2")):
            weights = getattr(resnet, f"ResNet{depth}_Weights").__members__
            url = getattr(weights.get(f"IMAGENET1K_V{number}"), "url", None)
            row = known.KNOWN.get(name)
            assert (None if row is None else row.url) == url


def test_backbones_are_the_files_that_timm_names() -> None:
    timm = pytest.importorskip("timm")
    for name, row in known.KNOWN.items():
        if row.origin != "timm":
            continue
        base = name.partition("_aa")[0]
        found = timm.models.get_pretrained_cfg(base if base == name else f"{base}.aa_in1k")
        assert found.url.rpartition("/")[2] == row.file_name
        assert row.model == base[3:].replace("_", "-")
        assert tuple(255 * value for value in found.mean) == pytest.approx(row.preprocess.mean)
    assert sum(row.origin == "timm" for row in known.KNOWN.values()) == 13


def test_a_file_is_recognised_by_its_hash_alone() -> None:
    row = known.known_by_hash("d0cdbd0a" + 56 * "0")
    assert row is known.KNOWN["tf_efficientdet_d0_ap"]
    assert known.known_by_hash(64 * "0") is None
