"""Every setting of a run, its default, range and meaning: stated here and nowhere else.

The command line's options, the TOML file, `--set a.b=c` and the settings pages of the documentation
are derived from these models. A value "auto" is resolved by the plan of a run (`training/`), which
writes down the reason.
"""

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
from cnnclf.config.loading import load_config, setting_keys
from cnnclf.config.presets import MODEL_PRESETS
from cnnclf.config.sections import (
    AugmentConfig,
    CommandConfig,
    OptimizerConfig,
    RuntimeConfig,
    Section,
    choices_of,
)
from cnnclf.config.train import DataConfig, ModelConfig, TrainConfig, TrainingConfig

__all__ = [
    "MODEL_PRESETS",
    "AugmentConfig",
    "BackboneConfig",
    "BackboneDataConfig",
    "CommandConfig",
    "DataConfig",
    "FeaturesConfig",
    "FinetuneConfig",
    "FinetuneOptimizerConfig",
    "FinetuneTrainingConfig",
    "HeadConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RuntimeConfig",
    "Section",
    "TailConfig",
    "TrainConfig",
    "TrainingConfig",
    "choices_of",
    "load_config",
    "setting_keys",
]
