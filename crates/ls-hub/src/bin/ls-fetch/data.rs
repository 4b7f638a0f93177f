//! Resolves the name of a data set to a repository and its files.

use ls_data::catalog;
use ls_files::nearest;
use ls_hub::fetch::FetchRequest;
use ls_hub::{Files, HubError, MAIN, RepoKind, RepoRef, is_repo_id};

/// A data set of the catalogue, or of any repository: `org/name`, then with all files that can be
/// read. Either may have `@revision` behind it. `languages` are those that are wanted of a data set
/// in several; none means all.
///
/// # Errors
/// A name that is neither; a data set that the Hub does not have; a language that the data set does
/// not have.
pub fn request(name: &str, languages: &[String]) -> Result<FetchRequest, HubError> {
    let (name, revision) = match name.split_once('@') {
        Some((name, revision)) => (name, Some(revision)),
        None => (name, None),
    };
    let (at, files) = match catalog::find(name) {
        Some(spec) => {
            let source = spec.hub.first().ok_or_else(|| HubError::NotOnHub {
                name: spec.name.clone(),
                page: spec.homepage.clone(),
            })?;
            let wanted: Vec<&str> = languages.iter().map(String::as_str).collect();
            let files = spec.hub_files(source, &wanted);
            let files = files.map_err(|error| HubError::NoSuchLanguage(error.to_string()))?;
            let at = RepoRef::new(&source.repo, revision.unwrap_or(&source.revision))?;
            (at, Files::Named(files))
        }
        None if is_repo_id(name) && !languages.is_empty() => {
            let reason = "--language is for the data sets of --list, whose files it chooses";
            return Err(HubError::NoSuchLanguage(format!("{name}: {reason}")));
        }
        None if is_repo_id(name) => (RepoRef::new(name, revision.unwrap_or(MAIN))?, Files::Data),
        None => {
            return Err(HubError::NotARepo {
                given: name.into(),
                nearest: nearest(name, catalog::all().iter().map(|spec| spec.name.as_str())),
            });
        }
    };
    Ok(FetchRequest {
        kind: RepoKind::Dataset,
        at,
        files,
    })
}

/// Lists the data sets of the catalogue.
pub fn list() -> String {
    let line = |spec: &catalog::DatasetSpec| {
        let place = spec
            .hub
            .first()
            .map_or("not on the Hub", |source| source.repo.as_str());
        format!("{:27} {:42} {}\n", spec.name, place, spec.licence)
    };
    catalog::all().iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_data_set_of_the_catalogue_can_be_asked_for_or_says_where_it_is() {
        for spec in catalog::all() {
            match request(&spec.name, &[]) {
                Ok(FetchRequest {
                    kind,
                    at,
                    files: Files::Named(files),
                }) => {
                    assert_eq!(kind, RepoKind::Dataset);
                    assert_eq!(at.repo, spec.hub[0].repo);
                    assert!(files.len() >= spec.hub[0].files.len(), "{}", spec.name);
                    assert!(files.iter().all(|file| !file.contains('{')), "{files:?}");
                }
                Err(HubError::NotOnHub { page, .. }) => {
                    assert!(spec.hub.is_empty());
                    assert_eq!(page, spec.homepage);
                }
                other => panic!("{}: {other:?}", spec.name),
            }
        }
    }

    #[test]
    fn a_name_may_have_a_revision() {
        let request = |name: &str| request(name, &[]).unwrap();
        assert_eq!(
            request("sst5@main").at,
            RepoRef::new("SetFit/sst5", "main").unwrap()
        );
        let any = request("org/name@v1");
        assert_eq!(
            (any.at.to_string().as_str(), any.files),
            ("org/name@v1", Files::Data)
        );
    }

    #[test]
    fn languages_are_chosen() {
        let spec = catalog::all().iter().find(|spec| {
            let placeholder = |source: &catalog::HubSource| {
                source.files.iter().any(|file| file.contains("{lang}"))
            };
            spec.hub.first().is_some_and(placeholder)
        });
        let spec = spec.unwrap();
        let named = |languages: &[String]| match request(&spec.name, languages).unwrap().files {
            Files::Named(files) => files,
            other => panic!("{other:?}"),
        };
        let one = named(&[spec.languages[0].to_string()]);
        assert_eq!(one.len() * spec.languages.len(), named(&[]).len());
        let message = request(&spec.name, &["xx".into()]).unwrap_err().to_string();
        assert!(message.contains("no language `xx`"), "{message}");
        let error = request("org/name", &["de".into()]).unwrap_err();
        assert!(
            error.to_string().starts_with("org/name: --language"),
            "{error}"
        );
    }

    #[test]
    fn a_misspelt_name_comes_with_the_nearest() {
        let message = request("ssst5", &[]).unwrap_err().to_string();
        assert!(message.ends_with("did you mean `sst5`?"), "{message}");
    }
}
