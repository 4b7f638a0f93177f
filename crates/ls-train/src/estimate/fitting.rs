//! The cheapest change by which a run fits the memory that there is.
//!
//! Changes are tried by what they cost: first those that leave the scores, the examples of each
//! step and the gradients as they are but for dropout masks and roundings, of which one takes time,
//! then those that round what is frozen, cut texts, or train less. Each of the latter is tried
//! alone, then with those that cost nothing of the result, before a stronger one is, and last with
//! all before it. Of these no more is taken than is needed.

use ls_data::LongInputs;
use ls_lora::TrainableTensor;
use ls_model::Trained;
use serde::Serialize;

use crate::config::{ResolvedRun, RunConfig};
use crate::error::Result;
use crate::largest::{Largest, Lengths};
use crate::memory::{Footprint, Memory, Moment, fitting_pass};

/// Inputs are not cut shorter than this for memory's sake.
const SHORTEST: usize = 32;

/// What smaller passes cost.
const SAME_EXAMPLES: &str = "the same examples in each step, other dropout masks and roundings";

/// A change by which a run fits.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// Keys and values, as `--set` takes them.
    pub set: Vec<String>,
    /// What each kind of change costs, a phrase each.
    pub costs: Vec<String>,
    /// Peak of the memory that is expected with it, in bytes.
    pub peak: usize,
    /// When that is.
    pub moment: Moment,
}

/// A kind of change, from mild to strong: for each what is set, and what it costs.
struct Lever(Vec<(Vec<String>, String)>);

/// A run that does not fit.
pub(super) struct Fitting<'a> {
    pub(super) footprint: Footprint<'a>,
    pub(super) lengths: &'a Lengths<'a>,
    pub(super) available: u64,
    /// The tensors that train in a run that is like it.
    pub(super) trainable: &'a dyn Fn(&ResolvedRun) -> Result<Vec<TrainableTensor>>,
}

