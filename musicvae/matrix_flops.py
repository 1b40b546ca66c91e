"""How many floating-point operations the matrix products of a model take, and how many the machine can do."""

import statistics
import time

import torch

from musicvae.grid import GridSpec
from musicvae.model_settings import ModelSettings

BACKWARD = 2
"""Products of the backward pass for each of the forward pass: gradients of the input and of the weights."""
SQUARE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices that the peak is measured with."""


def training_flops(settings: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    """Operations of forward and backward pass for one window; a multiplication with its addition counts as two."""
    return (1 + BACKWARD) * forward_flops(settings, grid, num_drums)


def forward_flops(settings: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    """Operations of encoding a window and of decoding it under teacher forcing.

    A product of a vector with an m x n matrix takes 2mn, a step of an LSTM layer 2 x 4 hidden x (input + hidden). Left
    out is what is done once a batch: the tables of tokens, less than a thousandth.
    """
    s, vocab = settings, 1 << num_drums
    encoder = _lstm(s.encoder_embedding, s.encoder_hidden, s.encoder_layers, directions=2) * grid.num_steps
    heads = 2 * _product(2 * s.encoder_hidden, s.latent)
    if s.decoder == "hierarchical":
        segments, condition = grid.bars, s.conductor_embedding
        conductor = _initial_state(s.latent, s.conductor_hidden, s.conductor_layers) + segments * (
            _lstm(1, s.conductor_hidden, s.conductor_layers) + _product(s.conductor_hidden, condition)
        )
    else:
        segments, condition, conductor = 1, s.latent, 0
    decoder = segments * _initial_state(condition, s.decoder_hidden, s.decoder_layers) + grid.num_steps * (
        _lstm(condition + s.decoder_embedding, s.decoder_hidden, s.decoder_layers) + _product(s.decoder_hidden, vocab)
    )
    return encoder + heads + conductor + decoder


def matrix_peak(dtype: torch.dtype, device: torch.device, *, seconds: float = 0.5) -> float:
    """Operations per second of a product of two large square matrices, median; with this process's threads."""
    side = SQUARE[device.type]
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    taken = []
    until = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < until:
        started = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return _product(side, side) * side / statistics.median(taken)


def _product(inputs: int, outputs: int) -> int:
    return 2 * inputs * outputs


def _initial_state(inputs: int, hidden: int, layers: int) -> int:
    return _product(inputs, 2 * layers * hidden)


def _lstm(inputs: int, hidden: int, layers: int, *, directions: int = 1) -> int:
    deeper = (layers - 1) * _product(directions * hidden + hidden, 4 * hidden)
    return directions * (_product(inputs + hidden, 4 * hidden) + deeper)
