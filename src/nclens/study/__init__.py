"""The configuration of a study, checked once, before any job starts; unknown keys are errors.

A study is a YAML file. `load_study` turns its parsed content into a frozen `Study`, or raises `ConfigError` with one
line per mistake: the key, the value and what is allowed. A `Study` lists its `Run`s. This package imports neither torch
nor MLflow, for it is imported at every parse of the workflow.
"""

from nclens.study.experiments import log_spaced
from nclens.study.load import json_schema, load_study
from nclens.study.reading import ConfigError, read_study
from nclens.study.study import Run, Study

__all__ = ["ConfigError", "Run", "Study", "json_schema", "load_study", "log_spaced", "read_study"]
