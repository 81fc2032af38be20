"""The passes of the software stream: a table, in the order in which `quire.compile` applies it."""

from quire.software.passes.base import Match, Outcome, Pass
from quire.software.passes.drop_casts import DROP_CASTS
from quire.software.passes.fuse_attention import FUSE_ATTENTION
from quire.software.passes.fused_quantized_attention import FUSE_QUANTIZED_ATTENTION
from quire.software.passes.merge_projections import MERGE_PROJECTIONS
from quire.software.passes.narrow_products import NARROW_PRODUCTS
from quire.software.passes.pack_weights import PACK_WEIGHTS

PASSES: tuple[Pass, ...] = (
    DROP_CASTS,
    FUSE_QUANTIZED_ATTENTION,
    FUSE_ATTENTION,
    MERGE_PROJECTIONS,
    PACK_WEIGHTS,
    NARROW_PRODUCTS,
)

__all__ = ["PASSES", "Match", "Outcome", "Pass"]
