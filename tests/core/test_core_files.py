"""What is written is whole or not there, wherever it goes."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import _target, atomic_write, check_writable, folder_beside, remove_leftovers

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


def put(path, text="new"):
    with atomic_write(path) as temporary:
        temporary.write_text(text)
        return temporary.name


def test_a_file_is_replaced_when_the_block_ends_well_and_kept_when_not(tmp_path):
    path = tmp_path / "made" / "figures.json"
    put(path, "old")
    with pytest.raises(TypeError), atomic_write(path) as temporary:
        temporary.write_text("half") + None
    assert path.read_text() == "old"
    put(path)
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["figures.json"]


@pytest.mark.parametrize("place", [atomic_write, folder_beside])
def test_folders_that_were_made_for_nothing_go_and_others_stay(place, tmp_path):
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "there" / "a" / "b" / "m.bin", tmp_path / "there" / "m.bin"):
        with pytest.raises(ValueError, match="no"), place(path):
            raise ValueError("no")
    assert [each.name for each in tmp_path.rglob("*")] == ["there"]

    def fail_beside_another():
        with place(tmp_path / "a" / "m.bin"):
            (tmp_path / "a" / "other").write_bytes(b"")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail_beside_another()
    assert (tmp_path / "a" / "other").exists()


def test_a_pipe_is_written_through_and_stays_a_pipe(tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
    reader.start()
    put(pipe)
    reader.join(30)
    assert received == ["new"]
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_pipe_whose_reader_leaves_is_said(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def leave_after_a_byte():
        with pipe.open("rb", buffering=0) as reader:
            reader.read(1)

    threading.Thread(target=leave_after_a_byte, daemon=True).start()
    with pytest.raises(KerbsegError, match=r"cannot write .*pipe: Broken pipe"):
        put(pipe, "x" * 10_000_000)  # more than a pipe holds
    assert pipe.is_fifo()


def test_a_device_is_written_through_and_stays_a_device(tmp_path):
    master, slave = os.openpty()
    device = Path(os.ttyname(slave))
    put(device)
    assert os.read(master, 100) == b"new"
    assert stat.S_ISCHR(device.stat().st_mode)
    os.close(master)
    os.close(slave)


# never by the name /dev/stdout: code that is wrong, run by root, would replace the machine's own
@LINUX
@pytest.mark.parametrize("name", ["/dev/fd/1", "/proc/self/fd/1", "link"])
def test_standard_output_keeps_what_was_written_to_it_before(tmp_path, name):
    log = tmp_path / "log"
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    code = (
        "import sys\nfrom kerbseg.core.files import atomic_write\nprint('printed')\n"
        "with atomic_write(sys.argv[1]) as path: path.write_text('written\\n')\nprint('after')"
    )
    with log.open("w") as file:
        file.write("before\n")
        file.flush()
        subprocess.run([sys.executable, "-c", code, name], stdout=file, cwd=tmp_path, check=True)
    assert log.read_text() == "before\nprinted\nwritten\nafter\n"
    assert (tmp_path / "link").is_symlink()


def test_the_standard_streams_are_known_by_name():
    assert _target(Path("/dev/stdout")) == (Path("/dev/stdout"), 1)
    assert _target(Path("/dev/stderr")) == (Path("/dev/stderr"), 2)


def test_symbolic_links_are_followed_to_the_file(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "figures.json").write_text("old")
    (tmp_path / "last.json").symlink_to("middle.json")
    (tmp_path / "middle.json").symlink_to(Path("disk", "figures.json"))
    put(tmp_path / "last.json")
    assert (tmp_path / "disk" / "figures.json").read_text() == "new"
    assert (tmp_path / "last.json").is_symlink()
    assert (tmp_path / "middle.json").is_symlink()
    (tmp_path / "later.json").symlink_to(Path("disk", "later.json"))  # leads to nothing yet
    put(tmp_path / "later.json")
    assert (tmp_path / "disk" / "later.json").read_text() == "new"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (".", "it is a folder"),
        ("file/figures.json", "Not a directory|File exists"),
        ("loop", "symbolic links"),
        ("x" * 300, "shorter name"),
        ("a\0b", "zero character"),
    ],
)
def test_what_cannot_be_written_is_said_before_any_work(tmp_path, name, complaint):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(KerbsegError, match=complaint), atomic_write(tmp_path / name):
        pytest.fail("began to work")
    with pytest.raises(KerbsegError, match=complaint.replace("File exists", "is no folder")):
        check_writable(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_name_that_only_the_temporary_one_made_too_long(tmp_path):
    for path in (tmp_path / f"{'s' * 240}.json", tmp_path / f"s.{'j' * 240}"):
        put(path)
        assert path.read_text() == "new"


def test_temporary_names_cannot_be_foreseen_and_are_never_another_users_file(tmp_path):
    names = {put(tmp_path / "figures.json") for _ in range(3)}
    assert len(names) == 3
    assert all(name.endswith(".tmp.json") for name in names)
    with atomic_write(tmp_path / "figures.json") as temporary:
        assert temporary.is_file()  # made by us, where another could have put a link before


def test_a_file_system_without_modes_and_without_renames_takes_files_all_the_same(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    for name in ("chmod", "replace"):
        monkeypatch.setattr(Path, name, refused)
    monkeypatch.setattr(os, "fsync", refused)
    with atomic_write(tmp_path / "figures.json") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))  # a writer that makes its own file
        temporary.write_text("new")
    assert (tmp_path / "figures.json").read_text() == "new"
    assert os.listdir(tmp_path) == ["figures.json"]


def test_a_file_has_the_mode_of_any_new_file_whatever_its_writer_made(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "figures.json") as temporary:
        temporary.chmod(0o600)
    assert (tmp_path / "figures.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(tmp_path):
    code = "import os, sys\nfrom kerbseg.core.files import atomic_write\nwith atomic_write(sys.argv[1]):"
    subprocess.run([sys.executable, "-c", f"{code} os._exit(9)", str(tmp_path / "killed.mp4")], check=False)
    assert len(os.listdir(tmp_path)) == 1
    (tmp_path / ".kerbseg-notes.tmp.txt").write_text("mine")
    running = subprocess.Popen(
        [sys.executable, "-c", f"{code} print('begun', flush=True), sys.stdin.read()", str(tmp_path / "running.mp4")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert running.stdout.readline() == b"begun\n"
    with atomic_write(tmp_path / "own.mp4"):
        remove_leftovers(tmp_path)
        remaining = os.listdir(tmp_path)
    running.communicate(b"")
    assert len(remaining) == 3  # the notes, and what is being written by two processes
    assert sorted(os.listdir(tmp_path)) == [".kerbseg-notes.tmp.txt", "own.mp4", "running.mp4"]


def test_what_another_machine_is_writing_stays_for_a_day(tmp_path):
    path = tmp_path / ".kerbseg-00000000-4711-0123456789abcdef.tmp.mp4"
    path.write_text("half")
    remove_leftovers(tmp_path)
    assert path.exists()
    os.utime(path, (0, 0))
    remove_leftovers(tmp_path)
    assert not path.exists()


def test_links_in_a_circle_are_one_clear_line(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    for path in (tmp_path / "circle", tmp_path / "circle" / "figures.json"):
        for write in (put, check_writable):
            with pytest.raises(KerbsegError, match="Too many levels of symbolic links"):
                write(path)
