"""The atlas of all studies that are in results/."""

# in:  the folders in results/, whatever made them
# out: results/atlas.html, results/atlas.csv

from nclens.workflow.paths import AtlasFolder

ATLAS = AtlasFolder(R.root.parent)


rule atlas:
    """Write the atlas of the studies that are there: a target, on which nothing depends."""

    # No input, which would make the studies; no output, which Snakemake deletes where one of them is unfinished.
    log:
        ATLAS.log,
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    params:
        root=ATLAS.root,
    message:
        "atlas"
    shell:
        "nclens atlas {params.root:q}/*/ --to {params.root:q} 2>&1 | tee -i {log:q}"
