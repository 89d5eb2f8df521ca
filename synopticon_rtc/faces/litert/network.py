"""One model of the bundle."""

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from synopticon_rtc.errors import ModelError
from synopticon_rtc.faces.litert.bundle import Bundle
from synopticon_rtc.faces.litert.prelu import widened

Floats = npt.NDArray[np.float32]


class Network:
    """A model that LiteRT runs, in one thread: arrays in, arrays out.

    Args:
        bundle: The face model.
        name: Of the file in it.
        takes: The shape of its one input.
        gives: The sizes of its first outputs.

    Raises:
        ModelError: It is not there, or no such model.
    """

    def __init__(self, bundle: Bundle, name: str, takes: tuple[int, ...], gives: tuple[int, ...]) -> None:
        model = bundle.part(name)
        try:
            Interpreter(model_content=model)  # which looks at whether it is one
            self._interpreter: Any = Interpreter(model_content=widened(model), num_threads=1)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{name} cannot be loaded: {error}") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()[: len(gives)]
        found = [tuple(one["shape"].tolist()) for one in inputs], tuple(int(np.prod(one["shape"])) for one in outputs)
        if found != ([takes], gives):
            raise ModelError(f"{name} is another kind of model: it takes {found[0]} and gives {found[1]}")
        self._input = self._interpreter.tensor(inputs[0]["index"])
        self._outputs = [self._interpreter.tensor(one["index"]) for one in outputs]

    def input(self) -> Floats:
        """Return where to write the input before each run: it must not be kept."""
        array: Floats = self._input()
        return array

    def run(self) -> list[Floats]:
        """Return the first outputs, flat."""
        self._interpreter.invoke()
        return [output().ravel().copy() for output in self._outputs]
