"""Whatever drives a face (a video, a voice, a landmark file, sliders) as a portrait's landmarks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import InputError, Size, whole_number
from mofa_nb.faces.detect import Face, find_face, is_cut
from mofa_nb.faces.expression import hand_set, moved_face
from mofa_nb.faces.points import check_landmarks, read_landmarks, resampled, to_68
from mofa_nb.faces.retarget import retarget
from mofa_nb.faces.speech import check_recogniser, speech_curves
from mofa_nb.faces.track import check_start, track_video
from mofa_nb.faces.voice import Progress, VoiceNetworks, spoken_landmarks, voice_motion
from mofa_nb.media.images import Picture
from mofa_nb.media.sound import SOUNDS, check_sound, read_sound
from mofa_nb.media.video import VIDEOS, frame_rate, opened, read_video
from mofa_nb.motion.face import Drives, FaceSource, driving_file
from mofa_nb.motion.rates import SLOWEST_FACE, clip_rate

FPS = SLOWEST_FACE
HAND_SET_FRAMES = 25


@dataclass(frozen=True)
class FaceMotion:
    """Landmarks that a portrait is to follow; frame 0 is the portrait (but in landmark files)."""

    landmarks: Float[Tensor, "T 68 2"]  # pixels of the portrait
    fps: float  # frames per second
    size: Size  # the portrait's
    face: Face | None = None  # its own, None for landmark files
    sound: Path | None = None  # file whose sound belongs to the clip
    notes: tuple[str, ...] = ()  # one sentence each

    def placed(self, scale: tuple, offset: tuple, size: Size) -> "FaceMotion":
        """The same on the portrait scaled by `scale` and then cropped to `size` from `offset`.
        InputError: the crop cuts the face."""
        landmarks = self.landmarks * torch.tensor(scale) - torch.tensor(offset)
        if (face := self.face) is not None:
            points = face.points * (*scale, np.mean(scale)) - (*offset, 0)
            face = replace(face, points=points, size=size)
            if is_cut(face):
                wrong = f"cropped to {size[0]}x{size[1]} pixels the face is cut"
                raise InputError(f"{wrong}: choose a size (--size) of the picture's own shape")
        return replace(self, landmarks=landmarks, size=size, face=face)

    def lasting(self, num_frames: int) -> "FaceMotion":
        """Cut to so many frames, or resting at the end until then (a note says so)."""
        if num_frames <= (have := len(self.landmarks)):
            return replace(self, landmarks=self.landmarks[:num_frames])
        rest = self.landmarks[-1:].expand(num_frames - have, -1, -1)
        ends = f"what drives the face ends after {have} of {num_frames} frames"
        notes = (*self.notes, f"{ends}; it rests from there on")
        return replace(self, landmarks=torch.cat([self.landmarks, rest]), notes=notes)


def drive_face(
    image: Picture, face: Drives,
    *, fps: float = FPS, num_frames: int | None = None, seed: int = 0,
    networks: VoiceNetworks | None = None, heard: Progress | None = None,
) -> FaceMotion:  # fmt: skip
    """Landmarks for animating the face in a picture, read off at `fps`, 12.5 to 240 a second; at
    most `num_frames` (of an expression exactly, 25 by default). seed: of a speaking head's blinks
    and sway. networks: that move the face with a voice, instead of recognised sounds; `heard` is
    called with the share that they have heard. InputError: no usable face, or an unusable file."""
    clip_rate(fps, has_face=True)
    if num_frames is not None:
        whole_number(num_frames, 2, 100_000, "the number of frames")
    face = FaceSource.of(face)
    suffix = "" if face.source is None else driving_file(face.source)
    unused = [f"{name} strength" for name, value in vars(face.strengths).items() if value != 1]
    if suffix == ".npy":
        motion = _followed_landmarks((image.shape[1], image.shape[0]), face, fps, num_frames)
        note = f"landmarks are taken as they are: {', '.join(unused)} changed nothing"
        return replace(motion, notes=(note,) * bool(unused))
    portrait = find_face(image, face.choose)
    if face.expression is not None:
        points = hand_set(portrait.points, face.expression, num_frames or HAND_SET_FRAMES)
        note = f"an expression set by hand is taken as it is: {', '.join(unused)} changed nothing"
        return _motion(portrait, points, fps, notes=(note,) * bool(unused))
    if suffix not in SOUNDS:
        return _followed_video(portrait, face, fps, num_frames)
    file, strengths = Path(face.source), face.strengths
    sound = read_sound(file, face.begin, face.end)
    if networks is None:
        curves = speech_curves(sound, fps, seed=seed, strengths=strengths)
        degrees = curves.degrees[:num_frames]
        points = moved_face(portrait.points, curves.strengths[:num_frames], degrees)
        return _motion(portrait, points, fps, file, curves.notes)
    motion = voice_motion(networks, sound.samples, progress=heard or (lambda share: None))
    marks = spoken_landmarks(portrait, motion, fps, strengths=strengths, seed=seed)[:num_frames]
    note = "AniPortrait's networks move the face with the voice"
    return _motion(portrait, marks, fps, file, (note,))


def check_source(image: Picture, face: FaceSource, *, by_networks: bool = False) -> None:
    """Refuse quickly, before anything is loaded, what `drive_face` would; of a video only the first
    two frames are read. A voice `by_networks` needs no recogniser."""
    suffix = "" if face.source is None else driving_file(face.source)
    if suffix == ".npy":
        read_landmarks(face.source, (image.shape[1], image.shape[0]))
        if face.sound is not None:
            check_sound(face.sound)
        return
    if suffix in VIDEOS:
        check_start(read_video(face.source, max_frames=2, begin=face.begin))
    if suffix in SOUNDS:
        if not (read_sound(face.source, face.begin, face.end).is_silent or by_networks):
            check_recogniser()
    find_face(image, face.choose)


def _motion(
    face: Face, points: np.ndarray, fps: float, sound: Path | None = None, notes: Sequence[str] = ()
) -> FaceMotion:
    marks = torch.from_numpy(points if points.shape[1] == 68 else to_68(points)).float()
    return FaceMotion(marks, float(fps), face.size, face, sound, (*face.notes, *notes))


def _followed_landmarks(size: Size, face: FaceSource, fps: float, count: int | None) -> FaceMotion:
    marks = read_landmarks(face.source, size)
    marks = marks if face.fps is None else resampled(marks, face.fps, fps)
    if face.begin or face.end is not None:
        part = slice(round(face.begin * fps), None if face.end is None else round(face.end * fps))
        marks = check_landmarks(marks[part], size, "the landmarks of this part")
    sound = None if face.sound is None else Path(face.sound)
    return FaceMotion(torch.from_numpy(marks[:count]).float(), float(fps), size, sound=sound)


def _followed_video(portrait: Face, face: FaceSource, fps: float, count: int | None) -> FaceMotion:
    """The face in as much of a part of a video as `count` frames take."""
    video, end = Path(face.source), face.end
    if count is not None:
        needed = face.begin + max(count / fps, 2 / frame_rate(video))
        end = needed if end is None else min(needed, end)
    track = track_video(video, begin=face.begin, end=end)
    pace = track.fps if track.times is None else track.times
    driving = resampled(track.points, pace, fps, most=count or 0)
    with opened(video, "video", "video") as container:
        sound, notes = video if container.streams.audio else None, track.notes
    if sound is not None:
        try:
            check_sound(video)
        except InputError:
            note = "the sound of the driving video is damaged, so the clip is silent: save it again"
            sound, notes = None, (*notes, note)
    points = retarget(portrait.points, driving, face.strengths)
    return _motion(portrait, points, fps, sound, notes)
