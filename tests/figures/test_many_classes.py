import numpy as np
import pandas as pd
import pytest

from nclens.study import load_study
from nclens.workflow.build.figures import draw_figure
from tests.figures.artists import notes_of

SHOWN = ("one_vs_rest", "gnc2_log", "gnc2_distance_variance", "nc2", "equiangular")


def also(optimum):
    def change(table):
        base = table[table["metric"] == "nc3"]
        parts = [
            base.assign(metric=f"{metric}_{matrix}", value=0.5 * base["value"])
            for metric in SHOWN
            for matrix in ("means", "classifier")
        ]
        table = table[~table["metric"].isin([f"{metric}_{of}" for metric in SHOWN for of in ("means", "classifier")])]
        return pd.concat([table, *parts, base.assign(metric="one_vs_rest_optimum", value=optimum)], ignore_index=True)

    return change


@pytest.mark.parametrize(
    ("optimum", "note"), [(1.0, "largest possible one-vs-rest distance, 1"), (np.nan, "not known")]
)
def test_every_panel_has_its_lines_and_the_optimum_is_drawn_where_it_is_known(simulate, optimum, note):
    inputs = simulate(seeds=(0, 1), change=also(optimum))
    figure, table = draw_figure("many_classes", inputs)
    expected = {f"{metric}_{matrix}" for metric in SHOWN for matrix in ("means", "classifier")}
    assert set(table["metric"]) == expected | {"nc3"}
    assert set(table["split"]) == {"train"}
    assert note in notes_of(figure)
    level = [line for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1 and line.get_ydata()[0] == 1.0]
    assert len(level) == (0 if np.isnan(optimum) else 1)


def test_it_is_drawn_by_default_where_k_exceeds_d_plus_1_alone():
    study = load_study(
        {
            "study": "s",
            "datasets": {"mnist5k": {"source": "mnist5k"}},
            "models": {f"d{d}": {"name": "mlp", "widths": [d]} for d in (8, 9)},
            "losses": {"ce": {"name": "ce"}},
            "experiments": {
                f"d{d}": {
                    **{"dataset": "mnist5k", "model": f"d{d}", "losses": ["ce"], "seeds": [0]},
                    "training": {"epochs": 2, "batch_size": 50, "optimizer": {"name": "sgd", "learning_rate": 0.1}},
                }
                for d in (8, 9)
            },
        }
    )
    assert "many_classes" in study.figures("d8")
    assert "many_classes" not in study.figures("d9")
