"""Theory: the unconstrained feature model of every loss that has a closed form."""

# in:  R/data/{dataset}.json (how many classes and samples there are), R/metrics.parquet
# out: R/theory/ufm.csv, R/theory/dynamics.csv, R/theory/regression.csv, R/theory/predictions.csv,
#      R/theory/effective.csv


rule theory:
    """Evaluate the unconstrained feature model: closed forms beside their numeric checks."""
    input:
        manifests=manifests(),
    output:
        table=f"{R}/theory/ufm.csv",
        dynamics=f"{R}/theory/dynamics.csv",
        regression=f"{R}/theory/regression.csv",
    log:
        f"{R}/logs/theory.log",
    benchmark:
        f"{R}/benchmarks/theory.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec(specs.theory(STUDY)),
        code=code_digest("theory"),
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
    """Hold the trained networks against the unconstrained feature model's predictions."""
    input:
        metrics=f"{R}/metrics.parquet",
        manifests=manifests(),
    output:
        predictions=f"{R}/theory/predictions.csv",
        effective=f"{R}/theory/effective.csv",
    log:
        f"{R}/logs/predict.log",
    benchmark:
        f"{R}/benchmarks/predict.tsv"
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec(specs.predict(STUDY)),
        code=code_digest("predict"),
        root=subpath(input.metrics, parent=True),
    message:
        "predict"
    shell:
        "nclens predict"
        " --spec {params.spec:q}"
        " --metrics {input.metrics:q}"
        " --root {params.root:q}"
        " --output {output.predictions:q}"
        " --effective {output.effective:q}"
        " 2>&1 | tee -i {log:q}"
