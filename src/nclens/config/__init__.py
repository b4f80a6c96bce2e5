"""The configuration of a study: a closed world, checked once, before any job starts.

A study is a YAML file. `load_study` turns its parsed content into a frozen `Study`, or raises `ConfigError` with one
line per mistake: the key, the value and what is allowed. A `Study` lists its `Run`s; `specs` says, for every step of
the workflow, exactly which leaves of the configuration that step uses. This module imports neither torch nor MLflow:
it is read at every parse.
"""

from nclens.config import specs
from nclens.config.experiments import log_spaced
from nclens.config.load import ConfigError, json_schema, load_study, read_study
from nclens.config.study import Run, Study

__all__ = ["ConfigError", "Run", "Study", "json_schema", "load_study", "log_spaced", "read_study", "specs"]
