"""Asks a service by the client that openapi-python-client made of its document, and prints the answers.

    python use_client.py CLIENT_DIR URL
"""

import json
import sys

sys.path.insert(0, sys.argv[1])
from ls_llama_client import Client
from ls_llama_client.api.texts import classify, predict_with
from ls_llama_client.api.words import ner_with
from ls_llama_client.models import ClassifyRequest, NerRequest, PredictRequest

client = Client(base_url=sys.argv[2])
text, others = "good and warm", [["good and warm"], ["sad"]]
answers = {
    "text": [of.to_dict() for of in predict_with.sync("texts", client=client, body=PredictRequest(inputs=text))],
    "texts": [
        [of.to_dict() for of in labels]
        for labels in predict_with.sync("texts", client=client, body=PredictRequest(inputs=others))
    ],
    "classes": classify.sync(client=client, body=ClassifyRequest(input_=[text, "sad"], model="texts")).to_dict()["data"],
    "entities": [
        of.to_dict() for of in ner_with.sync("words", client=client, body=NerRequest(inputs="Ann sold boats in Bern ."))
    ],
    "refused": predict_with.sync("spam", client=client, body=PredictRequest(inputs="a")).to_dict(),
}
print(json.dumps(answers))
