"""`assay bench score`: useful tokens a second on mixed lengths, against the bare forward pass and peers.

    bare forward     body and head product over the same packed batches, by the fastest product there is: the limit
    assay            tokenize + score, all core statistics, through the operators a run uses
    research loop    one document at a time, full softmax and log_softmax; ranks by argsort, or none
    peers            lm-evaluation-harness and minicons (extra `bench`): log-prob alone

Same model and documents (log-normal lengths), one thread each, float32, turns interleaved. Useful tokens are those with
a prediction. Agreement is the largest difference of a document's summed log-prob from assay's over the ids that the
peer feeds: lm-evaluation-harness puts a BOS before the text and scores the first token, as `--bos always` does.
"""

from __future__ import annotations

import itertools
import json
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.bench.measure import peak_extra_bytes, record, show, take_turns
from jobs.bench.peers import FEEDS_BOS, available
from jobs.bench.shapes import CONTEXT, random_model

if TYPE_CHECKING:
    from operators.tokenize import Bos

MEAN_LOG_LENGTH, STD_LOG_LENGTH = 5.0, 0.8  # tokens: median 148, mean about 200


def bench_score(shape: str, rounds: int, n_documents: int, with_peers: bool) -> None:
    """Run the verb; the model and its tokenizer live in a temporary folder."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = prepare(folder, shape, n_documents)
        ours = assay(folder)
        n_tokens = len(ours(texts)[1]) - len(texts)
        lengths = ours(texts)[0]
        variants: dict[str, Callable[[], Any]] = {"bare forward": bare_forward(folder, lengths)}
        variants["assay"] = lambda: ours(texts)
        peers = available(folder) if with_peers else {}
        variants |= {label: _bound(peer, texts) for label, peer in peers.items()}
        timings = take_turns(variants, rounds)
        own, with_bos = _sums(ours(texts)), _sums(assay(folder, "always")(texts))
        differences = {
            label: _difference(peer(texts), with_bos if label in FEEDS_BOS else own) for label, peer in peers.items()
        }
        memory = peak_extra_bytes(_prepare_assay, str(folder), texts)
    rows, results = [], {}
    for label, timing in timings.items():
        rate = n_tokens / timing.median
        ratio = timing.ratio(timings["assay"])
        difference = differences.get(label)
        results[label] = {
            "tokens_per_s": rate,
            "assay_is_faster_by": ratio,
            "noise": timing.spread,
            "dlogprob": difference,
        }
        agreement = "" if difference is None else f"{difference:.1e}"
        rows.append([label, f"{rate:,.0f}", f"{ratio:.2f}x", f"{timing.spread:.1%}", agreement])
    show(
        f"{shape}: {n_documents} documents, {n_tokens:,} useful tokens, float32, one thread, median of {rounds} rounds",
        ["variant", "tokens/s", "assay against it", "noise", "max |d sum logprob|"],
        rows,
    )
    print(f"assay's extra peak memory: {memory / 2**20:.0f} MiB; sum of log-probs {sum(own):.4f}")
    record(
        "score", results, shape=shape, rounds=rounds, documents=n_documents, tokens=n_tokens, threads=1,
        extra_peak_mib=memory / 2**20, logprob_sum=sum(own),
    )  # fmt: skip


def prepare(folder: Path, shape: str, n_documents: int) -> list[str]:
    """Save model and tokenizer; return texts of log-normal token length cut from the standard library."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from jobs.demo.corpus import fragments

    library = Path(sysconfig.get_paths()["stdlib"])
    text = "".join(fragment.text for fragment in itertools.islice(fragments(library), 3000))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=8192, special_tokens=["<eos>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train_from_iterator([text[:1_000_000]], trainer)
    model = random_model(shape, "float32")
    model.config.bos_token_id = model.config.eos_token_id = 0
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<eos>")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    lengths = np.exp(np.random.default_rng(0).normal(MEAN_LOG_LENGTH, STD_LOG_LENGTH, n_documents)).astype(int)
    encoded = tokenizer.encode(text[1_000_000:])
    texts, start = [], 0
    for length in lengths.clip(8, CONTEXT - 8):
        first, last = encoded.offsets[start][0], encoded.offsets[start + length][0]
        texts.append(text[1_000_000 + first : 1_000_000 + last])
        start += length
    return texts


def assay(folder: Path, bos: Bos = "auto") -> Callable[[Sequence[str]], tuple[list[int], np.ndarray]]:
    """tokenize + score, as the pipeline's steps do: (tokens a document, log-probs of all tokens)."""
    from operators.model_files import ModelOptions
    from operators.score import ScoreOptions, Scorer
    from operators.tokenize import DocumentTokenizer, TokenizeOptions
    from operators.windows import WindowOptions
    from schemas.flow import READ

    scorer = Scorer(ScoreOptions(ModelOptions(str(folder), device="cpu"), WindowOptions(CONTEXT, CONTEXT // 2)))
    tokenizer = DocumentTokenizer.load(folder, TokenizeOptions(bos=bos))

    def run(texts: Sequence[str]) -> tuple[list[int], np.ndarray]:
        rows = [{"source": "bench", "row": i, "key": str(i), "text": text} for i, text in enumerate(texts)]
        block = scorer(tokenizer(pa.Table.from_pylist(rows, schema=READ)))
        lists = block["logprob"].combine_chunks()
        return lists.value_lengths().to_pylist(), lists.flatten().to_numpy(zero_copy_only=False)

    return run


def bare_forward(folder: Path, lengths: list[int]) -> Callable[[], None]:
    """Body and head product over the same packed batches: nothing is read off the logits."""
    import torch

    from operators.model_files import ModelOptions
    from operators.models import ScoringModel
    from operators.products import fastest
    from operators.score import CPU_BATCH_TOKENS
    from operators.windows import WindowOptions, pack, segments

    model = ScoringModel.load(ModelOptions(str(folder), device="cpu"))
    weight = model.model.get_output_embeddings().weight
    product = fastest(weight.device, weight.dtype)
    ids = torch.randint(0, model.vocab_size, (2 * CONTEXT,), generator=torch.Generator().manual_seed(1))
    batches = []
    for batch in pack(segments(lengths, WindowOptions(CONTEXT, CONTEXT // 2)), CPU_BATCH_TOKENS):
        edges = np.cumsum([0, *(len(s) for s in batch)]).tolist()
        batches.append(list(itertools.pairwise(edges)))

    @torch.inference_mode()
    def run() -> None:
        for bounds in batches:
            hidden = model.hidden(ids[: bounds[-1][1]], bounds)
            for rows in torch.split(hidden, 512):
                _ = product(rows, weight)

    return run


def _prepare_assay(folder: str, texts: list[str]) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(1)
    run = assay(Path(folder))
    run(texts[:2])
    return lambda: run(texts)


def _bound(peer: Callable[[Sequence[str]], list[float]], texts: list[str]) -> Callable[[], list[float]]:
    return lambda: peer(texts)


def _sums(scored: tuple[list[int], np.ndarray]) -> list[float]:
    lengths, logprob = scored
    ends = np.cumsum(lengths)
    return [float(np.nansum(logprob[end - n : end], dtype=np.float64)) for n, end in zip(lengths, ends, strict=True)]


def _difference(theirs: list[float], ours: list[float]) -> float:
    return float(np.abs(np.array(theirs) - np.array(ours)).max())
