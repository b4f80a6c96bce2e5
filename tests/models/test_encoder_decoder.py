import copy

import pytest
import torch

from nclens.models.encoder_decoder import PADDING, Vocabulary, pegasus_weights, sinusoids, transformer
from nclens.models.network import UnfitError

SIZES = Vocabulary(source=9, target=6, end=5, longest_source=7, longest_target=8)


def example(**options):
    torch.manual_seed(0)
    network = transformer(SIZES, 6, width=16, heads=4, encoder_layers=2, decoder_layers=2, **options).eval()
    with torch.no_grad():
        network.head.bias.normal_()
    source, target = torch.randint(0, 9, (5, 7)), torch.randint(0, 6, (5, 8))
    source[1, 4:], source[3, 2:] = PADDING, PADDING
    target[:, 0] = SIZES.begin
    target[2, 5:] = PADDING
    return network, source, target


def predicted(target):
    """The tokens that are predicted from the decoder's inputs `target`, which begin with the beginning."""
    tokens = torch.cat([target[:, 1:], torch.randint(0, 6, (5, 1))], 1)
    tokens[target == PADDING] = PADDING
    tokens[2, 4] = SIZES.end
    return tokens


@pytest.mark.lengthy
@pytest.mark.parametrize("tied", [False, True])
def test_logits_are_those_of_hugging_faces_pegasus(tied):
    pytest.importorskip("transformers")
    from nclens._torchvision import import_torchvision

    import_torchvision()
    from transformers import PegasusConfig, PegasusForConditionalGeneration

    network, source, target = example(tied=tied)
    configuration, weights = pegasus_weights(network)
    theirs = PegasusForConditionalGeneration(PegasusConfig(**configuration)).eval()
    theirs.load_state_dict(weights, strict=True)
    padding = configuration["pad_token_id"]
    with torch.no_grad():
        logits = theirs(
            input_ids=torch.where(source == PADDING, padding, source + SIZES.target + 2),
            attention_mask=(source != PADDING).long(),
            decoder_input_ids=torch.where(target == PADDING, padding, target),
        ).logits
        ours = network.head(network.backbone.decode(source, target))
    seen = target != PADDING
    torch.testing.assert_close(ours[seen], logits[..., : SIZES.target][seen])
    assert (logits[..., SIZES.target :] == -torch.inf).all()


def test_steps_with_a_cache_give_the_features_of_the_whole_sequence():
    network, source, target = example()
    backbone = network.backbone
    with torch.no_grad():
        whole = backbone.decode(source, target)
        cache = backbone.start(source)
        steps = [backbone.step(target[:, place].clamp_min(0), cache) for place in range(8)]
    seen = target != PADDING
    torch.testing.assert_close(torch.stack(steps, 1)[seen], whole[seen])


def test_features_are_those_of_the_target_tokens_in_their_order():
    network, source, target = example()
    tokens = predicted(target)
    with torch.no_grad():
        features = network.backbone(torch.cat([source, tokens], 1))
        whole = network.backbone.decode(source, target)
    assert features.shape == (5 * 8 - 3, 16)
    torch.testing.assert_close(features, whole[target != PADDING])
    # Columns of padding change nothing, and numbers may be floats, as a count of operations passes them.
    wider = Vocabulary(source=9, target=6, end=5, longest_source=10, longest_target=12)
    other = transformer(wider, 6, width=16, heads=4, encoder_layers=2, decoder_layers=2).eval()
    other.load_state_dict(network.state_dict())
    padded = [torch.nn.functional.pad(part, (0, n), value=PADDING) for part, n in ((source, 3), (tokens, 4))]
    with torch.no_grad():
        torch.testing.assert_close(other.backbone(torch.cat(padded, 1).float()), features)


def test_gradients_of_tokens_alone_are_those_of_padded_sequences():
    network, source, target = example()
    tokens = predicted(target)
    parameters = list(network.backbone.parameters())
    wanted = torch.randn(5, 8, 16)[target != PADDING]
    alone = network.backbone(torch.cat([source, tokens], 1))
    padded = network.backbone.decode(source, target)[target != PADDING]
    of_alone, of_padded = (torch.autograd.grad((each * wanted).sum(), parameters) for each in (alone, padded))
    torch.testing.assert_close(of_alone, of_padded)


