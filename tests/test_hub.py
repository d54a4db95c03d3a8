"""The published model from the hub: a stand-in on this machine, and every way it can refuse."""

import errno
import functools
import hashlib
import http.server
import importlib
import io
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub
import pytest
import released
import torch
from huggingface_hub import constants, errors

from mofa_nb.checks import InputError
from mofa_nb.models import checkpoints, load
from mofa_nb.models.checkpoints import CMP_FILE, CMP_FOLDER, HYBRID, SVD, TRAJECTORY, find_release
from mofa_nb.models.models import model_dtypes
from mofa_nb.models.weights import content_hash

HALF = dict.fromkeys(model_dtypes("cpu"), torch.float16)
CLIENT = importlib.import_module(errors.HfHubHTTPError.__mro__[1].__module__.split(".")[0])
REQUEST = CLIENT.Request("HEAD", "https://hub.invalid/file")


def answer(status):
    """What the hub's client keeps of an answer with this HTTP status."""
    return CLIENT.Response(status, request=REQUEST)


def hub_error(kind, status):
    """An exception as the client raises it for an answer with this HTTP status."""
    return getattr(errors, kind)("told by the hub", response=answer(status))


def after(cause):
    """The client's exception for a file that is neither cached nor to be had, with its cause."""
    error = errors.LocalEntryNotFoundError("not here")
    error.__cause__ = cause
    return error


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """A new cache, and no token."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # it asks the real hub
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    return tmp_path / "cache"


class StandIn(http.server.SimpleHTTPRequestHandler):
    """Answers like the hub for files below `server.root`; repositories in `gated` refuse."""

    def send_head(self):
        owner, name, _, _, *inside = unquote(self.path).lstrip("/").split("/")
        repo, path, content = f"{owner}/{name}", "/".join(inside), b""
        self.server.asked.append((self.command, repo, path))
        file = self.server.root / repo / path
        if repo in self.server.gated:
            status, headers = 401, {"X-Error-Code": "GatedRepo"}
        elif not file.is_file():
            status, headers = 404, {"X-Error-Code": "EntryNotFound"}
        else:
            content = file.read_bytes()
            status, headers = 200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        headers |= {"X-Repo-Commit": "c" * 40, "Content-Length": str(len(content))}
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        return io.BytesIO(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """The three repositories in small, with files that nobody needs."""
    root = tmp_path_factory.mktemp("hub")
    places = released.write_tiny(root / HYBRID)
    for repo in (SVD, TRAJECTORY):
        (root / repo).parent.mkdir(parents=True, exist_ok=True)
    (root / SVD).symlink_to(places["svd"])
    released.write_json(places["svd"] / "svd_xt_1_1.safetensors", "a second copy in one file")
    (root / TRAJECTORY / "ckpts").mkdir(parents=True)
    (root / TRAJECTORY / "ckpts" / "controlnet").symlink_to(places["trajectory_adapter"])
    (root / TRAJECTORY / "models").symlink_to(root / HYBRID / "models")
    return root


@pytest.fixture
def stand_in(repositories, monkeypatch, empty_cache):
    """A server that answers like the hub, asked by the real client."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.root, server.gated, server.asked = repositories, set(), []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    here = {"endpoint": f"http://127.0.0.1:{server.server_port}"}
    for name in ("hf_hub_download", "hf_hub_url"):
        call = functools.partial(getattr(huggingface_hub, name), **here)
        monkeypatch.setattr(huggingface_hub, name, call)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_only_the_files_that_are_needed_are_downloaded_and_only_once(stand_in, monkeypatch):
    for part, sizes in released.TINY_SIZES.items():
        monkeypatch.setitem(checkpoints.SIZES, part, sizes)
    models = load.load_models("release", "cpu", HALF)
    got = {(repo, name) for command, repo, name in stand_in.asked if command == "GET"}
    weights = "diffusion_pytorch_model.fp16.safetensors"
    assert got == {
        (SVD, "scheduler/scheduler_config.json"),
        *((SVD, f"{part}/config.json") for part in ("unet", "vae", "image_encoder")),
        (SVD, f"unet/{weights}"),
        (SVD, f"vae/{weights}"),
        (SVD, "image_encoder/model.fp16.safetensors"),
        (TRAJECTORY, "ckpts/controlnet/diffusion_pytorch_model.safetensors"),
        (TRAJECTORY, f"{CMP_FOLDER}/{CMP_FILE}"),
    }
    assert set(models.adapters) == {"trajectory"}
    stand_in.asked.clear()
    again = load.load_models("release", "cpu", HALF)
    assert stand_in.asked == [] and again.hash == models.hash


FIND = """
import torch
from mofa_nb.models import checkpoints, models
formats = dict.fromkeys(models.model_dtypes("cpu"), torch.float16)
print(checkpoints.find_release(None, formats).weights["unet"])
"""


