"""Beam job: the catalogue -> the mutual information of every two item fields (CFM, eq. 4).

Over the item corpus, where each item weighs 1: an item with the value sets A and B spreads mass 1 / (|A| |B|)
over their pairs. Natural logarithm. Numeric fields count by bucket, and a missing value is a value of its own.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam import pvalue

from beam_jobs import blocks
from beam_jobs.job import count, main, progress, run_pipeline
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import Vocabularies, encode_field
from pipeline.config import Config
from pipeline.tables import FieldSchema, Tables

KIND, VERSION = "mutual_information", 1

# ---- kernels


def value_sets(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A field table's column -> the value sets of its rows, as (codes [n], lengths [R]), row after row.

    column: int32 [R] or [R, M] with 0 as padding. A row without any known value has the set {0}.
    """
    if column.ndim == 1:
        return column, np.ones(len(column), dtype=np.int64)
    lengths = np.count_nonzero(column, axis=1)
    used = column > 0
    used[:, 0] |= lengths == 0
    return column[used], np.maximum(lengths, 1)


def joint_mass(a: np.ndarray, b: np.ndarray, size_b: int) -> tuple[np.ndarray, np.ndarray]:
    """The mass of each pair of values of two fields, summed over rows.

    a, b: columns int32 [R] or [R, M]. Returns: (a * size_b + b as int64, ascending; mass float64).
    """
    (codes_a, lengths_a), (codes_b, lengths_b) = value_sets(a), value_sets(b)
    pairs = lengths_a * lengths_b  # [R]
    within = np.arange(pairs.sum()) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    width = np.repeat(lengths_b, pairs)
    left = np.repeat(np.cumsum(lengths_a) - lengths_a, pairs) + within // width
    right = np.repeat(np.cumsum(lengths_b) - lengths_b, pairs) + within % width
    return blocks.sum_by_key(codes_a[left].astype(np.int64) * size_b + codes_b[right], np.repeat(1 / pairs, pairs))


def entropy(mass: np.ndarray) -> float:
    """H = - sum p log p of the masses of some values."""
    p = mass / mass.sum()
    return max(0.0, float(-(p * np.log(p)).sum()))


