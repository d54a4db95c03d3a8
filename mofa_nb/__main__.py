"""Command line: `python -m mofa_nb animate IMAGE [MOTION.json] [--face FILE]`.

Every input is looked at before a model is loaded; only what a driving video shows after its
first two frames (no face, a cut) turns out later. Wrong input: one sentence on stderr and exit
code 2. Ctrl-C, or a request to end: exit code 130 and nothing half-written.
"""

import argparse
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from mofa_nb.checks import InputError, as_number, clip_size, number_between, shown, whole_number
from mofa_nb.commands import add_commands
from mofa_nb.config import S2DConfig, Settings
from mofa_nb.paths import output_folder_for, weights_folder
from mofa_nb.pipeline.settings import ClipSettings, older_options, options

WRONG_INPUT, INTERRUPTED = 2, 130
_MODELS = ("mini", "release")
OWN = "the model's"
STRENGTHS = ("pose", "mouth", "eyes", "brows")


class _Parser(argparse.ArgumentParser):
    """argparse, but a wrong argument is one sentence like any other wrong input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 done, 2 wrong input, 130 interrupted)."""
    for name in ("stdout", "stderr"):  # where there is none, what is said is lost and nothing else
        if getattr(sys, name) is None or getattr(sys, name).closed:
            setattr(sys, name, open(os.devnull, "w"))
    try:
        arguments = _parser().parse_args(argv)
        return arguments.run(arguments)
    except InputError as error:
        _say(f"mofa_nb: {' '.join(str(error).split())}")
        return WRONG_INPUT
    except KeyboardInterrupt:
        _say("mofa_nb: interrupted, nothing was written")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m mofa_nb", description="Animate one still image.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = _Parser(add_help=False)
    _add_options(shared.add_argument)
    for name, about in (
        ("animate", "make a clip from an image and what moves it"),
        ("sweep", "make one for each combination of settings like --seed 1,2"),
    ):
        command = commands.add_parser(name, help=about, parents=[shared])
        command.add_argument("image", metavar="IMAGE", help="any photograph")
        about = "a motion file (see the README), or tracks of another tool"
        command.add_argument("motion", metavar="MOTION.json", nargs="?", help=about)
        command.set_defaults(run=run_animate if name == "animate" else run_sweep)
    add_commands(commands, shared, _checked, _animate, _say)
    return parser


def _add_options(add: Callable) -> None:
    """All that says how an image is animated."""
    add("--face", metavar="FILE", help="video, sound or landmarks (.npy) that the face follows")
    add("--voice", metavar="WAY", help="what a sound moves it by: preset, aniportrait or auto")
    add("--face-from", metavar="S", help="seconds of the face's file that are left out")
    add("--face-to", metavar="S", help="second of the face's file where the part to follow ends")
    add("--face-fps", metavar="N", help="rows per second of landmarks (default: one per frame)")
    add("--sound", metavar="FILE", help="the sound that belongs to landmarks")
    for name in STRENGTHS:
        what = f"share of the driving {name} motion, 0 to 2 (default: 1)"
        add(f"--{name}-strength", metavar="X", help=what)
    about = "which face of the picture, counted from 0, the largest (default: 0)"
    add("--choose", metavar="N", help=about)
    add("--mask", metavar="PNG", help="where the face's motion counts, tracks have the rest")
    add("--select", metavar="X,Y", action="append", help="a pixel of a thing to brush; repeatable")
    add("--select-not", metavar="X,Y", action="append", help="a pixel that is not of it")
    add("--select-with", metavar="DIR", help="folder of SAM 2's weights (default: GrabCut)")
    add(
        "--after",
        metavar="MODE",
        help="tracks in a longer clip: stop, continue, ease, loop or stretch",
    )
    add("--loop", action="store_true", help="end where it began, as a GIF and a WebP, too")
    add("--camera", metavar="MOVES", help='moves of the camera like "zoom_in 0.2, pan_left 0.1"')
    add("--flow", metavar="FILE", help="dense flow (.npz, .npy, .flo) instead of what tracks make")
    add("--model", default="mini", help="mini, release, or a model folder (default: mini)")
    add("--out", metavar="DIR", help="folder for the files (default: outputs/<name>, a new one)")
    add("--overwrite", action="store_true", help="replace the clip that the folder holds")
    for option, rule in options().items():
        about = f"{rule.metadata['about']} (default: {rule.metadata.get('usual', OWN)})"
        letter = rule.metadata.get("letter", "X")
        add(option, *older_options(rule.name), dest=rule.name, metavar=letter, help=about)
    add("--seconds", metavar="N", help="length of the clip, instead of --frames")
    add("--size", metavar="WIDTHxHEIGHT", help="of the clip, pixels (default: fits the image)")
    add("--device", metavar="D", help="cpu, cuda, cuda:1 or mps (default: the best there is)")


