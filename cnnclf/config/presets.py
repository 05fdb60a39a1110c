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
    },
    "tiny": {"model": {"blocks": 2, "filters": [8, 16], "convs_per_block": [1], "dropout": 0.0}},
    "deep": {"model": {"convs_per_block": [3], "dropout": 0.3}},
}
"""Settings that a preset changes, as {section: {key: value}}; everything else is the default."""
