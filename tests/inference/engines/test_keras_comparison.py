"""Reference images and the comparison with what Keras says of them."""

from pathlib import Path

import numpy as np
import pytest

from cnnclf.errors import RunError
from cnnclf.inference.engines.engine_table import Tolerance
from cnnclf.inference.engines.keras_comparison import (
    MAX_IMAGES,
    compare_logits,
    draw_reference,
    read_reference,
    save_reference,
)

EXACT = Tolerance(1e-3)
LOGITS = np.array([[0.0, 5.0, 10.0], [4.0, 4.001, -1.0]], np.float32)


def test_images_come_back(tmp_path: Path) -> None:
    pixels = draw_reference((8, 6, 3))
    assert read_reference(tmp_path) is None
    save_reference(tmp_path, pixels)
    found = read_reference(tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found[0], pixels)
    assert found[1] is None
    save_reference(tmp_path, pixels[:2], logits=LOGITS)
    found = read_reference(tmp_path)
    assert found is not None
    assert found[1] is not None
    np.testing.assert_array_equal(found[1], LOGITS)
    assert [path.name for path in tmp_path.iterdir()] == ["reference.npz"]


def test_no_more_are_kept_than_a_bundle_can_bear(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 300, 300, 3), np.uint8)
    save_reference(tmp_path, noise, logits=np.zeros((20, 3), np.float32))
    found = read_reference(tmp_path)
    assert found is not None
    assert 1 <= len(found[0]) < MAX_IMAGES
    assert found[1] is not None
    assert len(found[1]) == len(found[0])
    assert (tmp_path / "reference.npz").stat().st_size <= 1 << 20
    save_reference(tmp_path, noise[:, :8, :8])
    found = read_reference(tmp_path)
    assert found is not None
    assert len(found[0]) == MAX_IMAGES


def test_damaged_images_are_reported(tmp_path: Path) -> None:
    (tmp_path / "reference.npz").write_bytes(b"no zip")
    with pytest.raises(RunError, match="damaged"):
        read_reference(tmp_path)
    np.savez(tmp_path / "reference.npz", other=np.zeros(1))
    with pytest.raises(RunError, match="damaged"):
        read_reference(tmp_path)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (32, 32, 1)])
def test_drawn_images_are_the_same_every_time_and_differ(shape: tuple[int, int, int]) -> None:
    pixels = draw_reference(shape)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (MAX_IMAGES, *shape)
    np.testing.assert_array_equal(pixels, draw_reference(shape))
    assert len({image.tobytes() for image in pixels}) > 1


def test_close_logits_agree() -> None:
    found = compare_logits(LOGITS + np.float32(0.005), LOGITS, tolerance=EXACT)
    assert found.is_close
    assert found.difference == pytest.approx(0.005 / 11, rel=1e-2)
    assert (found.agreement, found.images) == (1.0, 2)


def test_logits_beyond_the_tolerance_do_not_agree() -> None:
    assert not compare_logits(LOGITS + np.float32(0.05), LOGITS, tolerance=EXACT).is_close


def test_another_best_label_does_not_agree_unless_it_is_a_tie() -> None:
    swapped = LOGITS[:, [1, 0, 2]]
    loose = Tolerance(10.0)
    assert compare_logits(swapped, LOGITS, tolerance=loose).is_close  # ties
    other = LOGITS.copy()
    other[0] = [9.0, 5.0, 8.9]
    found = compare_logits(other, LOGITS, tolerance=Tolerance(0.2))
    assert (found.agreement, found.is_close) == (0.5, False)
    tie = LOGITS.copy()
    tie[1, :2] = [4.001, 4.0]
    assert compare_logits(tie, LOGITS, tolerance=EXACT).is_close


def test_what_is_not_a_number_does_not_agree() -> None:
    broken = LOGITS.copy()
    broken[0, 0] = np.nan
    assert not compare_logits(broken, LOGITS, tolerance=EXACT).is_close
    assert not compare_logits(LOGITS, broken, tolerance=EXACT).is_close
    assert compare_logits(broken, broken, tolerance=EXACT).difference == 0.0


def test_equal_logits_of_an_untrained_head_agree() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert compare_logits(zeros + np.float32(1e-9), zeros, tolerance=EXACT).is_close
    assert compare_logits(zeros[:, :1], zeros[:, :1], tolerance=EXACT).is_close
