"""Sounds as mel spectrograms: values of a reference, odd files, and the recipe."""

import io
import math
import struct
import sys
import wave
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnnclf.errors import ConfigError, ImageError, MissingPackageError
from cnnclf.images.decode import InputSpec, decode_image, inspect_image
from cnnclf.images.input_spec import SoundSpec
from cnnclf.images.sound_files import inspect_sound, load_sound, mel_filters, mel_spectrogram

RATE = 16_000
SPEC = SoundSpec(0.5)
INPUT = InputSpec(SPEC.bands, SPEC.frames, 1, fit="squash", kind="sound", sound=SPEC)


def tone(hz: float, *, seconds: float = 0.5, rate: int = RATE, level: float = 0.5) -> Any:
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def encode(
    samples: npt.NDArray[np.float64], *, rate: int = RATE, width: int = 2, channels: int = 1
) -> bytes:
    """Write PCM; every channel is the same."""
    whole = np.rint(samples * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    whole = np.repeat(whole, channels)
    if width == 1:
        data = (whole + 128).astype(np.uint8).tobytes()
    else:
        data = whole.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return buffer.getvalue()


def loudest_band(content: bytes) -> int:
    """Return the band with the most power, counted from the lowest."""
    pixels = decode_image(content, INPUT)[..., 0]
    return SPEC.bands - 1 - int(pixels.mean(axis=1).argmax())


# From torchaudio 2.11.1: MelSpectrogram(sample_rate=16000, n_fft=512, win_length=400,
# hop_length=160, n_mels=64, f_min=20, f_max=8000).mel_scale.fb, by band and bin.
REFERENCE = {(0, 1): 0.399819, (5, 7): 0.645779, (63, 250): 0.573024, (20, 33): 0.0}


def test_filters_are_those_of_torchaudio() -> None:
    filters = mel_filters(SPEC)
    assert filters.shape == (64, 257)
    for place, value in REFERENCE.items():
        assert filters[place] == pytest.approx(value, abs=1e-4)
    assert filters.sum() == pytest.approx(249.652540, abs=1e-3)


def test_the_spectrogram_is_that_of_its_definition() -> None:
    samples = np.random.default_rng(3).normal(size=SPEC.samples)
    found = mel_spectrogram(samples, SPEC)
    assert found.shape == (64, SPEC.frames)
    padded = np.pad(samples, 256, mode="reflect")
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    for column in (0, 7, SPEC.frames - 1):
        part = padded[column * 160 : column * 160 + 512] * window
        power = np.abs(np.fft.rfft(part)) ** 2
        expected = 10 * np.log10(np.maximum(mel_filters(SPEC) @ power, 1e-10))
        np.testing.assert_allclose(found[:, column], expected, atol=1e-6)


@pytest.mark.parametrize("hz", [200.0, 1000.0, 3500.0])
def test_a_tone_is_a_line_at_its_pitch(hz: float) -> None:
    mels = [2595 * math.log10(1 + f / 700) for f in (20.0, hz, 8000.0)]
    expected = (mels[1] - mels[0]) / (mels[2] - mels[0]) * 65 - 1
    assert loudest_band(encode(tone(hz))) == pytest.approx(expected, abs=1.01)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 12_345])
def test_every_rate_gives_the_same_image(rate: int) -> None:
    own = decode_image(encode(tone(1000.0)), INPUT).astype(int)
    other = decode_image(encode(tone(1000.0, rate=rate), rate=rate), INPUT).astype(int)
    middle = slice(8, -8)  # the ends of a cut tone ring
    line = own[:, middle].max(axis=(1, 2)).argmax()
    assert np.abs(own - other)[line, middle].max() <= 2


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2, 96])
def test_depth_and_channels_do_not_change_the_image(width: int, channels: int) -> None:
    expected = decode_image(encode(tone(700.0)), INPUT).astype(int)
    found = decode_image(encode(tone(700.0), width=width, channels=channels), INPUT).astype(int)
    line = expected.mean(axis=(1, 2)).argmax()
    assert np.abs(expected - found)[line].max() <= 1