def run_animate(arguments: argparse.Namespace) -> int:
    """`animate`: check, make the clip, write its files."""
    image, motion, model, settings = _checked(arguments)
    moved_by = arguments.motion or arguments.face
    if motion.is_empty and arguments.flow is None:
        _say("mofa_nb: the motion is empty, so the clip runs free")

    from mofa_nb.pipeline.outputs import free_folder, new_folder, write_files

    folder = Path(arguments.out or output_folder_for(arguments.image, moved_by))
    if not arguments.out and not arguments.overwrite:
        folder = free_folder(folder)
    with new_folder(folder, overwrite=arguments.overwrite) as partial:
        clip = _animate(image, motion, model=model, settings=settings, name=arguments.image)
        for note in clip.notes:
            if note not in arguments.said:
                _say(f"mofa_nb: {note}")
        write_files(clip, partial, called=folder)
    _say(f"{clip.title}: {folder / 'clip.mp4'}", sys.stdout)
    return 0


def run_sweep(arguments: argparse.Namespace) -> int:
    """`sweep`: a clip for each combination of the settings of which several values came."""
    from tqdm import tqdm

    from mofa_nb.sweep import sweep

    texts = {name: getattr(arguments, name) for name in (*_setting_options(), "size")}
    swept = {name: text.split(",") for name, text in texts.items() if text and "," in text}
    if not (arguments.out and swept):
        raise InputError(
            "a sweep needs several values of a setting, like --seed 1,2, and --out DIR"
        )
    first = argparse.Namespace(**vars(arguments) | {name: v[0] for name, v in swept.items()})
    image, motion, model, settings = _checked(first)
    for name, values in swept.items():
        each = [_settings(argparse.Namespace(**vars(first) | {name: text})) for text in values]
        for one in each:
            _check_settings(one, motion.face is not None, model)
        settings[name] = [one[name] for one in each]
    count = math.prod(map(len, swept.values()))
    with _plain_memory(), tqdm(total=count, unit="clip", disable=sys.stderr is None) as bar:
        made = sweep(
            image, motion, model=model, out=arguments.out, overwrite=arguments.overwrite,
            done=bar.update, **settings,
        )  # fmt: skip
    _say(f"{len(made.clips)} clips: {Path(arguments.out) / 'sweep.png'}", sys.stdout)
    return 0


