"""Runs the classifier in this folder with torch and transformers alone, where the classes of
transformers would give other answers: another pooling than the last token, a causal mask that is
removed in some layers only, an architecture without a class for the task. README.md says which it
is. Nothing here is imported by transformers itself, so no trust_remote_code is needed:

    import classifier                       # this file, beside the weights
    model = classifier.load("the folder")   # load(folder, device="cuda") on a GPU
    model.predict(["a text", ("a text", "and the one that it is paired with")])
    model.predict([["Ada", "met", "Alan"]])  # of a tagger: words, or a text, cut at its spaces

The answers have the probabilities that `ls-cli predict` gives. What decides them stands in
`ls_llama.json`; the decoder is that of transformers, with the mask of each layer put in its place.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging


def load(folder=None, device="cpu"):
    """The classifier of a folder; without one, of the folder that this file is in."""
    return Classifier(Path(folder or Path(__file__).parent), device)


class Classifier:
    def __init__(self, folder, device):
        self.settings = json.loads((folder / "ls_llama.json").read_text(encoding="utf-8"))
        self.config = AutoConfig.from_pretrained(folder)
        self.labels = self.settings["labels"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.device = device
        # The head is not the decoder's: transformers would report it as unexpected.
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        # With masks that are given, the other ways to attend differ in speed at most; some of them
        # know nothing of Gemma 2's soft cap.
        self.model = AutoModel.from_pretrained(folder, attn_implementation="eager").to(device).eval()
        logging.set_verbosity(verbosity)
        head = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as tensors:
                names = [name for name in tensors.keys() if name.startswith("score.")]
                head.update((name, tensors.get_tensor(name).float().to(device)) for name in names)
        self.weight, self.bias = head["score.weight"], head.get("score.bias")
        for layer, (both, window) in zip(self.model.layers, self._visible(), strict=True):
            layer.register_forward_pre_hook(self._put_mask(both, window), with_kwargs=True)

    # --- who sees whom ---

    def _visible(self):
        """Of each layer whether a token sees those on its right, and the sliding window."""
        count, mode = self.config.num_hidden_layers, self.settings["attention"]
        kind, _, what = mode.partition(":")
        if kind == "from":
            both = [layer >= int(what) for layer in range(count)]
        elif kind == "layers":
            ranges = [[int(end) for end in part.split("-")] for part in what.split(",")]
            both = [any(ends[0] <= layer <= ends[-1] for ends in ranges) for layer in range(count)]
        elif kind == "groups":
            both = [what[layer * len(what) // count] == "1" for layer in range(count)]
        else:
            both = [kind == "bidirectional"] * count
        kinds = getattr(self.config, "layer_types", None) or ["sliding_attention"] * count
        window = getattr(self.config, "sliding_window", None)
        return [
            (both, window if kind == "sliding_attention" else None)
            for both, kind in zip(both, kinds, strict=True)
        ]

    def _put_mask(self, both, window):
        def hook(_, args, kwargs):
            return args, {**kwargs, "attention_mask": self._mask(both, window)}

        return hook

    def _mask(self, both, window):
        """`[batch, 1, queries, keys]`: 0 where a token is seen, else the least number there is."""
        place = torch.arange(self.seen.shape[1], device=self.device)
        ahead = place[None, :] - place[:, None]
        visible = torch.ones_like(ahead, dtype=torch.bool) if both else ahead <= 0
        if window is not None:
            # As transformers counts it: so many to either side, or the own place and those before.
            visible &= ahead.abs() <= window if both else ahead > -window
        visible = visible[None, None] & self.seen[:, None, None, :]
        dtype = self.model.dtype
        return torch.zeros(visible.shape, dtype=dtype, device=self.device).masked_fill(
            ~visible, torch.finfo(dtype).min
        )

    # --- logits ---

    def _forward(self, rows):
        """Logits of each token, `[batch, tokens, labels]` in f32, ids, and which are tokens."""
        attended = self.settings["padding"] == "attended"
        length = max([*map(len, rows), self.settings.get("pad_to") or 0])
        pad = self.settings["pad_token_id"]
        left = self.settings["padding_side"] == "left"
        ids = torch.full((len(rows), length), pad, dtype=torch.long)
        real = torch.zeros((len(rows), length), dtype=torch.bool)
        for row, (at, tokens) in enumerate(zip(ids, rows)):
            place = slice(length - len(tokens), length) if left else slice(0, len(tokens))
            at[place] = torch.tensor(tokens)
            real[row, place] = True
        tokens = torch.ones_like(real) if attended else real
        ids, real, self.seen = ids.to(self.device), real.to(self.device), tokens.to(self.device)
        positions = (self.seen.long().cumsum(1) - 1).clamp(min=0)
        states = self.model(
            input_ids=ids, attention_mask=self.seen.long(), position_ids=positions, use_cache=False
        ).last_hidden_state
        logits = torch.nn.functional.linear(states.float(), self.weight, self.bias)
        return logits, ids, real

    def _pooled(self, rows):
        """`[batch, labels]`: the logits of the tokens of each row as one."""
        logits, ids, _ = self._forward(rows)
        seen, pooling = self.seen, self.settings["pooling"]
        if pooling == "mean":
            return (logits * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)
        if pooling == "max":
            return logits.masked_fill(~seen[..., None], float("-inf")).amax(1)
        if pooling == "last_not_pad":
            seen = seen & (ids != self.settings["pad_token_id"])
        places = torch.arange(seen.shape[1], device=self.device)
        last = (places * seen).argmax(1)
        return logits[torch.arange(len(rows), device=self.device), last]

    def _scores(self, logits):
        problem = self.settings.get("problem_type")
        if problem == "regression":
            return logits
        if problem == "multi_label_classification" or len(self.labels) == 1:
            return logits.sigmoid()
        return logits.softmax(-1)

    def _answer(self, scores):
        best = int(scores.argmax())
        named = dict(zip(self.labels, scores.tolist()))
        answer = {"label": self.labels[best], "score": float(scores[best])}
        if self.settings.get("problem_type") == "multi_label_classification":
            fitted = self.settings.get("calibration", {}).get("thresholds") or [0.5] * len(self.labels)
            held = zip(self.labels, named.values(), fitted, strict=True)
            answer["labels"] = [label for label, score, least in held if score >= least]
        return {**answer, "scores": named}

    # --- answers ---

    @torch.no_grad()
    def predict(self, inputs, batch_size=None):
        """An answer for each input, in their order. Of a classifier it has `label`, `score` and
        `scores`, the probability of each label, and where any number of labels may hold `labels`,
        those that do; of a regression `score` is the number. Of a tagger it is a list with such an
        object for each word (None for a word that was cut off or has no token)."""
        if isinstance(inputs, str):
            raise TypeError(f"predict takes a list of inputs, not a text: predict([{inputs[:40]!r}])")
        inputs = list(inputs)
        of_words = self.settings["task"] == "token"
        encode, answer = (self._words, self._tags) if of_words else (self._text, self._classes)
        encoded = [encode(one) for one in inputs]
        answers = []
        size = batch_size or self.settings["batch_size"]
        for first in range(0, len(encoded), size):
            answers += answer(encoded[first : first + size])
        return answers

    def _classes(self, rows):
        return [self._answer(scores) for scores in self._scores(self._pooled(rows))]

    def _text(self, text):
        """The ids of a text, or of a pair of them."""
        pair = None
        if not isinstance(text, str):
            text, pair = text
        limit, long = self.settings["max_length"], self.settings["long_inputs"]
        if pair is not None:
            return self._pair(text, pair)
        ids = self.tokenizer(text)["input_ids"]
        if len(ids) <= limit:
            return ids
        self._expect(long != "window", "text")
        bare = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        before, after = self._around(ids, bare)
        room = limit - len(before) - len(after)
        tail = {"truncate": 0, "tail": room, "head_tail": room // 2}[long]
        kept = bare[: room - tail] + (bare[-tail:] if tail else [])
        return before + kept + after

    def _pair(self, text, pair):
        """The ids of two texts. Those past the limit lose tokens as in ls-cli: the longer one is cut
        down to the shorter, then both, and what stays of each goes by `long_inputs`."""
        encoded = self.tokenizer(text, pair, return_special_tokens_mask=True)
        ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
        limit, long = self.settings["max_length"], self.settings["long_inputs"]
        if len(ids) <= limit:
            return ids
        if long == "window":
            raise ValueError(
                f"a pair of texts has {len(ids)} tokens, more than {limit}, and no windows: "
                "shorten it (ls-cli predict refuses it too)"
            )
        texts = [None if own else text for own, text in zip(special, encoded.sequence_ids(0))]
        lengths = [texts.count(text) for text in (0, 1)]
        room = max(limit - sum(special), 0)
        short, other = sorted(lengths)
        other = max(short, room - short)
        if short + other > room:
            short = room // 2
            other = room - short
        kept = [other, short] if lengths[0] > lengths[1] else [short, other]
        place, stays = [0, 0], []
        for token, text in zip(ids, texts):
            if text is not None:
                at, many = place[text], kept[text]
                place[text] += 1
                head = {"truncate": many, "tail": 0, "head_tail": (many + 1) // 2}[long]
                if head <= at < lengths[text] - (many - head):
                    continue
            stays.append(token)
        return stays

    def _around(self, ids, bare):
        """The special tokens before and after a text."""
        before = next(at for at in range(len(ids)) if ids[at : at + len(bare)] == bare)
        return ids[:before], ids[before + len(bare) :]

    def _expect(self, can, what):
        if not can:
            limit = self.settings["max_length"]
            raise ValueError(f"a {what} of more than {limit} tokens: ls-cli predict reads it in windows")

    def _words(self, words):
        """The ids of words, and the place of the token that speaks for each."""
        words = words.split() if isinstance(words, str) else list(words)
        split = self.settings["words"] == "split"
        if split:
            encoded = self.tokenizer(words, is_split_into_words=True)
            owners = encoded.word_ids()
        else:
            also = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
            encoded = self.tokenizer(" ".join(words), **also)
            owners = self._owners(words, encoded)
        ids, limit = encoded["input_ids"], self.settings["max_length"]
        if len(ids) > limit:
            self._expect(self.settings["long_inputs"] != "window", "sentence")
            behind = len(ids) - 1 - max(at for at, word in enumerate(owners) if word is not None)
            kept = limit - behind
            ids = ids[:kept] + ids[len(ids) - behind :]
            owners = owners[:kept] + [None] * behind
        position, places = self.settings["label_position"], [None] * len(words)
        tokens = self.tokenizer.convert_ids_to_tokens(ids)
        for at, word in enumerate(owners):
            if word is None:
                continue
            if position == "last" or places[word] is None:
                places[word] = at
            elif position == "first_visible" and not tokens[places[word]].strip("▁Ġ "):
                places[word] = at
        return ids, places

    @staticmethod
    def _owners(words, encoded):
        """The word of each token of words that are joined by spaces. A token of spaces alone belongs
        to the word behind it."""
        ends, end = [], -1
        for word in words:
            end += 1 + len(word)
            ends.append(end)
        owners, word = [], 0
        for (_, end), special in zip(encoded["offset_mapping"], encoded["special_tokens_mask"]):
            while not special and word + 1 < len(words) and end > ends[word]:
                word += 1
            owners.append(None if special else word)
        return owners

    def _tags(self, rows):
        logits, _, real = self._forward([ids for ids, _ in rows])
        answers = []
        for row, (ids, places) in enumerate(rows):
            scores = self._scores(logits[row][real[row]])
            answers.append([None if at is None else self._answer(scores[at]) for at in places])
        return answers
