"""DICOM images, by the optional package pydicom: rescaled, windowed, and bright on dark."""

import importlib.util
import io
import struct
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from cnnclf.errors import ImageError
from cnnclf.images.modes import RawValues
from cnnclf.packages import suggest_install

_SUPPORTED: Final = {"MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT",
                     "YBR_ICT", "PALETTE COLOR"}  # fmt: skip
# What pydicom raises for damaged files, besides OSError.
_DAMAGE: Final = (
    AttributeError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    EOFError,
    OSError,
    OverflowError,
    struct.error,
)


_MAX_CODE: Final = 16


def read_dicom(stream: BinaryIO, *, max_pixels: int) -> RawValues:
    """Read the first frame, whose mode is its photometric interpretation.

    Values are rescaled by slope and intercept. The window of the file, the first if it has several,
    says which values are black and white; without one, the values that its bits can hold.

    Raises:
        ImageError: pydicom is not installed, or the file is damaged or of a kind that is not read.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise ImageError(
            f"a DICOM image needs pydicom: {suggest_install('pydicom')}",
            "or convert it to PNG or TIFF: dcmj2pnm +on2 IMAGE.dcm IMAGE.png",
        )
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError
    from pydicom.pixels.utils import pixel_array

    stream.seek(0)
    content = io.BytesIO(stream.read())
    try:
        found = pydicom.dcmread(content)
        if "PixelData" not in found:
            # A damaged file may have anything as its modality; a code has a few letters.
            held = str(found.get("Modality") or "")
            held = held if held.isalnum() and len(held) <= _MAX_CODE else "a report"
            raise ImageError(f"the DICOM holds no image, but {held}")
        width, height = int(found.Columns), int(found.Rows)
        photometric = str(found.PhotometricInterpretation)
        if width * height > max_pixels:
            raise ImageError(f"too many pixels: {width} x {height}, the limit is {max_pixels:,}")
        if photometric not in _SUPPORTED:
            raise ImageError(f"this kind of DICOM is not supported: {photometric}")
        frames = int(found.get("NumberOfFrames") or 1)
        values = pixel_array(found, index=0)
        return _scale(found, values, photometric, frames)
    except (NotImplementedError, RuntimeError) as error:  # no plugin for its compression
        reason = " ".join(str(error).split())[:160]
        raise ImageError(f"this kind of DICOM is not supported: {reason}") from error
    except (InvalidDicomError, BytesLengthException, *_DAMAGE) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ImageError(f"the DICOM is damaged: {reason}") from error


def _scale(found: Any, values: npt.NDArray[Any], photometric: str, frames: int) -> RawValues:
    from pydicom.pixels.processing import apply_color_lut

    oddities = [f"first of {frames} frames"] if frames > 1 else []
    if photometric == "PALETTE COLOR":
        values = apply_color_lut(values, found)
    if values.ndim == 3:
        whole = (0.0, float(np.iinfo(values.dtype).max))
        return RawValues(values, whole, photometric, "DICOM", tuple(oddities))
    slope = float(found.get("RescaleSlope") or 1)
    intercept = float(found.get("RescaleIntercept") or 0)
    bits, is_signed = int(found.BitsStored), bool(found.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    value_range = (ends[0], ends[1])
    window = _first(found.get("WindowCenter")), _first(found.get("WindowWidth"))
    if window[0] is not None and window[1] is not None and window[1] > 0:
        # PS3.3 C.11.2.1.2: what is below center - 0.5 - (width - 1) / 2 is black.
        half = max((window[1] - 1) / 2, 0.5)
        value_range = window[0] - 0.5 - half, window[0] - 0.5 + half
        oddities.append("DICOM, window of the file")
    else:
        oddities.append("DICOM, range of its bits")
    rescaled = values[:, :, None].astype(np.float64) * slope + intercept
    is_inverted = photometric == "MONOCHROME1"
    return RawValues(rescaled, value_range, photometric, "DICOM", tuple(oddities), is_inverted)


def _first(value: Any) -> float | None:
    """Return a number, or the first of several."""
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, list) or hasattr(value, "append") else value)
