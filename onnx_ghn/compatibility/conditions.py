"""Predicates over a node, of which the conditions of the table are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
import onnx_ir as ir

__all__ = ["PREDICATES", "holds"]

_DEFAULT_DOMAINS = ("", "ai.onnx")


def holds(when: Mapping[str, object], node: ir.Node, opset: int) -> bool:
    """Whether all predicates of a condition hold for a node of ONNX's own operators.

    Args:
        when: arguments by the names of predicates.
        opset: the version of ONNX's operators in the model.
    """
    return node.domain in _DEFAULT_DOMAINS and all(
        PREDICATES[name](argument, node, opset) for name, argument in when.items()
    )


def _attribute(node: ir.Node, name: str, opset: int) -> object:
    """Its value, or the default of the operator's definition; None where there is neither."""
    if name in node.attributes:
        given = node.attributes[name]
        return None if given.is_ref() else _plain(given.value)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
    declared = schema.attributes.get(name)
    if declared is None or declared.default_value is None or not declared.default_value.type:
        return None
    return _plain(onnx.helper.get_attribute_value(declared.default_value))


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _mapping(argument: object) -> Mapping[str, Sequence[object]]:
    assert isinstance(argument, dict)
    return argument


def _sequence(argument: object) -> Sequence[object]:
    assert isinstance(argument, list)
    return argument


def _number(argument: object) -> int:
    assert isinstance(argument, int)
    return argument


def _at(values: Sequence[ir.Value | None], index: object) -> ir.Value | None:
    assert isinstance(index, int)
    return values[index] if index < len(values) else None


def _operators(argument: object, node: ir.Node, opset: int) -> bool:
    """The operator is one of these."""
    return node.op_type in _sequence(argument)


def _attributes(argument: object, node: ir.Node, opset: int) -> bool:
    """Each attribute, or its default, has one of the values."""
    return all(_attribute(node, name, opset) in values for name, values in _mapping(argument).items())


def _attributes_not(argument: object, node: ir.Node, opset: int) -> bool:
    """Each attribute, or its default, has none of the values."""
    return all(_attribute(node, name, opset) not in values for name, values in _mapping(argument).items())


def _attributes_present(argument: object, node: ir.Node, opset: int) -> bool:
    """The node says these attributes itself."""
    return all(name in node.attributes for name in _sequence(argument))


def _attributes_containing(argument: object, node: ir.Node, opset: int) -> bool:
    """Each attribute is a text that holds this one."""
    return all(str(text) in str(_attribute(node, name, opset)) for name, text in _mapping(argument).items())


def _inputs(argument: object, node: ir.Node, opset: int) -> bool:
    """These inputs are there."""
    return all(_at(node.inputs, index) is not None for index in _sequence(argument))


def _inputs_absent(argument: object, node: ir.Node, opset: int) -> bool:
    """These inputs are left out."""
    return all(_at(node.inputs, index) is None for index in _sequence(argument))


def _outputs(argument: object, node: ir.Node, opset: int) -> bool:
    """These outputs are named."""
    return all((value := _at(node.outputs, index)) is not None and bool(value.name) for index in _sequence(argument))


def _outputs_absent(argument: object, node: ir.Node, opset: int) -> bool:
    """These outputs are not named."""
    return not any((value := _at(node.outputs, index)) is not None and value.name for index in _sequence(argument))


def _stored(argument: object, node: ir.Node, opset: int) -> bool:
    """These inputs are stored in the file."""
    return all(
        (value := _at(node.inputs, index)) is not None and value.is_initializer() for index in _sequence(argument)
    )


def _ranks(argument: object, node: ir.Node, opset: int) -> bool:
    """Each input has one of these numbers of dimensions; one whose shape is unknown has not."""
    for index, ranks in _mapping(argument).items():
        value = _at(node.inputs, int(index))
        if value is None or value.shape is None or len(value.shape) not in ranks:
            return False
    return True


def _types(argument: object, node: ir.Node, opset: int) -> bool:
    """Each input has one of these element types; one whose type is unknown has not."""
    for index, names in _mapping(argument).items():
        value = _at(node.inputs, int(index))
        if value is None or value.dtype is None or value.dtype.name not in names:
            return False
    return True


def _read_by(argument: object, node: ir.Node, opset: int) -> bool:
    """One of these operators reads the first output."""
    return any(use.node.op_type in _sequence(argument) for use in node.outputs[0].uses())


def _reads(argument: object, node: ir.Node, opset: int) -> bool:
    """One of these operators gives the first input."""
    value = _at(node.inputs, 0)
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type in _sequence(argument)


def _opset_from(argument: object, node: ir.Node, opset: int) -> bool:
    """The model's opset is this one or a later one."""
    return opset >= _number(argument)


def _opset_below(argument: object, node: ir.Node, opset: int) -> bool:
    """The model's opset is before this one."""
    return opset < _number(argument)


#: By the name that the table has for each.
PREDICATES: Mapping[str, Callable[[object, ir.Node, int], bool]] = {
    "operators": _operators,
    "attributes": _attributes,
    "attributes_not": _attributes_not,
    "attributes_present": _attributes_present,
    "attributes_containing": _attributes_containing,
    "inputs": _inputs,
    "inputs_absent": _inputs_absent,
    "outputs": _outputs,
    "outputs_absent": _outputs_absent,
    "stored": _stored,
    "ranks": _ranks,
    "types": _types,
    "read_by": _read_by,
    "reads": _reads,
    "opset_from": _opset_from,
    "opset_below": _opset_below,
}
