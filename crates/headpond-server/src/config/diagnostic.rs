//! What is wrong with a configuration, and where.

use std::fmt;
use std::sync::Arc;

/// One complaint: an error or a warning. Displayed as `file:line: key: message`. Never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1; 0: the file as a whole.
    pub line: usize,
    /// The key as it stands in the file; empty where there is none.
    pub key: String,
    /// What is wrong, and after a semicolon what would be right.
    pub message: String,
}

impl Diagnostic {
    pub(super) fn new(file: &str, line: usize, key: &str, message: impl Into<String>) -> Self {
        At { file: file.into(), line }.says(key, message)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) file: Arc<str>,
    pub(super) line: usize,
}

impl At {
    pub(super) fn says(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        // A quote out of place can make a whole connection string a key, and there is a password in it.
        let key = if key.contains('=') { "" } else { key };
        Diagnostic {
            file: Arc::clone(&self.file),
            line: self.line,
            key: key.to_owned(),
            message: message.into(),
        }
    }

    /// This place, as somebody standing at `here` would name it.
    pub(super) fn seen_from(&self, here: &Self) -> String {
        if self.file == here.file {
            format!("line {}", self.line)
        } else {
            format!("{}:{}", self.file, self.line)
        }
    }
}
