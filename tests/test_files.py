"""Files appear whole or not at all, and nothing but a plain file is replaced."""

import os
import re
import resource
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gossamer.errors import UserError
from gossamer.files import (
    check_folder,
    is_stream,
    make_folder,
    read_text,
    refuse_overwrite,
    write_text,
    writing,
)

SOURCES = Path(__file__).parents[1] / "src"


@contextmanager
def disk_of(size):
    """Files of more than ``size`` bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def half(path, error):
    with writing(path) as file:
        file.write(b"half")
        raise error


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with writing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_new_bytes_are_on_the_disk_before_the_old_file_goes(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    synced = []

    def fsync(descriptor):
        synced.append((os.fstat(descriptor).st_size, path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "newer")
    assert synced == [(5, "old")]
    assert path.read_text() == "newer"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_block_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error):
        half(path, error)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (
        ("file/a.txt", "Not a directory; choose a place that can be written to"),
        ("none/a.txt", "No such file or directory; choose"),
        ("folder", "Is a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
        ("", "not the name of a file"),
    ):
        with pytest.raises(UserError, match=f"cannot write .*{why}"):
            write_text(tmp_path / name if name else "", "x")
    before = sorted(tmp_path.iterdir())
    with disk_of(4), pytest.raises(UserError, match="File too large; make room"):
        write_text(tmp_path / "file", "longer than that")
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(tmp_path.iterdir()) == before


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "blobs").mkdir()
    for name in ("there", "dangling"):
        (tmp_path / name).symlink_to(f"blobs/{name}")
    (tmp_path / "blobs/there").write_text("old")
    (tmp_path / "twice").symlink_to("there")
    for name in ("there", "dangling", "twice"):
        write_text(tmp_path / name, name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == name
    assert (tmp_path / "blobs/there").read_text() == "twice"
    assert len(list(tmp_path.rglob("*"))) == 6


def test_a_pipe_gets_the_bytes_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_text(pipe, "whole")
    reader.join(10)
    assert read == [b"whole"]
    assert pipe.is_fifo()
    assert is_stream(pipe)
    # Nothing is sent of what was not finished: this would wait for a reader.
    with pytest.raises(KeyboardInterrupt):
        half(pipe, KeyboardInterrupt)


def test_a_device_stays_a_device(tmp_path):
    """Nodes of the null and the full device, made for the test."""
    null, full = tmp_path / "null", tmp_path / "full"
    with suppress(PermissionError):
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(full, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    if not full.exists():
        pytest.skip("device nodes cannot be made here")
    (tmp_path / "link").symlink_to(null)
    with suppress(UserError):  # a mount may forbid devices
        write_text(null, "gone")
        write_text(tmp_path / "link", "gone")
        with pytest.raises(UserError, match="No space left on device; make room"):
            write_text(full, "x")
    assert null.is_char_device()
    assert full.is_char_device()
    assert len(list(tmp_path.iterdir())) == 3


def test_standard_output_is_written_into_not_replaced(tmp_path):
    program = (
        "from gossamer.files import write_text\n"
        "print('first', flush=True); write_text('/dev/stdout', 'second\\n'); print('third')"
    )
    with (tmp_path / "out").open("wb") as out:
        inode = os.fstat(out.fileno()).st_ino
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True, timeout=60)
    assert (tmp_path / "out").read_text() == "first\nsecond\nthird\n"
    assert (tmp_path / "out").stat().st_ino == inode


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_modes_are_those_of_the_umask_and_replaced_files_keep_theirs(tmp_path, mask):
    with umask(mask):
        write_text(tmp_path / "new", "x")
        (tmp_path / "old").write_text("x")
        (tmp_path / "old").chmod(0o640)
        write_text(tmp_path / "old", "y")
    assert mode(tmp_path / "new") == 0o666 & ~mask
    assert mode(tmp_path / "old") == 0o640


def test_temporary_names_are_random_and_never_followed(tmp_path, monkeypatch):
    """A link that waits under the temporary name is neither followed nor used."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    tokens = iter(["taken", "free"])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(tokens))
    (tmp_path / ".a.txt.taken.tmp").symlink_to(victim)
    write_text(tmp_path / "a.txt", "x")
    assert victim.read_text() == "precious"
    assert (tmp_path / "a.txt").read_text() == "x"
    assert (tmp_path / ".a.txt.taken.tmp").is_symlink()


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    path = tmp_path / "plan.json"
    texts = [str(number) * 100_000 for number in range(8)]
    failed = []

    def write(text):
        try:
            for _ in range(5):
                write_text(path, text)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert path.read_text() in texts
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_what_a_killed_save_left_is_deleted_by_a_later_one(tmp_path):
    program = (
        "import os, sys; from gossamer.files import writing\n"
        "with writing(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os._exit(9)"
    )
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", program, path], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    write_text(path, "at once")
    assert left.exists()  # it might be a slow process's
    old = time.time() - 3600
    os.utime(left, (old, old))
    (tmp_path / ".b.txt.0.tmp").write_text("another file's")
    os.utime(tmp_path / ".b.txt.0.tmp", (old, old))
    with writing(path) as file:
        (busy,) = (p for p in tmp_path.glob(".a.txt.*") if p != left)
        os.utime(busy, (old, old))
        write_text(path, "between")  # does not take the locked file away
        file.write(b"last")
    assert path.read_text() == "last"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.txt.0.tmp", "a.txt"]


