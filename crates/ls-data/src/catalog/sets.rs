//! The known data sets: facts and forms, one constant each.

use super::SplitName::{Test, Train, Validation};
use super::forms::{self, Form, FormSplit, split};
use super::{DatasetSpec, HubSource, SplitName, SplitSpec};
use crate::task::TaskKind;

pub(super) const ALL: &[DatasetSpec] = &[
    SST2,
    SST5,
    AGNEWS,
    TWITTERFIN,
    AMAZON_CATEGORY,
    AMAZON_STARS,
    CONLL03,
    ONTONOTES5,
    WNUT17,
];

const fn size(name: SplitName, examples: usize) -> SplitSpec {
    SplitSpec {
        name,
        examples: Some(examples),
        spans: None,
    }
}

const fn tagged(name: SplitName, examples: usize, spans: usize) -> SplitSpec {
    SplitSpec {
        name,
        examples: Some(examples),
        spans: Some(spans),
    }
}

const ENGLISH: &[&str] = &["en"];

const SST2: DatasetSpec = DatasetSpec {
    name: "sst2",
    aliases: &["sst-2"],
    title: "Stanford Sentiment Treebank, two classes",
    task: TaskKind::Sequence,
    labels: &["negative", "positive"],
    splits: &[
        size(Train, 67_349),
        size(Validation, 872),
        size(Test, 1_821),
    ],
    languages: ENGLISH,
    hub: &[
        HubSource {
            repo: "stanfordnlp/sst2",
            revision: "8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb",
            files: &[
                "data/train-00000-of-00001.parquet",
                "data/validation-00000-of-00001.parquet",
                "data/test-00000-of-00001.parquet",
            ],
        },
        HubSource {
            repo: "nyu-mll/glue",
            revision: "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
            files: &[
                "sst2/train-00000-of-00001.parquet",
                "sst2/validation-00000-of-00001.parquet",
                "sst2/test-00000-of-00001.parquet",
            ],
        },
        HubSource {
            repo: "SetFit/sst2",
            revision: "main",
            files: &["train.jsonl", "dev.jsonl", "test.jsonl"],
        },
    ],
    homepage: "https://nlp.stanford.edu/sentiment/",
    licence: "not stated",
    citation: SOCHER,
    paper_max_length: 64,
    paper_starts_only: false,
    notes: "Train has phrases as well as sentences (67,349), or sentences only (6,920) in SetFit's files \
            and in tables without header. The test split of GLUE has no labels: its scores are those \
            of validation; SetFit's test split is the treebank's and has them. The revision of \
            SetFit/sst2 is not pinned.",
    forms: &[
        Form {
            name: "Parquet of the Hub",
            splits: &[
                split(
                    Train,
                    &[
                        "data/train-*.parquet",
                        "sst2/train-*.parquet",
                        "train-*.parquet",
                        "default/train/*.parquet",
                        "sst2/train/*.parquet",
                    ],
                    Some(67_349),
                ),
                split(
                    Validation,
                    &[
                        "data/validation-*.parquet",
                        "sst2/validation-*.parquet",
                        "validation-*.parquet",
                        "default/validation/*.parquet",
                        "sst2/validation/*.parquet",
                    ],
                    Some(872),
                ),
                FormSplit {
                    name: Test,
                    files: &[
                        "data/test-*.parquet",
                        "sst2/test-*.parquet",
                        "test-*.parquet",
                        "default/test/*.parquet",
                        "sst2/test/*.parquet",
                    ],
                    examples: Some(1_821),
                    labelled: false,
                },
            ],
            fits: forms::anything,
            read: forms::parquet_sentence,
        },
        Form {
            name: "TSV of GLUE",
            splits: &[
                split(Train, &["train.tsv", "SST-2/train.tsv"], Some(67_349)),
                split(Validation, &["dev.tsv", "SST-2/dev.tsv"], Some(872)),
                FormSplit {
                    name: Test,
                    files: &["test.tsv", "SST-2/test.tsv"],
                    examples: Some(1_821),
                    labelled: false,
                },
            ],
            fits: |line| line.starts_with("sentence\tlabel") || line.starts_with("index\tsentence"),
            read: forms::glue,
        },
        Form {
            name: "JSON lines of SetFit",
            splits: &[
                split(Train, &["train.jsonl"], Some(6_920)),
                split(Validation, &["dev.jsonl", "validation.jsonl"], Some(872)),
                split(Test, &["test.jsonl"], Some(1_821)),
            ],
            fits: forms::has_label_text,
            read: forms::setfit,
        },
        Form {
            name: "TSV without header",
            splits: &[
                split(Train, &["train.tsv"], Some(6_920)),
                split(Validation, &["dev.tsv"], Some(872)),
                split(Test, &["test.tsv"], Some(1_821)),
            ],
            fits: |line| line.ends_with("\t0") || line.ends_with("\t1"),
            read: forms::bare_tsv,
        },
    ],
};

