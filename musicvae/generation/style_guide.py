"""Which style and tempo a code has, and how codes with a wanted style are drawn.

A small network learns p(style | z) and p(tempo | z) from the codes of training windows. By Bayes' rule p(z | style) is
proportional to p(z) p(style | z). So a code with a style is chosen among draws of the prior by these odds; the model
stays as it is. The odds are raised to a power (`STRENGTH`), as in classifier guidance (Dhariwal and Nichol 2021, arXiv
2105.05233): a code tells less of a style than the hits of a window do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

from musicvae.errors import ConfigError
from musicvae.groove.played import MANNER, mean_manner

CANDIDATES = 256
"""Draws of the prior from which a code is chosen."""
STRENGTH = 8.0
HIDDEN, DROPOUT = 128, 0.3
EPOCHS, MOST_STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 50, 1500, 256, 2e-3, 1e-2
LEAST_DEVIATION = 0.05
"""Of the logarithm of a tempo, so that no code is certain of one."""
TENSORS = ("enter_weight", "enter_bias", "leave_weight", "leave_bias", "manners", "tempos")


@dataclass(frozen=True, slots=True, eq=False)
class StyleGuide:
    """The network, and how each style is played.

    Attributes:
        names: of the styles.
        enter_weight, enter_bias: to the hidden layer.
        leave_weight, leave_bias: to the logit of each style, then mean and logarithm of the deviation of the logarithm
            of the tempo.
        manners: mean of the figures of `musicvae.groove.played.MANNER` over the windows of each style, NaN where no
            window tells one.
        tempos: median of each style, quarter notes per minute.

    Raises:
        ValueError: shapes that do not fit together.
    """

    names: tuple[str, ...]
    enter_weight: Float32[np.ndarray, "hidden latent"]
    enter_bias: Float32[np.ndarray, " hidden"]
    leave_weight: Float32[np.ndarray, "output hidden"]
    leave_bias: Float32[np.ndarray, " output"]
    manners: Float32[np.ndarray, "style figure"]
    tempos: Float32[np.ndarray, " style"]

    def __post_init__(self) -> None:
        styles, outputs = len(self.names), len(self.names) + 2
        hidden = len(self.enter_bias)
        shapes = (len(self.enter_weight), self.leave_weight.shape, self.leave_bias.shape, self.manners.shape)
        if shapes != (hidden, (outputs, hidden), (outputs,), (styles, len(MANNER))) or len(self.tempos) != styles:
            raise ValueError(f"a guide of {styles} styles, but layers, manners and tempos of {shapes}")

    def wanted(self, styles: str | Mapping[str, float], tempo: float | None = None) -> "WantedStyle":
        """A style by its name, or several with their shares, such as `funk:0.7,jazz:0.3`.

        Args:
            tempo: quarter notes per minute that the hits are to suit.

        Raises:
            ConfigError: no such style, or shares that are not positive.
        """
        shares = _shares(styles) if isinstance(styles, str) else styles
        unknown = [name for name in shares if name not in self.names]
        if unknown or not shares or not all(0 < share < np.inf for share in shares.values()):
            raise ConfigError(
                f"style {styles!r} cannot be used",
                expected=f"NAME, or NAME:SHARE,... with shares above 0, of {', '.join(self.names)}",
                found=f"unknown: {', '.join(unknown)}" if unknown else "a share that is not positive",
                do="choose among these styles",
            )
        total = sum(shares.values())
        return WantedStyle(self, tuple((name, share / total) for name, share in shares.items()), tempo)

    def recognised(self, codes: Float[np.ndarray, "code latent"]) -> Int64[np.ndarray, " code"]:
        """The likeliest style of each code, by its place in `names`."""
        styles, _, _ = self.read(torch.from_numpy(np.ascontiguousarray(codes, dtype=np.float32)))
        return styles.argmax(dim=1).numpy()

    def read(
        self, codes: Float32[Tensor, "code latent"]
    ) -> tuple[Float64[Tensor, "code style"], Float64[Tensor, " code"], Float64[Tensor, " code"]]:
        """Log-probability of each style; mean and deviation of the logarithm of the tempo."""
        hidden = F.gelu(F.linear(codes, torch.from_numpy(self.enter_weight), torch.from_numpy(self.enter_bias)))
        outputs = F.linear(hidden, torch.from_numpy(self.leave_weight), torch.from_numpy(self.leave_bias)).double()
        return outputs[:, :-2].log_softmax(dim=1), outputs[:, -2], LEAST_DEVIATION + outputs[:, -1].exp()

    def tensors(self) -> dict[str, np.ndarray]:
        """For a file that has the names already."""
        return {f"guide_{name}": np.ascontiguousarray(getattr(self, name)) for name in TENSORS}

    @classmethod
    def from_tensors(cls, names: Sequence[str], tensors: Mapping[str, np.ndarray]) -> "StyleGuide":
        """What `tensors` gave.

        Raises:
            KeyError, TypeError, ValueError: something else.
        """
        return cls(tuple(names), *(tensors[f"guide_{name}"] for name in TENSORS))


@dataclass(frozen=True, slots=True, eq=False)
class WantedStyle:
    """What a code is chosen by.

    Attributes:
        shares: of each style; their sum is 1.
        tempo: quarter notes per minute; None where any will do.
    """

    guide: StyleGuide
    shares: tuple[tuple[str, float], ...]
    tempo: float | None = None

    @property
    def main(self) -> str:
        """The style with the largest share."""
        return max(self.shares, key=lambda style: style[1])[0]

    @property
    def manner(self) -> Float32[np.ndarray, " figure"]:
        """How it is played: the mean of the styles by their shares."""
        return self._mean(self.guide.manners).astype(np.float32)

    @property
    def median_tempo(self) -> float:
        """The tempo, or the mean by their shares of the styles' medians."""
        return round(float(self._mean(self.guide.tempos)), 3) if self.tempo is None else self.tempo

    def _mean(self, values: Float32[np.ndarray, "style *figure"]) -> Float64[np.ndarray, "*figure"]:
        rows = values[[self.guide.names.index(name) for name, _ in self.shares]]
        return np.tensordot([share for _, share in self.shares], rows, 1)

    def log_odds(self, codes: Float32[Tensor, "code latent"]) -> Float64[Tensor, " code"]:
        """How well each code suits, in nats up to a constant; of several styles the mean by their shares."""
        styles, mean, deviation = self.guide.read(codes)
        odds = sum((share * styles[:, self.guide.names.index(name)] for name, share in self.shares), torch.zeros(()))
        if self.tempo is not None:
            odds = odds - ((np.log(self.tempo) - mean) / deviation).square() / 2 - deviation.log()
        return odds

    def chosen(
        self, candidates: Float32[Tensor, "candidate latent"], uniforms: Float64[Tensor, " item"]
    ) -> Float32[Tensor, "item latent"]:
        """One of the candidates of each item, which lie side by side, with probability odds to the `STRENGTH`."""
        odds = (STRENGTH * self.log_odds(candidates)).reshape(len(uniforms), -1).softmax(dim=1).cumsum(dim=1)
        places = torch.searchsorted(odds, uniforms[:, None] * odds[:, -1:]).clamp(max=odds.shape[1] - 1)
        return candidates.unflatten(0, (len(uniforms), -1))[torch.arange(len(uniforms)), places[:, 0]]


