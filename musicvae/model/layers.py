"""Layers that encoders, decoders and the prior share.

Tokens:
    A token is a set of drums. With `bits` its embedding and its score are the sum of a part of its own and of one part
    for each drum that it hits, so that the 365 tokens that never occur in training, and the many rare ones, share what
    is learnt about their drums. Without, each token is learnt alone, as in the paper. Parts are summed once for the
    whole vocabulary, not for each of the many tokens of a batch, and in the precision of the weights: rounded to
    bfloat16 first, a small part would vanish beside a large one.

Dropout:
    One mask for all steps of a window (Gal and Ghahramani 2016, arXiv 1512.05287). It generalises better in sequence
    models than a new mask at every step. It also draws 64 times fewer random numbers, which on a CPU otherwise take a
    third of a training step. A mask is a function of the window's key and of the place of the layer in the model alone,
    whoever computes it on whatever device, so that the topology of a run never changes it.

Attention:
    Transformer blocks (Vaswani et al. 2017, arXiv 1706.03762), normalised before each part, over the places of a
    window: its steps or its segments. The distance of two places enters as a learned bias of each head (Shaw et al.
    2018, arXiv 1803.02155, in the scalar form of Raffel et al. 2020, arXiv 1910.10683): in a groove the same place one
    bar earlier means the same wherever it is.

Attention by one step at a time:
    One query for each item and head leaves nothing to a matrix product but its overhead: on a CPU a batch of them takes
    about four times as long as reading what they multiply. Both halves of attention are weighted sums of rows, though,
    and `embedding_bag` reads rows as fast as memory gives them: the output is the sum of the values, weighted by the
    softmax; the scores are the sum of the rows of the keys' transpose (one row a dimension), weighted by the query.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int16, Int32, Int64
from torch import Tensor, nn

FIRST_PLACES = 16
"""Places for steps at the start; all are read at every step, so their number doubles as steps come."""
FEED_FORWARD = 4
"""Width of the feed-forward part, in hidden sizes."""
INIT_STD = 0.1
DROPOUT_LEVELS = 1 << 16
"""Shares of dropout are multiples of one in so many."""


def token_bits(num_drums: int) -> Float[Tensor, "vocab drum"]:
    """Row t holds 1 for each drum that token t hits."""
    return ((torch.arange(1 << num_drums)[:, None] >> torch.arange(num_drums)) & 1).float()


class TokenEmbedding(nn.Module):
    """Tokens -> vectors; index `vocab` stands for "no token yet", which is not the same as silence."""

    bits: Tensor

    def __init__(self, num_drums: int, size: int, *, bits: bool) -> None:
        super().__init__()
        self.start_token = 1 << num_drums
        self.own = nn.Embedding(self.start_token + 1, size)
        self.of_bits = nn.Linear(num_drums, size, bias=False) if bits else None
        start_row = torch.zeros(1, num_drums)
        self.register_buffer("bits", torch.cat([token_bits(num_drums), start_row]), persistent=False)

    def table(self) -> Float[Tensor, "token hidden"]:
        """The vector of every token, that of the start token last."""
        if self.of_bits is None:
            return self.own.weight
        with torch.autocast(self.bits.device.type, enabled=False):
            return self.own.weight + self.bits @ self.of_bits.weight.T

    def forward(self, tokens: Int64[Tensor, "*place"]) -> Float[Tensor, "*place hidden"]:
        return F.embedding(tokens, self.table())


def token_pairs(num_drums: int) -> Float[Tensor, "vocab pair"]:
    """Row t holds 1 for each pair of drums that token t hits together."""
    bits = token_bits(num_drums)
    first, second = torch.triu_indices(num_drums, num_drums, offset=1)
    return bits[:, first] * bits[:, second]


class TokenScores(nn.Module):
    """Hidden states -> unnormalised log-probabilities (logits) of all tokens.

    With `pairs` a token's score also has a part for each pair of its drums, so that which drums go together is learnt
    for all tokens at once.
    """

    parts: Tensor

    def __init__(self, num_drums: int, hidden: int, *, bits: bool, pairs: bool = False) -> None:
        super().__init__()
        self.own = nn.Linear(hidden, 1 << num_drums)
        parts = [token_bits(num_drums)] * bits + [token_pairs(num_drums)] * pairs
        self.register_buffer("parts", torch.cat(parts, dim=1) if parts else None, persistent=False)
        self.of_parts = nn.Linear(hidden, self.parts.shape[1]) if parts else None

    def weight_and_bias(self) -> tuple[Float[Tensor, "vocab hidden"], Float[Tensor, " vocab"]]:
        """The one linear layer that all parts together are."""
        if self.of_parts is None:
            return self.own.weight, self.own.bias
        with torch.autocast(self.parts.device.type, enabled=False):
            weight = self.own.weight + self.parts @ self.of_parts.weight
            return weight, self.own.bias + self.parts @ self.of_parts.bias

    def forward(self, hidden: Float[Tensor, "*place hidden"]) -> Float[Tensor, "*place vocab"]:
        return F.linear(hidden, *self.weight_and_bias())


class KeyedDropout(nn.Module):
    """Drops values by a mask that `draw_masks` has drawn, and scales up the others; does nothing in evaluation mode.

    Args:
        share: probability of a value to be dropped, in [0, 1).
        shape: of the mask of one window; a dimension of 1 is one mask for all places of it.
    """

    def __init__(self, share: float, *shape: int) -> None:
        super().__init__()
        self.dropped, self.shape = int(share * DROPOUT_LEVELS), shape
        self.noise: Int16[Tensor, "batch *shape"] | None = None

    def forward(
        self, values: Float[Tensor, "row *shape"], windows: Int64[Tensor, " row"] | None = None
    ) -> Float[Tensor, "row *shape"]:
        """A row is a window; with `windows`, which each row is of, a window may have any number of rows."""
        if not self.training or not self.dropped:
            return values
        if self.noise is None:
            raise RuntimeError("a forward pass in training mode needs masks: call the model's draw_masks before it")
        noise = self.noise if windows is None else self.noise[windows]
        kept = noise >= self.dropped - DROPOUT_LEVELS // 2
        return values * (kept.to(values.dtype) / (1 - self.dropped / DROPOUT_LEVELS))


def draw_masks(layers: Sequence[KeyedDropout], keys: Int64[Tensor, " batch"]) -> None:
    """Draws the masks of the next forward pass, all layers at once: each word gives four elements of them."""
    sizes = [math.prod(layer.shape) for layer in layers]
    noise = splitmix(keys, -(-sum(sizes) // 4)).view(torch.int16)
    for layer, layer_noise in zip(layers, noise[:, : sum(sizes)].split(sizes, dim=1), strict=True):
        layer.noise = layer_noise.unflatten(1, layer.shape)


def splitmix(keys: Int64[Tensor, " key"], draws: int) -> Int64[Tensor, "key draw"]:
    """The first numbers of SplitMix64 (Steele, Lea and Flood 2014) begun at each key: 64 random bits each.

    The same bits on every device. Integer products wrap, and `>>` is arithmetic, hence the masks.
    """
    ticks = torch.arange(1, draws + 1, device=keys.device) * -0x61C8864680B583EB
    bits = keys[:, None] + ticks
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        bits.bitwise_xor_((bits >> shift).bitwise_and_((1 << 64 - shift) - 1)).mul_(factor)
    return bits.bitwise_xor_((bits >> 31).bitwise_and_((1 << 33) - 1))


class LSTM(nn.LSTM):
    """`nn.LSTM`, which under autocast computes in the type of autocast on every device.

    On CUDA autocast hands cuDNN's LSTMs float16, whatever its own type is. Sums above 65,504 overflow in float16, and
    small gradients vanish in it unless the loss is scaled; bfloat16 has the range of float32. On the CPU autocast
    hands its LSTMs its own type, so nothing has to be cast here.
    """

    def forward(  # type: ignore[override]
        self, values: Float[Tensor, "*place feature"], state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Float[Tensor, "*place hidden"], tuple[Tensor, Tensor]]:
        """Outputs of all steps and the last state, of shapes as for `nn.LSTM`; without a state it begins with zeros."""
        device = values.device.type
        if device == "cpu" or not torch.is_autocast_enabled(device):
            return super().forward(values, state)
        return self.computed_in(torch.get_autocast_dtype(device), values, state)

    def computed_in(
        self, dtype: torch.dtype, values: Float[Tensor, "*place feature"], state: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "*place hidden"], tuple[Tensor, Tensor]]:
        """As `forward`, with inputs, state and weights cast to a type; gradients reach weights in the weights' type."""
        with torch.autocast(values.device.type, enabled=False):
            values = values.to(dtype)
            if state is None:
                rows = self.num_layers * (1 + self.bidirectional)
                zeros = values.new_zeros(rows, values.shape[0 if self.batch_first else 1], self.hidden_size)
                state = zeros, zeros
            outputs, hidden, cell = torch.lstm(
                values,
                [part.to(dtype) for part in state],
                [weight.to(dtype) for weight in self.parameters()],
                self.bias,
                self.num_layers,
                self.dropout,
                self.training,
                self.bidirectional,
                self.batch_first,
            )
        return outputs, (hidden, cell)


