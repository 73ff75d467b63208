"""The contract of a packed architecture: the steps of a decoder layer, one method each, as Llama computes them.

M: tokens. H: width of the model. K: key heads. G: query heads for each key head. D: width of a head. R: width of the
part of a head that turns with the position. I: width of the feed-forward layer.

The packed forward pass (``packed_forward.py``) packs the batch, runs attention and reads the logits. A family of models
tells it how the steps in between are computed. How to add a family: ``docs/how-to/add-a-packed-architecture.md``.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from whinchat.models.packed.attention import AttentionKind
from whinchat.models.packed.autograd import GeGlu, RmsNorm, SwiGlu
from whinchat.models.packed.linear import project

# The kinds of rotary angles that depend on the position alone; those of other kinds depend on the length of the prompt.
POSITION_ONLY_ROPE = frozenset({"default", "linear", "llama3", "yarn"})


class PackedArchitecture:
    """One family of models in the packed forward pass. Every method computes what Llama computes.

    A subclass names its classes and overrides what differs from Llama. Three things are fixed: attention is causal
    softmax attention, in which ``AttentionKind`` says what a layer may choose; rotary embeddings turn the first R
    components of a head, with the halves of this part paired, by angles that depend on the position alone; a layer is
    ``x + attention_output(attend(...))`` followed by ``x + feed_forward(x)``.

    ``model`` is the transformers model without PEFT's wrapper, ``layer`` one of its decoder layers. Linear layers may
    carry a LoRA or DoRA adapter and may be NF4, so they must be called through ``project``: PEFT's own forward pass
    would be slower, and a product with ``layer.weight`` would leave the adapter out.

    Gradients flow to adapters only, so every step must be differentiable in its activations.

    Attributes:
        model_class: the causal language model of transformers, matched exactly: a subclass may compute something else.
        norm_class: the class of all its norms, matched exactly.
        embedding_class: the class of its token embeddings, matched exactly.
        gate: joins the two inner products of the feed-forward block; its ``activation`` is the one of the model.
        rope_kinds: the kinds of rotary angles that ``rotary_angles`` computes.
    """

    model_class: ClassVar[type[nn.Module]]
    norm_class: ClassVar[type[nn.Module]]
    embedding_class: ClassVar[type[nn.Module]] = nn.Embedding
    gate: ClassVar[type[SwiGlu] | type[GeGlu]] = SwiGlu
    rope_kinds: ClassVar[frozenset[str]] = POSITION_ONLY_ROPE

    def supports(self, model: Any) -> bool:
        """Return whether these methods compute what ``model`` does, judged by its configuration.

        A subclass returns False for every value that it was not tested with; the model then goes the plain way.
        """
        decoder = self.decoder(model)
        return (
            self.activation(decoder.config) == self.gate.activation
            and not decoder.config.attention_dropout
            and rope_types(decoder.rotary_emb) <= self.rope_kinds
        )

    def decoder(self, model: Any) -> Any:
        """Return the module that holds embeddings, layers, final norm and the configuration of the text model."""
        return model.model

    def activation(self, config: Any) -> str:
        """Return the name of the feed-forward block's activation."""
        name: str = config.hidden_act
        return name

    def norms(self, model: Any) -> Iterator[nn.Module]:
        """Yield every norm whose weight is read; each must be of ``norm_class``."""
        decoder = self.decoder(model)
        yield decoder.norm
        for layer in decoder.layers:
            yield from (layer.input_layernorm, layer.post_attention_layernorm)

    def projections(self, model: Any) -> Iterator[nn.Module]:
        """Yield every linear layer that goes through ``project``, with its adapter where it carries one."""
        for layer in self.decoder(model).layers:
            attention, mlp = layer.self_attn, layer.mlp
            yield from (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
            yield from (mlp.gate_proj, mlp.up_proj, mlp.down_proj)

    def attention_kind(self, layer: Any) -> AttentionKind:
        """Return how ``layer`` attends: its scale, window, rotary embedding and soft cap."""
        return AttentionKind(layer.self_attn.scaling)

    def rotary_angles(self, model: Any, kind: AttentionKind, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin at ``positions`` (L,), both (L, R / 2), in the data type in which heads are to turn.

        R is the width of a head, or less where only the first components of a head turn, or 0 where none does. ``x`` is
        the input of the first layer, (M, H).
        """
        if kind.rotary is None:
            return x.new_empty(len(positions), 0), x.new_empty(len(positions), 0)
        # A module with several embeddings also takes the type of the layer.
        name = () if kind.rotary == "default" else (kind.rotary,)
        cos, sin = self.decoder(model).rotary_emb(x, positions[None], *name)  # (1, L, R), each angle twice
        half = cos.shape[-1] // 2
        return cos[0, :, :half], sin[0, :, :half]

    def query_scales(self, model: Any, x: Tensor, positions: Tensor) -> Tensor | None:
        """Return factors of queries at ``positions`` (L,), (L,), in the data type of ``x``; None where all are 1."""
        return None

    def embed(self, model: Any, tokens: Tensor) -> Tensor:
        """Return the input of the first layer, (M, H), for ``tokens`` (M,)."""
        x: Tensor = self.decoder(model).embed_tokens(tokens)
        return x

    def attention_input(self, layer: Any, x: Tensor) -> Tensor:
        """Return what queries, keys and values are projected from, (M, H)."""
        return self.normalize(layer.input_layernorm, x)

    def queries(self, layer: Any, h: Tensor) -> Tensor:
        """Return the queries of ``h`` (M, H) before rotation, (M, K * G, D)."""
        return split_heads(project(layer.self_attn.q_proj, h), layer.self_attn.head_dim)

    def keys(self, layer: Any, h: Tensor) -> Tensor:
        """Return the keys of ``h`` (M, H) before rotation, (M, K, D)."""
        return split_heads(project(layer.self_attn.k_proj, h), layer.self_attn.head_dim)

    def values(self, layer: Any, h: Tensor) -> Tensor:
        """Return the values of ``h`` (M, H), (M, K, D)."""
        return split_heads(project(layer.self_attn.v_proj, h), layer.self_attn.head_dim)

    def keys_and_values(self, layer: Any, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``keys`` and ``values`` of ``h``; a family that computes both in one product overrides this method."""
        return self.keys(layer, h), self.values(layer, h)

    def heads(self, layer: Any, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``queries``, ``keys`` and ``values`` of ``h``; a family with one product for all overrides this."""
        return self.queries(layer, h), *self.keys_and_values(layer, h)

    def attention_output(self, layer: Any, mixed: Tensor) -> Tensor:
        """Return what attention adds to the residual stream, (M, H), from the attended values (M, K * G * D)."""
        return project(layer.self_attn.o_proj, mixed)

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        """Return what the feed-forward block, its norm included, adds to the residual stream ``x``, (M, H)."""
        return self.gated_projection(layer, self.normalize(layer.post_attention_layernorm, x))

    def gated_projection(self, layer: Any, h: Tensor) -> Tensor:
        """Return the output of the feed-forward block without its norms, (M, H), for ``h`` (M, H)."""
        gate, up = project(layer.mlp.gate_proj, h), project(layer.mlp.up_proj, h)  # (M, I)
        return project(layer.mlp.down_proj, self.gate.apply(gate, up))

    def final_norm(self, model: Any, x: Tensor) -> Tensor:
        """Return the input of the output layer, (M, H)."""
        return self.normalize(self.decoder(model).norm, x)

    def final_logits(self, model: Any, logits: Tensor) -> Tensor:
        """Return the model's logits for the products of the output layer, (..., V); each must depend on its own alone.

        Soft caps and divisors of logits belong here, since V may be a few tokens of the vocabulary.
        """
        return logits

    def normalize(self, norm: Any, x: Tensor) -> Tensor:
        """Apply an RMS norm over the last dimension of ``x``."""
        return RmsNorm.apply(x, norm.weight, norm.variance_epsilon)


class WindowedArchitecture(PackedArchitecture):
    """A family whose configuration names the type of each layer: ``full_attention`` or ``sliding_attention``."""

    def supports(self, model: Any) -> bool:
        """Return whether the layers are of these two types, besides what Llama's configuration must be."""
        types = set(self.decoder(model).config.layer_types)
        return super().supports(model) and types <= {"full_attention", "sliding_attention"}

    def attention_kind(self, layer: Any) -> AttentionKind:
        """Return how ``layer`` attends: with the window of the configuration where the layer is a sliding one."""
        config = layer.self_attn.config
        window = config.sliding_window if layer_type(layer) == "sliding_attention" else None
        return replace(super().attention_kind(layer), window=window)


def layer_type(layer: Any) -> str:
    """Return the type that the configuration names for ``layer``, by which transformers chooses the mask."""
    name: str = layer.self_attn.config.layer_types[layer.self_attn.layer_idx]
    return name


def rope_types(rotary: Any) -> set[str]:
    """Return the kinds of angles that a rotary embedding of transformers computes."""
    kinds = rotary.rope_type
    return set(kinds.values()) if isinstance(kinds, dict) else {kinds}


def split_heads(x: Tensor, head_width: int) -> Tensor:
    """Split (..., heads * D) into (..., heads, D)."""
    return x.view(*x.shape[:-1], -1, head_width)
