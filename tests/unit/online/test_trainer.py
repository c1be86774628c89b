"""The trainer and its data: seeded, saved after every epoch, safe against an interrupt."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace

import pytest
import torch

import snncompile.online.trainer as trainer_module
from snncompile.errors import CompileError
from snncompile.online import load_checkpoint
from snncompile.online.data import load_mnist, random_shift
from snncompile.online.rule import step_loss, summed_logits, train_batch
from snncompile.online.trainer import TrainConfig, Trainer, evaluate, last_path

ARGS = {
    "config": [4, "A", 4],
    "in_channels": 1,
    "num_classes": 2,
    "input_size": [6, 6],
    "classifier": "flatten",
    "mean": [0.5],
    "std": [0.5],
}
CONFIG = TrainConfig(steps=2, epochs=3, batch_size=8, lr=0.02, shift=1)


def bars(count, seed):  # class 0: a horizontal bar, class 1: a vertical one
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (count,), generator=generator)
    x = torch.randint(0, 60, (count, 1, 6, 6), generator=generator, dtype=torch.uint8)
    for image, label in zip(x, y, strict=True):
        line = image[0, 2:4] if label == 0 else image[0, :, 2:4]
        line.fill_(250)
    return x, y


def trainer(tmp_path, config=CONFIG):
    return Trainer(arch="ottt_vgg", arch_args=ARGS, config=config, out=tmp_path / "model.pt", facts={"dataset": "bars"})


@pytest.mark.parametrize("method", ["OTTT_A", "OTTT_O"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_small_network_learns_to_tell_bars(tmp_path, method, optimiser, capsys):
    checkpoint = trainer(tmp_path, replace(CONFIG, method=method, optimiser=optimiser)).fit(bars(96, 0), bars(40, 1))
    assert checkpoint.training["test_accuracy"] >= 0.9
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]


PLAIN = {"in_channels": 1, "num_classes": 2, "mean": [0.5], "std": [0.5]}
VGG = PLAIN | {"config": [4, "A", 4], "input_size": [6, 6], "classifier": "flatten"}
RESNET = PLAIN | {"widths": [4], "depths": [1]}


@pytest.mark.parametrize(
    ("method", "arch", "arch_args"),
    [
        ("NDOT_A", "ndot_vgg", VGG),
        ("SLTT", "sltt_vgg", VGG),
        ("SLTT_K", "sltt_resnet", RESNET),
        ("EMPF", "empf_vgg", VGG | {"steps": 2, "float_first": True}),
        ("EMPF_R", "empf_resnet", RESNET | {"steps": 2}),
        ("OSR_A", "osr_vgg", VGG | {"steps": 2}),
        ("TET", "tet_vgg", VGG | {"shortcuts": [0]}),
        ("STBP", "tet_vgg", VGG | {"neuron": "asgl"}),
        ("LTL", "ltl_vgg", PLAIN | {"config": [[6, 1]], "hidden": [16], "input_size": [6, 6]}),
    ],
)
def test_every_method_learns_to_tell_bars(tmp_path, method, arch, arch_args):
    longer = {"steps": 8, "epochs": 6} if method == "LTL" else {}
    made = Trainer(arch=arch, arch_args=arch_args, config=replace(CONFIG, method=method, **longer), out=tmp_path / "model.pt")
    test = bars(40, 1)
    checkpoint = made.fit(bars(128, 0), test)
    assert checkpoint.training["test_accuracy"] >= 0.85
    loaded = load_checkpoint(last_path(tmp_path / "model.pt"))
    assert (loaded.arch, loaded.method) == (arch, method)
    assert loaded.input["layout"] == ("TB" if method in ("TET", "STBP") else "step")
    assert loaded.readout == ("mean" if method in ("TET", "STBP", "LTL") else "sum")
    assert evaluate(loaded.build(), test, loaded.steps) == loaded.training["test_accuracy"]


def test_the_weight_of_shortcuts_heads_falls_from_one_to_its_end(tmp_path, monkeypatch):
    used, train = [], trainer_module.through_time

    def spied(*args, shortcut, **options):
        used.append(shortcut)
        return train(*args, shortcut=shortcut, **options)

    monkeypatch.setattr(trainer_module, "through_time", spied)
    for end in (0.0, 1.0):
        config = replace(CONFIG, method="TET", epochs=2, shortcut_end=end)
        made = Trainer(arch="tet_vgg", arch_args=VGG | {"shortcuts": [0]}, config=config, out=tmp_path / "model.pt")
        made.fit(bars(24, 0), bars(4, 1))
    assert used[:6] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0])
    assert used[6:] == [1] * 6


def moving_bars(count, seed):  # class 0 runs down, class 1 up: no single step tells them apart
    y = torch.randint(0, 2, (count,), generator=torch.Generator().manual_seed(seed))
    x = torch.zeros(count, 4, 1, 6, 6, dtype=torch.uint8)
    for sample, label in zip(x, y, strict=True):
        for t in range(4):
            sample[t if label == 0 else 3 - t, 0, t + 1] = 1
    return x, y


@pytest.mark.parametrize(("method", "arch"), [("OTTT_A", "ottt_vgg"), ("TET", "tet_vgg")])
def test_a_network_learns_from_sequences(tmp_path, method, arch):
    config = replace(CONFIG, method=method, steps=4, epochs=4, shift=0)
    arguments = {k: v for k, v in VGG.items() if k not in ("mean", "std")} | {"config": [6, 6]}
    made = Trainer(arch=arch, arch_args=arguments, config=config, out=tmp_path / "model.pt", high=1)
    test = moving_bars(40, 1)
    last = made.fit(moving_bars(96, 0), test)
    assert last.training["test_accuracy"] >= 0.9
    assert (last.input["shape"], last.input["high"]) == ([1, 6, 6], 1)
    assert evaluate(last.build(), test, 4) == last.training["test_accuracy"]


def test_sequences_that_do_not_fit_the_method_are_refused(tmp_path):
    for changes in ({"steps": 3, "shift": 0}, {"steps": 4, "shift": 1}, {"steps": 4, "shift": 0, "method": "LTL"}):
        with pytest.raises(CompileError) as caught:
            trainer(tmp_path, replace(CONFIG, **changes)).fit(moving_bars(8, 0), moving_bars(8, 1))
        assert caught.value.code == "SNN730"
    with pytest.raises(CompileError, match="LTL trains the layers of an LTLStudent"):
        trainer(tmp_path, replace(CONFIG, method="LTL")).fit(bars(8, 0), bars(8, 1))


def test_best_and_last_checkpoint_hold_the_accuracy_they_were_measured_at(tmp_path):
    test = bars(40, 1)
    last = trainer(tmp_path).fit(bars(64, 0), test)
    history = last.training["history"]
    for path, accuracy in (
        (tmp_path / "model.pt", max(entry["test_accuracy"] for entry in history)),
        (last_path(tmp_path / "model.pt"), history[-1]["test_accuracy"]),
    ):
        loaded = load_checkpoint(path)
        assert loaded.training["test_accuracy"] == accuracy
        assert evaluate(loaded.build(), test, loaded.steps) == accuracy
        assert loaded.input == {"shape": [1, 6, 6], "layout": "step", "dtype": "uint8", "low": 0, "high": 255}
        assert (loaded.training["dataset"], loaded.training["train_samples"], loaded.classes) == ("bars", 64, 2)


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(tmp_path):
    config = replace(CONFIG, epochs=1)
    runs = [trainer(tmp_path, replace(config, seed=seed)).fit(bars(32, 0), bars(8, 1)).state_dict for seed in (4, 4, 5)]
    assert all(torch.equal(a, b) for a, b in zip(runs[0].values(), runs[1].values(), strict=True))
    assert not torch.equal(runs[0]["classifier.weight"], runs[2]["classifier.weight"])


def test_an_interrupted_run_keeps_the_weights_of_that_moment(tmp_path, monkeypatch):
    calls = []

    def interrupt_in_the_second_epoch(*arguments, **options):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return train_batch(*arguments, **options)

    monkeypatch.setattr(trainer_module, "train_batch", interrupt_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).fit(bars(32, 0), bars(8, 1))
    kept = load_checkpoint(last_path(tmp_path / "model.pt"))
    assert kept.training["interrupted"] is True
    assert len(kept.training["history"]) == 1
    assert "test_accuracy" not in kept.training  # not measured for these weights
    best = load_checkpoint(tmp_path / "model.pt")
    assert best.training["interrupted"] is False
    assert not torch.equal(kept.state_dict["classifier.weight"], best.state_dict["classifier.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0, "epochs": 0}, "steps must be at least 1\n  note: epochs must be at least 1"),
        ({"method": "BPTT"}, "one of OTTT_A, OTTT_O, .*, is 'BPTT'"),
        ({"optimiser": "lion"}, "adam or sgd, is 'lion'"),
        ({"lr": 0.0}, "lr > 0"),
        ({"mse": 1.5}, "0 <= mse <= 1"),
        ({"shortcut_end": -0.1}, "shortcut_end must be 0 to 1"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused_with_every_reason(changes, message):
    with pytest.raises(CompileError) as caught:
        replace(CONFIG, **changes)
    assert caught.value.code == "SNN730"
    assert re.search(message, str(caught.value))


def test_a_sample_without_time_steps_is_refused():
    layer = torch.nn.Linear(1, 2)
    for run in (
        lambda: summed_logits(layer, []),
        lambda: train_batch(layer, [], torch.zeros(1), torch.optim.SGD(layer.parameters(), 0.1), steps=1),
    ):
        with pytest.raises(CompileError) as caught:
            run()
        assert caught.value.code == "SNN731"


def test_the_step_loss_mixes_cross_entropy_and_squared_error():
    y = torch.tensor([[1.0, -1.0, 0.5]])
    cross_entropy = torch.logsumexp(y, 1) - y[:, 2]
    squared = ((y - torch.tensor([[0.0, 0.0, 1.0]])) ** 2).mean()
    torch.testing.assert_close(step_loss(y, torch.tensor([2]), 4), (0.95 * cross_entropy[0] + 0.05 * squared) / 4)


def test_random_shift_moves_each_image_by_a_few_pixels_and_fills_with_zeros():
    images = torch.arange(1, 2 * 2 * 5 * 4 * 20 + 1).remainder(251).add(1).to(torch.uint8).reshape(40, 2, 5, 4)[:30]
    moved = random_shift(images, 2, torch.Generator().manual_seed(0))
    seen = set()
    for image, result in zip(images, moved, strict=True):
        matches = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                want = torch.zeros_like(image)
                source = image[:, max(0, -dy) : 5 - max(0, dy), max(0, -dx) : 4 - max(0, dx)]
                want[:, max(0, dy) : 5 + min(0, dy), max(0, dx) : 4 + min(0, dx)] = source
                if torch.equal(want, result):
                    matches.append((dy, dx))
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 10
    assert random_shift(images, 0) is images


def write_idx(path, sizes, data):
    header = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    path.write_bytes(gzip.compress(header + bytes(data)))


def test_mnist_files_are_read_byte_for_byte(tmp_path):
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", (2, 2, 3), range(12))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", (2,), (7, 9))
    x, y = load_mnist(tmp_path, "test")
    assert x.tolist() == [[[[0, 1, 2], [3, 4, 5]]], [[[6, 7, 8], [9, 10, 11]]]]
    assert (x.dtype, y.dtype, y.tolist()) == (torch.uint8, torch.int64, [7, 9])


def test_a_missing_data_file_is_named_with_what_the_folder_must_hold(tmp_path):
    with pytest.raises(CompileError, match=r"the folder must hold .*t10k-labels-idx1-ubyte") as caught:
        load_mnist(tmp_path, "train")
    assert caught.value.code == "SNN720"


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"\0\0\x0d\1\0\0\0\1abcd"), gzip.compress(b"\0\0\x08\1\0\0\0\5ab"), gzip.compress(b"abc" * 20)[:-12]],
    ids=["no-gzip", "floats", "short", "truncated"],
)
def test_a_damaged_data_file_is_refused(tmp_path, content):
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(CompileError) as caught:
        load_mnist(tmp_path, "test")
    assert caught.value.code == "SNN721"


def test_images_and_labels_of_different_number_are_refused(tmp_path):
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", (1, 2, 2), range(4))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", (2,), (7, 9))
    with pytest.raises(CompileError, match="do not belong together"):
        load_mnist(tmp_path, "test")


def test_a_bar_is_drawn_only_where_a_person_watches(monkeypatch, capsys):
    from snncompile.online.console import progress

    assert list(progress((torch.zeros(1),), "epoch")) == [torch.zeros(1)]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert len(list(progress((torch.zeros(1),) * 3, "epoch 1/1"))) == 3
