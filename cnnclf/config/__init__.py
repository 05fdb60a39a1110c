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
from cnnclf.config.evaluate_config import EvaluateConfig
from cnnclf.config.export_config import ExportConfig
from cnnclf.config.finetune_config import (
    BackboneConfig,
    BackboneDataConfig,
    FeaturesConfig,
    FinetuneConfig,
    FinetuneOptimizerConfig,
    FinetuneTrainingConfig,
    HeadConfig,
    TailConfig,
)
from cnnclf.config.import_config import DEFAULT_SPLIT, ImportConfig
from cnnclf.config.loading import load_config
from cnnclf.config.predict_config import PredictConfig
from cnnclf.config.presets import MODEL_PRESETS
from cnnclf.config.sections import (
    AugmentConfig,
    CommandConfig,
    OptimizerConfig,
    RuntimeConfig,
    Section,
)
from cnnclf.config.train_config import DataConfig, ModelConfig, TrainConfig, TrainingConfig

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
