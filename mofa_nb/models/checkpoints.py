"""Where the published checkpoints lie: in repositories on the hub, or in a downloaded folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mofa_nb.checks import InputError
from mofa_nb.config import AdapterConfig, S2DConfig
from mofa_nb.models import hub
from mofa_nb.models.parts import ADAPTER_PARTS
from mofa_nb.paths import weights_folder

SVD = "stabilityai/stable-video-diffusion-img2vid-xt-1-1"
TRAJECTORY = "MyNiuuu/MOFA-Video-Traj"
HYBRID = "MyNiuuu/MOFA-Video-Hybrid"
STOCK_PARTS = ("unet", "vae", "image_encoder")
ANIPORTRAIT = "ZJYang/AniPortrait"
VOICE_FILES = {"audio2mesh": "audio2mesh.pt", "audio2pose": "audio2pose.pt"}
CMP_FILE = "ckpt_iter_42000.pth.tar"
CMP_FOLDER = "models/cmp/experiments/semiauto_annot/resnet50_vip+mpii_liteflow/checkpoints"
_SVD_FOLDER = "stable-video-diffusion-img2vid-xt-1-1"

# The published adapters always compute with these sizes, whatever the config.json beside them
# says: the class that wrote it never passed its own arguments on. The stored head counts would
# load without complaint and be silently wrong.
SIZES: dict[str, AdapterConfig | S2DConfig] = {
    "adapter": AdapterConfig(),
    "landmark_adapter": AdapterConfig(landmark_channels=(16, 32, 64, 128)),
    "s2d": S2DConfig(),
}

# What is published together: (repository, folder in it), best first.
ON_THE_HUB = {
    "svd": ((SVD, ""), (HYBRID, f"ckpts/mofa/{_SVD_FOLDER}")),
    "adapter": ((TRAJECTORY, "controlnet"), (TRAJECTORY, "ckpts/controlnet")),
    "landmark_adapter": ((HYBRID, "ckpts/mofa/ldmk_controlnet"),),
    "s2d": ((TRAJECTORY, CMP_FOLDER), (HYBRID, CMP_FOLDER)),
    "voice": ((ANIPORTRAIT, ""), (HYBRID, "ckpts/aniportrait")),
}
# The same in a folder: each of these below each of the bases.
_BASES = ("", "ckpts", "ckpts/mofa", "mofa")
_FOLDERS = {
    "svd": (_SVD_FOLDER, ""),
    "adapter": ("controlnet", "traj_controlnet"),
    "landmark_adapter": ("ldmk_controlnet",),
    "s2d": (CMP_FOLDER,),
    "voice": ("aniportrait", ""),
}
_CALLED = {
    "svd": "Stable Video Diffusion",
    "adapter": "the trajectory adapter",
    "landmark_adapter": "the landmark adapter",
    "s2d": "the CMP network",
}


@dataclass(frozen=True)
class Found:
    """Paths of a whole model.

    Attributes:
        weights: weight file by part.
        configs: folder with `config.json` by stock part.
        scheduler: folder with the scheduler's config.
    """

    weights: Mapping[str, Path]
    configs: Mapping[str, Path]
    scheduler: Path


# (what is published together, file names best first, must it be there) -> the first there is
Find = Callable[..., Path | None]


def find_on_hub(dtypes: Mapping[str, torch.dtype], kinds: Sequence[str] | None = None) -> Found:
    """Paths in the hub's cache; only files that are needed and not there are downloaded.

    Args:
        dtypes: number formats per part; half precision prefers files stored so.
        kinds: adapters that must be there; None: the trajectory adapter, and the landmark
            adapter if it is at hand.
    """

    def find(group: str, names: Sequence[str], needed: bool = True) -> Path | None:
        path = _first(ON_THE_HUB[group], names, hub.cached)
        if path is None and needed:
            path = _download(ON_THE_HUB[group], names)
        if path is None and needed:
            repo, inside = ON_THE_HUB[group][-1]
            raise InputError(
                f"{repo} no longer holds {_CALLED[group]} as {_join(inside, names[0])}: name a"
                " folder that holds the checkpoints as the model"
            )
        return path

    return _find_all(find, dtypes, kinds)


def find_in(
    folder: Path, dtypes: Mapping[str, torch.dtype], kinds: Sequence[str] | None = None
) -> Found:
    """Paths below a folder in one of the released layouts; the hub is left alone.

    Args:
        folder: a clone of one of the authors' repositories or of the original project, with what
            it asks to download in place; or the `ckpts` folder inside.
        dtypes, kinds: as for `find_on_hub`.
    """
    if not folder.is_dir():
        raise InputError(f"there is no model folder {folder}: check the path")

    def find(group: str, names: Sequence[str], needed: bool = True) -> Path | None:
        bases = [str(folder / base) for base in _BASES]
        places = [(base, inside) for base in bases for inside in _FOLDERS[group]]
        if group == "s2d":  # the original project keeps it beside ckpts/
            places += [(str(base), CMP_FOLDER) for base in folder.resolve().parents[:2]]
            places += [(base, "") for base in bases]
        path = _first(places, names, _on_disk)
        if path is None and needed:
            repo, inside = ON_THE_HUB[group][-1 if group == "adapter" else 0]
            raise InputError(
                f"{folder} has no settings.json, and as a folder of published checkpoints it lacks"
                f" {names[0]} of {_CALLED[group]}: download {inside or 'all'} of {repo} to"
                f" {folder / _FOLDERS[group][0]}"
            )
        return path

    return _find_all(find, dtypes, kinds)


def find_voice(folder: Path | None = None, voice: str = "aniportrait") -> dict[str, Path]:
    """Files of the speech networks by part, if a face's `voice` asks for them; else none.

    They are looked for in a model folder and beside it, in weights/aniportrait, and in the hub's
    cache; nothing is downloaded.

    Raises:
        InputError: "aniportrait" is asked for and a file is missing: what to put where.
    """
    if voice == "preset":
        return {}
    bases = [*(folder / base for base in _BASES), folder.resolve().parent] if folder else []
    places = [(str(base), inside) for base in bases for inside in _FOLDERS["voice"]]
    places.append((str(weights_folder("aniportrait")), ""))
    on_the_hub = ON_THE_HUB["voice"]
    found = {part: _first(places, [name], _on_disk) or _first(on_the_hub, [name], hub.cached)
             for part, name in VOICE_FILES.items()}  # fmt: skip
    missing = " ".join(VOICE_FILES[part] for part, path in found.items() if path is None)
    if missing and voice == "aniportrait":
        place = folder / "ckpts/aniportrait" if folder else weights_folder("aniportrait")
        raise InputError(
            f"AniPortrait's networks lack {missing}: run `hf download {ANIPORTRAIT} {missing}`, or"
            f" put what is missing into {place}"
        )
    return {} if missing else found


def _find_all(find: Find, dtypes: Mapping[str, torch.dtype], kinds: Sequence[str] | None) -> Found:
    """Every file, small ones first, so that trouble shows before gigabytes are downloaded."""
    scheduler = find("svd", ["scheduler/scheduler_config.json"]).parent
    configs = {part: find("svd", [f"{part}/config.json"]).parent for part in STOCK_PARTS}
    files = {"s2d": find("s2d", [CMP_FILE])}
    for part in (ADAPTER_PARTS[kind] for kind in (ADAPTER_PARTS if kinds is None else kinds)):
        needed = kinds is not None or part == "adapter"
        files[part] = find(part, _weight_names(part, dtypes[part]), needed)
    for part in STOCK_PARTS:
        files[part] = find("svd", [f"{part}/{n}" for n in _weight_names(part, dtypes[part])])
    return Found({part: path for part, path in files.items() if path}, configs, scheduler)


def _weight_names(part: str, dtype: torch.dtype) -> list[str]:
    """Names a part's weights may have: safetensors before pickles, the fitting precision first."""
    stems = ("model", "pytorch_model") if part == "image_encoder" else ("diffusion_pytorch_model",)
    variants = ("", ".fp16") if dtype == torch.float32 else (".fp16", "")
    kinds = ((stems[0], "safetensors"), (stems[-1], "bin"))
    return [f"{stem}{variant}.{ending}" for stem, ending in kinds for variant in variants]


def _first(
    places: Sequence[tuple[str, str]],
    names: Sequence[str],
    look: Callable[[str, str], Path | None],
) -> Path | None:
    paths = (look(base, _join(inside, name)) for name in names for base, inside in places)
    return next((path for path in paths if path is not None), None)


def _download(places: Sequence[tuple[str, str]], names: Sequence[str]) -> Path | None:
    """From the first place that has it; if none does, the first refusal tells why."""
    refusal: hub.Refused | None = None
    for place in places:
        try:
            path = _first([place], names, hub.downloaded)
        except hub.Refused as error:
            refusal = refusal or error
            continue
        if path is not None:
            return path
    if refusal is not None:
        raise refusal
    return None


def _join(inside: str, name: str) -> str:
    return f"{inside}/{name}" if inside else name


def _on_disk(base: str, name: str) -> Path | None:
    path = Path(base) / name
    return path if path.is_file() else None
