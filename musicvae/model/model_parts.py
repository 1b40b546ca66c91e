"""The parts of a model that its settings ask for: the one place that knows every kind."""

from torch import nn

from musicvae.groove.grid import GridSpec
from musicvae.model.decoder import Conductor, SegmentDecoder, WholeWindow
from musicvae.model.encoder import FeedForwardEncoder, LSTMEncoder, NoEncoder, SegmentEncoder, TransformerEncoder
from musicvae.model.feed_forward_decoder import FeedForwardDecoder
from musicvae.model.history import History
from musicvae.model.history_decoder import HistoryDecoder, RecurrentBody, TransformerBody
from musicvae.model.independent_decoder import IndependentDecoder
from musicvae.model.prior import AutoregressivePrior, Prior, StandardPrior
from musicvae.model.settings import ModelSettings
from musicvae.model.step_features import AttendedFeatures, NoFeatures, SegmentFeatures, WholeFeatures

Encoder = LSTMEncoder | FeedForwardEncoder | TransformerEncoder | SegmentEncoder | NoEncoder
Decoder = SegmentDecoder | FeedForwardDecoder | IndependentDecoder | HistoryDecoder


def new_encoder(settings: ModelSettings, grid: GridSpec, num_drums: int) -> Encoder:
    """Tokens -> `Posterior`."""
    match settings.encoder:
        case "lstm":
            return LSTMEncoder(
                num_drums,
                embedding=settings.encoder_embedding,
                hidden=settings.encoder_hidden,
                layers=settings.encoder_layers,
                latent=settings.latent,
                bits=settings.shares_bits,
            )
        case "feed_forward":
            return FeedForwardEncoder(
                num_drums,
                num_steps=grid.num_steps,
                stretches=grid.bars if settings.encoder_shares_bars else 1,
                hidden=settings.encoder_hidden,
                layers=settings.encoder_layers,
                latent=settings.latent,
                dropout=settings.encoder_dropout,
            )
        case "transformer":
            return TransformerEncoder(
                num_drums,
                num_steps=grid.num_steps,
                hidden=settings.encoder_hidden,
                layers=settings.encoder_layers,
                heads=settings.encoder_heads,
                segments=settings.latent_segments,
                latent=settings.latent,
                dropout=settings.encoder_dropout,
                bits=settings.shares_bits,
            )
        case "segments":
            return SegmentEncoder(
                num_drums,
                num_steps=grid.num_steps,
                embedding=settings.encoder_embedding,
                hidden=settings.encoder_hidden,
                layers=settings.encoder_layers,
                heads=settings.encoder_heads,
                segments=settings.latent_segments,
                latent=settings.latent,
                dropout=settings.encoder_dropout,
                bits=settings.shares_bits,
            )
        case "none":
            return NoEncoder()


def new_prior(settings: ModelSettings) -> Prior:
    """p(z)."""
    match settings.prior:
        case "standard":
            return StandardPrior()
        case "autoregressive":
            return AutoregressivePrior(
                latent=settings.latent,
                segments=settings.latent_segments,
                hidden=settings.prior_hidden,
                layers=settings.prior_layers,
                heads=settings.prior_heads,
                dropout=settings.prior_dropout,
            )


def new_decoder(settings: ModelSettings, grid: GridSpec, num_drums: int) -> tuple[nn.Module, Decoder]:
    """What makes the decoder's conditions from z, and the decoder."""
    match settings.decoder:
        case "hierarchical":
            conductor = Conductor(
                latent=settings.latent,
                hidden=settings.conductor_hidden,
                layers=settings.conductor_layers,
                embedding=settings.conductor_embedding,
                bars=grid.bars,
            )
            return conductor, _segment_decoder(settings, grid, num_drums, settings.conductor_embedding)
        case "flat":
            return WholeWindow(), _segment_decoder(settings, grid, num_drums, settings.latent)
        case "feed_forward":
            return nn.Identity(), FeedForwardDecoder(
                num_drums,
                num_steps=grid.num_steps,
                latent=settings.latent,
                hidden=settings.decoder_hidden,
                layers=settings.decoder_layers,
            )
        case "independent":
            return _step_features(settings, grid), IndependentDecoder(
                num_drums,
                num_steps=grid.num_steps,
                features=settings.step_features,
                bits=settings.shares_bits,
                pairs=settings.shares_pairs,
            )
        case "recurrent" | "transformer":
            return _step_features(settings, grid), _history_decoder(settings, grid, num_drums)


def _segment_decoder(settings: ModelSettings, grid: GridSpec, num_drums: int, condition: int) -> SegmentDecoder:
    return SegmentDecoder(
        num_drums,
        num_steps=grid.num_steps,
        condition=condition,
        embedding=settings.decoder_embedding,
        hidden=settings.decoder_hidden,
        layers=settings.decoder_layers,
        bits=settings.shares_bits,
        pairs=settings.shares_pairs,
    )


def _step_features(settings: ModelSettings, grid: GridSpec) -> nn.Module:
    if settings.latent == 0:
        return NoFeatures(grid.num_steps)
    if settings.latent_segments == 1:
        return WholeFeatures(
            latent=settings.latent,
            hidden=settings.step_features_hidden,
            features=settings.step_features,
            grid=grid,
            dropout=settings.decoder_dropout,
        )
    if settings.step_features_layers:
        return AttendedFeatures(
            latent=settings.latent,
            segments=settings.latent_segments,
            hidden=settings.step_features_hidden,
            layers=settings.step_features_layers,
            heads=settings.step_features_heads,
            features=settings.step_features,
            num_steps=grid.num_steps,
            dropout=settings.decoder_dropout,
        )
    return SegmentFeatures(
        latent=settings.latent,
        segments=settings.latent_segments,
        hidden=settings.step_features_hidden,
        features=settings.step_features,
        grid=grid,
        dropout=settings.decoder_dropout,
    )


def _history_decoder(settings: ModelSettings, grid: GridSpec, num_drums: int) -> HistoryDecoder:
    features = settings.step_features if settings.latent else 0
    history = History(
        num_drums,
        settings.decoder_embedding,
        lags=settings.history_lags,
        grid=grid,
        dropout=settings.history_dropout,
    )
    inputs = settings.decoder_embedding + features
    if settings.decoder == "transformer":
        body = TransformerBody(
            inputs,
            settings.decoder_hidden,
            settings.decoder_layers,
            heads=settings.decoder_heads,
            num_steps=grid.num_steps,
            dropout=settings.decoder_dropout,
        )
    else:
        body = RecurrentBody(inputs, settings.decoder_hidden, settings.decoder_layers, dropout=settings.decoder_dropout)
    return HistoryDecoder(
        num_drums,
        num_steps=grid.num_steps,
        features=features,
        history=history,
        body=body,
        bits=settings.shares_bits,
        pairs=settings.shares_pairs,
        dropout=settings.decoder_dropout,
    )
