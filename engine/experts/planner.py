"""Where each active expert of one layer runs, now: Fiddler's Algorithm 1 with both sides working at the same time.

The paper weighs each expert by itself: on the GPU if it lives there, streamed if `cpu > gpu + copy`, else on the CPU.
Here the two sides overlap, so what counts is `max(CPU side, GPU side)`:

    CPU side   activations there and back and the call (once), then its experts one after the other
    GPU side   a pipeline of two stages: copies one after the other, each into a free staging slot (with two slots,
               copy j waits for the compute of streamed expert j - 2); computes one after the other. In a pass of few
               tokens residents come first, all in one launch; in a longer one they fill the time that computing
               would wait for copies, so that the link is never kept waiting by them, and those that follow each other
               are one call (`groups`)

An expert's copy takes the same time whatever its tokens, so the experts worth streaming are those with the most of
them: only prefixes of that order are compared, from none (all on the CPU) to all. For a single expert that is the
paper's rule; for several it contains the paper's choice wherever the CPU's cost per token is the steeper one.
An expert whose copy was begun while the layer before ran comes first, with what is left of that copy (`ahead`).
An expert whose host copy is not page-locked takes PAGEABLE_SLOWDOWN times as long to copy, keeps the host from
computing meanwhile, and comes last. Others take a share of the RAM's speed from the CPU (`copy_drag`), as far as that
is what bounds its experts: with few tokens.

Pure, and called for every layer of every token: it must stay within some microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from types import MappingProxyType

from engine.config import PAGEABLE_SLOWDOWN, ModelConfig, PolicyName
from engine.experts.cost_model import predict
from engine.experts.footprint import LAUNCHED_TOKENS
from engine.kernels.grouping import GROUP_EXPERTS
from engine.messages import CostCurve, CostModel, ExpertRun

STAGING_SLOTS = 2  # at least: one is filled while the other's expert runs
STAGING_BYTES = 48 << 20  # of small experts so many more are copied ahead, while the dense part runs
STAGING_PARTS = 8  # of a layer's experts, at most
UNLIMITED = 1 << 62
NOTHING_AHEAD: Mapping[int, float] = MappingProxyType({})

_TIE = 1.0 - 1e-9  # a gain below rounding is a tie, and ties go to the CPU: less traffic

_TOKENS = itemgetter(1)

_Priced = tuple[int, int, float, float]  # expert, tokens, seconds on the CPU, seconds on the GPU


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """Where the active experts of one layer run.

    Attributes:
        runs: Every active expert once: residents and streamed ones in the order in which the GPU computes them, then
            the CPU's.
        predicted_cpu_s: Time of the CPU side, 0 without experts there.
        predicted_gpu_s: Time of the GPU side, 0 without experts there.
        activation_s: Time to bring activations to the CPU and back, should anything run there; 0 without a GPU.
    """

    runs: tuple[ExpertRun, ...]
    predicted_cpu_s: float
    predicted_gpu_s: float
    activation_s: float

    @property
    def predicted_s(self) -> float:
        """Time of the layer's experts: the longer side."""
        return max(self.predicted_cpu_s, self.predicted_gpu_s)


@dataclass(frozen=True, slots=True)
class _Split:
    """Priced experts by place, and what the two sides take."""

    residents: list[_Priced]
    streamed: list[_Priced]
    cpu: list[_Priced]
    cpu_s: float
    gpu_s: float
    copy_s: float
    activation_s: float = 0.0
    residents_first: bool = True
    call_s: float = 0.0  # of the GPU's calls, a part of each expert's seconds


