"""Tracking: MLflow is a view of the files. Nothing but tracking depends on it."""

# in:  every file of a run, or of the study
# out: RUN/mlflow.json, R/mlflow.json
# These rules have no priority: nothing waits for them.


rule track_setup:
    """Create the database's schema and the study's experiment once, before parallel writers."""
    output:
        setup=R.setup,
    log:
        R.log("track_setup"),
    benchmark:
        R.benchmark("track_setup")
    retries: 1
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mlflow=1,
    params:
        spec=spec_of_study(specs.track_setup),
        code=PLAN.code("track"),
        root=subpath(output.setup, ancestor=2),
    message:
        "track setup"
    shell:
        "nclens track setup"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " 2>&1 | tee -i {log:q}"


rule track:
    """Record a run in MLflow."""
    input:
        setup=R.setup,
        data=of_run(PLAN.data),
        manifest=of_run(PLAN.manifest),
        snapshots=RUN.snapshots,
        history=RUN.history,
        run=RUN.run,
        features=RUN.features,
        metrics=RUN.metrics,
        film=RUN.film,
        probes=of_run(PLAN.probes),
        hypotheses=of_run(PLAN.hypotheses),
    output:
        record=RUN.record,
    log:
        R.log("track", "{run}"),
    benchmark:
        R.benchmark("track", "{run}")
    wildcard_constraints:
        run=PLAN.pattern,
    retries: 1
    localrule: True
    conda:
        ENVIRONMENT
    # It mostly waits, for a disk or a server: it runs beside the trainings.
    threads: 0
    resources:
        mlflow=1,
    params:
        spec=spec_of_run(specs.track_run),
        code=PLAN.code("track"),
        root=subpath(output.record, ancestor=5),
    message:
        "track {wildcards.run}"
    shell:
        "nclens track run"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " 2>&1 | tee -i {log:q}"


rule track_study:
    """Record the study in MLflow: claims, theory, figures and page."""
    input:
        setup=R.setup,
        study=R.resolved,
        claims=R.claims,
        page=R.claims_page,
        specifications=R.specifications,
        judged=R.judged,
        theory=PLAN.theory(),
        metrics=R.metrics,
        figures=PLAN.figures(),
        reused=PLAN.reused(),
        report=R.report,
    output:
        record=R.record,
    log:
        R.log("track_study"),
    benchmark:
        R.benchmark("track_study")
    retries: 1
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mlflow=1,
    params:
        spec=spec_of_study(specs.track_study),
        code=PLAN.code("track"),
        root=subpath(output.record, parent=True),
    message:
        "track study"
    shell:
        "nclens track study"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " 2>&1 | tee -i {log:q}"
