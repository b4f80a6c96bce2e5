"""Tracking: MLflow is a view of the files. Nothing but tracking depends on it."""

# in:  every file of a run, or of the study
# out: RUN/mlflow.json, R/mlflow.json
# These rules have no priority: what nothing waits for fills the cores that the last figures leave idle.


rule track_setup:
    """Create the database's schema and the study's experiment once, before parallel writers."""
    output:
        setup=f"{R}/logs/track_setup.json",
    log:
        f"{R}/logs/track_setup.log",
    benchmark:
        f"{R}/benchmarks/track_setup.tsv"
    retries: 1
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mlflow=1,
    params:
        spec=spec(specs.track_setup(STUDY)),
        code=code_digest("track"),
        root=subpath(output.setup, ancestor=2),
    message:
        "track setup"
    shell:
        "nclens track setup"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " 2>&1 | tee -i {log:q}"


for name, experiment in STUDY.experiments.items():

    rule:
        """Record a run in MLflow."""
        name:
            f"track_{name}"
        input:
            setup=ancient(f"{R}/logs/track_setup.json"),
            data=DATA,
            manifest=MANIFEST,
            snapshots=snapshots(experiment),
            history=f"{RUN}/history.csv",
            run=f"{RUN}/run.json",
            features=kept_features(experiment),
            metrics=f"{RUN}/metrics.csv",
            probes=[f"{RUN}/probes.csv"] if experiment.probes else [],
        output:
            record=f"{RUN}/mlflow.json",
        log:
            f"{R}/logs/track/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.log",
        benchmark:
            f"{R}/benchmarks/track/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.tsv"
        wildcard_constraints:
            dataset=either([experiment.dataset]),
            model=either([experiment.model]),
            loss=either(experiment.losses),
            seed=either(map(str, experiment.seeds)),
        retries: 1
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mlflow=1,
        params:
            spec=lambda wildcards: spec(specs.track_run(STUDY, run_of(wildcards))),
            code=code_digest("track"),
            root=subpath(output.record, ancestor=5),
        message:
            "track {wildcards.dataset}/{wildcards.model}/{wildcards.loss}/seed{wildcards.seed}"
        shell:
            "nclens track run"
            " --spec {params.spec:q}"
            " --root {params.root:q}"
            " 2>&1 | tee -i {log:q}"


rule track_study:
    """Record the study in MLflow: claims, theory, figures and page."""
    input:
        setup=ancient(f"{R}/logs/track_setup.json"),
        study=f"{R}/study.yaml",
        claims=f"{R}/claims.csv",
        page=f"{R}/claims.md",
        theory=theory_tables(),
        metrics=f"{R}/metrics.parquet",
        figures=[path for ending in ("png", "pdf", "csv") for path in figures(ending)],
        report=f"{R}/report.html",
    output:
        record=f"{R}/mlflow.json",
    log:
        f"{R}/logs/track_study.log",
    benchmark:
        f"{R}/benchmarks/track_study.tsv"
    retries: 1
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mlflow=1,
    params:
        spec=spec(specs.track_study(STUDY)),
        code=code_digest("track"),
        root=subpath(output.record, parent=True),
    message:
        "track study"
    shell:
        "nclens track study"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " 2>&1 | tee -i {log:q}"
