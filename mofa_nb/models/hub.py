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
        raise _failed(repo, error.__cause__ or error) from error
    except errors.EntryNotFoundError:
        return None
    except Exception as error:
        known = isinstance(error, OSError) or type(error).__module__.split(".")[0] in _CLIENTS
        if not known:
            raise
        raise _failed(repo, error) from error


def _failed(repo: str, error: BaseException) -> InputError:
    """The sentence for an exception of the hub's client."""
    if isinstance(error, errors.GatedRepoError):
        return Refused(_gated(repo))
    if isinstance(error, errors.RepositoryNotFoundError):
        return Refused(
            f"the hub shows no repository {repo}, which is private or was removed: log in with"
            f" `hf auth login` if you have access, {_INSTEAD}"
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return Refused(
            "the hub does not accept the stored token (HTTP 401): log in anew with"
            f" `hf auth login`, {_INSTEAD}"
        )
    if status in (403, 404, 410, 451):
        return Refused(f"the hub refuses {repo} (HTTP {status}): check your access, {_INSTEAD}")
    if constants.HF_HUB_OFFLINE:
        return InputError(
            f"{repo} is not in the hub's cache, and HF_HUB_OFFLINE forbids downloads: unset it,"
            f" {_INSTEAD}"
        )
    reason = f"HTTP {status}" if status else type(error).__name__
    return _not_stored(error) or InputError(
        f"the model hub could not be reached for {repo} ({reason}): check the connection and try"
        f" again (finished files are kept), {_INSTEAD}"
    )


def _gated(repo: str) -> str:
    rest = "log in with `hf auth login` (or set HF_TOKEN)"
    if huggingface_hub.get_token() is not None:
        rest = "wait until your account has access (the present token has none)"
    return (
        f"{repo} is gated: accept its terms at {constants.ENDPOINT}/{repo} and {rest}, {_INSTEAD}"
    )


def _not_stored(error: BaseException) -> InputError | None:
    code = getattr(error, "errno", None)
    full = code in (errno.ENOSPC, errno.EDQUOT)
    if not full and code not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return None
    state = "is full" if full else "cannot be written"
    return InputError(
        f"the hub's cache at {constants.HF_HUB_CACHE} {state}: make room there, or point HF_HOME"
        " at another disk"
    )
