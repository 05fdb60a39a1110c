"""cnnclf: train, evaluate and export image classifiers.

The functions of `cnnclf.api` and the settings of `cnnclf.config` are here under their names, and
loaded when they are first used: `import cnnclf` alone loads nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnclf.api import (
        calibrate,
        check,
        convolve,
        describe,
        evaluate,
        explain,
        export,
        extend,
        finetune,
        import_dataset,
        load_classifier,
        load_dataset,
        predict,
        report,
        resume,
        train,
        tune,
    )
    from cnnclf.config import (
        CalibrateConfig,
        CheckConfig,
        ConvolveConfig,
        EvaluateConfig,
        ExplainConfig,
        ExportConfig,
        FinetuneConfig,
        ImportConfig,
        PredictConfig,
        TrainConfig,
        TuneConfig,
    )
    from cnnclf.errors import CnnclfError
    from cnnclf.inference.classifier import Classifier

__version__ = "0.1.0"

__all__ = [
    "CalibrateConfig",
    "CheckConfig",
    "Classifier",
    "CnnclfError",
    "ConvolveConfig",
    "EvaluateConfig",
    "ExplainConfig",
    "ExportConfig",
    "FinetuneConfig",
    "ImportConfig",
    "PredictConfig",
    "TrainConfig",
    "TuneConfig",
    "__version__",
    "calibrate",
    "check",
    "convolve",
    "describe",
    "evaluate",
    "explain",
    "export",
    "extend",
    "finetune",
    "import_dataset",
    "load_classifier",
    "load_dataset",
    "predict",
    "report",
    "resume",
    "train",
    "tune",
]

_ELSEWHERE = {
    "Classifier": "cnnclf.inference.classifier",
    "CnnclfError": "cnnclf.errors",
    **{name: "cnnclf.config" for name in __all__ if name.endswith("Config")},
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_ELSEWHERE.get(name, "cnnclf.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
