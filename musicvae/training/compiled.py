"""torch.compile for the parts of a model that train."""

import torch

from musicvae.model.model import MusicVAE


def compile_parts(model: MusicVAE) -> None:
    """Has encoder, conductor and teacher-forced decoder compiled at their first use; weights keep their names.

    Generation step by step stays as it is. LSTMs stay the library's fused kernels: torch.compile breaks its graph at
    them. Needs a C++ compiler on the CPU.
    """
    model.encoder.compile()
    model.segments.compile()
    model.decoder.teacher_forced = torch.compile(model.decoder.teacher_forced)
