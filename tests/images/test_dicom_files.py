"""DICOM images, made here: rescaled, windowed, inverted, in colors, of several frames."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.data.manifest import load_dataset
from cnnclf.errors import ImageError
from cnnclf.images.decode import InputSpec, decode_image, inspect_image
from cnnclf.planning.plan import is_gray
from tests.conftest import Cli

pydicom = pytest.importorskip("pydicom")

RNG = np.random.default_rng(7)
SIDE = 16
TWELVE = RNG.integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)


def encode_dicom(pixels: np.ndarray, **tags: Any) -> bytes:
    """Write an image as scanners do, without compression."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    found = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    is_color = pixels.ndim == 3 and pixels.shape[2] == 3
    found.SOPClassUID, found.SOPInstanceUID, found.Modality = CTImageStorage, "1.2.3", "CT"
    found.Rows, found.Columns = pixels.shape[:2] if is_color else pixels.shape[-2:]
    found.SamplesPerPixel = 3 if is_color else 1
    found.PhotometricInterpretation = "RGB" if is_color else "MONOCHROME2"
    if is_color:
        found.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        found.NumberOfFrames = len(pixels)
    bits = 8 * pixels.dtype.itemsize
    found.BitsAllocated, found.BitsStored = bits, tags.pop("BitsStored", bits)
    found.HighBit = found.BitsStored - 1
    found.PixelRepresentation = int(pixels.dtype.kind == "i")
    found.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(found, name, value)
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def decode(content: bytes, **spec: Any) -> np.ndarray:
    return decode_image(content, InputSpec(SIDE, SIDE, **{"channels": 1, **spec}))[:, :, 0]


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values.astype(float) - low) * 255 / (high - low), 0, 255))


def test_without_a_window_the_bits_say_what_is_white() -> None:
    content = encode_dicom(TWELVE, BitsStored=12)
    assert np.array_equal(decode(content), scaled(TWELVE, 0, 4095))
    found = inspect_image(content)
    assert (found.format, found.mode, found.width) == ("DICOM", "MONOCHROME2", SIDE)
    assert found.note == "DICOM, range of its bits"


def test_values_are_rescaled_and_windowed() -> None:
    values = RNG.integers(-1000, 1000, (SIDE, SIDE)).astype(np.int16)
    content = encode_dicom(
        values, RescaleSlope="2", RescaleIntercept="-24", WindowCenter="40", WindowWidth="401"
    )
    rescaled = values * 2.0 - 24
    assert np.array_equal(decode(content), scaled(rescaled, 39.5 - 200, 39.5 + 200))
    assert inspect_image(content).note == "DICOM, window of the file"
    # a range that was chosen for all images counts more than the window of each
    assert np.array_equal(decode(content, value_range=(-1000, 500)), scaled(rescaled, -1000, 500))
    several = encode_dicom(values, WindowCenter=["40", "300"], WindowWidth=["401", "1500"])
    assert np.array_equal(decode(several), scaled(values, 39.5 - 200, 39.5 + 200))


def test_monochrome1_is_inverted() -> None:
    content = encode_dicom(TWELVE, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(decode(content), 255 - scaled(TWELVE, 0, 4095))


def test_colors_are_kept() -> None:
    values = RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    content = encode_dicom(values)
    assert np.array_equal(decode_image(content, InputSpec(SIDE, SIDE)), values)


def test_the_first_of_several_frames_is_read_and_that_is_said() -> None:
    frames = RNG.integers(0, 256, (3, SIDE, SIDE), np.uint8)
    content = encode_dicom(frames)
    assert np.array_equal(decode(content), frames[0])
    assert inspect_image(content).note == "first of 3 frames; DICOM, range of its bits"


def test_what_is_no_image_or_not_supported_is_not_damaged() -> None:
    found = pydicom.dcmread(io.BytesIO(encode_dicom(TWELVE)))
    found.PhotometricInterpretation = "HSV"
    buffer = io.BytesIO()
    found.save_as(buffer)
    with pytest.raises(ImageError, match="this kind of DICOM is not supported: HSV"):
        inspect_image(buffer.getvalue())
    del found.PixelData
    found.Modality = "SR"
    buffer = io.BytesIO()
    found.save_as(buffer)
    with pytest.raises(ImageError, match="the DICOM holds no image, but SR"):
        inspect_image(buffer.getvalue())
    with pytest.raises(ImageError, match="too many pixels: 16 x 16"):
        inspect_image(encode_dicom(TWELVE), max_pixels=99)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_gives_pixels_or_an_image_error(data: st.DataObject) -> None:
    content = bytearray(encode_dicom(TWELVE, WindowCenter="40", WindowWidth="400"))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(132, 700))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(400, len(content)))
    try:
        decode(bytes(content[:cut]))
    except ImageError as error:
        assert "\n" not in error.message  # noqa: PT017


def test_a_folder_of_dicom_files_is_imported(cli: Cli, tmp_path: Path) -> None:
    for label, at in (("chest", 0), ("hand", 2000)):
        for number in range(4):
            values = (RNG.integers(0, 900, (SIDE, SIDE)) + at).astype(np.uint16)
            path = tmp_path / "scans" / label / f"{number}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_dicom(values, BitsStored=12))
    result = cli("import", tmp_path / "scans", "-o", tmp_path / "data")
    assert result.code == 0, result.stderr
    assert "DICOM, range of its bits" in result.stdout
    assert is_gray(load_dataset(tmp_path / "data")), "else three equal colors would be trained on"
