"""Granite 4 without recurrent layers and experts (Granite 4.0 Micro, 1B and 350M)."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers import GraniteMoeHybridForCausalLM
from transformers.models.granitemoehybrid.modeling_granitemoehybrid import GraniteMoeHybridRMSNorm

from whinchat.models.packed.granite import GraniteArchitecture
from whinchat.models.packed.linear import project


class Granite4Architecture(GraniteArchitecture):
    """Granite 4: Granite with one projection for gate and up. Recurrent layers and experts go the plain way."""

    model_class = GraniteMoeHybridForCausalLM
    norm_class = GraniteMoeHybridRMSNorm

    def supports(self, model: Any) -> bool:
        """Return whether all layers are dense attention layers with positions, besides what Llama's must be."""
        config = model.config
        dense = config.num_local_experts == 0 and set(config.layers_block_type) == {"full_attention"}
        return dense and config.position_embedding_type == "rope" and super().supports(model)

    def projections(self, model: Any) -> Iterator[nn.Module]:
        """Yield every linear layer."""
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.shared_mlp
            yield from (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
            yield from (mlp.input_linear, mlp.output_linear)

    def gated_projection(self, layer: Any, h: Tensor) -> Tensor:
        """Return the output of the feed-forward block without its norm, (M, H), for ``h`` (M, H)."""
        gate, up = project(layer.shared_mlp.input_linear, h).chunk(2, dim=-1)  # (M, I)
        return project(layer.shared_mlp.output_linear, self.gate.apply(gate, up))
