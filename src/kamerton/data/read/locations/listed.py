"""The files that an address names, each with its local copy: folders are chosen from by names, as local ones are."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from kamerton.data.data_file import Subset
from kamerton.data.read.locations.addresses import Listing, Remote, check_address, protocol_of, translated
from kamerton.data.read.locations.configurations import choose_subset
from kamerton.data.read.locations.datasets import DESCRIPTIONS, Part
from kamerton.data.read.locations.download import MOST_FILES, list_address
from kamerton.data.read.locations.folders import list_folder
from kamerton.data.read.locations.hub import list_dataset
from kamerton.errors import Fault, UserError
from kamerton.files import leads_out
from kamerton.mask import mask_text


@dataclass(frozen=True, slots=True)
class Located:
    """A file to read: its path, the split that its name gives, and for a fetched file its address and version."""

    path: Path
    split: str | None = None
    address: str = ""
    version: str = ""

    @property
    def shown(self) -> str:
        """The path or address in faults."""
        return self.address or str(self.path)


def locate(address: str, key: str, format: str, subset: Subset) -> tuple[list[Located], list[Fault]]:
    """Return the files at an address, fetched, and its faults."""
    faults = check_address(address, key)
    if any(fault.severity == "error" for fault in faults):
        return [], faults
    try:
        with translated(address, key):
            chosen, more = _choose(_listing(address, key), mask_text(address), key, format, subset)
            return [_fetched(remote, split) for remote, split in chosen], faults + more
    except UserError as error:
        return [], [*faults, *error.faults]


def _listing(address: str, key: str) -> Listing:
    return list_dataset(address, key) if protocol_of(address) == "hf" else list_address(address)


def _fetched(remote: Remote, split: str | None) -> Located:
    path = remote.fetch()
    if remote.version:
        return Located(path, split, remote.address, remote.version)
    with path.open("rb") as stream:
        return Located(path, split, remote.address, f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")


def _choose(
    listing: Listing, shown: str, key: str, format: str, subset: Subset
) -> tuple[list[tuple[Remote, str | None]], list[Fault]]:
    """Return the files to read, with the splits that a folder's names give, and the faults of the folder."""
    if not listing.files:
        what = "the folder is empty" if listing.is_folder else "no file matches this pattern"
        return [], [Fault("missing-file", what, f"correct {key}", shown, column=key)]
    if len(listing.files) > MOST_FILES:
        message = f"the address names {len(listing.files)} files, more than {MOST_FILES}"
        return [], [Fault("bad-value", message, f"name fewer in {key}, by a pattern", shown, column=key)]
    if not listing.is_folder:
        return [(remote, None) for remote in listing.files], []

    def by_names(files: list[Remote]) -> tuple[list[tuple[Remote, str | None]], list[Fault]]:
        return in_folder(files, shown, lambda folder: list_folder(folder, key, format))

    if protocol_of(shown) == "hf":
        return choose_subset(listing.files, shown, key, subset, by_names)
    return by_names(listing.files)


def in_folder(
    files: list[Remote], shown: str, choose: Callable[[Path], tuple[list[Part], list[Fault]]]
) -> tuple[list[tuple[Remote, str | None]], list[Fault]]:
    """Return what `choose` takes from a local folder with the names of these files, and its faults.

    Only descriptions are fetched for it; the other files are empty.
    """
    with tempfile.TemporaryDirectory(prefix="kamerton-") as name:
        folder = Path(name) / (PurePosixPath(shown).name or "folder")
        folder.mkdir()
        by_path = {}
        for remote in files:
            if leads_out(remote.name):
                fix = "name the files that are read, by a pattern"
                raise UserError([Fault("bad-value", "the name of a file leads out of its folder", fix, remote.address)])
            path = folder / remote.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(remote.fetch().read_bytes() if path.name in DESCRIPTIONS else b"")
            by_path[path] = remote
        parts, faults = choose(folder)
        return [(by_path[path], split) for path, split in parts], [_moved(fault, folder, shown) for fault in faults]


def _moved(fault: Fault, folder: Path, shown: str) -> Fault:
    """Return a fault about a folder as one about its address."""
    base = shown.rstrip("/")
    texts = {name: getattr(fault, name) for name in ("message", "fix", "file")}
    return replace(fault, **{name: text and text.replace(str(folder), base) for name, text in texts.items()})
