"""What the order of pixels is worth: permuted images keep their pixels and lose their order."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.cli.commands import check_order
from cnnclf.data.manifest import Dataset
from cnnclf.drawing import canvas
from cnnclf.training import pixel_order
from cnnclf.training.pixel_order import OrderValue, PermutedPixels
from tests.conftest import Cli


class Stored:
    """Two images that are known."""

    shape = (4, 5, 3)
    failed = MappingProxyType[int, str]({})
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.images[rows])


def test_all_images_are_permuted_alike_and_keep_their_pixels() -> None:
    permuted = PermutedPixels(Stored(), seed=3)  # type: ignore[arg-type]
    found = permuted.gather(np.array([1, 0]))
    flat, known = found.reshape(2, 20, 3), Stored.images[[1, 0]].reshape(2, 20, 3)
    places = [np.flatnonzero((known[0] == pixel).all(axis=1))[0] for pixel in flat[0]]
    assert sorted(places) == list(range(20))
    assert places != list(range(20))
    assert (flat[1] == known[1][places]).all()
    assert (PermutedPixels(Stored(), seed=3).gather(np.array([1, 0])) == found).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(("low", "words"), [(0.01, "is worth +20.0"), (-0.01, "No value")])
def test_the_sentence_follows_the_interval(low: float, words: str) -> None:
    value = OrderValue("test", 50, 5, 0.9, 0.7, 0.2, (low, 0.3))
    assert words in value.sentence
    assert "50 test images" in value.sentence


def test_the_command_compares_two_trainings(
    cli: Cli, shapes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_order, "_EPOCHS", (2, 2))
    drawn: dict[str, Any] = {}
    draw, judge = canvas.draw_canvas, pixel_order._judge
    weights: list[Any] = []

    def keep_weights(net: Any, *given: Any) -> Any:
        weights.append(net.get_weights())
        return judge(net, *given)

    # with nothing permuted, the second training is the first one again, from the same start
    monkeypatch.setattr(PermutedPixels, "gather", lambda self, rows: self._pixels.gather(rows))
    monkeypatch.setattr(pixel_order, "_judge", keep_weights)

    def draw_canvas(*rows: Any, **words: Any) -> Any:
        drawn.update(words)
        return draw(*rows, **words)

    monkeypatch.setattr(canvas, "draw_canvas", draw_canvas)
    figure = tmp_path / "order.png"
    result = cli("check-order", shapes.directory, "--out", figure, "--json")
    assert result.code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["epochs"] == 2
    judged = [len(shapes.manifest.select(split)) for split in ("test", "val")]
    assert (found["split"], found["images"]) == ("test and val", sum(judged))
    assert found["difference"] == found["ordered"] - found["permuted"] == 0
    assert found["interval"][0] < 0 < found["interval"][1]
    for first, again in zip(*weights, strict=True):
        np.testing.assert_allclose(first, again, rtol=1e-3, atol=1e-4)
    with Image.open(figure) as image:
        assert image.width > 400
    difference, both, _ = drawn["lines"]  # as many for every result, as the title is the same
    assert f"was shown: {difference} {both} Where" in found["sentence"]
    assert list(tmp_path.iterdir()) == [figure]
    assert cli("check-order", shapes.directory, "--out", figure).code == 2
    assert cli("check-order", tmp_path / "none").code in {2, 3}
