"""Opening files by their content: as they are, decompressed, or as a member of an archive.

Everything is read in streams: nothing is extracted to a path that an archive names.
"""

from __future__ import annotations

import io
import lzma
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import pyarrow as pa

from kamerton.data.data_file import DataFile

MAX_LAYERS = 3  # of compression
MAX_UNPACKED = 64 * 2**30  # bytes of a packed file that is read in any order
BLOCK = 4 * 2**20  # bytes that are copied at once
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_COMPRESSIONS = (
    (re.compile(rb"\x1f\x8b\x08"), "gzip"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd"),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), "bz2"),
    (re.compile(rb"\xfd7zXZ\0"), "xz"),
)
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1f]")  # bytes that no text has
DAMAGE = (pa.ArrowException, OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)
_JUNK = re.compile(r"(^|/)(__MACOSX/|\.(?!\.?/)|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive, and its size in bytes; `is_closed` if it is encrypted, or compressed in an unknown way."""

    name: str
    size: int
    is_closed: bool = False


def compression(head: bytes) -> str | None:
    """Return the compression of a file that begins with these bytes: gzip, zstd, bz2, xz, or None."""
    return next((name for pattern, name in _COMPRESSIONS if pattern.match(head)), None)


def open_data(file: DataFile) -> io.BufferedReader:
    """Open a file, or a member of an archive, and decompress it, by content."""
    return open_path(file.path, file.member)


def open_path(path: Path, member: str = "") -> io.BufferedReader:
    """Open a file, or a member of the archive at `path`, and decompress it, by content."""
    stream = _decompressed(open(path, "rb"))  # noqa: SIM115 - closed with what is returned
    stream = _decompressed(_open_member(path, stream, member)) if member else stream
    try:
        head = stream.peek()
    except DAMAGE:  # reported when it is read
        return stream
    return io.BufferedReader(_LineFeeds(stream)) if ends_in_returns(head) else stream


def ends_in_returns(head: bytes) -> bool:
    """Return whether a text that begins with these bytes has carriage returns alone at its ends of lines."""
    return head.count(b"\r") > 1 and b"\n" not in head and not _CONTROL.search(head)


class _LineFeeds(io.RawIOBase):
    """A stream whose carriage returns are line feeds."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read1(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextmanager
def seekable(file: DataFile) -> Iterator[Path | IO[bytes]]:
    """Yield a file that can be read in any order: its path, or an unpacked copy that is deleted at the end."""
    if not layers(file):
        yield file.path
        return
    with open_data(file) as stream, tempfile.TemporaryFile() as copy:
        while block := stream.read(BLOCK):
            if copy.tell() + len(block) > MAX_UNPACKED:
                raise OSError(f"its content is larger than {MAX_UNPACKED >> 30} GiB; unpack it")
            copy.write(block)
        copy.seek(0)
        yield copy


def layers(file: DataFile) -> list[str]:
    """Return the compressions and the archive around the file's bytes, the outermost first."""
    names: list[str] = []
    with _decompressed(open(file.path, "rb"), names) as stream:
        if file.member:
            names.append(archive_kind(stream.peek(512)) or "")
            with _decompressed(_open_member(file.path, stream, file.member), names):
                pass
    return names


def archive_kind(head: bytes) -> str | None:
    """Return `zip` or `tar` for an archive that begins with these bytes, else None."""
    if head.startswith(ZIP):
        return "zip"
    return "tar" if head[257:262] == b"ustar" else None


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive; raises `BadZipFile` also for damaged names, which Python's zipfile does not catch."""
    try:
        return zipfile.ZipFile(path)
    except UnicodeError as error:
        raise zipfile.BadZipFile(f"a name in the archive is damaged: {error}") from error


def archive_members(path: Path) -> tuple[list[Member], list[str]]:
    """Return the files in an archive without junk such as `__MACOSX`, and the names of the junk."""
    with _decompressed(open(path, "rb")) as stream:
        if archive_kind(stream.peek(512)) == "zip":
            with open_zip(path) as archive:
                members = [
                    Member(info.filename, info.file_size, bool(info.flag_bits & 1) or info.compress_type not in METHODS)
                    for info in archive.infolist()
                    if not info.is_dir()
                ]
        else:
            with _tar(stream) as tar:
                members = [Member(entry.name, entry.size) for entry in tar if entry.isfile()]
    junk = [member.name for member in members if _JUNK.search(member.name)]
    return [member for member in members if member.name not in junk], junk


def _decompressed(stream: IO[bytes], names: list[str] | None = None) -> io.BufferedReader:
    """Return the decompressed stream; the compressions are added to `names`."""
    buffered: Any = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)
    for _ in range(MAX_LAYERS):
        kind = compression(buffered.peek(10)[:10])
        if kind is None:
            break
        if names is not None:
            names.append(kind)
        if kind == "xz":
            inner: IO[bytes] = lzma.LZMAFile(buffered)  # noqa: SIM115 - closed with its stream
        elif isinstance(buffered.raw, io.FileIO):  # Arrow reads a file faster than a stream of Python
            buffered.close()
            inner = pa.input_stream(str(buffered.name), compression=kind)
        else:
            inner = pa.input_stream(buffered, compression=kind)
        buffered = io.BufferedReader(inner)
    return buffered  # type: ignore[no-any-return]


def _open_member(path: Path, stream: IO[bytes], member: str) -> IO[bytes]:
    if archive_kind(stream.peek(512)) == "zip":  # type: ignore[attr-defined]
        try:
            return open_zip(path).open(member)
        except (RuntimeError, UnicodeError) as error:  # encrypted, an unknown compression, or a damaged name
            raise OSError(str(error)) from error
    tar = _tar(stream)
    forward: Any = tar.fileobj
    forward.seekable = lambda: False  # missing in Python's tarfile, and needed to decode UTF-16
    for entry in tar:
        if entry.name == member and entry.isfile():
            content = tar.extractfile(entry)
            if content is not None:
                return content
    raise OSError(f"the archive has no file {member!r}")


class _Entry(tarfile.TarInfo):
    """An entry of a tar archive. Behind the first one, `tarfile` takes a damaged header for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end marker
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"the archive is cut off or damaged behind {archive.offset:,} bytes") from error


def _tar(stream: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r|", tarinfo=_Entry)