class AttentionCache:
    """Attention to the steps so far. Writes in place, so that no gradient can go through it."""

    keys: Float[Tensor, "key_row places"]
    values: Float[Tensor, "value_row size"]
    key_rows: Int32[Tensor, "batch_head size"]
    value_rows: Int32[Tensor, "batch_head places"]

    def __init__(self) -> None:
        self.steps = self.places = 0

    def attend(
        self,
        queries: Float[Tensor, "batch head size"],
        keys: Float[Tensor, "batch head size"],
        values: Float[Tensor, "batch head size"],
        bias: Float[Tensor, "*row head num_steps"],
    ) -> Float[Tensor, "batch head size"]:
        """What the next step attends to among those before it and itself, whose keys and values are added.

        A later step may be one of the first rows alone; what the others have is forgotten.

        Args:
            bias: of this step's attention to every step of the window, -inf for those after it; of each row, or one
                for all of them.
        """
        batch, heads, size = queries.shape
        if self.steps == self.places:
            self._widen(keys, self.room(bias.shape[-1]))
        self.keys.view(-1, heads, size, self.places)[:batch, ..., self.steps] = keys
        self.values.view(-1, heads, self.places, size)[:batch, :, self.steps] = values
        self.steps += 1
        of_keys, of_values = self.key_rows[: batch * heads], self.value_rows[: batch * heads]
        scores = _sums(self.keys, of_keys, (queries * size**-0.5).reshape(-1, size)).view(batch, heads, -1)
        full = scores.to(torch.promote_types(scores.dtype, torch.float32))
        weights = full.add_(bias[..., : self.places]).softmax(dim=-1)
        weights = weights.to(scores.dtype).reshape(-1, self.places)
        return _sums(self.values, of_values, weights).view(batch, heads, size)

    def room(self, most: int) -> int:
        """Places that the next step reads, of `most` in all."""
        return self.places if self.steps < self.places else min(max(2 * self.places, FIRST_PLACES), most)

    def _widen(self, like: Float[Tensor, "batch head size"], places: int) -> None:
        """Makes room for more places; those of later steps hold zeros, which the bias takes out."""
        rows, size = like.shape[0] * like.shape[1], like.shape[2]
        keys, values = like.new_zeros(rows * size, places), like.new_zeros(rows, places, size)
        if self.places:
            keys[:, : self.places] = self.keys[: rows * size]
            values[:, : self.places] = self.values.view(-1, self.places, size)[:rows]
        self.keys, self.values, self.places = keys, values.view(-1, size), places
        numbers = torch.arange(rows * max(size, places), dtype=torch.int32, device=like.device)
        self.key_rows = numbers[: rows * size].view(rows, size)
        self.value_rows = numbers[: rows * places].view(rows, places)


