"""The SSL tasks by name. A new task is one file, one line here, and its section in pipeline/config.py."""

from pipeline.config import TasksConfig
from ssl_tasks.feature_level import FeatureLevel
from ssl_tasks.feature_masking import FeatureMasking
from ssl_tasks.semantic_level import SemanticLevel
from ssl_tasks.session_level import SessionLevel
from ssl_tasks.task import Corpus, Task

TASKS: dict[str, type[Task]] = {task.name: task for task in (FeatureMasking, FeatureLevel, SemanticLevel, SessionLevel)}


def make_tasks(config: TasksConfig, corpus: Corpus) -> list[Task]:
    """The tasks whose weight is not 0, in the registry's order."""
    sections = {name: getattr(config, name) for name in TASKS}
    return [TASKS[name](section, corpus) for name, section in sections.items() if section.weight > 0]
