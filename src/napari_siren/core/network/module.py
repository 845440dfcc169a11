"""`SirenModule`: one sine network as a PyTorch module, for any training loop."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import InputError


class SirenModule(nn.Module):
    """A SIREN as a PyTorch module: sine layers h <- sin(omega (W h + b)), then a linear layer.

    The parameters are drawn as in Sitzmann et al. 2020, for coordinates from -1 to 1. They are float32; `double()`
    converts them. The network has derivatives of every order, in its inputs and in its parameters.

    Parameters
    ----------
    in_features, out_features
        Number of coordinates, and number of values.
    hidden_features
        Width of the sine layers.
    hidden_layers
        Number of sine layers, as in `FitConfig`. The code of the paper does not count the first one.
    first_omega, hidden_omega
        Factor inside the sine of the first layer, and of the others. The larger the first is, the finer is the detail
        in the initial network.
    seed
        Seed of the random initialisation. The state of PyTorch's own generator is not changed.

    Raises
    ------
    InputError
        A size is not a positive integer, a factor is not positive and finite, or the seed is negative.

    Examples
    --------
    >>> import torch, napari_siren as ns
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> siren = ns.SirenModule(1, 1, hidden_features=32)
    >>> optimizer = torch.optim.Adam(siren.parameters(), lr=1e-3)
    >>> for _ in range(200):
    ...     loss = (siren(x) - torch.cos(9 * x)).square().mean()
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    >>> bool(loss < 1e-3)
    True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_features: int = 256,
        hidden_layers: int = 3,
        first_omega: float = 30.0,
        hidden_omega: float = 30.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_integers(
            1,
            in_features=in_features,
            out_features=out_features,
            hidden_features=hidden_features,
            hidden_layers=hidden_layers,
        )
        _check_integers(0, seed=seed)
        for name, value in (("first_omega", first_omega), ("hidden_omega", hidden_omega)):
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise InputError(f"{name}={value!r} is not a positive finite number. Use 30.")
        spec = NetworkSpec(in_features, out_features, hidden_layers, hidden_features)
        config = FitConfig.preset("paper").model_copy(update={"omega_0": hidden_omega})
        start = Siren.initialise(spec, 1, config, seed)
        self.omegas = (float(first_omega), *[float(hidden_omega)] * (hidden_layers - 1))
        # The layers of PyTorch would draw parameters of their own, from its global generator.
        layers = [nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu") for outputs, inputs in spec.layers]
        with torch.no_grad():
            for layer, weight, bias in zip(layers, spec.weights(start.theta), spec.biases(start.theta), strict=True):
                layer.weight.copy_(weight[0])
                layer.bias.copy_(bias[0, :, 0])
        self.layers = nn.ModuleList(layers)

    def forward(self, coordinates: Tensor) -> Tensor:
        """Evaluate the network: (..., in_features) -> (..., out_features)."""
        h = coordinates
        *hidden, last = self.layers
        for omega, layer in zip(self.omegas, hidden, strict=True):
            h = torch.sin(omega * layer(h))
        result: Tensor = last(h)
        return result

    def extra_repr(self) -> str:
        """Return the factors inside the sines, for the representation of the module."""
        return f"omegas={self.omegas}"


def _check_integers(least: int, **values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{name}={value!r} is not an integer of at least {least}. Pass an integer.")