const SST5: DatasetSpec = DatasetSpec {
    name: "sst5",
    aliases: &["sst-5", "sst-fine"],
    title: "Stanford Sentiment Treebank, five classes",
    task: TaskKind::Sequence,
    labels: &[
        "very negative",
        "negative",
        "neutral",
        "positive",
        "very positive",
    ],
    splits: &[
        size(Train, 8_544),
        size(Validation, 1_101),
        size(Test, 2_210),
    ],
    languages: ENGLISH,
    hub: &[HubSource {
        repo: "SetFit/sst5",
        revision: "e51bdcd8cd3a30da231967c1a249ba59361279a3",
        files: &["train.jsonl", "dev.jsonl", "test.jsonl"],
    }],
    homepage: "https://nlp.stanford.edu/sentiment/",
    licence: "not stated",
    citation: SOCHER,
    paper_max_length: 64,
    paper_starts_only: false,
    notes: "The trees give the sentences as the treebank has them, brackets as -LRB- and -RRB-; SetFit's \
            files have undone that, so texts differ a little between the two.",
    forms: &[
        Form {
            name: "JSON lines of SetFit",
            splits: &[
                split(Train, &["train.jsonl"], Some(8_544)),
                split(Validation, &["dev.jsonl", "validation.jsonl"], Some(1_101)),
                split(Test, &["test.jsonl"], Some(2_210)),
            ],
            fits: forms::has_label_text,
            read: forms::setfit,
        },
        Form {
            name: "trees of Stanford",
            splits: &[
                split(Train, &["train.txt", "trees/train.txt"], Some(8_544)),
                split(Validation, &["dev.txt", "trees/dev.txt"], Some(1_101)),
                split(Test, &["test.txt", "trees/test.txt"], Some(2_210)),
            ],
            fits: |line| line.starts_with('('),
            read: forms::trees,
        },
    ],
};

