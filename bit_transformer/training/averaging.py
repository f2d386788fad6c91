"""Exponential moving average of the weights. The averaged model is evaluated and saved."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """The moving average of a network's weights. With decay 0 there is no average."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network = network
        self._average = None
        if decay > 0:
            update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(network, multi_avg_fn=update)

    def update(self) -> None:
        """Update the average after an optimizer step."""
        if self._average is not None:
            self._average.update_parameters(self._network)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the network has the averaged weights. Its own are restored exactly."""
        if self._average is None:
            yield
            return
        own = {name: weight.clone() for name, weight in self._network.state_dict().items()}
        self._network.load_state_dict(self._average.module.state_dict())
        try:
            yield
        finally:
            self._network.load_state_dict(own)

    def keep(self) -> None:
        """Replace the network's weights by the averaged ones permanently."""
        if self._average is not None:
            self._network.load_state_dict(self._average.module.state_dict())

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights and the number of updates. Empty without averaging."""
        return {} if self._average is None else self._average.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a value of `state_dict`."""
        if self._average is not None:
            self._average.load_state_dict(state)
