"""NSGA-II as pymoo has it, over numbers that stand for architectures. pymoo is imported when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from onnx_ghn.arrays import Array

__all__ = ["Breeder", "nsga2", "tell"]


class Breeder(Protocol):
    """Makes new numbers of old ones."""

    def children(self, first: int, second: int, rng: np.random.Generator) -> tuple[int, int]:
        """Two crossed."""

    def mutant(self, number: int, rng: np.random.Generator) -> int:
        """One changed."""


def nsga2(first: Sequence[int], population: int, seed: int, breeder: Breeder) -> Any:
    """The algorithm, begun with the numbers of the first population; `ask` it for numbers, and `tell` it of them."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.crossover import Crossover
    from pymoo.core.mutation import Mutation
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination

    class Crossed(Crossover):  # type: ignore[misc]  # pymoo ships no types
        def __init__(self) -> None:
            super().__init__(n_parents=2, n_offsprings=2)

        def _do(self, problem: Any, X: Array, *_: Any, random_state: np.random.Generator, **__: Any) -> Array:
            """(2, matings, 1) -> (2, matings, 1)"""
            pairs = [
                breeder.children(int(a), int(b), random_state) for a, b in zip(X[0, :, 0], X[1, :, 0], strict=True)
            ]
            return np.array(pairs).T[:, :, None]

    class Mutated(Mutation):  # type: ignore[misc]
        def _do(self, problem: Any, X: Array, *_: Any, random_state: np.random.Generator, **__: Any) -> Array:
            """(n, 1) -> (n, 1)"""
            return np.array([[breeder.mutant(int(number), random_state)] for number in X[:, 0]])

    algorithm = NSGA2(pop_size=population, sampling=np.array(first)[:, None], crossover=Crossed(), mutation=Mutated())
    algorithm.setup(Problem(n_var=1, n_obj=2), termination=NoTermination(), seed=seed, verbose=False)
    return algorithm


def tell(algorithm: Any, asked: Any, aims: Array, excess: Array) -> None:
    """What was found of the numbers asked for.

    Args:
        aims: (n, 2), to be small.
        excess: (n, limits); what is above 0 breaks a limit.
    """
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.problem import Problem
    from pymoo.problems.static import StaticProblem

    problem = Problem(n_var=1, n_obj=2, n_ieq_constr=excess.shape[1])
    Evaluator().eval(StaticProblem(problem, F=aims, G=excess), asked)
    algorithm.tell(infills=asked)
