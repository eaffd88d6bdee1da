"""Post-training quantization under accumulator budgets: solvers on tensors, and the walk that applies them to a model."""
