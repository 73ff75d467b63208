"""The contract of a packed architecture: the steps of a decoder layer, one method each, as Llama computes them.

M: tokens. H: width of the model. K: key heads. G: query heads for each key head. D: width of a head.

The packed forward pass (``packed_forward.py``) packs the batch, runs attention and reads the logits. A family of models
tells it how the steps in between are computed. How to add a family: ``docs/how-to/add-a-packed-architecture.md``.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from whinchat.models.packed.autograd import RmsNorm, SwiGlu
from whinchat.models.packed.linear import project


class PackedArchitecture:
    """One family of models in the packed forward pass. Every method computes what Llama computes.

    A subclass names its classes and overrides what differs from Llama. Three things are fixed: attention is causal
    softmax attention scaled by ``1 / sqrt(D)``; rotary embeddings turn the whole width of a head, with its halves
    paired; a layer is ``x + attention_output(attend(...))`` followed by ``x + feed_forward(x)``.

    ``model`` is the transformers model without PEFT's wrapper, ``layer`` one of its decoder layers. Linear layers may
    carry a LoRA or DoRA adapter and may be NF4, so they must be called through ``project``: PEFT's own forward pass
    would be slower, and a product with ``layer.weight`` would leave the adapter out.

    Gradients flow to adapters only, so every step must be differentiable in its activations.

    Attributes:
        model_class: the causal language model of transformers, matched exactly: a subclass may compute something else.
        norm_class: the class of all its norms, matched exactly.
    """

    model_class: ClassVar[type[nn.Module]]
    norm_class: ClassVar[type[nn.Module]]

    def supports(self, model: Any) -> bool:
        """Return whether these methods compute what ``model`` does, judged by its configuration.

        A subclass returns False for every value that it was not tested with; the model then goes the plain way.
        """
        config = model.config
        return (
            config.hidden_act == "silu"
            and not config.attention_dropout
            # The angles of other kinds depend on the length of the prompt.
            and model.model.rotary_emb.rope_type in ("default", "linear", "llama3", "yarn")
            and all(attn.scaling == attn.head_dim**-0.5 for attn in (layer.self_attn for layer in model.model.layers))
        )

    def norms(self, model: Any) -> Iterator[nn.Module]:
        """Yield every norm whose weight is read; each must be of ``norm_class``."""
        yield model.model.norm
        for layer in model.model.layers:
            yield from (layer.input_layernorm, layer.post_attention_layernorm)

    def projections(self, model: Any) -> Iterator[nn.Module]:
        """Yield every linear layer that goes through ``project``, with its adapter where it carries one."""
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            yield from (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
            yield from (mlp.gate_proj, mlp.up_proj, mlp.down_proj)

    def rotary_angles(self, model: Any, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin at ``positions`` (L,), both (L, D / 2), in the data type of ``x``."""
        cos, sin = model.model.rotary_emb(x, positions[None])
        half = cos.shape[-1] // 2
        return cos[0, :, :half], sin[0, :, :half]

    def embed(self, model: Any, tokens: Tensor) -> Tensor:
        """Return the input of the first layer, (M, H), for ``tokens`` (M,)."""
        x: Tensor = model.model.embed_tokens(tokens)
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

    def attention_output(self, layer: Any, mixed: Tensor) -> Tensor:
        """Return what attention adds to the residual stream, (M, H), from the attended values (M, K * G * D)."""
        return project(layer.self_attn.o_proj, mixed)

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        """Return what the feed-forward block, its norm included, adds to the residual stream ``x``, (M, H)."""
        h = self.normalize(layer.post_attention_layernorm, x)
        gate, up = project(layer.mlp.gate_proj, h), project(layer.mlp.up_proj, h)
        return project(layer.mlp.down_proj, SwiGlu.apply(gate, up))

    def final_norm(self, model: Any, x: Tensor) -> Tensor:
        """Return the input of the output layer, (M, H)."""
        return self.normalize(model.model.norm, x)

    def normalize(self, norm: Any, x: Tensor) -> Tensor:
        """Apply an RMS norm over the last dimension of ``x``."""
        return RmsNorm.apply(x, norm.weight, norm.variance_epsilon)


def split_heads(x: Tensor, head_width: int) -> Tensor:
    """Split (..., heads * D) into (..., heads, D)."""
    return x.view(*x.shape[:-1], -1, head_width)
