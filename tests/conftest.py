"""Options and fixtures shared by all tests."""

import functools
import ipaddress
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything starts threads of its own
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import golden_fill
import numpy as np
import pytest

# What takes longest begins first, so that no worker is left alone with it at the end.
LONGEST = ("test_notebooks", "test_release_full_size", "test_parity", "test_train_stages")
APART = ("test_notebooks",)  # each test by itself; other files stay together for their fixtures

pytest_plugins = ["cli_hands"]  # its fixtures serve two files

for topic in Path(__file__).parent.glob("parity_*.py"):
    pytest.register_assert_rewrite(topic.stem)  # their asserts explain themselves, too


COMMITTED = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Sampled:
    """A recorded array of which every `step`-th value is kept, counted through its flat order."""

    values: np.ndarray
    step: int
    shape: tuple[int, ...]

    def of(self, ours) -> np.ndarray:
        """The same values of another array; an assertion that it has the recorded shape."""
        ours = np.asarray(ours)
        assert ours.shape == self.shape
        return ours.reshape(-1)[:: self.step]


class Golden:
    """A folder of recorded numbers, and the generators that made their inputs."""

    fill = staticmethod(golden_fill.fill_array)
    fill_module = staticmethod(golden_fill.fill_module)
    rnd = staticmethod(golden_fill.rnd)
    smooth_flow = staticmethod(golden_fill.smooth_flow)

    def __init__(self, folder: Path):
        self.folder = folder

    @functools.cached_property
    def split(self) -> str:
        """The word that stands in input tags."""
        return self.load_json("meta")["split"]

    def load(self, name: str) -> dict[str, np.ndarray | Sampled]:
        """All arrays of `<name>.npz`; `<key>~<step>` and `<key>~shape` are a `Sampled` one."""
        with np.load(self._file(f"{name}.npz"), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        for key in [key for key in arrays if key.endswith("~shape")]:
            plain, shape = key.removesuffix("~shape"), tuple(arrays.pop(key).tolist())
            part = next(k for k in arrays if k.startswith(f"{plain}~"))
            arrays[plain] = Sampled(arrays.pop(part), int(part.partition("~")[2]), shape)
        return arrays

    def load_json(self, name: str):
        """The content of `<name>.json`."""
        return json.loads(self._file(f"{name}.json").read_text(encoding="utf-8"))

    def _file(self, name: str) -> Path:
        """In the folder or below it; what other recordings do not hold cannot be compared."""
        found = sorted(self.folder.rglob(name))
        if not found and self.folder != COMMITTED and any(self.folder.iterdir()):
            pytest.skip(f"{self.folder} holds no {name}")
        return found[0] if found else self.folder / name


def pytest_collection_modifyitems(items):
    """Files are handed to workers whole, the longest first."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))
    for item in items:
        group = item.nodeid if item.path.stem in APART else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_addoption(parser):
    parser.addoption(
        "--golden",
        default=str(COMMITTED),
        help="folder of recorded numbers (default: the committed copy)",
    )


@pytest.fixture(scope="session")
def golden(request) -> Golden:
    """The recorded numbers chosen by --golden."""
    return Golden(Path(request.config.getoption("--golden")))


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def make_pad(tmp_path):
    """Builds pads on a photograph of 400 x 300; they are closed in the end."""
    from pad_hands import open_pads

    with open_pads(tmp_path) as make:
        yield make


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """A face of 300 x 300 pixels; not to be changed."""
    from mofa_nb.media.images import read_image
    from mofa_nb.paths import data_file

    return np.ascontiguousarray(read_image(data_file("astronaut.jpg"))[:300, 60:360])


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory) -> Path:
    """A whole toy model's folder; not to be changed."""
    import tiny

    return tiny.write_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def bank(tmp_path_factory) -> Path:
    """A bank of pictures without clips, in one file."""
    import tiny

    from mofa_nb.clips.footage.bank import save_bank

    file = tmp_path_factory.mktemp("bank") / "bank.pt"
    save_bank(tiny.bank(), file)
    return file


def _is_near(host: object) -> bool:
    """Whether an address is this machine's own."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback or name == "0.0.0.0"
    except ValueError:
        return False


@pytest.fixture(scope="session")
def _far_sockets():
    """Refuses every address beyond this machine, and collects what was asked for."""
    asked, patch = [], pytest.MonkeyPatch()

    def guarded(real, host_of):
        @functools.wraps(real)
        def guard(*arguments, **options):
            host = host_of(arguments)
            if _is_near(host):
                return real(*arguments, **options)
            asked.append(host)
            raise PermissionError(f"a test asked the network for {host}")

        return guard

    for name in ("connect", "connect_ex"):
        far = lambda a: a[1][0] if isinstance(a[1], tuple) else None  # noqa: E731  # else a pipe's
        patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name), far))
    patch.setattr(socket, "getaddrinfo", guarded(socket.getaddrinfo, lambda a: a[0]))
    yield asked
    patch.undo()


@pytest.fixture(autouse=True)
def no_network(_far_sockets):
    """Nothing asks the network unless its user did; what swallows the refusal fails here."""
    _far_sockets.clear()
    yield _far_sockets
    assert not _far_sockets, f"the network was asked for {_far_sockets}"


@pytest.fixture(scope="session")
def scenes():
    """Four drawn scenes of four frames; not to be changed."""
    import tiny

    from mofa_nb.clips.scenes import random_scenes

    return random_scenes(tiny.photos(), 4, 4, (64, 64), generator=tiny.seeded(1))
