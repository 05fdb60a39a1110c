"""What a file says of its making: which way is up, which camera, when, at which quality."""

from PIL import ExifTags, Image, ImageFile, JpegImagePlugin

from cnnclf.images.image_words import DAMAGE, printable

# From the value of the EXIF tag Orientation (JEITA CP-3451) to what makes the image upright.
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset({5, 6, 7, 8})  # rows and columns are swapped
_COLUMNS_REVERSED = frozenset({2, 3, 6, 7})  # in the upright image
_ROWS_REVERSED = frozenset({3, 4, 7, 8})
TURNS = {
    2: "mirrored by EXIF",
    3: "rotated by EXIF",
    4: "mirrored by EXIF",
    5: "mirrored and rotated by EXIF",
    6: "rotated by EXIF",
    7: "mirrored and rotated by EXIF",
    8: "rotated by EXIF",
}
_LUMINANCE_SUM = 3688  # of the 64 numbers of table K.1 of the JPEG standard (quality 50)
_MAX_CAMERA = 40
Box = tuple[float, float, float, float]


def find_orientation(image: ImageFile.ImageFile) -> int:
    """Read the orientation, 1 if none; after loading, as a PNG may store it after the pixels."""
    sources = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
    if not any(name in image.info for name in sources):
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1  # the pixels are intact: damaged metadata is no reason to lose the image
    return orientation if isinstance(orientation, int) and orientation in _TRANSPOSES else 1


def read_exif(image: ImageFile.ImageFile) -> tuple[str, str]:
    """Read the camera and the time that the image was taken; "" for unknown."""
    if "exif" not in image.info:
        return "", ""
    try:
        exif = image.getexif()
        words = [str(exif.get(tag, "")) for tag in (ExifTags.Base.Make, ExifTags.Base.Model)]
        taken = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal, "")
    except DAMAGE:
        return "", ""
    camera = " ".join(printable(word.strip("\0 "))[:_MAX_CAMERA] for word in words).strip()
    return camera, printable(str(taken or exif.get(ExifTags.Base.DateTime, "")))[:_MAX_CAMERA]


def estimate_quality(image: ImageFile.ImageFile) -> int | None:
    """Invert how libjpeg scales its table of luminance by the quality."""
    table = getattr(image, "quantization", None)
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not table:
        return None
    percent: float = 100 * sum(next(iter(table.values()))) / _LUMINANCE_SUM
    return max(1, round((200 - percent) / 2 if percent <= 100 else 5000 / percent))


def turn_upright(image: Image.Image, box: Box, *, orientation: int) -> tuple[Image.Image, Box]:
    """Turn an image upright, and the box that the file fills."""
    if orientation not in _TRANSPOSES:
        return image, box
    image = image.transpose(_TRANSPOSES[orientation])
    left, upper, right, lower = box
    if orientation in SIDEWAYS:
        left, upper, right, lower = upper, left, lower, right
    if orientation in _COLUMNS_REVERSED:
        left, right = image.width - right, image.width - left
    if orientation in _ROWS_REVERSED:
        upper, lower = image.height - lower, image.height - upper
    return image, (left, upper, right, lower)
