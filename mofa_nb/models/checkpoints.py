"""Where the published checkpoints lie: in repositories on the hub, or in a downloaded folder.
Downloads go to the hub's own cache, which other programs share."""

import errno
import functools
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import huggingface_hub
import torch
from huggingface_hub import constants, errors
from tqdm import tqdm

from mofa_nb.checks import InputError
from mofa_nb.config import AdapterConfig, S2DConfig
from mofa_nb.models import single_file
from mofa_nb.models.memory import gib
from mofa_nb.models.models import ADAPTER_PARTS
from mofa_nb.paths import weights_folder

SVD = "stabilityai/stable-video-diffusion-img2vid-xt-1-1"
TRAJECTORY = "MyNiuuu/MOFA-Video-Traj"
HYBRID = "MyNiuuu/MOFA-Video-Hybrid"
STOCK_PARTS = ("unet", "vae", "image_encoder")
ANIPORTRAIT = "ZJYang/AniPortrait"
TAESD = "madebyollin/taesd"  # for previews; SVD's latents are those of SD 1 and 2
VOICE_FILES = {"audio2mesh": "audio2mesh.pt", "audio2pose": "audio2pose.pt"}
CMP_FILE = "ckpt_iter_42000.pth.tar"
CMP_FOLDER = "models/cmp/experiments/semiauto_annot/resnet50_vip+mpii_liteflow/checkpoints"
_SVD_FOLDER = "stable-video-diffusion-img2vid-xt-1-1"

# The published adapters' sizes; head counts in the config.json beside them are silently wrong.
SIZES: dict[str, AdapterConfig | S2DConfig] = {
    "trajectory_adapter": AdapterConfig(),
    "landmark_adapter": AdapterConfig(landmark_channels=(16, 32, 64, 128)),
    "s2d": S2DConfig(),
}

# What is published together, on the hub: (repository, folder in it), best first.
ON_THE_HUB = {
    "svd": ((SVD, ""), (HYBRID, f"ckpts/mofa/{_SVD_FOLDER}")),
    "trajectory_adapter": ((TRAJECTORY, "controlnet"), (TRAJECTORY, "ckpts/controlnet")),
    "landmark_adapter": ((HYBRID, "ckpts/mofa/ldmk_controlnet"),),
    "s2d": ((TRAJECTORY, CMP_FOLDER), (HYBRID, CMP_FOLDER)),
    "voice": ((ANIPORTRAIT, ""), (HYBRID, "ckpts/aniportrait")),
    "taesd": ((TAESD, ""),),
}
# The same in a folder, below each of the bases: what messages call it, folders in the base.
_BASES = ("", "ckpts", "ckpts/mofa", "mofa")
_FOLDERS = {
    "svd": ("Stable Video Diffusion", _SVD_FOLDER, ""),
    "trajectory_adapter": ("the trajectory adapter", "controlnet", "traj_controlnet"),
    "landmark_adapter": ("the landmark adapter", "ldmk_controlnet"),
    "s2d": ("the CMP network", CMP_FOLDER),
    "voice": ("AniPortrait", "aniportrait", ""),
    "taesd": ("TAESD", "taesd"),
}
Dtypes = Mapping[str, torch.dtype]  # number formats of parts
Places = Sequence[tuple[str | Path, str]]  # repository or base, and a folder in it
# Modules whose exceptions tell of the connection and not of a mistake here.
_CLIENTS = "huggingface_hub httpx httpx2 httpcore httpcore2 requests urllib3 hf_xet".split()
LINE = 12.5e6  # bytes a second of a usual connection
_ROOM = "make room there, or point HF_HOME at another disk"


@dataclass(frozen=True)
class ReleaseFiles:
    """Paths of a whole model, by part."""

    weights: Mapping[str, Path]  # files
    configs: Mapping[str, Path]  # folders of `config.json`, where there is one
    scheduler: Path | None  # folder of its config; a base model of a single file has none


