"""Run directories: what is in them, who is training in them, and what happened.

A run directory holds::

    plan.json settings.toml run.json history.csv log.txt curves.png
    trace.csv margins.csv descent.npz        if they were asked for, as is report.html
    checkpoints/best/  checkpoints/last/     model.keras + classifier.json (a bundle), reference.npz
                                             (images to try engines on), engine-cache/;
                                             last also optimizer.npz + state.json, for --resume;
                                             earlier/ only until the phases are compared
    evaluation/SPLIT/                        metrics.json and its figures and tables
    exports/FORMAT[-QUANTIZATION]/           an artifact: a model in another format, parity.json and
                                             classifier.json; NAME.rejected lost too much
"""
