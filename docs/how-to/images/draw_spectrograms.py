"""Draws spectrograms.png: four sounds, made here, as a network sees them."""

import io
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnclf.drawing.canvas import Tile, draw_canvas, save_canvas
from cnnclf.images.decode import decode_image
from cnnclf.images.input_spec import InputSpec, SoundSpec

RATE = 16_000
TIME = np.arange(RATE) / RATE


def make_sounds() -> dict[str, npt.NDArray[np.float64]]:
    """Return one second of each sound, -1..1."""
    noise = np.random.default_rng(0).normal(size=RATE)
    beats = np.exp(-12 * np.mod(TIME, 0.25))
    return {
        "a rising tone": 0.4 * np.sin(2 * np.pi * (200 * TIME + 900 * TIME**2)),
        "a chord": sum(0.1 * np.sin(2 * np.pi * hz * TIME) for hz in (440, 554, 659, 880, 1760)),
        "four beats": 0.1 * beats * noise,
        "noise": 0.05 * noise,
    }


def encode(samples: npt.NDArray[np.float64]) -> bytes:
    """Return the content of a WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.rint(samples * 32_767).astype("<i2").tobytes())
    return buffer.getvalue()


def main() -> None:
    """Draw the figure."""
    sound = SoundSpec(1.0)
    spec = InputSpec(sound.bands, sound.frames, 1, fit="squash", kind="sound", sound=sound)
    tiles = [
        Tile(decode_image(encode(samples), spec)[..., 0], name)
        for name, samples in make_sounds().items()
    ]
    save_canvas(draw_canvas([tiles], side=101), Path(__file__).with_name("spectrograms.png"))


if __name__ == "__main__":
    main()