def test_an_output_that_is_an_input_is_refused(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_text("x")
    (tmp_path / "link").symlink_to(model)
    os.link(model, tmp_path / "hard")
    for name in ("model.onnx", "link", "hard", "../" + tmp_path.name + "/model.onnx"):
        with pytest.raises(UserError, match=r"is read as .*model\.onnx; name another file"):
            refuse_overwrite(tmp_path / name, [None, tmp_path / "none", model])
    refuse_overwrite(tmp_path / "new", [model])


def test_nothing_is_written_past_this_module():
    """``open`` for writing, pathlib's and the libraries' own writers stand in files.py alone."""
    writer = re.compile(
        r"\.write_(text|bytes)\(|\bsave_file\b|\bonnx\.save|torch\.save\(|\.tofile\(|shutil\.copy"
        r"|open\([^()]*[\"'][rwax]?b?[wax+]b?\+?[\"']"
    )
    assert writer.search('path.open("wb")')
    writers = [
        f"{path}: {line.strip()}"
        for path in SOURCES.rglob("*.py")
        # All but the first write in a temporary folder.
        if path.name not in ("files.py", "dense.py", "forecast.py", "measure.py", "ray_node.py")
        for line in path.read_text().splitlines()
        if writer.search(line) and not line.lstrip().startswith('"')  # a message's text
    ]
    assert not writers


@pytest.mark.parametrize("refuse", [check_folder, make_folder])
def test_a_folder_below_a_file_is_refused(refuse, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(UserError, match=r"cannot write the folder .*file is no folder; name"):
            refuse(path)


def test_a_folder_is_checked_before_it_is_made(tmp_path):
    path = tmp_path / "a" / "b"
    assert check_folder(path) == path
    assert not path.parent.exists()
    assert make_folder(str(path)) == make_folder(path) == path
    assert path.is_dir()


def test_a_file_that_is_no_text_is_named_with_its_line(tmp_path):
    file = tmp_path / "a.toml"
    file.write_bytes("\ufeffname = 1\n".encode())
    assert read_text(file) == "name = 1\n"
    file.write_bytes(b"a\nb\n\xff\n")
    with pytest.raises(UserError, match=r"a\.toml: line 3 is not UTF-8; save the file as UTF-8"):
        read_text(file)
    with pytest.raises(UserError, match=r"b\.toml does not exist; check the name"):
        read_text(tmp_path / "b.toml")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
