"""The table of backbones: every network that can be fine-tuned, on paper.

Light: nothing here needs Keras. `models/trunk.py` builds a row, `models/weights/filling.py` loads
its weights.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cnnclf.config import BackboneConfig
from cnnclf.errors import ConfigError
from cnnclf.models import stages
from cnnclf.models.stages import Stage
from cnnclf.models.weights.weight_files import WEIGHT_FILES, WeightsFile

KERAS_TABLE = "Keras Applications, table of available models"
MODULE_PAGES = "Keras Applications, page of the model family"
DEFAULT_BACKBONE = BackboneConfig().name

_TRANSFORMERS = ("beit", "clip", "deit", "dino", "swin", "vit")


@dataclass(frozen=True)
class Backbone:
    """A network without its classification top.

    Args:
        name: Its name for users.
        builder: Dotted path of the function that builds it.
        default_size: Height and width it was trained on, in pixels.
        min_size: Smallest height and width it can be built for, in pixels.
        normalization: One of `cnnclf.models.normalize.NORMALIZATIONS`.
        parameters: Weights, counting the non-trainable ones.
        gmacs: Multiply-accumulates of convolutions and dense layers for one image of
            `default_size`, in billions.
        top1: Published accuracy on the validation set of ImageNet (2012), in percent, with its
            own top.
        top1_source: Who publishes that accuracy.
        stages: From the pixels to the features.
        imagenet: The file of its ImageNet weights.
        arguments: Arguments of the builder besides the input.
    """

    name: str
    builder: str
    default_size: int
    min_size: int
    normalization: str
    parameters: int
    gmacs: float
    top1: float
    top1_source: str
    stages: tuple[Stage, ...]
    imagenet: WeightsFile
    arguments: tuple[tuple[str, object], ...] = ()

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, from the pixels to the features."""
        return tuple(stage.name for stage in self.stages)

    @property
    def weight_sources(self) -> tuple[str, ...]:
        """Where its weights can come from, the default first."""
        shipped = f"imagenet ({'installed package' if self.imagenet.package else 'download'})"
        return (shipped, "file", "run", "none")


def find_backbone(name: str) -> Backbone:
    """Find a backbone; case and punctuation do not matter (`EfficientNetV2B0` is found).

    Raises:
        ConfigError: There is no such backbone; the hint suggests similar names.
    """
    wanted = _plain(name)
    by_name = {_plain(row.name): row for row in BACKBONES}
    if wanted in by_name:
        return by_name[wanted]
    if wanted.startswith(_TRANSFORMERS):
        meant = "transformers are not among the backbones; "
    else:
        similar = difflib.get_close_matches(wanted, by_name, 8, 0.5)
        similar.sort(key=lambda key: _distance(wanted, key))
        names = [by_name[key].name for key in similar[:3]]
        meant = f"did you mean {' or '.join(names)}? " if names else ""
    raise ConfigError(f"unknown backbone {name!r}", f"{meant}cnnclf backbones lists all")


def check_size(backbone: Backbone, *, height: int, width: int) -> None:
    """Refuse images too small for a backbone.

    Raises:
        ConfigError: One side is below the backbone's minimum.
    """
    if min(height, width) < backbone.min_size:
        raise ConfigError(
            f"expected an image size of at least {backbone.min_size}x{backbone.min_size} for"
            f" {backbone.name}, received {height}x{width}",
            f"it was trained with --image-size {backbone.default_size}",
        )


def _distance(name: str, other: str) -> tuple[bool, bool, int]:
    """Compare plain names for sorting: those of the same family first, nearest in size first."""
    sizes = [int((re.findall("[0-9]+", each) or [0])[0]) for each in (name, other)]
    families = [re.sub("[0-9]", "", each) for each in (name, other)]
    is_other = families[0] != families[1]
    return is_other, not other.startswith(families[0]), abs(sizes[0] - sizes[1])


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_Member = tuple[str, str, int, int, float, float]
_ScaledMember = tuple[str, str, int, int, float, float, float]


