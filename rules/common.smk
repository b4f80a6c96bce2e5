"""Helpers of the rules: the checked study, its plan, and what every rule says in the same way. No rule is here."""

import json
import os
import shutil
import sys

from snakemake.exceptions import WorkflowError

from nclens.study import ConfigError
from nclens.workflow import forkserver, specs
from nclens.workflow.check import check_config
from nclens.workflow.plan import Plan
from nclens.workflow.running import Ending, command
from nclens.workflow.specs import encode


# Jobs call `nclens` by name: the one beside the Python that runs this workflow.
envvars:
    "PATH",


os.environ["PATH"] = os.pathsep.join(
    [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
)

# The folder of a Snakefile that uses this workflow as a module, if one does.
USER = None if workflow.basedir == HERE else Path(workflow.basedir)
CONFIGFILES = [Path(file) for file in workflow.configfiles]

CORES, SLOTS = (workflow.global_resources.get(key).value for key in ("_cores", "gpu"))

try:
    STUDY = check_config(config, CONFIGFILES, USER)
    PLAN = Plan(STUDY)
    if workflow.is_main_process and workflow.resource_settings.nodes is None:
        PLAN.check_machine(CORES, SLOTS)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

os.environ |= PLAN.environment
# As many slots of the GPUs as the profile lets jobs have at a time.
if SLOTS and workflow.local_exec:
    os.environ |= {"NCLENS_GPU_SLOTS": str(SLOTS)}

ENDING = Ending(workflow, PLAN)
R = PLAN.folder
RUN = R.run("{run}")
ENVIRONMENT = "../envs/environment.yaml"

# Slurm's warning before the end, early enough to write a checkpoint; jobs elsewhere do not see it.
WARNING = "--signal=TERM@180"
# Every process of the job gets it. The shell waits for the checkpoint, and the log for the last line: else the job would
# end at once, and Slurm would kill what still writes. The options are Snakemake's own, which a prefix replaces.
shell.prefix(
    "set -euo pipefail; trap : TERM; tee() {{ trap '' TERM; exec tee \"$@\"; }}; "
)


# Runs that other studies have made; a function of the output is no reason to run again: neither is a path.
SOURCES = lambda wildcards, output: json.dumps(PLAN.sources)


def of_run(function, *arguments):
    """Return what a function says of the run that a job's wildcards name."""
    return lambda wildcards: function(PLAN.runs[wildcards.run], *arguments)


def spec_of_study(step, *arguments):
    """Return the specification of a step of the study.

    By a function, because Snakemake would take `{max}` in a text for a wildcard; titles and labels have braces.
    """
    text = encode(step(STUDY, *arguments))
    return lambda wildcards: text


def spec_of_run(step):
    """Return the specification of a step for the run that a job's wildcards name."""
    return lambda wildcards: encode(step(STUDY, PLAN.runs[wildcards.run]))


def code_of_run(stage):
    """Return the digest of the code that a stage runs for the run that a job's wildcards name."""
    return lambda wildcards: PLAN.code(stage, PLAN.runs[wildcards.run])


def minutes(needs):
    """Return the rule's `runtime`: a retry requests more."""
    return lambda wildcards, attempt: attempt * needs(PLAN.runs[wildcards.run]).minutes


def megabytes(needs):
    """Return the rule's `mem_mb`: a retry requests more."""
    return (
        lambda wildcards, attempt: attempt * needs(PLAN.runs[wildcards.run]).memory_mb
    )


def check_executor():
    """Refuse to begin where the profile's executor has nothing to submit to."""
    if workflow.executor_plugin.name == "slurm" and shutil.which("sbatch") is None:
        raise WorkflowError(
            "This profile submits to Slurm, but there is no `sbatch` here: start on a machine of the cluster that "
            "has Slurm's commands, or leave --workflow-profile out to run on this one."
        )


def stop_polling():
    """Let Snakemake look for jobs to start when one has finished, and not by the clock as well.

    For its limit of submissions Snakemake 9 looks at all ready jobs once a second, and once more a second for every job
    that has finished: after a hundred of them that takes half a core (docs/scale.md). The default limit, 100 jobs a
    second, is never reached here; another one, of a profile or the command line, stays.
    """
    scheduler = workflow.scheduler
    limiter = getattr(scheduler, "job_rate_limiter", None)
    if limiter is not None and (limiter.max_jobs, limiter.timespan) == (100, 1):
        scheduler.job_rate_limiter = None
