"""pipeline/prepare.py: all jobs in order, each skipped while its artefact is current."""

import pytest
from beam_fixtures import random_log, small_config, write_log

from pipeline.errors import ArtifactError, ConfigError
from pipeline.prepare import JOBS, prepare


def runs(artifacts: dict) -> dict[str, str]:
    return {name: artifact.manifest["run"] for name, artifact in artifacts.items()}


def test_a_change_reruns_what_depends_on_it(tmp_path):
    config = small_config(tmp_path)
    write_log(config, random_log(seed=18))
    first = runs(prepare(config))
    assert list(first) == list(JOBS)
    assert runs(prepare(config)) == first
    config.prepare.session.gap_seconds = 60
    second = runs(prepare(config))
    assert {name for name in first if second[name] != first[name]} == {"session_cooccurrence"}
    write_log(config, random_log(seed=19))
    third = runs(prepare(config))
    assert {name for name in JOBS if third[name] == second[name]} == {
        "catalogue_counts",
        "joint_counts",
        "mutual_information",
    }


def test_only_the_named_jobs_run(tmp_path):
    config = small_config(tmp_path)
    write_log(config, random_log(seed=18))
    assert list(prepare(config, only=["catalogue_counts", "day_events"])) == ["day_events", "catalogue_counts"]
    assert not config.prepared_dir("vocabularies").exists()


def test_a_job_whose_input_is_missing_names_it(tmp_path):
    config = small_config(tmp_path)
    write_log(config, random_log(seed=18))
    with pytest.raises(ArtifactError, match="no catalogue_counts artefact"):
        prepare(config, only=["mutual_information"])


def test_an_unknown_job_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean `title_neighbours`"):
        prepare(small_config(tmp_path), only=["title_neighbors"])


def test_beam_options_reach_the_runner(tmp_path):
    config = small_config(tmp_path)
    write_log(config, random_log(seed=18))
    prepare(config, only=["day_events"], pipeline_args=["--runner=FnApiRunner"])
    with pytest.raises(ValueError, match="NoSuchRunner"):
        prepare(config, only=["catalogue_counts"], pipeline_args=["--runner=NoSuchRunner"])
