"""What each command of the command line does with its parsed arguments. Inputs are looked at before
a model is loaded, and before torch is imported where that is possible."""

import math
import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tqdm import tqdm

from mofa_nb.checks import LARGEST_CLIP, InputError, as_number, image_size, numbers, refusing, shown
from mofa_nb.config import S2DConfig, Settings
from mofa_nb.media.images import Picture, read_image
from mofa_nb.media.video import frame_rate
from mofa_nb.motion import Motion, brush_thing, read_motion, save_motion
from mofa_nb.motion.brush import read_painted, resize_brush
from mofa_nb.motion.face import FaceSource, driving_file
from mofa_nb.motion.fit import plan_fit
from mofa_nb.motion.rates import long_note, own_rate
from mofa_nb.paths import check_parts, model_folder, output_folder_for
from mofa_nb.pipeline.settings import OPTIONS, ClipSettings

STRENGTHS = ("pose", "mouth", "eyes", "brows")
FACE = {"choose": "choose", "face_fps": "fps", "face_from": "begin", "face_to": "end"}
SETTINGS = {rule.name: option for option, rule in OPTIONS.items()} | {"seconds": "--seconds"}
NO_FACE = "a mask or a setting of a face came, but no face: add --face FILE"


class Asked(NamedTuple):
    """What arguments ask for, all of it looked at; notes have been said."""

    image: Picture
    motion: Motion
    session: Any  # of the model, which is loaded at its first use
    settings: dict[str, Any]
    notes: tuple[str, ...]


def animate(given: Namespace) -> None:
    """Check, make the clip, write its files."""
    asked = checked(given)
    if asked.motion.is_empty and given.flow is None:
        note("the motion is empty, so the clip runs free")

    from mofa_nb.pipeline.outputs import free_folder, new_folder, write_files

    moved_by = given.motion or next(iter(_faces(given)), given.flow) or "camera"
    folder = Path(given.out or output_folder_for(given.image, moved_by))
    if not given.out and not given.overwrite:
        folder = free_folder(folder)
    with new_folder(folder, overwrite=given.overwrite) as partial:
        clip = _clip(asked, given.image)
        for sentence in clip.notes:
            if sentence not in asked.notes:
                note(sentence)
        write_files(clip, partial, called=folder)
    say(f"{clip.title}: {folder / 'clip.mp4'}", sys.stdout)


def sweep(given: Namespace) -> None:
    """A clip for each combination of the settings of which several values came."""
    texts = {name: getattr(given, name) for name in (*SETTINGS, "size")}
    swept = {name: text.split(",") for name, text in texts.items() if text and "," in text}
    if not (given.out and swept):
        what = "several values of a setting, like --seed 1,2, and --out DIR"
        raise InputError(f"a sweep needs {what}")
    first = Namespace(**vars(given) | {name: values[0] for name, values in swept.items()})
    asked = checked(first)
    has_face = asked.motion.face is not None
    for name, texts in swept.items():
        each = (Namespace(**vars(first) | {name: text}) for text in texts)
        asked.settings[name] = [_settings(one, has_face)[name] for one in each]

    from mofa_nb.sweep import sweep as swept_clips

    count = math.prod(map(len, swept.values()))
    how = {"model": asked.session, "out": given.out, "overwrite": given.overwrite}
    with tqdm(total=count, unit="clip", disable=sys.stderr is None) as bar:
        swept_clips(asked.image, asked.motion, done=bar.update, **how, **asked.settings)
    say(f"{count} clips: {Path(given.out) / 'sweep.png'}", sys.stdout)


def convert(given: Namespace) -> None:
    """One track file into another, at the picture's size if there is one."""
    size = given.image and read_image(given.image).shape[1::-1]
    motion, notes = read_motion(given.source, size)
    _write_motion(motion.resized(size) if size else motion, notes, given.target)


def tracks(given: Namespace) -> None:
    """What moves in a film, as a motion file."""
    frame_rate(given.film)  # InputError: it is no film

    from mofa_nb.flow.film import film_motion

    how = {"at": given.at, "camera": given.camera, "method": given.method}
    motion, notes = film_motion(given.film, given.points, num_frames=given.frames, **how)
    _write_motion(motion, notes, given.out)


