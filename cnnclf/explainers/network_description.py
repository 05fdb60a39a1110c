"""What a network is made of, and the memory it needs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from cnnclf.models.anatomy import Anatomy
from cnnclf.models.dense_comparison import DenseComparison, compare_dense

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class NetworkDescription:
    """A network on paper.

    Args:
        name: Where it comes from, in words.
        anatomy: All its layers.
        input_shape: (height, width, channels) of its images.
        batch_size: Images in a training batch.
        optimizer: Name of the optimizer.
        is_staged: Whether its layers belong to the stages of a backbone, and are too many to list.
        parameters_at: Its parameters for square images with this side, None if they do not fit;
            None: the same for all, because it ends with global pooling.
    """

    name: str
    anatomy: Anatomy
    input_shape: Shape
    batch_size: int
    optimizer: str
    is_staged: bool
    parameters_at: Callable[[int], int | None] | None = field(default=None, repr=False)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights in float32."""
        return self.anatomy.weight_bytes

    @property
    def image_bytes(self) -> int:
        """Memory of the largest output together with the next one: what predicting needs."""
        sizes = [layer.activation_bytes for layer in self.anatomy.layers]
        return max(map(sum, pairwise(sizes)), default=sum(sizes))

    @property
    def training_bytes(self) -> int:
        """Memory of all outputs of a batch, which gradients need, weights and optimizer."""
        return self.anatomy.training_bytes(self.batch_size, self.optimizer)

    def compare_dense(self) -> DenseComparison:
        """Compare it with a fully connected network of as many units."""
        same = self.anatomy.parameters
        grows = self.parameters_at or (lambda _: same)
        return compare_dense(self.anatomy, self.input_shape, parameters_at=grows)
