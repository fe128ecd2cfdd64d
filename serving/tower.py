"""The user tower on LiteRT: encoded request -> user vector."""

import threading
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

SIGNATURE = "serving_default"
OUTPUT = "user_vector"


class UserTower:
    """Runs `user_tower.tflite`. Safe to call from several threads, one at a time.

    Args:
      path: the LiteRT file.
      tensors: for each input its name in the file's signature, which allows fewer characters than a field name.
    """

    def __init__(self, path: Path, tensors: dict[str, str]) -> None:
        self._interpreter = Interpreter(str(path), num_threads=1)
        runner = self._interpreter.get_signature_runner(SIGNATURE)
        details = runner.get_input_details()
        self._tensors = {name: details[tensor]["index"] for name, tensor in tensors.items()}
        self._output = runner.get_output_details()[OUTPUT]["index"]
        self._batch = 0
        self._lock = threading.Lock()

    def __call__(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """int32 inputs [B, ...] by name -> user vectors float32 [B, K, D], K = 1 of a tower with one vector a user."""
        with self._lock:
            self._resize(inputs)
            for name, tensor in self._tensors.items():
                self._interpreter.set_tensor(tensor, inputs[name])
            self._interpreter.invoke()
            vectors = self._interpreter.get_tensor(self._output)
        return vectors if vectors.ndim == 3 else vectors[:, np.newaxis]  # (B, D) -> (B, 1, D)

    def _resize(self, inputs: dict[str, np.ndarray]) -> None:
        batch = len(next(iter(inputs.values())))
        if batch == self._batch:
            return
        for name, tensor in self._tensors.items():
            self._interpreter.resize_tensor_input(tensor, inputs[name].shape)
        self._interpreter.allocate_tensors()
        self._batch = batch
