"""Write the golden bundle of the format version that this code writes: tests/bundles/v<version>.zip.

    PYTHONPATH=. python tests/golden_bundle.py

Run once for every new version, by the code that introduces it, and never again: tests/test_bundle.py opens all of them.
The tower is a toy of two tiny tables, not a model that was trained.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from serving_fixture import ITEMS, config, write_inputs

from pipeline.artifacts import Spec
from pipeline.catalogue import Vocabularies
from pipeline.export import Sources, publish
from pipeline.sequences import UserSequences
from pipeline.tables import Tables
from serving.bundle import KIND, VERSION
from towers.keras import keras, tf

FOLDER = Path(__file__).resolve().parent / "bundles"
DIMENSION = 4
SPEC = {"history": (5,), "gender": (), "age": (), "interests": (3,)}


class Toy(keras.Model):
    """The sum of what the tables hold for the history and the gender."""

    def __init__(self, items: np.ndarray) -> None:
        super().__init__()
        self.items = self.add_weight("items", items.shape, initializer=keras.initializers.Constant(items))
        self.genders = self.add_weight("genders", (8, DIMENSION), initializer=keras.initializers.Constant(0.125))

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.reduce_sum(tf.gather(self.items, inputs["history"]), axis=1) + tf.gather(
            self.genders, inputs["gender"]
        )


class ToyModel:
    """What pipeline.export asks of a model."""

    def __init__(self) -> None:
        # A quarter is a float that no reader rounds.
        self.vectors = (np.random.default_rng(0).integers(-8, 9, (ITEMS + 1, DIMENSION)) / 4).astype(np.float32)
        self.user_tower = Toy(self.vectors)

    def user_input_spec(self) -> dict[str, tuple[int, ...]]:
        return SPEC

    def item_vectors(self, indices: np.ndarray) -> np.ndarray:
        return self.vectors[indices]

    def user_vectors(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self.user_tower({name: tf.constant(values) for name, values in inputs.items()}).numpy()


def write(workdir: Path) -> Path:
    """Publish the bundle under `workdir`."""
    settings = config(workdir, index="IVF4,Flat")
    write_inputs(settings)
    tables, vocabularies = Tables.read(settings.tables_dir), Vocabularies.read(settings.prepared_dir("vocabularies"))
    sequences = UserSequences.read(settings.prepared_dir("user_sequences"))
    sources = Sources(ToyModel(), tables, vocabularies, sequences)
    return Path(publish(settings.bundle_dir, Spec(KIND, VERSION), sources, settings.export).path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as workdir:
        bundle = write(Path(workdir))
        FOLDER.mkdir(exist_ok=True)
        print(shutil.make_archive(str(FOLDER / f"v{VERSION}"), "zip", bundle))
