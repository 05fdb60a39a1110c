"""Whole networks to start from, by name."""

from cnnclf.config.sections import Presets

MODEL_PRESETS: Presets = {
    "default": {},
    "textbook": {
        "model": {
            "blocks": 1,
            "filters": [32],
            "convs_per_block": [1],
            "padding": "valid",
            "pool_last": True,
            "batch_norm": False,
            "top": "flatten",
            "dense_units": [128],
            "dropout": 0.0,
        },
        "optimizer": {"name": "adamw"},
    },
    "tiny": {"model": {"blocks": 2, "filters": [8, 16], "convs_per_block": [1], "dropout": 0.0}},
    "deep": {"model": {"convs_per_block": [3], "dropout": 0.3}},
    # Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024, with half of its filters
    "fast": {
        "model": {
            "whiten": 2,
            "blocks": 3,
            "filters": [64, 128, 128],
            "convs_per_block": [2],
            "initial_kernels": "identity",
            "pool_after": "first",
            "pool_last": True,
            "norm_scale": False,
            "top": "global_max",
            "dropout": 0.0,
        },
        "optimizer": {
            "name": "muon",
            "learning_rate": 0.24,
            "schedule": "linear",
            "warmup": 0.1,
            "momentum": 0.6,
            "weight_decay": 0.0,
        },
        "training": {"epochs": 10, "batch_size": 1024, "patience": 0, "label_smoothing": 0.2},
        "augment": {"translate": 0.0625, "alternate_flips": True},
    },
}
"""Settings that a preset changes, as {section: {key: value}}; everything else is the default."""
