"""Write the resolved study: the configuration with every default written out."""

from pathlib import Path

import yaml

from nclens.workflow.files import write_text
from nclens.workflow.specs import Resolve


def resolve(spec: Resolve, output: Path) -> None:
    """Write R/study.yaml: itself a valid configuration, beside the files of the user's own parts if it has any."""
    heading = "# The resolved study, every default written out. Made by the rule `resolve`: edits change nothing.\n"
    write_text(output, heading + yaml.safe_dump(spec.resolved, sort_keys=False, allow_unicode=True))
