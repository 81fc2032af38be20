"""What a pass is: a row of pattern, condition, replacement and reason; and how a row is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.fx import GraphModule, Node

from quire.graph.annotate import annotate_node
from quire.graph.paths import call_path
from quire.graph.sites import check_captured
from quire.software.passes.check import differences


@dataclass(frozen=True)
class Match:
    """What a pattern found.

    outputs: the nodes whose values the replacement gives.
    inputs: the nodes at which what is replaced begins.
    found: what the condition and the replacement of the same pass need to know.
    calls: the nodes by which reports name the place; the outputs where there are none.
    """

    outputs: tuple[Node, ...]
    inputs: tuple[Node, ...]
    found: Any = None
    calls: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a pass did at one place.

    rewrite: name of the pass.
    place: the module path and the node, such as "layers.0.attn: matmul_1".
    kept: whether the graph was changed there.
    reason: what it is good for, or why the pass refused.
    """

    rewrite: str
    place: str
    kept: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.rewrite}: {self.place}: {'' if self.kept else 'refused: '}{self.reason}"


GRADIENTS = "quire_gradients"
"""Key of a graph's meta: whether gradients are wanted of it. Without it those in training are."""


def wants_gradients(graph: GraphModule) -> bool:
    """Whether a graph is run for its gradients, so that its weights change from call to call."""
    return bool(graph.meta.get(GRADIENTS, graph.training))


@dataclass(frozen=True)
class Pass:
    """One row of the table of passes; usable alone, on any captured or quantized graph.

    name: the name by which options and reports call it.
    pattern: the places in a graph where it may apply.
    condition: why it must not apply at a match, or None.
    replacement: makes the nodes that stand for the outputs of a match, in their order.
    reason: what a rewrite is good for.
    verified: whether a rewrite is kept only where it gives the same values on example inputs.
    """

    name: str
    pattern: Callable[[GraphModule], Iterable[Match]]
    condition: Callable[[GraphModule, Match], str | None]
    replacement: Callable[[GraphModule, Match], tuple[Node, ...]]
    reason: str
    verified: bool = False

    def apply(
        self, graph: GraphModule, examples: Sequence[Any] | None = None
    ) -> tuple[Outcome, ...]:
        """Rewrite `graph` in place wherever the pass applies; what happened at each match.

        graph: from `quire.capture` or `quire.quantize`; another raises `CaptureError`.
        examples: example inputs in the order of the placeholders. A pass that is `verified`
            compares the values before and after, in float64, and refuses without examples.
        """
        check_captured(graph)
        outcomes: list[Outcome] = []
        drafts: list[_Draft] = []
        for match in list(self.pattern(graph)):
            problem = self.condition(graph, match)
            if problem is None:
                drafts.append(self._drafted(graph, match))
            else:
                outcomes.append(Outcome(self.name, _place(match), False, problem))
        problems = self._problems(graph, drafts, examples)
        replaced: dict[Node, Node] = {}
        for draft, problem in zip(drafts, problems, strict=True):
            reason = problem or self.reason
            outcomes.append(Outcome(self.name, _place(draft.match), problem is None, reason))
            if problem is None:
                draft.keep(replaced)
            else:
                draft.erase()
        graph.graph.eliminate_dead_code()
        graph.graph.lint()
        graph.recompile()
        return tuple(outcomes)

    def _drafted(self, graph: GraphModule, match: Match) -> _Draft:
        """A replacement beside what it may replace, its nodes typed."""
        known = set(graph.graph.nodes)
        new = self.replacement(graph, match)
        made = [node for node in graph.graph.nodes if node not in known]
        for node in made:
            annotate_node(node)
        return _Draft(match, new, made)

    def _problems(
        self, graph: GraphModule, drafts: list[_Draft], examples: Sequence[Any] | None
    ) -> list[str | None]:
        """For each draft why it is not kept, or None."""
        if not self.verified or not drafts:
            return [None] * len(drafts)
        if examples is None:
            return ["cannot be verified without example inputs"] * len(drafts)
        return differences(
            graph, [(d.match.inputs, d.match.outputs, d.new) for d in drafts], examples
        )


@dataclass(frozen=True)
class _Draft:
    """A replacement that stands in the graph beside what it replaces."""

    match: Match
    new: tuple[Node, ...]
    made: list[Node]

    def keep(self, replaced: dict[Node, Node]) -> None:
        """Let the users of the old nodes use the new ones."""
        for old, new in zip(self.match.outputs, self.new, strict=True):
            while new in replaced:
                new = replaced[new]
            old.replace_all_uses_with(new)
            replaced[old] = new

    def erase(self) -> None:
        """Take the new nodes out: dead code that might draw random numbers is not eliminated."""
        for node in reversed(self.made):
            node.graph.erase_node(node)


def _place(match: Match) -> str:
    nodes = match.calls or match.outputs
    paths = dict.fromkeys(node.meta.get("quire_path", call_path(node)) for node in nodes)
    return f"{', '.join(filter(None, paths)) or '(root)'}: {', '.join(n.name for n in nodes)}"
