"""Whatever drives a face (a video, a voice, a landmark file, sliders) as a portrait's landmarks."""

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from mofa_nb.checks import InputError, whole_number
from mofa_nb.faces.detect import Face, find_face
from mofa_nb.faces.expression import hand_set, moved_face
from mofa_nb.faces.face_motion import FaceMotion
from mofa_nb.faces.points import check_landmarks, read_landmarks, resampled, to_68
from mofa_nb.faces.retarget import retarget
from mofa_nb.faces.speech import check_recogniser, speech_curves
from mofa_nb.faces.track import FaceTrack, check_start, track_video
from mofa_nb.faces.voice import Progress, VoiceNetworks, spoken_landmarks, voice_motion
from mofa_nb.media.container import opened
from mofa_nb.media.sound import SOUNDS, check_sound, read_sound
from mofa_nb.media.video import VIDEOS, frame_rate, read_video
from mofa_nb.motion.face import Expression, FaceSource, Strengths, driving_file
from mofa_nb.motion.rates import SLOWEST_FACE, clip_rate

FPS = SLOWEST_FACE
HAND_SET_FRAMES = 25


Source = str | os.PathLike | np.ndarray | Expression | FaceTrack


def drive_face(
    image: UInt8[np.ndarray, "H W 3"],
    source: Source,
    *,
    fps: float | int = FPS,
    num_frames: int | None = None,
    strengths: Strengths | None = None,
    choose: int = 0,
    seed: int = 0,
    networks: VoiceNetworks | None = None,
    source_fps: float | int | None = None,
    sound: str | os.PathLike | None = None,
    heard: Progress | None = None,
    begin: float | int = 0.0,
    end: float | int | None = None,
) -> FaceMotion:
    """Landmarks for animating the face in a picture.

    Args:
        source: a video or sound file, a landmark file (.npy) or array [T, 68, 2] in the picture's
            pixels (see `read_landmarks`), a tracked face, or a hand-set expression.
        fps: frames per second of the clip, 12.5 to 240; driving motion is read off at these times.
        num_frames: at most so many (for an expression: exactly, 25 by default); a video is read
            no further than this needs.
        strengths: of a driving video's or a voice's motion; the rest is taken as it is.
        choose: which face of the picture, 0 for the largest; of a driving video's faces it is
            always the largest.
        seed: of a speaking head's blinks and sway.
        networks: that move the face with a voice, instead of recognised sounds.
        source_fps: of landmarks, which are read off at `fps` then; None: one row for each frame.
        sound: that belongs to landmarks.
        heard: called with the share of a voice that the networks have heard.
        begin, end: seconds, the part of a video, of a sound or of landmarks that is followed.
    Raises:
        InputError: no usable face in the picture or the driving clip, or an unusable file.
    """
    clip_rate(fps, has_face=True)
    if num_frames is not None:
        whole_number(num_frames, 2, 100_000, "the number of frames")
    suffix = driving_file(source) if isinstance(source, (str, os.PathLike)) else ""
    if suffix == ".npy" or isinstance(source, np.ndarray):
        size = (image.shape[1], image.shape[0])
        array = read_landmarks(source, size) if suffix else check_landmarks(source, size)
        notes = _without_effect("landmarks are taken as they are", strengths, choose)
        array = array if source_fps is None else resampled(array, source_fps, fps)
        if begin or end is not None:
            part = array[round(begin * fps) : None if end is None else round(end * fps)]
            array = check_landmarks(part, size, "the landmarks of this part")
        landmarks = torch.from_numpy(array[:num_frames]).float()
        sound = None if sound is None else Path(sound)
        return FaceMotion(landmarks, float(fps), size, sound=sound, notes=notes)
    face = find_face(image, choose)
    if isinstance(source, Expression):
        points = hand_set(face.points, source, num_frames or HAND_SET_FRAMES)
        notes = _without_effect("an expression set by hand is taken as it is", strengths)
        return _motion(face, points, fps, notes=notes)
    strengths = strengths or Strengths()
    if suffix in SOUNDS and networks is not None:
        motion = voice_motion(networks, read_sound(source, begin, end).samples, progress=heard)
        marks = spoken_landmarks(face, motion, fps, strengths=strengths, seed=seed)[:num_frames]
        notes = (*face.notes, "AniPortrait's networks move the face with the voice")
        landmarks = torch.from_numpy(marks).float()
        return FaceMotion(landmarks, float(fps), face.size, face, Path(source), notes)
    if suffix in SOUNDS:
        curves = speech_curves(read_sound(source, begin, end), fps, seed=seed, strengths=strengths)
        degrees = curves.degrees[:num_frames]
        points = moved_face(face.points, curves.strengths[:num_frames], degrees)
        return _motion(face, points, fps, sound=Path(source), notes=curves.notes)
    track = (
        source if isinstance(source, FaceTrack) else _followed(source, num_frames, fps, begin, end)
    )
    pace = track.fps if track.times is None else track.times
    driving = resampled(track.points, pace, fps)[:num_frames]
    sound, lost = _sound_of(source) if suffix else (None, ())
    points = retarget(face.points, driving, strengths)
    return _motion(face, points, fps, sound=sound, notes=(*track.notes, *lost))


