//! [`Models`]: what a service answers with: adapters on one base in memory, by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use burn::tensor::Device;
use ls_data::TaskKind;
use ls_train::config::DataSettings;
use ls_train::sources::with_keys;
use ls_train::{
    Answering, BaseModel, Observer, Overrides, Predictor, Problem, RunConfig, RunModel,
};

use crate::error::{Result, ServeError};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The best model of a finished run.
    Run(PathBuf),
    /// A PEFT folder, on the base of the service.
    Adapter(PathBuf),
    /// A Hugging Face folder with a head in it.
    Model(PathBuf),
}

/// A model that answers.
pub struct Model {
    /// By which requests choose it.
    pub name: String,
    /// Where it was loaded from.
    pub source: Source,
    /// Whether it has learnt pairs of texts, where its run tells.
    pub pairs: Option<bool>,
    /// What is read of JSON lines: of a run as its data have it.
    pub(crate) columns: DataSettings,
    /// It, ready to answer.
    pub predictor: Arc<Predictor>,
}

/// What a folder holds.
struct Loaded {
    predictor: Predictor,
    /// Those of a run.
    columns: Option<DataSettings>,
}

impl Loaded {
    fn of_run(predictor: Predictor, config: &RunConfig) -> Self {
        // Of objects columns have no numbers.
        let columns = Some(with_keys(&config.data, |_| false));
        Self { predictor, columns }
    }

    fn of_folder(predictor: Predictor) -> Self {
        let columns = None;
        Self { predictor, columns }
    }

    /// The model of this name, which is asked to answer so as far as that is for its kind.
    fn named(mut self, name: &str, source: Source, asked: Answering) -> Result<Arc<Model>> {
        let asked = asked.for_problem(self.predictor.problem());
        let set = self.predictor.set_answering(asked);
        set.map_err(|source| ServeError::Answering {
            name: name.into(),
            source: source.into(),
        })?;
        if let (Some(None), Some(scheme)) =
            (asked.constrained, self.predictor.decoding().constrained)
            && self.predictor.guesses_scheme()
        {
            let scheme = scheme.name();
            tracing::warn!(
                model = name,
                "its tags are held to {scheme}, a guess by their names"
            );
        }
        Ok(Arc::new(Model {
            name: name.into(),
            source,
            pairs: self.columns.as_ref().map(|of| of.text_pair.is_some()),
            columns: self.columns.unwrap_or_default(),
            predictor: Arc::new(self.predictor),
        }))
    }
}

/// What a service answers with. Models come and go while it works: a request keeps the one that it
/// was taken with.
pub struct Models {
    /// None where the only model is a whole one.
    base: Option<BaseModel>,
    by_name: RwLock<BTreeMap<String, Arc<Model>>>,
    /// One model is loaded at a time: while it is, it takes more memory than behind that.
    loading: Mutex<()>,
    /// Settings for models that record none.
    overrides: Overrides,
    /// How those answer that it is for.
    answering: Answering,
    device: Device,
}

impl Models {
    /// The best models of finished runs, by name. All stand on one base, which is loaded once; a
    /// run that trained without adapters is served alone. Each is asked to answer so as far as that
    /// is for models of its kind.
    ///
    /// # Errors
    ///
    /// If there are none; if a run cannot be used; if two have one name, or stand on different
    /// bases; if one cannot answer so.
    pub fn of_runs(
        runs: &[(String, PathBuf)],
        answering: Answering,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let [(name, first), ..] = runs else {
            return Err(ServeError::NoModels);
        };
        for (name, _) in runs {
            check_name(name)?;
        }
        let opened = RunModel::open(first)?;
        let Some(adapter) = &opened.adapter else {
            if let Some((_, second)) = runs.get(1) {
                return Err(ServeError::OtherBase {
                    path: second.clone(),
                    found: RunModel::open(second)?.model,
                    base: opened.model,
                });
            }
            let (predictor, config) = Predictor::from_run(first, device, observer)?;
            let models = Self::new(None, &Overrides::default(), answering, device);
            let loaded = Loaded::of_run(predictor, &config);
            models.insert(name, Source::Run(first.clone()), loaded)?;
            return Ok(models);
        };
        let overrides = Overrides::default();
        let base = BaseModel::for_adapter(&opened.model, adapter, &overrides, device, observer)?;
        let models = Self::new(Some(base), &overrides, answering, device);
        for (name, run) in runs {
            models.add(name, Source::Run(run.clone()))?;
        }
        Ok(models)
    }

