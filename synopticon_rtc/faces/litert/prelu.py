"""Parametric rectifiers (PReLU): what is negative is multiplied by the slope of its channel."""

from typing import Any

import numpy as np
import numpy.typing as npt

NARROW = 16
"""Channels, of 4 bytes: fewer leave the widest registers of processors partly empty."""

_Floats = npt.NDArray[np.float32]

_IDENTIFIER = b"TFL3"
_RANK = 4  # pictures, rows, columns, channels


def widened(model: bytes) -> bytes:
    """Return a model that finds the same, bit by bit, and whose narrow PReLUs take a row of pixels at a time.

    XNNPACK, which runs models for LiteRT, calls a function for each pixel where each channel of one has a slope. The
    four PReLUs of MediaPipe's landmark model that have 8 channels and 128x128 pixels took an eighth of its time. Here
    a row of pixels is taken for one pixel that has the channels of all.

    Args:
        model: One that LiteRT can load: whether it is one is not looked at.
    """
    try:
        import ai_edge_litert.schema_py_generated as schema  # noqa: PLC0415
        import flatbuffers  # noqa: PLC0415 - old releases of LiteRT bring neither
    except ImportError:
        return model
    packed = schema.Model.GetRootAs(model)
    codes: list[Any] = [packed.OperatorCodes(index) for index in range(packed.OperatorCodesLength())]
    kinds = [max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes]  # old files have but the second
    if schema.BuiltinOperator.PRELU not in kinds:
        return model
    unpacked = schema.ModelT.InitFromObj(packed)
    _Editor(schema, unpacked, kinds).widen()
    builder = flatbuffers.Builder(len(model))
    builder.Finish(unpacked.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


class _Editor:
    """Changes a model that was read into the classes of LiteRT's schema, which have no types."""

    def __init__(self, schema: Any, model: Any, kinds: list[int]) -> None:  # noqa: ANN401
        self._schema = schema
        self._model = model
        self._graph = model.subgraphs[0]
        self._kinds = kinds

    def widen(self) -> None:
        """Put each narrow PReLU between two operators that give its numbers another shape."""
        kinds = self._schema.BuiltinOperator
        stored = {one.outputs[0]: one.inputs[0] for one in self._graph.operators if self._is(one, kinds.DEQUANTIZE)}
        operators = []
        for operator in self._graph.operators:
            if self._is(operator, kinds.PRELU):
                source, slope = operator.inputs
                shape = self._graph.tensors[source].shape
                slopes = self._numbers(stored.get(slope, slope))
                if len(shape) == _RANK and len(slopes) == shape[-1] < NARROW:
                    (result,) = operator.outputs
                    pictures, height, width, channels = (int(size) for size in shape)
                    row = [pictures, height, 1, width * channels]
                    operator.inputs = [self._tensor(row), self._constant(np.tile(slopes, width))]
                    operator.outputs = [self._tensor(row)]
                    operators += [
                        self._reshaping(source, operator.inputs[0], row),
                        operator,
                        self._reshaping(operator.outputs[0], result, [pictures, height, width, channels]),
                    ]
                    continue
            operators.append(operator)
        self._graph.operators = operators

    def _is(self, operator: Any, kind: int) -> bool:  # noqa: ANN401
        return bool(self._kinds[operator.opcodeIndex] == kind)

    def _numbers(self, index: int) -> _Floats:
        """Return what a tensor always holds, and nothing where that is not known."""
        tensor, types = self._graph.tensors[index], self._schema.TensorType
        kind = {types.FLOAT16: np.float16, types.FLOAT32: np.float32}.get(tensor.type)
        data = self._model.buffers[tensor.buffer].data
        if kind is None or data is None:
            return np.empty(0, np.float32)
        return np.frombuffer(bytes(data), kind).astype(np.float32)

    def _constant(self, numbers: _Floats) -> int:
        """Add a tensor that always holds these, and return its number."""
        self._model.buffers.append(_made(self._schema.BufferT, data=np.frombuffer(numbers.tobytes(), np.uint8)))
        return self._tensor([1, 1, len(numbers)], len(self._model.buffers) - 1)

    def _tensor(self, shape: list[int], buffer: int = 0) -> int:
        """Add a tensor, and return its number."""
        number = len(self._graph.tensors)
        values = {"shape": shape, "type": self._schema.TensorType.FLOAT32, "buffer": buffer, "name": f"row {number}"}
        self._graph.tensors.append(_made(self._schema.TensorT, **values))
        return number

    def _reshaping(self, source: int, result: int, shape: list[int]) -> Any:  # noqa: ANN401
        return _made(
            self._schema.OperatorT,
            opcodeIndex=self._code(self._schema.BuiltinOperator.RESHAPE),
            inputs=[source],
            outputs=[result],
            builtinOptionsType=self._schema.BuiltinOptions.ReshapeOptions,
            builtinOptions=_made(self._schema.ReshapeOptionsT, newShape=shape),
        )

    def _code(self, kind: int) -> int:
        """Return the number by which the operators of the model tell what they are."""
        if kind not in self._kinds:
            self._kinds.append(kind)
            code = _made(self._schema.OperatorCodeT, builtinCode=kind, deprecatedBuiltinCode=kind)
            self._model.operatorCodes.append(code)
        return self._kinds.index(kind)


def _made(kind: Any, **values: Any) -> Any:  # noqa: ANN401
    made = kind()
    for name, value in values.items():
        setattr(made, name, value)
    return made
