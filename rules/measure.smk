"""Measurement: collapse and calibration of every snapshot, and the one table that all below read."""

# in:  RUN/features/epoch{E}.safetensors, RUN/history.csv
# out: RUN/metrics.csv, R/metrics.parquet

for name, experiment in STUDY.experiments.items():

    rule:
        """Measure collapse and calibration on the features of every snapshot of a run."""
        name:
            f"measure_{name}"
        input:
            features=features(experiment),
        output:
            metrics=f"{RUN}/metrics.csv",
        log:
            f"{R}/logs/measure/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.log",
        benchmark:
            f"{R}/benchmarks/measure/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.tsv"
        wildcard_constraints:
            dataset=either([experiment.dataset]),
            model=either([experiment.model]),
            loss=either(experiment.losses),
            seed=either(map(str, experiment.seeds)),
        priority: 30
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            disk_mb=features_mb,
        params:
            spec=lambda wildcards: spec(STUDY.measure_spec(run_of(wildcards))),
            code=code_digest("measure"),
            run=subpath(output.metrics, parent=True),
        message:
            "measure {wildcards.dataset}/{wildcards.model}/{wildcards.loss}/seed{wildcards.seed}"
        shell:
            "nclens measure"
            " --spec {params.spec:q}"
            " --run {params.run:q}"
            " --threads {threads}"
            " 2>&1 | tee -i {log:q}"


rule collect:
    """Collect every run's measurements and history into one table."""
    input:
        metrics=of_all_runs("metrics.csv"),
        histories=of_all_runs("history.csv"),
    output:
        table=f"{R}/metrics.parquet",
    log:
        f"{R}/logs/collect.log",
    benchmark:
        f"{R}/benchmarks/collect.tsv"
    priority: 40
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec(STUDY.collect_spec()),
        code=code_digest("collect"),
        root=subpath(output.table, parent=True),
    message:
        "collect"
    shell:
        "nclens collect"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " --output {output.table:q}"
        " 2>&1 | tee -i {log:q}"
