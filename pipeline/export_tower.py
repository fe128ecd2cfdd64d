"""The user tower as SavedModel and as LiteRT, and the proof that both compute what Keras does."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.errors import ArtifactError
from serving.tower import OUTPUT, SIGNATURE
from serving.tower import UserTower as LiteRtTower
from towers.keras import keras, tf

PARITY = 1e-5


def save_tower(tower: keras.Model, spec: Mapping[str, tuple[int, ...]], directory: Path) -> dict[str, str]:
    """Write `user_tower/` (SavedModel) and `user_tower.tflite` into the directory, both of any batch size.

    Args:
      tower: its `serve` takes a dict of int32 tensors and returns float32 [B, D], or [B, K, D].
      spec: the shape of each input without the batch dimension.
    Returns: for each input its name in the signature of both files.
    """
    tensors = {name: f"input_{i}" for i, name in enumerate(spec)}  # a signature takes no spaces or dots
    signature = {name: tf.TensorSpec((None, *spec[name]), tf.int32, name=tensors[name]) for name in spec}
    module = tf.Module()
    module.encode = tf.function(lambda inputs: {OUTPUT: tower.serve(inputs)}, input_signature=[signature])
    traced = module.encode.get_concrete_function()
    module.state = tower.variables  # not the Keras model, which would add metadata that only Keras reads
    saved = str(directory / "user_tower")
    tf.saved_model.save(module, saved, signatures={SIGNATURE: traced})
    converted = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=[SIGNATURE]).convert()
    (directory / "user_tower.tflite").write_bytes(converted)
    return tensors


def check_parity(
    tower: keras.Model, inputs: Mapping[str, np.ndarray], tensors: dict[str, str], directory: Path
) -> dict[str, float]:
    """Compare both files with Keras on n encoded users, together and one alone.

    Returns: the largest difference of each file, relative where vectors are longer than 1.
    Raises ArtifactError when one differs by more than PARITY.
    """
    expected = tower({name: tf.constant(values) for name, values in inputs.items()}, training=False).numpy()
    expected = expected.reshape(len(expected), -1, expected.shape[-1])  # (B, D) -> (B, 1, D)
    signature = tf.saved_model.load(str(directory / "user_tower")).signatures[SIGNATURE]
    litert = LiteRtTower(directory / "user_tower.tflite", tensors)
    scale = max(1.0, float(np.abs(expected).max()))
    differences = {"saved_model": 0.0, "litert": 0.0}
    for part in (slice(None), slice(0, 1)):
        batch = {name: values[part] for name, values in inputs.items()}
        by_tensor = {tensors[name]: tf.constant(values) for name, values in batch.items()}
        answers = {"saved_model": signature(**by_tensor)[OUTPUT].numpy(), "litert": litert(batch)}
        answers["saved_model"] = answers["saved_model"].reshape(answers["litert"].shape)
        for name, answer in answers.items():
            differences[name] = max(differences[name], float(np.abs(answer - expected[part]).max()) / scale)
    for name, difference in differences.items():
        if not difference <= PARITY:  # a NaN is refused too
            raise ArtifactError(
                f"the exported user tower ({name}) differs from Keras by {difference:.2g} > {PARITY:.0e}"
            )
    return differences
