"""Every setting of every command, with default, range and meaning; defined here and nowhere else.

Options, TOML files, `--set a.b=c` and the reference pages are derived from these models. The plan
of a run (`planning/`) replaces each "auto" by a value and records the reason.
"""

from cnnclf.config.calibrate_config import CalibrateConfig
from cnnclf.config.check_config import CheckConfig
from cnnclf.config.convolve_config import ConvolveConfig
from cnnclf.config.describing import (
    choices_of,
    describe_default,
    describe_type,
    describe_values,
    format_setting,
    list_fields,
    option_name,
    typed_option,
)
from cnnclf.config.evaluate_config import EvaluateConfig
from cnnclf.config.explain_config import ExplainConfig
from cnnclf.config.export_config import ExportConfig
from cnnclf.config.finetune_config import (
    BackboneConfig,
    FinetuneConfig,
    FinetuneTrainingConfig,
    HeadConfig,
    TailConfig,
)
from cnnclf.config.import_config import DEFAULT_SPLIT, ImportConfig
from cnnclf.config.loading import apply_preset, change_config, explicit_settings, load_config
from cnnclf.config.predict_config import PredictConfig
from cnnclf.config.presets import MODEL_PRESETS
from cnnclf.config.sections import AugmentConfig, CommandConfig, OptimizerConfig, RuntimeConfig
from cnnclf.config.train_config import ModelConfig, TrainConfig, TrainingConfig
from cnnclf.config.tune_config import TuneConfig

__all__ = [
    "DEFAULT_SPLIT",
    "MODEL_PRESETS",
    "AugmentConfig",
    "BackboneConfig",
    "CalibrateConfig",
    "CheckConfig",
    "CommandConfig",
    "ConvolveConfig",
    "EvaluateConfig",
    "ExplainConfig",
    "ExportConfig",
    "FinetuneConfig",
    "FinetuneTrainingConfig",
    "HeadConfig",
    "ImportConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PredictConfig",
    "RuntimeConfig",
    "TailConfig",
    "TrainConfig",
    "TrainingConfig",
    "TuneConfig",
    "apply_preset",
    "change_config",
    "choices_of",
    "describe_default",
    "describe_type",
    "describe_values",
    "explicit_settings",
    "format_setting",
    "list_fields",
    "load_config",
    "option_name",
    "typed_option",
]
