"""Speech to face: phonemes -> mouth shapes -> curves, with blinks and a little head motion."""

import functools
import importlib.util
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.faces.mesh import EXPRESSIONS
from mofa_nb.media.sound import Sound
from mofa_nb.motion.face import Strengths
from mofa_nb.motion.rates import clip_rate

# mouth shape of each sound: how far open, how wide, how rounded, each in [0, 1]
_SOUNDS = (
    ("mbp", (0.0, 0.0, 0.1)), ("fvɱ", (0.1, 0.1, 0.0)), ("θð", (0.22, 0.1, 0.0)),
    ("tdnlszɾɫ", (0.2, 0.2, 0.0)), ("ʃʒɕʑʂʐ", (0.2, 0.0, 0.5)),
    (("t͡ʃ", "d͡ʒ", "tɕ", "dʑ"), (0.2, 0.0, 0.45)), ("kɡgŋhxɣ", (0.3, 0.1, 0.0)),
    ("ɹrɻ", (0.25, 0.0, 0.4)), ("wɥɰ", (0.15, 0.0, 0.9)), ("jʲ", (0.25, 0.4, 0.0)),
    ("iy", (0.3, 0.8, 0.0)), ("ɪɨ", (0.35, 0.5, 0.0)), (("e", "eɪ", "ɛ"), (0.5, 0.5, 0.0)),
    ("æa", (0.85, 0.4, 0.0)), ("ɑɐ", (1.0, 0.0, 0.0)), (("aɪ", "ai"), (0.9, 0.3, 0.0)),
    (("aʊ", "au"), (0.9, 0.0, 0.4)), ("ʌəɤɯ", (0.5, 0.1, 0.0)), ("ɝɚɜ", (0.35, 0.0, 0.4)),
    (("ɔ", "ɒ", "ɔɪ"), (0.7, 0.0, 0.5)), (("o", "oʊ"), (0.55, 0.0, 0.75)), ("uʊ", (0.3, 0.0, 0.9)),
)  # fmt: skip
SHAPES = {sound: shape for sounds, shape in _SOUNDS for sound in sounds}
OTHER_SHAPE = (0.25, 0.1, 0.0)
CLOSED = frozenset("mbp")
LONGEST_PIECE = 9.0  # seconds recognised at once; longer ones lose sounds
FINE_RATE = 100  # curve samples per second before they are read off at the frames
LATE = 0.05  # seconds by which the recogniser names a sound after its middle
FULL, LARGEST_GAIN = 0.8, 2.5  # quiet or mumbled speech is brought up to this opening
PAUSE = 0.3  # seconds between sounds after which the mouth rests
JAW, STRETCH, PUCKER, UPPER_LIP = 0.7, 0.55, 0.75, 0.15  # strengths of the fullest shape
BROWS, CALM_RATE = 0.35, 1.5  # brows rise with the loudness, slower than this many times a second
LEAD_IN = 0.12  # seconds in which the clip leaves the photographed face

Curve = Float[np.ndarray, " T"]


@dataclass(frozen=True)
class Phoneme:
    symbol: str  # IPA
    time: float  # of its middle, seconds


@dataclass(frozen=True)
class SpeechCurves:
    phonemes: tuple[Phoneme, ...]
    fps: float
    opening: Curve  # of the mouth, [0, 1], and so on
    width: Curve
    rounding: Curve
    strengths: Float[Tensor, "T 11"]  # of mesh.EXPRESSIONS
    degrees: Float[Tensor, "T 3"]  # yaw, pitch, roll
    notes: tuple[str, ...] = ()  # one sentence each


def phonemes_in(sound: Sound) -> tuple[Phoneme, ...]:
    """The speech sounds and their times, empty for silence; InputError without package `hama`."""
    if sound.is_silent:
        return ()
    model = _recogniser()
    edges = [0.0]  # of pieces that it can take at once, parted at the quietest spots
    while sound.seconds - edges[-1] > LONGEST_PIECE:
        times = np.arange(edges[-1] + LONGEST_PIECE / 2, edges[-1] + LONGEST_PIECE, 0.02)
        edges.append(float(times[sound.loudness(times, 0.15).argmin()]))
    phones = []
    for begin, end in pairwise([*edges, sound.seconds]):
        piece = sound.samples[round(begin * sound.rate) : round(end * sound.rate)]
        spans = model.phoneme_spans(model.transcribe_waveform(piece, sound.rate))
        for span in spans:
            if not span.phoneme.startswith("<"):
                phones.append(Phoneme(span.phoneme, max(begin + span.start_ms / 1000 - LATE, 0.0)))
    return tuple(phones)


def check_recogniser() -> None:
    """Raise InputError when the optional package `hama` is not installed; quick."""
    if importlib.util.find_spec("hama") is None:
        remedy = "install it with `pip install .[speech]`"
        raise InputError(f"animating by speech needs the package hama: {remedy}")