const AGNEWS: DatasetSpec = DatasetSpec {
    name: "agnews",
    aliases: &["ag_news", "ag-news"],
    title: "AG's news topics",
    task: TaskKind::Sequence,
    labels: &["World", "Sports", "Business", "Sci/Tech"],
    splits: &[size(Train, 120_000), size(Test, 7_600)],
    languages: ENGLISH,
    hub: &[HubSource {
        repo: "fancyzhx/ag_news",
        revision: "eb185aade064a813bc0b7f42de02595523103ca4",
        files: &[
            "data/train-00000-of-00001.parquet",
            "data/test-00000-of-00001.parquet",
        ],
    }],
    homepage: "http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html",
    licence: "non-commercial use; no formal licence",
    citation: "@inproceedings{zhang2015character, title={Character-level Convolutional Networks for \
               Text Classification}, author={Zhang, Xiang and Zhao, Junbo and LeCun, Yann}, \
               booktitle={NeurIPS}, year={2015}}",
    paper_max_length: 64,
    paper_starts_only: false,
    notes: "There is no validation split. Integers count from 1 in the original CSV and in fastText's \
            lines, from 0 elsewhere. The text is title, space and description; backslashes are those \
            of the source. That SetFit's label_text has these names was not checked.",
    forms: &[
        Form {
            name: "Parquet of the Hub",
            splits: &[
                split(
                    Train,
                    &[
                        "data/train-*.parquet",
                        "train-*.parquet",
                        "default/train/*.parquet",
                    ],
                    Some(120_000),
                ),
                split(
                    Test,
                    &[
                        "data/test-*.parquet",
                        "test-*.parquet",
                        "default/test/*.parquet",
                    ],
                    Some(7_600),
                ),
            ],
            fits: forms::anything,
            read: forms::parquet_text,
        },
        Form {
            name: "original CSV",
            splits: &[
                split(
                    Train,
                    &["train.csv", "ag_news_csv/train.csv"],
                    Some(120_000),
                ),
                // Not of the original: where somebody has split one off, it is used.
                split(Validation, &["dev.csv", "validation.csv"], None),
                split(Test, &["test.csv", "ag_news_csv/test.csv"], Some(7_600)),
            ],
            fits: |line| {
                let class = line.split(',').next().unwrap_or_default().trim_matches('"');
                matches!(class, "1" | "2" | "3" | "4")
            },
            read: forms::ag_csv,
        },
        Form {
            name: "CSV of Kaggle",
            splits: &[
                split(Train, &["train.csv"], Some(120_000)),
                split(Test, &["test.csv"], Some(7_600)),
            ],
            fits: |line| line.starts_with("Class Index,"),
            read: forms::ag_kaggle,
        },
        Form {
            name: "lines of fastText",
            splits: &[
                split(Train, &["ag_news.train", "train.txt"], Some(120_000)),
                split(Test, &["ag_news.test", "test.txt"], Some(7_600)),
            ],
            fits: |line| line.starts_with("__label__"),
            read: forms::ag_fasttext,
        },
        Form {
            name: "JSON lines of SetFit",
            splits: &[
                split(Train, &["train.jsonl"], Some(120_000)),
                split(Test, &["test.jsonl"], Some(7_600)),
            ],
            fits: forms::has_label_text,
            read: forms::setfit,
        },
    ],
};

const TWITTERFIN: DatasetSpec = DatasetSpec {
    name: "twitterfin",
    aliases: &["twitter-financial-news-sentiment"],
    title: "Twitter financial news, sentiment",
    task: TaskKind::Sequence,
    labels: &["Bearish", "Bullish", "Neutral"],
    splits: &[size(Train, 9_543), size(Validation, 2_388)],
    languages: ENGLISH,
    hub: &[HubSource {
        repo: "zeroshot/twitter-financial-news-sentiment",
        revision: "ce0a0821614749d3d90e254b6b2ab7ea357345ea",
        files: &["sent_train.csv", "sent_valid.csv"],
    }],
    homepage: "https://huggingface.co/datasets/zeroshot/twitter-financial-news-sentiment",
    licence: "MIT",
    citation: "@misc{twitterfin, title={Twitter Financial News Sentiment}, author={{zeroshot}}, \
               howpublished={Hugging Face Hub}, year={2022}}",
    paper_max_length: 64,
    paper_starts_only: false,
    notes: "There is no test split: published scores are those of validation. The card says 9,938 and \
            2,486 rows, the Hub's viewer 9.54k and 2.39k; the counts here agree with the viewer and \
            were not checked against the files.",
    forms: &[
        Form {
            name: "CSV of the Hub",
            splits: &[
                split(Train, &["sent_train.csv"], Some(9_543)),
                split(Validation, &["sent_valid.csv"], Some(2_388)),
            ],
            fits: |line| line == "text,label",
            read: forms::csv_text,
        },
        Form {
            name: "Parquet of the Hub",
            splits: &[
                split(
                    Train,
                    &["default/train/*.parquet", "data/train-*.parquet"],
                    Some(9_543),
                ),
                split(
                    Validation,
                    &["default/validation/*.parquet", "data/validation-*.parquet"],
                    Some(2_388),
                ),
            ],
            fits: forms::anything,
            read: forms::parquet_text,
        },
    ],
};

