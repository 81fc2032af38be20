"""The formats among which the examples search."""

from torch.fx import GraphModule

import quire

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


def candidates(graph: GraphModule) -> dict[str, list[str]]:
    """{operand: its formats}: any, and for the probabilities of attention those without a sign."""
    operands = [site for site in quire.sites(graph).values() if site.is_operand]
    return {site.name: ANY + UNSIGNED * (site.operand == "probs") for site in operands}
