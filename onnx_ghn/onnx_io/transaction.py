"""Files that appear whole or not at all: written beside the target, synced, then renamed into place."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from onnx_ghn.arguments import path_given
from onnx_ghn.errors import ModelReadError, ModelWriteError
from onnx_ghn.onnx_io.external import FileSlice
from onnx_ghn.onnx_io.references import naming_model
from onnx_ghn.onnx_io.strays import claim, create_stray, remove_strays, stray_name

__all__ = ["NewFile", "Transaction", "check_target", "write_file"]

_CHUNK_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
# What copy_file_range answers where it cannot help (other file systems, old kernels).
_NO_RANGE_COPY = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV, errno.EBADF)


def write_file(
    path: str | os.PathLike[str], data: str | bytes | Iterable[bytes], *, force: bool = False, what: str = "a file"
) -> Path:
    """Write a file that appears whole or not at all.

    A new file gets the permissions that the umask leaves; one that replaces another gets those of the other. A
    symbolic link is replaced, not followed.

    Args:
        path: the file; its folder must exist.
        data: the content (text is written as UTF-8), or pieces of it in their order.
        force: replace an existing file.
        what: the kind of file with its article, for messages.

    Returns:
        the path.

    Raises:
        ModelWriteError: the file exists and `force` is not given, or it cannot be written; whatever was there stays.
    """
    target = os.fspath(path)
    check_target(target, force, what)
    name = os.path.basename(target)
    with Transaction(target) as transaction:
        file = transaction.create(name)
        content = data.encode() if isinstance(data, str) else data
        for piece in (content,) if isinstance(content, bytes) else content:
            file.write(piece)
        transaction.place(file, name, last=True)
    return Path(target)


def check_target(
    path: str | os.PathLike[str],
    force: bool,
    what: str = "a file",
    inputs: Iterable[object] = (),
) -> None:
    """Refuse a name that cannot or should not be written, before the work whose result goes there.

    Args:
        path: the file to write.
        force: whether an existing file may be replaced.
        what: the kind of file with its article, for messages.
        inputs: what the work reads: paths of files; anything else is passed over.

    Raises:
        ModelWriteError: the path is no name of a file, it exists and `force` is not given, it is one of the inputs
            or holds the weights of a model that lies there, or there is no such folder.
    """
    target = path_given("output", path)
    folder = os.path.dirname(target) or os.curdir
    if "\0" in target or not os.path.basename(target):
        raise ModelWriteError(f"{target!r}: is not the name of a file; name {what}")
    if os.path.isdir(target):
        raise ModelWriteError(f"{target}: is a directory; name {what} in it")
    if not os.path.isdir(folder):
        raise ModelWriteError(f"{target}: there is no folder {folder}; create it first")
    if not os.path.lexists(target):
        return
    if not force:
        raise ModelWriteError(f"{target}: exists already; replace it with `force` or name another file")
    if not os.path.isfile(target) and not os.path.islink(target):
        raise ModelWriteError(f"{target}: is a device, pipe or socket; name another file")
    given = [os.fspath(one) for one in inputs if isinstance(one, str | os.PathLike)]
    if any(_is_same(target, one) for one in given):
        raise ModelWriteError(f"{target}: is the file that is read, which stays as it is; name another file")
    try:
        model = naming_model(target, given)
    except OSError as error:
        raise _explained(target, error) from error
    if model is not None:
        raise ModelWriteError(f"{target}: holds weights of the model {model}; name another file")


def _is_same(target: str, given: str) -> bool:
    """Whether writing to a name changes a file that is read; a link is replaced, not what it points to."""
    try:
        written, read = os.lstat(target), os.stat(given)
        if stat.S_ISLNK(written.st_mode):
            return os.path.samestat(written, os.lstat(given))
        # Another hard link keeps its content.
        return os.path.samestat(written, read) and (
            read.st_nlink == 1 or os.path.realpath(target) == os.path.realpath(given)
        )
    except (OSError, ValueError):
        return False


class NewFile:
    """A file under construction."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self._range_copy = hasattr(os, "copy_file_range")

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`."""
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def seek(self, offset: int) -> None:
        """Go on at `offset`; a gap reads as zeros."""
        os.lseek(self.fd, offset, os.SEEK_SET)

    def copy(self, source: FileSlice) -> None:
        """Append a part of another file: inside the kernel if possible."""
        at, remaining = source.offset, source.length
        while remaining:
            count = 0
            if self._range_copy:
                try:
                    count = os.copy_file_range(source.file.fd, self.fd, min(remaining, 1 << 30), offset_src=at)
                except OSError as error:
                    if error.errno not in _NO_RANGE_COPY:
                        raise
                self._range_copy = count > 0
            if not count:
                chunk = source.file.read(at, min(remaining, _CHUNK_BYTES))
                if not chunk:
                    raise ModelReadError(
                        f"{source.file.path}: the file has shrunk while it was copied; read the model again"
                    )
                self.write(chunk)
                count = len(chunk)
            at += count
            remaining -= count
        source.file.check()


class Transaction:
    """Context in which files are made for one target; leaving it by an error restores whatever was there.

    What killed runs have left in the folder is removed first.

    Args:
        durable: wait until the disk has the files, so that a machine that stops loses none of them.
    """

    def __init__(self, target: str, *, durable: bool = True) -> None:
        self._target = target
        self._durable = durable
        self._folder = os.path.dirname(target) or os.curdir
        self._open: list[NewFile] = []
        self._claims: list[tuple[int, str]] = []
        self._placed: list[tuple[str, str | None]] = []  # paths, and where what they held before is kept
        self._last: NewFile | None = None

    def claim(self, names: Iterable[str]) -> str:
        """The first of the names that no file bears and no other process is about to give."""
        for name in names:
            if os.path.lexists(os.path.join(self._folder, name)):
                continue
            claimed = claim(self._folder, name)
            if claimed is not None:
                self._claims.append(claimed)
                if not os.path.lexists(os.path.join(self._folder, name)):
                    return name
        raise FileExistsError(None, "every name for its data is taken", self._folder)

    def create(self, name: str, *, like: str | None = None) -> NewFile:
        """Begin a file that will be called `name`, with the permissions of the file that bears the name now.

        Args:
            like: a name from which to take the permissions instead.
        """
        mode = _permissions(os.path.join(self._folder, like or name))
        fd, path = create_stray(self._folder, name, 0o666 if mode is None else mode)
        file = NewFile(fd, path)
        self._open.append(file)
        if mode is not None:
            with contextlib.suppress(OSError):  # not every file system has permissions
                os.chmod(path, mode)  # past the umask
        return file

    def place(self, file: NewFile, name: str, *, last: bool, new: bool = False) -> None:
        """Give a complete file its name, in the place of any that bore it. The last one settles it all.

        Args:
            new: the name is a claimed one: a file that somebody has given it meanwhile is not replaced.
        """
        self._last = file if last else None
        if self._durable:
            os.fsync(file.fd)
        path = os.path.join(self._folder, name)
        kept = None
        if new:
            _rename_to_new(file.path, path)
        else:
            kept = None if last else self._kept(path, name)
            os.replace(file.path, path)
        self._placed.append((path, kept))
        os.close(file.fd)
        file.fd = -1

    def _kept(self, path: str, name: str) -> str | None:
        """A second name for what is about to be replaced, to bring it back."""
        kept = os.path.join(self._folder, stray_name(name))
        try:
            os.link(path, kept, follow_symlinks=False)
        except (OSError, NotImplementedError):  # there is none, or the file system has no links
            return None
        return kept

    def __enter__(self) -> Self:
        remove_strays(self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An interrupt may come between the last renaming and the end of the block: the name decides.
        settled = error is None or (self._last is not None and not os.path.lexists(self._last.path))
        for path, kept in reversed(self._placed):
            with contextlib.suppress(OSError):
                if not settled:
                    os.unlink(path) if kept is None else os.replace(kept, path)
                elif kept is not None:
                    os.unlink(kept)
        for fd, path in [*((file.fd, file.path) for file in self._open), *self._claims]:
            with contextlib.suppress(OSError):
                os.unlink(path)
            with contextlib.suppress(OSError):
                if fd >= 0:
                    os.close(fd)
        if error is None and self._durable:
            self._sync_folder()
        if isinstance(error, OSError):
            raise _explained(self._target, error) from error

    def _sync_folder(self) -> None:
        """Make the renames last; not every system can."""
        with contextlib.suppress(OSError):
            fd = os.open(self._folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _explained(target: str, error: OSError) -> ModelWriteError:
    reason = (error.strerror or str(error)).lower()
    remedy = "free some space or" if error.errno in _FULL else "check its folder's permissions or"
    return ModelWriteError(f"{target}: cannot be written ({reason}); {remedy} choose another folder")


def _rename_to_new(source: str, path: str) -> None:
    """Rename without replacing."""
    try:
        os.link(source, path)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # no hard links here
        if os.path.lexists(path):
            raise
        os.rename(source, path)
    else:
        os.unlink(source)


def _permissions(path: str) -> int | None:
    """Those of a regular file; None where there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return stat.S_IMODE(status.st_mode) & 0o777 if stat.S_ISREG(status.st_mode) else None
