"""Training and extraction: one job a run, one rule an experiment, because experiments differ in their epochs."""

# in:  R/data/{dataset}.safetensors, R/data/{dataset}.json; a student's: the last snapshot of its teacher
# out: RUN/snapshots/epoch{E}.safetensors, RUN/history.csv, RUN/run.json; RUN/features/epoch{E}.safetensors

for name, experiment in STUDY.experiments.items():

    rule:
        """Train one network: one data set, model, loss and seed."""
        name:
            f"train_{name}"
        input:
            data=DATA,
            manifest=MANIFEST,
            teacher=teachers_snapshot(name),
        output:
            snapshots=snapshots(experiment),
            history=f"{RUN}/history.csv",
            run=f"{RUN}/run.json",
        log:
            f"{R}/logs/train/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.log",
        benchmark:
            f"{R}/benchmarks/train/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.tsv"
        wildcard_constraints:
            dataset=either([experiment.dataset]),
            model=either([experiment.model]),
            loss=either(experiment.losses),
            seed=either(map(str, experiment.seeds)),
        priority: 10
        retries: 2
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            gpu=gpu_slots(experiment),
            mem_mb=megabytes(training_job),
            runtime=minutes(training_job),
            slurm_extra=WARNING,
        params:
            spec=lambda wildcards: spec(specs.train(STUDY, run_of(wildcards))),
            code=train_code,
            run=subpath(output.run, parent=True),
        message:
            "train {wildcards.dataset}/{wildcards.model}/{wildcards.loss}/seed{wildcards.seed}"
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
            f"extract_{name}"
        input:
            data=DATA,
            manifest=MANIFEST,
            snapshots=snapshots(experiment),
        output:
            features=[
                path if path in kept_features(experiment) else temp(path)
                for path in features(experiment)
            ],
        log:
            f"{R}/logs/extract/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.log",
        benchmark:
            f"{R}/benchmarks/extract/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.tsv"
        wildcard_constraints:
            dataset=either([experiment.dataset]),
            model=either([experiment.model]),
            loss=either(experiment.losses),
            seed=either(map(str, experiment.seeds)),
        priority: 20
        group:
            "measure"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            gpu=gpu_slots(experiment),
            disk_mb=features_mb,
            mem_mb=megabytes(measuring_job),
            runtime=minutes(measuring_job),
        params:
            spec=lambda wildcards: spec(specs.extract(STUDY, run_of(wildcards))),
            code=network_code("extract"),
            run=lambda wildcards: f"{R}/{run_of(wildcards).path}",
        message:
            "extract {wildcards.dataset}/{wildcards.model}/{wildcards.loss}/seed{wildcards.seed}"
        shell:
            "nclens extract"
            " --spec {params.spec:q}"
            " --data {input.data:q}"
            " --manifest {input.manifest:q}"
            " --run {params.run:q}"
            " --threads {threads}"
            " 2>&1 | tee -i {log:q}"
