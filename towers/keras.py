"""The one place TensorFlow is imported from: `from towers.keras import keras, tf, tfrs`.

TensorFlow Recommenders needs tf.keras 2 (docs/adr/0001-tf-keras-2.md), which TensorFlow only gives when
TF_USE_LEGACY_KERAS is set before its first import.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

if "tensorflow" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") != "1":
    raise ImportError(
        "TensorFlow was imported before towers.keras could select tf.keras 2. "
        "Cure: import towers.keras first, or set TF_USE_LEGACY_KERAS=1 in the environment"
    )
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Its C++ errors come as Python exceptions too; what else it logs is that this machine has no GPU.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def _silenced() -> Iterator[None]:
    """Nothing reaches stderr: on import TensorFlow writes lines there that no setting of its own stops."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


with _silenced():
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

keras = tf.keras

__all__ = ["keras", "tf", "tfrs"]