def check_source(
    image: UInt8[np.ndarray, "H W 3"], face: FaceSource, *, by_networks: bool = False
) -> None:
    """Find out quickly, before anything is loaded, whether a source can drive a picture's face.

    Of a video only the first two frames are read: no face at all, one that is lost, and cuts show
    when it is followed.

    Args:
        by_networks: a voice needs no recogniser.
    Raises:
        InputError: see `drive_face`.
    """
    source = face.source
    suffix = "" if source is None else driving_file(source)
    if suffix == ".npy":
        read_landmarks(source, (image.shape[1], image.shape[0]))
        if face.sound is not None:
            check_sound(face.sound)
        return
    if suffix in VIDEOS:
        check_start(read_video(source, max_frames=2, begin=face.begin))
    if (
        suffix in SOUNDS
        and not read_sound(source, face.begin, face.end).is_silent
        and not by_networks
    ):
        check_recogniser()
    find_face(image, face.choose)


def _motion(
    face: Face,
    points: np.ndarray,
    fps: float | int,
    *,
    sound: Path | None = None,
    notes: tuple[str, ...] = (),
) -> FaceMotion:
    landmarks = torch.from_numpy(to_68(points)).float()
    return FaceMotion(landmarks, float(fps), face.size, face, sound, (*face.notes, *notes))


def _without_effect(why: str, strengths: Strengths | None, choose: int = 0) -> tuple[str, ...]:
    """A note on settings that came and that a source has no use for."""
    given = {f"{name} strength": value for name, value in vars(strengths or Strengths()).items()}
    names = [name for name, value in given.items() if value != 1] + ["choose"] * bool(choose)
    return (f"{why}: {', '.join(names)} changed nothing",) if names else ()


def _followed(
    video: str | os.PathLike,
    num_frames: int | None,
    fps: float | int,
    begin: float | int,
    end: float | int | None,
) -> FaceTrack:
    """The face in as much of a part of a video as `num_frames` at `fps` take."""
    if num_frames is not None:
        needed = begin + max(num_frames / fps, 2 / frame_rate(video))
        end = needed if end is None else min(needed, end)
    return track_video(video, begin=begin, end=end)


def _sound_of(video: str | os.PathLike) -> tuple[Path | None, tuple[str, ...]]:
    """A driving video's sound, if it has one; a damaged one is left out, which a note says."""
    with opened(video, "video", "video") as container:
        if not container.streams.audio:
            return None, ()
    try:
        check_sound(video)
    except InputError:
        note = "the sound of the driving video is damaged, so the clip is silent: save it again"
        return None, (note,)
    return Path(video), ()
