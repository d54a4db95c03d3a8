"""One picture of what speech does: waveform, phonemes, mouth curves."""

from itertools import pairwise

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from mofa_nb.faces.speech import SpeechCurves
from mofa_nb.media.sound import Sound
from mofa_nb.show.layout import FAINT, HAIRLINE, INK, PAPER, font

CURVES = (
    ("opening", "mouth opening", (204, 62, 48)),
    ("width", "width", (38, 110, 184)),
    ("rounding", "rounding", (58, 146, 82)),
)
BLINKS = (150, 110, 40)
LEFT, RIGHT, WAVE, LETTERS, PLOT, GAP, FOOT = 16, 16, 70, 24, 120, 10, 44


def speech_picture(
    sound: Sound, curves: SpeechCurves, *, width: int = 960
) -> UInt8[np.ndarray, "H W 3"]:
    """Waveform above, the recognised sounds where they are spoken, the curves with a dot a frame,
    and a mark under each blink; seconds along the bottom.

    Args:
        width: of the picture, pixels; long clips want more.
    """
    height = 12 + WAVE + LETTERS + PLOT + GAP + FOOT
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    inner = width - LEFT - RIGHT

    def across(seconds):
        return LEFT + np.asarray(seconds) / sound.seconds * inner

    _draw_wave(draw, sound, inner, 12)
    letters = 12 + WAVE
    end = -np.inf
    for phoneme in curves.phonemes:
        x = float(across(phoneme.time))
        half = font(13).getlength(phoneme.symbol) / 2
        draw.line((x, letters + LETTERS, x, letters + LETTERS + PLOT), HAIRLINE)
        if x - half > end + 1:
            draw.text((x, letters + LETTERS / 2), phoneme.symbol, INK, font(13), anchor="mm")
            end = x + half
    _draw_curves(draw, curves, across, letters + LETTERS)
    _draw_legend(draw, height)
    _draw_seconds(draw, sound.seconds, across, letters + LETTERS + PLOT + GAP)
    return np.array(sheet)


def _draw_wave(draw: ImageDraw.ImageDraw, sound: Sound, inner: int, top: int) -> None:
    edges = np.linspace(0, len(sound.samples), inner + 1).astype(int)
    full = max(float(np.abs(sound.samples).max()), 1e-6)
    middle = top + WAVE / 2
    draw.line((LEFT, middle, LEFT + inner, middle), HAIRLINE)
    for column, (a, b) in enumerate(pairwise(edges)):
        piece = sound.samples[a : max(b, a + 1)] / full * (WAVE / 2 - 4)
        x = LEFT + column
        draw.line((x, middle - float(piece.max()), x, middle - float(piece.min())), FAINT)


def _draw_curves(draw: ImageDraw.ImageDraw, curves: SpeechCurves, across, top: int) -> None:
    bottom = top + PLOT
    times = np.arange(len(curves.opening)) / curves.fps
    draw.line((LEFT, bottom, float(across(times[-1])), bottom), HAIRLINE)
    for name, _, colour in reversed(CURVES):
        values = getattr(curves, name)
        points = [
            (float(x), float(bottom - v * (PLOT - 8)))
            for x, v in zip(across(times), values, strict=True)
        ]
        draw.line(points, colour, 2 if name == "opening" else 1, joint="curve")
        for x, y in points:
            size = 2.5 if name == "opening" else 1.5
            draw.ellipse((x - size, y - size, x + size, y + size), colour)
    blink = curves.strengths[:, -3].numpy()
    for x in across(times[blink > 0.3]):
        draw.line((float(x) - 3, bottom + 4, float(x) + 3, bottom + 4), BLINKS, 3)


def _draw_legend(draw: ImageDraw.ImageDraw, height: int) -> None:
    x = LEFT
    for label, colour in [*((text, c) for _, text, c in CURVES), ("blink", BLINKS)]:
        draw.line((x, height - 11, x + 14, height - 11), colour, 3)
        draw.text((x + 20, height - 11), label, INK, font(13), anchor="lm")
        x += 20 + font(13).getlength(label) + 22


def _draw_seconds(draw: ImageDraw.ImageDraw, seconds: float | int, across, top: int) -> None:
    for second in range(int(seconds) + 1):
        x = float(across(second))
        draw.text((x, top), f"{second} s", FAINT, font(12), anchor="la" if second == 0 else "ma")
