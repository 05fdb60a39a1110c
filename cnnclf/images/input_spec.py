"""What a model expects: size, colors, and how an image is resized to it. Needs no Pillow."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cnnclf.errors import ConfigError

FITS = ("crop", "pad", "squash")
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest", "box")
CHANNELS = (1, 3)
KINDS = ("image", "array", "sound")  # what the files of a dataset hold; never mixed

# Incremented whenever the decoder gives other pixels for the same file and spec, so that neither
# stored pixels nor a trained model are ever mixed with pixels made by other rules.
DECODER_VERSION = 1

_MAX_SIDE = 16_384


@dataclass(frozen=True)
class SoundSpec:
    """How a sound becomes a gray image: its mel spectrogram in decibels, low pitches at the bottom.

    The sound is mixed to one channel and resampled; of a longer one the middle is taken, a shorter
    one is padded with silence on both sides. Then come windows of Hann, the power of their Fourier
    transforms, and triangular bands that are equally spaced in mel as HTK defines it, not
    normalized: what `torchaudio.transforms.MelSpectrogram` computes with its defaults.

    Args:
        seconds: Length of the sound that is seen, above 0.
        sample_rate: Samples per second after resampling.
        window: Samples of a window.
        hop: Samples from one window to the next, which is one column of the image.
        fft: Samples of the Fourier transform, at least `window`.
        bands: Mel bands, which are the rows of the image.
        low_hz: Where the lowest band begins.
        high_hz: Where the highest band ends, at most half of `sample_rate`.
        floor_db: Decibels of power that become 0; 0 dB is a power of 1.
        ceiling_db: Decibels that become 255.

    Raises:
        ConfigError: A value has the wrong type or is out of range.
    """

    seconds: float
    sample_rate: int = 16_000
    window: int = 400
    hop: int = 160
    fft: int = 512
    bands: int = 64
    low_hz: float = 20.0
    high_hz: float = 8_000.0
    floor_db: float = -50.0
    ceiling_db: float = 30.0

    def __post_init__(self) -> None:
        for name in ("seconds", "low_hz", "high_hz", "floor_db", "ceiling_db"):
            value = getattr(self, name)
            if type(value) not in {int, float} or not math.isfinite(value):
                raise ConfigError(f"expected {name} of a sound as a number, received {value!r}")
        for name, high in (
            ("sample_rate", 400_000),
            ("fft", 65_536),
            ("window", self.fft),
            ("hop", 65_536),
            ("bands", 1024),
        ):
            _check_whole(f"{name} of a sound", getattr(self, name), low=1, high=high)
        if not self.seconds > 0 or self.frames > _MAX_SIDE:
            raise ConfigError(
                f"expected seconds of a sound above 0 and at most "
                f"{_MAX_SIDE * self.hop / self.sample_rate:.0f}, received {self.seconds!r}"
            )
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ConfigError(
                f"expected 0 <= low_hz < high_hz <= {self.sample_rate / 2:g}, received "
                f"{self.low_hz!r} and {self.high_hz!r}"
            )
        if self.floor_db >= self.ceiling_db:
            raise ConfigError(
                f"expected floor_db below ceiling_db, received {self.floor_db!r} and "
                f"{self.ceiling_db!r}"
            )

    @property
    def samples(self) -> int:
        """Samples that are seen, after resampling."""
        return max(1, round(self.seconds * self.sample_rate))

    @property
    def frames(self) -> int:
        """Columns of the image."""
        return 1 + self.samples // self.hop


@dataclass(frozen=True)
class InputSpec:
    """What a model expects: size, colors, and how an image is resized to it.

    Args:
        height: Rows of pixels, 1..16384.
        width: Columns of pixels, 1..16384.
        channels: 3 for RGB, 1 for gray.
        fit: `crop` (scale the shorter side, crop the center), `pad` (scale the longer side, fill
            with `background`) or `squash` (scale both sides and lose the aspect ratio).
        interpolation: `bilinear`, `bicubic`, `lanczos`, `nearest` or `box`; all but `nearest` are
            antialiased when shrinking, as in Pillow.
        crop_fraction: Fraction of the shorter side that the crop keeps, (0, 1]; only for `crop`.
            The shorter side is scaled to round(size / crop_fraction) and the center is cropped, so
            224 with 0.875 is the usual "resize to 256, center crop 224".
        background: RGB 0..255, shown through transparent pixels and in padded borders.
        value_range: (low, high): values that become 0 and 255 in images of more than 8 bits; values
            outside are clipped. None: 0..65535 for 16 bits, and for 32 bits and floating point the
            extremes of each image.
        kind: What the files hold: `image`, `array` (NumPy, two dimensions, or three with colors),
            or `sound`; the decoder refuses the other two.
        sound: How a sound becomes an image; only for sounds.
        bands: Channels of a file that are used, from 0, one or three of them, for files of more
            channels than colors; None for gray or colors.
        version: Version of the decoder's rules; only that of this program is accepted.

    Raises:
        ConfigError: A value has the wrong type or is out of range.
    """

    height: int
    width: int
    channels: int = 3
    fit: str = "crop"
    interpolation: str = "bilinear"
    crop_fraction: float = 1.0
    background: tuple[int, int, int] = (255, 255, 255)
    value_range: tuple[float, float] | None = None
    kind: str = "image"
    sound: SoundSpec | None = None
    bands: tuple[int, ...] | None = None
    version: int = DECODER_VERSION

    def __post_init__(self) -> None:
        _check_version(self.version)
        for name in ("height", "width"):
            _check_whole(name, getattr(self, name), low=1, high=_MAX_SIDE)
        _check_choice("channels", self.channels, CHANNELS)
        _check_choice("kind", self.kind, KINDS)
        if (self.sound is not None) != (self.kind == "sound"):
            raise ConfigError(f"expected sound for the kind sound only, received {self.kind}")
        _check_choice("fit", self.fit, FITS)
        _check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        if not isinstance(self.crop_fraction, (int, float)) or not 0 < self.crop_fraction <= 1:
            raise ConfigError(
                f"expected crop_fraction above 0 and at most 1, received {self.crop_fraction!r}"
            )
        if self.crop_fraction != 1 and self.fit != "crop":
            raise ConfigError(
                f"fit {self.fit} does not support crop_fraction {self.crop_fraction}",
                "use fit crop, or leave crop_fraction at 1",
            )
        if not isinstance(self.background, tuple) or len(self.background) != 3:
            raise ConfigError(
                f"expected background as three numbers 0..255, received {self.background!r}"
            )
        for value in self.background:
            _check_whole("background", value, low=0, high=255)
        if self.value_range is not None:
            _check_range(self.value_range)
        if self.bands is not None:
            _check_bands(self.bands)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one decoded image: (height, width, channels)."""
        return self.height, self.width, self.channels

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain JSON values, with every key that means something for images."""
        values = asdict(self) | {"background": list(self.background)}
        values["value_range"] = list(self.value_range) if self.value_range else None
        if self.kind == "image":
            del values["kind"]
        if self.sound is None:
            del values["sound"]
        del values["bands"]
        return values | ({"bands": list(self.bands)} if self.bands else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InputSpec":
        """Read what `to_dict` returned.

        Args:
            values: All keys of `to_dict` and no others; `value_range` may be missing, as it is in
                models of early versions, and `kind`, `sound` and `bands`, which few models have.

        Raises:
            ConfigError: A key is missing or unknown, a value is wrong, or the spec was written by a
                newer version of cnnclf.
        """
        if "version" in values:
            _check_version(values["version"])
        expected = {field.name for field in fields(cls)}
        for word, names in (
            ("missing", expected - values.keys() - {"value_range", "kind", "sound", "bands"}),
            ("unknown", values.keys() - expected),
        ):
            if names:
                raise ConfigError(
                    f"the input spec has {word} keys: {', '.join(sorted(names))}; "
                    f"it must have {', '.join(sorted(expected))}"
                )
        lists: dict[str, Any] = {
            key: tuple(value) for key, value in values.items() if isinstance(value, list)
        }
        sound = values.get("sound")
        if sound is not None:
            if not isinstance(sound, Mapping) or set(sound) != {f.name for f in fields(SoundSpec)}:
                raise ConfigError(f"expected the keys of a sound in the input spec, got {sound!r}")
            lists["sound"] = SoundSpec(**sound)
        return cls(**{**values, **lists})


def _check_version(version: object) -> None:
    if version == DECODER_VERSION and isinstance(version, int):
        return
    newer = isinstance(version, int) and version > DECODER_VERSION
    raise ConfigError(
        f"expected an input spec of version {DECODER_VERSION}, received version {version!r}",
        "it was written by a newer version of cnnclf: update cnnclf" if newer else "",
    )


def _check_bands(value: object) -> None:
    if not isinstance(value, tuple) or len(value) not in (1, 3):
        raise ConfigError(f"expected bands as one or three, received {value!r}")
    for number in value:
        _check_whole("bands", number, low=0, high=4095)


def _check_range(value: object) -> None:
    is_pair = isinstance(value, tuple) and len(value) == 2
    numbers = [v for v in value if type(v) in {int, float}] if isinstance(value, tuple) else []
    if not is_pair or len(numbers) != 2 or not math.isfinite(numbers[1] - numbers[0]):
        raise ConfigError(f"expected value_range as two numbers, received {value!r}")
    if numbers[0] >= numbers[1]:
        raise ConfigError(f"expected value_range from low to high, received {value!r}")


def _check_whole(name: str, value: object, *, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"expected {name} as a whole number {low}..{high}, received {value!r}")


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        allowed = ", ".join(str(choice) for choice in choices)
        raise ConfigError(f"expected {name} to be one of {allowed}, received {value!r}")
