"""Digests of what a job found, whoever ran it: equal for equal content, whatever the order of rows and indices.

    python -m benchmarks.job_results user_sequences WORKDIR/prepared
    python -m benchmarks.job_results user_sequences FOLDER --known WORKDIR/prepared

The first is of our artefacts, the second of a peer's results; `--known` names our artefacts, whose vocabulary says
which items a sequence knows. Prints a JSON object: by name a checksum, or numbers.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.workbench import Digest
from pipeline.artifacts import open_artifact
from pipeline.catalogue import Vocabularies

ARTEFACT_VERSION = 1


def checksum(*columns: np.ndarray) -> str:
    """The rows of some integer columns [n] as a multiset: their number and the sum of their hashes."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed = pd.util.hash_array(mixed * np.uint64(31) + pd.util.hash_array(column.astype(np.uint64)))
    return f"{len(mixed)} rows, {int(mixed.sum(dtype=np.uint64)):016x}"


def hash_strings(values: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Strings [n] -> uint64 [n]."""
    return pd.util.hash_array(values.cast(pa.string()).to_numpy(zero_copy_only=False), categorize=False)


# ---- the digest of each job


def digest_vocabularies(files: dict[str, Path]) -> Digest:
    """Of the files of a vocabularies artefact: values and counts of each, and the boundaries."""
    digest: Digest = {}
    for name, path in files.items():
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            digest[name] = checksum(hash_strings(table["value"]), table["count"].to_numpy())
        else:
            digest |= json.loads(path.read_text(encoding="utf-8"))
    return digest


def digest_user_sequences(table: pa.Table, users: np.ndarray, items: np.ndarray) -> Digest:
    """Of rows of user, items, timestamps, train_end, validation_end.

    users, items: the hash of each index, uint64; 0 for an unknown item.
    """
    lengths = pc.list_value_length(table["items"]).to_numpy()
    owner = users[table["user"].to_numpy()]
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    item, timestamp = (pc.list_flatten(table[name]).to_numpy() for name in ("items", "timestamps"))
    return {
        "events": checksum(np.repeat(owner, lengths), place, items[item], timestamp),
        "ends": checksum(owner, lengths, table["train_end"].to_numpy(), table["validation_end"].to_numpy()),
    }


def digest_session_cooccurrence(table: pa.Table, items: np.ndarray) -> Digest:
    """Of rows of item, neighbours, weights (whole numbers); items: the hash of each index, uint64."""
    owner = np.repeat(items[table["item"].to_numpy()], pc.list_value_length(table["neighbours"]).to_numpy())
    neighbour, weight = (pc.list_flatten(table[name]).to_numpy() for name in ("neighbours", "weights"))
    return {"neighbours": checksum(owner, items[neighbour], weight.astype(np.int64))}


def digest_mutual_information(path: Path) -> Digest:
    """Of mutual_information.json, whatever the order of its fields."""
    content = json.loads(path.read_text(encoding="utf-8"))
    order = np.argsort(content["fields"])
    matrix = np.asarray(content["matrix"])[np.ix_(order, order)]
    return {"fields": ", ".join(sorted(content["fields"])), "matrix": matrix.ravel().tolist()}


# ---- where the results are


def of_ours(job: str, prepared: Path) -> Digest:
    """The digest of an artefact in the folder `prepared` of a workdir."""
    artifact = open_artifact(prepared / job, job, ARTEFACT_VERSION)
    if job == "vocabularies":
        return digest_vocabularies({name: artifact.file(name) for name in artifact.manifest["files"]})
    if job == "mutual_information":
        return digest_mutual_information(artifact.file("mutual_information.json"))
    table = pa.concat_tables([pq.read_table(part) for part in artifact.parts("part-")])
    known = Vocabularies.read(prepared / "vocabularies")
    users, items = (
        np.append(np.zeros(1, np.uint64), hash_strings(vocabulary.values)) for vocabulary in (known.users, known.items)
    )
    if job == "user_sequences":
        return digest_user_sequences(table, users, items)
    return digest_session_cooccurrence(table, items)


def of_peer(job: str, folder: Path, known: Path) -> Digest:
    """The digest of what a peer wrote into a folder."""
    if job == "vocabularies":
        return digest_vocabularies({path.name: path for path in folder.iterdir()})
    if job == "mutual_information":
        return digest_mutual_information(folder / "mutual_information.json")
    table, items = pq.read_table(folder / f"{job}.parquet"), pq.read_table(folder / "item_ids.parquet")
    if job == "session_cooccurrence":
        return digest_session_cooccurrence(table, by_code(items))
    known_items = Vocabularies.read(known / "vocabularies").items.values
    hashes = by_code(items)
    hashes[items.filter(pc.invert(pc.is_in(items["value"].cast(pa.string()), known_items)))["code"].to_numpy()] = 0
    return digest_user_sequences(table, by_code(pq.read_table(folder / "user_ids.parquet")), hashes)


def by_code(ids: pa.Table) -> np.ndarray:
    """Rows of code and value -> the hash of the value of each code, 0 where there is none: uint64 [largest + 1]."""
    codes = ids["code"].to_numpy()
    hashes = np.zeros(1 + int(codes.max(initial=0)), dtype=np.uint64)
    hashes[codes] = hash_strings(ids["value"])
    return hashes


def main(argv: list[str] | None = None) -> None:
    """Print the digest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--known", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.known is None:
        digest = of_ours(arguments.job, arguments.folder)
    else:
        digest = of_peer(arguments.job, arguments.folder, arguments.known)
    print(json.dumps(digest))


if __name__ == "__main__":
    main()
