"""The formats among which the examples search."""

from torch.fx import GraphModule

import quire
from quire.graph import Site

ANY = [
    "fixed(2..6,fitted)",  # fraction bits that fit the data of each site
    "mxint2",
    "mxint3",
    "mxint4",
    "mxint5",
    "mxfp4",
    "mxfp6_e2m3",
    "bfp(3|4,scale_bits=8,size=16)",
    "bfp(3..5,scale_bits=4,size=16)",
    "bl(4,scale_bits=8,size=16)",
    "block(fixed(3|4,0),size=32,scale=fp8_e4m3)",  # integers with a real scale
]
UNSIGNED = ["ufixed(2..5,fitted)"]

# With finer scales, for the lowest loss: grouped integers, normal quantiles, unsigned with a zero.
FINE = [
    "block(fixed(2..8,0),size=16|32|64,scale=fp8_e4m3)",
    'block(table("nf4"),size=16|32|64,scale=fp8_e4m3)',
    "block(ufixed(2..6,0),size=32|64,scale=bf16,zero_point=True)",
]
FINE_UNSIGNED = ["block(ufixed(2..6,0),size=32|64,scale=fp8_e4m3)"]
CORRECTIONS = ("+gptq", "+gptq+bias")  # of weights


def candidates(graph: GraphModule) -> dict[str, list[str]]:
    """{operand: its formats}: any, and for the probabilities of attention those without a sign."""
    return {site.name: ANY + UNSIGNED * _is_unsigned(site) for site in _operands(graph)}


def fine_candidates(graph: GraphModule) -> dict[str, list[str]]:
    """`candidates`, formats with finer scales, and for weights those with corrections."""
    corrected = [format + correction for format in FINE for correction in CORRECTIONS]
    plain = candidates(graph)
    return {
        site.name: plain[site.name]
        + FINE
        + FINE_UNSIGNED * _is_unsigned(site)
        + corrected * (site.operand == "weight")
        for site in _operands(graph)
    }


def _operands(graph: GraphModule) -> list[Site]:
    return [site for site in quire.sites(graph).values() if site.is_operand]


def _is_unsigned(site: Site) -> bool:
    return site.operand == "probs"
