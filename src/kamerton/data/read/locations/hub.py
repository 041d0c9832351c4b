"""Data sets of the Hugging Face hub, at one commit. Their scripts are never run.

`huggingface_hub` lists and fetches them: HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE have their usual meaning.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from kamerton.data.read.locations.addresses import CONNECT_S, Listing, Remote
from kamerton.errors import Fault, UserError
from kamerton.output import echo

_ADDRESS = re.compile(
    r"hf://datasets/(?P<id>[^/@]+/[^/@]+)(?:@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?(?:/(?P<path>.*))?",
    re.IGNORECASE,
)


def list_dataset(address: str, key: str) -> Listing:
    """Return the files at an address of the hub, all at the commit to which its revision points now."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.hf_api import RepoFile

    match = _ADDRESS.fullmatch(address)
    if match is None:
        fix = "give data=hub data.name=ORGANIZATION/NAME, or data.path=hf://datasets/ORGANIZATION/NAME@REVISION/FOLDER"
        raise UserError([Fault("bad-value", "this is no address of a data set", fix, address, column=key)])
    if is_offline_mode():
        fix = f"unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE, or read a local snapshot: {key}=FOLDER"
        raise UserError([Fault("unreachable", "HF_HUB_OFFLINE is set", fix, address, column=key)])
    api, name = HfApi(), match["id"]
    revision = unquote(match["revision"]) if match["revision"] else None
    commit = api.dataset_info(name, revision=revision, timeout=CONNECT_S).sha
    if commit is None:
        raise UserError([Fault("unreachable", "the hub names no commit", "repeat the command later", address)])
    tree = api.list_repo_tree(name, recursive=True, revision=commit, repo_type="dataset")
    base = address.removesuffix(f"/{match['path']}") if match["path"] else address.rstrip("/")
    files = [
        Remote(f"{base}/{entry.path}", entry.path, commit, entry.size, partial(_fetch, name, entry.path, commit))
        for entry in sorted(tree, key=lambda entry: entry.path)
        if isinstance(entry, RepoFile)
    ]
    return _below(files, (match["path"] or "").strip("/"))


def _fetch(name: str, path: str, commit: str) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    kept = try_to_load_from_cache(name, path, revision=commit, repo_type="dataset")
    if isinstance(kept, str):
        return Path(kept)
    echo(f"fetching hf://datasets/{name}@{commit[:8]}/{path}", err=True)
    return Path(hf_hub_download(name, path, repo_type="dataset", revision=commit, etag_timeout=CONNECT_S))


def _below(files: list[Remote], path: str) -> Listing:
    """Return the file, the matches of a pattern, or the files of the folder that a path names."""
    if not path:
        return Listing(files, is_folder=True)
    exact = [file for file in files if file.name == path]
    if exact:
        return Listing(exact)
    if any(character in path for character in "*?["):
        return Listing(matching(files, path))
    inside = [file for file in files if file.name.startswith(f"{path}/")]
    if not inside:
        raise FileNotFoundError(path)
    return Listing([_renamed(file, path) for file in inside], is_folder=True)


def _renamed(file: Remote, folder: str) -> Remote:
    return Remote(file.address, str(PurePosixPath(file.name).relative_to(folder)), file.version, file.size, file.fetch)


def matching(files: list[Remote], pattern: str) -> list[Remote]:
    """Return the files whose names match a pattern; `**` matches any folders."""
    from fsspec.utils import glob_translate

    matches = re.compile(glob_translate(pattern.removeprefix("./")))
    return [file for file in files if matches.match(file.name)]
