"""Beam search of width 4: nclens, a plain search a sequence at a time without cache, and Hugging Face's `generate`.

    python benchmarks/beam_search.py

The sources are the first test words of studies/beam_search.yaml. The network has the size of the one trained there, 40
classes and d = 96, with random weights whose bias of the end makes hypotheses about as long as words. Each measurement
runs in a separate process with one thread; the three alternate. Times are processor times a word, the median over the
rounds. The plain search encodes a word once. It finds the same hypotheses up to rounding, which is checked; `generate`
frees the places of ended ones, so that its output may differ. Targets: at least 10 times the plain search's speed, and
at least that of `generate`. Needs nclens[sequences] and transformers.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

COUNTS = {"plain": 40, "nclens": 1000, "generate": 1000}
WIDTH = 4


def words():
    """Return the data of studies/beam_search.yaml."""
    from nclens.data import cmudict

    return cmudict.load(50_000, 5000, 2000, split_seed=0, measured_tokens=20_000, min_samples=10)


def network(data):
    """Return the network, the same in each process."""
    import torch

    from nclens.models.encoder_decoder import Vocabulary, transformer

    torch.manual_seed(0)
    sizes = Vocabulary(**data.target_facts["vocabulary"])
    made = transformer(sizes, sizes.target, width=96, dropout=0.0).eval()
    with torch.no_grad():
        made.head.weight.mul_(2)
        made.head.bias[sizes.end] += 2.8
    return made


def plain(made, sources):
    """Return the best hypothesis of each source: one after the other, each prefix computed from its beginning."""
    import torch

    sizes, best = made.backbone.vocabulary, []
    for source in sources:
        beams = [((), 0.0, False)]
        with torch.no_grad():
            encoded = made.backbone.encoder(source[source >= 0][None])
        for _ in range(sizes.longest_target):
            candidates = [beam for beam in beams if beam[2]]
            for tokens, total, ended in beams:
                if ended:
                    continue
                inputs = torch.tensor([sizes.begin, *tokens])
                with torch.no_grad():
                    hidden = made.backbone.decoder(inputs[None], *encoded)
                    log_p = made.head(hidden)[0, -1].double().log_softmax(0).tolist()
                candidates += [((*tokens, k), total + value, k == sizes.end) for k, value in enumerate(log_p)]
            candidates.sort(key=lambda beam: (-beam[1] / len(beam[0]), beam[0]))
            beams = candidates[:WIDTH]
            if all(ended for *_, ended in beams):
                break
        best.append(list(beams[0][0]))
    return best


def ours(made, sources):
    """Return the best hypothesis of each source by nclens."""
    from nclens.probes.beam_search import Search, beam_search

    end = made.backbone.vocabulary.end
    found = beam_search(made, sources, Search(width=WIDTH))
    return [[*first.tokens, *([end] if first.ended else [])] for first, *_ in found]


def theirs(made, sources):
    """Return a function that generates the best hypothesis of each source by Hugging Face, and its inputs."""
    import torch

    from nclens._torchvision import import_torchvision

    import_torchvision()
    from transformers import PegasusConfig, PegasusForConditionalGeneration

    from nclens.models.encoder_decoder import pegasus_weights

    configuration, weights = pegasus_weights(made)
    model = PegasusForConditionalGeneration(PegasusConfig(**configuration)).eval()
    model.load_state_dict(weights)
    padding, sizes = configuration["pad_token_id"], made.backbone.vocabulary
    given = {
        "input_ids": torch.where(sources < 0, padding, sources + sizes.target + 2),
        "attention_mask": (sources >= 0).long(),
    }
    return lambda: model.generate(
        **given, num_beams=WIDTH, max_new_tokens=sizes.longest_target, length_penalty=1.0, early_stopping="never"
    ).tolist()


def measure(name):
    """Return processor seconds a sequence, and what is found."""
    import torch

    torch.set_num_threads(1)
    data = words()
    made = network(data)
    sources = made.backbone.parts(data.test_inputs[: COUNTS[name]])[0]
    if name == "generate":
        run = theirs(made, sources)
    else:
        function = plain if name == "plain" else ours
        run = lambda: function(made, sources)  # noqa: E731
    if name != "plain":
        run()  # loads what the first call loads
    start = time.process_time()
    found = run()
    return {"seconds": (time.process_time() - start) / len(sources), "found": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes a search")
    parser.add_argument("--measure", choices=list(COUNTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return

    results = {name: [] for name in COUNTS}
    for _ in range(options.rounds):
        for name, runs in results.items():
            command = [sys.executable, __file__, "--measure", name]
            runs.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    expected, found = results["plain"][0]["found"], results["nclens"][0]["found"]
    same = statistics.mean(one == other for one, other in zip(found, expected, strict=False))
    assert same >= 0.9, same
    mean = statistics.mean(map(len, found))
    print(f"width {WIDTH}, hypotheses of {mean:.1f} tokens, {same:.0%} those of the plain search")
    seconds = {name: statistics.median(run["seconds"] for run in runs) for name, runs in results.items()}
    for name, value in seconds.items():
        print(f"{name:9} {1000 * value:8.2f} ms a word  nclens is {value / seconds['nclens']:6.1f} times as fast")


if __name__ == "__main__":
    main()
