"""Verdicts, figures and the page."""

# in:  R/metrics.parquet, R/theory/ufm.csv, the last features of every run, R/data/{dataset}.json
# out: R/claims.csv, R/claims.md, R/judged.json, R/figures/*, R/report.html, R/tables/losses.csv

from nclens.figures.catalogue import FIGURES


rule judge:
    """Judge the papers' claims: effect, interval over seeds, verdict."""
    input:
        metrics=R.metrics,
        theory=R.theory("ufm"),
        dynamics=R.theory("dynamics"),
        predictions=R.theory("predictions"),
        nc0=R.theory("nc0"),
    output:
        claims=report(
            R.claims,
            category="Summary",
            labels={"result": "Verdicts"},
            caption="captions/claims.rst",
        ),
        page=R.claims_page,
        record=R.judged,
    log:
        R.log("judge"),
    benchmark:
        R.benchmark("judge")
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec_of_study(specs.judge),
        code=PLAN.code("judge"),
    message:
        "judge"
    shell:
        "nclens judge"
        " --spec {params.spec:q}"
        " --metrics {input.metrics:q}"
        " --theory {input.theory:q}"
        " --dynamics {input.dynamics:q}"
        " --predictions {input.predictions:q}"
        " --nc0 {input.nc0:q}"
        " --claims {output.claims:q}"
        " --page {output.page:q}"
        " --record {output.record:q}"
        " --code {params.code}"
        " 2>&1 | tee -i {log:q}"


rule draw:
    """Draw the figures, each as PNG, PDF and SVG with the CSV it was drawn from."""
    input:
        metrics=R.metrics,
        theory=R.theory("ufm"),
        dynamics=R.theory("dynamics"),
        predictions=R.theory("predictions"),
        regression=R.theory("regression"),
        nc0=R.theory("nc0"),
        features=PLAN.of_all(lambda run: PLAN.of(run).features),
        manifests=PLAN.manifests(),
        reused=PLAN.reused(),
    output:
        png=[
            report(
                R.figure(experiment, figure, "png"),
                category="Figures",
                subcategory=experiment,
                labels={"figure": FIGURES[figure].title},
                caption=f"captions/figures/{figure}.rst",
            )
            for experiment in STUDY.experiments
            for figure in STUDY.figures(experiment)
            if figure in FIGURES
        ],
        pdf=PLAN.figures("pdf", own=False),
        svg=PLAN.figures("svg", own=False),
        csv=PLAN.figures("csv", own=False),
    log:
        R.log("draw"),
    benchmark:
        R.benchmark("draw")
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    # With as many as there are cores it would wait until all are free. Further processes take those that are idle.
    threads: 1
    params:
        spec=spec_of_study(specs.draw),
        code=PLAN.code("draw"),
        root=subpath(input.metrics, parent=True),
        # All cores, of which those in use go first; a function of the output is no reason to run again.
        processes=lambda wildcards, output: (
            workflow.cores if workflow.local_exec else 1
        ),
        sources=SOURCES,
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
        " --nc0 {input.nc0:q}"
        " --root {params.root:q}"
        " --threads {params.processes}"
        " --sources {params.sources:q}"
        " 2>&1 | tee -i {log:q}"


rule draw_own:
    """Draw a figure of the user's own in the same forms."""
    input:
        metrics=R.metrics,
        theory=R.theory("ufm"),
        dynamics=R.theory("dynamics"),
        predictions=R.theory("predictions"),
        regression=R.theory("regression"),
        nc0=R.theory("nc0"),
        features=PLAN.of_all(lambda run: PLAN.of(run).features),
        manifests=PLAN.manifests(),
        reused=PLAN.reused(),
    output:
        png=report(
            R.drawn("{drawn}", "png"),
            category="Figures",
            subcategory=lambda wildcards: PLAN.own_figures[wildcards.drawn][0],
            labels=lambda wildcards: {"figure": PLAN.figure_texts(wildcards.drawn)[0]},
            caption="captions/own_figure.rst",
        ),
        pdf=R.drawn("{drawn}", "pdf"),
        svg=R.drawn("{drawn}", "svg"),
        csv=R.drawn("{drawn}", "csv"),
    log:
        R.log("draw_own", "{drawn}"),
    benchmark:
        R.benchmark("draw_own", "{drawn}")
    wildcard_constraints:
        drawn=PLAN.drawn,
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=lambda wildcards: encode(
            specs.draw_own(STUDY, *PLAN.own_figures[wildcards.drawn])
        ),
        code=lambda wildcards: PLAN.figure_code(wildcards.drawn),
        root=subpath(input.metrics, parent=True),
        # For Snakemake's report; a function of the output is no reason to run again.
        caption=lambda wildcards, output: PLAN.figure_texts(wildcards.drawn)[1],
        sources=SOURCES,
    message:
        "draw {wildcards.drawn}"
    shell:
        "nclens draw"
        " --spec {params.spec:q}"
        " --metrics {input.metrics:q}"
        " --theory {input.theory:q}"
        " --dynamics {input.dynamics:q}"
        " --predictions {input.predictions:q}"
        " --regression {input.regression:q}"
        " --nc0 {input.nc0:q}"
        " --root {params.root:q}"
        " --threads {threads}"
        " --sources {params.sources:q}"
        " 2>&1 | tee -i {log:q}"


rule report:
    """Write the study's page, verdicts, figures, tables and provenance in one file, and the table of its losses."""
    input:
        claims=R.claims,
        theory=PLAN.theory(),
        metrics=R.metrics,
        figures=PLAN.figures("svg"),
        manifests=[*PLAN.manifests(), *PLAN.of_all(PLAN.transfer_data)],
        runs=PLAN.of_all(lambda run: PLAN.of(run).run),
        films=PLAN.films(),
        reused=PLAN.reused(),
    output:
        page=report(
            R.report,
            category="Summary",
            labels={"result": "Page of the study"},
            caption="captions/page.rst",
        ),
        losses=report(
            R.losses,
            category="Summary",
            labels={"result": "Losses side by side"},
            caption="captions/losses.rst",
        ),
    log:
        R.log("report"),
    benchmark:
        R.benchmark("report")
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec_of_study(specs.report, command(CONFIGFILES, USER)),
        code=PLAN.code("report"),
        root=subpath(output.page, parent=True),
        sources=SOURCES,
    message:
        "report"
    shell:
        "nclens report"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " --output {output.page:q}"
        " --sources {params.sources:q}"
        " 2>&1 | tee -i {log:q}"
