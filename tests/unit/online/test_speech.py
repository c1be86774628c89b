"""Spoken digits as spikes: the code of a pure tone, of silence and of a short recording, and the files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snncompile.errors import CompileError
from snncompile.online.speech import BANDS, FILE, LEVELS, STEPS, WIDTH, encode_speech, load_fsdd, mel_filters


def tone(hertz, samples, loudness=8000.0):
    return (loudness * np.sin(2 * np.pi * hertz * np.arange(samples) / 8000)).astype(np.int16)


def test_a_tone_fires_in_the_bands_around_its_frequency_only():
    s = encode_speech(tone(1000, 4000))
    assert (s.shape, s.dtype) == ((STEPS, len(LEVELS), BANDS, WIDTH), np.uint8)
    loudest = mel_filters()[:, 32].argmax()  # bin 32 of 256 at 8 kHz is 1,000 Hz
    assert s[:, :, loudest].all()
    assert not s[2:-2, :, :8].any()
    assert not s[2:-2, :, 24:].any()


def test_louder_is_more_channels_whatever_the_loudness_of_the_recording():
    rising = np.concatenate([tone(500, 2000, 300), tone(500, 2000, 9000)])
    s = encode_speech(rising)
    band = mel_filters()[:, 16].argmax()
    assert s[1, :, band].any(axis=1).tolist() == [False, False, True]  # 30 times less is -29.5 dB
    assert s[-2, :, band].all()
    np.testing.assert_array_equal(encode_speech(2 * rising), s)
    assert (np.diff(s.astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize("samples", [1, 100, 257, 8000])
def test_every_length_gives_the_same_shape(samples):
    assert encode_speech(tone(700, samples) + 1).shape == (STEPS, len(LEVELS), BANDS, WIDTH)


def write(folder, **arrays):
    recordings = [tone(400 + 100 * k, 900 + 50 * k) for k in range(12)]
    content = {
        "audio": np.concatenate(recordings), "offset": np.cumsum([0, *map(len, recordings)]), "digit": np.arange(12) % 10,
        "index": np.arange(12) % 8,
    }  # fmt: skip
    np.savez(folder / FILE, **(content | arrays))
    return recordings


def test_the_first_five_recordings_of_each_speaker_and_digit_are_the_test_set(tmp_path):
    recordings = write(tmp_path)
    (x, y), (test_x, test_y) = load_fsdd(tmp_path, "train"), load_fsdd(tmp_path, "test")
    assert y.tolist() == [5, 6, 7]
    assert test_y.tolist() == [0, 1, 2, 3, 4, 8, 9, 0, 1]
    assert (x.dtype, y.dtype, len(test_x)) == (torch.uint8, torch.int64, 9)
    np.testing.assert_array_equal(x[1], encode_speech(recordings[6]))


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(CompileError, match=r"the folder must hold fsdd_8khz_int16\.npz") as caught:
        load_fsdd(tmp_path, "test")
    assert caught.value.code == "SNN720"
    (tmp_path / FILE).write_bytes(b"PK no archive")
    with pytest.raises(CompileError) as caught:
        load_fsdd(tmp_path, "test")
    assert caught.value.code == "SNN721"
    np.savez(tmp_path / FILE, audio=np.zeros(3))
    with pytest.raises(CompileError) as caught:
        load_fsdd(tmp_path, "test")
    assert caught.value.code == "SNN721"
