"""nclens: what a loss does to a network's representation. Each line below is a chapter; the rules are in rules/."""

from snakemake.utils import min_version

from snakemake_logger_plugin_nclens import view

min_version("9.0")


# Of the workflow: `workflow.basedir` is that of a Snakefile which uses this one as a module.
HERE = workflow.current_basedir.get_path_or_uri(secret_free=True)

# Snakemake merges --configfile into this one, so the default study is read only when no other is named.
if not workflow.overwrite_configfiles:

    configfile: f"{HERE}/workflow_config.yaml"


report: "rules/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/measure.smk"
include: "rules/theory.smk"
include: "rules/report.smk"
include: "rules/track.smk"
include: "rules/atlas.smk"


rule all:
    """Everything that the study promises."""
    default_target: True
    input:
        PLAN.promised(),
    message:
        "everything that the study promises is there"


onstart:
    ENDING.has_jobs()
    check_executor()
    stop_polling()
    forkserver.start(workflow.is_main_process)
    view(workflow.logger_manager, "begin")


onsuccess:
    view(workflow.logger_manager, "end")
    ENDING.check()
    if PLAN.is_judged():
        shell("nclens show {STUDY.root:q}")


onerror:
    view(workflow.logger_manager, "end")
    if PLAN.is_judged():  # only the recording failed
        shell("nclens show {STUDY.root:q}")
