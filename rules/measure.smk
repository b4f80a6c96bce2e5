"""Measurement: what every snapshot shows, what its network is asked, and the one table that all below read."""

# in:  RUN/features/epoch{E}.safetensors, RUN/snapshots/epoch{E}.safetensors, R/data/*, RUN/history.csv
# out: RUN/metrics.csv, RUN/probes.csv (of experiments that list probes), R/metrics.parquet

for name, experiment in STUDY.experiments.items():

    rule:
        """Measure collapse, logits and calibration on the features of every snapshot of a run."""
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
        group:
            "measure"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            disk_mb=features_mb,
            mem_mb=megabytes(measuring_job),
            runtime=minutes(measuring_job),
        params:
            spec=lambda wildcards: spec(specs.measure(STUDY, run_of(wildcards))),
            code=measure_code,
            run=subpath(output.metrics, parent=True),
        message:
            "measure {wildcards.dataset}/{wildcards.model}/{wildcards.loss}/seed{wildcards.seed}"
        shell:
            "nclens measure"
            " --spec {params.spec:q}"
            " --run {params.run:q}"
            " --threads {threads}"
            " 2>&1 | tee -i {log:q}"

    # An experiment that asks nothing has no such rule.
    if experiment.probes:

        rule:
            """Ask the networks of a run what their features alone do not tell."""
            name:
                f"probe_{name}"
            input:
                data=DATA,
                manifest=MANIFEST,
                transfer=transfer_data(name),
                snapshots=probed_snapshots(name),
            output:
                probes=f"{RUN}/probes.csv",
            log:
                f"{R}/logs/probe/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.log",
            benchmark:
                f"{R}/benchmarks/probe/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.tsv"
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
                gpu=gpu_slots(experiment),
                mem_mb=megabytes(probing_job),
                runtime=minutes(probing_job),
            params:
                spec=lambda wildcards: spec(specs.probe(STUDY, run_of(wildcards))),
                code=network_code("probe"),
                root=subpath(output.probes, ancestor=5),
            message:
                "probe {wildcards.dataset}/{wildcards.model}/{wildcards.loss}/seed{wildcards.seed}"
            shell:
                "nclens probe"
                " --spec {params.spec:q}"
                " --root {params.root:q}"
                " --threads {threads}"
                " 2>&1 | tee -i {log:q}"


rule collect:
    """Collect every run's measurements, probes and history into one table."""
    input:
        metrics=of_all_runs("metrics.csv"),
        probes=probes_of_all_runs(),
        histories=of_all_runs("history.csv"),
    output:
        table=f"{R}/metrics.parquet",
    log:
        f"{R}/logs/collect.log",
    benchmark:
        f"{R}/benchmarks/collect.tsv"
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec(specs.collect(STUDY)),
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
