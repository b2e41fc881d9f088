"""What every growth method is: its reference, its equation, what it costs, when to use it.

``fxgrow methods`` prints these rows and ``docs/methods.md`` has a section for each. A method needs
a row here, by a test; what is no method of a growth step, but compared with them, has one, too.
"""

from dataclasses import dataclass

from fxgrow.argument_checks import checked_class


@checked_class
@dataclass(frozen=True)
class MethodRow:
    """One growth method.

    Args:
        name: of its class, or of the function that stands for it.
        reference: authors, title, venue.
        equation: what it computes.
        cost: forward and backward passes, and over what. A growth batch is one of those to search
            on or to score on; checks and statistics, which every method has, do not count.
        use: when to use it.
        keeps_function: whether the grown model computes what the model did, and how.
    """

    name: str
    reference: str
    equation: str
    cost: str
    use: str
    keeps_function: str


CATALOG: tuple[MethodRow, ...] = (
    MethodRow(
        "Auto",
        "fxgrow; docs/when-to-grow.md has the measurements",
        "neurons afterwards <= 64: GradientPool; else ZeroOutgoing",
        "that of the method it picks",
        "the default: when nothing speaks for another method",
        "yes: both methods do",
    ),
    MethodRow(
        "AutoGrow",
        "Wen, Yan, Chen, Li, AutoGrow: Automatic Layer Growing in Deep Convolutional Networks, "
        "KDD 2020",
        "x + C phi(W x), one layer per growth, at a random place, C = 0 or random",
        "none",
        "to find a depth: with the trigger UntilNoGain, until accuracy stops improving",
        "yes with init=zero, the default; with init=random eps is halved until the loss does "
        "not rise",
    ),
    MethodRow(
        "FastSplitting",
        "Wang, Li, Wu, Chandra, Liu, Energy-Aware Neural Architecture Optimization with Fast "
        "Splitting Steepest Descent, 2019",
        "min over v of v^T S v / v^T v, by descent with products S v",
        "(2 steps + 1) x (1 forward + 1 backward) per batch to score on, steps = 10",
        "in place of Splitting where neurons have more than some 20 weights; with "
        "Budget(multiply_adds=...) it is the paper's energy-aware choice",
        "no: eps is halved until the loss does not rise",
    ),
    MethodRow(
        "Firefly",
        "Wu, Liu, Stone, Liu, Firefly Neural Architecture Descent, NeurIPS 2020",
        "s_i = 1/eps_i integral of dL/d zeta_i over (0, eps_i), after descent on (eps, delta)",
        "(steps + refine_steps) x (1 forward + 1 backward) on one batch each, and points x (1 "
        "forward + 1 backward) per batch to score on; steps = 20, refine_steps = 10, points = 3",
        "to let splits, new neurons and layers compete by one score",
        "no: eps is halved until the loss does not rise",
    ),
    MethodRow(
        "GradMax",
        "Evci, van Merrienboer, Unterthiner, Vladymyrov, Pedregosa, GradMax: Growing Neural "
        "Networks using Gradient Information, ICLR 2022",
        "max of sum_j |M c_j|^2 over orthonormal c_j, M = sigma'(0) E[x (dL/dz)^T]: the largest "
        "singular values",
        "(2 iterations + 1) x (1 forward + 2 backward) per batch to search on, iterations = 3",
        "to give new neurons a large gradient at once, where training goes on with plain SGD",
        "yes: incoming weights are 0; behind a batch norm or where sigma(0) is not 0, outgoing "
        "ones",
    ),
    MethodRow(
        "GradientPool",
        "fxgrow; scores of Firefly at outgoing weights of 0, chosen by orthogonal matching "
        "pursuit (Pati, Rezaiifar, Krishnaprasad 1993)",
        "|G_j|^2 / (E[dl/dz^2] E[h_j^2]), G_j = E[dl/dz h_j], less what inputs and chosen ones "
        "explain",
        "1 forward + 1 backward per batch to search on, with all candidates of the pool",
        "where neurons are scarce: tens, in a small network",
        "yes: outgoing weights are 0",
    ),
    MethodRow(
        "NASH",
        "Elsken, Metzen, Hutter, Simple and Efficient Architecture Search for CNNs, 2017",
        "the child of least held-out loss among n random sets of morphisms, each trained "
        "briefly with SGD and a cosine rate",
        "children x steps training steps of the grown size, and children x 1 forward per batch "
        "to score on",
        "where few morphisms are possible and a decision may be expensive; a rival",
        "yes: the structure of the best child is emitted, not its weights",
    ),
    MethodRow(
        "Net2Deeper",
        "Chen, Goodfellow, Shlens, Net2Net: Accelerating Learning via Knowledge Transfer, ICLR "
        "2016",
        "x + C phi(W x), C = 0, at random places",
        "none",
        "for more depth without a search; the control of every claim about depth",
        "yes: the layers are the identity",
    ),
    MethodRow(
        "Net2Wider",
        "Chen, Goodfellow, Shlens, Net2Net: Accelerating Learning via Knowledge Transfer, ICLR "
        "2016",
        "v sigma(w^T x) = (v/2 + r) sigma(w^T x) + (v/2 - r) sigma(w^T x)",
        "none",
        "as a baseline: copies at random, the oldest way to grow",
        "yes, to rounding: copies share the outgoing weights",
    ),
    MethodRow(
        "NetworkMorphism",
        "Wei, Wang, Rui, Chen, Network Morphism, ICML 2016",
        "width: outgoing weights 0; depth: x + C phi(W x), C = 0; in random order within the "
        "budget",
        "none",
        "as the random control over width and depth together",
        "yes: outgoing weights and layers begin at 0",
    ),
    MethodRow(
        "RandomGrowth",
        "RandSearch of Wu, Liu, Stone, Liu, Firefly Neural Architecture Descent, NeurIPS 2020, "
        "Fig. 3",
        "random splits and new neurons in random directions, the best of k draws",
        "draws x 1 forward per batch to score on, draws = 3; none for draws = 1",
        "as the control of every claim that a choice pays",
        "no: eps is halved until the loss does not rise",
    ),
    MethodRow(
        "Splitting",
        "Liu, Wu, Wang, Splitting Steepest Descent for Growing Neural Architectures, NeurIPS 2019",
        "lowest eigenpair of S_i = E[dL/d sigma d2 sigma(x, theta_i)]; the gain is -eps^2/2 "
        "lambda_i",
        "(weights of the largest neuron) x (1 forward + 1 backward) per batch to score on",
        "for exact eigenvectors in small layers",
        "no: eps is halved until the loss does not rise",
    ),
    MethodRow(
        "TINY",
        "Verbockhaven, Rudkiewicz, Chevallier, Charpiat, Growing Tiny Networks: Spotting "
        "Expressivity Bottlenecks and Fixing Them Optimally, TMLR 2024",
        "S^{-1/2} N = sum_k s_k u_k v_k^T, S = E[x x^T], N = E[x (V - D h)^T], V = -dL/dz; the "
        "loss falls by gamma sum_k s_k^2",
        "(2 iterations + 1) x (1 forward + 2 backward) + (1 forward + 1 backward) per batch to "
        "search on, iterations = 3, and 2 x (1 forward + 1 backward) per batch to score on",
        "to lower the loss at once by what a layer cannot express; widths that one linear layer "
        "or convolution writes",
        "no: gamma is halved until the loss does not rise",
    ),
    MethodRow(
        "VarianceTransfer",
        "Yuan, Savarese, Maire, Accelerated Training via Incrementally Growing Neural Networks "
        "using Variance Transfer and Learning Rate Adaptation, NeurIPS 2023",
        "z + c sigma(w^T x) - c sigma(w^T x) = z, entries of the variance of the layer's own",
        "none",
        "for many neurons whose both ends shall learn from the first step; with new_entry_rate "
        "for the paper's learning rates",
        "yes, to rounding: new neurons cancel out in pairs",
    ),
    MethodRow(
        "ZeroOutgoing",
        "the function-preserving start of Chen, Goodfellow, Shlens, Net2Net, ICLR 2016, and the "
        "random control of Evci et al., GradMax, ICLR 2022",
        "z = W h + 0 sigma(w^T x), w random with the norm of the layer's own rows",
        "none",
        "where neurons are plentiful: no choice was found that gains more than the training it "
        "costs",
        "yes: outgoing weights are 0",
    ),
    MethodRow(
        "from_scratch",
        "the control of Wu, Liu, Stone, Liu, Firefly Neural Architecture Descent, NeurIPS 2020, "
        "Fig. 3",
        "the grown structure with weights drawn anew by reset_parameters()",
        "none for growth; the training of the final size from the start",
        "as the control that tells whether growing pays; a function of fxgrow.methods, no method",
        "no: it forgets everything",
    ),
)
"""One row per method, in the order of their names; those that are no method at the end."""
