"""Where a step along the present update stops lowering the loss, and how sharply the loss is curved."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import OptionError
from .undisturbed import undisturbed

__all__ = ["CriticalLr", "critical_lr", "sharpness"]

FAR = 16.0  # the most that one pass goes beyond the last


@dataclass(frozen=True)
class CriticalLr:
    """What `critical_lr` found.

    Attributes:
        lr: η_c; None where the loss does not fall at all (`high` says down to where), or does not rise again (`low`).
        low: the largest lr that was seen to lower the loss, short of `high`; None if none did.
        high: the smallest lr that was seen not to; None if all lowered it.
        passes: forward passes made.
    """

    lr: float | None
    low: float | None
    high: float | None
    passes: int

    @property
    def sharpness(self) -> float | None:
        """The critical sharpness λ_c = 2 / η_c."""
        return None if self.lr is None else 2.0 / self.lr


def critical_lr(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    update: Sequence[Tensor | None],
    lr: float,
    *,
    model: nn.Module | None = None,
    passes: int = 9,
    tolerance: float = 0.05,
) -> CriticalLr:
    """The lr at which a step along the update leaves the loss where it was, by a few forward passes.

        L(θ − η_c u) = L(θ),  η_c > 0

    Below η_c a step lowers the loss of this batch, above it raises it; on a quadratic with Hessian H,
    η_c = 2 gᵀu / uᵀHu, and for gradient descent 2/η_c is at most the sharpness. It is looked for from `lr` on, so that
    of several it is one near there: f(η) = (L(θ − ηu) − L(θ)) / η is a straight line on a quadratic, and two passes
    tell where it meets zero; further ones close in, by secants, or halve the bracket in log η where a loss is not
    finite. Differences within the rounding of L count as none: the lr is then too small to tell, and larger ones are
    tried.

    Parameters, buffers and random states are as before, to the bit, and the mode of the model stays. The parameters
    are written to meanwhile: call it outside of forward and backward passes. Each pass waits for its loss.

    Args:
        loss: the loss of one fixed batch, as the model is now; random numbers are the same in every pass.
        parameters: θ.
        update: u, a tensor for each parameter, or None where it does not move: the gradient for plain gradient
            descent, (θ_t − θ_{t+1}) / lr for any rule.
        lr: where to begin; the present one.
        model: whose buffers are to be put back; None if it has none.
        passes: the most forward passes, at least 3; default 9.
        tolerance: relative width of the bracket at which it ends; default 5%.

    Raises:
        OptionError: `lr`, `passes` or `update` cannot be used.

    Source: critical sharpness, arXiv 2601.16979.

    >>> theta = torch.tensor([1.0, 1.0])
    >>> found = critical_lr(lambda: 5 * theta.square().sum(), [theta], [10 * theta.clone()], lr=0.01)
    >>> round(found.lr, 4), theta
    (0.2, tensor([1., 1.]))
    """
    if not (math.isfinite(lr) and lr > 0):
        raise OptionError(f"The lr to begin at is {lr}.", "Give a finite number above 0.")
    if passes < 3:
        raise OptionError(f"passes is {passes}.", "Give at least 3.")
    if len(update) != len(parameters):
        raise OptionError(
            f"There are {len(parameters)} parameters and {len(update)} updates.", "Give one for each, or None."
        )
    moving = [(p, u) for p, u in zip(parameters, update, strict=True) if u is not None]
    starts = [p.detach().clone() for p, _ in moving]
    with undisturbed([p for p, _ in moving], model) as again, torch.no_grad():

        def at(lr: float) -> float:
            again()
            for (p, u), start in zip(moving, starts, strict=True):
                p.detach().copy_(torch.sub(start, u, alpha=lr))
            return float(loss())

        value = loss()
        start = float(value)
        if not math.isfinite(start):
            return CriticalLr(None, None, None, 1)
        rounding = 4 * torch.finfo(value.dtype).eps * abs(start)

        def difference(lr: float) -> float:
            found = at(lr) - start
            return found if math.isfinite(found) else math.inf

        return _search(difference, lr, rounding, passes, tolerance)


def _search(
    difference: Callable[[float], float], lr: float, rounding: float, passes: int, tolerance: float
) -> CriticalLr:
    """The lr at which the difference is zero, from `lr` on; one pass is over, for the loss at the start.

    Points are (lr, difference / lr), the slopes that are a straight line on a quadratic.
    """
    low: tuple[float, float] | None = None  # below zero
    high: tuple[float, float] | None = None  # above
    known: list[tuple[float, float]] = []
    made, far, guess = 1, 2.0, None
    margin = 1 + tolerance / 2
    while made < passes:
        value, made = difference(lr), made + 1
        if abs(value) <= rounding:
            # Zero for being there, or for being too close to the start? There, the slopes seen so far make more of it.
            steepest = max((abs(slope) for _, slope in known if math.isfinite(slope)), default=0.0)
            if steepest * lr > 16 * rounding:
                return CriticalLr(lr, low and low[0], high and high[0], made)
            if high is not None:
                break
            lr *= FAR
            continue
        known.append((lr, value / lr))
        if value < 0:
            low = known[-1] if low is None or lr > low[0] else low
        elif high is None or lr < high[0]:
            high = known[-1]
        guess = _root(known[-2:])
        if low is not None and high is not None:
            if guess is None or not low[0] < guess < high[0]:
                guess = _root([low, high]) or math.sqrt(low[0] * high[0])
            if high[0] <= low[0] * (1 + tolerance) or abs(lr / guess - 1) <= tolerance / 5:
                break
            if not math.isfinite(high[1]):
                guess = math.sqrt(low[0] * high[0])
            # A secant that stays at one end leaves the bracket wide: keep clear of the ends.
            lr = min(max(guess, low[0] * margin), high[0] / margin)
        elif low is not None:  # a secant is taken a little further, so that it brackets
            lr = min(max(guess * margin if guess else 0.0, lr * far), lr * FAR)
            far = min(far * 2, FAR)
        else:
            lr = max(min(guess / margin if guess else lr, lr / far), lr / FAR)
            far = min(far * 2, FAR)
    if low is None or high is None:
        return CriticalLr(None, low and low[0], high and high[0], made)
    if guess is None or not low[0] <= guess <= high[0]:
        guess = math.sqrt(low[0] * high[0])
    return CriticalLr(guess, low[0], high[0], made)


def _root(points: Sequence[tuple[float, float]]) -> float | None:
    """Where the straight line through two points meets zero from below; None if it does not, at an lr above 0."""
    if len(points) < 2 or not all(math.isfinite(value) for _, value in points):
        return None
    (a, at_a), (b, at_b) = sorted(points)
    if at_b <= at_a:
        return None
    root = a - at_a * (b - a) / (at_b - at_a)
    return root if root > 0 else None


def sharpness(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    *,
    model: nn.Module | None = None,
    iterations: int = 100,
    tolerance: float = 1e-4,
) -> float:
    """The Hessian's eigenvalue of largest modulus, by power iteration: v ← Hv / ‖Hv‖, λ = vᵀHv.

    Slow: each iteration is a backward pass through a backward pass. Parameters, gradients (`.grad`), buffers and
    random states are as before, to the bit.

    Args:
        loss: the loss of one fixed batch, twice differentiable.
        parameters: θ, which require gradients.
        model: whose buffers are to be put back; None if it has none.
        iterations: the most; default 100.
        tolerance: relative change of λ at which it ends; default 1e-4.
    """
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device) for p in parameters]
    eigenvalue = math.nan
    with undisturbed(parameters, model) as again, torch.enable_grad():
        for _ in range(iterations):
            norm = math.sqrt(sum(float(v.square().sum()) for v in vectors))
            if norm == 0:
                return 0.0
            vectors = [v / norm for v in vectors]
            again()
            gradients = torch.autograd.grad(loss(), parameters, create_graph=True, materialize_grads=True)
            product = sum(((g * v).sum() for g, v in zip(gradients, vectors, strict=True)), torch.zeros(()))
            if not product.requires_grad:  # a loss that is linear
                return 0.0
            turned = torch.autograd.grad(product, parameters, materialize_grads=True)
            before, eigenvalue = (
                eigenvalue,
                float(sum((v * t).sum() for v, t in zip(vectors, turned, strict=True))),
            )
            if abs(eigenvalue - before) <= tolerance * abs(eigenvalue):
                break
            vectors = list(turned)
    return eigenvalue
