//! The known data sets as the table in `datasets/README.md`.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use ls_data::catalog;

fn main() {
    println!("| name | what | splits | forms | on the Hub | terms |\n|---|---|---|---|---|---|");
    for spec in catalog::all() {
        let sizes = spec.splits.iter();
        let sizes: Vec<String> = sizes
            .map(|(split, size)| format!("{} {}", split.name(), size.examples))
            .collect();
        let forms: Vec<&str> = spec.forms().collect();
        let hub: Vec<String> = spec.hub.iter().map(|h| format!("`{}`", h.repo)).collect();
        println!(
            "| `{}` | [{}]({}), {} labels | {} | {} | {} | {} |",
            spec.name,
            spec.title,
            spec.homepage,
            spec.labels.len(),
            sizes.join(", "),
            forms.join("; "),
            if hub.is_empty() {
                "no".into()
            } else {
                hub.join(", ")
            },
            spec.licence,
        );
    }
    for spec in catalog::all() {
        println!("\n**{}.** {}", spec.name, spec.notes);
    }
}
