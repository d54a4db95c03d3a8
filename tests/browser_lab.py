"""JupyterLab and a headless browser for tests that need both; nothing of the user's is touched."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "outputs" / "browser"  # ignored by git
_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()
_QUIET = {
    "@jupyterlab/apputils-extension:notification": {
        "checkForUpdates": False,
        "doNotDisturbMode": True,
        "fetchNews": "false",
    }
}
_RUN = """async (code) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({code: code, store_history: false});
  let said = '';
  future.onIOPub = (m) => {
    if (m.header.msg_type === 'stream') said += m.content.text;
    if (m.header.msg_type === 'error') said += m.content.ename + ': ' + m.content.evalue;
  };
  await future.done;
  return said;
}"""

_LISTEN = """element => {
  window.heard = [];
  for (const name of ['mousedown', 'click'])
    element.addEventListener(name, () => window.heard.push(name), {capture: true, once: true});
}"""


def browser_path() -> str | None:
    """Where Chromium is, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def launch():
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path(), args=_FLAGS)
        yield browser
        browser.close()


@contextmanager
def jupyter_lab(folder: Path):
    """A server on a free port that serves `folder`; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = folder / ".home"
    overrides = home / "lab" / "settings" / "overrides.json"
    overrides.parent.mkdir(parents=True)
    overrides.write_text(json.dumps(_QUIET))
    env = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")}
    env |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}
    env |= {f"JUPYTER_{k}_DIR": str(home / k.lower()) for k in ("CONFIG", "DATA", "RUNTIME")}
    env |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "user"), "OMP_NUM_THREADS": "1"}
    env |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "spaces"), "MOFA_NB_ROOT": str(ROOT)}
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", "--IdentityProvider.token=", f"--notebook-dir={folder}"]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.news_url="]
    command += [f"--LabApp.app_settings_dir={overrides.parent}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
        try:
            _await_server(address, server, folder / "lab.log")
            yield address
        finally:
            server.terminate()
            server.wait(20)


def _await_server(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{address}/api", timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)


class LabPage:
    """One browser page with a notebook open in JupyterLab."""

    def __init__(
        self, browser, address: str, notebook: str, *, width=1440, height=1100, density=1.0
    ):
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=density
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.messages: list[str] = []
        self.page.on("console", lambda m: m.type == "error" and self.messages.append(m.text))
        space = Path(notebook).stem  # a workspace of its own: no other notebook is opened beside
        self._address = f"{address}/lab/workspaces/{space}/tree/{notebook}"
        self.load()

    def load(self) -> None:
        """Open, or reload, the notebook; returns when its kernel answers."""
        self.page.goto(self._address)
        self.page.wait_for_function(
            "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
        )
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.ready")

    def run_all(self) -> None:
        """Run every cell and wait for the last."""
        self.command("notebook:run-all-cells")

    def command(self, name: str, **args) -> None:
        """One of JupyterLab's commands."""
        self.page.evaluate("([n, a]) => window.jupyterapp.commands.execute(n, a)", [name, args])

    def darken(self) -> None:
        """Take JupyterLab's dark theme; its splash screen must be gone before the mouse is."""
        self.command("apputils:change-theme", theme="JupyterLab Dark")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")

    def python(self, code: str) -> str:
        """What the code prints in the notebook's kernel."""
        return self.page.evaluate(_RUN, code).strip()

    def until(self, expression: str, seconds: float = 30) -> None:
        """Wait until a Python expression in the kernel is true."""
        end = time.monotonic() + seconds
        while (said := self.python(f"print(bool({expression}))")) != "True":
            if time.monotonic() > end:
                raise AssertionError(f"never true: {expression} ({said})")
            time.sleep(0.1)

    def box(self, selector: str) -> dict:
        """Where an element is now; the page may have scrolled since the last click."""
        element = self.page.locator(selector).first
        element.scroll_into_view_if_needed()
        return element.bounding_box()

    def click(self, selector: str) -> None:
        """Click an element; again, only if it moved away between the button's down and up."""
        element, heard = self.page.locator(selector).first, ["mousedown"]
        for _ in range(3):
            if heard == ["mousedown"]:
                element.evaluate(_LISTEN)
                element.click()
                heard = self.page.evaluate("window.heard")
        assert "click" in heard, f"never clicked: {selector} heard {heard}"

    def drag(self, selector: str, points, *, steps: int = 8) -> list[tuple[float, float]]:
        """Press at the first point, move through the others, release.

        Args:
            points: as fractions of the element.
        Returns:
            The places where the mouse was, as fractions.
        """
        box, mouse = self.box(selector), self.page.mouse
        at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        visited = [at[0]]
        mouse.move(*at[0])
        mouse.down()
        for (x0, y0), (x1, y1) in pairwise(at):
            for step in range(1, steps + 1):
                x, y = x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps
                mouse.move(x, y)
                visited.append((x, y))
        mouse.up()
        return [((x - box["x"]) / box["width"], (y - box["y"]) / box["height"]) for x, y in visited]

    def scrub(self, selector: str, part: float) -> None:
        """Drag the first slider inside an element to a fraction of its length."""
        parts = (".noUi-handle", ".ui-slider-handle"), (".noUi-target", ".ui-slider")  # new, old
        names = (", ".join(f"{selector} {name}" for name in part) for part in parts)
        handle, bar = (self.box(name) for name in names)
        mouse = self.page.mouse
        mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
        mouse.down()
        for k in range(1, 9):
            start = handle["x"] + handle["width"] / 2
            x = start + (bar["x"] + part * bar["width"] - start) * k / 8
            mouse.move(x, handle["y"] + handle["height"] / 2)
        mouse.up()

    def picture(self, name: str) -> Path:
        """Keep a screenshot."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}.png"
        self.page.screenshot(path=path)
        return path
