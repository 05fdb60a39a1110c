"""SavedModels of other programs: the bundle gives what the model gave on scaled images."""

from pathlib import Path

import numpy as np
import pytest

from cnnclf.errors import RunError
from cnnclf.inference.bundle_paths import find_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.runs.run_names import SAVED_MODEL
from tests.inference.test_adopting import LABELS, adopt, labels, sigmoid, with_softmax

__all__ = ["labels"]


@pytest.mark.filterwarnings("ignore")
def test_the_bundle_gives_the_probabilities_of_the_model(tmp_path: Path, labels: Path) -> None:
    import tensorflow as tf

    model = with_softmax()
    pixels = np.random.default_rng(2).integers(0, 256, (4, 8, 8, 3), np.uint8)
    expected = np.asarray(model(pixels.astype(np.float32) / 127.5 - 1))
    tf.saved_model.save(model, tmp_path / "pets")
    for path in (tmp_path / "pets", tmp_path / "pets" / "saved_model.pb"):
        with pytest.raises(RunError, match="is missing next to the model") as caught:
            find_bundle(path)
        assert "cnnclf adopt" in caught.value.hint
    bundle = adopt(tmp_path / "pets", labels, scale="-1:1")
    (tmp_path / "pets").rename(tmp_path / "elsewhere")  # the bundle is complete without it
    classifier = Classifier.load(bundle)
    assert (classifier.labels, classifier.input_spec.shape) == (LABELS, (8, 8, 3))
    assert classifier.bundle["model"] == SAVED_MODEL
    assert np.allclose(classifier.probabilities(classifier.logits(pixels)), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_classifier_or_does_more_than_compute_is_refused(
    tmp_path: Path, labels: Path
) -> None:
    import tensorflow as tf

    class Writer(tf.Module):  # type: ignore[misc] # untyped
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])
        def serve(self, pixels: object) -> object:
            tf.io.write_file(str(tmp_path / "written"), "x")
            return tf.reduce_mean(pixels, axis=(1, 2))

    writer = Writer()
    tf.saved_model.save(writer, tmp_path / "writer", {"serving_default": writer.serve})
    with pytest.raises(RunError, match="WriteFile") as caught:
        adopt(tmp_path / "writer", labels)
    assert "save it without them" in caught.value.hint
    assert not (tmp_path / "written").exists()
    tf.saved_model.save(sigmoid(), tmp_path / "sigmoid")
    with pytest.raises(RunError, match="multi-label"):
        adopt(tmp_path / "sigmoid", labels)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.filterwarnings("ignore")
def test_the_type_of_the_input_is_named(tmp_path: Path, labels: Path) -> None:
    import tensorflow as tf

    for kind in ("uint8", "int32"):

        class Taker(tf.Module):  # type: ignore[misc] # untyped
            @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), kind)])
            def serve(self, pixels: object) -> object:
                return tf.reduce_mean(tf.cast(pixels, tf.float32), axis=(1, 2))

        taker = Taker()
        tf.saved_model.save(taker, tmp_path / kind, {"serving_default": taker.serve})
        with pytest.raises(RunError, match=f"takes {kind}, not floats") as caught:
            adopt(tmp_path / kind, labels)
        assert ("cnnclf predict EXPORT" in caught.value.hint) == (kind == "uint8")
