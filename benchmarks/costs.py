"""What a step of a fit has to do at the least, counted from the sizes of its networks; nothing is measured here.

An operation is one addition, multiplication, division or root; a multiply-add is two.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_siren.core.network.orthogonalise import ORTHOGONALISATION
from napari_siren.core.network.siren import NetworkSpec
from napari_siren.core.settings.config import FitConfig

_FLOAT_BYTES = 4
# Operations for each parameter, as core/native/update.c has them: two running means (3, 4), the root of the
# corrected square and the step (6); the momentum and the look-ahead (3, 3), and the step (2); the mean weights (3).
_ADAM, _MUON, _AVERAGE = 13, 8, 3


@dataclass(frozen=True)
class StepCosts:
    """A step, counted over all tiles.

    Parameters
    ----------
    evaluations
        Of a network, forwards and back.
    products
        Operations of the matrix products of the gradient.
    sine_pairs
        A sine and its cosine, for each value of each sine layer.
    orthogonalisation
        Operations of Muon's matrix products.
    elementwise
        Other operations of the optimiser.
    memory
        Bytes that have to move between the main memory and a processor whose cache holds any tile, but not all:
        parameters, gradient, the optimiser's state and the mean weights once each way; targets, their weights and
        the positions once.
    """

    evaluations: int
    products: int
    sine_pairs: int
    orthogonalisation: int
    elementwise: int
    memory: int


def count_step(config: FitConfig, shape: NetworkSpec, tiles: int, samples: int, pixels: int) -> StepCosts:
    """Count a step.

    Parameters
    ----------
    config
        Which optimiser.
    shape, tiles
        Size and number of the networks.
    samples, pixels
        Of a tile, in one step: where the network is evaluated, and what it is compared with.
    """
    evaluations = tiles * samples
    return StepCosts(
        evaluations,
        evaluations * product_operations(shape),
        evaluations * shape.hidden_layers * shape.hidden_features,
        tiles * orthogonalisation_operations(config, shape),
        tiles
        * (_ADAM * adam_columns(config, shape) + _MUON * muon_columns(config, shape) + _AVERAGE * shape.parameters),
        _FLOAT_BYTES * (tiles * _floats_of_tile(config, shape, pixels) + shape.inputs * samples),
    )


def product_operations(shape: NetworkSpec) -> int:
    """Operations of an evaluation's products: forward, the weights' gradient, and the inputs' after layer 1."""
    sizes = [out * into for out, into in shape.layers]
    return 2 * (3 * sum(sizes) - sizes[0])


def orthogonalisation_operations(config: FitConfig, shape: NetworkSpec) -> int:
    """Operations of the products by which a network's hidden matrices are orthogonalised: three in an iteration."""
    return 2 * 3 * len(ORTHOGONALISATION) * shape.hidden_features * muon_columns(config, shape)


def muon_columns(config: FitConfig, shape: NetworkSpec) -> int:
    """Parameters of a network that move by Muon."""
    return shape.parameters - adam_columns(config, shape)


def adam_columns(config: FitConfig, shape: NetworkSpec) -> int:
    """Parameters of a network that move by Adam."""
    return shape.hidden_start if config.optimizer == "muon" else shape.parameters


def _floats_of_tile(config: FitConfig, shape: NetworkSpec, pixels: int) -> int:
    each_way = 3 * shape.parameters + 2 * adam_columns(config, shape) + muon_columns(config, shape)
    return 2 * each_way + pixels * (shape.outputs + 1)
