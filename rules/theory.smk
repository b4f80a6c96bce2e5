"""Theory: the unconstrained feature model of every loss that has a closed form."""

# in:  R/data/{dataset}.json (how many classes and samples there are), R/metrics.parquet, and for the feature dimension
#      one run.json of each experiment
# out: R/theory/ufm.csv, R/theory/dynamics.csv, R/theory/regression.csv, R/theory/predictions.csv,
#      R/theory/effective.csv, R/theory/nc0.csv


rule theory:
    """Evaluate the unconstrained feature model: closed forms beside their numeric checks."""
    input:
        manifests=PLAN.manifests(),
    output:
        table=R.theory("ufm"),
        dynamics=R.theory("dynamics"),
        regression=R.theory("regression"),
    log:
        R.log("theory"),
    benchmark:
        R.benchmark("theory")
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec_of_study(specs.theory),
        code=PLAN.code("theory"),
        root=subpath(output.table, ancestor=2),
    message:
        "theory"
    shell:
        "nclens theory"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " --output {output.table:q}"
        " --dynamics {output.dynamics:q}"
        " --regression {output.regression:q}"
        " 2>&1 | tee -i {log:q}"


rule predict:
    """Compare the trained networks with the predictions of the unconstrained feature model and of the law of NC0."""
    input:
        metrics=R.metrics,
        manifests=PLAN.manifests(),
        reused=PLAN.reused(),
    output:
        predictions=R.theory("predictions"),
        effective=R.theory("effective"),
        nc0=R.theory("nc0"),
    log:
        R.log("predict"),
    benchmark:
        R.benchmark("predict")
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec_of_study(specs.predict),
        code=PLAN.code("predict"),
        root=subpath(input.metrics, parent=True),
        sources=SOURCES,
    message:
        "predict"
    shell:
        "nclens predict"
        " --spec {params.spec:q}"
        " --metrics {input.metrics:q}"
        " --root {params.root:q}"
        " --output {output.predictions:q}"
        " --effective {output.effective:q}"
        " --nc0 {output.nc0:q}"
        " --sources {params.sources:q}"
        " 2>&1 | tee -i {log:q}"
