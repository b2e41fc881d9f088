"""The Method protocol: all that the pipeline knows of a growth method."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from fxgrow.argument_checks import checked_class
from fxgrow.coupling import Coupling
from fxgrow.errors import Refusal
from fxgrow.growth.objective import Objective
from fxgrow.rewrite import DepthProposal, OverGrown

if TYPE_CHECKING:
    from fxgrow.growth.select import Selection


@checked_class
@dataclass(frozen=True)
class Proposal:
    """Which candidates there are.

    Args:
        split: numbers of the widths whose neurons may split.
        new: per number of a width, how many new-neuron candidates it gets.
        layers: candidate layers; None for none.
        follows_budget: raise the numbers of ``new`` to what the budget can buy.
        in_proportion: raise them in proportion to the sizes of the widths; else equally.
        refusals: why the method has no candidates for a width that may grow, for the report.
    """

    split: Set[int]
    new: Mapping[int, int]
    layers: DepthProposal | None = None
    follows_budget: bool = False
    in_proportion: bool = False
    refusals: Mapping[int, Refusal] = field(default_factory=dict)


@checked_class
@dataclass(frozen=True)
class Scores:
    """How much each candidate is expected to lower the loss; higher is better.

    Args:
        split: in the order of ``Candidates.split_eps``.
        new: in the order of ``Candidates.new_eps``.
        per_cost: buy by score per unit of cost; else by the score alone, for methods whose scores
            are an order of purchase that cost is not to change (one drawn at random, say).
    """

    split: Tensor
    new: Tensor
    per_cost: bool = True


SelectFunction = Callable[[Scores], "Selection"]
"""Select within the budget by some scores; for methods that try out whole selections."""


class Method(Protocol):
    """A growth method; a frozen pydantic model, so that a specification can record its settings.

    A property ``search_steps`` says how many steps a search takes that each need a growth batch of
    their own; without it, there are ``batch_roles.SCORING_BATCHES`` to search on. A property
    ``keeps_function`` that is true says that no candidate changes what the model computes (outgoing
    weights of new neurons are 0, directions of splits are 0), so that no step has to be halved, and
    emission tells the copies of split neurons apart. A property ``grows_under_norms`` that is true
    says that it knows of new neurons whose eps multiply what writes them (``Slots.by_writers``);
    without it, widths that norms run over get none of its candidates. A property ``predicts_gain``
    that is true says that scores are in units of the loss, so that their sum is what a growth
    promises. A property ``needs_one_process`` that is true says that ``search`` is not computed
    over several processes. A method ``pick`` from the number of neurons that there are after growth
    to a ``Picked`` lets it stand for several others.

    Example:
        A method in one file, registered in ``fxgrow.methods.registry`` or by an entry point of the
        group ``fxgrow.methods``:

        >>> class SplitEverything(StrictModel):
        ...     def propose(self, coupling):
        ...         growable = [n for n, width in enumerate(coupling.widths) if width.growable]
        ...         return Proposal(frozenset(growable), {})
        ...     def search(self, grown, objective, generator, choose):
        ...         num_split = len(grown.candidates.split_eps)
        ...         return Scores(torch.ones(num_split), torch.zeros(0))
        ...     def refine(self, grown, objective):
        ...         pass
    """

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose the candidates to put into the over-grown graph."""
        ...

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Set every candidate's eps and direction, and score it.

        Args:
            grown: the over-grown graph. Parameters of the base model must not change.
            objective: the loss on the batches to search on; ``objective.scoring`` is that on those
                to score on.
            generator: of all random draws.
            choose: selects within the budget by some scores.

        Returns:
            A finite score for every candidate.
        """
        ...

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Adapt the selected candidates to each other.

        The others are off (eps = 0) and must stay off.
        """
        ...

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        """The settings, as pydantic gives them."""
        ...


@dataclass(frozen=True)
class Picked:
    """The method that a method which stands for several has picked.

    Args:
        method: proposes, searches and refines.
        why: a sentence; "" if there was nothing to pick.
    """

    method: Method
    why: str = ""


def pick_method(method: Method, neurons: Callable[[], int]) -> Picked:
    """Ask a method that has a ``pick`` which one it stands for; any other stands for itself.

    Args:
        method: the caller's.
        neurons: counts those of the widths that may grow, once the budget is spent on them.
    """
    pick: Callable[[int], Picked] | None = getattr(method, "pick", None)
    return Picked(method) if pick is None else pick(neurons())


def search_steps(method: object) -> int:
    """How many steps a method's search takes, one batch each; 0 if the method does not say."""
    return int(getattr(method, "search_steps", 0))


def predicts_gain(method: Method) -> bool:
    """Whether a method says that its scores are decreases of the loss, in its units."""
    return bool(getattr(method, "predicts_gain", False))


def needs_one_process(method: Method) -> bool:
    """Whether a method says that it does not search over the processes of a group."""
    return bool(getattr(method, "needs_one_process", False))


def proposal_of(method: Method, coupling: Coupling) -> Proposal:
    """The candidates that a method proposes, without those that there cannot be under norms.

    A width under norms gets new neurons only, and only of methods that say they know how.

    Args:
        method: the method.
        coupling: the widths of the model.
    """
    proposal = method.propose(coupling)
    if not coupling.under_norms:
        return proposal
    is_able = bool(getattr(method, "grows_under_norms", False))
    new, refusals = {}, dict(proposal.refusals)
    for number, count in proposal.new.items():
        if is_able or number not in coupling.under_norms:
            new[number] = count
    for number in coupling.under_norms.keys() - new.keys():
        reason = f"norms run over it, and {type(method).__name__} has no candidates for such widths"
        refusals.setdefault(number, Refusal("method", reason))
    split = proposal.split - coupling.under_norms.keys()
    return replace(proposal, split=split, new=new, refusals=refusals)


def keeps_function(method: Method) -> bool:
    """Whether a method says that its candidates do not change what the model computes."""
    return bool(getattr(method, "keeps_function", False))