impl Fitting<'_> {
    /// The cheapest change, if one is enough.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be written down.
    pub(super) fn cheapest(&self) -> Result<Option<Change>> {
        let text = self.footprint.run.config.to_toml()?;
        let (mut levers, lossy) = (self.free(), self.lossy());
        let free = levers.len();
        levers.extend(lossy);
        let strongest: Vec<usize> = levers.iter().map(|lever| lever.0.len()).collect();
        let tried = |choice: &[usize]| self.tried(&text, &levers, choice);
        for at in 0..levers.len() {
            let enough = attempts(at, free, strongest[at]).find_map(|(value, before)| {
                let mut choice = vec![0; levers.len()];
                choice[..before].copy_from_slice(&strongest[..before]);
                choice[at] = value;
                tried(&choice).is_some().then_some(choice)
            });
            let Some(mut choice) = enough else { continue };
            // Of those before it no more than is needed, the dearest least.
            for earlier in (0..at).rev() {
                let needed = (0..choice[earlier]).find(|value| {
                    let mut milder = choice.clone();
                    milder[earlier] = *value;
                    tried(&milder).is_some()
                });
                choice[earlier] = needed.unwrap_or(choice[earlier]);
            }
            return Ok(tried(&choice));
        }
        Ok(None)
    }

    /// The run with a choice of each lever's values, counted from 1, if it may be and fits.
    fn tried(&self, text: &str, levers: &[Lever], choice: &[usize]) -> Option<Change> {
        let chosen = levers.iter().zip(choice);
        let chosen = chosen.filter_map(|(lever, value)| lever.0.get(value.checked_sub(1)?));
        let (set, costs): (Vec<&Vec<String>>, Vec<&String>) =
            chosen.map(|(set, cost)| (set, cost)).unzip();
        let set: Vec<String> = set.into_iter().flatten().cloned().collect();
        // As the command line would read it: what it refuses is no way out.
        let config = RunConfig::from_toml(text, "the configuration", &set).ok()?;
        let mut run = config.resolve(self.footprint.model);
        if run.lora.is_some() && self.footprint.run.lora.is_some() {
            // That of an adapter to begin from says more than the configuration.
            run.lora.clone_from(&self.footprint.run.lora);
        }
        let (moment, memory) = self.peak(&run)?;
        let fits = memory.total() as u64 <= self.available;
        fits.then(|| Change {
            set,
            costs: costs.into_iter().cloned().collect(),
            peak: memory.total(),
            moment,
        })
    }

    fn peak(&self, run: &ResolvedRun) -> Option<(Moment, Memory)> {
        let trainable = (self.trainable)(run).ok()?;
        let rows = run.config.train.largest_pass();
        let (batch, most) = (run.config.train.eval_batch_size, run.limits.max_length);
        let shorter = most < self.footprint.run.limits.max_length;
        let cut = |lengths: &[usize]| -> Vec<usize> {
            let cut = lengths.iter().map(|length| *length.min(&most));
            match run.limits.long_inputs {
                // There are more of them then: as many as make every batch full of whole ones.
                LongInputs::Window if lengths.iter().any(|length| *length > most) => {
                    vec![most; lengths.len().max(rows).max(batch)]
                }
                _ => cut.collect(),
            }
        };
        let expected = |lengths: &Lengths<'_>| {
            let footprint = Footprint {
                run,
                trainable: &trainable,
                largest: &Largest::of(run, lengths, rows),
                ..self.footprint
            };
            // A pass that is left open is chosen as the run would choose it.
            let beside = self.available.saturating_sub(footprint.program as u64);
            let (_, moment, memory) = fitting_pass(&footprint, lengths, Some(beside));
            (moment, memory)
        };
        if !shorter {
            return Some(expected(self.lengths));
        }
        let train = cut(self.lengths.train);
        let evaluated = self.lengths.evaluated.iter();
        let evaluated: Vec<Vec<usize>> = evaluated.map(|lengths| cut(lengths)).collect();
        Some(expected(&Lengths {
            train: &train,
            evaluated: evaluated.iter().map(Vec::as_slice).collect(),
        }))
    }

    /// The kinds of changes that the run leaves open and that leave its result as it is, but for
    /// dropout masks and roundings, the cheapest first.
    fn free(&self) -> Vec<Lever> {
        let run = self.footprint.run;
        let train = &run.config.train;
        let one = |key: &str, value: &dyn ToString| vec![format!("{key}={}", value.to_string())];
        let smaller = |key: &str, from: usize, cost: &str| {
            let halves = halves(from).into_iter();
            Lever(
                halves
                    .map(|size| (one(key, &size), cost.to_owned()))
                    .collect(),
            )
        };
        let mut levers = vec![
            smaller(
                "train.eval_batch_size",
                train.eval_batch_size,
                "smaller batches of evaluations: the same scores",
            ),
            smaller("train.pass_size", train.largest_pass(), SAME_EXAMPLES),
        ];
        if !train.gradient_checkpointing {
            let cost = "the same gradients but for roundings; a step takes about 1.3 times as long";
            let set = one("train.gradient_checkpointing", &true);
            levers.push(Lever(vec![(set, cost.into())]));
        }
        levers
    }

    /// Those that change the result, the mildest first.
    fn lossy(&self) -> Vec<Lever> {
        vec![self.rounded(), self.cut(), self.less_trains()]
    }

    /// Frozen weights in fewer bits than they have.
    fn rounded(&self) -> Lever {
        let precision = &self.footprint.run.precision;
        if precision.in_f32 == Trained::All {
            return Lever(Vec::new());
        }
        let bits = |dtype: &str, packed: &str| match packed {
            "nf4" => 4,
            "int8" => 8,
            _ if dtype == "bf16" => 16,
            _ => 32,
        };
        let is = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let dtype = is(serde_json::json!(precision.compute));
        let packed = precision
            .quantization
            .map(|format| is(serde_json::json!(format)));
        let packed = packed.unwrap_or_default();
        let now = bits(&dtype, &packed);
        let kinds = [
            ("bf16", ""),
            (&*dtype, "int8"),
            ("bf16", "int8"),
            (&*dtype, "nf4"),
            ("bf16", "nf4"),
        ];
        let fewer = kinds.into_iter().filter(|(other, format)| {
            let narrower = *other != dtype && bits(other, format) == now;
            bits(other, format) < now || narrower
        });
        let named = fewer.map(|(other, format)| {
            let (mut set, mut costs) = (Vec::new(), Vec::new());
            if !format.is_empty() && *format != packed {
                set.push(format!("model.quantization={format}"));
                costs.push(format!("frozen weights are rounded to {format}"));
            }
            if other != dtype {
                set.push(format!("model.dtype={other}"));
                // Packed are the linear layers alone.
                let held = match format {
                    "" => "frozen weights",
                    _ => "frozen embeddings and norms",
                };
                costs.push(format!("{held} are rounded to {other}"));
                if !self.footprint.host {
                    costs.push(format!("activations are rounded to {other}"));
                }
            }
            (set, costs.join(", "))
        });
        Lever(named.collect())
    }

    /// Shorter inputs.
    fn cut(&self) -> Lever {
        let (run, lengths) = (self.footprint.run, self.lengths.train);
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let steps = (0..usize::BITS).rev().map(|bit| 1usize << bit);
        let shorter = steps.filter(|most| (SHORTEST..longest).contains(most));
        let what = match run.limits.long_inputs {
            LongInputs::Window => "are read in shorter windows",
            _ => "are cut",
        };
        let named = shorter.map(|most| {
            let count = lengths.iter().filter(|length| **length > most).count();
            let cost = format!("{count} of {} inputs are longer, and {what}", lengths.len());
            (vec![format!("data.max_length={most}")], cost)
        });
        Lever(named.collect())
    }

    /// Where whole layers train, fewer of them, the highest; then adapters in their place.
    fn less_trains(&self) -> Lever {
        let run = self.footprint.run;
        if run.lora.is_some() {
            return Lever(Vec::new());
        }
        let layers = self.footprint.model.num_hidden_layers;
        let trained = (0..layers).filter(|layer| run.trained.holds(&format!("layers.{layer}.")));
        let trained: Vec<usize> = trained.collect();
        let (Some(lowest), Some(highest)) = (trained.first(), trained.last()) else {
            return Lever(Vec::new());
        };
        let count = highest + 1 - lowest;
        let fewer = halves(count).into_iter();
        let fewer = fewer.map(|count| {
            let first = highest + 1 - count;
            let set = format!("train.layers=\"{first}-{highest}\"");
            (vec![set], format!("{count} layers train"))
        });
        let mut values: Vec<_> = fewer.collect();
        if run.trained == Trained::All {
            let adapters = "lora={}".to_owned();
            let cost = "adapters train in the place of all weights";
            values.push((vec![adapters.clone()], cost.to_owned()));
            let packed = vec![adapters, "model.quantization=nf4".to_owned()];
            values.push((packed, format!("{cost}, and these are rounded to nf4")));
        }
        Lever(values)
    }
}