def test_short_sounds_are_padded_and_of_long_ones_the_middle_is_seen() -> None:
    short = decode_image(encode(tone(1000.0, seconds=0.1)), INPUT)[..., 0]
    assert short[:, :15].max() == 0
    assert short[:, 25].max() > 100
    long = np.concatenate(
        [tone(300.0, seconds=2), tone(3000.0, seconds=0.7), tone(300.0, seconds=2)]
    )
    assert loudest_band(encode(long)) == loudest_band(encode(tone(3000.0)))


def test_an_hour_is_not_resampled_as_a_whole() -> None:
    samples = np.zeros(3600 * 1000)
    image, facts = load_sound(encode(samples, rate=1000, width=1), SPEC)
    assert (image.size, facts.seconds) == ((SPEC.frames, SPEC.bands), 3600)


def test_silence_is_black() -> None:
    assert decode_image(encode(np.zeros(4000)), INPUT).max() == 0


def test_a_sound_is_described() -> None:
    info = inspect_image(encode(tone(500.0, rate=8000), rate=8000, channels=2), kind="sound")
    assert (info.height, info.width, info.mode, info.format) == (64, 51, "sound", "WAV")
    assert info.note == "2 channels mixed to one; 8,000 Hz: nothing above 4,000 Hz"


def patched(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encode(np.zeros(0)), "0 samples"),
        (encode(tone(500.0))[:-100], "truncated"),
        (encode(tone(500.0))[:30], "damaged"),
        (patched(encode(tone(500.0)), 24, struct.pack("<I", 3)), "samples per second"),
        (patched(encode(tone(500.0)), 22, struct.pack("<H", 0)), "damaged"),
        (b"RIFF\0\0\0\0WAVE", "damaged"),
        (b"\x89PNG\r\n\x1a\n", "expected a sound"),
        (b"", "expected a sound"),
    ],
)
def test_what_is_no_sound_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        inspect_image(content, kind="sound")


@pytest.mark.parametrize("name", ["FLAC", "OGG", "MP3"])
def test_other_formats_by_soundfile(name: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(1000.0, seconds=1), RATE, format=name)
    facts = inspect_sound(buffer.getvalue())
    assert (facts.format, facts.rate, facts.channels) == (name, RATE, 1)
    assert loudest_band(buffer.getvalue()) == loudest_band(encode(tone(1000.0, seconds=1)))
    with pytest.raises(ImageError, match=f"the {name} is"):
        inspect_sound(buffer.getvalue()[:60])


def test_a_wav_of_floats_is_read_by_soundfile() -> None:
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(1000.0), RATE, format="WAV", subtype="FLOAT")
    assert loudest_band(buffer.getvalue()) == loudest_band(encode(tone(1000.0)))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingPackageError, match="FLAC needs soundfile"):
        inspect_sound(b"fLaC" + bytes(40))


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": 0.0},
        {"seconds": 1e9},
        {"seconds": "1"},
        {"seconds": math.nan},
        {"window": 513},
        {"bands": 0},
        {"high_hz": 9000.0},
        {"low_hz": 8000.0},
        {"floor_db": 30.0},
    ],
)
def test_wrong_recipes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SoundSpec(**{"seconds": 1.0, **wrong})


def test_the_recipe_is_part_of_the_input_spec() -> None:
    content = INPUT.to_dict()
    assert content["sound"]["bands"] == 64
    assert InputSpec.from_dict(content) == INPUT
    assert "sound" not in InputSpec(3, 3).to_dict()
    with pytest.raises(ConfigError):
        InputSpec.from_dict({**content, "sound": {**content["sound"], "more": 1}})
    with pytest.raises(ConfigError):
        InputSpec(3, 3, kind="sound")
    with pytest.raises(ConfigError):
        InputSpec(3, 3, sound=SPEC)
