"""Whitening: what patches are after it, and what it makes of images without contrast."""

import numpy as np
import pytest

from cnnclf.models.whitening import whiten_patches


def smooth_images(count: int, channels: int) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(count, 12, 12, channels))
    return noise.cumsum(axis=1).cumsum(axis=2).astype(np.float32)


@pytest.mark.parametrize(("window", "channels"), [(2, 3), (3, 1)])
def test_whitened_patches_have_unit_covariance_and_mean_zero(window: int, channels: int) -> None:
    images = smooth_images(60, channels)
    kernel, bias = whiten_patches(iter([images[:25], images[25:]]), window)
    axes = window * window * channels
    assert kernel.shape == (window, window, channels, 2 * axes)
    views = np.lib.stride_tricks.sliding_window_view(images, (window, window), axis=(1, 2))
    patches = np.moveaxis(views, 3, -1).reshape(-1, axes)
    whitened = patches @ kernel.reshape(axes, -1) + bias
    np.testing.assert_allclose(whitened[:, axes:], -whitened[:, :axes], atol=1e-4)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    covariance = np.cov(whitened[:, :axes].T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-2)
    assert covariance[0, 0] == pytest.approx(1, abs=1e-3)
    assert (np.diag(covariance) < 1.001).all(), "axes of noise are damped, not amplified"


def test_images_of_one_color_give_finite_filters() -> None:
    kernel, bias = whiten_patches([np.full((3, 8, 8, 3), -1, np.float32)], 2)
    assert np.isfinite(kernel).all()
    assert np.isfinite(bias).all()