def batch(given: Namespace) -> int:
    """Jobs with the settings of the line, where they do not name their own; 1 if all failed."""
    from mofa_nb.batch import own_share, read_jobs, run_jobs

    if not given.out:
        raise InputError("a batch needs a folder for its clips: give --out DIR")
    defaults = {"image": None, "motion": None} | vars(given)
    own = ("command", "jobs", "out", "overwrite")
    line = {name: value for name, value in defaults.items() if value and name not in own}
    if faces := _faces(given):
        if faces[1:]:
            raise InputError("a batch takes one --face: several are written in motion files")
        line["face"] = faces[0]
    jobs = [line | job for job in read_jobs(given.jobs)]
    unknown = sorted({name for job in jobs for name in job} - set(defaults) - {"error"})
    if unknown:
        raise InputError(f"a job has no {shown(unknown[0])}: use image, motion or an option's name")
    own_jobs, device = own_share(jobs)
    defaults["device"] = given.device or device
    sessions: dict[str, Any] = {}

    @enough_memory()
    def make(job: dict) -> Any:
        job = job | {"loop": str(job.get("loop")).lower() in ("true", "1", "yes", "on")}
        asked = checked(Namespace(**defaults | job))
        session = sessions.setdefault(str(asked.session), asked.session)
        return _clip(asked._replace(session=session), job["image"])

    with tqdm(own_jobs, unit="clip", disable=sys.stderr is None) as bar:
        failed = run_jobs(bar, given.out, make, overwrite=given.overwrite)
    for job, reason in failed:
        note(f"{job['image']}: {reason}")
    say(f"{len(own_jobs) - len(failed)} of {len(own_jobs)} clips: {given.out}", sys.stdout)
    return int(len(failed) == len(jobs))


def check(given: Namespace) -> None:
    folder, device = model_folder(given.model), _device(given.device)  # InputError: there is none
    parts = {"base": given.base, "few_step": given.few_step}
    check_parts(folder, **parts)

    from mofa_nb.check import check as tried

    tried(given.model, device, Path(given.out), say, given.short, **parts)


def checked(given: Namespace) -> Asked:
    folder, device = model_folder(given.model), _device(given.device)
    parts = {n: getattr(given, n) for n in ("base", "few_step") if getattr(given, n)}
    check_parts(folder, given.base, given.few_step)
    if given.face is None and not (given.motion or given.camera or given.flow):
        raise InputError("nothing says how to move the image: give a MOTION.json or --face FILE")
    image = read_image(given.image)
    motion, notes = Motion(image.shape[1::-1]), ()
    if given.motion is not None:
        motion, notes = read_motion(given.motion, motion.size)
    settings = _settings(given, given.face is not None or motion.face is not None)
    motion = _with_options(motion, image, given)
    if motion.face is None and motion.mask is not None:
        raise InputError(NO_FACE)
    notes = (*notes, *_notes_before(image, motion, given.model, settings))
    for sentence in notes:
        note(sentence)
    for face in motion.faces:
        if face.source is not None:
            driving_file(face.source)

    from mofa_nb.faces.drive import check_source  # from here on torch is imported
    from mofa_nb.flow.files import read_flow
    from mofa_nb.flow.sparse import check_count
    from mofa_nb.models.checkpoints import find_voice
    from mofa_nb.pipeline.session import Session

    if folder and (sizes := folder / "s2d/config.json").is_file():
        check_count(len(motion.tracks) + len(motion.pins), (S2DConfig.load(sizes).grid,) * 2)
    if given.flow is not None:
        read_flow(given.flow)
        settings["flow"] = given.flow
    for face in motion.faces:
        check_source(image, face, by_networks=bool(find_voice(folder, face.voice)))
    return Asked(image, motion, Session(given.model, device, **parts), settings, notes)


def _faces(given: Namespace) -> list[str]:
    return [given.face] if isinstance(given.face, str) else given.face or []


def _with_options(motion: Motion, image: Picture, given: Namespace) -> Motion:
    """The motion with everything that the arguments say of faces, mask, brush, end and camera."""
    files = _faces(given)
    motion = motion.with_face(files[0]) if files else motion
    values = {name: value for name, value in vars(given).items() if value is not None}
    said = {field: as_number(values[name]) for name, field in FACE.items() if name in values}
    said |= {name: values[name] for name in ("voice", "sound") if name in values}
    strong = {n: as_number(values[f"{n}_strength"]) for n in STRENGTHS if f"{n}_strength" in values}
    if said or strong:
        if motion.face is None:
            named = (*FACE, "voice", "sound", *(f"{name}_strength" for name in STRENGTHS))
            option = next(name for name in named if name in values).replace("_", "-")
            raise InputError(f"--{option} was given, but no face follows anything: add --face FILE")
        strengths = replace(motion.face.strengths, **strong)
        motion = motion.with_face(replace(motion.face, strengths=strengths, **said))
    if files[1:]:
        free = [number for number in range(len(files)) if number != motion.face.choose]
        others = [FaceSource(file, choose=n) for n, file in zip(free, files[1:], strict=False)]
        motion = replace(motion, others=others)
    if given.mask is not None:
        motion = motion.with_mask(resize_brush(read_painted(given.mask, "mask"), motion.size))
    if given.select or given.select_not:
        clicks = map(_pixels, (given.select, given.select_not))
        motion = brush_thing(motion, image, *clicks, by=given.select_with or "grabcut")
    after = "close" if given.loop else given.after
    return replace(motion, after=after or motion.after, camera=given.camera or motion.camera)


