"""Single files of repositories on the model hub: from its local cache, or downloaded.

Downloads go to the hub's own cache (`~/.cache/huggingface`, or wherever HF_HOME points), not to
a folder of ours: the base model alone has 4.5 GB, other programs keep it there under the same
names, and whoever moved that cache to a large disk did so for good reason.
"""

import errno
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, errors

from mofa_nb.checks import InputError

# Top-level modules whose exceptions tell of the connection and not of a mistake here.
_CLIENTS = (
    "huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet"
)  # fmt: skip
_INSTEAD = "or name a folder that holds the checkpoints as the model"


class Refused(InputError):
    """One repository does not give its files, while the hub itself can be reached."""


def cached(repo: str, name: str) -> Path | None:
    """The file if a former download left it in the cache; no network is used."""
    found = huggingface_hub.try_to_load_from_cache(repo, name)
    return Path(found) if isinstance(found, str) else None


def downloaded(repo: str, name: str) -> Path | None:
    """The file, downloaded if the cache lacks it; None if the repository has no such file.

    Raises:
        Refused: the repository is gated, private or gone, or the token is not accepted.
        InputError: the hub cannot be reached, or the file cannot be stored.
    """
    try:
        return Path(huggingface_hub.hf_hub_download(repo, name))
    except errors.LocalEntryNotFoundError as error:  # neither in the cache nor to be had
        cause = error.__cause__ or error
    except errors.EntryNotFoundError:
        return None
    except Exception as error:
        if not (isinstance(error, OSError) or type(error).__module__.split(".")[0] in _CLIENTS):
            raise
        cause = error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    refusal = _refusal(repo, cause, status)
    if refusal:
        raise Refused(f"{refusal}, {_INSTEAD}") from cause
    raise InputError(_failure(repo, cause, status)) from cause


def _refusal(repo: str, error: BaseException, status: int | None) -> str:
    """Why this repository alone gives nothing, and what to do; empty where it is not that."""
    if isinstance(error, errors.GatedRepoError):
        rest = "log in with `hf auth login` (or set HF_TOKEN)"
        if huggingface_hub.get_token() is not None:
            rest = "wait until your account has access (the present token has none)"
        return f"{repo} is gated: accept its terms at {constants.ENDPOINT}/{repo} and {rest}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the hub shows no repository {repo} (private, or removed): log in with `hf auth login`"
        )
    if status == 401:
        return (
            "the hub does not accept the stored token (HTTP 401): log in anew with `hf auth login`"
        )
    if status in (403, 404, 410, 451):
        return f"the hub refuses {repo} (HTTP {status}): check your access"
    return ""


def _failure(repo: str, error: BaseException, status: int | None) -> str:
    """Why nothing can be had or kept, and what to do."""
    if constants.HF_HUB_OFFLINE:
        why = "not in the hub's cache, and HF_HUB_OFFLINE forbids downloads"
        return f"{repo} is {why}: unset it, {_INSTEAD}"
    code = getattr(error, "errno", None)
    full = code in (errno.ENOSPC, errno.EDQUOT)
    if full or code in (errno.EACCES, errno.EPERM, errno.EROFS):
        state = "is full" if full else "cannot be written"
        remedy = "make room there, or point HF_HOME at another disk"
        return f"the hub's cache at {constants.HF_HUB_CACHE} {state}: {remedy}"
    reason = f"HTTP {status}" if status else type(error).__name__
    remedy = "check the connection and try again (finished files are kept)"
    return f"the model hub could not be reached for {repo} ({reason}): {remedy}, {_INSTEAD}"
