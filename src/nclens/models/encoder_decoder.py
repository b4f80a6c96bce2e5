"""An encoder-decoder Transformer for sequences, with an explicit cache of keys and values for decoding.

Layer normalisation comes before each sublayer and once more after the last, positions are sinusoidal, and embeddings
are multiplied by sqrt(d). Modules are arranged and named like those of `PegasusForConditionalGeneration` of Hugging
Face's transformers, which computes the same function from `pegasus_weights`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nclens.models.network import Network, UnfitError, register

#: Behind the end of a sequence.
PADDING = -1


@dataclass(frozen=True)
class Vocabulary:
    """Sizes of the two vocabularies. Target tokens 0, ..., K - 1 are the classes; one of them ends a sequence.

    The beginning of a sequence and padding are no classes: they have no logit.

    Attributes:
        source: number of source tokens.
        target: number of target tokens K, the end included.
        end: the target token that ends a sequence.
        longest_source, longest_target: tokens of the longest sequence, the end of a target included.

    Raises:
        ValueError: a size is not positive, or the end is no target token.
    """

    source: int
    target: int
    end: int
    longest_source: int
    longest_target: int

    def __post_init__(self) -> None:
        for name in ("source", "target", "longest_source", "longest_target"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be 1 or more")
        if not 0 <= self.end < self.target:
            raise ValueError(f"end = {self.end}: must be a target token, in [0, {self.target})")

    @property
    def begin(self) -> int:
        """The decoder's first input, which is no class: K."""
        return self.target


@dataclass(frozen=True)
class Places:
    """Where tokens are in padded sequences, so that what treats each token by itself is computed for tokens alone.

    Attributes:
        shape: (B, T).
        index: (n,), the place of each token among the B T places, ascending.
    """

    shape: tuple[int, int]
    index: Tensor

    @classmethod
    def of(cls, tokens: Tensor) -> "Places":
        """Return the places of the tokens of sequences (B, T)."""
        return cls((len(tokens), tokens.shape[1]), (tokens != PADDING).flatten().nonzero()[:, 0])


def packed(padded: Tensor, places: Places | None) -> Tensor:
    """Return a row for each token, (n, ...), of sequences (B, T, ...); these as they are without places."""
    return padded if places is None else padded.flatten(0, 1)[places.index]


