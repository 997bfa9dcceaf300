import hashlib
import io
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.test_files import mode, umask

from gossamer.data import mnist, speech_commands, spoken_digits
from gossamer.data.download import cache_folder, data_root, fetch, find, unpack
from gossamer.errors import UserError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def _tar(path, names):
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    return path


def test_root_is_argument_then_variable_then_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GOSSAMER_DATA", str(tmp_path / "variable"))
    assert data_root(tmp_path) == tmp_path
    assert data_root(None) == tmp_path / "variable"
    monkeypatch.delenv("GOSSAMER_DATA")
    assert data_root(None) == cache_folder() == tmp_path / "cache" / "gossamer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "gossamer"


def test_find_takes_the_first_folder_with_a_landmark(tmp_path):
    assert find(tmp_path, ["a", "b"], ["mark"]) is None
    (tmp_path / "a").mkdir()
    (tmp_path / "mark").touch()
    assert find(tmp_path, ["a", "b"], ["mark"]) == tmp_path
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mark").touch()
    assert find(tmp_path, ["a", "b"], ["mark"]) == tmp_path / "b"


def test_download_verifies_the_checksum(served, tmp_path):
    folder, url = served
    (folder / "x.bin").write_bytes(b"hello")
    good = "sha256:" + hashlib.sha256(b"hello").hexdigest()
    with umask(0o027):
        path = fetch(url + "x.bin", good, tmp_path / "new")
    assert path.read_bytes() == b"hello"
    assert mode(path) == 0o640
    with pytest.raises(UserError, match=r"cannot download .*x\.bin.*hash"):
        fetch(url + "x.bin", "md5:" + "0" * 32, tmp_path / "other")
    assert not (tmp_path / "other" / "x.bin").exists()
    with pytest.raises(UserError, match=r"cannot download .*404"):
        fetch(url + "gone.bin", good, tmp_path / "other")


@pytest.mark.parametrize("task", [mnist, spoken_digits, speech_commands])
def test_without_network_one_clear_error(tmp_path, monkeypatch, task):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(UserError, match=r"cannot download http.*GOSSAMER_DATA") as caught:
        task(tmp_path, download=True)
    assert "\n" not in str(caught.value)


def test_download_into_an_unwritable_folder(served, tmp_path):
    _, url = served
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot download"):
        fetch(url + "x.bin", "md5:" + "0" * 32, tmp_path / "file" / "folder")


def test_unpack(tmp_path):
    unpack(_tar(tmp_path / "a.tar.gz", ["./yes/1.wav", "./list.txt"]), tmp_path / "a")
    assert (tmp_path / "a" / "yes" / "1.wav").read_bytes() == b"abc"
    unpack(_tar(tmp_path / "b.tar.gz", ["top-1.0/yes/1.wav", "top-1.0/list.txt"]), tmp_path / "b")
    assert (tmp_path / "b" / "list.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_unpack_is_whole_or_nothing(tmp_path):
    archive = _tar(tmp_path / "a.tar.gz", [f"{number}" for number in range(500)])
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"cannot unpack .*a\.tar\.gz"):
        unpack(archive, tmp_path / "a")
    with pytest.raises(UserError, match="cannot unpack"):
        unpack(_tar(tmp_path / "b.tar.gz", ["../outside", "inside"]), tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "b.tar.gz"]
