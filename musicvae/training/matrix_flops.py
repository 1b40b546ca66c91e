"""How many floating-point operations the matrix products of a model take, and how many the machine can do."""

import statistics
import time

import torch

from musicvae.groove.grid import GridSpec
from musicvae.model.layers import FEED_FORWARD
from musicvae.model.settings import ModelSettings

BACKWARD = 2
"""Products of the backward pass for each of the forward pass: gradients of the input and of the weights."""
SQUARE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices that the peak is measured with."""
ENOUGH_PRODUCTS, PATIENCE_SECONDS = 5, 2.0
"""One product in a precision that the CPU only emulates takes half a minute."""


def training_flops(settings: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    """Operations of forward and backward pass for one window; a multiplication with its addition counts as two."""
    return (1 + BACKWARD) * forward_flops(settings, grid, num_drums)


def forward_flops(settings: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    """Operations of encoding a window and of decoding it under teacher forcing.

    A product of a vector with an m x n matrix takes 2mn, a step of an LSTM layer 2 x 4 hidden x (input + hidden). Left
    out is what is done once a batch: the tables of tokens, less than a thousandth.
    """
    return _encoder(settings, grid, num_drums) + _prior(settings) + _decoder(settings, grid, num_drums)


def decoding_flops(settings: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    """Operations of decoding one groove from a draw of the prior, step by step or under teacher forcing."""
    return _prior(settings) + _decoder(settings, grid, num_drums)


def _encoder(s: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    hidden, layers, steps = s.encoder_hidden, s.encoder_layers, grid.num_steps
    match s.encoder:
        case "none":
            return 0
        case "lstm":
            body = steps * _lstm(s.encoder_embedding, hidden, layers, directions=2)
            return body + 2 * _product(2 * hidden, s.latent)
        case "feed_forward":
            stretches = grid.bars if s.encoder_shares_bars else 1
            first = stretches * _product(steps // stretches * num_drums, hidden)
            return first + _feed_forward(stretches * hidden, hidden, layers - 1) + 2 * _product(hidden, s.latent)
        case "transformer":
            parts = s.latent_segments
            heads = parts * (_product(steps // parts * hidden, hidden) + 2 * _product(hidden, s.latent // parts))
            return layers * _transformer_block(hidden, steps) + heads
        case "segments":
            parts = s.latent_segments
            enter = _product(steps // parts * (num_drums + s.encoder_embedding), hidden)
            heads = 2 * _product(hidden, s.latent // parts)
            return layers * _transformer_block(hidden, parts) + parts * (enter + heads)


def _decoder(s: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    hidden, layers, steps, vocab = s.decoder_hidden, s.decoder_layers, grid.num_steps, 1 << num_drums
    match s.decoder:
        case "hierarchical" | "flat":
            whole = s.decoder == "flat"
            segments, condition = (1, s.latent) if whole else (grid.bars, s.conductor_embedding)
            recurrent = _lstm(condition + s.decoder_embedding, hidden, layers) + _product(hidden, vocab)
            states = segments * _initial_state(condition, hidden, layers)
            return (0 if whole else _conductor(s, grid)) + states + steps * recurrent
        case "feed_forward":
            drums = _product(hidden, steps * num_drums) + steps * _product(num_drums, vocab)
            return _feed_forward(s.latent, hidden, layers) + drums
        case "independent":
            return _step_features(s, grid) + steps * _product(s.step_features, vocab)
        case "recurrent" | "transformer":
            features = s.step_features if s.latent else 0
            inputs = s.decoder_embedding + features
            history = _product(len(s.history_lags) * (num_drums + 1), s.decoder_embedding)
            if s.decoder == "recurrent":
                body, outputs = steps * _lstm(inputs, hidden, layers), hidden + inputs
            else:
                blocks = layers * _transformer_block(hidden, steps)
                body, outputs = steps * _product(inputs, hidden) + blocks, hidden
            return _step_features(s, grid) + body + steps * (history + _product(outputs + features, vocab))


def _prior(s: ModelSettings) -> int:
    if s.prior == "standard":
        return 0
    part = s.latent // s.latent_segments
    blocks = s.prior_layers * _transformer_block(s.prior_hidden, s.latent_segments)
    enter = (s.latent_segments - 1) * _product(part, s.prior_hidden)
    return enter + blocks + s.latent_segments * _product(s.prior_hidden, 2 * part)


def _conductor(s: ModelSettings, grid: GridSpec) -> int:
    bar = _lstm(1, s.conductor_hidden, s.conductor_layers) + _product(s.conductor_hidden, s.conductor_embedding)
    return _initial_state(s.latent, s.conductor_hidden, s.conductor_layers) + grid.bars * bar


def _step_features(s: ModelSettings, grid: GridSpec) -> int:
    if not s.latent:
        return 0
    hidden, features, parts = s.step_features_hidden, s.step_features, s.latent_segments
    stretches = grid.bars if parts == 1 else parts
    if s.step_features_layers:
        part = s.latent // parts
        steps = grid.num_steps // parts * features
        write = _product(hidden + part, 2 * hidden) + _product(2 * hidden, steps)
        return s.step_features_layers * _transformer_block(hidden, parts) + parts * (_product(part, hidden) + write)
    write = stretches * (_product(hidden, hidden) + _product(hidden, grid.num_steps // stretches * features))
    if parts == 1:
        return write + _product(s.latent, hidden) + _product(hidden, stretches * hidden)
    return write + _product(s.latent, features) + parts * _product(s.latent // parts + features, hidden)


def matrix_peak(dtype: torch.dtype, device: torch.device, *, seconds: float = 0.5) -> float:
    """Operations per second of a product of two large square matrices, median; with this process's threads.

    Args:
        seconds: to measure for; longer where fewer than five products fit into it, but not for minutes.
    """
    side = SQUARE[device.type]
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    taken = []
    until = time.perf_counter() + seconds
    while not taken or time.perf_counter() < (until if len(taken) >= ENOUGH_PRODUCTS else until + PATIENCE_SECONDS):
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


def _feed_forward(inputs: int, hidden: int, layers: int) -> int:
    return _product(inputs, hidden) + (layers - 1) * _product(hidden, hidden) if layers else 0


def _transformer_block(hidden: int, steps: int) -> int:
    projections = 4 * _product(hidden, hidden) + 2 * _product(hidden, FEED_FORWARD * hidden)
    return steps * (projections + 2 * _product(hidden, steps))
