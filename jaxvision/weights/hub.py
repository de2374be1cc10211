"""Files of model repositories on the Hugging Face hub, through the hub's own client: cached and checked."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxvision.errors import UserError, did_you_mean
from jaxvision.models.registry import list_models

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubAccess:
    """How files of the hub are fetched.

    The client follows its environment variables, too: ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_OFFLINE``, ``HF_TOKEN``.

    Attributes:
      revision: branch, tag or commit of the repository; None: its main branch.
      cache_dir: folder of the downloaded files; None: the client's own, ``~/.cache/huggingface/hub``.
      token: for private and gated repositories; None: that of ``hf auth login``.
    """

    revision: str | None = None
    cache_dir: str | Path | None = None
    token: str | None = None


def fetch(repository: str, names: Sequence[str], access: HubAccess) -> Path:
    """The path of the first of these files that a repository has; downloaded, where the cache lacks it.

    A connection that breaks is taken up again where it broke. Files that the cache stores under their SHA-256, which
    are the large ones, are compared with it.

    Args:
      repository: "owner/name".
      names: of files, the preferred one first.
      access: see :class:`HubAccess`.

    Raises:
      UserError: there is no such repository, revision or file, no access to it, no network, or the file is damaged.
    """
    from huggingface_hub import constants, errors, hf_hub_download

    where = f"{repository}{f' at revision {access.revision}' if access.revision else ''}"
    unreachable: Exception | None = None
    for name in names:
        try:
            with _warnings_said_once():
                path = hf_hub_download(
                    repository, name, revision=access.revision, cache_dir=access.cache_dir, token=access.token,
                    **_bar_of(name),
                )  # fmt: skip
        except errors.LocalEntryNotFoundError as error:
            unreachable = error
        except errors.EntryNotFoundError:
            continue
        except errors.HFValidationError as error:
            raise UserError(
                f'"{repository}" names no repository of the hub: expected "owner/name", such as timm/resnet50.a1_in1k'
            ) from error
        except Exception as error:  # the client's, those of its HTTP library, and OSError of the disk
            raise UserError(_problem(error, repository, where)) from error
        else:
            _compare_with_hash(Path(path))
            return Path(path)
    if unreachable is None:
        raise UserError(f"{where} has none of the files {', '.join(names)}")
    if _status(unreachable) is not None:
        raise UserError(_problem(unreachable, repository, where)) from unreachable
    cache = access.cache_dir or constants.HF_HUB_CACHE
    reason = _cause(unreachable)
    if constants.is_offline_mode():
        reason = "HF_HUB_OFFLINE is set"
    raise UserError(
        f"cannot fetch {where} from {constants.ENDPOINT}: {reason}; and {' or '.join(names)} is not in the cache "
        f"{cache}. Check the network, or fetch the weights elsewhere and pass weights=FILE"
    ) from unreachable


def upload(folder: Path, repository: str, names: Sequence[str], *, private: bool, token: str | None) -> None:
    """Uploads files of a folder, and nothing else of it; creates the repository where it is missing.

    Raises:
      UserError: no access to the repository, or no network.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=list(names))
    except Exception as error:  # the client's, and those of its HTTP library
        raise UserError(f"{folder} was written, but not uploaded: {_problem(error, repository, repository)}") from error


def _bar_of(name: str) -> dict[str, Any]:
    """The client's argument for a bar that shows a file's name and its size; the client's own shows the file's hash."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            _, colon, what = kwargs.get("desc", "").partition(": ")
            kwargs["desc"] = name + colon + what
            kwargs.setdefault("bar_format", "{desc}: {percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt}B, {rate_fmt}")
            super().__init__(*args, **kwargs)

    return {"tqdm_class": Bar} if "tqdm_class" in inspect.signature(hf_hub_download).parameters else {}


@contextlib.contextmanager
def _warnings_said_once() -> Iterator[None]:
    """The client's warnings, as of a broken connection, by its own handler alone: importing orbax adds another one."""
    logger = logging.getLogger("huggingface_hub")
    before, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = before


def _problem(error: Exception, repository: str, where: str) -> str:
    """What an error of the client means for the user, in one line."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} is gated: accept its terms at {page}, then set HF_TOKEN or run `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        near = did_you_mean(repository, [f"timm/{name}" for name in list_models(pretrained=True)])
        near = "" if f'"{repository}"' in near else near
        return f"the hub has no repository {repository}, or it is private: check the name, or set HF_TOKEN.{near}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{where}: there is no such revision; {page}/commits/main lists them"
    status = _status(error)
    if status == 401:
        return f"the hub does not accept this token for {repository} (401): set HF_TOKEN or run `hf auth login`"
    if status == 429:
        return f"the hub allows no more downloads for now (429, {where}): wait some minutes, or set HF_TOKEN"
    return f"{where}: {_cause(error)}"


def _status(error: Exception) -> int | None:
    """The HTTP status of an error or of what caused it; None where the hub did not answer."""
    inner: BaseException | None = error
    while inner is not None:
        status = getattr(getattr(inner, "response", None), "status_code", None)
        if status is not None:
            return status
        inner = inner.__cause__
    return None


def _cause(error: Exception) -> str:
    """The first line of the innermost error's message, which says more than the outer ones do."""
    inner: BaseException = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    lines = str(inner).strip().splitlines()
    return lines[0] if lines else type(inner).__name__


def _compare_with_hash(path: Path) -> None:
    """Compares a cached file with its SHA-256, under which the cache stores large files.

    Raises:
      UserError: they differ.
    """
    stored = path.resolve()
    if not _SHA256.fullmatch(stored.name):
        return
    with stored.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != stored.name:
        raise UserError(
            f"{path} is damaged: its SHA-256 is {found}, the hub's {stored.name}. Delete {stored} and call again to "
            "download it anew"
        )