def _checked(arguments: argparse.Namespace) -> tuple[Any, Any, str, dict[str, Any]]:
    """Image, motion, model and settings as the options say, all looked at."""
    settings, model = _settings(arguments), _model(arguments.model)
    image, motion = _inputs(arguments, model, settings)
    return image, motion, model, settings


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The given settings by `animate`'s argument names; what was not given is left out.

    Their ranges depend on model and motion: see `_check_settings`.
    """
    given = {name: getattr(arguments, name) for name in _setting_options()}
    settings: dict[str, Any] = {n: as_number(text) for n, text in given.items() if text is not None}
    others = {"size": _size, "device": _device}
    texts = {name: getattr(arguments, name) for name in others}
    return settings | {n: others[n](text) for n, text in texts.items() if text is not None}


def _setting_options() -> dict[str, str]:
    """The option of each setting that has one."""
    return {rule.name: option for option, rule in options().items()} | {"seconds": "--seconds"}


def _between(text: str, option: str, low: float, high: float) -> float:
    return number_between(as_number(text), low, high, option)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)[xX×](\d+)", text.strip())
    if match is None:
        raise InputError(f"--size must be WIDTHxHEIGHT like 192x128, but {shown(text)} came")
    return clip_size([int(match[1]), int(match[2])], "--size")


def _pixels(texts: Sequence[str] | None) -> list[tuple[float, float]]:
    found = [re.fullmatch(r"(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)", t.strip()) for t in texts or ()]
    if None in found:
        wrong = shown((texts or [])[found.index(None)])
        raise InputError(f"a click must be X,Y in pixels of the image, but {wrong} came")
    return [(float(match[1]), float(match[2])) for match in found if match]


def _device(text: str) -> str:
    if re.fullmatch(r"cpu|mps|cuda(:\d+)?", text) is None:
        raise InputError(f"--device must be cpu, cuda, cuda:1 or mps, but {shown(text)} came")
    return text


def _model(name: str) -> str:
    folder = _model_folder(name)
    if name == "release" or folder.is_dir():
        return name
    if name in _MODELS:
        raise InputError(
            f"the {name} model is not at {folder}: run from the repository, or set MOFA_NB_ROOT"
        )
    raise InputError(
        f"there is no model {shown(name)}: choose mini, release, or an existing model folder"
    )


def _inputs(arguments: argparse.Namespace, model: str, settings: dict[str, Any]) -> tuple[Any, Any]:
    """The image and its motion, with everything that the options say of a face."""
    from dataclasses import replace

    from mofa_nb.media.images import read_image
    from mofa_nb.motion.brush import read_painted, resize_nearest
    from mofa_nb.motion.face import driving_file
    from mofa_nb.motion.formats import read_motion
    from mofa_nb.motion.motion import Motion

    if arguments.face is None and not (arguments.motion or arguments.camera or arguments.flow):
        raise InputError("nothing says how to move the image: give a MOTION.json or --face FILE")
    image, motion = read_image(arguments.image), None
    if arguments.motion is not None:
        motion, notes = read_motion(arguments.motion, (image.shape[1], image.shape[0]))
        for note in notes:
            _say(f"mofa_nb: {note}")
    has_face = arguments.face is not None or (motion is not None and motion.face is not None)
    _check_settings(settings, has_face, model)
    motion = motion or Motion((image.shape[1], image.shape[0]))
    motion = _with_face(motion, arguments)
    if arguments.mask is not None:
        motion = motion.with_mask(resize_nearest(read_painted(arguments.mask, "mask"), motion.size))
    if arguments.select or arguments.select_not:
        from mofa_nb.motion.select import brush_thing

        clicks = map(_pixels, (arguments.select, arguments.select_not))
        motion = brush_thing(motion, image, *clicks, by=arguments.select_with or "grabcut")
    if arguments.after is not None:
        motion = replace(motion, after=arguments.after)
    if arguments.loop:
        motion = replace(motion, after="close")
    if arguments.camera is not None:
        motion = replace(motion, camera=arguments.camera)
    arguments.said = _said_before(image, motion, model, settings)
    if motion.face is not None and motion.face.source is not None:
        driving_file(motion.face.source)
    grid = _hint_grid(model)

    from mofa_nb.faces.drive import check_source  # from here on torch is imported
    from mofa_nb.flow.files import read_flow
    from mofa_nb.flow.sparse import check_count

    if grid is not None:
        check_count(len(motion.tracks) + len(motion.pins), (grid, grid))
    if arguments.flow is not None:
        read_flow(arguments.flow)
        settings["flow"] = arguments.flow
    if motion.face is not None:
        voice, networks = motion.face.voice, {}
        if voice != "preset":
            from mofa_nb.models.checkpoints import find_voice

            networks = find_voice(None if model == "release" else _model_folder(model), voice)
        check_source(image, motion.face, by_networks=bool(networks))
    elif motion.mask is not None:
        raise InputError("a mask or a setting of a face came, but no face: add --face FILE")
    return image, motion


def _check_settings(settings: dict[str, Any], has_face: bool, model: str) -> None:
    """Refuse settings out of range, and those of a face where there is none."""
    names = _setting_options()
    given = {name: value for name, value in settings.items() if name in names}
    of_faces = {rule.name for rule in options().values() if rule.metadata.get("face")}
    stray = not has_face and bool(of_faces & set(given))
    own, called = _model_settings(model), lambda name: names.get(name, name)
    checked = ClipSettings.of(own, has_face or stray, given, called)
    if stray:
        raise InputError("a mask or a setting of a face came, but no face: add --face FILE")
    settings |= {name: getattr(checked, name) for name in given if name != "seconds"}


def _said_before(image: Any, motion: Any, model: str, settings: dict[str, Any]) -> tuple[str, ...]:
    """Tell of an extreme shape, and of a clip that takes long, before anything heavy begins."""
    from mofa_nb.motion.fit import plan_fit
    from mofa_nb.motion.rates import long_note, own_rate

    own, face = _model_settings(model), motion.face is not None
    side = own.face_short_side or own.short_side if face else own.short_side
    size = {"size": settings["size"]} if settings.get("size") else {"short_side": side}
    fit = plan_fit((image.shape[1], image.shape[0]), 32, **size)
    fps = settings.get("fps", own_rate(own.fps, face))
    frames = settings.get("num_frames") or settings.get("seconds", 0) * fps or own.num_frames
    usual = side, own.num_frames, own.steps
    notes = [note for note in fit.notes if "times as" in note]
    long = long_note(fit.size, frames, settings.get("steps", own.steps), usual)
    for note in filter(None, (*notes, long)):
        _say(f"mofa_nb: {note}")
    return tuple(notes)


def _with_face(motion: Any, arguments: argparse.Namespace) -> Any:
    """The motion with the face, the choice and the strengths that were asked for."""
    from dataclasses import replace

    from mofa_nb.motion.face import LATEST

    texts = {name: getattr(arguments, f"{name}_strength") for name in STRENGTHS}
    given = {
        name: _between(text, f"--{name}-strength", 0, 2)
        for name, text in texts.items()
        if text is not None
    }
    if arguments.face is not None:
        motion = motion.with_face(arguments.face)
    chosen = {}
    if arguments.choose is not None:
        chosen["choose"] = whole_number(as_number(arguments.choose), 0, 1000, "--choose")
    options = {"fps": "face_fps", "begin": "face_from", "end": "face_to"}
    for name, option in options.items():
        if (text := getattr(arguments, option)) is not None:
            low, high = (1, 1000) if name == "fps" else (0, LATEST)
            chosen[name] = _between(text, f"--{option.replace('_', '-')}", low, high)
    chosen |= {k: getattr(arguments, k) for k in ("voice", "sound") if getattr(arguments, k)}
    if not given and not chosen:
        return motion
    if motion.face is None:
        name = next(iter(chosen), "")
        what = "a strength" if given else f"--{options.get(name, name).replace('_', '-')}"
        raise InputError(f"{what} was given, but no face follows anything: add --face FILE")
    strengths = replace(motion.face.strengths, **given)
    return motion.with_face(replace(motion.face, strengths=strengths, **chosen))


def _hint_grid(model: str) -> int | None:
    """Side of the model's hint grid, if its folder tells without being loaded."""
    config = _model_folder(model) / "s2d" / "config.json"
    try:
        return S2DConfig.load(config).grid if config.is_file() else None
    except (OSError, ValueError, TypeError):
        return None  # a broken folder is reported in full when it is loaded


