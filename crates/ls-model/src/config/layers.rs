//! What differs from layer to layer: sliding windows and rotary embeddings.

use super::family::{Bidirectional, Family, Rotary, Windows};
use crate::bounds::{INTERVAL, LAYERS_BELOW, TOKENS};
use crate::error::Result;
use crate::fields::Fields;
use crate::rope::RopeConfig;

/// The part of a [`LlamaConfig`](super::LlamaConfig) that says it, and with it the causal mask.
pub(super) struct Layers {
    pub rope: Vec<Option<RopeConfig>>,
    pub sliding_window: Vec<Option<usize>>,
    pub is_causal: bool,
}

impl Layers {
    /// Of a model with so many layers.
    pub(super) fn read(
        fields: &Fields<'_>,
        family: &Family,
        layers: usize,
        head_dim: usize,
        max_position_embeddings: usize,
    ) -> Result<Self> {
        let both_ways = both_ways(fields, family)?;
        let is_causal = fields.flag("is_causal")?.unwrap_or(true);
        let turned = turned(fields, family, layers)?;
        let local = local(fields, family, &turned)?;
        let mut window = window(fields, family)?;
        if both_ways {
            // As transformers counts it: with both fields the window is one wider.
            window = window.map(|window| window / 2 + usize::from(!is_causal));
        }
        let rope = match family.rotary {
            Rotary::Same | Rotary::SomeWithout => {
                let theta = family.rope_theta;
                let dialect = family.rope_dialect;
                let rope =
                    RopeConfig::read(fields, head_dim, max_position_embeddings, theta, dialect)?;
                let turned = turned.into_iter();
                turned.map(|turned| turned.then(|| rope.clone())).collect()
            }
            Rotary::OfKind { local_theta } => {
                let thetas = [family.rope_theta, local_theta];
                let [of_global, of_local] =
                    RopeConfig::read_of_kinds(fields, head_dim, max_position_embeddings, thetas)?;
                let of = |local: &bool| if *local { &of_local } else { &of_global };
                local.iter().map(|local| Some(of(local).clone())).collect()
            }
        };
        let windows = local.into_iter().map(|local| window.filter(|_| local));
        Ok(Self {
            rope,
            sliding_window: windows.collect(),
            is_causal: is_causal && !both_ways,
        })
    }
}

/// Whether a field of the family takes the causal mask away.
fn both_ways(fields: &Fields<'_>, family: &Family) -> Result<bool> {
    let field = "use_bidirectional_attention";
    let asked =
        family.bidirectional != Bidirectional::Unknown && fields.flag(field)?.unwrap_or(false);
    if asked && family.bidirectional == Bidirectional::Refused {
        let supported = "false; \"is_causal\": false takes the causal mask away";
        return Err(fields.unsupported(field, "true", supported));
    }
    Ok(asked)
}

/// Which layers have a rotary embedding.
fn turned(fields: &Fields<'_>, family: &Family, layers: usize) -> Result<Vec<bool>> {
    if family.rotary != Rotary::SomeWithout {
        return Ok(vec![true; layers]);
    }
    let expected = "a list of 0 (without rotary embedding) and 1";
    let listed = fields.list("no_rope_layers", expected, |entry| match entry.as_u64() {
        Some(0) => Some(false),
        Some(1) => Some(true),
        _ => None,
    })?;
    if let Some(mut listed) = listed {
        if listed.len() < layers {
            let reason = format!("has {} entries for {layers} layers", listed.len());
            return Err(fields.error("no_rope_layers", reason));
        }
        listed.truncate(layers);
        return Ok(listed);
    }
    let interval = fields
        .size("no_rope_layer_interval", INTERVAL)?
        .unwrap_or(4);
    Ok((1..=layers).map(|layer| layer % interval != 0).collect())
}

/// Which layers have the window, if there is one.
fn local(fields: &Fields<'_>, family: &Family, turned: &[bool]) -> Result<Vec<bool>> {
    let layers = turned.len();
    let heeds_kinds = !matches!(family.windows, Windows::Never | Windows::Every);
    if heeds_kinds && let Some(kinds) = layer_types(fields, layers)? {
        return Ok(kinds);
    }
    Ok(match family.windows {
        Windows::Never => vec![false; layers],
        Windows::Every => vec![true; layers],
        Windows::FromLayer => {
            let first = fields.size("max_window_layers", LAYERS_BELOW)?;
            let first = first.unwrap_or(28);
            (0..layers).map(|layer| layer >= first).collect()
        }
        Windows::WithoutRope => {
            let used = fields.flag("use_sliding_window")?.unwrap_or(false);
            turned.iter().map(|turned| used && !turned).collect()
        }
        Windows::AllBut { every, pattern } => {
            let read = if pattern {
                fields.size("sliding_window_pattern", INTERVAL)?
            } else {
                None
            };
            let every = read.unwrap_or(every);
            (1..=layers).map(|layer| layer % every != 0).collect()
        }
    })
}

/// Which layers `layer_types` gives a window.
fn layer_types(fields: &Fields<'_>, layers: usize) -> Result<Option<Vec<bool>>> {
    let kinds = fields.list("layer_types", "a list of names", |kind| {
        kind.as_str().map(str::to_owned)
    })?;
    let Some(kinds) = kinds else { return Ok(None) };
    if kinds.len() != layers {
        let reason = format!("has {} entries for {layers} layers", kinds.len());
        return Err(fields.error("layer_types", reason));
    }
    let is_local = |kind: &String| match kind.as_str() {
        "full_attention" => Ok(false),
        "sliding_attention" => Ok(true),
        other => {
            let supported = "full_attention, sliding_attention";
            Err(fields.unsupported("layer_types", other, supported))
        }
    };
    kinds.iter().map(is_local).collect::<Result<_>>().map(Some)
}

/// The window of the layers that have one.
fn window(fields: &Fields<'_>, family: &Family) -> Result<Option<usize>> {
    if family.windows == Windows::Never {
        return Ok(None);
    }
    let window = match fields.map.get("sliding_window") {
        None => family.sliding_window,
        // An explicit null switches it off.
        Some(_) => fields.size("sliding_window", TOKENS)?,
    };
    let used =
        family.windows != Windows::FromLayer || fields.flag("use_sliding_window")?.unwrap_or(false);
    Ok(window.filter(|_| used))
}