def plan_layer(
    counts: Sequence[tuple[int, int]],
    resident: Container[int],
    costs: CostModel,
    policy: PolicyName,
    *,
    staging_slots: int = STAGING_SLOTS,
    pass_tokens: int = 0,
    pageable: Container[int] = (),
    group_visits: int = UNLIMITED,
    ahead: Mapping[int, float] = NOTHING_AHEAD,
) -> LayerPlan:
    """Decide one layer (Fiddler, Algorithm 1; see the module's docstring for what differs).

    Policies: "fiddler" minimises the longer side; "gpu_stream" streams every expert that is not resident; "cpu_only"
    runs every expert on the CPU, residents too, so that policies can be compared at the same placement. Without a GPU
    in the costs every policy runs on the CPU.

    Args:
        counts: (expert, tokens) of the active experts, each expert once, tokens at least 1.
        resident: Experts of this layer whose weights are in VRAM.
        costs: What they cost here, corrections included.
        policy: Who decides.
        staging_slots: Slots that streamed weights can wait in; without any, what is not resident runs on the CPU.
        pass_tokens: Tokens of the pass (T), whose activations go to the CPU; 0 takes the largest of `counts`.
        pageable: Experts whose host copies are not page-locked.
        group_visits: Tokens that one call takes of residents that follow each other; one expert's at least.
        ahead: Experts whose copies were begun before, in that order, and seconds that are left of each.

    Returns:
        Every active expert exactly once, with the predictions that the choice was made from.
    """
    split = _split(
        counts, resident, costs, policy, staging_slots=staging_slots, pass_tokens=pass_tokens, pageable=pageable,
        group_visits=group_visits, ahead=ahead,
    )  # fmt: skip

    def copy_s(expert: int) -> float:
        if expert in ahead:
            return ahead[expert]
        return split.copy_s * PAGEABLE_SLOWDOWN if expert in pageable else split.copy_s

    residents = [ExpertRun(expert, tokens, "gpu", cpu, gpu, 0.0) for expert, tokens, cpu, gpu in split.residents]
    streamed = [
        ExpertRun(expert, tokens, "stream", cpu, gpu, copy_s(expert)) for expert, tokens, cpu, gpu in split.streamed
    ]
    runs, gpu_s = residents + streamed, split.gpu_s
    if residents and not split.residents_first:
        runs, gpu_s = _filling_gaps(residents, streamed, staging_slots, split.call_s, group_visits)
    for expert, tokens, cpu, gpu in split.cpu:
        runs.append(ExpertRun(expert, tokens, "cpu", cpu, gpu, 0.0 if expert in resident else copy_s(expert)))
    return LayerPlan(tuple(runs), split.cpu_s, gpu_s, split.activation_s)


def residents_run(costs: CostModel, policy: PolicyName) -> bool:
    """Whether all active residents run on the GPU: known before the routing is, and what `plan_layer` then says.

    Args:
        costs: As for `plan_layer`.
        policy: As for `plan_layer`.
    """
    return policy != "cpu_only" and costs.gpu_expert is not None and costs.weight_copy is not None


