import torch

from fxgrow.randomness import seeded


def drawn(seed: int) -> torch.Tensor:
    with seeded(seed):
        return torch.rand(3)


def test_a_seed_decides_inside_and_nothing_outside() -> None:
    before = torch.get_rng_state()
    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_gpu_is_begun_with() -> None:
    """Seeding one that is not in use yet could not be taken back."""
    begun = torch.cuda.is_initialized()
    drawn(1)
    assert torch.cuda.is_initialized() == begun
