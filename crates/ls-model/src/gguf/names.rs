//! What llama.cpp calls the tensors of a decoder, and in which order it keeps their rows.

/// The embedding table.
pub(super) const EMBEDDINGS: &str = "token_embd.weight";
/// The output embedding, where it is not the input embedding.
pub(super) const OUTPUT: &str = "output.weight";
/// By what each frequency of the rotary embedding is divided, where that is not 1.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Modules of a block.
const MODULES: [(&str, &str); 11] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
];

/// The name in a GGUF file of a tensor without its prefix `model.`.
pub(super) fn gguf_name(name: &str) -> Option<String> {
    match name {
        "embed_tokens.weight" => return Some(EMBEDDINGS.into()),
        "norm.weight" => return Some("output_norm.weight".into()),
        _ => {}
    }
    let (layer, of_block) = name.strip_prefix("layers.")?.split_once('.')?;
    let (module, parameter) = of_block.rsplit_once('.')?;
    let (_, module) = MODULES.iter().find(|(of, _)| *of == module)?;
    Some(format!("blk.{layer}.{module}.{parameter}"))
}

/// The row of a GGUF file in which row `row` of a query or key projection is.
///
/// llama.cpp rotates neighbouring values of a head, transformers one of the first half with one of
/// the second half; its converter reorders the rows of LLaMA's projections to that end.
pub(super) fn row_in_file(row: usize, head_dim: usize) -> usize {
    let (head, at) = (row / head_dim, row % head_dim);
    let half = head_dim / 2;
    head * head_dim + at % half * 2 + at / half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_converter() {
        for (name, expected) in [
            ("embed_tokens.weight", Some("token_embd.weight")),
            ("norm.weight", Some("output_norm.weight")),
            (
                "layers.11.self_attn.o_proj.weight",
                Some("blk.11.attn_output.weight"),
            ),
            ("layers.0.self_attn.k_proj.bias", Some("blk.0.attn_k.bias")),
            (
                "layers.3.post_attention_layernorm.weight",
                Some("blk.3.ffn_norm.weight"),
            ),
            ("layers.3.mlp.experts.weight", None),
            ("score.weight", None),
        ] {
            assert_eq!(gguf_name(name).as_deref(), expected);
        }
    }

    #[test]
    fn the_halves_of_a_head_lie_side_by_side_in_the_file() {
        let rows: Vec<usize> = (0..12).map(|row| row_in_file(row, 6)).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
