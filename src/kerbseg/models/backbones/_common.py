"""What the backbones agree on: two maps out, strides that turn into dilation, one kind of classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jaxtyping import Float
from torch import Tensor, nn

from kerbseg.core.errors import KerbsegError
from kerbseg.models._input import check_input


class Backbone(nn.Module):
    """A network from a picture to two maps: early features with fine positions, late ones with meaning."""

    low_channels: int
    channels: int
    stride: int = 1  # height and width of a picture are multiples of this
    smallest: int = 1  # and at least this

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b l H W"], Float[Tensor, "b c Y X"]]:
        raise NotImplementedError


class Classifier(nn.Module):
    """Class logits of a whole picture: the backbone's last map, averaged, and one linear layer (the head)."""

    def __init__(self, backbone: Backbone, classes: int = 1000, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.channels, classes)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        check_input(image, self.backbone.stride)
        return self.head(self.dropout(self.backbone(image)[1].mean(dim=(2, 3))))


def check_output_stride(output_stride: int) -> None:
    """Refuses all but the paper's 8, 16 and 32."""
    if output_stride not in (8, 16, 32):
        raise KerbsegError(f"output_stride is {output_stride}; choose 8 (finest, slowest), 16 or 32 (fastest)")


def atrous(strides: Iterable[int], start: int, output_stride: int) -> Iterator[tuple[int, int, int]]:
    """Stride and dilation of each stage's first unit, and the dilation of its other units.

    A stage that would pass `output_stride` loses its stride, and what follows is dilated instead: it then computes
    the old values and new ones between them, so weights trained at 1/32 still fit (Chen et al., DeepLab).
    """
    check_output_stride(output_stride)
    reached, dilation = start, 1
    for stride in strides:
        first = dilation
        if reached * stride > output_stride:
            dilation *= stride
            stride = 1
        reached *= stride
        yield stride, first, dilation
