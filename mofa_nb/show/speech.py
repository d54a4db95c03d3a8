"""One picture of what speech does: waveform, phonemes, mouth curves."""

from itertools import pairwise

import numpy as np
from jaxtyping import UInt8

from mofa_nb.faces.speech import SpeechCurves
from mofa_nb.media.sound import Sound
from mofa_nb.show.layout import FAINT, HAIRLINE, INK, font, paper

CURVES = (
    ("opening", "mouth opening", (204, 62, 48)),
    ("width", "width", (38, 110, 184)),
    ("rounding", "rounding", (58, 146, 82)),
)
BLINKS = (150, 110, 40)
# Pixels: margins at the sides and above, then what lies beneath one another.
SIDE, TOP, WAVE, LETTERS, PLOT, GAP, FOOT = 16, 12, 70, 24, 120, 10, 44


def speech_picture(
    sound: Sound, curves: SpeechCurves, *, width: int = 960
) -> UInt8[np.ndarray, "H W 3"]:
    """Waveform above, the recognised sounds where they are spoken, the curves with a dot a frame,
    and a mark under each blink; seconds along the bottom. Long clips want more pixels of width."""
    height, inner = TOP + WAVE + LETTERS + PLOT + GAP + FOOT, width - 2 * SIDE
    sheet, draw = paper(width, height)
    top, bottom = TOP + WAVE + LETTERS, TOP + WAVE + LETTERS + PLOT

    def across(seconds: float) -> float:
        return SIDE + float(seconds) / sound.seconds * inner

    _draw_wave(draw, sound, inner)
    end = -np.inf
    for phoneme in curves.phonemes:
        x, half = across(phoneme.time), font(13).getlength(phoneme.symbol) / 2
        draw.line((x, top, x, bottom), HAIRLINE)
        if x - half > end + 1:
            place, end = (x, top - LETTERS / 2), x + half
            draw.text(place, phoneme.symbol, INK, font(13), anchor="mm")
    xs = [across(time) for time in np.arange(len(curves.opening)) / curves.fps]
    draw.line((SIDE, bottom, xs[-1], bottom), HAIRLINE)
    for name, _, colour in reversed(CURVES):
        ys = [bottom - float(value) * (PLOT - 8) for value in getattr(curves, name)]
        points = list(zip(xs, ys, strict=True))
        wide, dot = (2, 2.5) if name == "opening" else (1, 1.5)
        draw.line(points, colour, wide, joint="curve")
        for x, y in points:
            draw.ellipse((x - dot, y - dot, x + dot, y + dot), colour)
    for x, blink in zip(xs, curves.strengths[:, -3].tolist(), strict=True):
        if blink > 0.3:
            draw.line((x - 3, bottom + 4, x + 3, bottom + 4), BLINKS, 3)
    x = SIDE
    for label, colour in [*((text, c) for _, text, c in CURVES), ("blink", BLINKS)]:
        draw.line((x, height - 11, x + 14, height - 11), colour, 3)
        draw.text((x + 20, height - 11), label, INK, font(13), anchor="lm")
        x += 42 + font(13).getlength(label)
    for second in range(int(sound.seconds) + 1):
        place, anchor = (across(second), bottom + GAP), "ma" if second else "la"
        draw.text(place, f"{second} s", FAINT, font(12), anchor=anchor)
    return np.array(sheet)


def _draw_wave(draw, sound: Sound, inner: int) -> None:
    """One line a pixel, from the lowest to the highest of its samples."""
    edges = np.linspace(0, len(sound.samples), inner + 1).astype(int)
    full, middle = max(float(np.abs(sound.samples).max()), 1e-6), TOP + WAVE / 2
    draw.line((SIDE, middle, SIDE + inner, middle), HAIRLINE)
    for x, (a, b) in enumerate(pairwise(edges), start=SIDE):
        piece = sound.samples[a : max(b, a + 1)] / full * (WAVE / 2 - 4)
        draw.line((x, middle - float(piece.max()), x, middle - float(piece.min())), FAINT)