const REVIEW_LANGUAGES: &[&str] = &["de", "en", "es", "fr", "ja", "zh"];
const REVIEW_SIZES: &[SplitSpec] = &[
    size(Train, 200_000),
    size(Validation, 5_000),
    size(Test, 5_000),
];
const REVIEW_FILES: &[FormSplit] = &[
    split(
        Train,
        &[
            "json/train/dataset_{lang}_train.json",
            "train/dataset_{lang}_train.json",
            "dataset_{lang}_train.json",
        ],
        Some(200_000),
    ),
    split(
        Validation,
        &[
            "json/dev/dataset_{lang}_dev.json",
            "dev/dataset_{lang}_dev.json",
            "dataset_{lang}_dev.json",
        ],
        Some(5_000),
    ),
    split(
        Test,
        &[
            "json/test/dataset_{lang}_test.json",
            "test/dataset_{lang}_test.json",
            "dataset_{lang}_test.json",
        ],
        Some(5_000),
    ),
];
const REVIEW_LICENCE: &str =
    "Amazon's own terms: non-commercial research only; withdrawn by the provider";

const AMAZON_CATEGORY: DatasetSpec = DatasetSpec {
    name: "amazon_reviews_multi",
    aliases: &["amazon"],
    title: "Multilingual Amazon reviews, category of the product",
    task: TaskKind::Sequence,
    labels: &[
        "furniture",
        "baby_product",
        "jewelry",
        "musical_instruments",
        "industrial_supplies",
        "pc",
        "other",
        "pet_products",
        "book",
        "apparel",
        "automotive",
        "digital_video_download",
        "beauty",
        "toy",
        "shoes",
        "personal_care_appliances",
        "camera",
        "digital_ebook_purchase",
        "watch",
        "drugstore",
        "grocery",
        "kitchen",
        "home",
        "office_product",
        "home_improvement",
        "electronics",
        "video_games",
        "sports",
        "luggage",
        "lawn_and_garden",
        "wireless",
    ],
    splits: REVIEW_SIZES,
    languages: REVIEW_LANGUAGES,
    hub: &[],
    homepage: "https://registry.opendata.aws/amazon-reviews-ml/",
    licence: REVIEW_LICENCE,
    citation: KEUNG,
    paper_max_length: 200,
    paper_starts_only: false,
    notes: "The task of the paper: 31 categories, names in the order of its scripts, text is the title, a \
            line break and the review. Only the original files have categories, and they were \
            withdrawn; amazon_reviews_multi_stars is what mirrors still have.",
    forms: &[Form {
        name: "original JSON lines",
        splits: REVIEW_FILES,
        fits: |line| forms::is_object(line) && line.contains("\"product_category\""),
        read: forms::reviews_category,
    }],
};

const AMAZON_STARS: DatasetSpec = DatasetSpec {
    name: "amazon_reviews_multi_stars",
    aliases: &["amazon_stars"],
    title: "Multilingual Amazon reviews, stars",
    task: TaskKind::Sequence,
    labels: &["1 star", "2 stars", "3 stars", "4 stars", "5 stars"],
    splits: REVIEW_SIZES,
    languages: REVIEW_LANGUAGES,
    hub: &[HubSource {
        repo: "mteb/amazon_reviews_multi",
        revision: "1399c76144fd37290681b995c656ef9b2e06e26d",
        files: &[
            "{lang}/train.jsonl",
            "{lang}/validation.jsonl",
            "{lang}/test.jsonl",
        ],
    }],
    homepage: "https://registry.opendata.aws/amazon-reviews-ml/",
    licence: REVIEW_LICENCE,
    citation: KEUNG,
    paper_max_length: 200,
    paper_starts_only: false,
    notes: "Not the task of the paper, which is amazon_reviews_multi. Mirrors count stars from 0, the \
            original from 1; so the names are no bare digits. How mirrors join title and review was not \
            checked.",
    forms: &[
        Form {
            name: "JSON lines of MTEB or SetFit",
            splits: &[
                split(Train, &["{lang}/train.jsonl", "train.jsonl"], Some(200_000)),
                split(
                    Validation,
                    &["{lang}/validation.jsonl", "validation.jsonl"],
                    Some(5_000),
                ),
                split(Test, &["{lang}/test.jsonl", "test.jsonl"], Some(5_000)),
            ],
            fits: |line| forms::is_object(line) && line.contains("\"label\""),
            read: forms::json_label,
        },
        Form {
            name: "Parquet of MTEB",
            splits: &[
                split(
                    Train,
                    &["{lang}/train-*.parquet", "{lang}/train/*.parquet"],
                    Some(200_000),
                ),
                split(
                    Validation,
                    &["{lang}/validation-*.parquet", "{lang}/validation/*.parquet"],
                    Some(5_000),
                ),
                split(
                    Test,
                    &["{lang}/test-*.parquet", "{lang}/test/*.parquet"],
                    Some(5_000),
                ),
            ],
            fits: forms::anything,
            read: forms::parquet_text,
        },
        Form {
            name: "original JSON lines",
            splits: REVIEW_FILES,
            fits: |line| forms::is_object(line) && line.contains("\"stars\""),
            read: forms::reviews_stars,
        },
    ],
};

