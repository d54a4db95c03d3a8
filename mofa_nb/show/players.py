"""Clips to look at closely, as HTML for any front end: in step, frame by frame, before and after.
No script is loaded: a page that keeps the HTML plays without a kernel."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.flow.splat import splat
from mofa_nb.media.sound import clip_bytes
from mofa_nb.show.colours import flow_to_rgb, longest_vector
from mofa_nb.show.notebook import data_url, picture_file

# What the handlers do, in terms of the players' root r, its videos v and its frame slider f.
_FIND = "const r=this.closest('.mofa-players'),v=[...r.querySelectorAll('video')],"
_FIND += "f=r.querySelector('.mofa-frame');"
_SEEK = "v.forEach(e=>{e.pause();e.currentTime=(+f.value+.5)/f.dataset.fps});"
_PLAY = _FIND + "const on=v[0].paused,t=v[0].currentTime;"
_PLAY += "v.forEach(e=>{e.currentTime=t;on?e.play():e.pause()});"
_TICK = _FIND + "const t=this.currentTime;f.value=Math.floor(t*f.dataset.fps);"
_TICK += "r.querySelector('output').value=+f.value+1+' of '+(+f.max+1);"
_TICK += "v.forEach(e=>{if(!e.paused&&Math.abs(e.currentTime-t)>.15)e.currentTime=t});"
_WIPE = "const s=this.parentNode;s.querySelector('.mofa-before').style.clipPath="
_WIPE += "`inset(0 ${100-this.value}% 0 0)`;s.querySelector('i').style.left=this.value+'%';"
_TINT = _FIND + "r.querySelectorAll('.mofa-flow').forEach(e=>e.style.opacity=this.value/100);"
_BEFORE = 'class="mofa-over mofa-before" style="clip-path:inset(0 50% 0 0)"'
_CLEAR = 'class="mofa-over mofa-flow" style="opacity:0"'
_STYLE = """<style>
.mofa-players {font-size:13px; line-height:20px}
.mofa-players figure {margin:0; flex:1 1 280px; max-width:480px}
.mofa-players video {width:100%; object-fit:fill}
.mofa-players .mofa-stack {position:relative; line-height:0; overflow:hidden}
.mofa-players .mofa-over {position:absolute; inset:0; width:100%; height:100%; margin:0}
.mofa-players .mofa-stack input {opacity:0; cursor:ew-resize}
.mofa-players .mofa-flow {mix-blend-mode:multiply}
.mofa-players i {position:absolute; top:0; bottom:0; width:2px; background:#fff; left:50%;
 box-shadow:0 0 4px #000; pointer-events:none}
.mofa-players .mofa-row {display:flex; flex-wrap:wrap; gap:10px; align-items:center; margin:4px 0}
</style>"""


@dataclass(frozen=True)
class Played:
    title: str
    frames: UInt8[np.ndarray, "T H W 3"]
    fps: float | int
    flow: Float[Tensor, "steps 2 H W"] | None = None  # laid over it where it has carried things
    sound: Path | None = None  # heard of the first clip

    @cached_property
    def videos(self) -> list[str]:
        """The clip as HTML takes it, and if there is a flow, its colours likewise."""
        files = [clip_bytes(self.frames, self.fps, sound=self.sound)]
        if self.flow is not None:
            files.append(clip_bytes(carried_colours(self.flow), self.fps))
        return [data_url(file, "video/mp4") for file in files]


def players(clips: Sequence[Played], photo: UInt8[np.ndarray, "H W 3"]) -> str:
    """HTML: clips side by side in step, with one bar to play them and go through their frames. A
    slider on each uncovers the photograph before the first clip, and that before all others."""
    first, *others = clips
    data, kind = picture_file(photo)
    still = f'<img src="{data_url(data, f"image/{kind}")}" {_BEFORE}>'
    stages = [_stage(first, still, "photograph", _on("timeupdate", _TICK))]
    under = _video(first.videos[0], f"muted {_BEFORE}")
    stages += [_stage(clip, under, first.title, "muted") for clip in others]
    last = max(len(clip.frames) for clip in clips) - 1
    bar = [
        _button("‹", "One frame back", _FIND + "f.stepDown();" + _SEEK),
        _button("Play", "Play or pause", _PLAY),
        _button("›", "One frame on", _FIND + "f.stepUp();" + _SEEK),
        '<input type="range" class="mofa-frame" aria-label="Frame" style="flex:1" value="0"'
        f' max="{last}" data-fps="{first.fps}" {_on("input", _FIND + _SEEK)}>',
        f"<output>1 of {last + 1}</output>",
    ]
    if any(clip.flow is not None for clip in clips):
        tint = f'<input type="range" value="0" {_on("input", _TINT)}>'
        bar.append(f'<label class="mofa-row">Flow {tint}</label>')
    rows = "".join(f'<div class="mofa-row">{"".join(row)}</div>' for row in (stages, bar))
    return f'{_STYLE}<div class="mofa-players">{rows}</div>'


def carried_colours(flow: Float[Tensor, "steps 2 H W"]) -> UInt8[np.ndarray, "T H W 3"]:
    """A flow's colours where it has carried the pixels that it moves; frame 0 is white."""
    flow = torch.as_tensor(flow, dtype=torch.float32).cpu()
    moved = torch.cat([splat(part[None], part[None]) for part in flow])
    return flow_to_rgb(torch.cat([torch.zeros_like(moved[:1]), moved]), longest_vector(moved))


def _stage(clip: Played, before: str, what: str, more: str) -> str:
    layers = list(map(_video, clip.videos, (more, f"muted {_CLEAR}")))
    wipe = f'type="range" aria-label="Before and after" {_on("input", _WIPE)}'
    layers += [before, f'<i></i><input class="mofa-over" {wipe}>']
    title = html.escape(f"{what} ◂ ▸ {clip.title}")
    stack = f'<div class="mofa-stack">{"".join(layers)}</div>'
    return f"<figure>{stack}<figcaption>{title}</figcaption></figure>"


def _video(source: str, more: str) -> str:
    return f'<video src="{source}" loop playsinline {more}></video>'


def _button(words: str, about: str, act: str) -> str:
    return f'<button class="jupyter-button" title="{about}" {_on("click", act)}>{words}</button>'


def _on(event: str, act: str) -> str:
    return f'on{event}="{html.escape(act)}"'