@functools.cache
def _recogniser():
    check_recogniser()
    import hama

    return hama.ASRModel()


def speech_curves(
    sound: Sound, fps: float, *, seed: int = 0, strengths: Strengths | None = None,
    phonemes: tuple[Phoneme, ...] | None = None,
) -> SpeechCurves:  # fmt: skip
    """Curves for as many frames as the sound lasts, at 12.5 to 240 a second; frame 0 rests. seed:
    of blinks and head motion. phonemes: recognised in the sound when None."""
    fps = clip_rate(fps, has_face=True)
    strengths = strengths or Strengths()
    phonemes = phonemes_in(sound) if phonemes is None else phonemes
    times = np.arange(max(2, int(np.ceil(sound.seconds * fps)))) / fps
    fine = np.arange(int(np.ceil(sound.seconds * FINE_RATE)) + FINE_RATE) / FINE_RATE
    loud = sound.loudness(fine, 0.06)
    # 1 at the clip's own loud passages; the root lifts quiet ones
    loud = np.sqrt(np.clip(loud / max(float(np.quantile(loud, 0.9)), 1e-4), 0, 1))
    loud = loud * (not sound.is_silent)
    lead = np.clip(times / LEAD_IN, 0, 1)

    def read_off(curve: np.ndarray, rate: float) -> Curve:
        """Values at the frames, blurred so that nothing quicker falls between two of them."""
        return np.interp(times, fine, _blurred(curve, 0.3 / rate))

    opening, width, rounding = (read_off(c, fps) * lead for c in _mouth(phonemes, fine, loud))
    calm = read_off(loud, CALM_RATE)
    rng = np.random.default_rng(seed)
    lids = strengths.eyes * blinks(times, rng)
    moved = {
        "jaw_open": JAW * (strengths.mouth * opening),
        "stretch": STRETCH * (strengths.mouth * width),
        "pucker": PUCKER * (strengths.mouth * rounding),
        "upper_lip": UPPER_LIP * (strengths.mouth * opening),
        "brows_up": BROWS * (strengths.brows * np.clip(calm - calm[0], 0, 1) * lead),
        "blink_right": lids, "blink_left": lids,
    }  # fmt: skip
    columns = [moved.get(name, np.zeros_like(lids)) for name in EXPRESSIONS]
    expressions = torch.from_numpy(np.stack(columns, 1)).float().clamp(max=1)
    degrees = torch.from_numpy(_sway(times, calm, rng) * strengths.pose).float()
    notes = () if phonemes else ("no speech was heard; the mouth stays closed",)
    return SpeechCurves(phonemes, fps, opening, width, rounding, expressions, degrees, notes)


def shape_of(symbol: str) -> tuple[float, float, float]:
    """(open, wide, rounded) of an IPA symbol; unknown marks are left off, then a middling shape."""
    prefixes = (symbol[:length] for length in range(len(symbol), 0, -1))
    return next((SHAPES[prefix] for prefix in prefixes if prefix in SHAPES), OTHER_SHAPE)


def _mouth(phonemes: tuple[Phoneme, ...], times: Curve, loud: Curve) -> tuple[Curve, Curve, Curve]:
    """Opening, width and rounding at fine times: shapes reached at each sound, rest in pauses."""
    keys = [(0.0, rest := (0.0, 0.0, 0.0))]
    for phoneme in phonemes:
        if phoneme.time - keys[-1][0] > PAUSE:
            keys.append((min(keys[-1][0] + 0.12, phoneme.time - 0.12), rest))
            keys.append((phoneme.time - 0.1, rest))
        keys.append((max(phoneme.time, keys[-1][0] + 1e-3), shape_of(phoneme.symbol)))
    keys.append((keys[-1][0] + 0.15, rest))
    at, shapes = (np.array(values) for values in zip(*keys, strict=True))
    opening, width, rounding = (_blurred(np.interp(times, at, s), 0.03) for s in shapes.T)
    opening = opening * (0.35 + 0.65 * _blurred(loud, 0.03))
    for phoneme in phonemes:
        if phoneme.symbol[0] in CLOSED:
            opening = opening * (1 - np.exp(-(((times - phoneme.time) / 0.05) ** 2)))
    opening = opening * np.clip(FULL / max(opening.max(), 1e-6), 1, LARGEST_GAIN)
    return opening, width, rounding


def _blurred(curve: np.ndarray, seconds: float) -> np.ndarray:
    return gaussian_filter1d(curve, seconds * FINE_RATE, mode="nearest")


def blinks(times: np.ndarray, rng: np.random.Generator) -> Curve:
    """Closed eyes for a moment every two to five seconds, in [0, 1]."""
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
