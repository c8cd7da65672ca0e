"""Files that are either complete or untouched."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload

from gprann.errors import GprannError

_DEVICE_ERRORS = {
    errno.ENOSPC: "the disk is full; free some space and write again",
    errno.EDQUOT: "the disk quota is used up; free some space and write again",
    errno.EFBIG: "the file is larger than the system allows; write it elsewhere",
    errno.EIO: "the disk reports an input/output error; write it elsewhere",
}

_LONGEST_NAME = 255  # bytes, of all common file systems
_LONGEST_PATH = 4000


class WriteError(GprannError, OSError):
    """A file that could not be written; what stood there before is unchanged."""


@overload
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["w"] = "w", *, sync: bool = True
) -> AbstractContextManager[TextIO]: ...
@overload
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["wb"], *, sync: bool = True
) -> AbstractContextManager[BinaryIO]: ...
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["w", "wb"] = "w", *, sync: bool = True
) -> AbstractContextManager[Any]:
    """Open a file whose new content appears all at once, when the block ends without an error.

    The content goes to a hidden file in the same folder, which is flushed to the disk and then takes the
    place of `path`. A full disk, an exception or a killed process leaves the old file as it was; only a
    killed process can leave the hidden file behind. Permissions of an existing file and symbolic links
    are kept.

    Parameters
    ----------
    path : str or path
        File to write. Its folder must exist.
    mode : {"w", "wb"}
        Text (UTF-8, line ends as written) or binary.
    sync : bool
        Wait until the content is on the disk. Without it a power cut may lose the new content; a killed
        process does not.

    Raises
    ------
    WriteError
        If the folder is missing or not writable, `path` is no ordinary file, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "numbers.txt"
    ...     with atomic_write(file) as stream:
    ...         _ = stream.write("1 2 3")
    ...     file.read_text()
    '1 2 3'
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode is {mode!r}, expected 'w' or 'wb'")
    return _atomic_write(Path(path), mode, sync)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder where there is none, and return its path.

    Raises
    ------
    WriteError
        If it cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     make_folder(f"{folder}/a/b").name
    'b'
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"{folder}: the folder cannot be made: {error.strerror}; choose another name"
        ) from error
    return folder


def write_picture(figure: Any, path: str | os.PathLike[str], dpi: float | None = None) -> None:
    """Write a figure of matplotlib; its file appears complete or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path
        The suffix decides about the format.
    dpi : float, optional

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    target = Path(path).expanduser()
    options = {} if dpi is None else {"dpi": dpi}
    with atomic_write(target, "wb") as stream:
        figure.savefig(stream, format=target.suffix.lstrip(".").lower() or "png", **options)


def append_whole(stream: io.RawIOBase, content: bytes | bytearray) -> None:
    """Append to an unbuffered file that stands at its end: everything, or nothing and an `OSError`."""
    size = stream.tell()
    try:
        with memoryview(content) as view:
            at = 0
            while at < len(view):
                at += stream.write(view[at:]) or 0
    except OSError:
        with contextlib.suppress(OSError):
            stream.truncate(size)
            stream.seek(size)
        raise


def write_error(path: Path, error: OSError) -> WriteError:
    """Return the error of a file that could not be written, with what to do about it."""
    reason = _DEVICE_ERRORS.get(error.errno or 0, "check the folder and its permissions")
    return _write_error(path, f"{error.strerror}; {reason}", error)


def check_length(path: Path) -> None:
    """Refuse a name that no file can have.

    Raises
    ------
    WriteError
    """
    if len(os.fsencode(path.name)) > _LONGEST_NAME or len(os.fsencode(path.absolute())) > _LONGEST_PATH:
        raise WriteError(f"{path.name[:40]}...: cannot be written: the name is too long; give a shorter one")


@contextlib.contextmanager
def _atomic_write(path: Path, mode: str, sync: bool) -> Iterator[IO[Any]]:
    check_length(path)
    target = path.resolve()
    stream, temporary = _open_beside(target, mode)
    try:
        with stream:
            yield stream
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, WriteError) or error.errno not in _DEVICE_ERRORS:
            raise
        raise _write_error(target, _DEVICE_ERRORS[error.errno], error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(target.parent)


def _open_beside(target: Path, mode: str) -> tuple[IO[Any], Path]:
    """Create a hidden file in the folder of `target`, with the permissions that `target` has or would get."""
    if target.exists() and not target.is_file():
        raise WriteError(f"{target}: is not an ordinary file; give the name of a file")
    start = target.name.encode("utf-8", "surrogateescape")[:200].decode(
        "utf-8", "ignore"
    )  # names have 255 bytes
    temporary = target.with_name(f".{start}.{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        # Not tempfile: its files are readable by their owner alone, whatever the umask says.
        descriptor = os.open(temporary, flags, 0o666)
    except OSError as error:
        remedy = (
            "create the folder first" if not target.parent.is_dir() else "check the permissions of the folder"
        )
        raise _write_error(
            target, f"{error.strerror}; {_DEVICE_ERRORS.get(error.errno or 0, remedy)}", error
        ) from error
    with contextlib.suppress(OSError):
        temporary.chmod(target.stat().st_mode & 0o7777)
    if mode == "wb":
        return os.fdopen(descriptor, "wb"), temporary
    # surrogateescape: file names that are not UTF-8 travel through provenance keys unharmed.
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline=""), temporary


def _write_error(target: Path, reason: str, cause: OSError) -> WriteError:
    error = WriteError(f"{target}: cannot be written: {reason}")
    error.errno = cause.errno
    return error


def _sync_folder(folder: Path) -> None:
    """Make the new directory entry durable; impossible, and not needed, on Windows."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not offer it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
