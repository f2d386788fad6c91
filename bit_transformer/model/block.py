"""One pair of residual branches. How they are run is the stack's business."""

from torch import nn

from bit_transformer.model.attention import Attention
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.feed_forward import FeedForward


class Block(nn.Module):
    """Attention and feed-forward; both add to the residual stream and start by adding zero."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