def mutual_information(keys: np.ndarray, mass: np.ndarray, size_b: int) -> float:
    """MI = sum p(a, b) log(p(a, b) / (p(a) p(b))) (CFM, eq. 4) = H(a) + H(b) - H(a, b).

    keys: a * size_b + b, distinct; mass: float64, positive.
    """
    _, mass_a = blocks.sum_by_key(keys // size_b, mass)
    _, mass_b = blocks.sum_by_key(keys % size_b, mass)
    return max(0.0, entropy(mass_a) + entropy(mass_b) - entropy(mass))


def corpus_masses(columns: Sequence[np.ndarray], sizes: Sequence[int]) -> Iterator[tuple[int, int, pa.Table]]:
    """What one slice of the corpus adds to every two fields: (i, j, table of key and mass).

    i = j: the marginal of field j, key = value. i < j: the joint mass. Field 0 is the id, which needs no values:
    each is a single row's own, so that MI(id, f) = H(f) - E[log |A_f|], H(f) where f has a single value. Its
    entry (0, j) carries the sum of log |A_j| over rows under key 0.

    columns: of the fields 1, 2, ...; sizes: their vocabulary sizes.
    """
    for j, column in enumerate(columns, start=1):
        codes, lengths = value_sets(column)
        yield 0, j, pa.table({"key": [0], "mass": [float(np.log(lengths).sum())]})
        keys, mass = blocks.sum_by_key(codes.astype(np.int64), np.repeat(1 / lengths, lengths))
        yield j, j, pa.table({"key": keys, "mass": mass})
        for i in range(1, j):
            keys, mass = joint_mass(columns[i - 1], column, sizes[j - 1])
            yield i, j, pa.table({"key": keys, "mass": mass})


def information_matrix(entries: dict[tuple[int, int], float], fields: int, items: int) -> list[list[float]]:
    """The symmetric matrix [fields][fields], entropies on its diagonal.

    entries: (0, j) the sum of log |A_j|; (j, j) the entropy of field j; (i, j), 0 < i < j, their MI.
    """
    matrix = [[0.0] * fields for _ in range(fields)]
    matrix[0][0] = math.log(items)
    for (i, j), value in sorted(entries.items()):
        if i == 0:
            value = max(0.0, entries[j, j] - value / items)
        matrix[i][j] = matrix[j][i] = value
    return matrix


# ---- Beam


class CountPairs(beam.DoFn):
    """(row group of the items table, or None for items outside it; weight of a row) -> (i * F + j, block)."""

    def __init__(self, vocabularies: Path, fields: Sequence[FieldSchema]) -> None:
        self.path, self.fields = str(vocabularies), list(fields)

    def setup(self) -> None:
        self.vocabularies = Vocabularies.read(self.path)

    def process(self, element: tuple[tuple[str, int] | None, int]) -> Iterator[tuple[int, bytes]]:
        source, weight = element
        if source is None:
            table = pa.table([pa.nulls(1, f.arrow_type) for f in self.fields], names=[f.name for f in self.fields])
        else:
            table = blocks.read_row_group(source)
        count("items", len(table) * weight)
        encoded = [encode_field(table[f.name], f, "item", self.vocabularies) for f in self.fields]
        for i, j, masses in corpus_masses([column for _, column in encoded], [field.size for field, _ in encoded]):
            weighted = masses.set_column(1, "mass", pa.array(masses["mass"].to_numpy() * weight))
            yield i * (len(self.fields) + 1) + j, blocks.pack(weighted)


def finish_pair(element: tuple[int, Iterable[bytes]], sizes: Sequence[int]) -> tuple[tuple[int, int], float]:
    """All blocks of a pair of fields -> its entry of `information_matrix`. sizes: of the fields 1, 2, ..."""
    i, j = divmod(element[0], len(sizes) + 1)
    table = blocks.concat(element[1])
    keys, mass = blocks.sum_by_key(table["key"].to_numpy(), table["mass"].to_numpy())
    if i == 0:
        return (i, j), float(mass[0])
    count("value_pairs" if i < j else "values", len(keys))
    return (i, j), entropy(mass) if i == j else mutual_information(keys, mass, sizes[j - 1])


def write_matrix(_: None, entries: dict[tuple[int, int], float], names: list[str], items: int, path: str) -> None:
    """Write mutual_information.json."""
    text = json.dumps({"fields": names, "matrix": information_matrix(entries, len(names), items)})
    blocks.write_part(path, lambda aside: Path(aside).write_text(text, encoding="utf-8"))


def build(pipeline: beam.Pipeline, tables: Tables, vocabularies: Vocabularies, folder: Path) -> None:
    """Add the whole job to a pipeline; it writes into `folder`."""
    fields = [f for f in tables.schema.item_fields if f.kind != "title"]
    known = blocks.row_groups([tables.artifact.file("items.parquet")])
    items = vocabularies.items.size - 1
    outside = items - tables.artifact.counts["items"]
    sources: list[tuple[tuple[str, int] | None, int]] = [(source, 1) for source in known]
    sizes = [encode_field(pa.chunked_array([], f.arrow_type), f, "item", vocabularies)[0].size for f in fields]
    entries = (
        pipeline
        | "row groups" >> beam.Create([*sources, *([(None, outside)] if outside else [])])
        | beam.Reshuffle()
        | beam.ParDo(CountPairs(vocabularies.artifact.path, fields)).with_output_types(tuple[int, bytes])
        | beam.GroupByKey()
        | beam.Map(finish_pair, sizes)
    )
    path, names = str(folder / "mutual_information.json"), ["item_id", *(f.name for f in fields)]
    once = pipeline | "once" >> beam.Create([None])
    once | "write" >> beam.Map(write_matrix, pvalue.AsDict(entries), names, items, path)


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the mutual information unless it is current. Needs the vocabularies."""
    tables = Tables.read(config.tables_dir)
    vocabularies = Vocabularies.read(config.prepared_dir("vocabularies"))
    inputs = {"tables": tables.artifact.fingerprint, "vocabularies": vocabularies.artifact.fingerprint}
    path, spec = config.prepared_dir(KIND), Spec(KIND, VERSION, inputs)
    if artifact := current(path, spec):
        return artifact
    with create(path, spec) as draft, progress(KIND, draft.dir, "*.json", 1):
        counts = run_pipeline(lambda pipeline: build(pipeline, tables, vocabularies, draft.dir), pipeline_args)
        draft.counts.update(counts)
    return open_artifact(path, KIND, VERSION)


if __name__ == "__main__":
    sys.exit(main(run))
