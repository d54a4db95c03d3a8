"""Speech to face: phonemes -> mouth shapes -> curves, with blinks and a little head motion."""

import functools
import importlib.util
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.faces.mesh import EXPRESSIONS
from mofa_nb.media.sound import Sound
from mofa_nb.motion.face import Strengths
from mofa_nb.motion.rates import clip_rate

# mouth shape of each sound: how far open, how wide, how rounded, each in [0, 1]
SHAPES = {
    **dict.fromkeys("mbp", (0.0, 0.0, 0.1)),
    **dict.fromkeys("fvɱ", (0.1, 0.1, 0.0)),
    **dict.fromkeys("θð", (0.22, 0.1, 0.0)),
    **dict.fromkeys("tdnlszɾɫ", (0.2, 0.2, 0.0)),
    **dict.fromkeys("ʃʒɕʑʂʐ", (0.2, 0.0, 0.5)),
    **dict.fromkeys(("t͡ʃ", "d͡ʒ", "tɕ", "dʑ"), (0.2, 0.0, 0.45)),
    **dict.fromkeys("kɡgŋhxɣ", (0.3, 0.1, 0.0)),
    **dict.fromkeys("ɹrɻ", (0.25, 0.0, 0.4)),
    **dict.fromkeys("wɥɰ", (0.15, 0.0, 0.9)),
    **dict.fromkeys("jʲ", (0.25, 0.4, 0.0)),
    **dict.fromkeys("iy", (0.3, 0.8, 0.0)),
    **dict.fromkeys("ɪɨ", (0.35, 0.5, 0.0)),
    **dict.fromkeys(("e", "eɪ", "ɛ"), (0.5, 0.5, 0.0)),
    **dict.fromkeys("æa", (0.85, 0.4, 0.0)),
    **dict.fromkeys("ɑɐ", (1.0, 0.0, 0.0)),
    **dict.fromkeys(("aɪ", "ai"), (0.9, 0.3, 0.0)),
    **dict.fromkeys(("aʊ", "au"), (0.9, 0.0, 0.4)),
    **dict.fromkeys("ʌəɤɯ", (0.5, 0.1, 0.0)),
    **dict.fromkeys("ɝɚɜ", (0.35, 0.0, 0.4)),
    **dict.fromkeys(("ɔ", "ɒ", "ɔɪ"), (0.7, 0.0, 0.5)),
    **dict.fromkeys(("o", "oʊ"), (0.55, 0.0, 0.75)),
    **dict.fromkeys("uʊ", (0.3, 0.0, 0.9)),
}
OTHER_SHAPE = (0.25, 0.1, 0.0)
CLOSED = frozenset("mbp")
LONGEST_PIECE = 9.0  # seconds recognised at once; longer ones lose sounds
FINE_RATE = 100  # curve samples per second before they are read off at the frames
LATE = 0.05  # seconds by which the recogniser names a sound after its middle
FULL, LARGEST_GAIN = 0.8, 2.5  # quiet or mumbled speech is brought up to this opening
PAUSE = 0.3  # seconds between sounds after which the mouth rests
JAW, STRETCH, PUCKER, UPPER_LIP = 0.7, 0.55, 0.75, 0.15  # strengths of the fullest shape
BROWS, CALM_RATE = 0.35, 1.5  # brows rise with the loudness, slower than this many times a second
MISSING = "animating by speech needs the package hama: install it with `pip install .[speech]`"
LEAD_IN = 0.12  # seconds in which the clip leaves the photographed face


@dataclass(frozen=True)
class Phoneme:
    """A speech sound (IPA) and the time of its middle, seconds."""

    symbol: str
    time: float


@dataclass(frozen=True)
class SpeechCurves:
    """What speech does to a face, per frame.

    opening, width, rounding: of the mouth, [0, 1]. strengths: of mesh.EXPRESSIONS. degrees: yaw,
    pitch, roll. loudness: [0, 1]. notes: one sentence each.
    """

    phonemes: tuple[Phoneme, ...]
    fps: float
    opening: Float[np.ndarray, " T"]
    width: Float[np.ndarray, " T"]
    rounding: Float[np.ndarray, " T"]
    loudness: Float[np.ndarray, " T"]
    strengths: Float[Tensor, "T 11"]
    degrees: Float[Tensor, "T 3"]
    notes: tuple[str, ...] = ()