const CONLL03: DatasetSpec = DatasetSpec {
    name: "conll03",
    aliases: &["conll2003", "conll-2003"],
    title: "CoNLL 2003, English names",
    task: TaskKind::Token,
    labels: &[
        "O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC",
    ],
    splits: &[
        tagged(Train, 14_041, 23_499),
        tagged(Validation, 3_250, 5_942),
        tagged(Test, 3_453, 5_648),
    ],
    languages: ENGLISH,
    hub: &[
        HubSource {
            repo: "eriktks/conll2003",
            revision: "refs/convert/parquet",
            files: &[
                "conll2003/train/0000.parquet",
                "conll2003/validation/0000.parquet",
                "conll2003/test/0000.parquet",
            ],
        },
        HubSource {
            repo: "tner/conll2003",
            revision: "main",
            files: &[
                "dataset/train.json",
                "dataset/valid.json",
                "dataset/test.json",
                "dataset/label.json",
            ],
        },
    ],
    homepage: "https://www.clips.uantwerpen.be/conll2003/ner/",
    licence: "annotation free; the text under the agreement of the Reuters Corpus (NIST), research only",
    citation: "@inproceedings{tjong2003introduction, title={Introduction to the {CoNLL}-2003 Shared \
               Task: Language-Independent Named Entity Recognition}, author={Tjong Kim Sang, Erik F. \
               and De Meulder, Fien}, booktitle={CoNLL}, year={2003}, pages={142--147}}",
    paper_max_length: 64,
    paper_starts_only: false,
    notes: "The original files are IOB1, the Hub's IOB2; sentences are counted without -DOCSTART-. tner \
            numbers the labels in another order than eriktks: names come from the files. The files of \
            the Hub were not at hand: paths are those its pages name.",
    forms: &[
        Form {
            name: "Parquet of the Hub",
            splits: &[
                split(
                    Train,
                    &[
                        "conll2003/train/*.parquet",
                        "data/train-*.parquet",
                        "train-*.parquet",
                        "default/train/*.parquet",
                        "train/*.parquet",
                    ],
                    Some(14_041),
                ),
                split(
                    Validation,
                    &[
                        "conll2003/validation/*.parquet",
                        "data/validation-*.parquet",
                        "validation-*.parquet",
                        "default/validation/*.parquet",
                        "validation/*.parquet",
                    ],
                    Some(3_250),
                ),
                split(
                    Test,
                    &[
                        "conll2003/test/*.parquet",
                        "data/test-*.parquet",
                        "test-*.parquet",
                        "default/test/*.parquet",
                        "test/*.parquet",
                    ],
                    Some(3_453),
                ),
            ],
            fits: forms::anything,
            read: forms::parquet_tokens,
        },
        Form {
            name: "original columns",
            splits: &[
                split(
                    Train,
                    &["eng.train", "train.txt", "train.conll"],
                    Some(14_041),
                ),
                split(
                    Validation,
                    &[
                        "eng.testa",
                        "valid.txt",
                        "dev.txt",
                        "validation.conll",
                        "dev.conll",
                    ],
                    Some(3_250),
                ),
                split(Test, &["eng.testb", "test.txt", "test.conll"], Some(3_453)),
            ],
            fits: forms::is_columns,
            read: forms::conll,
        },
        Form {
            name: "JSON lines of tner",
            splits: &[
                split(Train, &["dataset/train.json", "train.json"], Some(14_041)),
                split(
                    Validation,
                    &["dataset/valid.json", "valid.json"],
                    Some(3_250),
                ),
                split(Test, &["dataset/test.json", "test.json"], Some(3_453)),
            ],
            fits: forms::is_object,
            read: forms::tner,
        },
    ],
};

