"""How well mixtures are recovered: intervals over many made-up worlds, and real text of the machine's own Python."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import languages
import numpy as np
import pytest

from operators.merges import infer_from_words, parse_bpe, word_counts


@pytest.mark.slow
def test_intervals_cover_the_truth_at_their_level() -> None:
    held = []
    for seed in range(300, 309):
        made = languages.world(seed, 3 + seed % 4, trained_on=300_000, merges=400)
        inference, sampled = infer_from_words(made.bpe, made.words, resamples=30)
        assert np.abs(inference.byte_share - made.truth).mean() < 0.02
        assert not sampled.is_misfit
        held += ((sampled.byte_low <= made.truth) & (made.truth <= sampled.byte_high)).tolist()
    assert np.mean(held) >= 0.82  # some 40 shares: 0.95 less three and a half standard errors


def pieces(paths: list[Path], size: int = 500, most: int = 3600) -> list[str]:
    text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)
    return [text[start : start + size] for start in range(0, len(text), size)][:most]


@pytest.mark.parametrize("seed", [0, 1])
def test_real_sources_are_recovered(seed: int) -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = {
        "code": pieces(sorted(library.glob("*.py"))),
        "manual": pieces([library / "pydoc_data" / "topics.py"]),
        "headers": pieces(sorted(Path(sysconfig.get_paths()["include"]).rglob("*.h"))),
    }
    sources = {name: texts for name, texts in sources.items() if len(texts) >= 800}
    if len(sources) < 2:
        pytest.skip("this Python came without its headers and its manual")
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.full(len(sources), 2.0))
    data, sizes, samples = [], [], {}
    for (name, texts), share in zip(sources.items(), shares, strict=True):
        texts = [texts[place] for place in generator.permutation(len(texts))]
        half = len(texts) // 2
        samples[name] = texts[half:]
        taken = texts[: max(1, int(share * 1600))]
        data += taken
        sizes.append(sum(len(text.encode()) for text in taken))
    bpe = parse_bpe(languages.train(data, 1500).to_str())
    words = {name: word_counts(bpe, texts, range(len(texts))) for name, texts in samples.items()}
    inference, _ = infer_from_words(bpe, words, resamples=5)
    truth = np.array(sizes) / sum(sizes)
    assert np.abs(inference.byte_share - truth).mean() < 0.03
