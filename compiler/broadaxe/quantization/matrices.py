"""A square matrix for every row of a layer: one for all of them, or one for the rows of each group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GATHERED = 1 << 22
"""Elements of rows' own matrices that are held at once."""


@dataclass(frozen=True, eq=False)
class Matrices:
    """Square matrices by row.

    Attributes:
        values: shape (inputs, inputs), or (groups, inputs, inputs).
        owner: group of each row, shape (rows,), where there are groups.
    """

    values: Tensor
    owner: Tensor | None = None

    def of(self, rows: Tensor) -> Matrices:
        """For some of the rows, or for rows repeated."""
        return self if self.owner is None else Matrices(self.values, self.owner[rows])

    def to(self, dtype: torch.dtype) -> Matrices:
        return Matrices(self.values.to(dtype), self.owner)

    @property
    def transposed(self) -> Matrices:
        return Matrices(self.values.mT, self.owner)

    def tril(self) -> Matrices:
        return Matrices(self.values.tril(), self.owner)

    def permuted(self, order: Tensor) -> Matrices:
        """With inputs in another order."""
        return Matrices(self.values[..., order, :][..., order].contiguous(), self.owner)

    def left(self, rows: Tensor) -> Tensor:
        """row @ matrix, shape (rows, inputs)."""
        if self.owner is None:
            return rows @ self.values
        size = max(1, GATHERED // self.values[0].numel())
        parts = zip(rows.split(size), self.owner.split(size), strict=True)
        return torch.cat([torch.einsum("ri,rij->rj", part, self.values[owner]) for part, owner in parts])

    def diagonal(self) -> Tensor:
        """Shape (inputs,), or (rows, inputs)."""
        found = self.values.diagonal(dim1=-2, dim2=-1)
        return found if self.owner is None else found[self.owner]

    def pivots(self) -> list[float] | list[Tensor]:
        """The diagonal, input by input: a number for all rows, or one for each, shape (rows,); infinite in place of zero."""
        found = self.diagonal()
        found = torch.where(found > 0, found, torch.inf)
        return found.tolist() if self.owner is None else list(found.T.contiguous())

    def row(self, i: int, start: int, stop: int) -> Tensor:
        """Entries (i, start:stop): shape (stop - start,), or one column a row, (stop - start, rows)."""
        part = self.values[..., i, start:stop]
        return part if self.owner is None else part[self.owner].T

    def rows_at(self, i: Tensor) -> Tensor:
        """Matrix rows of shape (rows, count, inputs) for inputs i, shape (rows, count)."""
        return self.values[i] if self.owner is None else self.values[self.owner[:, None], i]

    def block_times(self, rows: slice, columns: slice, terms: Tensor) -> Tensor:
        """matrix[rows, columns] @ terms, shape (inputs of the block, rows); terms in columns, shape (columns, rows)."""
        part = self.values[..., rows, columns]
        return part @ terms if self.owner is None else torch.einsum("rij,jr->ir", part[self.owner], terms)


def combined(terms: Tensor, coefficients: Tensor) -> Tensor:
    """sum_i coefficients_i * terms_i, shape (rows,); terms of shape (inputs, rows), coefficients as `Matrices.row` gives."""
    return terms.T @ coefficients if coefficients.dim() == 1 else torch.linalg.vecdot(terms, coefficients, dim=0)


def spread(coefficients: Tensor, moves: Tensor, out: Tensor) -> None:
    """Add coefficients_i * moves to out_i, shape (inputs, rows)."""
    if coefficients.dim() == 1:
        out.addr_(coefficients, moves)
    else:
        out.addcmul_(coefficients, moves[None])
