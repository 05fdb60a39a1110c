"""The examples at the end of each command's help page.

They are kept apart from the commands, so that a test can parse all of them and run those that are
quick. Every command has two.
"""

from typing import Final

EXAMPLES: Final[dict[str, tuple[str, str]]] = {
    "import": (
        "cnnclf import photos --out pets",
        "cnnclf import labels.csv -o pets --split 0.7,0.15,0.15 --copy",
    ),
    "check": ("cnnclf check photos", "cnnclf check pets --mirrored --strict -o report"),
    "train": (
        "cnnclf train pets --dry-run",
        "cnnclf train pets -o runs/pets --epochs 40 --augment medium",
    ),
    "lr-find": ("cnnclf lr-find pets", "cnnclf lr-find pets --filters 32,64 -o rate.html"),
    "check-order": ("cnnclf check-order pets", "cnnclf check-order pets --epochs 10 -o order.png"),
    "finetune": (
        "cnnclf finetune pets -o runs/pets-tuned",
        "cnnclf finetune pets --backbone mobilenetv2 --unfreeze none",
    ),
    "tune": (
        "cnnclf tune pets --minutes 30",
        "cnnclf tune --resume tuning/pets-001 --minutes 60",
    ),
    "backbones": ("cnnclf backbones", "cnnclf backbones --json"),
    "weights list": ("cnnclf weights list", "cnnclf weights list --check"),
    "weights pull": (
        "cnnclf weights pull resnet50",
        "cnnclf weights pull mobilenetv2 xception --overwrite",
    ),
    "weights import": (
        "cnnclf weights import downloads/*.h5",
        "cnnclf weights import weights.h5 --backbone resnet50",
    ),
    "weights path": ("cnnclf weights path", "cnnclf weights path resnet50"),
    "evaluate": (
        "cnnclf evaluate runs/pets --split val",
        "cnnclf evaluate runs/pets new_photos --split all -o report",
    ),
    "calibrate": (
        "cnnclf calibrate runs/pets",
        "cnnclf calibrate runs/pets --precision 0.95",
    ),
    "predict": (
        "cnnclf predict runs/pets new_photos -o rows.csv --threshold 0.8",
        "cnnclf predict runs/pets 'inbox/*.jpg' --move-to sorted --dry-run",
    ),
    "explain": (
        "cnnclf explain runs/pets cat.jpg",
        "cnnclf explain runs/pets new_photos --show all --limit 10 -o maps",
    ),
    "export": (
        "cnnclf export runs/pets --format onnx",
        "cnnclf export runs/pets --format litert --quantize int8 -o phone",
    ),
    "adopt": (
        "cnnclf adopt keras_model.h5 --labels labels.txt --scale -1:1 -o bundle",
        "cnnclf adopt resnet.onnx --labels l.txt --scale imagenet -o pets",
    ),
    "describe": ("cnnclf describe runs/pets", "cnnclf describe --backbone resnet50 --depth 2"),
    "convolve": (
        "cnnclf convolve photos/x/x000.jpg --filter sobel-x -o edges.png",
        "cnnclf convolve photos/x/x000.jpg --filter blur --show-arithmetic 3,5",
    ),
    "report": (
        "cnnclf report runs/pets",
        "cnnclf report runs/pets-001 runs/pets-002 -o comparison.html",
    ),
    "runs list": ("cnnclf runs list", "cnnclf runs list experiments --sort created"),
    "runs show": ("cnnclf runs show runs/pets", "cnnclf runs show runs/pets --json"),
    "runs compare": (
        "cnnclf runs compare runs/pets-001 runs/pets-002",
        "cnnclf runs compare runs/pets-* --json",
    ),
    "runs export": (
        "cnnclf runs export runs/pets-001 --to mlflow:sqlite:///mlflow.db",
        "cnnclf runs export runs/pets-* --to tensorboard:board",
    ),
    "runs remove": (
        "cnnclf runs remove runs/pets-001",
        "cnnclf runs remove runs/pets-* --keep-best 2",
    ),
    "augment-preview": (
        "cnnclf augment-preview pets --augment medium",
        "cnnclf augment-preview pets --each -o operations.png",
    ),
    "glossary": ("cnnclf glossary stride", "cnnclf glossary 'learning rate' --run runs/pets"),
    "sample-data": ("cnnclf sample-data x_or_o", "cnnclf sample-data x_or_o --json"),
    "doctor": ("cnnclf doctor", "cnnclf doctor --json > machine.json"),
    "cache list": ("cnnclf cache list", "cnnclf cache list --kind features"),
    "cache clear": ("cnnclf cache clear --older-than 30", "cnnclf cache clear --kind stores --yes"),
    "help": ("cnnclf help train", "cnnclf help runs list"),
    "version": ("cnnclf version", "cnnclf version --json"),
}
"""Command, without the name of the program, to its examples."""