def _shares(text: str) -> dict[str, float]:
    """Those of `funk:0.7,jazz:0.3`; 0 where something else stands in place of a number."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, colon, share = part.strip().partition(":")
        try:
            shares[name] = float(share) if colon else 1.0
        except ValueError:
            shares[name] = 0.0
    return shares


def fit_style_guide(
    mu: Float32[np.ndarray, "window latent"],
    sigma: Float32[np.ndarray, "window latent"],
    styles: Sequence[str],
    tempos: Float64[np.ndarray, " window"],
    manners: Float32[np.ndarray, "window figure"],
) -> StyleGuide | None:
    """Learns from windows and their posteriors; None where there are not two styles to tell apart.

    Args:
        styles: of each window, empty where it is not known.
        tempos: quarter notes per minute.
        manners: `PlayedHits.manner` of each window.
    """
    names = tuple(sorted({*styles} - {""}))
    if len(names) < 2 or not mu.shape[1]:
        return None
    known = [row for row, style in enumerate(styles) if style]
    number = torch.tensor([names.index(styles[row]) for row in known])
    means, deviations = torch.from_numpy(mu[known]), torch.from_numpy(sigma[known])
    log_tempo = torch.from_numpy(np.log(tempos[known])).float()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        enter, leave = nn.Linear(mu.shape[1], HIDDEN), nn.Linear(HIDDEN, len(names) + 2)
        nn.init.constant_(leave.bias[-2:-1], float(log_tempo.mean()))
        nn.init.constant_(leave.bias[-1:], -1.0)
        network = nn.Sequential(enter, nn.GELU(), nn.Dropout(DROPOUT), leave)
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        for _ in range(min(MOST_STEPS, EPOCHS * -(-len(known) // BATCH))):
            rows = torch.randint(len(known), (BATCH,))
            outputs = network(means[rows] + deviations[rows] * torch.randn(BATCH, mu.shape[1]))
            deviation = LEAST_DEVIATION + outputs[:, -1].exp()
            of_tempo = ((log_tempo[rows] - outputs[:, -2]) / deviation).square() / 2 + deviation.log()
            optimizer.zero_grad()
            (F.cross_entropy(outputs[:, :-2], number[rows]) + of_tempo.mean()).backward()
            optimizer.step()
    layers = {
        f"{place}_{name}": values.detach().numpy()
        for place, layer in (("enter", enter), ("leave", leave))
        for name, values in layer.named_parameters()
    }
    rows = [np.array(known)[number.numpy() == style] for style in range(len(names))]
    return StyleGuide(
        names,
        **layers,
        manners=np.stack([mean_manner(manners[of_style]) for of_style in rows]),
        tempos=np.array([np.median(tempos[of_style]) for of_style in rows], dtype=np.float32),
    )
