"""Atomic writing: complete or untouched."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import gprann.runtime.atomic_write
from gprann.runtime.atomic_write import WriteError, atomic_write

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and signals")


def _listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("mode", "content"), [("w", "Å\nb"), ("wb", b"\x00\xff")])
def test_replaces_the_content(tmp_path, mode, content):
    file = tmp_path / "data"
    file.write_text("old")
    with atomic_write(file, mode) as stream:
        stream.write(content)
        assert file.read_text() == "old"
    assert file.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert _listing(tmp_path) == ["data"]


def test_an_exception_leaves_the_old_file(tmp_path):
    file = tmp_path / "data"
    file.write_text("old")

    def interrupted() -> None:
        with atomic_write(file) as stream:
            stream.write("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "old"
    assert _listing(tmp_path) == ["data"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "data"
    file.write_text("old")
    monkeypatch.setattr(gprann.runtime.atomic_write.os, "fsync", full)
    with (
        pytest.raises(WriteError, match=r"data: cannot be written: the disk is full") as caught,
        atomic_write(file) as f,
    ):
        f.write("new")
    assert caught.value.errno == errno.ENOSPC
    assert file.read_text() == "old"
    assert _listing(tmp_path) == ["data"]


@posix
def test_a_real_limit_of_the_file_size_leaves_the_old_file(tmp_path):
    resource = pytest.importorskip("resource")
    file = tmp_path / "data"
    file.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with (
            pytest.raises(WriteError, match="larger than the system allows"),
            atomic_write(file, "wb") as stream,
        ):
            stream.write(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_text() == "old"
    assert _listing(tmp_path) == ["data"]


@posix
def test_a_killed_process_leaves_the_old_file(tmp_path):
    file = tmp_path / "data"
    file.write_text("old")
    script = textwrap.dedent(
        """
        import os, signal, sys
        from gprann.runtime.atomic_write import atomic_write
        with atomic_write(sys.argv[1]) as stream:
            stream.write("new" * 100000)
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    package_root = Path(gprann.runtime.atomic_write.__file__).parents[2]
    paths = [str(package_root), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", script, str(file)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert file.read_text() == "old"
    left = [name for name in _listing(tmp_path) if name != "data"]
    assert all(name.startswith(".") for name in left)  # hidden, so that no folder reader takes it


def test_another_error_of_the_block_is_passed_on(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "data"):
        (tmp_path / "missing").read_text()
    assert _listing(tmp_path) == []


def test_missing_folder_and_no_file(tmp_path):
    with pytest.raises(WriteError, match="create the folder first"), atomic_write(tmp_path / "no" / "data"):
        pass
    with pytest.raises(WriteError, match="not an ordinary file"), atomic_write(tmp_path):
        pass


def test_wrong_mode(tmp_path):
    with pytest.raises(ValueError, match="mode is 'a'"):
        atomic_write(tmp_path / "data", "a")


@posix
def test_permissions_and_links_are_kept(tmp_path):
    file, link, new = tmp_path / "data", tmp_path / "link", tmp_path / "new"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    with atomic_write(link) as stream:
        stream.write("new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o640
    umask = os.umask(0o022)
    try:
        with atomic_write(new) as stream:
            stream.write("x")
    finally:
        os.umask(umask)
    assert new.stat().st_mode & 0o777 == 0o644


def test_the_content_is_on_the_disk_before_it_takes_the_place(tmp_path, monkeypatch):
    calls = []
    file = tmp_path / "data"
    monkeypatch.setattr(
        gprann.runtime.atomic_write.os, "fsync", lambda descriptor: calls.append(file.exists())
    )
    with atomic_write(file) as stream:
        stream.write("new")
    assert calls[0] is False  # the content first, the folder after the replacement
    assert calls[1:] == ([True] if os.name == "posix" else [])
    calls.clear()
    with atomic_write(file, sync=False) as stream:
        stream.write("newer")
    assert calls == []
