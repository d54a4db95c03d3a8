"""The folder of a training run: what is written is whole, what does not belong is refused."""

import os
import resource
import shutil
import subprocess
import sys

import pytest
from torch import nn
from train_hands import line, noisy, schedule

from mofa_nb.checks import InputError
from mofa_nb.train.loop import Trainer


def trainer(folder, steps=4, net=None, **settings):
    return Trainer({"net": net or line()}, folder, schedule(steps, **settings))


def resumed(*what, **settings):
    run = trainer(*what, **settings)
    run.resume()
    return run


def fit(run):
    return run.fit(noisy(run.modules["net"]), every=2)


def test_a_second_run_in_one_folder_is_refused_until_the_first_has_ended(tmp_path):
    first, second = trainer(tmp_path), trainer(tmp_path)
    with first.folder.held(), pytest.raises(InputError, match="another run is writing to"):
        fit(second)
    fit(second)


def test_a_full_disk_ends_a_run_in_one_sentence_and_leaves_the_checkpoint_before(tmp_path):

    def sizes():
        return {f.name: f.stat().st_size for f in (tmp_path / "step-00000004").iterdir()}

    fit(trainer(tmp_path, 4))
    before, later = sizes(), resumed(tmp_path, 6)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1200, usual[1]))
    try:
        with pytest.raises(InputError, match=r"step-00000006 cannot be written .*free some space"):
            fit(later)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert sizes() == before and len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1
    fit(resumed(tmp_path, 6))


FILES = ("model.safetensors", "optimizer.bin", "extra.pt")
DAMAGES = {
    "cut off": lambda data: data[:30],
    "empty": lambda data: b"",
    "changed": lambda data: b"x" * len(data),
    "gone": None,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_remains(tmp_path, name, damage):
    fit(trainer(tmp_path, 4, save_every=2))
    file, change = tmp_path / "step-00000004" / name, DAMAGES[damage]
    file.write_bytes(change(file.read_bytes())) if change else file.unlink()
    with pytest.raises(InputError, match=r"step-00000004 is damaged .*delete that folder"):
        resumed(tmp_path)
    shutil.rmtree(file.parent)
    assert resumed(tmp_path).step == 2


def test_a_checkpoint_of_another_run_or_none_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint to resume in .*leave --resume out"):
        resumed(tmp_path)
    fit(trainer(tmp_path))
    with pytest.raises(InputError, match=r"belongs to another run .*2 trained tensors"):
        resumed(tmp_path, net=nn.Linear(3, 1))


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_train_folder import fit, resumed, trainer

def child(folder, resume):
    number = os.fork()
    if number:
        return number
    fit((resumed if resume else trainer)(folder, 12, save_every=2))
    os._exit(0)

def weight(folder):
    run = resumed(folder, 12)
    return run.step, run.modules["net"].weight.item(), [x["loss"] for x in run.log]

straight, killed, kills = Path(sys.argv[2]) / "a", Path(sys.argv[2]) / "b", 0
start = time.monotonic()
os.waitpid(child(straight, False), 0)
whole = time.monotonic() - start
while True:
    number = child(killed, any(killed.glob("step-*")))
    if kills < 5:
        time.sleep(random.uniform(0.05, 0.4) * whole)
        os.kill(number, signal.SIGKILL)
    kills += os.waitpid(number, 0)[1] == signal.SIGKILL
    if (killed / "step-00000012").exists():
        break
assert kills, "it was never killed"
assert weight(straight) == weight(killed), (weight(straight), weight(killed))
"""


def test_a_run_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path):
    here = os.path.dirname(__file__)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, here, str(tmp_path)],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
