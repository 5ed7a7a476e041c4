"""The training step of DeAR in plain PyTorch, in the manner of the published repositories of prompt learning.

Both towers run whole, every layer of every position, for the frozen branch (without gradient) and for the adapted one;
the text context is 77; autograd keeps what it wants. No step is shared and nothing is cut: this is what
`step.py` measures the package against, and what the package's losses and gradients are compared with.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from dear_jax.clip.config import LEGACY_EOS, CLIPConfig, TowerConfig
from dear_jax.methods.dear.model import DeAR

Tree = dict[str, Any]


@dataclasses.dataclass
class TorchReference:
    """The loss of one run; parameters are the package's, float32, with layers stacked `[L, ...]`."""

    method: DeAR  # whose architecture, layers and tokens are taken
    params: Tree
    token_ids: torch.Tensor  # [C, context], int64
    head_mask: torch.Tensor  # [L-J+1, H, T, T], bool
    beta: float
    reg_weight: float
    fusion_weight: float

    @property
    def config(self) -> CLIPConfig:
        """The architecture."""
        return self.method.split.config

    def loss(self, adapter: dict[str, torch.Tensor], images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of methods/dear section 4: cross-entropy of the fused logits, distance to the frozen towers, fusion.

        Args:
            adapter: the package's adapter, as tensors that require gradients.
            images: `[B, h, w, 3]`, uint8.
            labels: `[B]`, int64.
        """
        with torch.no_grad():
            plain_image = _unit(self._project(self._vision(images, None)[:, 0]))
            plain_text = self._text(None)
        text = self._text(adapter["text_tokens"])
        x = self._vision(images, adapter["vision_tokens"])
        count = len(self.method.attributes)
        class_path = _unit(self._project(x[:, 0]))
        attributes = _norm(x[:, -count:], self.params["vision_model"]["post_layernorm"], self.config.vision)
        attributes = _unit(torch.einsum("bkD,kDd->bkd", attributes, self._projections(adapter)))
        features = torch.cat([class_path[:, None], attributes], dim=1)

        scale = self.params["logit_scale"].exp().clamp(max=100)
        alpha = adapter["fusion"].softmax(dim=0)
        logits = torch.einsum("i,bid,cd->bc", alpha, scale * features, text)
        distance = (1 - (class_path * plain_image).sum(-1).mean()) + (1 - (text * plain_text).sum(-1).mean())
        return (
            functional.cross_entropy(logits, labels) + self.reg_weight * distance - self.fusion_weight * alpha[0].log()
        )

    def _projections(self, adapter: dict[str, torch.Tensor]) -> torch.Tensor:
        matrices = adapter["attribute_projection"]
        return matrices.expand(len(self.method.attributes), *matrices.shape[1:])

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        normed = _norm(x, self.params["vision_model"]["post_layernorm"], self.config.vision)
        return normed @ self.params["visual_projection"]["kernel"]

    def _vision(self, images: torch.Tensor, learned: torch.Tensor | None) -> torch.Tensor:
        """Images through all layers, `[B, 1+P(+K), D]`."""
        config, params = self.config, self.params["vision_model"]
        mean, std = torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std)
        pixels = ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)
        kernel = params["embeddings"]["patch_embedding"]["kernel"].permute(3, 2, 0, 1)
        x = functional.conv2d(pixels, kernel, stride=config.patch_size).flatten(2).transpose(1, 2)
        first = params["embeddings"]["class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1) + params["embeddings"]["position_embedding"]["embedding"]
        x = _norm(x, params["pre_layrnorm"], config.vision)
        layer = self.method.split.vision_layer
        masks = {layer + i: mask for i, mask in enumerate(self.head_mask)} if learned is not None else {}
        return self._layers(x, params["encoder"]["layers"], config.vision, masks, learned, x.shape[1], layer)

    def _text(self, learned: torch.Tensor | None) -> torch.Tensor:
        """Prompts through all layers, read at the end of text, `[C, d]` of unit length."""
        config, params = self.config, self.params["text_model"]
        x = params["embeddings"]["token_embedding"]["embedding"][self.token_ids]
        x = x + params["embeddings"]["position_embedding"]["embedding"][: x.shape[1]]
        layer, length = self.method.split.text_layer, x.shape[1]
        masks = {
            n: _causal(length + (len(learned) if learned is not None and n >= layer else 0))
            for n in range(1, config.text.layers + 1)
        }
        x = self._layers(x, params["encoder"]["layers"], config.text, masks, learned, 1, layer)
        if config.eos_token_id == LEGACY_EOS:
            ends = self.token_ids.argmax(dim=1)
        else:
            ends = (self.token_ids == config.eos_token_id).int().argmax(dim=1)
        read = x[torch.arange(len(x)), ends + (0 if learned is None else len(learned))]
        return _unit(_norm(read, params["final_layer_norm"], config.text) @ self.params["text_projection"]["kernel"])

    def _layers(
        self,
        x: torch.Tensor,
        stack: Tree,
        tower: TowerConfig,
        masks: dict[int, torch.Tensor],
        learned: torch.Tensor | None,
        start: int,
        first: int,
    ) -> torch.Tensor:
        """All layers; learned tokens enter at `start` before layer `first`, and are mixed in before the later ones."""
        for number in range(1, tower.layers + 1):
            if learned is not None and number >= first:
                end = start + (0 if number == first else len(learned))
                tokens = learned.expand(len(x), *learned.shape)
                if number > first:
                    tokens = self.beta * tokens + (1 - self.beta) * x[:, start:end]
                x = torch.cat([x[:, :start], tokens, x[:, end:]], dim=1)
            x = _block(x, _layer(stack, number - 1), tower, masks.get(number))
        return x


def to_torch(tree: Any) -> Any:
    """Arrays as tensors of their own."""
    if isinstance(tree, dict):
        return {name: to_torch(leaf) for name, leaf in tree.items()}
    return torch.from_numpy(np.array(tree))


def _layer(stack: Tree, index: int) -> Tree:
    return {k: _layer(v, index) if isinstance(v, dict) else v[index] for k, v in stack.items()}


def _block(x: torch.Tensor, layer: Tree, tower: TowerConfig, mask: torch.Tensor | None) -> torch.Tensor:
    normed = _norm(x, layer["layer_norm1"], tower)
    heads = [
        _dense(normed, layer["self_attn"][name]).unflatten(-1, (tower.heads, -1)).transpose(1, 2)
        for name in ("q_proj", "k_proj", "v_proj")
    ]
    outputs = functional.scaled_dot_product_attention(*heads, attn_mask=mask)
    x = x + _dense(outputs.transpose(1, 2).flatten(2), layer["self_attn"]["out_proj"])
    hidden = _dense(_norm(x, layer["layer_norm2"], tower), layer["mlp"]["fc1"])
    hidden = hidden * torch.sigmoid(1.702 * hidden) if tower.activation == "quick_gelu" else functional.gelu(hidden)
    return x + _dense(hidden, layer["mlp"]["fc2"])


def _dense(x: torch.Tensor, params: Tree) -> torch.Tensor:
    return functional.linear(x, params["kernel"].T, params["bias"])


def _norm(x: torch.Tensor, params: Tree, tower: TowerConfig) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], params["scale"], params["bias"], tower.layer_norm_epsilon)


def _causal(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)
