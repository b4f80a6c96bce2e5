"""Measurement: what every snapshot shows, what probes of its network find, and the one table that all below read."""

# in:  RUN/features.safetensors, RUN/snapshots.safetensors, R/data/*, RUN/history.csv; runs of other studies
# out: RUN/metrics.csv, RUN/film.safetensors, RUN/probes.csv (of experiments that list probes), RUN/hypotheses.json (in
#      studies that translate), R/reused.json (of those that reuse runs of another study), R/metrics.parquet


rule measure:
    """Measure collapse, logits and calibration on every snapshot of a run, and project a sample of its features."""
    input:
        features=of_run(PLAN.features),
    output:
        metrics=RUN.metrics,
        film=RUN.film,
    log:
        R.log("measure", "{run}"),
    benchmark:
        R.benchmark("measure", "{run}")
    wildcard_constraints:
        run=PLAN.pattern,
    priority: 30
    group:
        "measure"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        disk_mb=of_run(PLAN.features_mb),
        mem_mb=megabytes(PLAN.measuring),
        runtime=minutes(PLAN.measuring),
    params:
        spec=spec_of_run(specs.measure),
        code=code_of_run("measure"),
        run=subpath(output.metrics, parent=True),
    message:
        "measure {wildcards.run}"
    shell:
        "nclens measure"
        " --spec {params.spec:q}"
        " --run {params.run:q}"
        " --threads {threads}"
        " 2>&1 | tee -i {log:q}"


rule probe:
    """Probe the networks of a run: on other data, or sample by sample."""
    input:
        data=of_run(PLAN.data),
        manifest=of_run(PLAN.manifest),
        transfer=of_run(PLAN.transfer_data),
        snapshots=RUN.snapshots,
    output:
        probes=RUN.probes,
        hypotheses=PLAN.any_hypotheses,
    log:
        R.log("probe", "{run}"),
    benchmark:
        R.benchmark("probe", "{run}")
    wildcard_constraints:
        run=PLAN.probed,
    priority: 30
    conda:
        ENVIRONMENT
    threads: of_run(PLAN.cores, "probe")
    resources:
        gpu=of_run(PLAN.gpu_slots, workflow.local_exec),
        mem_mb=megabytes(PLAN.probing),
        runtime=minutes(PLAN.probing),
    params:
        spec=spec_of_run(specs.probe),
        code=code_of_run("probe"),
        root=subpath(output.probes, ancestor=5),
        # A function of the output is no reason to run again.
        hypotheses=lambda wildcards, output: "--hypotheses" if output.hypotheses else "",
    message:
        "probe {wildcards.run}"
    shell:
        "nclens probe"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " --threads {threads}"
        " {params.hypotheses}"
        " 2>&1 | tee -i {log:q}"


rule reuse:
    """Check the runs of other studies that this one uses, and record their digests."""
    input:
        manifests=PLAN.manifests(),
    output:
        record=R.reused,
    log:
        R.log("reuse"),
    benchmark:
        R.benchmark("reuse")
    # Before the first training: what does not agree is refused first.
    priority: 100
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec_of_study(specs.reuse),
        code=PLAN.code("reuse"),
        digests=lambda wildcards: json.dumps(PLAN.reused_digests(), sort_keys=True),
        root=subpath(output.record, parent=True),
        sources=SOURCES,
    message:
        "reuse"
    shell:
        "nclens reuse"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " --sources {params.sources:q}"
        " --digests {params.digests:q}"
        " 2>&1 | tee -i {log:q}"


rule collect:
    """Collect every run's measurements, probes and history into one table."""
    input:
        metrics=PLAN.of_all(lambda run: PLAN.of(run).metrics),
        probes=PLAN.of_all(PLAN.probes),
        histories=PLAN.of_all(lambda run: PLAN.of(run).history),
        features=PLAN.features_of_arcs(),
        hypotheses=PLAN.of_all(PLAN.hypotheses),
        reused=PLAN.reused(),
    output:
        table=R.metrics,
    log:
        R.log("collect"),
    benchmark:
        R.benchmark("collect")
    priority: 40
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=spec_of_study(specs.collect),
        code=PLAN.code("collect"),
        root=subpath(output.table, parent=True),
        sources=SOURCES,
    message:
        "collect"
    shell:
        "nclens collect"
        " --spec {params.spec:q}"
        " --root {params.root:q}"
        " --output {output.table:q}"
        " --sources {params.sources:q}"
        " 2>&1 | tee -i {log:q}"