def _settings(given: Namespace, has_face: bool) -> dict[str, Any]:
    texts = {name: getattr(given, name) for name in SETTINGS}
    settings = {name: as_number(text) for name, text in texts.items() if text is not None}
    of_faces = {rule.name for rule in OPTIONS.values() if rule.metadata.get("face")}
    if not has_face and of_faces & set(settings):
        raise InputError(NO_FACE)
    own = _model_settings(given.model)
    used = ClipSettings.of(own, has_face, settings, lambda name: SETTINGS.get(name, name))
    settings |= {name: getattr(used, name) for name in settings if name != "seconds"}
    if given.size is not None:
        size = [as_number(side) for side in re.split("[xX×]", given.size)]
        settings["size"] = image_size(size, "--size (WIDTHxHEIGHT)", LARGEST_CLIP)
    return settings


def _device(text: str | None) -> str | None:
    if text and re.fullmatch(r"cpu|mps|cuda(:\d+)?", text) is None:
        raise InputError(f"--device must be cpu, cuda, cuda:1 or mps, but {shown(text)} came")
    return text


def _pixels(texts: Sequence[str] | str | None) -> list[tuple[float, ...]]:
    text = texts if isinstance(texts, str) else " ".join(texts or ())  # a list of jobs has one
    clicks = ([as_number(side) for side in click.split(",")] for click in text.split())
    return [numbers(click, 2, "a click (X,Y in pixels)", low=0) for click in clicks]


def points(text: str) -> Any:
    """A number of points, or places: "10,20 30,40"."""
    import numpy as np

    if "," not in text:
        return int(text)
    return np.array([pair.split(",") for pair in text.split()], np.float64).reshape(-1, 2)


def _notes_before(image: Picture, motion: Motion, model: str, settings: dict) -> list[str]:
    """What is said of an extreme shape, and of a clip that takes long, before it begins."""
    own, face = _model_settings(model), motion.face is not None
    side = own.face_short_side or own.short_side if face else own.short_side
    fit = plan_fit(image.shape[1::-1], 32, short_side=side, size=settings.get("size"))
    fps = settings.get("fps", own_rate(own.fps, face))
    frames = settings.get("num_frames") or settings.get("seconds", 0) * fps or own.num_frames
    usual = side, own.num_frames, own.steps
    long = long_note(fit.size, frames, settings.get("steps", own.steps), usual)
    return [sentence for sentence in fit.notes if "times as" in sentence] + [long] * bool(long)


def _model_settings(model: str) -> Settings:
    """The model's settings, if its folder tells without being loaded; else the release's."""
    file = folder / "settings.json" if (folder := model_folder(model)) else None
    return Settings.load(file) if file and file.is_file() else Settings()


def _clip(asked: Asked, image: str) -> Any:
    """The clip, named after its `image`, with a bar of progress for each stage."""
    from mofa_nb.animate import animate

    bars, showing = {}, ExitStack()

    def progress(stage: str, done: int, total: int) -> None:
        name, *_ = stage.split()  # "load unet" goes on where "load vae" ended
        if name not in bars:
            showing.close()
            bar = tqdm(None, total=total, unit="", disable=sys.stderr is None)
            bars[name] = showing.enter_context(bar)
        bars[name].set_description(f"{stage:<10}", refresh=False)
        bars[name].update(done - bars[name].n)

    how = {"model": asked.session, "progress": progress} | asked.settings
    with showing:
        clip = animate(asked.image, asked.motion, **how)
    return replace(clip, image_name=Path(image).name)


@contextmanager
def enough_memory() -> Iterator[None]:
    """One sentence where a clip does not fit into memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or re.search("out of memory|allocate memory", str(error)):
            remedy = "ask for fewer --frames, a smaller --size, or another --device"
            raise InputError(f"there is not enough memory for this clip: {remedy}") from error
        raise


def _write_motion(motion: Motion, notes: Sequence[str], target: str) -> None:
    with refusing(f"{target} cannot be written", "choose another", OSError):
        notes = (*notes, *save_motion(motion, target))
    for sentence in notes:
        note(sentence)
    say(f"{len(motion.tracks)} tracks, {len(motion.pins)} pins: {target}", sys.stdout)


def note(sentence: str) -> None:
    say(f"mofa_nb: {sentence}")


def say(sentence: str, stream: TextIO | None = None) -> None:
    """Write a line to stderr, or another stream; one that is closed or full fails nothing."""
    stream = stream or sys.stderr
    try:
        encoding = stream.encoding or "utf-8"
        stream.write(sentence.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except OSError:  # full or broken; what is left in it must not fail at the end either
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
