//! `headpond check CONFIG`.

use std::path::Path;

use headpond_server::config::{Config, Diagnostic};

/// Prints what is wrong or deserves a word.
///
/// # Errors
/// The configuration cannot be used.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let config = Config::load(path).map_err(|errors| list(&errors))?;
    for warning in &config.warnings {
        println!("warning: {warning}");
    }
    println!("{}: fine", path.display());
    Ok(())
}

/// All that is wrong, a line each.
pub(crate) fn list(errors: &[Diagnostic]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    format!("the configuration is not usable\n{}", lines.join("\n"))
}
