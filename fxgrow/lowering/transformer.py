"""torch's own transformer layers as subclasses with one plain path, for torch.fx to follow.

torch.fx takes every class of ``torch.nn`` for a leaf, and the originals choose between fused
kernels, which know nothing of lowered attention. The parameters, their names and all other methods
are the originals'. One thing differs: in evaluation mode and without gradients the original encoder
may run on nested tensors, and gives zeros where the input is padding.
"""

from torch import Tensor, nn

from fxgrow.lowering.multihead import additive


class EncoderLayer(nn.TransformerEncoderLayer):
    """``nn.TransformerEncoderLayer`` without the fused kernel."""

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        mask, padding = additive(src_mask, src.dtype), additive(src_key_padding_mask, src.dtype)
        # Norm before each block, on the branch alone (pre-norm), ...
        if self.norm_first:
            x = src + self._sa_block(self.norm1(src), mask, padding, is_causal)
            return x + self._ff_block(self.norm2(x))
        # ... or after each, on the sum (post-norm), as in the paper.
        x = self.norm1(src + self._sa_block(src, mask, padding, is_causal))
        out: Tensor = self.norm2(x + self._ff_block(x))
        return out


class DecoderLayer(nn.TransformerDecoderLayer):
    """``nn.TransformerDecoderLayer``, which has no fused kernel."""


class Encoder(nn.TransformerEncoder):
    """``nn.TransformerEncoder``; a mask is used as it is, not compared with a causal one."""

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        mask, padding = additive(mask, src.dtype), additive(src_key_padding_mask, src.dtype)
        for layer in self.layers:
            src = layer(src, src_mask=mask, is_causal=bool(is_causal), src_key_padding_mask=padding)
        return src if self.norm is None else self.norm(src)


class Decoder(nn.TransformerDecoder):
    """``nn.TransformerDecoder``; a mask is used as it is, not compared with a causal one."""

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        for layer in self.layers:
            tgt = layer(
                tgt,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=bool(tgt_is_causal),
                memory_is_causal=memory_is_causal,
            )
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(nn.Transformer):
    """``nn.Transformer`` without its checks of shapes, which torch.fx cannot trace."""

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        memory = self.encoder(
            src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
        )
        out: Tensor = self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )
        return out


PLAIN_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    nn.TransformerEncoderLayer: EncoderLayer,
    nn.TransformerDecoderLayer: DecoderLayer,
    nn.TransformerEncoder: Encoder,
    nn.TransformerDecoder: Decoder,
    nn.Transformer: Transformer,
}
"""The plain class of each of torch's classes."""
