"""Study and data: what the configuration says, and each data set prepared once for all runs."""

# in:  the configuration; the data set's source (a package, data_dir, or a download)
# out: R/study.yaml, R/data/{dataset}.safetensors, R/data/{dataset}.json

import json


rule resolve:
    """Write the resolved study, every default written out."""
    output:
        study=R.resolved,
    log:
        R.log("resolve"),
    benchmark:
        R.benchmark("resolve")
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec_of_study(specs.resolve),
        code=PLAN.code("resolve"),
    message:
        "resolve"
    shell:
        "nclens resolve"
        " --spec {params.spec:q}"
        " --output {output.study:q}"
        " > {log:q} 2>&1"


rule prepare:
    """Prepare a data set: stored tensors and the manifest that says what they are."""
    output:
        data=R.data("{dataset}"),
        manifest=R.manifest("{dataset}"),
    log:
        R.log("prepare", "{dataset}"),
    benchmark:
        R.benchmark("prepare", "{dataset}")
    wildcard_constraints:
        dataset="|".join(map(re.escape, STUDY.datasets)),
    localrule: True
    conda:
        ENVIRONMENT
    threads: lambda wildcards: 1 + PLAN.workers(wildcards.dataset)
    params:
        spec=lambda wildcards: encode(specs.prepare(STUDY, wildcards.dataset)),
        code=lambda wildcards: PLAN.data_code(wildcards.dataset),
        data=lambda wildcards: json.dumps(PLAN.user_digests(wildcards.dataset)),
        # A function of the output is no reason to run again: neither is a path.
        paths=lambda wildcards, output: json.dumps(PLAN.user_paths(wildcards.dataset)),
    message:
        "prepare {wildcards.dataset}"
    shell:
        "nclens prepare"
        " --spec {params.spec:q}"
        " --data {output.data:q}"
        " --manifest {output.manifest:q}"
        " --paths {params.paths:q}"
        " --digests {params.data:q}"
        " 2>&1 | tee -i {log:q}"