def find_release(
    folder: Path | None, dtypes: Dtypes, base: Path | None = None, get=None
) -> ReleaseFiles:
    """Every file of the published model, with landmark adapter and TAESD if at hand, in a `folder`
    (a clone of the original project or of one of the authors' repositories, or the `ckpts` inside)
    or the hub's cache, into which the rest is downloaded. `base`: another Stable Video Diffusion
    (XT 1.0 or 1.1), a single file like `svd_xt.safetensors` or a folder. Downloads
    (by `get`) are told first; InputError: they do not fit on the disk, or a file is missing."""
    if folder is None and get is None:
        _tell_downloads(dtypes, base)

    def find(group: str, names: Sequence[str], needed: bool = True) -> Path | None:
        """The first there is of what is published together, best names first."""
        place = base if group == "svd" and base else folder
        path = _first(_places(group, place), names, _on_disk if place else cached)
        if path is None and needed and place is None:
            path = _download(ON_THE_HUB[group], names, get)
        if path is None and needed:
            raise InputError(_missing(group, names[0], place))
        return path

    # Small ones first, so that trouble shows before gigabytes are downloaded.
    name, single = "scheduler/scheduler_config.json", base if base and base.is_file() else None
    if single is None and find("svd", [name], False) is None:
        single = find("svd", single_file.NAMES, False)
    scheduler = None if single else find("svd", [name]).parent
    stock = () if single else STOCK_PARTS
    configs = {part: find("svd", [f"{part}/config.json"]).parent for part in stock}
    files = {"s2d": find("s2d", [CMP_FILE])}
    for part in ADAPTER_PARTS.values():
        files[part] = find(part, _weight_names(part, dtypes[part]), part == "trajectory_adapter")
    for part in stock:
        files[part] = find("svd", [f"{part}/{n}" for n in _weight_names(part, dtypes[part])])
    files |= dict.fromkeys(STOCK_PARTS, single) if single else {}
    beside = [(_places("taesd", folder), _on_disk)] if folder else []
    for places, look in (*beside, (ON_THE_HUB["taesd"], cached)):
        config = _first(places, ["config.json"], look)
        if config and "taesd" not in files:
            configs["taesd"] = config.parent
            files["taesd"] = _first(places, _weight_names("taesd", dtypes["taesd"]), look)
    return ReleaseFiles({part: path for part, path in files.items() if path}, configs, scheduler)


def _tell_downloads(dtypes: Dtypes, base: Path | None) -> None:
    """Tell what will be downloaded and how much room there is; InputError: it is too little."""
    sizes: Counter[str] = Counter()  # bytes, by repository

    def planned(repo: str, name: str) -> str:
        url = huggingface_hub.hf_hub_url(repo, name)
        sizes[repo] += huggingface_hub.get_hf_file_metadata(url).size or 0
        return f"{repo}/{name}"

    try:
        find_release(None, dtypes, base, planned)
    except InputError:  # the download itself tells why, and is more patient with the hub
        return
    cache = Path(constants.HF_HUB_CACHE).absolute()
    free = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free
    listed = " and ".join(f"{gib(size)} GiB of {repo}" for repo, size in sizes.items())
    room = f"the hub's cache at {cache}, where {gib(free)} GiB are free"
    if sizes.total() > free:
        raise InputError(f"{listed} cannot be downloaded to {room}: {_ROOM}")
    if sizes:
        lasting = f"about {sizes.total() / LINE / 60:.0f} minutes at 100 Mbit/s"
        tqdm.write(f"{listed} will be downloaded to {room} ({lasting})", file=sys.stderr)


def _places(group: str, folder: Path | None) -> Places:
    """Where it may lie: in repositories, or in and around a folder."""
    if folder is None:
        return ON_THE_HUB[group]
    places: list = [(folder / b, inside) for b in _BASES for inside in _FOLDERS[group][1:]]
    if group == "s2d":  # the original project keeps it beside ckpts/
        places += [(base, CMP_FOLDER) for base in folder.resolve().parents[:2]]
        places += [(folder / base, "") for base in _BASES]
    return places


def _missing(group: str, name: str, folder: Path | None) -> str:
    called, inside, *_ = _FOLDERS[group]
    repo, part = ON_THE_HUB[group][-1 if group == "trajectory_adapter" or folder is None else 0]
    if folder is None:
        remedy = "name a folder that holds the checkpoints as the model"
        return f"{repo} no longer holds {called} as {PurePosixPath(part, name)}: {remedy}"
    lacks = "has no settings.json, and as a folder of published checkpoints it lacks"
    remedy = f"download {part or 'all'} of {repo} to {folder / inside}"
    return f"{folder} {lacks} {name} of {called}: {remedy}"


def find_voice(folder: Path | None = None, voice: str = "aniportrait") -> dict[str, Path]:
    """Files of the speech networks by part, if a face's `voice` asks for them: in a model folder,
    beside it, in weights/aniportrait, or in the hub's cache; nothing is downloaded. InputError:
    "aniportrait" is asked for and a file is missing."""
    if voice == "preset":
        return {}
    own = weights_folder("aniportrait")
    places: Places = [(own, "")]
    if folder:
        beside = [(folder.resolve().parent, inside) for inside in _FOLDERS["voice"][1:]]
        places = [*_places("voice", folder), *beside, *places]
    on_the_hub = ON_THE_HUB["voice"]
    paths = {part: _first(places, [name], _on_disk) or _first(on_the_hub, [name], cached)
             for part, name in VOICE_FILES.items()}  # fmt: skip
    missing = " ".join(VOICE_FILES[part] for part, path in paths.items() if path is None)
    if missing and voice == "aniportrait":
        place = folder / "ckpts/aniportrait" if folder else own
        remedy = f"run `hf download {ANIPORTRAIT} {missing}`, or put it into {place}"
        raise InputError(f"AniPortrait's networks lack {missing}: {remedy}")
    return {} if missing else paths