def phonemes_in(sound: Sound) -> tuple[Phoneme, ...]:
    """The speech sounds and their times; empty for silence.

    Raises:
        InputError: the optional package `hama` is not installed.
    """
    if sound.is_silent:
        return ()
    model = _recogniser()
    found = []
    for begin, end in _breaths(sound):
        piece = sound.samples[round(begin * sound.rate) : round(end * sound.rate)]
        spans = model.phoneme_spans(model.transcribe_waveform(piece, sound.rate))
        found += [
            Phoneme(span.phoneme, max(begin + span.start_ms / 1000 - LATE, 0.0))
            for span in spans
            if not span.phoneme.startswith("<")
        ]
    return tuple(found)


def _breaths(sound: Sound) -> list[tuple[float, float]]:
    """Stretches (begin, end) that the recogniser can take at once, parted at the quietest spots."""
    edges = [0.0]
    while sound.seconds - edges[-1] > LONGEST_PIECE:
        times = np.arange(edges[-1] + LONGEST_PIECE / 2, edges[-1] + LONGEST_PIECE, 0.02)
        edges.append(float(times[sound.loudness(times, 0.15).argmin()]))
    return list(pairwise([*edges, sound.seconds]))


def check_recogniser() -> None:
    """Raise InputError when the optional package `hama` is not installed; quick."""
    if importlib.util.find_spec("hama") is None:
        raise InputError(MISSING)


@functools.cache
def _recogniser():
    try:
        import hama
    except ImportError as error:
        raise InputError(MISSING) from error
    return hama.ASRModel()


def speech_curves(
    sound: Sound,
    fps: float | int,
    *,
    seed: int = 0,
    strengths: Strengths | None = None,
    phonemes: tuple[Phoneme, ...] | None = None,
) -> SpeechCurves:
    """Curves for as many frames as the sound lasts; frame 0 rests.

    Args:
        fps: frames per second, 12.5 to 240. seed: of blinks and head motion.
        strengths: of the mouth's motion, the blinks (eyes), the brows, and the head's (pose).
        phonemes: recognised in the sound when None.
    """
    fps = clip_rate(fps, has_face=True)
    share = strengths or Strengths()
    phonemes = phonemes_in(sound) if phonemes is None else phonemes
    times = np.arange(max(2, int(np.ceil(sound.seconds * fps)))) / fps
    fine = np.arange(int(np.ceil(sound.seconds * FINE_RATE)) + FINE_RATE) / FINE_RATE
    loud = _relative_loudness(sound, fine)
    lead = np.clip(times / LEAD_IN, 0, 1)
    shape = [_read_off(fine, curve, times, fps) * lead for curve in _mouth(phonemes, fine, loud)]
    calm = _read_off(fine, loud, times, CALM_RATE)
    rng = np.random.default_rng(seed)
    brows = share.brows * np.clip(calm - calm[0], 0, 1) * lead
    lids = share.eyes * blinks(times, rng)
    moved = _strengths([share.mouth * curve for curve in shape], brows, lids)
    degrees = torch.from_numpy(_sway(times, calm, rng) * share.pose).float()
    notes = () if phonemes else ("no speech was heard; the mouth stays closed",)
    loudness = _read_off(fine, loud, times, fps)
    return SpeechCurves(phonemes, fps, *shape, loudness, moved, degrees, notes)


def _strengths(shape: list[np.ndarray], brows: np.ndarray, blink: np.ndarray) -> Tensor:
    """Of mesh.EXPRESSIONS from the mouth's opening, width and rounding; [T, 11]."""
    opening, width, rounding = shape
    strengths = {
        "jaw_open": JAW * opening,
        "stretch": STRETCH * width,
        "pucker": PUCKER * rounding,
        "upper_lip": UPPER_LIP * opening,
        "brows_up": BROWS * brows,
        "blink_right": blink,
        "blink_left": blink,
    }
    columns = [strengths.get(name, np.zeros_like(blink)) for name in EXPRESSIONS]
    return torch.from_numpy(np.stack(columns, 1)).float().clamp(max=1)


