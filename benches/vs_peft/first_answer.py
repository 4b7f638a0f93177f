#!/usr/bin/env python3
"""One sentence labelled with transformers + peft, from process start: the other side of `ls-cli predict`.

    python first_answer.py OUT/model OUT/adapter TEXT

No more is imported and done than that takes.
"""

import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model, adapter, text = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
classifier = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
classifier = PeftModel.from_pretrained(classifier, adapter).eval()
with torch.no_grad():
    scores = classifier(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
best = int(scores.argmax())
print(json.dumps({"text": text, "label": classifier.config.id2label[best], "score": scores[best].item()}))