def test_sequences_that_follow_others_go_on_as_those():
    network, source, target = example()
    backbone = network.backbone
    with torch.no_grad():
        whole = backbone.decode(source, target)
        # Two sequences of each source; at first both are its target.
        twice = target.repeat_interleave(2, 0)
        cache = backbone.start(source, sequences=2)
        for place in range(2):
            backbone.step(twice[:, place], cache)
        # The second of each source goes on with another token, then takes the place of the first.
        other = twice.clone()
        other[1::2, 2] = (other[1::2, 2] + 1) % SIZES.target
        after = backbone.step(other[:, 2], cache)
        torch.testing.assert_close(after[::2], whole[:, 2])
        assert not torch.isclose(after[1::2], whole[:, 2]).all()
        cache.follow(torch.tensor([1, 0, 2, 2, 5, 4, 6, 7, 9, 8]))
        after = backbone.step(twice[:, 3], cache)
        expected = backbone.decode(source.repeat_interleave(2, 0), other)[:, 3]
        for place in (1, 2, 3, 5, 6, 9):
            torch.testing.assert_close(after[place], whole[place // 2, 3])
        for place in (0, 4, 7, 8):
            torch.testing.assert_close(after[place], expected[place | 1])
        # Sources that are done are left out.
        cache.follow(torch.tensor([1, 1, 9, 9]), torch.tensor([0, 4]))
        after = backbone.step(twice[[1, 1, 9, 9], 4], cache)
        torch.testing.assert_close(after, whole[[0, 0, 4, 4], 4])


def test_a_feature_depends_on_no_later_token_and_on_no_padding():
    network, source, target = example()
    with torch.no_grad():
        before = network.backbone.decode(source, target)
        changed = target.clone()
        changed[:, 4:] = 1
        assert torch.equal(network.backbone.decode(source, changed)[:, :4], before[:, :4])
        # A source is the same in a batch with longer ones.
        alone = network.backbone.encoder(source[3:4, :2])[0]
        torch.testing.assert_close(network.backbone.encoder(source)[0][3:4, :2], alone)


def test_a_tied_head_is_the_embedding_of_the_target_tokens():
    network, source, target = example(tied=True)
    backbone = network.backbone
    assert torch.equal(backbone.decoder.table()[:-1], network.head.weight)
    untied = example()[0]
    count = sum(value.numel() for value in network.parameters())
    assert count == sum(value.numel() for value in untied.parameters()) - network.head.weight.numel()
    network.head(backbone.decode(source, target)).sum().backward()
    assert network.head.weight.grad is not None
    # Snapshots hold what a network of another start needs to become this one.
    other = transformer(SIZES, 6, width=16, heads=4, encoder_layers=2, decoder_layers=2, tied=True).eval()
    other.load_state_dict(copy.deepcopy(network.state_dict()))
    assert torch.equal(other.backbone.decode(source, target), backbone.decode(source, target))
    assert torch.equal(other.backbone.decoder.table()[:-1], other.head.weight)


def test_positions_are_sines_and_cosines():
    table = sinusoids(3, 5)
    assert table.shape == (3, 5)
    expected = [torch.sin(torch.tensor(2 / 10000 ** (2 * j / 5))) for j in range(3)]
    expected += [torch.cos(torch.tensor(2 / 10000 ** (2 * j / 5))) for j in range(2)]
    torch.testing.assert_close(table[2], torch.stack(expected))


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="target = 0: must be 1 or more"):
        Vocabulary(source=1, target=0, end=0, longest_source=1, longest_target=1)
    with pytest.raises(ValueError, match=r"end = 6: must be a target token, in \[0, 6\)"):
        Vocabulary(source=1, target=6, end=6, longest_source=1, longest_target=1)
    with pytest.raises(UnfitError, match="width = 18: must be a multiple of the 4 heads"):
        transformer(SIZES, 6, width=18)
    with pytest.raises(UnfitError, match=r"needs sequences of two vocabularies, not inputs of shape \(1, 28, 28\)"):
        transformer((1, 28, 28), 10)
    with pytest.raises(TypeError, match="the backbone must be a Transformer, not Identity"):
        from nclens.models import Network

        pegasus_weights(Network(torch.nn.Identity(), 2, 2))