def _family(
    normalization: str,
    min_size: int,
    parts: tuple[Stage, ...],
    *members: _Member | _ScaledMember,
) -> Iterator[Backbone]:
    """Build rows of keras.applications that share their stages.

    A member is name, builder, default size, parameters, GMACs, top-1 and, for a MobileNet, the
    width multiplier; those that have one are not in Keras's table, but on their family's page.
    """
    for name, builder, default_size, parameters, gmacs, top1, *alpha in members:
        yield Backbone(
            name=name,
            builder=f"keras.applications.{builder}",
            default_size=default_size,
            min_size=min_size,
            normalization=normalization,
            parameters=parameters,
            gmacs=gmacs,
            top1=top1,
            top1_source=MODULE_PAGES if alpha else KERAS_TABLE,
            stages=parts,
            imagenet=WEIGHT_FILES[name],
            arguments=(
                ("include_top", False),
                ("weights", None),
                *(("alpha", each) for each in alpha),
            ),
        )


def _convnext_family(*members: _Member) -> Iterator[Backbone]:
    """Build the rows of ConvNeXt, whose layers have the variant in their names."""
    for member in members:
        variant = member[0].removeprefix("convnext-")
        yield from _family("inside", 32, stages.name_convnext_stages(variant), member)


def _lite_family(*members: tuple[str, int, int, float, float]) -> Iterator[Backbone]:
    """Build the rows of EfficientNet-Lite: variant, default size, parameters, GMACs, top-1."""
    for variant, default_size, parameters, gmacs, top1 in members:
        name = f"efficientnet-{variant}"
        yield Backbone(
            name=name,
            builder="cnnclf.models.efficientnet_lite.build_efficientnet_lite",
            default_size=default_size,
            min_size=32,
            normalization="lite",
            parameters=parameters,
            gmacs=gmacs,
            top1=top1,
            top1_source="EfficientNet-Lite, authors' table",
            stages=stages.LITE,
            imagenet=WEIGHT_FILES[name],
            arguments=(("variant", variant),),
        )


