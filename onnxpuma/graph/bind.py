"""Fix inputs of a model to given values, as a merged decoder becomes one of its branches; or, conversely,
make a weight an input of each request."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpuma.errors import ConfigError


def bind(model: ir.Model, values: Mapping[str, np.ndarray | bool | int | float]) -> None:
    """Replace the inputs named in `values` by constants; `canonicalise` then takes the branches they choose.

    An If on a constant is replaced by its branch: {"use_cache_branch": True} reduces a merged decoder to the
    decoder with a cache. Raises ConfigError for a name that is no input, and for a value whose kind or shape
    is not the input's.
    """
    inputs = {v.name: v for v in model.graph.inputs}
    for name, given in values.items():
        value = inputs.get(name)
        if value is None:
            raise ConfigError(
                f"no input is named '{name}'", f"the model's inputs are {', '.join(map(str, inputs))}"
            )
        wanted = np.dtype(value.dtype.numpy()) if value.dtype is not None else np.asarray(given).dtype
        array = np.asarray(given)
        if array.dtype.kind != wanted.kind:
            raise ConfigError(
                f"input '{name}' takes {wanted}, not {array.dtype}", "give a value of that kind"
            )
        array = _fitted(array.astype(wanted), value)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
        model.graph.register_initializer(value)


def take_branches(model: ir.Model, values: Mapping[str, np.ndarray | bool | int | float]) -> None:
    """`bind`, and reduce the model to its taken branches.

    Removes an input that nothing reads any more, and an output that is an empty constant: it exists only
    because both branches must return equally many.
    """
    from onnxscript.optimizer import fold_constants  # half a second, which no server needs to spend

    before = _read(model)
    bind(model, values)
    choices = [node for node in model.graph.all_nodes() if node.op_type == "If"]
    fold_constants(
        model, onnx_shape_inference=False, should_fold=lambda node: None if node.op_type == "If" else False
    )
    for choice in choices:
        if choice.graph is None:  # it was folded, but its branches still count as readers
            _let_go(choice)
    passes.RemoveUnusedNodesPass()(model)
    read = _read(model)
    for value in [v for v in model.graph.inputs if v in before and v not in read]:
        model.graph.inputs.remove(value)
    for value in [v for v in model.graph.outputs if _is_empty(v)]:
        model.graph.outputs.remove(value)


def free(model: ir.Model, names: Collection[str]) -> None:
    """Turn the named inputs that have a default value into plain inputs: a weight that the file lists among
    its inputs, such as the factor of an adapter, is then given with each request."""
    for value in model.graph.inputs:
        if value.name in names and value.name in model.graph.initializers:
            del model.graph.initializers[value.name]
            value.const_value = None


def _read(model: ir.Model) -> set[ir.Value]:
    return {value for node in model.graph.all_nodes() for value in node.inputs if value is not None}


def _let_go(choice: ir.Node) -> None:
    """Remove the untaken branch from the readers of weights."""
    for attribute in choice.attributes.values():
        for graph in [attribute.as_graph()] if attribute.type == ir.AttributeType.GRAPH else []:
            for node in graph.all_nodes():
                for place in range(len(node.inputs)):
                    node.replace_input_with(place, None)


def _is_empty(value: ir.Value) -> bool:
    constant = ir.convenience.get_const_tensor(value)
    return constant is not None and constant.size == 0


def _fitted(array: np.ndarray, value: ir.Value) -> np.ndarray:
    """Give a single number the input's shape, where that is known."""
    if value.shape is None:
        return array
    dims = [d if isinstance(d, int) else None for d in value.shape]
    if array.ndim == 0 and None not in dims:
        return np.full([d for d in dims if d is not None], array)
    if len(dims) != array.ndim or any(d not in (None, n) for d, n in zip(dims, array.shape, strict=True)):
        raise ConfigError(
            f"input '{value.name}' has shape {list(value.shape)}, not {list(array.shape)}",
            "give a value of that shape",
        )
    return array
