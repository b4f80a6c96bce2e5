"""Mixup and CutMix are torchvision's, drawn from a seed alone."""

import pytest
import torch
from scipy import stats
from torch.nn import functional

from nclens._torchvision import import_torchvision
from nclens.data.mixing import Mixer

IMAGES = torch.rand(6, 3, 8, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 2, 0, 1])


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_inputs_and_shares_are_those_of_torchvisions_transform(name, seed):
    import_torchvision()
    from torchvision.transforms import v2

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        images, targets = getattr(v2, name)(alpha=0.7, num_classes=3)(IMAGES, LABELS)
    found, share = Mixer(**{name.lower(): 0.7})(IMAGES, seed)
    assert torch.equal(found, images)
    onehot = functional.one_hot(LABELS, 3).float()
    torch.testing.assert_close(share * onehot + (1 - share) * onehot.roll(1, 0), targets)


def test_mixup_by_hand():
    mixed, share = Mixer(mixup=1)(IMAGES, seed=5)
    assert 0 < share < 1
    for place in range(6):
        torch.testing.assert_close(mixed[place], share * IMAGES[place] + (1 - share) * IMAGES[place - 1])


def test_the_share_of_cutmix_is_that_of_the_pixels_that_remain():
    whole = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 10).contiguous()
    for seed in range(20):
        mixed, share = Mixer(cutmix=1)(whole, seed)
        assert share == pytest.approx(float((mixed == whole).float().mean()))
        assert torch.equal(mixed != whole, (mixed != whole)[:1].expand_as(whole))  # one rectangle a batch


def test_rows_are_mixed_likewise():
    rows = torch.rand(5, 7, generator=torch.Generator().manual_seed(1))
    mixed, share = Mixer(mixup=0.4)(rows, seed=3)
    torch.testing.assert_close(mixed, share * rows + (1 - share) * rows.roll(1, 0))


@pytest.mark.parametrize("alpha", [0.2, 1, 8])
def test_shares_are_drawn_from_a_symmetric_beta_distribution(alpha):
    mixer, images = Mixer(mixup=alpha), torch.zeros(2, 1, 1, 1)
    shares = [mixer(images, seed)[1] for seed in range(400)]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("probability", [0.2, 0.5])
def test_of_both_one_is_chosen_for_each_batch(probability):
    mixer, ones = Mixer(mixup=1, cutmix=1, switch_probability=probability), torch.arange(2.0).view(2, 1, 1, 1)
    images = ones.expand(2, 1, 8, 8).contiguous()
    cut = sum(bool(((mixed == 0) | (mixed == 1)).all()) for mixed, _ in (mixer(images, seed) for seed in range(400)))
    assert stats.binomtest(cut, 400, probability).pvalue > 0.01


def test_draws_depend_on_the_seed_alone_and_change_no_generator():
    mixer = Mixer(mixup=0.5, cutmix=1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = mixer(IMAGES, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again = mixer(IMAGES, seed=7)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1] != mixer(IMAGES, seed=8)[1]


def test_the_memory_layout_stays():
    images = IMAGES.contiguous(memory_format=torch.channels_last)
    for chosen in ({"mixup": 1}, {"cutmix": 1}):
        assert Mixer(**chosen)(images, 0)[0].is_contiguous(memory_format=torch.channels_last)
