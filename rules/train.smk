"""Training, or networks trained elsewhere, and extraction: one job a run and step."""

# in:  R/data/{dataset}.safetensors, R/data/{dataset}.json; a student's: RUN/snapshots.safetensors of its teacher; of
#      networks trained elsewhere: their files
# out: RUN/snapshots.safetensors, RUN/history.csv, RUN/run.json; RUN/features.safetensors


rule train:
    """Train one network: one data set, model, loss and seed."""
    input:
        data=of_run(PLAN.data),
        manifest=of_run(PLAN.manifest),
        teacher=of_run(PLAN.teachers_snapshots),
    output:
        snapshots=RUN.snapshots,
        history=RUN.history,
        run=RUN.run,
    log:
        R.log("train", "{run}"),
    benchmark:
        R.benchmark("train", "{run}")
    wildcard_constraints:
        run=PLAN.trained,
    priority: 10
    retries: 2
    conda:
        ENVIRONMENT
    threads: of_run(PLAN.cores, "train")
    resources:
        gpu=of_run(PLAN.training_slots, workflow.local_exec),
        mem_mb=megabytes(PLAN.training),
        runtime=minutes(PLAN.training),
        # Of a cluster; more of them, with `tasks` and `mpi`, are the profile's (docs/scale.md).
        nodes=1,
        slurm_extra=WARNING,
    params:
        spec=spec_of_run(specs.train),
        code=code_of_run("train"),
        run=subpath(output.run, parent=True),
        # A function of resources is no reason to run again.
        launcher=lambda wildcards, resources, threads: PLAN.launcher(resources, threads),
    message:
        "train {wildcards.run}"
    shell:
        "{params.launcher} "
        "nclens train"
        " --spec {params.spec:q}"
        " --code {params.code}"
        " --data {input.data:q}"
        " --manifest {input.manifest:q}"
        " --run {params.run:q}"
        " --threads {threads}"
        " 2>&1 | tee -i {log:q}"


rule ingest:
    """Take up networks that were trained elsewhere, or recorded features: one run."""
    input:
        data=of_run(PLAN.data),
        manifest=of_run(PLAN.manifest),
    output:
        snapshots=RUN.snapshots,
        history=RUN.history,
        run=RUN.run,
    log:
        R.log("ingest", "{run}"),
    benchmark:
        R.benchmark("ingest", "{run}")
    wildcard_constraints:
        run=PLAN.imported,
    priority: 10
    conda:
        ENVIRONMENT
    threads: of_run(PLAN.cores, "ingest")
    resources:
        gpu=of_run(PLAN.gpu_slots, workflow.local_exec),
        mem_mb=megabytes(PLAN.measuring),
        runtime=minutes(PLAN.measuring),
    params:
        spec=spec_of_run(specs.ingest),
        code=code_of_run("ingest"),
        digest=of_run(PLAN.checkpoints_digest),
        # A function of the output is no reason to run again: neither is a path.
        checkpoints=lambda wildcards, output: PLAN.checkpoints(PLAN.runs[wildcards.run]),
        run=subpath(output.run, parent=True),
    message:
        "ingest {wildcards.run}"
    shell:
        "nclens ingest"
        " --spec {params.spec:q}"
        " --code {params.code}"
        " --data {input.data:q}"
        " --manifest {input.manifest:q}"
        " --run {params.run:q}"
        " --checkpoints {params.checkpoints:q}"
        " --digest {params.digest}"
        " --threads {threads}"
        " 2>&1 | tee -i {log:q}"


rule extract:
    """Extract features, logits and head of every snapshot of a run."""
    input:
        data=of_run(PLAN.data),
        manifest=of_run(PLAN.manifest),
        snapshots=RUN.snapshots,
    output:
        features=RUN.features,
        earlier=temp(PLAN.earlier_features),
    log:
        R.log("extract", "{run}"),
    benchmark:
        R.benchmark("extract", "{run}")
    wildcard_constraints:
        run=PLAN.pattern,
    priority: 20
    group:
        "measure"
    conda:
        ENVIRONMENT
    threads: of_run(PLAN.cores, "extract")
    resources:
        gpu=of_run(PLAN.gpu_slots, workflow.local_exec),
        disk_mb=of_run(PLAN.features_mb),
        mem_mb=megabytes(PLAN.measuring),
        runtime=minutes(PLAN.measuring),
    params:
        spec=spec_of_run(specs.extract),
        code=code_of_run("extract"),
        run=subpath(output.features, parent=True),
        # A function of the output is no reason to run again.
        earlier=lambda wildcards, output: "--earlier" if output.earlier else "",
    message:
        "extract {wildcards.run}"
    shell:
        "nclens extract"
        " --spec {params.spec:q}"
        " --data {input.data:q}"
        " --manifest {input.manifest:q}"
        " --run {params.run:q}"
        " --threads {threads}"
        " {params.earlier}"
        " 2>&1 | tee -i {log:q}"