/// The order of the labels in the scripts of arXiv 2310.01208; its files number tags in it.
pub(super) const PAPER_ONTONOTES: &[&str] = &[
    "O",
    "B-NORP",
    "B-PERSON",
    "B-WORK_OF_ART",
    "B-QUANTITY",
    "B-EVENT",
    "B-DATE",
    "B-TIME",
    "B-PERCENT",
    "B-LANGUAGE",
    "B-ORG",
    "B-CARDINAL",
    "B-LAW",
    "B-GPE",
    "B-PRODUCT",
    "B-LOC",
    "B-MONEY",
    "B-ORDINAL",
    "B-FAC",
];

const ONTONOTES5: DatasetSpec = DatasetSpec {
    name: "ontonotes5",
    aliases: &["ontonotesv5", "ontonotes"],
    title: "OntoNotes 5, English names",
    task: TaskKind::Token,
    labels: &[
        "O",
        "B-CARDINAL",
        "I-CARDINAL",
        "B-DATE",
        "I-DATE",
        "B-EVENT",
        "I-EVENT",
        "B-FAC",
        "I-FAC",
        "B-GPE",
        "I-GPE",
        "B-LANGUAGE",
        "I-LANGUAGE",
        "B-LAW",
        "I-LAW",
        "B-LOC",
        "I-LOC",
        "B-MONEY",
        "I-MONEY",
        "B-NORP",
        "I-NORP",
        "B-ORDINAL",
        "I-ORDINAL",
        "B-ORG",
        "I-ORG",
        "B-PERCENT",
        "I-PERCENT",
        "B-PERSON",
        "I-PERSON",
        "B-PRODUCT",
        "I-PRODUCT",
        "B-QUANTITY",
        "I-QUANTITY",
        "B-TIME",
        "I-TIME",
        "B-WORK_OF_ART",
        "I-WORK_OF_ART",
    ],
    splits: &[
        tagged(Train, 59_924, 81_828),
        tagged(Validation, 8_528, 11_066),
        tagged(Test, 8_262, 11_257),
    ],
    languages: ENGLISH,
    hub: &[
        HubSource {
            repo: "tner/ontonotes5",
            revision: "cb73f4840c172a93c873e77bb21998d4f668b4bb",
            files: &[
                "dataset/train00.json",
                "dataset/train01.json",
                "dataset/train02.json",
                "dataset/train03.json",
                "dataset/valid.json",
                "dataset/test.json",
                "dataset/label.json",
            ],
        },
        HubSource {
            repo: "djagatiya/ner-ontonotes-v5-eng-v4",
            revision: "42aa458229831af631cfa1cb5a5d9d0dd89233fe",
            files: &["train.conll", "validation.conll", "test.conll"],
        },
    ],
    homepage: "https://catalog.ldc.upenn.edu/LDC2013T19",
    licence: "LDC user agreement (LDC2013T19)",
    citation: "@inproceedings{pradhan2013towards, title={Towards Robust Linguistic Analysis using \
               {OntoNotes}}, author={Pradhan, Sameer and others}, booktitle={CoNLL}, year={2013}, \
               pages={143--152}}",
    paper_max_length: 64,
    paper_starts_only: true,
    notes: "There are two sizes: 59,924 / 8,528 / 8,262 sentences (tner, and the paper's files) and \
            75,187 / 9,603 / 9,479 (version 4 of CoNLL 2012); results on one say nothing of the other. \
            The paper's files mark only the first word of a name, with 19 labels, so scores on them \
            are of first words, not of spans. The numbers of spans and the size of validation in \
            version 4 are from the literature and were not counted; version 12 of CoNLL 2012 has \
            another size, and files of two columns may be of either, so those are not checked.",
    forms: &[
        Form {
            name: "JSON lines of tner",
            splits: &[
                split(Train, &["dataset/train*.json", "train*.json"], Some(59_924)),
                split(
                    Validation,
                    &["dataset/valid.json", "valid.json"],
                    Some(8_528),
                ),
                split(Test, &["dataset/test.json", "test.json"], Some(8_262)),
            ],
            fits: forms::is_object,
            read: forms::tner,
        },
        Form {
            name: super::PAPER_ONTONOTES,
            splits: &[
                split(
                    Train,
                    &["train.jsonl", "data/ontonotesv5/train.jsonl"],
                    Some(59_924),
                ),
                split(
                    Validation,
                    &["dev.jsonl", "data/ontonotesv5/dev.jsonl"],
                    Some(8_528),
                ),
                split(
                    Test,
                    &["test.jsonl", "data/ontonotesv5/test.jsonl"],
                    Some(8_262),
                ),
            ],
            fits: |line| forms::is_object(line) && line.contains("\"ner_tags\""),
            read: forms::paper_ontonotes,
        },
        Form {
            name: "columns of CoNLL 2012, version 4",
            splits: &[
                split(
                    Train,
                    &[
                        "**/v4/data/train/data/english/**/*gold_conll",
                        "train.english.v4_gold_conll",
                    ],
                    Some(75_187),
                ),
                split(
                    Validation,
                    &[
                        "**/v4/data/development/data/english/**/*gold_conll",
                        "dev.english.v4_gold_conll",
                    ],
                    Some(9_603),
                ),
                split(
                    Test,
                    &[
                        "**/v9/data/test/data/english/**/*gold_conll",
                        "**/v4/data/test/data/english/**/*gold_conll",
                        "test.english.v4_gold_conll",
                    ],
                    Some(9_479),
                ),
            ],
            fits: is_conll2012,
            read: forms::conll2012,
        },
        Form {
            name: "columns of CoNLL 2012",
            splits: &[
                split(
                    Train,
                    &[
                        "**/train/data/english/**/*gold_conll",
                        "train/**/*gold_conll",
                        "train*gold_conll",
                    ],
                    None,
                ),
                split(
                    Validation,
                    &[
                        "**/development/data/english/**/*gold_conll",
                        "development/**/*gold_conll",
                        "dev/**/*gold_conll",
                        "dev*gold_conll",
                    ],
                    None,
                ),
                split(
                    Test,
                    &[
                        "**/test/data/english/**/*gold_conll",
                        "test/**/*gold_conll",
                        "test*gold_conll",
                    ],
                    None,
                ),
            ],
            fits: is_conll2012,
            read: forms::conll2012,
        },
        Form {
            name: "two columns",
            splits: &[
                split(Train, &["train.conll"], None),
                split(Validation, &["validation.conll"], None),
                split(Test, &["test.conll"], None),
            ],
            fits: forms::is_columns,
            read: forms::conll,
        },
    ],
};

