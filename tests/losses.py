"""Losses as a study's entries specify them."""

from nclens.study import losses as config
from nclens.workflow.specs import Loss, Schedule


def entry(name, schedule=None, **arguments):
    """The specification of a loss; `schedule` is a table of the configuration."""
    parameter = config.LOSSES[name].parameter
    if schedule is None and parameter is not None:
        schedule = {"kind": "constant"}
    return Loss(name, name, arguments=arguments, parameter=parameter, schedule=schedule and Schedule(**schedule))
