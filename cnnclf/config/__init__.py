"""Every setting of a run, its default, range and meaning: stated here and nowhere else.

The command line's options, the TOML file, `--set a.b=c` and the settings pages of the documentation
are derived from these models. A value "auto" is resolved by the plan of a run (`training/`), which
writes down the reason.
"""

from cnnclf.config.describing import (
    choices_of,
    describe_default,
    describe_type,
    describe_values,
    list_fields,
    option_name,
    setting_keys,
)
from cnnclf.config.evaluate import EvaluateConfig
from cnnclf.config.export import ExportConfig
from cnnclf.config.finetune import (
    BackboneConfig,
    BackboneDataConfig,
    FeaturesConfig,
    FinetuneConfig,
    FinetuneOptimizerConfig,
    FinetuneTrainingConfig,
    HeadConfig,
    TailConfig,
)
from cnnclf.config.import_ import DEFAULT_SPLIT, ImportConfig
from cnnclf.config.loading import load_config
from cnnclf.config.predict import PredictConfig
from cnnclf.config.presets import MODEL_PRESETS
from cnnclf.config.sections import (
    AugmentConfig,
    CommandConfig,
    OptimizerConfig,
    RuntimeConfig,
    Section,
)
from cnnclf.config.train import DataConfig, ModelConfig, TrainConfig, TrainingConfig

__all__ = [
    "DEFAULT_SPLIT",
    "MODEL_PRESETS",
    "AugmentConfig",
    "BackboneConfig",
    "BackboneDataConfig",
    "CommandConfig",
    "DataConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FeaturesConfig",
    "FinetuneConfig",
    "FinetuneOptimizerConfig",
    "FinetuneTrainingConfig",
    "HeadConfig",
    "ImportConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PredictConfig",
    "RuntimeConfig",
    "Section",
    "TailConfig",
    "TrainConfig",
    "TrainingConfig",
    "choices_of",
    "describe_default",
    "describe_type",
    "describe_values",
    "list_fields",
    "load_config",
    "option_name",
    "setting_keys",
]