def _weight_names(part: str, dtype: torch.dtype) -> list[str]:
    """Names a part's weights may have: safetensors before pickles, the fitting precision first."""
    stems = ("model", "pytorch_model") if part == "image_encoder" else ("diffusion_pytorch_model",)
    variants = ("", ".fp16") if dtype == torch.float32 else (".fp16", "")
    kinds = ((stems[0], "safetensors"), (stems[-1], "bin"))
    return [f"{stem}{variant}.{ending}" for stem, ending in kinds for variant in variants]


def _first(places: Places, names: Sequence[str], look: Callable[..., Path | None]) -> Path | None:
    """What the first of the places has by the best of the names."""
    paths = (look(p, str(PurePosixPath(inside, name))) for name in names for p, inside in places)
    return next((path for path in paths if path is not None), None)


def _download(places: Places, names: Sequence[str], get: Callable[..., str] | None) -> Path | None:
    refusal, look = None, functools.partial(downloaded, get=get)
    for place in places:
        try:
            if path := _first([place], names, look):
                return path
        except Refused as error:
            refusal = refusal or error
    if refusal:
        raise refusal
    return None


def _on_disk(base: Path, name: str) -> Path | None:
    path = base / name
    return path if path.is_file() else None


def cached(repo: str, name: str) -> Path | None:
    """The file if a former download left it in the hub's cache; no network is used."""
    path = huggingface_hub.try_to_load_from_cache(repo, name)
    return Path(path) if isinstance(path, str) else None


class Refused(InputError):
    """One repository is gated, private or gone, or takes no token, while the hub itself answers."""


def downloaded(repo: str, name: str, get: Callable[..., str] | None = None) -> Path | None:
    """The file, downloaded (or had by `get`) if the cache lacks it; None if the repository has no
    such file. InputError: it refuses (`Refused`), cannot be reached, or the file cannot be kept."""
    try:
        return Path((get or huggingface_hub.hf_hub_download)(repo, name))
    except errors.LocalEntryNotFoundError as error:  # neither in the cache nor to be had
        cause = error.__cause__ or error
    except errors.EntryNotFoundError:
        return None
    except Exception as error:
        expected = isinstance(error, OSError | RuntimeError)  # the latter: hf_xet's
        if not (expected or type(error).__module__.split(".")[0] in _CLIENTS):
            raise  # a mistake here
        cause = error
    raise _refusal(repo, cause) from cause


def _refusal(repo: str, error: BaseException) -> InputError:
    """Why a repository gives nothing, or nothing can be had or kept, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = f"HTTP {status}" if status else type(error).__name__
    log_in, why = "log in with `hf auth login`", f"the hub refuses {repo} ({reason}): check access"
    instead = "or name a folder that holds the checkpoints as the model"
    if isinstance(error, errors.GatedRepoError):
        access = "wait until your account has access (the present token has none)"
        access = access if huggingface_hub.get_token() else f"{log_in} (or set HF_TOKEN)"
        why = f"{repo} is gated: accept its terms at {constants.ENDPOINT}/{repo} and {access}"
    elif isinstance(error, errors.RepositoryNotFoundError):
        why = f"the hub shows no {repo} (private, or removed): {log_in}"
    elif status == 401:
        why = f"the hub does not accept the stored token ({reason}): {log_in} again"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404, 410, 451):
        return Refused(f"{why}, {instead}")
    if constants.HF_HUB_OFFLINE:
        why = "not in the hub's cache, and HF_HUB_OFFLINE forbids downloads"
        return InputError(f"{repo} is {why}: unset it, {instead}")
    code, full = getattr(error, "errno", None), (errno.ENOSPC, errno.EDQUOT)
    if code in (*full, errno.EACCES, errno.EPERM, errno.EROFS):
        state = "is full" if code in full else "cannot be written"
        return InputError(f"the hub's cache at {constants.HF_HUB_CACHE} {state}: {_ROOM}")
    remedy = f"check the connection and try again (finished files are kept), {instead}"
    return InputError(f"the model hub could not be reached for {repo} ({reason}): {remedy}")