def _model_settings(model: str) -> Settings:
    """The model's settings, if its folder tells without being loaded; else the release's."""
    file = _model_folder(model) / "settings.json"
    try:
        return Settings.load(file) if file.is_file() else Settings()
    except (OSError, ValueError, TypeError):
        return Settings()


def _model_folder(model: str) -> Path:
    return weights_folder(model) if model in _MODELS else Path(model)


def _animate(image: Any, motion: Any, *, model: Any, settings: dict[str, Any], name: str) -> Any:
    from tqdm import tqdm

    from mofa_nb.animate import animate

    bars: dict[str, tqdm] = {}

    def progress(stage: str, done: int, total: int) -> None:
        """Draw one bar per stage."""
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(
                total=total, desc=f"{stage:<10}", unit="", disable=sys.stderr is None
            )
        bars[stage].total = total
        bars[stage].update(done - bars[stage].n)

    try:
        with _plain_memory():
            clip = animate(image, motion, model=model, progress=progress, **settings)
    finally:
        for bar in bars.values():
            bar.close()
    return _named(clip, name)


@contextmanager
def _plain_memory() -> Iterator[None]:
    """Too little memory in one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error):
            raise InputError(
                "there is not enough memory for this clip: ask for fewer --frames, a smaller"
                " --size, or another --device"
            ) from error
        raise


def _named(clip: Any, image_path: str) -> Any:
    from dataclasses import replace

    return clip if clip.image_name else replace(clip, image_name=Path(image_path).name)


def _say(sentence: str, stream: TextIO | None = None) -> None:
    """Write a line to stderr, or another stream; one that is closed or full fails nothing."""
    stream = stream or sys.stderr
    try:
        known = stream.encoding or "utf-8"
        stream.write(sentence.encode(known, "backslashreplace").decode(known) + "\n")
        stream.flush()
    except OSError:  # full or broken; what is left in it must not fail at the end either
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    sys.exit(main())
