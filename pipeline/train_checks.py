"""What is refused before the first step, with its cure: settings that cannot train, artefacts that do not fit together.

What a part of the model can only say itself (a field no tower knows, a title neighbour too few) it says when it is
built, which is before the first step too.
"""

import os

from pipeline.artifacts import Artifact, open_artifact
from pipeline.catalogue import NUMERIC_FILE
from pipeline.config import Config
from pipeline.errors import ArtifactError, ConfigError
from pipeline.tables import Tables
from ssl_tasks.registry import TASKS

COPIES = 3
"""Of what a batch embeds or scores a step holds at least: itself, what is made of it, a gradient."""


def check_settings(config: Config) -> None:
    """Refuse what no data could be trained with. Raises ConfigError."""
    negatives, tower, size = config.loss.negatives, config.tower, config.train.batch_size
    if not config.train.max_epochs and config.train.warm_start is None:
        raise ConfigError("`train.max_epochs` is 0: nothing is trained. Cure: 1 or more, or a `train.warm_start`")
    if size < 2 and not negatives.uniform:
        raise ConfigError(
            "`train.batch_size` is 1, but the negatives of `loss.negatives.in_batch` are the other examples of the "
            "batch. Cure: a larger batch, or `loss.negatives.uniform`"
        )
    _check_memory(config)
    if tower.kind == "ican" and tower.history_dim is not None and tower.history_dim % tower.heads:
        raise ConfigError(
            f"`tower.history_dim` {tower.history_dim} cannot be cut into `tower.heads` {tower.heads} equal parts. "
            "Cure: a multiple of it"
        )
    for name in switched_on(config):
        if getattr(config.tasks, name).batch_size < 2:
            raise ConfigError(f"`tasks.{name}.batch_size` is 1: an item needs others to differ from. Cure: 2 or more")


def _check_memory(config: Config) -> None:
    """Refuse what a step could not hold. Raises ConfigError."""
    negatives, tower, size, memory = config.loss.negatives, config.tower, config.train.batch_size, _memory()
    own, dim = negatives.explicit + negatives.hard.count, tower.embedding_dim
    held = [
        ("train.batch_size", size, 4 * size * tower.history_length * dim, "embedded histories"),
        ("loss.negatives.uniform", negatives.uniform, 4 * negatives.uniform * dim, "embedded items"),
        ("loss.negatives.queue", negatives.queue, 4 * negatives.queue * tower.hidden[-1], "vectors"),
        ("loss.negatives.explicit` and `.hard.count", own, size * own**2, "comparisons of a user's negatives"),
    ]
    for name in switched_on(config):
        items = getattr(config.tasks, name).batch_size
        others = items if name == "feature_masking" else dim  # its anchors are compared with all items
        held.append((f"tasks.{name}.batch_size", items, 4 * items * others, "scores or embedded items"))
    for setting, value, of_one, what in held:
        if (needed := COPIES * of_one) > memory:
            raise ConfigError(
                f"`{setting}` {value:,} makes a step of {needed / 2**30:,.0f} GiB of {what}; this machine has "
                f"{memory / 2**30:,.0f}. Cure: a smaller number"
            )


def check_fields(config: Config) -> None:
    """Refuse settings that the fields of the tables make impossible. Raises ConfigError, ArtifactError."""
    schema = Tables.read(config.tables_dir).schema
    kinds = {"item_id": "categorical", **{field.name: field.kind for field in schema.item_fields}}
    chosen = config.tower.item_fields
    fields = [name for name, kind in kinds.items() if kind != "title" and (chosen is None or name in chosen)]
    single = [name for name in fields if kinds[name] != "multi" and name != "item_id"]
    if (like := config.train.warm_start_field) is not None and like not in single:
        raise ConfigError(f"`train.warm_start_field` is {like!r}. Cure: one of the single-valued item fields {single}")
    user_fields = schema.user_fields if config.tower.user_fields is None else config.tower.user_fields
    if config.tower.user_dropout and not user_fields:
        raise ConfigError(
            "`tower.user_dropout` hides the fields of users, but the towers read none. Cure: more `tower.user_fields`, "
            "or a user_dropout of 0"
        )
    width = len(fields) * config.tower.embedding_dim
    if config.tower.kind == "ican" and config.tower.history_dim is None and width % config.tower.heads:
        raise ConfigError(
            f"{len(fields)} item fields of `tower.embedding_dim` {config.tower.embedding_dim} cannot be cut into "
            f"`tower.heads` {config.tower.heads} equal parts. Cure: another number of heads, or set `tower.history_dim`"
        )
    if config.tower.id_dropout and fields == ["item_id"]:
        raise ConfigError(
            "`tower.id_dropout` hides the ids of items, but the towers read nothing else of them. Cure: more "
            "`tower.item_fields`, or an id_dropout of 0"
        )
    masking = config.tasks.feature_masking
    if masking.weight > 0 and masking.masking != "none" and len(fields) < 2:
        raise ConfigError(
            f"`tasks.feature_masking` hides half of an item's fields, but the towers read only {fields}. Cure: more "
            "`tower.item_fields`, or a weight of 0"
        )