/// In which order the values of a lever are tried, counted from 1, each with how many levers before
/// it at their strongest: the first `free` levers leave the result as it is, but for dropout masks
/// and roundings.
fn attempts(at: usize, free: usize, values: usize) -> impl Iterator<Item = (usize, usize)> {
    let with = move |before| (1..=values).map(move |value| (value, before));
    let is_free = at < free;
    let alone_then_free = (1..=values).flat_map(move |value| [(value, 0), (value, free)]);
    let alone: Vec<(usize, usize)> = if is_free {
        with(0).collect()
    } else {
        alone_then_free.collect()
    };
    alone.into_iter().chain(with(at))
}

/// Half of a number, half of that, down to 1.
fn halves(from: usize) -> Vec<usize> {
    let next = |size: &usize| (*size > 1).then(|| size.div_ceil(2));
    std::iter::successors(Some(from), next).skip(1).collect()
}

#[cfg(test)]
mod tests {
    use super::attempts;

    #[test]
    fn what_costs_nothing_is_tried_with_a_change_before_a_stronger_one_is() {
        let order = |at, free, values| attempts(at, free, values).collect::<Vec<_>>();
        assert_eq!(order(1, 3, 2), [(1, 0), (2, 0), (1, 1), (2, 1)]);
        assert_eq!(
            order(3, 2, 2),
            [(1, 0), (1, 2), (2, 0), (2, 2), (1, 3), (2, 3)]
        );
        assert_eq!(order(2, 2, 1), [(1, 0), (1, 2), (1, 2)]);
        assert_eq!(order(3, 2, 0), []);
    }
}