def test_a_mirror_is_asked_and_another_cache_is_filled_and_then_enough_offline(stand_in, tmp_path):
    home = tmp_path / "elsewhere"
    own = {"HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    mirror = {"HF_ENDPOINT": f"http://127.0.0.1:{stand_in.server_port}"}
    for more in (mirror, {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}):
        command, environment = [sys.executable, "-c", FIND], os.environ | own | more
        found = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert found.returncode == 0, found.stderr
        assert Path(found.stdout.strip()).is_relative_to(home)
        assert ("GET", SVD, "unet/diffusion_pytorch_model.fp16.safetensors") in stand_in.asked


def test_the_landmark_adapter_is_used_where_it_is_at_hand(stand_in):
    assert "landmark_adapter" not in find_release(None, HALF).weights
    name = "ckpts/mofa/ldmk_controlnet/diffusion_pytorch_model.safetensors"
    assert checkpoints.downloaded(HYBRID, name) is not None
    files, same = (find_release(p, HALF).weights for p in (None, stand_in.root / HYBRID))
    assert files.keys() == same.keys() and "landmark_adapter" in files
    hashes = [[content_hash(path) for path in found.values()] for found in (files, same)]
    assert hashes[0] == hashes[1]  # a folder with the same files is the same model


def test_the_copy_of_the_base_model_serves_where_the_original_is_gated(stand_in):
    stand_in.gated = {SVD}
    unet = find_release(None, HALF).weights["unet"]
    assert "MOFA-Video-Hybrid" in str(unet) and unet.is_file()


@pytest.mark.parametrize(
    ("token", "words"),
    [(None, rf"{SVD} is gated: accept .*hf auth login"), ("hf_x", "the present token has none")],
)
def test_a_gated_original_is_told_when_the_copy_is_gone_too(token, words, stand_in, monkeypatch):
    stand_in.gated = {SVD, HYBRID}
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    with pytest.raises(InputError, match=words):
        find_release(None, HALF)


def test_what_will_be_downloaded_is_told_first_and_must_fit_on_the_disk(
    stand_in, monkeypatch, capsys
):
    monkeypatch.setattr(checkpoints, "gib", lambda count: f"<{count}>")
    free = shutil.disk_usage(stand_in.root)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free)
    with pytest.raises(
        InputError, match=r"<\d+> GiB of .* where <1000000> GiB are free: make room"
    ):
        find_release(None, HALF)
    assert not [command for command, *_ in stand_in.asked if command == "GET"]
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free._replace(free=10**12))
    files = find_release(None, HALF)
    told = capsys.readouterr().err
    sizes = {repo: int(count) for count, repo in re.findall(r"<(\d+)> GiB of (\S+)", told)}
    paths = [*files.weights.values(), *(f / "config.json" for f in files.configs.values())]
    paths += [files.scheduler / "scheduler_config.json"]
    assert sizes.keys() == {SVD, TRAJECTORY}
    assert sum(sizes.values()) == sum(path.stat().st_size for path in paths)
    find_release(None, HALF)
    assert capsys.readouterr().err == ""


def test_a_file_that_no_repository_holds_any_more_is_told(stand_in, tmp_path):
    stand_in.root = tmp_path
    with pytest.raises(InputError, match=r"no longer holds Stable Video Diffusion as .*scheduler"):
        find_release(None, HALF)


REFUSALS = {
    "gated": (hub_error("GatedRepoError", 401), r"is gated: accept its terms at https://hugg"),
    "gone": (hub_error("RepositoryNotFoundError", 401), r"shows no stabilityai/.*private.*log in"),
    "disabled": (hub_error("DisabledRepoError", 403), r"refuses stabilityai/.* \(HTTP 403\)"),
    "no revision": (hub_error("RevisionNotFoundError", 404), r"refuses .* \(HTTP 404\)"),
    "bad token": (hub_error("HfHubHTTPError", 401), r"accept the stored token.*: log in .* again"),
    "narrow token": (after(hub_error("HfHubHTTPError", 403)), r"refuses .*check access"),
    "hub is down": (after(hub_error("HfHubHTTPError", 503)), r"not be reached .*\(HTTP 503\)"),
    "no connection": (
        after(CLIENT.ConnectError("no route", request=REQUEST)),
        r"could not be reached for stabilityai/.* \(ConnectError\): check the connection",
    ),
    "too slow": (CLIENT.ReadTimeout("slow", request=REQUEST), r"not be reached .*\(ReadTimeout\)"),
    "proxy": (CLIENT.ProxyError("none", request=REQUEST), r"not be reached .*\(ProxyError\)"),
    "no hub": (errors.FileMetadataError("no header"), r"not be reached .*\(FileMetadataError\)"),
    "a broken transfer": (RuntimeError("Task error: CAS"), r"not be reached .*\(RuntimeError\)"),
    "a refused transfer": (PermissionError("token"), r"not be reached .*\(PermissionError\)"),
    "disk full": (OSError(errno.ENOSPC, "full"), r"the hub's cache at .*cache is full: make room"),
    "read-only": (PermissionError(errno.EACCES, "no"), r"cannot be written: make room.*HF_HOME"),
}


@pytest.fixture
def refusing(monkeypatch):
    """Makes the hub's client raise; returns the names of files that it was asked for."""

    def begin(error):
        asked = []

        def refuse(repo, name, **_):
            asked.append(name)
            raise error

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url: refuse("", url))
        return asked

    return begin


@pytest.mark.parametrize("case", REFUSALS)
def test_every_refusal_is_one_sentence_with_a_remedy(refusing, case):
    error, sentence = REFUSALS[case]
    asked = refusing(error)
    with pytest.raises(InputError, match=sentence) as caught:
        find_release(None, HALF)
    assert "\n" not in str(caught.value) and ". " not in str(caught.value)
    if case == "no connection":
        assert len(asked) == 2  # its size and itself


def test_offline_mode_is_told_and_asks_nobody(stand_in, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"not in the hub's cache, and HF_HUB_OFFLINE forbids"):
        find_release(None, HALF)
    assert stand_in.asked == []


@pytest.mark.parametrize("mistake", [TypeError, AttributeError, KeyError, AssertionError])
def test_a_mistake_of_ours_is_not_dressed_up_as_a_refusal(mistake, refusing):
    refusing(mistake("ours"))
    with pytest.raises(mistake):
        find_release(None, HALF)
