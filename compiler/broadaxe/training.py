"""Brevitas modules: training on under an accumulator budget, and solved weights back into the module they came from.

from broadaxe.training import AccumulatorBudget

budget = AccumulatorBudget(module, x_train[:1], acc_bits=14)  # then optimizer.register_step_post_hook(budget)
"""

from broadaxe.quantization.load_weights import load_weights
from broadaxe.quantization.training import AccumulatorBudget

__all__ = ["AccumulatorBudget", "load_weights"]
