"""Verdicts, figures and the page."""

# in:  R/metrics.parquet, R/theory/ufm.csv, the last features of every run, R/data/{dataset}.json
# out: R/claims.csv, R/claims.md, R/figures/*, R/report.html, R/tables/losses.csv


rule judge:
    """Judge the papers' claims: effect, interval over seeds, verdict."""
    input:
        metrics=f"{R}/metrics.parquet",
        theory=f"{R}/theory/ufm.csv",
        dynamics=f"{R}/theory/dynamics.csv",
        predictions=f"{R}/theory/predictions.csv",
    output:
        claims=report(
            f"{R}/claims.csv", category="Claims", caption="captions/claims.rst"
        ),
        page=f"{R}/claims.md",
    log:
        f"{R}/logs/judge.log",
    benchmark:
        f"{R}/benchmarks/judge.tsv"
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec(specs.judge(STUDY)),
        code=code_digest("judge"),
    message:
        "judge"
    shell:
        "nclens judge"
        " --spec {params.spec:q}"
        " --metrics {input.metrics:q}"
        " --theory {input.theory:q}"
        " --dynamics {input.dynamics:q}"
        " --predictions {input.predictions:q}"
        " --claims {output.claims:q}"
        " --page {output.page:q}"
        " 2>&1 | tee -i {log:q}"


rule draw:
    """Draw the figures, each as PNG and PDF with the CSV it was drawn from."""
    input:
        metrics=f"{R}/metrics.parquet",
        theory=f"{R}/theory/ufm.csv",
        dynamics=f"{R}/theory/dynamics.csv",
        predictions=f"{R}/theory/predictions.csv",
        regression=f"{R}/theory/regression.csv",
        features=last_features,
        manifests=manifests(),
    output:
        png=report(figures("png"), category="Figures", caption="captions/figures.rst"),
        pdf=figures("pdf"),
        csv=figures("csv"),
    log:
        f"{R}/logs/draw.log",
    benchmark:
        f"{R}/benchmarks/draw.tsv"
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec(specs.draw(STUDY)),
        code=code_digest("draw"),
        root=subpath(input.metrics, parent=True),
    message:
        "draw"
    shell:
        "nclens draw"
        " --spec {params.spec:q}"
        " --metrics {input.metrics:q}"
        " --theory {input.theory:q}"
        " --dynamics {input.dynamics:q}"
        " --predictions {input.predictions:q}"
        " --regression {input.regression:q}"
        " --root {params.root:q}"
        " 2>&1 | tee -i {log:q}"


rule report:
    """Write the study's page, verdicts, figures, tables and provenance in one file, and the table of its losses."""
    input:
        claims=f"{R}/claims.csv",
        theory=theory_tables(),
        metrics=f"{R}/metrics.parquet",
        figures=figures("png"),
        manifests=[
            *manifests(),
            *(path for name in STUDY.experiments for path in transfer_data(name)),
        ],
        runs=of_all_runs("run.json"),
    output:
        page=report(f"{R}/report.html", category="Page", caption="captions/page.rst"),
        losses=f"{R}/tables/losses.csv",
    log:
        f"{R}/logs/report.log",
    benchmark:
        f"{R}/benchmarks/report.tsv"
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec(specs.report(STUDY, command())),
        code=code_digest("report"),
        root=subpath(output.page, parent=True),
    message:
        "report"
    shell:
        "nclens report"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " --output {output.page:q}"
        " 2>&1 | tee -i {log:q}"