def staging_slots_of(model: ModelConfig) -> int:
    """Slots that streamed experts of a model wait in.

    Args:
        model: Its shape and formats.
    """
    return max(STAGING_SLOTS, min(model.experts // STAGING_PARTS, STAGING_BYTES // model.expert_bytes))


def copies_ahead(streamed: int, slots: int, copy_s: float, lead_s: float) -> int:
    """How many copies to begin for a layer before its routing is known: those that the link would stand still for.

    Args:
        streamed: Experts that the layer before has streamed.
        slots: To copy them to.
        copy_s: What each takes.
        lead_s: Time until the routing is known.
    """
    return min(streamed, slots, math.ceil(lead_s / copy_s) if copy_s > 0 else slots)


def left_of_copies(experts: Sequence[int], copy_s: float, lead_s: float) -> dict[int, float]:
    """What is left of copies that follow each other, after some time on the link.

    Args:
        experts: Theirs.
        copy_s: What each takes.
        lead_s: The time.

    Returns:
        `ahead` of `plan_layer`.
    """
    return {expert: min(copy_s, max(0.0, (turn + 1) * copy_s - lead_s)) for turn, expert in enumerate(experts)}


def layer_seconds(
    counts: Sequence[tuple[int, int]],
    resident: Container[int],
    costs: CostModel,
    policy: PolicyName,
    *,
    staging_slots: int = STAGING_SLOTS,
    pass_tokens: int = 0,
    pageable: Container[int] = (),
    group_visits: int = UNLIMITED,
    ahead: Mapping[int, float] = NOTHING_AHEAD,
) -> tuple[float, float]:
    """The CPU's and the GPU's side of `plan_layer`, without the runs: for forecasts over many layers.

    Residents that fill gaps are taken as divisible, and as called for as seldom as they may be, so that the GPU's side
    is short by less than one of them and a call for each gap.

    Args:
        counts: As for `plan_layer`, like all others.
        resident: See there.
        costs: See there.
        policy: See there.
        staging_slots: See there.
        pass_tokens: See there.
        pageable: See there.
        group_visits: See there.
        ahead: See there.
    """
    split = _split(
        counts, resident, costs, policy, staging_slots=staging_slots, pass_tokens=pass_tokens, pageable=pageable,
        group_visits=group_visits, ahead=ahead,
    )  # fmt: skip
    return split.cpu_s, split.gpu_s


def _split(
    counts: Sequence[tuple[int, int]],
    resident: Container[int],
    costs: CostModel,
    policy: PolicyName,
    *,
    staging_slots: int,
    pass_tokens: int,
    pageable: Container[int],
    group_visits: int,
    ahead: Mapping[int, float],
) -> _Split:
    """The decision, without words."""
    gpu_curve, copy_curve = costs.gpu_expert, costs.weight_copy
    priced = _price(counts, costs)
    if gpu_curve is None or copy_curve is None or not priced:
        return _Split([], [], priced, _cpu_sides(priced, costs.cpu_call_s)[0], 0.0, 0.0)
    copy_s = predict(copy_curve, 1) * costs.gpu_correction
    pass_tokens = pass_tokens or max(item[1] for item in priced)
    activation_s = _activation_seconds(costs.activation_copy, pass_tokens)
    once_s = activation_s + costs.cpu_call_s
    if not residents_run(costs, policy):
        return _Split([], [], priced, _cpu_sides(priced, once_s)[0], 0.0, copy_s, activation_s)
    residents: list[_Priced] = []
    others: list[_Priced] = []
    for item in priced:
        (residents if item[0] in resident else others).append(item)
    if len(others) > 1:
        _sort_for_streaming(others, pageable, ahead)
    resident_s, call_s = sum(item[3] for item in residents), gpu_curve.overhead_s * costs.gpu_correction
    residents_first = pass_tokens <= LAUNCHED_TOKENS
    if len(residents) > 1:
        calls = 1 if residents_first else _least_calls(residents, group_visits)
        resident_s -= (len(residents) - calls) * call_s
    if staging_slots == 0:
        cpu_s = _cpu_sides(others, once_s)[0]
        return _Split(residents, [], others, cpu_s, resident_s, math.inf, activation_s, residents_first, call_s)
    copies_s = [copy_s] * len(others)
    if pageable or ahead:
        slow_s = copy_s * PAGEABLE_SLOWDOWN
        copies_s = [ahead.get(item[0], slow_s if item[0] in pageable else copy_s) for item in others]
    gpu_sides = _gpu_sides(others, copies_s, resident_s, staging_slots, residents_first)
    if policy == "gpu_stream":
        return _Split(residents, others, [], 0.0, gpu_sides[-1], copy_s, activation_s, residents_first, call_s)
    cpu_sides = _cpu_sides(others, once_s)
    drag = costs.copy_drag if residents_first else 0.0
    cpu_sides = _beside_copies(cpu_sides, copies_s, drag, copy_s if pageable else math.inf)
    streamed = _best_prefix(cpu_sides, gpu_sides)
    cpu_s, gpu_s = cpu_sides[streamed], gpu_sides[streamed]
    return _Split(
        residents, others[:streamed], others[streamed:], cpu_s, gpu_s, copy_s, activation_s, residents_first, call_s
    )


def _sort_for_streaming(others: list[_Priced], pageable: Container[int], ahead: Mapping[int, float]) -> None:
    """Those that are under way, then the others by their tokens, then those whose copies are slow."""
    others.sort(key=_TOKENS, reverse=True)
    if pageable:
        others.sort(key=lambda item: item[0] in pageable)
    if ahead:
        begun = {item[0]: item for item in others if item[0] in ahead}
        others[:] = [
            *(begun[expert] for expert in ahead if expert in begun),
            *(item for item in others if item[0] not in begun),
        ]


def _price(counts: Sequence[tuple[int, int]], costs: CostModel) -> list[_Priced]:
    """Each expert's seconds on either side; counts repeat a lot, so each size is worked out once."""
    cpu_curve, cpu_correction = costs.cpu_expert, costs.cpu_correction
    gpu_curve, gpu_correction = costs.gpu_expert, costs.gpu_correction
    sizes = {tokens for _, tokens in counts}
    cpu_s = {tokens: predict(cpu_curve, tokens) * cpu_correction for tokens in sizes}
    gpu_s = {tokens: predict(gpu_curve, tokens) * gpu_correction if gpu_curve else 0.0 for tokens in sizes}
    return [(expert, tokens, cpu_s[tokens], gpu_s[tokens]) for expert, tokens in counts]


def _activation_seconds(curve: CostCurve | None, tokens: int) -> float:
    """The hidden states of a pass, there and back."""
    return predict(curve, tokens) if curve else 0.0


def _cpu_sides(others: list[_Priced], once_s: float) -> list[float]:
    """For each k: the CPU side when the first k are streamed; nothing is copied or called when nothing is left."""
    left = list(accumulate((item[2] for item in reversed(others)), initial=once_s))
    left[0] = 0.0
    left.reverse()
    return left


def _beside_copies(cpu_sides: list[float], copies_s: list[float], drag: float, locked_s: float) -> list[float]:
    """The CPU sides with what copies take from them: some of the RAM's speed, and where they are slow the host's time.

    Args:
        cpu_sides: For each k the CPU side when the first k are streamed.
        copies_s: Of each that may be streamed.
        drag: As `CostModel.copy_drag`.
        locked_s: A copy of what is page-locked takes no longer.
    """
    if drag:
        copied = accumulate(copies_s, initial=0.0)
        cpu_sides = [cpu_s and cpu_s + drag * link_s for cpu_s, link_s in zip(cpu_sides, copied, strict=True)]
    if locked_s < math.inf:
        held_up = accumulate((slow_s if slow_s > locked_s else 0.0 for slow_s in copies_s), initial=0.0)
        cpu_sides = [cpu_s + waiting_s for cpu_s, waiting_s in zip(cpu_sides, held_up, strict=True)]
    return cpu_sides


def _gpu_sides(
    others: list[_Priced],
    copies_s: list[float],
    resident_s: float,
    staging_slots: int,
    residents_first: bool,
) -> list[float]:
    """For each k: when the GPU is done with the residents and the first k streamed (the docstring's pipeline)."""
    sides = [resident_s]
    computed, waiting_s = (resident_s, 0.0) if residents_first else (0.0, resident_s)
    done = [computed]
    copied = 0.0
    for index, ((_, _, _, gpu_s), copy_s) in enumerate(zip(others, copies_s, strict=True)):
        if index >= staging_slots:
            slot_free = done[index - staging_slots + 1]
            copied = slot_free if slot_free > copied else copied
        copied += copy_s
        if copied > computed:
            if waiting_s:
                waiting_s = max(0.0, waiting_s - (copied - computed))
            computed = copied
        computed += gpu_s
        done.append(computed)
        sides.append(computed + waiting_s)
    return sides


def _least_calls(residents: list[_Priced], group_visits: int) -> int:
    """The fewest calls that residents can be launched with."""
    by_visits = -(-sum(item[1] for item in residents) // group_visits)
    return min(len(residents), max(by_visits, -(-len(residents) // GROUP_EXPERTS)))


def groups(runs: Sequence[ExpertRun], group_visits: int) -> Iterator[list[ExpertRun]]:
    """The GPU's runs by calls: residents that follow each other together, as many as one takes; all others alone.

    Args:
        runs: Residents and streamed ones, in order.
        group_visits: As for `plan_layer`.
    """
    group: list[ExpertRun] = []
    for run in runs:
        if group and not _joins(run, group, group_visits):
            yield group
            group = []
        group.append(run)
    if group:
        yield group


def _joins(run: ExpertRun, group: list[ExpertRun], group_visits: int) -> bool:
    """Whether a run is part of the call before it."""
    if not (run.place == group[-1].place == "gpu") or len(group) >= GROUP_EXPERTS:
        return False
    return run.tokens + sum(other.tokens for other in group) <= group_visits


def _filling_gaps(
    residents: list[ExpertRun], streamed: list[ExpertRun], staging_slots: int, call_s: float, group_visits: int
) -> tuple[list[ExpertRun], float]:
    """Residents among streamed experts, one whenever the next copy would be waited for; and when all is done."""
    order: list[ExpertRun] = []
    group: list[ExpertRun] = []
    waiting = residents[::-1]
    done: list[float] = []
    computed = copied = 0.0

    def next_resident_s() -> float:
        """Launch one more resident, with others if it can be."""
        nonlocal group
        run = waiting.pop()
        joins = bool(group) and _joins(run, group, group_visits)
        group = [*group, run] if joins else [run]
        order.append(run)
        return run.gpu_s - call_s if joins else run.gpu_s

    for index, run in enumerate(streamed):
        if index >= staging_slots:
            copied = max(copied, done[index - staging_slots])
        copied += run.copy_s
        while waiting and computed < copied:
            computed += next_resident_s()
        order.append(run)
        group = []
        computed = max(computed, copied) + run.gpu_s
        done.append(computed)
    while waiting:
        computed += next_resident_s()
    return order, computed


def _best_prefix(cpu_sides: list[float], gpu_sides: list[float]) -> int:
    """How many to stream for the least longer side."""
    best, best_s = 0, max(cpu_sides[0], gpu_sides[0])
    for index, (cpu_s, gpu_s) in enumerate(zip(cpu_sides, gpu_sides, strict=True)):
        longer_s = cpu_s if cpu_s > gpu_s else gpu_s
        if longer_s < best_s * _TIE:
            best, best_s = index, longer_s
    return best
