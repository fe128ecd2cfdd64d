"""TensorBoard's event files and projector, written without TensorBoard, which only reads them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from towers.keras import tf

PROJECTOR, VECTORS, LABELS = "projector_config.pbtxt", "item_vectors.tsv", "item_labels.tsv"


class EventFile:
    """A new event file in a folder; TensorBoard reads several of one folder as one run."""

    def __init__(self, directory: Path) -> None:
        self.writer = tf.summary.create_file_writer(str(directory))
        # What tf.summary.scalar writes; that itself asks for TensorBoard to be installed.
        self.kind = tf.compat.v1.SummaryMetadata()
        self.kind.plugin_data.plugin_name = "scalars"
        self.kind.data_class = 1  # DATA_CLASS_SCALAR

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One point of each curve."""
        with self.writer.as_default():
            for name, value in values.items():
                tf.summary.write(name, tf.constant(value, tf.float32), step=step, metadata=self.kind)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def write_projector(directory: Path, vectors: np.ndarray, labels: Mapping[str, list[str]]) -> None:
    """Give the projector tab vectors float [n, D] and their labels, n a column."""
    np.savetxt(directory / VECTORS, vectors, fmt="%.5g", delimiter="\t")
    rows = [list(labels), *zip(*labels.values(), strict=True)]
    text = "\n".join("\t".join(" ".join(str(cell).split()) for cell in row) for row in rows)
    (directory / LABELS).write_text(text + "\n", encoding="utf-8")
    (directory / PROJECTOR).write_text(
        f'embeddings {{\n  tensor_name: "items"\n  tensor_path: "{VECTORS}"\n  metadata_path: "{LABELS}"\n}}\n',
        encoding="utf-8",
    )
