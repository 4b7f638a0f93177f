//! Settings from the environment, as Python reads it: the cache, the Hub and the token.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The Hub that is asked unless `HF_ENDPOINT` names another.
pub(crate) const ENDPOINT: &str = "https://huggingface.co";

/// Cache, Hub and token.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder of the cache: `models--org--name` and so on stand in it.
    pub cache_dir: PathBuf,
    /// Address of the Hub, without a slash at its end.
    pub endpoint: String,
    /// Token for gated and private repositories.
    pub token: Option<String>,
    /// Whether nothing may be asked of the network.
    pub offline: bool,
}

/// Without the token.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("cache_dir", &self.cache_dir)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .finish()
    }
}

impl Settings {
    /// The environment of this process. A variable that is empty counts as not set.
    ///
    /// Source: `constants.py` and `utils/_auth.py` of huggingface_hub 2.4. A `~` at the beginning
    /// of a path is the home folder; `$NAME` inside a path is left to the shell.
    ///
    /// | what | first of |
    /// |---|---|
    /// | cache | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `<HF_HOME>/hub` |
    /// | `HF_HOME` | itself, `<XDG_CACHE_HOME>/huggingface`, `~/.cache/huggingface` |
    /// | Hub | `HF_ENDPOINT`, `https://huggingface.co` |
    /// | token | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, the file `HF_TOKEN_PATH`, the file `<HF_HOME>/token`; none with `HF_HUB_DISABLE_IMPLICIT_TOKEN` |
    /// | offline | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` |
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var_os(name))
    }

    /// An environment in which `var` looks variables up.
    fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let home = var("HOME").or_else(|| var("USERPROFILE"));
        let home = home.map(PathBuf::from).unwrap_or_default();
        let path = |name: &str| var(name).map(|value| expand(Path::new(&value), &home));
        let text = |name: &str| var(name).and_then(|value| value.into_string().ok());
        let is_true = |name: &str| {
            text(name).is_some_and(|value| {
                ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
            })
        };

        let hf_home = path("HF_HOME").unwrap_or_else(|| {
            let caches = path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
            caches.join("huggingface")
        });
        let token_path = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
        // Pasted tokens come with line ends, also in their middle.
        let clean = |token: String| {
            let token = token.replace(['\r', '\n'], "").trim().to_string();
            (!token.is_empty()).then_some(token)
        };
        let token = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
            .into_iter()
            .find_map(|name| text(name).and_then(clean))
            .or_else(|| clean(std::fs::read_to_string(token_path).ok()?))
            .filter(|_| !is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        Self {
            cache_dir: path("HF_HUB_CACHE")
                .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
                .unwrap_or_else(|| hf_home.join("hub")),
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token,
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
        }
    }
}

fn expand(path: &Path, home: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => home.join(rest),
        Err(_) => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Settings {
        Settings::from_vars(|name| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let home = ("HOME", "/h");
        let cache = |vars: &[(&str, &str)]| settings(vars).cache_dir;
        let expected = Path::new("/h/.cache/huggingface/hub");
        assert_eq!(cache(&[home]), expected);
        assert_eq!(cache(&[home, ("HF_HOME", "")]), expected);
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(cache(&[home, xdg]), Path::new("/x/huggingface/hub"));
        let hf_home = ("HF_HOME", "~/hf");
        assert_eq!(cache(&[home, xdg, hf_home]), Path::new("/h/hf/hub"));
        let old = ("HUGGINGFACE_HUB_CACHE", "/old");
        assert_eq!(cache(&[home, hf_home, old]), Path::new("/old"));
        let new = ("HF_HUB_CACHE", "/new");
        assert_eq!(cache(&[home, hf_home, old, new]), Path::new("/new"));
    }

    #[test]
    fn the_token_is_where_python_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other");
        let path = dir.path().to_str().unwrap();
        let home = ("HF_HOME", path);
        assert_eq!(settings(&[home]).token, None);
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(settings(&[home]).token.unwrap(), "hf_file");
        std::fs::write(&other, "hf_other").unwrap();
        let token_path = ("HF_TOKEN_PATH", other.to_str().unwrap());
        assert_eq!(settings(&[home, token_path]).token.unwrap(), "hf_other");
        let token = ("HF_TOKEN", " hf_variable\n");
        let all = [home, token_path, token];
        assert_eq!(settings(&all).token.unwrap(), "hf_variable");
        let broken = ("HF_TOKEN", "hf_var\r\niable");
        assert_eq!(settings(&[home, broken]).token.unwrap(), "hf_variable");
        let (blank, older) = (("HF_TOKEN", " \n"), ("HUGGING_FACE_HUB_TOKEN", "hf_older"));
        assert_eq!(settings(&[home, blank]).token.unwrap(), "hf_file");
        assert_eq!(settings(&[home, blank, older]).token.unwrap(), "hf_older");
        assert_eq!(
            settings(&[home, token, older]).token.unwrap(),
            "hf_variable"
        );
        let disabled = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        assert_eq!(settings(&[home, token, disabled]).token, None);
        let not_disabled = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0");
        assert!(settings(&[home, not_disabled]).token.is_some());
        assert!(!format!("{:?}", settings(&all)).contains("hf_variable"));
    }

    #[test]
    fn endpoint_and_offline_are_read() {
        assert_eq!(settings(&[]).endpoint, ENDPOINT);
        let mirror = [("HF_ENDPOINT", "https://mirror.example/")];
        assert_eq!(settings(&mirror).endpoint, "https://mirror.example");
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(settings(&[("HF_HUB_OFFLINE", "True")]).offline);
        assert!(settings(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
    }
}
