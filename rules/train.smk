"""Training and extraction: one job a run, one rule a set of runs that keep the same epochs, most studies having one."""

# in:  R/data/{dataset}.safetensors, R/data/{dataset}.json; a student's: the last snapshot of its teacher
# out: RUN/snapshots/epoch{E}.safetensors, RUN/history.csv, RUN/run.json; RUN/features/epoch{E}.safetensors

for runs in PLAN.sets:

    rule:
        """Train one network: one data set, model, loss and seed."""
        name:
            f"train{runs.suffix}"
        input:
            data=of_run(PLAN.data),
            manifest=of_run(PLAN.manifest),
            teacher=of_run(PLAN.teachers_snapshot),
        output:
            snapshots=[RUN.snapshot(epoch) for epoch in runs.epochs],
            history=RUN.history,
            run=RUN.run,
        log:
            R.log("train", "{run}"),
        benchmark:
            R.benchmark("train", "{run}")
        wildcard_constraints:
            run=runs.pattern,
        priority: 10
        retries: 2
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            gpu=of_run(PLAN.gpu_slots, workflow.local_exec),
            mem_mb=megabytes(PLAN.training),
            runtime=minutes(PLAN.training),
            slurm_extra=WARNING,
        params:
            spec=spec_of_run(specs.train),
            code=code_of_run("train"),
            run=subpath(output.run, parent=True),
        message:
            "train {wildcards.run}"
        shell:
            "nclens train"
            " --spec {params.spec:q}"
            " --code {params.code}"
            " --data {input.data:q}"
            " --manifest {input.manifest:q}"
            " --run {params.run:q}"
            " --threads {threads}"
            " 2>&1 | tee -i {log:q}"

    rule:
        """Extract features, logits and head of every snapshot of a run."""
        name:
            f"extract{runs.suffix}"
        input:
            data=of_run(PLAN.data),
            manifest=of_run(PLAN.manifest),
            snapshots=[RUN.snapshot(epoch) for epoch in runs.epochs],
        output:
            features=[
                (
                    RUN.features(epoch)
                    if epoch in runs.kept
                    else temp(RUN.features(epoch))
                )
                for epoch in runs.epochs
            ],
        log:
            R.log("extract", "{run}"),
        benchmark:
            R.benchmark("extract", "{run}")
        wildcard_constraints:
            run=runs.pattern,
        priority: 20
        group:
            "measure"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            gpu=of_run(PLAN.gpu_slots, workflow.local_exec),
            disk_mb=of_run(PLAN.features_mb),
            mem_mb=megabytes(PLAN.measuring),
            runtime=minutes(PLAN.measuring),
        params:
            spec=spec_of_run(specs.extract),
            code=code_of_run("extract"),
            run=lambda wildcards: R.run(wildcards.run).folder,
        message:
            "extract {wildcards.run}"
        shell:
            "nclens extract"
            " --spec {params.spec:q}"
            " --data {input.data:q}"
            " --manifest {input.manifest:q}"
            " --run {params.run:q}"
            " --threads {threads}"
            " 2>&1 | tee -i {log:q}"