def shape_of(symbol: str) -> tuple[float, float, float]:
    """(open, wide, rounded) of an IPA symbol; unknown marks are left off, then a middling shape."""
    for length in range(len(symbol), 0, -1):
        if symbol[:length] in SHAPES:
            return SHAPES[symbol[:length]]
    return OTHER_SHAPE


def _relative_loudness(sound: Sound, times: np.ndarray) -> np.ndarray:
    """[0, 1], 1 at the clip's own loud passages; the square root lifts quiet speech."""
    loud = sound.loudness(times, 0.06)
    full = max(float(np.quantile(loud, 0.9)), 1e-4)
    return np.sqrt(np.clip(loud / full, 0, 1)) if not sound.is_silent else np.zeros_like(times)


def _mouth(phonemes: tuple[Phoneme, ...], times: np.ndarray, loud: np.ndarray):
    """Opening, width and rounding at fine times: shapes reached at each sound, rest in pauses."""
    if not phonemes:
        return (np.zeros_like(times),) * 3
    keys = [(0.0, (0.0, 0.0, 0.0))]
    for phoneme in phonemes:
        if phoneme.time - keys[-1][0] > PAUSE:
            keys.append((min(keys[-1][0] + 0.12, phoneme.time - 0.12), (0.0, 0.0, 0.0)))
            keys.append((phoneme.time - 0.1, (0.0, 0.0, 0.0)))
        keys.append((max(phoneme.time, keys[-1][0] + 1e-3), shape_of(phoneme.symbol)))
    keys.append((keys[-1][0] + 0.15, (0.0, 0.0, 0.0)))
    at = np.array([time for time, _ in keys])
    shapes = np.array([shape for _, shape in keys])
    curves = [_blurred(np.interp(times, at, shapes[:, k]), 0.03) for k in range(3)]
    curves[0] = curves[0] * (0.35 + 0.65 * _blurred(loud, 0.03))
    for phoneme in phonemes:
        if phoneme.symbol[0] in CLOSED:
            curves[0] = curves[0] * (1 - np.exp(-(((times - phoneme.time) / 0.05) ** 2)))
    curves[0] = curves[0] * np.clip(FULL / max(curves[0].max(), 1e-6), 1, LARGEST_GAIN)
    return tuple(curves)


def _blurred(curve: np.ndarray, seconds: float | int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(curve, seconds * FINE_RATE, mode="nearest")


def _read_off(
    fine: np.ndarray, curve: np.ndarray, times: np.ndarray, fps: float | int
) -> np.ndarray:
    """Values at the frames, blurred just enough that nothing falls between two of them."""
    return np.interp(times, fine, _blurred(curve, 0.3 / fps))


def blinks(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Closed eyes for a moment every two to five seconds; [T] in [0, 1]."""
    curve = np.zeros_like(times)
    at = rng.uniform(0.6, 2.5)
    while at < times[-1]:
        curve = np.maximum(curve, np.exp(-(((times - at) / 0.09) ** 2)))
        at += rng.uniform(2.0, 5.0)
    return np.where(curve > 0.02, curve, 0.0)


def _sway(times: np.ndarray, calm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Slow turns of a few degrees and a nod with the voice; zero in frame 0; [T, 3]."""
    sway = np.zeros((len(times), 3))
    for axis, size in enumerate((3.0, 1.5, 1.5)):
        for speed in rng.uniform(0.1, 0.45, 2):
            phase = rng.uniform(0, 2 * np.pi)
            sway[:, axis] += size / 2 * np.sin(2 * np.pi * speed * times + phase)
    sway[:, 1] -= 2.0 * calm
    return (sway - sway[0]) * np.clip(times / 0.5, 0, 1)[:, None]
