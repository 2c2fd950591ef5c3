"""GHNs on the Hugging Face hub, by addresses such as hf://owner/name@revision/file. No torch.

Files come through huggingface_hub, so that its cache, tokens and settings (HF_HOME, HF_TOKEN, HF_ENDPOINT,
HF_HUB_OFFLINE) work as its users expect.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from onnx_ghn.errors import CheckpointError
from onnx_ghn.ghn.config_files import CONFIG, WEIGHTS, config_names
from onnx_ghn.installing import require
from onnx_ghn.shipped import POLICY_FILE

__all__ = ["SCHEME", "Address", "download", "upload"]

SCHEME = "hf://"
_FORM = re.compile(r"hf://(?P<owner>[^/@]+)/(?P<name>[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")


class Address(NamedTuple):
    """A repository of the hub, and perhaps a revision of it and a file in it."""

    repository: str  # owner/name
    revision: str | None
    file: str | None

    @classmethod
    def of(cls, text: str) -> Address:
        """Read `hf://owner/name[@revision][/file]`; a slash in a revision is written %2F. Raises CheckpointError."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise CheckpointError(f"{text}: not an address of the hub; write hf://owner/name[@revision][/file]")
        revision, file = found["revision"], found["file"]
        if file is not None and ".." in PurePosixPath(file).parts:
            raise CheckpointError(f"{text}: the file must lie in the repository; leave out '..'")
        return cls(f"{found['owner']}/{found['name']}", None if revision is None else unquote(revision), file)


def download(text: str) -> Path:
    """A folder or a file of a GHN in the cache of the hub, fetched where it is not there yet.

    Args:
        text: an address. Without a file it is that of a repository with model.safetensors and config.json.

    Returns:
        the folder, or the file, beside which its config and policy lie.

    Raises:
        CheckpointError: no such repository, revision or file, no access, or no connection and nothing in the cache.
        NotInstalledError: there is no huggingface_hub.
    """
    address = Address.of(text)
    hub = require("huggingface_hub", "hub")
    wanted = _files(address.file)
    try:
        folder = Path(
            hub.snapshot_download(address.repository, revision=address.revision, allow_patterns=wanted, **_quiet(hub))
        )
        path = folder if address.file is None else folder / address.file
        if (folder / wanted[0]).is_file():
            return path
        others = ", ".join(_checkpoints(hub, address)) or "none"
    except (OSError, ValueError) as error:  # the roots of huggingface_hub's own errors
        raise CheckpointError(f"{text}: {_reason(error)}") from error
    raise CheckpointError(f"{text}: no {wanted[0]} in this repository; name a file of it, of these: {others}")


def upload(folder: Path, repository: str, *, private: bool | None, revision: str | None, message: str) -> str:
    """Write the files of a folder into a repository of the hub, which is made where there is none.

    Returns:
        the address of the commit.

    Raises:
        CheckpointError: no such owner, no right to write, or no connection.
        NotInstalledError: there is no huggingface_hub.
    """
    hub = require("huggingface_hub", "hub")
    api = hub.HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=os.fspath(folder), revision=revision, commit_message=message
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{repository}: {_reason(error)}") from error
    return str(commit)


def _files(file: str | None) -> list[str]:
    """What is fetched for a file, itself first: its config may lie beside it, and its policy."""
    if file is None:
        return [WEIGHTS, CONFIG, POLICY_FILE]
    path = PurePosixPath(file)
    return [file, *(str(path.parent / name) for name in (*config_names(path.name), POLICY_FILE))]


def _checkpoints(hub: Any, address: Address) -> list[str]:
    names = hub.HfApi().list_repo_files(address.repository, revision=address.revision)
    return [name for name in names if name.endswith((".safetensors", ".pt"))]


def _quiet(hub: Any) -> dict[str, Any]:
    """Its bars of progress, which it draws wherever stderr goes, belong on a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        return {}

    class NoBar(hub.utils.tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": True})

    return {"tqdm_class": NoBar}


def _reason(error: Exception) -> str:
    """What went wrong, in a few words, and the remedy."""
    kind = type(error).__name__
    match kind:
        case "GatedRepoError":
            return "its owner gives access on request; ask on its page, then set HF_TOKEN"
        case "RepositoryNotFoundError":
            return "no such repository on the hub, or a private one; check the name, or set HF_TOKEN"
        case "RevisionNotFoundError":
            return "no such revision; name a branch, a tag or a commit"
        case "EntryNotFoundError" | "RemoteEntryNotFoundError":
            return "no such file in this repository"
        case "LocalEntryNotFoundError" | "OfflineModeIsEnabled":
            return "not in the cache, and the hub cannot be reached; check the connection, HF_HUB_OFFLINE and HF_HOME"
        case "HFValidationError":
            return "no valid name of a repository; write owner/name"
    text = " ".join(str(error).split())
    return f"the hub cannot give or take it ({text[:200] or kind}); check the connection and HF_TOKEN"
