"""Texts: questions (TREC), news (AG News) and reviews (IMDb) as rows of word numbers; Shakespeare and reviews as
characters."""

from __future__ import annotations

import collections
import csv
import io
import re
from pathlib import Path

import torch

from racing.data.files import archive
from racing.parts import Part, Splits, splits_of

__all__ = ["CHARACTERS", "ag_news", "imdb", "reviews", "shakespeare", "trec"]

CHARACTERS = 65  # that tiny Shakespeare uses
_SHAKESPEARE = "tinyshakespeare/input.txt"
_WORD = re.compile(r"[a-z0-9']+|[?!.,]")
_PADDING, _UNKNOWN, _FIRST = 0, 1, 2  # word numbers


def trec(root: Path, vocabulary: int, length: int) -> Splits:
    """Questions of six kinds."""
    texts, labels = [], []
    for part in ("train", "test"):
        for line in _read(root, "text-small.zip", f"sentences/TREC.{part}.all").splitlines():
            label, _, text = line.partition(" ")
            labels.append(int(label))
            texts.append(text)
    return _classified(texts, labels, vocabulary, length, 800, 1200)


def ag_news(root: Path, vocabulary: int, length: int) -> Splits:
    """News of four kinds: title and description."""
    rows = list(csv.reader(io.StringIO(_read(root, "text-small.zip", "ag_news_test/test.csv"))))
    texts = [" ".join(row[1:]) for row in rows]
    return _classified(texts, [int(row[0]) - 1 for row in rows], vocabulary, length, 800, 1200)


def imdb(root: Path, vocabulary: int, length: int) -> Splits:
    """Reviews of films, good or bad."""
    texts, labels = [], []
    for part in ("train", "test"):
        for line in _read(root, "imdb-small.zip", f"{part}.tsv").splitlines():
            label, _, text = line.partition("\t")
            labels.append(int(label == "pos"))
            texts.append(text)
    return _classified(texts, labels, vocabulary, length, 1000, 1500)


def shakespeare(root: Path, length: int, n_choose: int, n_judge: int) -> Splits:
    """Windows of characters and the characters that follow each; the end of the plays is chosen by and judged on."""
    text = _read(root, "text-small.zip", _SHAKESPEARE)
    return _windows(text, _alphabet(text), length, n_choose, n_judge)


def reviews(root: Path, length: int, n_choose: int, n_judge: int) -> Splits:
    """Windows of characters of film reviews: those that Shakespeare has, by its numbers; all others are left out."""
    number = _alphabet(_read(root, "text-small.zip", _SHAKESPEARE))
    lines = _read(root, "imdb-small.zip", "train.tsv").splitlines()
    text = "\n".join(line.partition("\t")[2] for line in lines)
    return _windows("".join(c for c in text if c in number), number, length, n_choose, n_judge)


def _alphabet(text: str) -> dict[str, int]:
    return {character: i for i, character in enumerate(sorted(set(text)))}


def _windows(text: str, number: dict[str, int], length: int, n_choose: int, n_judge: int) -> Splits:
    codes = torch.tensor([number[character] for character in text])
    held_out = len(codes) // 10
    pieces = codes[: -2 * held_out], codes[-2 * held_out : -held_out], codes[-held_out:]
    parts = []
    for piece, most in zip(pieces, (None, n_choose, n_judge), strict=True):
        windows = piece[: (len(piece) - 1) // length * length + 1].unfold(0, length + 1, length)  # (N, length + 1)
        if most is not None:  # evenly spread
            windows = windows[torch.linspace(0, len(windows) - 1, min(most, len(windows))).long()]
        parts.append(Part(windows[:, :-1].contiguous(), windows[:, 1:].contiguous()))
    return Splits(*parts)


def _classified(
    texts: list[str], labels: list[int], vocabulary: int, length: int, n_choose: int, n_judge: int
) -> Splits:
    """Words by number, the commonest of the training texts; all else is unknown, and what is short is padded."""
    words = [_WORD.findall(text.lower())[:length] for text in texts]
    places = torch.arange(len(texts))
    where = splits_of(places, torch.tensor(labels), n_choose, n_judge, by_class=True)
    counts = collections.Counter(word for i in where.train.inputs.tolist() for word in words[i])
    common = sorted(counts, key=lambda word: (-counts[word], word))[: vocabulary - _FIRST]
    number = {word: i for i, word in enumerate(common, _FIRST)}
    rows = torch.full((len(texts), length), _PADDING)
    for i, text in enumerate(words):
        rows[i, : len(text)] = torch.tensor([number.get(word, _UNKNOWN) for word in text], dtype=torch.long)
    return Splits(*(Part(rows[part.inputs], part.targets) for part in (where.train, where.choose, where.judge)))


def _read(root: Path, file: str, member: str) -> str:
    with archive(root / "text" / file) as opened:
        return opened.read(member).decode("utf-8", "replace")
