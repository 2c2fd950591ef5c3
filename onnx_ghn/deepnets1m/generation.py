"""Files of random architectures: resumable, and the same to the byte for one seed whatever the workers."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from onnx_ghn.deepnets1m.compact import CompactFile, header_line, record_line
from onnx_ghn.deepnets1m.files import check_outputs, is_official
from onnx_ghn.deepnets1m.official import meta_path
from onnx_ghn.deepnets1m.official_write import write_official
from onnx_ghn.deepnets1m.sampler import split_rules
from onnx_ghn.deepnets1m.sampling_stream import JOB_SIZE, draw_job
from onnx_ghn.errors import DataError, ModelWriteError, OptionError
from onnx_ghn.installing import require
from onnx_ghn.onnx_io.continuing import open_to_continue
from onnx_ghn.parallel import in_order

__all__ = ["generate"]

_SYNC_SECONDS = 5.0  # of work at most are lost when the machine loses power; a killed process loses none
Progress = Callable[[str, int], None]


def generate(
    split: str,
    n: int,
    seed: int,
    out: str | os.PathLike[str],
    *,
    workers: int = 1,
    backend: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write n random architectures of a split.

    A compact file (any name but .hdf5, .h5) that was begun with the same split and seed is continued: whole jobs of
    64 are kept, and what comes after the last whole job is made again. The official file is made from a compact one
    beside it, `<name>.partial.jsonl`, which is continued in the same way after a run was stopped.

    Args:
        workers: number of processes; -1 for one per core.
        backend: loky (the default with several workers), threading, ray or dask.
        force: replace a file that holds something else.
        progress: called with what is being done and how many architectures are done.

    Returns:
        how many architectures the file held before.

    Raises:
        OptionError: no such split, numbers out of range, or a package that is not installed.
        ModelWriteError: the file cannot be written, or holds something else.
    """
    out = os.fspath(out)
    split_rules(split)
    if n < 1 or seed < 0:
        raise OptionError(f"{n} architectures from seed {seed}: there must be at least one, from a seed of at least 0")
    if not is_official(out):
        return _generate_compact(split, n, seed, out, workers, backend, force, progress)
    require("h5py", "train")  # before the work, not after it
    check_outputs([out, meta_path(out)], force)
    partial = f"{os.path.splitext(out)[0]}.partial.jsonl"
    n_before = _generate_compact(split, n, seed, partial, workers, backend, force, progress)
    with CompactFile(partial) as file:
        architectures = (file.record(split, index).architecture for index in range(n))
        tell = (lambda done: progress("writing", done)) if progress is not None else None
        write_official(out, {split: architectures}, force=force, progress=tell)
    os.unlink(partial)
    return n_before


def _generate_compact(
    split: str, n: int, seed: int, out: str, workers: int, backend: str | None, force: bool, progress: Progress | None
) -> int:
    header = header_line(split, seed)
    n_before, size_bytes = _usable(out, header, n, force)
    if n_before >= n:
        return n_before
    tasks = [
        (split, seed, job, min(JOB_SIZE, n - job * JOB_SIZE)) for job in range(n_before // JOB_SIZE, -(-n // JOB_SIZE))
    ]
    done, synced = n_before, time.monotonic()
    results = in_order(_job_lines, tasks, workers, backend)
    with contextlib.closing(results), _write_errors_explained(out), open_to_continue(out) as fd:
        os.ftruncate(fd, size_bytes)
        os.lseek(fd, size_bytes, os.SEEK_SET)
        if not size_bytes:
            _write(fd, header)
        for task, lines in zip(tasks, results, strict=True):
            _write(fd, lines)
            done += task[-1]
            if progress is not None:
                progress("generating", done)
            if time.monotonic() - synced > _SYNC_SECONDS:
                os.fsync(fd)
                synced = time.monotonic()
        os.fsync(fd)
    return n_before


def _job_lines(split: str, seed: int, job: int, n: int) -> bytes:
    """Runs in the workers."""
    return b"".join(record_line(record) for record in draw_job(split, seed, job, n))


def _usable(out: str, header: bytes, n: int, force: bool) -> tuple[int, int]:
    """How many architectures of an existing file can be kept, and where they end (bytes)."""
    if not os.path.lexists(out):
        check_outputs([out], force)
        return 0, 0
    if os.path.isfile(out):
        with _write_errors_explained(out), open(out, "rb") as file:
            begun = file.read(len(header))
        if header.startswith(begun) and len(begun) < len(header):
            return 0, 0  # stopped in the middle of the first line, or before
        if begun == header:
            return _whole_jobs(out, n)
    if os.path.isfile(out) and not force:
        raise ModelWriteError(
            f"{out}: exists already, and not with these architectures; replace it with `force` or name another file"
        )
    check_outputs([out], force)
    return 0, 0


def _whole_jobs(out: str, n: int) -> tuple[int, int]:
    with CompactFile(out) as file:
        split = file.splits[0]
        n_kept = file.count(split)
        if n_kept < n:
            n_kept -= n_kept % JOB_SIZE
        # After a power cut a file may end in zeros.
        while n_kept and not _reads(file, split, range(max(0, n_kept - JOB_SIZE), n_kept)):
            n_kept = (n_kept - 1) // JOB_SIZE * JOB_SIZE
        return n_kept, file.end_of(n_kept)


def _reads(file: CompactFile, split: str, indices: range) -> bool:
    try:
        for index in indices:
            file.record(split, index)
    except DataError:
        return False
    return True


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


@contextlib.contextmanager
def _write_errors_explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelWriteError(
            f"{path}: cannot be written ({reason}); mend that and run again: what is written is kept"
        ) from error