BACKBONES: tuple[Backbone, ...] = (
    *_lite_family(
        ("lite0", 224, 3_413_024, 0.384, 75.1),
        ("lite1", 240, 4_189_344, 0.599, 76.7),
        ("lite2", 260, 4_869_168, 0.858, 77.6),
    ),
    *_family(
        "caffe",
        32,
        stages.VGG,
        ("vgg16", "VGG16", 224, 14_714_688, 15.35, 71.3),
        ("vgg19", "VGG19", 224, 20_024_384, 19.51, 71.3),
    ),
    *_family(
        "caffe",
        32,
        stages.RESNET,
        ("resnet50", "ResNet50", 224, 23_587_712, 3.856, 74.9),
        ("resnet101", "ResNet101", 224, 42_658_176, 7.568, 76.4),
        ("resnet152", "ResNet152", 224, 58_370_944, 11.28, 76.6),
    ),
    *_family(
        "tf",
        32,
        stages.RESNET_V2,
        ("resnet50v2", "ResNet50V2", 224, 23_564_800, 3.48, 76.0),
        ("resnet101v2", "ResNet101V2", 224, 42_626_560, 7.192, 77.2),
        ("resnet152v2", "ResNet152V2", 224, 58_331_648, 10.9, 78.0),
    ),
    *_family(
        "tf",
        75,
        stages.INCEPTION,
        ("inceptionv3", "InceptionV3", 299, 21_802_784, 5.711, 77.9),
    ),
    *_family(
        "tf",
        75,
        stages.INCEPTION_RESNET,
        ("inceptionresnetv2", "InceptionResNetV2", 299, 54_336_736, 13.15, 80.3),
    ),
    *_family(
        "tf",
        71,
        stages.XCEPTION,
        ("xception", "Xception", 299, 20_861_480, 8.355, 79.0),
    ),
    *_family(
        "tf",
        32,
        stages.MOBILENET,
        ("mobilenet", "MobileNet", 224, 3_228_864, 0.5677, 70.4),
        ("mobilenet-0.75", "MobileNet", 224, 1_832_976, 0.3246, 68.4, 0.75),
        ("mobilenet-0.5", "MobileNet", 224, 829_536, 0.149, 63.7, 0.5),
        ("mobilenet-0.25", "MobileNet", 224, 218_544, 0.0408, 50.6, 0.25),
    ),
    *_family(
        "tf",
        32,
        stages.MOBILENET_V2,
        ("mobilenetv2-1.4", "MobileNetV2", 224, 4_363_712, 0.5804, 75.0, 1.4),
        ("mobilenetv2-1.3", "MobileNetV2", 224, 3_766_048, 0.5077, 74.4, 1.3),
        ("mobilenetv2", "MobileNetV2", 224, 2_257_984, 0.2995, 71.3),
        ("mobilenetv2-0.75", "MobileNetV2", 224, 1_382_064, 0.2078, 69.8, 0.75),
        ("mobilenetv2-0.5", "MobileNetV2", 224, 706_224, 0.0959, 65.4, 0.5),
        ("mobilenetv2-0.35", "MobileNetV2", 224, 410_208, 0.058, 60.3, 0.35),
    ),
    *_family(
        "inside",
        32,
        stages.MOBILENET_V3_LARGE,
        ("mobilenetv3-large", "MobileNetV3Large", 224, 2_996_352, 0.2141, 75.6, 1.0),
        ("mobilenetv3-large-0.75", "MobileNetV3Large", 224, 1_808_736, 0.1524, 73.3, 0.75),
    ),
    *_family(
        "inside",
        32,
        stages.MOBILENET_V3_SMALL,
        ("mobilenetv3-small", "MobileNetV3Small", 224, 939_120, 0.0549, 68.1, 1.0),
        ("mobilenetv3-small-0.75", "MobileNetV3Small", 224, 583_160, 0.0419, 65.4, 0.75),
    ),
    *_family(
        "torch",
        32,
        stages.DENSENET,
        ("densenet121", "DenseNet121", 224, 7_037_504, 2.833, 75.0),
        ("densenet169", "DenseNet169", 224, 12_642_880, 3.358, 76.2),
        ("densenet201", "DenseNet201", 224, 18_321_984, 4.289, 77.3),
    ),
    *_family(
        "tf",
        32,
        stages.name_nasnet_stages(4),
        ("nasnet-mobile", "NASNetMobile", 224, 4_269_716, 0.5626, 74.4),
    ),
    *_family(
        "tf",
        32,
        stages.name_nasnet_stages(6),
        ("nasnet-large", "NASNetLarge", 331, 84_916_818, 23.78, 82.5),
    ),
    *_family(
        "inside",
        32,
        stages.name_efficientnet_stages(7),
        ("efficientnet-b0", "EfficientNetB0", 224, 4_049_571, 0.3845, 77.1),
        ("efficientnet-b1", "EfficientNetB1", 240, 6_575_239, 0.6855, 79.1),
        ("efficientnet-b2", "EfficientNetB2", 260, 7_768_569, 0.9922, 80.1),
        ("efficientnet-b3", "EfficientNetB3", 300, 10_783_535, 1.826, 81.6),
        ("efficientnet-b4", "EfficientNetB4", 380, 17_673_823, 4.392, 82.9),
        ("efficientnet-b5", "EfficientNetB5", 456, 28_513_527, 10.26, 83.6),
        ("efficientnet-b6", "EfficientNetB6", 528, 40_960_143, 19.07, 84.0),
        ("efficientnet-b7", "EfficientNetB7", 600, 64_097_687, 37.74, 84.3),
    ),
    *_family(
        "inside",
        32,
        stages.name_efficientnet_stages(6),
        ("efficientnetv2-b0", "EfficientNetV2B0", 224, 5_919_312, 0.7168, 78.7),
        ("efficientnetv2-b1", "EfficientNetV2B1", 240, 6_931_124, 1.196, 79.8),
        ("efficientnetv2-b2", "EfficientNetV2B2", 260, 8_769_374, 1.696, 80.5),
        ("efficientnetv2-b3", "EfficientNetV2B3", 300, 12_930_622, 3.01, 82.0),
        ("efficientnetv2-s", "EfficientNetV2S", 384, 20_331_360, 8.364, 83.9),
    ),
    *_family(
        "inside",
        32,
        stages.name_efficientnet_stages(7),
        ("efficientnetv2-m", "EfficientNetV2M", 480, 53_150_388, 24.58, 85.3),
        ("efficientnetv2-l", "EfficientNetV2L", 480, 117_746_848, 56.08, 85.7),
    ),
    *_convnext_family(
        ("convnext-tiny", "ConvNeXtTiny", 224, 27_820_128, 4.455, 81.3),
        ("convnext-small", "ConvNeXtSmall", 224, 49_454_688, 8.683, 82.3),
        ("convnext-base", "ConvNeXtBase", 224, 87_566_464, 15.35, 85.3),
        ("convnext-large", "ConvNeXtLarge", 224, 196_230_336, 34.36, 86.3),
        ("convnext-xlarge", "ConvNeXtXLarge", 224, 348_147_968, 60.92, 86.7),
    ),
)
