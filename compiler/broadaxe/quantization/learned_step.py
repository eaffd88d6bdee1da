"""A step size that training moves, in place of one that Brevitas derives from the weights."""

from __future__ import annotations

from torch import Tensor, nn


class LearnedStep(nn.Module):  # type: ignore[misc]
    """Steps whose binary logarithms are parameters. Brevitas calls it for the scale.

    `settle` computes them; between two calls they stay, bit for bit and on every device, so that integers that were checked are
    those that are exported. The gradient goes to the logarithms.

    Attributes:
        log2: parameter, of the scale's shape.
        step: buffer of the same shape: what the quantizer divides by.
    """

    step: Tensor

    def __init__(self, step: Tensor, *, power_of_two: bool = False, learned: bool = True) -> None:
        super().__init__()
        self.power_of_two = power_of_two
        self.log2 = nn.Parameter(step.detach().double().log2().to(step.dtype), requires_grad=learned)
        self.register_buffer("step", step.detach().clone())
        self.settle()

    def next(self) -> Tensor:
        """The steps that the parameters stand for now."""
        log2 = self.log2.detach()
        return (log2.round() if self.power_of_two else log2).double().exp2().to(self.step.dtype)

    def settle(self) -> None:
        """Take the steps that the parameters stand for."""
        self.step.copy_(self.next())

    def forward(self, x: Tensor, threshold: Tensor | None = None) -> Tensor:
        live = self.log2.exp2()
        return self.step + (live - live.detach())