def unpacked(rows: Tensor, places: Places | None) -> Tensor:
    """Return sequences (B, T, ...) of a row for each token, 0 at padding; the rows as they are without places."""
    if places is None:
        return rows
    padded = rows.new_zeros(math.prod(places.shape), *rows.shape[1:])
    return padded.index_copy(0, places.index, rows).unflatten(0, places.shape)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention with a bias in each projection.

    softmax(Q K' / sqrt(d/heads)) V for each head, of queries (B, S, d) and keys and values (B, T, d). With `places`
    hidden states are rows of tokens (n, d), see `Places`.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def keys(self, hidden: Tensor, places: Places | None = None) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, heads, T, d/heads) of positions (B, T, d)."""
        keys, values = (unpacked(project(hidden), places) for project in (self.k_proj, self.v_proj))
        return self.split(keys), self.split(values)

    def forward(
        self,
        hidden: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        places: Places | None = None,
    ) -> Tensor:
        """Return (B, S, d). `mask` (B, 1, 1 or S, T) is true where a key is seen; `causal`: no later position is."""
        attended = functional.scaled_dot_product_attention(
            self.split(unpacked(self.q_proj(hidden), places)),
            keys,
            values,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return self.out_proj(packed(attended.transpose(1, 2).flatten(2), places))

    def split(self, projected: Tensor) -> Tensor:
        """Return (B, heads, T, d/heads) of (B, T, d)."""
        return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """What layers of encoder and decoder share: self-attention, and a feed-forward part with a ReLU."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """Return x + W_2 ReLU(W_1 norm(x) + b_1) + b_2, with dropout, of x (..., d)."""
        inner = self.dropout(functional.relu(self.fc1(self.final_layer_norm(hidden))))
        return hidden + self.dropout(self.fc2(inner))


class EncoderLayer(Layer):
    """Self-attention over all tokens of the source, then the feed-forward part."""

    def forward(self, hidden: Tensor, mask: Tensor, places: Places | None = None) -> Tensor:
        """Return (B, S, d) of (B, S, d), or (n, d) of (n, d); `mask` (B, 1, 1, S) is false at padding."""
        normed = self.self_attn_layer_norm(hidden)
        attended = self.self_attn(normed, *self.self_attn.keys(normed, places), mask, places=places)
        return self.feed_forward(hidden + self.dropout(attended))


class DecoderLayer(Layer):
    """Causal self-attention, attention to the source, then the feed-forward part."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__(width, heads, hidden, dropout)
        self.encoder_attn = Attention(width, heads, dropout)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)

    def forward(
        self, hidden: Tensor, source: tuple[Tensor, Tensor], mask: Tensor, places: Places | None = None
    ) -> Tensor:
        """Return (B, T, d) of (B, T, d), or (n, d) of (n, d).

        `source` are the source's keys and values, `mask` (B, 1, 1, S) its tokens.
        """
        normed = self.self_attn_layer_norm(hidden)
        attended = self.self_attn(normed, *self.self_attn.keys(normed, places), causal=True, places=places)
        return self._rest(hidden + self.dropout(attended), source, mask, places)

    def step(self, hidden: Tensor, past: Tensor, position: int, source: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """Return (B, n, d) of one position of B n sequences; their keys and values are written to `past`."""
        normed = self.self_attn_layer_norm(hidden).flatten(0, 1)[:, None]
        attention = self.self_attn
        past[0, position], past[1, position] = attention.k_proj(normed)[:, 0], attention.v_proj(normed)[:, 0]
        keys, values = (attention.split(cached.transpose(0, 1)) for cached in past[:, : position + 1])
        attended = attention(normed, keys, values).view_as(hidden)
        return self._rest(hidden + self.dropout(attended), source, mask)

    def _rest(
        self, hidden: Tensor, source: tuple[Tensor, Tensor], mask: Tensor, places: Places | None = None
    ) -> Tensor:
        normed = self.encoder_attn_layer_norm(hidden)
        return self.feed_forward(hidden + self.dropout(self.encoder_attn(normed, *source, mask, places=places)))


class Stack(nn.Module):
    """Embedded tokens with their positions, the layers, and the last normalisation."""

    def __init__(self, tokens: int, layers: list[Layer], width: int, longest: int, dropout: float) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(tokens, width)
        nn.init.normal_(self.embed_tokens.weight, std=width**-0.5)
        self.layers = nn.ModuleList(layers)
        self.layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("positions", sinusoids(longest, width), persistent=False)
        self.positions: Tensor

    def embed(self, tokens: Tensor, position: int = 0, places: Places | None = None) -> Tensor:
        """Return sqrt(d) times the embeddings plus the positions, (B, T, d), of tokens (B, T) from `position` on."""
        positions = self.positions[position : position + tokens.shape[1]].expand(len(tokens), -1, -1)
        embedded = functional.embedding(packed(tokens, places), self.table())
        return self.dropout(embedded * math.sqrt(self.positions.shape[1]) + packed(positions, places))

    def table(self) -> Tensor:
        """Return the embedding of each token, a row each."""
        return self.embed_tokens.weight


class Encoder(Stack):
    """Source tokens to hidden states."""

    def forward(self, tokens: Tensor, places: Places | None = None) -> tuple[Tensor, Tensor]:
        """Return hidden states (B, S, d) of tokens (B, S), and the mask (B, 1, 1, S) that is false at padding."""
        mask = (tokens != PADDING)[:, None, None]
        hidden = self.embed(tokens.clamp_min(0), places=places)
        for layer in self.layers:
            hidden = layer(hidden, mask, places)
        return unpacked(self.layer_norm(hidden), places), mask


class Decoder(Stack):
    """Earlier target tokens and the source's hidden states to features. Its token K is the beginning of a sequence."""

    def __init__(self, tokens: int, layers: list[Layer], width: int, longest: int, dropout: float) -> None:
        super().__init__(tokens, layers, width, longest, dropout)
        self.tied: Tensor | None
        self.register_parameter("tied", None)

    def tie(self, head: nn.Linear) -> None:
        """Take the weight of the head (K, d) as the embedding of the K target tokens, initialised as an embedding."""
        begin = self.embed_tokens.weight.detach()[-1:].clone()
        nn.init.normal_(head.weight, std=head.in_features**-0.5)
        self.tied = head.weight
        self.embed_tokens = nn.Embedding.from_pretrained(begin, freeze=False)

    def table(self) -> Tensor:
        """Return the embedding of each target token, then that of the beginning."""
        own = super().table()
        return own if self.tied is None else torch.cat([self.tied, own])

    def forward(self, tokens: Tensor, source: Tensor, mask: Tensor, places: Places | None = None) -> Tensor:
        """Return features (B, T, d) of the decoder's input tokens (B, T), or with places those of tokens, (n, d)."""
        hidden = self.embed(tokens.clamp_min(0), places=places)
        for layer in self.decoding:
            hidden = layer(hidden, layer.encoder_attn.keys(source), mask, places)
        return self.layer_norm(hidden)

    @property
    def width(self) -> int:
        """The feature dimension d."""
        return self.positions.shape[1]

    @property
    def decoding(self) -> list[DecoderLayer]:
        """The layers."""
        return cast("list[DecoderLayer]", list(self.layers))


@dataclass
class Cache:
    """What decoding keeps of B sources with n sequences each: every layer's keys and values.

    Attributes:
        source: keys and values (B, heads, S, d/heads) of the source, one pair a layer.
        mask: (B, 1, 1, S), false at padding of the source.
        past: keys and values of the target tokens so far, (2, T, B n, d) a layer.
        position: number of tokens so far.
    """

    source: list[tuple[Tensor, Tensor]]
    mask: Tensor
    past: list[Tensor]
    position: int = 0
    _spare: list[Tensor] = field(default_factory=list)

    def follow(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """Keep the sequences `rows` (B' n,), in this order, and the sources `sources` (B',), by default all."""
        # Between two buffers: new memory at each token costs more than the copy.
        self._spare = self._spare or [torch.empty_like(past) for past in self.past]
        others = [spare[:, :, : len(rows)] for spare in self._spare]
        for past, other in zip(self.past, others, strict=True):
            for old, new in zip(past[:, : self.position], other[:, : self.position], strict=True):
                torch.index_select(old, 1, rows, out=new)
        self.past, self._spare = others, self.past
        if sources is not None:
            self.source = [(keys[sources], values[sources]) for keys, values in self.source]
            self.mask = self.mask[sources]


class Transformer(nn.Module):
    """A backbone from sequences to the features of their target tokens, the decoder's last hidden states.

    Its input is one tensor (B, S + T): source tokens, then target tokens, both padded with -1. Its output is (n, d), a
    row for each of the n target tokens of the batch, in their order: the feature from which the token is predicted. It
    depends on the source and on earlier target tokens alone (teacher forcing).
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        width: int,
        encoder_layers: int,
        decoder_layers: int,
        heads: int,
        hidden: int | None,
        dropout: float,
    ) -> None:
        """Build the network.

        Args:
            vocabulary: sizes of both vocabularies.
            width: feature dimension d, a multiple of `heads`.
            encoder_layers, decoder_layers: number of layers.
            heads: attention heads of each layer.
            hidden: width of the feed-forward parts; 4 d by default.
            dropout: share of hidden values and attention weights that are dropped in training.

        Raises:
            UnfitError: the width is no multiple of the heads.
        """
        super().__init__()
        hidden = 4 * width if hidden is None else hidden
        if width < 2 or width % heads:
            raise UnfitError(f"width = {width}: must be a multiple of the {heads} heads, 2 or more")
        self.vocabulary, self.heads, self.hidden, self.dropout = vocabulary, heads, hidden, dropout
        sizes = (width, heads, hidden, dropout)
        encoder = [EncoderLayer(*sizes) for _ in range(encoder_layers)]
        decoder = [DecoderLayer(*sizes) for _ in range(decoder_layers)]
        self.encoder = Encoder(vocabulary.source, [*encoder], width, vocabulary.longest_source, dropout)
        self.decoder = Decoder(vocabulary.target + 1, [*decoder], width, vocabulary.longest_target, dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (n, d) of inputs (B, S + T), token numbers of any dtype."""
        source, target = map(_cut, self.parts(inputs))
        encoded = self.encoder(source, Places.of(source))
        return self.decoder(self.before(target), *encoded, Places.of(target))

    def parts(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return source tokens (B, S) and target tokens (B, T) of inputs (B, S + T)."""
        longest = self.vocabulary.longest_source
        return inputs[:, :longest].long(), inputs[:, longest:].long()

    def before(self, target: Tensor) -> Tensor:
        """Return the decoder's inputs (B, T), the token before each target token (B, T); of the first the beginning."""
        return torch.cat([torch.full_like(target[:, :1], self.vocabulary.begin), target[:, :-1]], 1)

    def decode(self, source: Tensor, before: Tensor) -> Tensor:
        """Return features (B, T, d) of sources (B, S) and the decoder's inputs (B, T), the beginning first."""
        return self.decoder(before, *self.encoder(source))

    def start(self, source: Tensor, sequences: int = 1, length: int | None = None) -> Cache:
        """Return the cache for decoding sources (B, S).

        Args:
            source: padded with -1.
            sequences: n, decoded at once for each source.
            length: tokens that are decoded at most, by default those of the longest target.
        """
        hidden, mask = self.encoder(source)
        length = self.vocabulary.longest_target if length is None else length
        past = [hidden.new_empty(2, length, len(source) * sequences, hidden.shape[2]) for _ in self.decoder.layers]
        return Cache([layer.encoder_attn.keys(hidden) for layer in self.decoder.decoding], mask, past)

    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Return the features (B n, d) behind the next tokens (B n,), which the cache then holds."""
        hidden = self.decoder.embed(tokens[:, None], cache.position).view(len(cache.mask), -1, self.decoder.width)
        for layer, past, source in zip(self.decoder.decoding, cache.past, cache.source, strict=True):
            hidden = layer.step(hidden, past, cache.position, source, cache.mask)
        cache.position += 1
        return self.decoder.layer_norm(hidden).flatten(0, 1)


class AtEveryPlace(nn.Module):
    """A network of sequences whose logits have a fixed shape, (B, T, K); behind the end of a target they say nothing.

    Args:
        network: as `transformer` returns it.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, T, K) of inputs (B, S + T), as `Transformer` takes them."""
        backbone = self.network.backbone
        assert isinstance(backbone, Transformer)
        source, target = backbone.parts(inputs)
        return self.network.head(backbone.decode(source, backbone.before(target)))


def _cut(tokens: Tensor) -> Tensor:
    """Return sequences (B, T) without the columns that are padding in all of them; one column stays."""
    return tokens[:, : max(1, int((tokens != PADDING).any(0).sum()))]


def sinusoids(length: int, width: int) -> Tensor:
    """Return the positions (T, d): sin(t / 10000^(2j/d)) for j < d/2, then their cosines."""
    steps = torch.arange(length, dtype=torch.float64)[:, None]
    angles = steps / 10000 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :width].float()


@register
def transformer(
    vocabulary: Vocabulary,
    outputs: int,
    *,
    width: int = 96,
    encoder_layers: int = 1,
    decoder_layers: int = 1,
    heads: int = 4,
    hidden: int | None = None,
    dropout: float = 0.1,
    tied: bool = False,
) -> Network:
    """Return a `Transformer` with a linear head on its features, the decoder's last hidden states.

    Args:
        vocabulary: sizes of both vocabularies.
        outputs: the number of target tokens K.
        width, encoder_layers, decoder_layers, heads, hidden, dropout: as `Transformer` takes them.
        tied: use the head's weight W (K, d) as the embedding of the target tokens too.

    Raises:
        UnfitError: the data are no sequences, or the width is no multiple of the heads.
    """
    if not isinstance(vocabulary, Vocabulary) or vocabulary.target != outputs:
        raise UnfitError(f"transformer needs sequences of two vocabularies, not inputs of shape {vocabulary}")
    backbone = Transformer(
        vocabulary,
        width=width,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        heads=heads,
        hidden=hidden,
        dropout=dropout,
    )
    network = Network(backbone, width, outputs)
    if tied:
        backbone.decoder.tie(network.head)
    return network


def pegasus_weights(network: Network) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration and the weights with which Hugging Face's Pegasus computes the same logits.

    `PegasusForConditionalGeneration(PegasusConfig(**configuration))` loads the weights. It has one vocabulary: the
    target tokens 0, ..., K - 1, the beginning K, padding K + 1, then the source tokens from K + 2 on. Of what is no
    target token the logits are -inf.

    Raises:
        TypeError: the backbone is no `Transformer`.
    """
    backbone, head = network.backbone, network.head
    if not isinstance(backbone, Transformer):
        raise TypeError(f"the backbone must be a Transformer, not {type(backbone).__name__}")
    sizes, encoder, decoder = backbone.vocabulary, backbone.encoder, backbone.decoder
    heads, hidden = backbone.heads, backbone.hidden
    longest = max(sizes.longest_source, sizes.longest_target)
    configuration = {
        "vocab_size": sizes.target + 2 + sizes.source,
        "d_model": head.in_features,
        "encoder_layers": len(encoder.layers),
        "decoder_layers": len(decoder.layers),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": hidden,
        "decoder_ffn_dim": hidden,
        "max_position_embeddings": longest,
        "activation_function": "relu",
        "scale_embedding": True,
        "tie_word_embeddings": False,
        "dropout": backbone.dropout,
        "attention_dropout": backbone.dropout,
        "activation_dropout": backbone.dropout,
        "decoder_start_token_id": sizes.begin,
        "pad_token_id": sizes.begin + 1,
        "eos_token_id": sizes.end,
        "forced_eos_token_id": None,
    }
    padding = head.weight.new_zeros(1, head.in_features)
    table = torch.cat([decoder.table(), padding, encoder.table()]).detach()
    others = head.weight.new_zeros(2 + sizes.source, head.in_features)
    bias = head.weight.new_zeros(sizes.target) if head.bias is None else head.bias
    positions = sinusoids(longest, head.in_features).to(table)
    weights = {
        "model.shared.weight": table,
        "lm_head.weight": torch.cat([head.weight, others]).detach(),
        "final_logits_bias": torch.cat([bias, bias.new_full((2 + sizes.source,), -math.inf)]).detach()[None],
    }
    for name, stack in (("encoder", encoder), ("decoder", decoder)):
        own = {key: value for key, value in stack.state_dict().items() if key.split(".")[0] in ("layers", "layer_norm")}
        weights |= {f"model.{name}.{key}": value for key, value in own.items()}
        weights |= {f"model.{name}.embed_tokens.weight": table, f"model.{name}.embed_positions.weight": positions}
    return configuration, weights