def check_artifacts(config: Config) -> None:
    """Refuse artefacts that are missing, made from others than those there are now, or not as they were written.

    Reads every file once. Raises ArtifactError, ConfigError.
    """
    tables = Tables.read(config.tables_dir).artifact
    vocabularies = open_artifact(config.prepared_dir("vocabularies"), "vocabularies", 1)
    sequences = open_artifact(config.prepared_dir("user_sequences"), "user_sequences", 1)
    tasks = task_artifacts(config)
    content = {"items": vocabularies.checksum("items.parquet"), "users": vocabularies.checksum("users.parquet")}
    fields = {name: vocabularies.checksum(name) for name in vocabularies.manifest["files"]}
    _made_from(vocabularies, {"items": tables.checksum("items.parquet")}, "the tables")
    _made_from(sequences, content, "the vocabularies")
    if (split := sequences.config["split"]) != config.split.model_dump():
        raise ConfigError(
            f"the user sequences were cut by another `split` ({split}). Cure: run `twotower prepare` again"
        )
    if not sequences.counts.get("train_events", 1):
        raise ArtifactError(
            f"{sequences.path} holds no train event. Cure: choose `split` so that users keep some, then run "
            "`twotower prepare`"
        )
    for job, artifact in tasks.items():
        if job == "mutual_information":
            _made_from(artifact, {name: fields[name] for name in fields if name == NUMERIC_FILE or "item." in name})
        elif job == "session_cooccurrence":
            _made_from(artifact, {"user_sequences": sequences.fingerprint}, "the user sequences")
        elif job == "title_neighbours":
            _check_neighbours(config, artifact, content["items"])
    for artifact in (tables, vocabularies, sequences, *tasks.values()):
        artifact.verify()


def switched_on(config: Config) -> list[str]:
    """The names of the tasks with a weight."""
    return [name for name in TASKS if getattr(config.tasks, name).weight > 0]


def needed_jobs(config: Config) -> set[str]:
    """The Beam jobs whose artefacts the tasks read."""
    return {job for name in switched_on(config) for job in TASKS[name].jobs(getattr(config.tasks, name))}


def task_artifacts(config: Config) -> dict[str, Artifact]:
    """What the tasks read, by job. Raises ArtifactError for a task with a weight whose artefact cannot be opened."""
    found: dict[str, Artifact] = {}
    for name in switched_on(config):
        for job in TASKS[name].jobs(getattr(config.tasks, name)):
            try:
                found[job] = open_artifact(config.prepared_dir(job), job, 2 if job == "title_neighbours" else 1)
            except ArtifactError as error:
                reason = str(error).partition(" Cure:")[0]
                raise ArtifactError(
                    f"`tasks.{name}.weight` is {getattr(config.tasks, name).weight}, but {reason} Cure: "
                    "`twotower prepare`, or a weight of 0"
                ) from None
    return found


def _made_from(artifact: Artifact, now: dict[str, str], source: str = "the vocabularies") -> None:
    """Compare what an artefact was made from with what there is now."""
    was = artifact.manifest["spec"]["inputs"]
    other = [name for name, checksum in now.items() if name in was and was[name] != checksum]
    if other:
        raise ArtifactError(
            f"{artifact.path} is older than {source}: {', '.join(other)} changed since. Cure: run `twotower prepare`"
        )


def _check_neighbours(config: Config, artifact: Artifact, items: str) -> None:
    try:
        embeddings = open_artifact(config.prepared_dir("item_embeddings"), "item_embeddings", 1)
    except ArtifactError:
        return  # training does not read them: whoever moved the rest may have left them behind
    _made_from(artifact, {"item_embeddings": embeddings.fingerprint}, "the item embeddings")
    _made_from(embeddings, {"vocabulary": items})


def _memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
