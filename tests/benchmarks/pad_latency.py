"""How soon the pad answers, measured in a real browser: python tests/benchmarks/pad_latency.py

Everything runs on one machine: kernel, server and headless Chromium share its cores.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser_lab import LabPage, jupyter_lab, launch, write_notebook

CANVAS = "canvas.mofa-stage"
WATCH = f"""() => {{
  const canvas = document.querySelector('{CANVAS}');
  const context = canvas.getContext('2d');
  const draw = context.drawImage;
  window.painted = [];
  context.drawImage = function (...all) {{
    draw.apply(context, all);
    window.painted.push(performance.now());
  }};
  window.fire = (type, x, y) => {{
    const box = canvas.getBoundingClientRect();
    const at = {{clientX: box.x + x * box.width, clientY: box.y + y * box.height, bubbles: true}};
    canvas.dispatchEvent(new MouseEvent(type, at));
    return performance.now();
  }};
  window.pause = (ms) => new Promise((done) => setTimeout(done, ms));
}}"""
REPAINT = """async () => {
  const waits = [];
  fire('mousedown', 0.1, 0.5);
  await pause(300);
  for (let k = 1; k <= 40; k++) {
    const begin = fire('mousemove', 0.1 + 0.015 * k, 0.5);
    await pause(150);
    const first = painted.find((t) => t > begin);
    if (first !== undefined) waits.push(first - begin);
  }
  fire('mouseup', 0.7, 0.5);
  return waits;
}"""
RELEASE = """async (y) => {
  const loaded = (name) => new Promise((done) => {
    const image = document.querySelector(name);
    image.addEventListener('load', () => done(performance.now()), {once: true});
  });
  fire('mousedown', 0.2, y);
  await pause(100);
  fire('mousemove', 0.5, y);
  await pause(200);
  const shown = [loaded('img.mofa-picture'), loaded('.mofa-view img')];
  const begin = fire('mouseup', 0.6, y);
  return [(await shown[0]) - begin, (await shown[1]) - begin];
}"""
RUSH = """async () => {
  fire('mousedown', 0.1, 0.2);
  for (let k = 0; k < 120; k++) {
    fire('mousemove', 0.5 + 0.4 * Math.cos(k / 9), 0.5 + 0.4 * Math.sin(k / 7));
    await pause(1000 / 60);
  }
  const begin = fire('mousemove', 0.5, 0.5);
  await pause(3000);
  const last = painted[painted.length - 1];
  fire('mouseup', 0.5, 0.5);
  return [last - begin, painted.length];
}"""
STOP = """async () => {
  const named = (n) => [...document.querySelectorAll('.mofa-pad button')].find(
    (b) => b.textContent.includes(n));
  const [stop, run] = [named('Stop'), named('Animate')];
  const begin = performance.now();
  stop.click();
  while (run.disabled) await pause(2);
  return performance.now() - begin;
}"""


def cell(model: str, step: float) -> str:
    """The notebook's cell that shows the pad."""
    engine = f"ToySession(pause={step})" if model == "toy" else repr(model)
    return (
        "from skimage import data\nfrom toy_session import ToySession\n"
        f"from mofa_nb.pad import MotionPad\npad = MotionPad(data.chelsea(), {engine})\npad"
    )


def measure(lab: LabPage) -> list[tuple[str, str]]:
    """Rows of (what, figures in ms)."""
    page, rows = lab.page, []
    page.evaluate(WATCH)
    waits = np.array(page.evaluate(REPAINT))
    low, high = np.percentile(waits, (50, 90))
    rows.append(("mouse move -> repaint", f"median {low:.0f}, 90 % {high:.0f} (n = {len(waits)})"))
    lab.until("pad.wait(20)")
    waits = []
    for y in np.linspace(0.2, 0.8, 6):
        waits.append(page.evaluate(RELEASE, float(y)))
        lab.until("pad.wait(20)")
    for what, found in zip(("dense flow", "warped preview"), np.array(waits).T, strict=True):
        figures = f"median {np.median(found):.0f}, worst {found.max():.0f}"
        rows.append((f"release -> {what}", figures))
    page.evaluate("painted.length = 0")
    lag, repaints = page.evaluate(RUSH)
    rows.append(
        ("last of 120 moves at 60 Hz -> last repaint", f"{max(lag, 0):.0f} ({repaints} repaints)")
    )
    lab.until("pad.wait(20)")
    waits = []
    for _ in range(4):
        lab.python("pad.animate()")
        lab.until("pad._engine.busy and pad.settings.progress.value > 0")
        waits.append(page.evaluate(STOP))
        lab.until("pad.wait(20) and not pad.settings.run.disabled")
    rows.append(("Stop -> stopped", f"median {np.median(waits):.0f}, worst {max(waits):.0f}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="toy", help="toy, or a model that animate knows")
    parser.add_argument("--step", type=float, default=0.1, help="seconds per toy sampling step")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, launch() as browser:
        write_notebook(Path(folder) / "pad.ipynb", cell(options.model, options.step))
        with jupyter_lab(Path(folder)) as address:
            lab = LabPage(browser, address, "pad.ipynb")
            lab.run_all()
            lab.page.wait_for_selector(CANVAS)
            lab.until("pad.wait(60)")
            lab.python(f"pad.settings.steps.value = {40 if options.model == 'toy' else 25}")
            rows = measure(lab)
    print(f"{options.model} model, milliseconds")
    for what, figures in rows:
        print(f"  {what:44s} {figures}")


if __name__ == "__main__":
    main()
