//! Short names of models, and the repositories that they stand for.

/// A model with a short name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownModel {
    /// Short name, in lower case.
    pub name: &'static str,
    /// Repository on the Hub.
    pub repo: &'static str,
    /// Whether its page asks to accept a licence before files are handed out. As last known: the
    /// Hub decides.
    pub gated: bool,
    /// Licence, as its page names it.
    pub licence: &'static str,
}

impl KnownModel {
    /// Page with the licence and, for a gated model, the button that accepts it.
    pub fn page(&self) -> String {
        format!("https://huggingface.co/{}", self.repo)
    }
}

const fn model(
    name: &'static str,
    repo: &'static str,
    gated: bool,
    licence: &'static str,
) -> KnownModel {
    KnownModel {
        name,
        repo,
        gated,
        licence,
    }
}

/// Every short name. All are pretrained models and none is tuned for instructions or chat, except
/// Phi's, of which there are no others.
pub const MODELS: &[KnownModel] = &[
    model("llama-2-7b", "meta-llama/Llama-2-7b-hf", true, "llama2"),
    model("llama-2-13b", "meta-llama/Llama-2-13b-hf", true, "llama2"),
    model("llama-2-70b", "meta-llama/Llama-2-70b-hf", true, "llama2"),
    model("llama-3-8b", "meta-llama/Meta-Llama-3-8B", true, "llama3"),
    model("llama-3.1-8b", "meta-llama/Llama-3.1-8B", true, "llama3.1"),
    model("llama-3.2-1b", "meta-llama/Llama-3.2-1B", true, "llama3.2"),
    model("llama-3.2-3b", "meta-llama/Llama-3.2-3B", true, "llama3.2"),
    model(
        "tinyllama-1.1b",
        "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
        false,
        "apache-2.0",
    ),
    model(
        "mistral-7b",
        "mistralai/Mistral-7B-v0.1",
        true,
        "apache-2.0",
    ),
    model(
        "mistral-nemo",
        "mistralai/Mistral-Nemo-Base-2407",
        true,
        "apache-2.0",
    ),
    model("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", false, "apache-2.0"),
    model("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B", false, "apache-2.0"),
    model("qwen2.5-3b", "Qwen/Qwen2.5-3B", false, "qwen-research"),
    model("qwen2.5-7b", "Qwen/Qwen2.5-7B", false, "apache-2.0"),
    model("qwen2.5-14b", "Qwen/Qwen2.5-14B", false, "apache-2.0"),
    model("qwen2.5-32b", "Qwen/Qwen2.5-32B", false, "apache-2.0"),
    model("qwen2.5-72b", "Qwen/Qwen2.5-72B", false, "qwen"),
    model("qwen3-0.6b", "Qwen/Qwen3-0.6B-Base", false, "apache-2.0"),
    model("qwen3-1.7b", "Qwen/Qwen3-1.7B-Base", false, "apache-2.0"),
    model("qwen3-4b", "Qwen/Qwen3-4B-Base", false, "apache-2.0"),
    model("qwen3-8b", "Qwen/Qwen3-8B-Base", false, "apache-2.0"),
    model("qwen3-14b", "Qwen/Qwen3-14B-Base", false, "apache-2.0"),
    model("olmo-2-1b", "allenai/OLMo-2-0425-1B", false, "apache-2.0"),
    model("olmo-2-7b", "allenai/OLMo-2-1124-7B", false, "apache-2.0"),
    model("olmo-2-13b", "allenai/OLMo-2-1124-13B", false, "apache-2.0"),
    model(
        "granite-3.3-2b",
        "ibm-granite/granite-3.3-2b-base",
        false,
        "apache-2.0",
    ),
    model(
        "granite-3.3-8b",
        "ibm-granite/granite-3.3-8b-base",
        false,
        "apache-2.0",
    ),
    model(
        "phi-3-mini",
        "microsoft/Phi-3-mini-4k-instruct",
        false,
        "mit",
    ),
    model("phi-4-mini", "microsoft/Phi-4-mini-instruct", false, "mit"),
    model("phi-4", "microsoft/phi-4", false, "mit"),
    model("gemma-2-2b", "google/gemma-2-2b", true, "gemma"),
    model("gemma-2-9b", "google/gemma-2-9b", true, "gemma"),
    model("gemma-2-27b", "google/gemma-2-27b", true, "gemma"),
    model("gemma-3-270m", "google/gemma-3-270m", true, "gemma"),
    model("gemma-3-1b", "google/gemma-3-1b-pt", true, "gemma"),
    model(
        "smollm2-135m",
        "HuggingFaceTB/SmolLM2-135M",
        false,
        "apache-2.0",
    ),
    model(
        "smollm2-360m",
        "HuggingFaceTB/SmolLM2-360M",
        false,
        "apache-2.0",
    ),
    model(
        "smollm2-1.7b",
        "HuggingFaceTB/SmolLM2-1.7B",
        false,
        "apache-2.0",
    ),
    model(
        "smollm3-3b",
        "HuggingFaceTB/SmolLM3-3B-Base",
        false,
        "apache-2.0",
    ),
];

/// The model of a short name, in whatever case it is written.
pub fn find(name: &str) -> Option<&'static KnownModel> {
    let name = name.to_lowercase();
    MODELS.iter().find(|model| model.name == name)
}

/// The model of a repository.
pub(crate) fn by_repo(repo: &str) -> Option<&'static KnownModel> {
    MODELS
        .iter()
        .find(|model| model.repo.eq_ignore_ascii_case(repo))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::repo::is_repo_id;

    #[test]
    fn names_are_unique_lower_case_and_stand_for_repositories() {
        let names: BTreeSet<&str> = MODELS.iter().map(|model| model.name).collect();
        assert_eq!(names.len(), MODELS.len());
        for model in MODELS {
            assert_eq!(model.name, model.name.to_lowercase());
            assert!(is_repo_id(model.repo), "{}", model.repo);
            assert_eq!(find(&model.name.to_uppercase()), Some(model));
            assert_eq!(by_repo(model.repo), Some(model));
        }
    }
}