    /// Adapters on the decoder of a Hugging Face folder, by name; without any the folder's own
    /// model, by the folder's name. The overrides are for all; each is asked to answer so as far as
    /// that is for models of its kind.
    ///
    /// # Errors
    ///
    /// If a folder cannot be used, or two have one name; if one cannot answer so.
    pub fn of_adapters(
        model_dir: &Path,
        adapters: &[(String, PathBuf)],
        overrides: &Overrides,
        answering: Answering,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let Some((_, first)) = adapters.first() else {
            let predictor =
                Predictor::from_pretrained(model_dir, None, overrides, device, observer)?;
            let models = Self::new(None, overrides, answering, device);
            let source = Source::Model(model_dir.into());
            models.insert(&name_of(model_dir), source, Loaded::of_folder(predictor))?;
            return Ok(models);
        };
        for (name, _) in adapters {
            check_name(name)?;
        }
        let base = BaseModel::for_adapter(model_dir, first, overrides, device, observer)?;
        let models = Self::new(Some(base), overrides, answering, device);
        for (name, dir) in adapters {
            models.add(name, Source::Adapter(dir.clone()))?;
        }
        Ok(models)
    }

    fn new(
        base: Option<BaseModel>,
        overrides: &Overrides,
        answering: Answering,
        device: &Device,
    ) -> Self {
        Self {
            base,
            by_name: RwLock::default(),
            loading: Mutex::default(),
            overrides: overrides.clone(),
            answering,
            device: device.clone(),
        }
    }

    /// Whether all that is asked of the models is for one of them at least.
    ///
    /// # Errors
    ///
    /// If something is for none of them: what.
    pub fn check_answering(&self) -> Result<()> {
        let problems: Vec<_> = self.all().iter().map(|of| of.predictor.problem()).collect();
        let for_none = |is_asked: &dyn Fn(Answering) -> bool| {
            let of = |problem: &Problem| is_asked(self.answering.for_problem(*problem));
            is_asked(self.answering) && !problems.iter().any(of)
        };
        let (flag, models) = if for_none(&|of| of.threshold.is_some()) {
            ("--threshold", "for which any number of labels may hold")
        } else if for_none(&|of| of.abstain_below.is_some()) {
            (
                "--abstain-below",
                "that gives a text or a word one of several labels",
            )
        } else if for_none(&|of| of.constrained.is_some()) {
            ("--constrained", "that gives words the tags of spans")
        } else {
            return Ok(());
        };
        Err(ServeError::ForNone { flag, models })
    }

    /// Loads a model and puts it beside the others.
    ///
    /// # Errors
    ///
    /// If the name is none or is taken; if its folder cannot be used, or it stands on other
    /// weights, as all do beside a whole model.
    pub fn add(&self, name: &str, source: Source) -> Result<Arc<Model>> {
        check_name(name)?;
        if self.read().contains_key(name) {
            return Err(ServeError::Exists { name: name.into() });
        }
        self.expect_room_beside(self.count())?;
        let loaded = self.load(&source)?;
        self.insert(name, source, loaded)
    }

    /// Takes a model out. Requests that were taken with it are still answered.
    ///
    /// # Errors
    ///
    /// If there is none of this name.
    pub fn remove(&self, name: &str) -> Result<Arc<Model>> {
        let mut models = self.write();
        models.remove(name).ok_or_else(|| ServeError::NoSuchModel {
            name: name.into(),
            known: models.keys().cloned().collect(),
        })
    }

    /// Loads every model anew from where it came from. One that cannot be loaded stays as it is;
    /// why is told, by its name.
    pub fn reload(&self) -> Vec<(String, Result<()>)> {
        let reload = |model: &Arc<Model>| {
            let loaded = self.load(&model.source)?;
            let loaded = loaded.named(&model.name, model.source.clone(), self.answering)?;
            // One that was removed meanwhile stays so, and one that came in its place.
            if let Some(stands) = self.write().get_mut(&model.name)
                && Arc::ptr_eq(stands, model)
            {
                *stands = loaded;
            }
            Ok(())
        };
        let all = self.all().into_iter();
        all.map(|model| (model.name.clone(), reload(&model)))
            .collect()
    }