def _sums(
    table: Float[Tensor, "row width"], rows: Int32[Tensor, "sum part"], weights: Float[Tensor, "sum part"]
) -> Float[Tensor, "sum width"]:
    """Weighted sums of rows of a table."""
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


class BlockLayers(nn.Module):
    """The layers of a transformer block: norms, attention, a feed-forward part, dropout of both.

    Args:
        masks: dimensions before the last one of a window's dropout masks.
    """

    def __init__(self, hidden: int, *, heads: int, dropout: float, masks: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden)
        self.attended = nn.Linear(hidden, hidden)
        self.widen = nn.Linear(hidden, FEED_FORWARD * hidden)
        self.narrow = nn.Linear(FEED_FORWARD * hidden, hidden)
        self.attention_dropout = KeyedDropout(dropout, *masks, hidden)
        self.feed_forward_dropout = KeyedDropout(dropout, *masks, FEED_FORWARD * hidden)


class TransformerBlock(BlockLayers):
    """Attention and a feed-forward part, each added to what came in.

    Args:
        causal: a step attends to itself and those before it, never to later ones.
    """

    mask: Tensor
    distance: Tensor

    def __init__(self, hidden: int, *, heads: int, num_steps: int, dropout: float, causal: bool) -> None:
        super().__init__(hidden, heads=heads, dropout=dropout, masks=(1,))
        self.distance_bias = nn.Parameter(torch.zeros(heads, num_steps if causal else 2 * num_steps - 1))
        ago = torch.arange(num_steps)[:, None] - torch.arange(num_steps)
        later = torch.zeros(num_steps, num_steps).masked_fill(ago < 0, -torch.inf if causal else 0.0)
        self.register_buffer("mask", later, persistent=False)
        self.register_buffer("distance", ago.clamp(min=0) if causal else ago + num_steps - 1, persistent=False)

    def forward(
        self, values: Float[Tensor, "batch step hidden"], cache: AttentionCache | None = None
    ) -> Float[Tensor, "batch step hidden"]:
        """With a cache `values` are the one step that follows those in it, and is added to it."""
        values = values + self.attention_dropout(self._attention(self.attention_norm(values), cache))
        wide = self.feed_forward_dropout(F.gelu(self.widen(self.feed_forward_norm(values))))
        return values + self.narrow(wide)

    def _attention(self, values: Tensor, cache: AttentionCache | None) -> Tensor:
        batch, steps, _ = values.shape
        joined = self.queries_keys_values(values).view(batch, steps, 3, self.heads, -1)
        if cache is not None:
            query, key, entry = joined[:, 0].unbind(dim=1)
            attended = cache.attend(query, key, entry, self._bias(slice(cache.steps, cache.steps + 1))[:, 0])
            return self.attended(attended.view(batch, steps, -1))
        queries, keys, entries = joined.permute(2, 0, 3, 1, 4)
        bias = self._bias(slice(steps))[..., :steps].to(queries.dtype)
        attended = F.scaled_dot_product_attention(queries, keys, entries, attn_mask=bias[None])
        return self.attended(attended.transpose(1, 2).reshape(batch, steps, -1))

    def _bias(self, steps: slice) -> Float[Tensor, "head step num_steps"]:
        """What is added to the scores of some steps, for the attention to each step of the window."""
        return self.distance_bias[:, self.distance[steps]] + self.mask[steps]


class TransformerStack(nn.Module):
    """Transformer blocks with learnt positions before them and a norm behind.

    Args:
        causal: a place attends to itself and those before it, never to later ones.
    """

    def __init__(self, hidden: int, layers: int, *, heads: int, places: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(places, hidden) * INIT_STD)
        self.blocks = nn.ModuleList(
            TransformerBlock(hidden, heads=heads, num_steps=places, dropout=dropout, causal=causal)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden)

    def forward(self, values: Float[Tensor, "batch place hidden"]) -> Float[Tensor, "batch place hidden"]:
        values = values + self.place
        for block in self.blocks:
            values = block(values)
        return self.norm(values)
