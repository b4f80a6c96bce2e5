"""Theory: the unconstrained feature model of every loss that has a closed form."""

# in:  R/data/{dataset}.json (how many classes and samples there are)
# out: R/theory/ufm.csv


rule theory:
    """Evaluate the unconstrained feature model: closed forms beside their numeric checks."""
    input:
        manifests=[
            MANIFEST.format(dataset=name)
            for name in {run.dataset: None for run in RUNS.values()}
        ],
    output:
        table=f"{R}/theory/ufm.csv",
    log:
        f"{R}/logs/theory.log",
    benchmark:
        f"{R}/benchmarks/theory.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec(STUDY.theory_spec()),
        code=code_digest("theory"),
        root=subpath(output.table, ancestor=2),
    message:
        "theory"
    shell:
        "nclens theory"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " --output {output.table:q}"
        " 2>&1 | tee -i {log:q}"