    /// The model of a name; without one the only model.
    ///
    /// # Errors
    ///
    /// If there is none of this name, or without one there are several.
    pub fn get(&self, name: Option<&str>) -> Result<Arc<Model>> {
        let models = self.read();
        let known = || models.keys().cloned().collect();
        match name {
            Some(name) => models
                .get(name)
                .cloned()
                .ok_or_else(|| ServeError::NoSuchModel {
                    name: name.into(),
                    known: known(),
                }),
            None => match models.values().next() {
                Some(only) if models.len() == 1 => Ok(only.clone()),
                _ => Err(ServeError::ModelNeeded { known: known() }),
            },
        }
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Model>> {
        self.read().values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.read().len()
    }

    /// The decoder that adapters stand on.
    pub fn base(&self) -> Option<&BaseModel> {
        self.base.as_ref()
    }

    fn load(&self, source: &Source) -> Result<Loaded> {
        let _turn = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        match (source, &self.base) {
            (Source::Run(dir), base) => {
                let run = RunModel::open(dir)?;
                let Some(base) = base else {
                    let (predictor, config) = Predictor::from_run(dir, &self.device, &mut ())?;
                    return Ok(Loaded::of_run(predictor, &config));
                };
                if !same_folder(&run.model, base.model_dir()) {
                    return Err(ServeError::OtherBase {
                        path: dir.clone(),
                        found: run.model,
                        base: base.model_dir().into(),
                    });
                }
                Ok(Loaded::of_run(base.predictor_of_run(&run)?, &run.config))
            }
            (Source::Adapter(dir), Some(base)) => {
                Ok(Loaded::of_folder(base.predictor(dir, &self.overrides)?))
            }
            (Source::Adapter(_), None) => Err(ServeError::NoBase),
            (Source::Model(dir), _) => {
                let (overrides, device) = (&self.overrides, &self.device);
                let predictor = Predictor::from_pretrained(dir, None, overrides, device, &mut ())?;
                Ok(Loaded::of_folder(predictor))
            }
        }
    }

    fn insert(&self, name: &str, source: Source, loaded: Loaded) -> Result<Arc<Model>> {
        let model = loaded.named(name, source, self.answering)?;
        let mut models = self.write();
        if models.contains_key(name) {
            return Err(ServeError::Exists { name: name.into() });
        }
        // Another one may have come while this one was loaded.
        self.expect_room_beside(models.len())?;
        models.insert(name.into(), model.clone());
        Ok(model)
    }

    /// Without a base there is one model alone, a whole one.
    fn expect_room_beside(&self, others: usize) -> Result<()> {
        if self.base.is_none() && others > 0 {
            return Err(ServeError::NoBase);
        }
        Ok(())
    }

    // Nothing panics while it holds one of these.
    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Model>>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Model>>> {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Model {
    /// What it labels.
    pub fn task(&self) -> TaskKind {
        self.predictor.settings.task
    }
}

/// Characters of a model's name at most.
const LONGEST_NAME: usize = 128;

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Whether nothing but dots is in it: `.` and `..` mean folders in an address.
fn is_dots(name: &str) -> bool {
    name.chars().all(|c| c == '.')
}

/// Sees that a name can be part of an address, before anything is loaded.
fn check_name(name: &str) -> Result<()> {
    if is_dots(name) || name.len() > LONGEST_NAME || !name.chars().all(is_of_name) {
        return Err(ServeError::Name { name: name.into() });
    }
    Ok(())
}

/// The name of the model in a folder, also of one that is given by `.`: the folder's, with `_` for
/// what no name has.
pub fn name_of(dir: &Path) -> String {
    let whole = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.into());
    let name = dir.file_name().or(whole.file_name()).unwrap_or_default();
    let name = name.to_string_lossy();
    let of_name = |c| if is_of_name(c) { c } else { '_' };
    let name: String = name.chars().map(of_name).take(LONGEST_NAME).collect();
    if is_dots(&name) {
        return "model".into();
    }
    name
}

/// Whether two paths name one folder.
fn same_folder(a: &Path, b: &Path) -> bool {
    match (std::fs::canonicalize(a), std::fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_gives_a_name_that_can_be_part_of_an_address() {
        let long = "a".repeat(200);
        for (dir, name) in [
            ("runs/sentiment", "sentiment"),
            ("sweep/01_lora.r=8_seed=1", "01_lora.r_8_seed_1"),
            ("mein modèle", "mein_mod_le"),
            ("/", "model"),
            (&long, &long[..128]),
        ] {
            assert_eq!(name_of(Path::new(dir)), name);
            check_name(name).unwrap();
        }
        for name in ["", "..", "a b", "a/b", "é", &long] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
