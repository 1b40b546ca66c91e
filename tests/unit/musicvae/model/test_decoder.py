"""The segment decoder: one computation, whether all at once or step by step."""

import pytest
import torch

from musicvae.groove.grid import GridSpec
from musicvae.model.decoders import Conductor, SegmentDecoder, WholeWindow
from musicvae.model.settings import ModelSettings
from tests.support.runs.stepwise import logits_shown_the_targets

GRID = GridSpec(bars=3, beats_per_bar=2, steps_per_beat=2)
DRUMS, STEPS, BATCH, CONDITION = 3, GRID.num_steps, 2, 5
SETTINGS = ModelSettings(
    latent=4, conductor_hidden=6, conductor_embedding=CONDITION, decoder_embedding=4, decoder_hidden=6
)


@pytest.fixture(scope="module")
def decoder() -> SegmentDecoder:
    torch.manual_seed(0)
    return SegmentDecoder(SETTINGS, GRID, DRUMS).double()


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(0, 1 << DRUMS, (BATCH, STEPS), generator=torch.Generator().manual_seed(1))


def segments(count: int) -> torch.Tensor:
    return torch.randn(BATCH, count, CONDITION, generator=torch.Generator().manual_seed(2)).double()


def shown_before(tokens: torch.Tensor) -> torch.Tensor:
    """The targets one step later, behind the start token."""
    return torch.cat([torch.full((BATCH, 1), 1 << DRUMS), tokens[:, :-1]], dim=1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 12])
def test_stepwise_shown_the_targets_equals_teacher_forcing(
    decoder: SegmentDecoder, tokens: torch.Tensor, count: int
) -> None:
    at_once = decoder.teacher_forced(segments(count), shown_before(tokens))
    torch.testing.assert_close(logits_shown_the_targets(decoder, segments(count), tokens), at_once)


def test_the_steps_come_in_order(decoder: SegmentDecoder, tokens: torch.Tensor) -> None:
    seen = []

    def next_token(step: int, logits: torch.Tensor) -> torch.Tensor:
        assert logits.shape == (BATCH, 1 << DRUMS)
        seen.append(step)
        return tokens[:, step]

    decoder.stepwise(segments(3), next_token)
    assert seen == list(range(STEPS))


def test_start_is_not_silence(decoder: SegmentDecoder) -> None:
    vectors = decoder.embed(torch.tensor([[0, decoder.embed.start_token]]))[0]
    assert not torch.allclose(vectors[0], vectors[1])


def test_a_segment_depends_on_its_own_embedding_alone(decoder: SegmentDecoder, tokens: torch.Tensor) -> None:
    shown, embeddings = shown_before(tokens), segments(3)
    before = decoder.teacher_forced(embeddings, shown)
    changed = embeddings.clone()
    changed[:, 1] += 1
    after = decoder.teacher_forced(changed, shown)
    same = torch.isclose(before, after).all(dim=-1).all(dim=0).tolist()
    assert same == [True] * 4 + [False] * 4 + [True] * 4


def test_the_conductor_gives_one_embedding_a_bar_and_each_differs() -> None:
    torch.manual_seed(0)
    conductor = Conductor(SETTINGS, GRID)
    embeddings = conductor(torch.randn(BATCH, 4))
    assert embeddings.shape == (BATCH, 3, 5)
    assert not torch.allclose(embeddings[:, 0], embeddings[:, 1])


def test_the_flat_decoder_has_one_segment_which_is_z() -> None:
    z = torch.randn(BATCH, CONDITION)
    assert torch.equal(WholeWindow()(z), z[:, None, :])
