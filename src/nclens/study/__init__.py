"""The configuration of a study: a closed world, checked once, before any job starts.

A study is a YAML file. `load_study` turns its parsed content into a frozen `Study`, or raises `ConfigError` with one
line per mistake: the key, the value and what is allowed. A `Study` lists its `Run`s. This package imports neither torch
nor MLflow: it is read at every parse.
"""

from nclens.study.experiments import log_spaced
from nclens.study.load import ConfigError, json_schema, load_study, read_study
from nclens.study.study import Run, Study

__all__ = ["ConfigError", "Run", "Study", "json_schema", "load_study", "log_spaced", "read_study"]