fn is_conll2012(line: &str) -> bool {
    line.starts_with("#begin document") || line.split_ascii_whitespace().count() > 10
}

const WNUT17: DatasetSpec = DatasetSpec {
    name: "wnut17",
    aliases: &["wnut_17", "wnut2017"],
    title: "WNUT 2017, emerging and rare names",
    task: TaskKind::Token,
    labels: &[
        "O",
        "B-corporation",
        "I-corporation",
        "B-creative-work",
        "I-creative-work",
        "B-group",
        "I-group",
        "B-location",
        "I-location",
        "B-person",
        "I-person",
        "B-product",
        "I-product",
    ],
    splits: &[
        tagged(Train, 3_394, 1_975),
        tagged(Validation, 1_009, 836),
        tagged(Test, 1_287, 1_079),
    ],
    languages: ENGLISH,
    hub: &[
        HubSource {
            repo: "leondz/wnut_17",
            revision: "refs/convert/parquet",
            files: &[
                "wnut_17/train/0000.parquet",
                "wnut_17/validation/0000.parquet",
                "wnut_17/test/0000.parquet",
            ],
        },
        HubSource {
            repo: "tner/wnut2017",
            revision: "main",
            files: &[
                "dataset/train.json",
                "dataset/valid.json",
                "dataset/test.json",
                "dataset/label.json",
            ],
        },
    ],
    homepage: "http://noisy-text.github.io/2017/emerging-rare-entities.html",
    licence: "CC BY 4.0",
    citation: "@inproceedings{derczynski2017results, title={Results of the {WNUT}2017 Shared Task on \
               Novel and Emerging Entity Recognition}, author={Derczynski, Leon and Nichols, Eric and \
               van Erp, Marieke and Limsopatham, Nut}, booktitle={W-NUT}, year={2017}, \
               pages={140--147}}",
    paper_max_length: 64,
    paper_starts_only: false,
    notes: "tner numbers the labels from B-corporation = 0, where O is 12; its card says 2,395 training \
            sentences, which was not checked. The original development file ends in a byte order mark.",
    forms: &[
        Form {
            name: "Parquet of the Hub",
            splits: &[
                split(
                    Train,
                    &[
                        "wnut_17/train/*.parquet",
                        "data/train-*.parquet",
                        "train-*.parquet",
                        "default/train/*.parquet",
                        "train/*.parquet",
                    ],
                    Some(3_394),
                ),
                split(
                    Validation,
                    &[
                        "wnut_17/validation/*.parquet",
                        "data/validation-*.parquet",
                        "validation-*.parquet",
                        "default/validation/*.parquet",
                        "validation/*.parquet",
                    ],
                    Some(1_009),
                ),
                split(
                    Test,
                    &[
                        "wnut_17/test/*.parquet",
                        "data/test-*.parquet",
                        "test-*.parquet",
                        "default/test/*.parquet",
                        "test/*.parquet",
                    ],
                    Some(1_287),
                ),
            ],
            fits: forms::anything,
            read: forms::parquet_tokens,
        },
        Form {
            name: "original columns",
            splits: &[
                split(Train, &["wnut17train.conll", "train.conll"], Some(3_394)),
                split(
                    Validation,
                    &["emerging.dev.conll", "dev.conll", "validation.conll"],
                    Some(1_009),
                ),
                split(
                    Test,
                    &["emerging.test.annotated", "test.conll"],
                    Some(1_287),
                ),
            ],
            fits: forms::is_columns,
            read: forms::conll,
        },
        Form {
            name: "JSON lines of tner",
            splits: &[
                split(Train, &["dataset/train.json", "train.json"], None),
                split(
                    Validation,
                    &["dataset/valid.json", "valid.json"],
                    Some(1_009),
                ),
                split(Test, &["dataset/test.json", "test.json"], Some(1_287)),
            ],
            fits: forms::is_object,
            read: forms::tner,
        },
    ],
};

const SOCHER: &str = "@inproceedings{socher2013recursive, title={Recursive Deep Models for Semantic \
                      Compositionality Over a Sentiment Treebank}, author={Socher, Richard and others}, \
                      booktitle={EMNLP}, year={2013}, pages={1631--1642}}";

const KEUNG: &str = "@inproceedings{keung2020multilingual, title={The Multilingual Amazon Reviews \
                     Corpus}, author={Keung, Phillip and Lu, Yichao and Szarvas, Gy{\\\"o}rgy and Smith, \
                     Noah A.}, booktitle={EMNLP}, year={2020}}";
