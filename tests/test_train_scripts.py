"""The scripts beside the weights, dry: the mini model's recipe, and the run for a GPU."""

import json
import re

import cv2
import pytest
import tiny
import torch
from train_hands import changed, script_of

from mofa_nb.adapter.adapter import Conditioning
from mofa_nb.adapter.unet import Residuals
from mofa_nb.clips.footage.bank import save_bank
from mofa_nb.models import weights
from mofa_nb.models.frame_decoder import decode_alone
from mofa_nb.models.load import load_models
from mofa_nb.train.parts import open_parts


@pytest.fixture(scope="module")
def script():
    module = script_of("train_mini")
    module.FRAMES, module.SCENE, module.FACE, module.PICTURES = 3, (64, 64), (64, 64), 8
    module.SCENE_CROPS, module.CHUNK = ((1, 8),), 2
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny.write_folder(tmp_path_factory.mktemp("mini") / "model")
    for part in ("trajectory_adapter", "landmark_adapter"):
        file = folder / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"warp": "picture"}))
    return folder


def test_its_prediction_is_that_of_unet_and_adapter(script, model):
    parts = open_parts(model, script.TRAINED)
    teacher, generator = script.Teacher(parts, model), torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    for name, net in parts.items():
        for value in net.parameters() if name != "unet" else ():
            value.data = 0.1 * normal(*value.shape)
    sample, token, time = normal(2, 3, 8, 8, 8), normal(2, 1, 16), torch.tensor([1.0, 0.5])
    warped = tuple(normal(2, 3, 32, side, side) for side in (8, 4, 2, 1))
    keep = torch.tensor([1.0, 0.0])
    for kind, marks in (("trajectory_adapter", None), ("landmark_adapter", normal(2, 3, 32, 8, 8))):
        known = Conditioning(sample[:, 1:, :2], (), warped, marks)
        inputs, ids = (sample, time, token), teacher.ids.expand(2, -1)
        made = parts[kind](*inputs, ids, known)
        factor = keep.repeat_interleave(3).view(-1, 1, 1, 1)
        made = Residuals(tuple(r * factor for r in made.down), made.mid * factor)
        wanted = parts["unet"](*inputs, ids, made)
        assert not torch.allclose(wanted[0], parts["unet"](*inputs, ids)[0], atol=1e-2)
        predicted = teacher.predict(parts[kind], known, sample, time, token, keep)
        torch.testing.assert_close(predicted, wanted, rtol=0, atol=1e-3)


def test_parts_end_where_their_picture_ends(script, model):
    teacher = script.Teacher(open_parts(model, script.TRAINED), model)
    net = teacher.adapter.controlnet_cond_embedding.bfloat16()
    torch.nn.init.normal_(net.conv_out.weight, std=0.1)
    pixels = torch.randint(256, (2, 3, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    clips = {"first": pixels[:, 0], "moved": pixels[:, 1:], "latents": torch.zeros(2, 3, 4, 16, 16)}
    places = torch.tensor([[0, 8], [8, 0]])  # top right and bottom left
    made = teacher.features(clips, places, 8).unflatten(0, (2, 3))
    whole = net((pixels.flatten(0, 1) / 127.5 - 1).bfloat16()).unflatten(0, (2, 3))
    close = {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(made[0, ..., :2, 2:], whole[0, ..., :2, 10:], **close)
    torch.testing.assert_close(made[1, ..., 2:, :2], whole[1, ..., 10:, :2], **close)


def test_all_of_its_work_runs(script, model, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "passing", lambda minutes: iter([k / 4 for k in range(4)]))
    bank, clips = tmp_path / "bank.pt", tmp_path / "clips"
    save_bank(tiny.bank(), bank)
    script.make_clips(model, bank, clips, 1, 0)
    kinds = [file.name.split("_")[0] for file in sorted(clips.iterdir())]
    assert kinds == ["faces", "scenes", "scenes", "scenes"]
    monkeypatch.setattr(script, "FACES", 0.5)
    before = {name: weights.load_part(name, model / name) for name in script.TRAINED}
    script.teach_steps(model, clips, tmp_path / "out", 1, 0)
    for name, old in before.items():
        learned = changed(old, weights.load_part(name, tmp_path / "out" / name), atol=1e-4)
        assert learned and not any(key.startswith(script.DEEP) for key in learned)
    script.teach_embedder(model, bank, tmp_path / "out", 1, 0)
    resumed(script, model, clips, tmp_path / "out", monkeypatch)
    vae = weights.load_part("vae", model / "vae")
    script.teach_vae(model, clips, tmp_path / "out", 1, 0)
    new = weights.load_part("vae", tmp_path / "out" / "vae")
    learned = changed(vae, new)
    assert learned and all(re.match(r"decoder\.(up_blocks\.[12]|conv_)", key) for key in learned)
    decode_alone(new)
    silent = [[b.silent for b in level.resnets] for level in new.decoder.up_blocks]
    assert silent == [[False] * 2, [True] * 2, [True] * 2]


def resumed(script, model, clips, out, monkeypatch):
    """A run that is ended goes on with its count; the state is gone when it is at its end."""
    counts, load = [], script.Learner.load
    monkeypatch.setattr(script, "KEEP_EVERY", 2)
    monkeypatch.setattr(script.Learner, "load", lambda *a: (load(*a), counts.append(a[0].count)))

    def ended(minutes):
        yield from (0.1, 0.2, 0.3)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(script, "passing", ended)
        with pytest.raises(KeyboardInterrupt):
            script.teach_steps(model, clips, out, 1, 0)
    assert (out / "state.pt").is_file()
    script.teach_steps(model, clips, out, 1, 0)
    assert counts == [2] and not (out / "state.pt").exists()


# The run for a GPU

DRY = "--steps 3 --batch 2 --size 64 64 --frames 4 --pool 2 --chunk 2 --log-every 1 --device cpu"


@pytest.fixture(scope="module")
def for_gpu():
    return script_of("train_on_gpu")


def test_one_command_trains_a_model_that_moves_the_picture(for_gpu, tmp_path, capsys):
    model, data, out = (tmp_path / name for name in ("model", "data", "out"))
    tiny.write_folder(model)
    (data / "photos").mkdir(parents=True)
    for number, photo in enumerate(tiny.photos()):
        cv2.imwrite(str(data / "photos" / f"{number}.png"), photo.permute(1, 2, 0).numpy())
    assert for_gpu.main([str(model), str(data), str(out), "--", *DRY.split()]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == [1, 2, 3]
    before, after = load_models(model, "cpu"), load_models(out, "cpu")
    assert before.adapters["trajectory"].config.warp == "features"
    assert after.adapters["trajectory"].config.warp == "picture"
    assert before.hash != after.hash
    assert not list(out.glob("*_run")) and not list(tmp_path.rglob("bank.pt"))


def test_the_minutes_are_what_preparing_leaves(for_gpu, monkeypatch):
    asked, clock = [], iter([0, 90])
    monkeypatch.setattr(for_gpu, "prepare", lambda *folders: None)
    monkeypatch.setattr(for_gpu.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(for_gpu, "train", lambda call: asked.append(call) or 0)
    assert for_gpu.main(["m", "d", "o"]) == 0 and for_gpu.MINUTES < 9
    assert asked[0][asked[0].index("--minutes") + 1] == f"{for_gpu.MINUTES - 1.5:.2f}"
