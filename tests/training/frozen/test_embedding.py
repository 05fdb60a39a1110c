"""Features of the installed network: those before its last layer, and those of its stages."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.images.decode import decode_image
from cnnclf.images.input_spec import InputSpec
from cnnclf.importers import import_source
from cnnclf.progress import Silent
from cnnclf.training.frozen import embedding
from cnnclf.training.frozen.feature_engines import FrozenNetwork, open_engine
from tests.quality.drawn import draw_scene


def test_features_are_those_of_the_maps_and_zero_where_there_is_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_scene(number, "ball").save(path)
    import_source(tmp_path / "photos", tmp_path / "data", options=ImportConfig(), progress=Silent())
    dataset = load_dataset(tmp_path / "data")
    dataset.file(3).write_bytes(b"gone")
    models: list[Any] = []

    def keep(_: str, network: FrozenNetwork, **options: Any) -> Any:
        models.append(network.build())
        return open_engine("keras-float32", FrozenNetwork("", "", lambda: models[0]), **options)

    monkeypatch.setattr(embedding, "open_engine", keep)
    found = embedding.embed_images(dataset, np.array([0, 1, 3]), threads=1, progress=Silent())
    assert found.last.shape == (4, 1280)
    assert found.stages.shape == (4, 1488)
    assert found.known.tolist() == [True, True, False, False]
    assert not found.stages[2:].any()

    import keras

    blocks = ("3_block2_add", "4_block3_add", "5_block3_add", "6_block4_add", "7_block1_project_bn")
    layers = [models[0].get_layer(f"stage{name}").output for name in blocks]
    spec = InputSpec(224, 224, channels=3, fit="squash", interpolation="bicubic")
    pixels = decode_image(dataset.file(0), spec)[None].astype(np.float32)
    maps = [np.asarray(each)[0] for each in keras.Model(models[0].input, layers)(pixels)]
    expected = [each.mean((0, 1)) for each in maps] + [each.std((0, 1)) for each in maps]
    np.testing.assert_allclose(found.stages[0], np.concatenate(expected), atol=1e-3, rtol=2e-3)


def test_a_network_that_was_converted_before_takes_no_tensorflow(tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_scene(number, "ball").save(path)
    import_source(tmp_path / "photos", tmp_path / "data", options=ImportConfig(), progress=Silent())
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from cnnclf.data.manifest import load_dataset; from cnnclf.progress import Silent\n"
        "from cnnclf.training.frozen.embedding import embed_images\n"
        f"dataset = load_dataset(Path({str(tmp_path / 'data')!r}))\n"
        "found = embed_images(dataset, np.arange(4), threads=1, progress=Silent())\n"
        "print('tensorflow' in sys.modules, found.last.tobytes().hex())"
    )
    cache = {"CNNCLF_CACHE_DIR": str(tmp_path / "cache"), "KERAS_BACKEND": "tensorflow"}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | cache,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    )
    assert (first[0], second[0]) == ("True", "False")
    assert first[1] == second[1]
