"""Study and data: what the configuration says, and each data set prepared once for all runs."""

# in:  the configuration; the data set's source (a package, data_dir, or a download)
# out: R/study.yaml, R/data/{dataset}.safetensors, R/data/{dataset}.json


rule resolve:
    """Write the resolved study, every default written out."""
    output:
        study=f"{R}/study.yaml",
    log:
        f"{R}/logs/resolve.log",
    benchmark:
        f"{R}/benchmarks/resolve.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec(specs.resolve(STUDY)),
        code=code_digest("resolve"),
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
        data=DATA,
        manifest=MANIFEST,
    log:
        f"{R}/logs/prepare/{{dataset}}.log",
    benchmark:
        f"{R}/benchmarks/prepare/{{dataset}}.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=lambda wildcards: spec(specs.prepare(STUDY, wildcards.dataset)),
        code=data_code,
    message:
        "prepare {wildcards.dataset}"
    shell:
        "nclens prepare"
        " --spec {params.spec:q}"
        " --data {output.data:q}"
        " --manifest {output.manifest:q}"
        " 2>&1 | tee -i {log:q}"
